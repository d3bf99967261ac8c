//! `agentkernel repl`: an interactive session.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use agentkernel::{Canceller, Ending, Kernel, Mode, Session, Stdin, Turn};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor};

use crate::arguments::Repl;
use crate::failure::{Failure, Result};
use crate::report;
use crate::run::forward;
use crate::settings::Settings;
use crate::terminal;

const HISTORY_LINES: usize = 10_000;

pub fn run(arguments: Repl) -> Result<i32> {
    let settings = Settings::resolve(arguments.sandbox)?;
    let kernel = settings.kernel().on_progress(terminal::progress(arguments.talk)).build()?;
    let current = Arc::new(Mutex::new(None::<Canceller>));
    let interrupted = Arc::clone(&current);
    ctrlc::set_handler(move || {
        let canceller = interrupted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(canceller) = canceller {
            canceller.interrupt();
        }
    })
    .map_err(|error| Failure::new(format!("cannot listen for interrupts: {error}")))?;

    let session = start(&kernel, &settings)?;
    let config = Config::builder()
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(cannot_edit)?
        .build();
    let mut editor: Editor<Helper, FileHistory> = Editor::with_config(config).map_err(cannot_edit)?;
    editor.set_helper(Some(Helper(RefCell::new(session))));
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    if crate::run::interactive() && !arguments.talk.quiet {
        println!(
            "AgentKernel {} on CPython {}. `exit()` or Ctrl-D leaves, Ctrl-C stops a turn.",
            env!("CARGO_PKG_VERSION"),
            agentkernel::cpython_version()
        );
    }
    let code = converse(&mut editor, &kernel, &settings, &current)?;
    if let Some(file) = &history {
        // A history that cannot be kept is no reason to fail.
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(file);
    }
    Ok(code)
}

fn start(kernel: &Kernel, settings: &Settings) -> Result<Session> {
    let canceller = Arc::new(OnceLock::new());
    let session = kernel
        .session()
        .grants(settings.grants.clone())
        .stdin(Stdin::Reader(Box::new(io::stdin())))
        .on_output(forward(Arc::clone(&canceller), Arc::new(AtomicBool::new(false))))
        .start()?;
    let _ = canceller.set(session.canceller());
    Ok(session)
}

/// Reads and runs until the user leaves; returns the exit code.
fn converse(
    editor: &mut Editor<Helper, FileHistory>,
    kernel: &Kernel,
    settings: &Settings,
    current: &Mutex<Option<Canceller>>,
) -> Result<i32> {
    loop {
        let line = match editor.readline(">>> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                println!("KeyboardInterrupt");
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(0),
            Err(error) => return Err(cannot_edit(error)),
        };
        if line.trim().is_empty() {
            continue;
        }
        let Some(Helper(session)) = editor.helper_mut() else { return Ok(0) };
        let session = session.get_mut();
        let set = |canceller| *current.lock().unwrap_or_else(PoisonError::into_inner) = canceller;
        set(Some(session.canceller()));
        let outcome = session.run_blocking(Turn::new(line).file("<stdin>").mode(Mode::Repl))?;
        set(None);
        match &outcome.ending {
            Ending::Completed(Some(value)) if value.repr != "None" => println!("{}", value.repr),
            Ending::Completed(_) => {}
            Ending::Raised(exception) => {
                let _ = io::stderr().write_all(exception.traceback.as_bytes());
            }
            Ending::Exited(code) => return Ok(*code),
            ending => {
                let stopped = report::stopped(ending, &settings.grants.limits);
                let (message, hint) = stopped.unwrap_or_else(|| (ending.name().to_owned(), None));
                terminal::error(&message, hint);
            }
        }
        if !session.is_alive() {
            *session = start(kernel, settings)?;
            terminal::remark("the interpreter could not go on; this is a new session without the old names");
        }
    }
}

fn cannot_edit(error: ReadlineError) -> Failure {
    Failure::new(format!("cannot read from the terminal: {error}"))
}

fn history_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    Some(state.join("agentkernel/history"))
}

/// Asks the session what the editor wants to know.
#[derive(rustyline::Helper, rustyline::Highlighter, rustyline::Hinter)]
struct Helper(RefCell<Session>);

impl Completer for Helper {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before
            .char_indices()
            .rev()
            .take_while(|(_, c)| c.is_alphanumeric() || "_.".contains(*c))
            .last()
            .map_or(position, |(index, _)| index);
        if start == position {
            // Nothing to complete: a tab is for indenting.
            return Ok((position, vec!["    ".to_owned()]));
        }
        let found = self.0.borrow_mut().complete(before).unwrap_or_default();
        Ok((start, found))
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let incomplete = self.0.borrow_mut().is_incomplete(context.input()).unwrap_or(false);
        Ok(if incomplete { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
