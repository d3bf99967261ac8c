//! `agentkernel repl`: an interactive session.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use agentkernel::task::Tasks;
use agentkernel::{Canceller, Ending, Kernel, Mode, Outcome, Session, Stdin, Stream, Turn};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor};

use crate::arguments::Repl;
use crate::failure::{Failure, Result};
use crate::input::{Wake, input};
use crate::output::{self, CLOSED, Output, unwritten};
use crate::repetition::Again;
use crate::run::context;
use crate::settings::Settings;
use crate::signals::{self, Signal};
use crate::task::Background;
use crate::terminal::{self, say};
use crate::{files, report};

const HISTORY_LINES: usize = 10_000;

pub fn run(arguments: Repl) -> Result<i32> {
    let settings = Settings::with_models(arguments.sandbox, &arguments.models, &Again::default())?;
    let settings = settings.lasting(&arguments.lasting)?;
    let context = context(&arguments.data.contexts, &settings)?;
    let kernel = settings.kernel().on_progress(terminal::progress(arguments.talk)).build()?;
    let current = Arc::new(Mutex::new(Current::default()));
    let interrupted = Arc::clone(&current);
    signals::listen(move |signal| {
        let current = interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        match signal {
            Signal::Interrupt if current.leaving => crate::exit(signal.exit_code()),
            Signal::Interrupt => {
                current.canceller.iter().for_each(Canceller::interrupt);
                current.wake.iter().for_each(Wake::wake);
            }
            Signal::Terminate(_) => crate::exit(signal.exit_code()),
        }
    })
    .map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;

    let background = Background::start(&arguments.tasks, &settings, &kernel)?;
    let tasks = background.as_ref().map(|background| background.tasks.clone());
    let host = Host { kernel, context, tasks };
    let session = start(&host, &settings, &current)?;
    let config = Config::builder()
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(cannot_edit)?
        .build();
    let mut editor: Editor<Helper, FileHistory> = Editor::with_config(config).map_err(cannot_edit)?;
    editor.set_helper(Some(Helper { live: RefCell::new(session), unfinished: RefCell::default() }));
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    if crate::run::interactive() && !arguments.talk.quiet {
        say!(
            "AgentKernel {} on CPython {}. `exit()` or Ctrl-D leaves, Ctrl-C stops a turn.",
            env!("CARGO_PKG_VERSION"),
            agentkernel::cpython_version()
        );
    }
    let code = converse(&mut editor, &host, &settings, &current)?;
    let code = farewell(&mut editor, &settings, &current)?.unwrap_or(code);
    if let Some(file) = &history {
        // A history that cannot be kept is no reason to fail.
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(file);
    }
    if let Some(background) = background {
        background.end(arguments.talk);
    }
    Ok(code)
}

fn start(host: &Host, settings: &Settings, current: &Mutex<Current>) -> Result<Live> {
    let output = Output::default();
    let (stdin, wake) =
        input().map_err(|error| Failure::new(format!("cannot listen to the terminal: {error}")))?;
    let mut builder = host
        .kernel
        .session()
        .grants(settings.grants.clone())
        .stdin(Stdin::Reader(Box::new(stdin)))
        .on_output(output.handler());
    if let Some(granted) = &settings.llm {
        // One for all sessions: a new interpreter has no new money.
        builder = builder.budget(granted.budget.clone());
    }
    if let Some(context) = &host.context {
        builder = builder.context(context.clone());
    }
    if let Some(tasks) = &host.tasks {
        builder = builder.tasks(tasks);
    }
    let session = builder.start()?;
    output.stops(session.canceller());
    current.lock().unwrap_or_else(PoisonError::into_inner).wake = Some(wake);
    Ok(Live { session, output })
}

/// What sessions are started with.
struct Host {
    kernel: Kernel,
    context: Option<agentkernel::Context>,
    tasks: Option<Tasks>,
}

/// A session, and where its output goes.
struct Live {
    session: Session,
    output: Output,
}

/// Reads and runs until the user leaves; returns the exit code.
fn converse(
    editor: &mut Editor<Helper, FileHistory>,
    host: &Host,
    settings: &Settings,
    current: &Mutex<Current>,
) -> Result<i32> {
    loop {
        let line = match editor.readline(">>> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => match terminal::print("KeyboardInterrupt".to_owned()) {
                Ok(()) => continue,
                Err(error) => return unwritten(&error),
            },
            // An input that is no terminal may end without the empty line that ends a block.
            Err(ReadlineError::Eof) => match editor.helper().and_then(|helper| helper.unfinished.take()) {
                Some(rest) if !crate::run::interactive() => rest,
                _ => return Ok(0),
            },
            Err(error) if is_closed(&error) => return Ok(CLOSED),
            Err(error) => return Err(cannot_edit(error)),
        };
        if line.trim().is_empty() {
            continue;
        }
        let Some(Helper { live, .. }) = editor.helper_mut() else { return Ok(0) };
        let live = live.get_mut();
        // What the editor asked may have ended it.
        if !live.session.is_alive() {
            *live = restart(host, settings, current)?;
        }
        let outcome = take_turn(live, Turn::new(line), current)?;
        if let Some(error) = live.output.finish(!outcome.ending.is_kept()) {
            return unwritten(&error);
        }
        match &outcome.ending {
            Ending::Completed(Some(value)) if value.repr != "None" => {
                if let Err(error) = terminal::print(value.repr.clone()) {
                    return unwritten(&error);
                }
            }
            Ending::Exited(code) => return Ok(*code),
            ending => complain(ending, settings),
        }
        if outcome.rolled_back {
            terminal::remark(
                "what this input did in memory was taken back; the names of before are still there",
            );
        }
        if !live.session.is_alive() {
            *live = restart(host, settings, current)?;
        }
    }
}

/// Ends the program as a process ends, if it still can: `atexit` handlers run, files are flushed. Gives
/// an exit code if that is no longer the user's.
fn farewell(
    editor: &mut Editor<Helper, FileHistory>,
    settings: &Settings,
    current: &Mutex<Current>,
) -> Result<Option<i32>> {
    let Some(Helper { live, .. }) = editor.helper_mut() else { return Ok(None) };
    let live = live.get_mut();
    if !live.session.is_alive() {
        return Ok(None);
    }
    let outcome = take_turn(live, Turn::new("").without_value().last(), current)?;
    current.lock().unwrap_or_else(PoisonError::into_inner).leaving = true;
    if let Some(error) = live.output.finish(!outcome.ending.is_kept()) {
        return unwritten(&error).map(Some);
    }
    complain(&outcome.ending, settings);
    Ok((!outcome.ending.is_kept()).then(|| outcome.ending.exit_code()))
}

/// Runs a turn that signals can stop.
fn take_turn(live: &mut Live, turn: Turn, current: &Mutex<Current>) -> Result<Outcome> {
    let set = |canceller| current.lock().unwrap_or_else(PoisonError::into_inner).canceller = canceller;
    set(Some(live.session.canceller()));
    let outcome = live.session.run_blocking(turn.file("<stdin>").mode(Mode::Repl));
    set(None);
    Ok(outcome?)
}

/// Says what went wrong in a turn, if something did.
fn complain(ending: &Ending, settings: &Settings) {
    let limits = &settings.grants.limits;
    if let Ending::Raised(exception) = ending {
        let _ = output::write(Stream::Stderr, report::traceback(exception, limits).as_bytes());
    } else if let Some((message, hint)) = report::stopped(ending, limits) {
        terminal::error(&message, hint);
    }
}

fn restart(host: &Host, settings: &Settings, current: &Mutex<Current>) -> Result<Live> {
    let live = start(host, settings, current)?;
    terminal::remark("the interpreter could not go on; this is a new session without the old names");
    Ok(live)
}

/// Whether nobody reads the prompt any more.
pub fn is_closed(error: &ReadlineError) -> bool {
    let kind = match error {
        ReadlineError::Io(error) => error.kind(),
        #[cfg(unix)]
        ReadlineError::Errno(error) => io::Error::from(*error).kind(),
        _ => return false,
    };
    kind == io::ErrorKind::BrokenPipe
}

fn cannot_edit(error: ReadlineError) -> Failure {
    Failure::new(format!("cannot read from the terminal: {error}"))
}

fn history_file() -> Option<PathBuf> {
    Some(files::state()?.join("history"))
}

/// What a signal is for at the moment.
#[derive(Default)]
struct Current {
    canceller: Option<Canceller>,
    wake: Option<Wake>,
    /// Whether the program has ended, and only its output is still to be read.
    leaving: bool,
}

/// Asks the session what the editor wants to know.
#[derive(rustyline::Helper, rustyline::Highlighter, rustyline::Hinter)]
struct Helper {
    live: RefCell<Live>,
    /// The lines so far of an input that goes on.
    unfinished: RefCell<Option<String>>,
}

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
        let found = self.live.borrow_mut().session.complete(before).unwrap_or_default();
        Ok((start, found))
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let incomplete = self.live.borrow_mut().session.is_incomplete(context.input()).unwrap_or(false);
        self.unfinished.replace(incomplete.then(|| context.input().to_owned()));
        Ok(if incomplete { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
