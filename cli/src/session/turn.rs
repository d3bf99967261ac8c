//! `agentkernel session run`.

use std::sync::{Arc, Mutex, PoisonError};

use agentkernel::report::{Report, Used};
use agentkernel::{Ending, ErrorKind, Outcome, OutputHandler, Session, Stdin, Stream, Turn};
use serde::Serialize;

use super::journal::{Raised, Ran, What};
use super::state::{After, Purpose, State, kernel};
use crate::arguments::SessionRun;
use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::output::{self, Output, unwritten};
use crate::run::{Program, directory_in_sandbox, program, report as report_of};
use crate::signals::{Signal, Stopper};
use crate::store::Store;
use crate::{hints, report, terminal};

/// Bytes of each text that the journal has of a turn, its code apart.
const TEXT_BYTES: usize = 64 << 10;

pub fn run(store: &Store, arguments: SessionRun) -> Result<i32> {
    let SessionRun { name, code, transactional, json, talk, rest, .. } = arguments;
    let is_code = code.is_some();
    let mut program = program(code, rest, "session run NAME")?;
    if is_code {
        program.name = "<turn>".to_owned();
    }
    // Before the process goes to the session's directory.
    program.path = program.path.and_then(|path| path.canonicalize().ok());
    let mut state = State::open(store, &name, Purpose::Run)?;
    if transactional && state.overlay.is_none() {
        return Err(Failure::new(
            "`--transactional` needs files that can be put back, and this session's cannot",
        )
        .hint("make a session with `--overlay`; `session apply` takes its changes over"));
    }
    let mut grants = state.settings.grants.clone();
    let import_path = program.path.as_ref().and_then(|path| directory_in_sandbox(path, &grants));
    grants.import_paths.extend(import_path.clone());
    let context = state.context()?;
    let kernel = kernel(&state.settings, talk)?;
    let background = state.background(&kernel)?;
    let output = Output::default();
    let written = Written::default();
    // What a stopped turn leaves of the memory is not needed: the image is there.
    let mut builder = kernel.session().grants(grants.clone()).rollback(false);
    if let Some(image) = state.current(&kernel)? {
        builder = builder.image(&image);
    }
    if let Some(context) = context {
        builder = builder.context(context);
    }
    if let Some(background) = &background {
        builder = builder.tasks(&background.tasks);
    }
    if !program.used_stdin {
        builder = builder.stdin(Stdin::Reader(Box::new(Input::default())));
    }
    if !json {
        builder = builder.on_output(written.listen(output.handler()));
    }
    let checkpoint = state.overlay.as_ref().map(agentkernel::Overlay::checkpoint);
    let mut session = builder.start()?;
    output.stops(session.canceller());
    let canceller = session.canceller();
    let stopper = Stopper::start(move || canceller.cancel());
    let outcome = session.run_blocking(turn(&program))?;
    let signal = stopper.ended();
    let mut code = signal.map_or_else(|| outcome.ending.exit_code(), Signal::exit_code);

    let stopped = !outcome.ending.is_kept();
    let rolled_back = stopped || (transactional && code != 0);
    let mut held = match rolled_back {
        true => None,
        false => keep(&mut session, &state).err(),
    };
    let mut kept = !rolled_back && held.is_none();
    let mut files_kept = kept || state.overlay.is_none() || (stopped && !transactional);
    let checkpoint = checkpoint.filter(|_| files_kept);
    drop::<Session>(session);
    let mut ran = ran(&outcome, &written, &state, code, &program);
    (ran.transactional, ran.rolled_back, ran.kept, ran.files_kept) =
        (transactional, rolled_back, kept, files_kept);
    ran.import_path = import_path;
    ran.held = held.as_ref().map(|failure| failure.message.clone());
    let after = if kept { After::New } else { After::Same };
    let committed = state.commit(after, What::Turn(Box::new(ran)), checkpoint);
    if let Some(background) = background {
        background.end(talk);
    }

    if let Err(failure) = committed {
        // What it did to an overlay is taken back with the checkpoint.
        (kept, files_kept, held) = (false, state.overlay.is_none(), Some(failure));
    }
    if let Some(error) = output.finish(signal.is_some() || stopped) {
        if let Some(failure) = &held {
            terminal::error(&failure.message, failure.hint.as_deref());
        }
        return unwritten(&error);
    }
    if held.is_some() && code == 0 {
        code = 1;
    }
    let limits = &grants.limits;
    if json {
        let turn = InSession {
            session: &name,
            turn: state.head.turn,
            kept,
            files_kept,
            held: held.as_ref().map(|failure| failure.message.as_str()),
            report: report_of(&outcome, limits, code),
        };
        let text = serde_json::to_string(&turn)
            .map_err(|error| Failure::new(format!("the outcome has no JSON form: {error}")))?;
        if let Err(error) = output::write(Stream::Stdout, format!("{text}\n").as_bytes()) {
            return unwritten(&error);
        }
        return Ok(code);
    }
    if let Ending::Raised(exception) = &outcome.ending {
        let _ = output::write(Stream::Stderr, report::traceback(exception, limits).as_bytes());
        if !talk.quiet
            && let Some(hint) = hints::hint(exception, &grants, &outcome.usage, program.path.as_deref())
        {
            terminal::hint(&match hint.contains("`--") {
                // A session keeps what it was given.
                true => format!(
                    "{hint}, of `agentkernel session new`: `session snapshot {name} FILE` and `session new OTHER --image \
                     FILE` go on from this state with other flags"
                ),
                false => hint,
            });
        }
    } else if let Some((message, limit)) = report::stopped(&outcome.ending, limits) {
        let hint = format!(
            "limits are those of `session new {name}`, of agentkernel.toml and of variables; `session snapshot {name} FILE` and \
             `session new OTHER --image FILE` go on from this state with others"
        );
        terminal::error(&message, limit.map(|_| hint.as_str()));
    }
    if let Some(failure) = &held {
        terminal::error(&failure.message, failure.hint.as_deref());
    }
    if !kept && !talk.quiet {
        let files = match (files_kept, &state.overlay) {
            (true, _) => "; what it did to files stays",
            (false, _) => " and so do files",
        };
        terminal::remark(&format!("the session's memory stays as it was before this turn{files}"));
    }
    if talk.verbose {
        terminal::remark(&report::used(&outcome.usage));
    }
    Ok(code)
}

fn turn(program: &Program) -> Turn {
    let arguments = std::iter::once(&program.name).chain(&program.arguments);
    Turn::new(program.code.as_str()).file(program.name.as_str()).arguments(arguments)
}

/// Writes the image of the memory. It does not count until it is committed.
fn keep(session: &mut Session, state: &State) -> Result<()> {
    let image = session.snapshot().map_err(|error| match error.kind() {
        ErrorKind::Held => Failure::from(error),
        _ => Failure::new(format!("the state cannot be kept: {error}")),
    })?;
    Ok(image.save(state.next_image())?)
}

/// What the journal says of a turn.
fn ran(outcome: &Outcome, written: &Written, state: &State, exit_code: i32, program: &Program) -> Ran {
    let mut ran = Ran {
        file: program.name.clone(),
        arguments: program.arguments.clone(),
        code: program.code.clone(),
        outcome: outcome.ending.name().to_owned(),
        exit_code,
        usage: serde_json::to_value(Used::from(&outcome.usage)).unwrap_or_default(),
        ..Ran::default()
    };
    let mut truncated = false;
    let mut cut = |text: &str| {
        let end = text.floor_char_boundary(TEXT_BYTES);
        truncated |= end < text.len();
        text[..end].to_owned()
    };
    match &outcome.ending {
        Ending::Completed(value) => ran.value = value.as_ref().map(|value| cut(&value.repr)),
        Ending::Raised(exception) => {
            ran.exception = Some(Raised {
                r#type: cut(&exception.kind),
                message: cut(&exception.message),
                traceback: cut(&exception.traceback),
            });
        }
        ending => {
            ran.message = report::stopped(ending, &state.settings.grants.limits).map(|(message, _)| message);
        }
    }
    let streamed = written.0.lock().unwrap_or_else(PoisonError::into_inner);
    let text = |streamed: &Text, collected: &[u8]| {
        let bytes = if collected.is_empty() { &streamed.bytes } else { collected };
        String::from_utf8_lossy(bytes).into_owned()
    };
    ran.stdout = cut(&text(&streamed.0, &outcome.stdout));
    ran.stderr = cut(&text(&streamed.1, &outcome.stderr));
    ran.truncated = truncated || streamed.0.more || streamed.1.more;
    ran
}

/// The beginning of what a turn writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<(Text, Text)>>);

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    more: bool,
}

impl Written {
    /// A handler that writes it down and passes it on.
    fn listen(&self, mut on: OutputHandler) -> OutputHandler {
        let written = Arc::clone(&self.0);
        Box::new(move |stream, bytes| {
            {
                let mut texts = written.lock().unwrap_or_else(PoisonError::into_inner);
                let text = match stream {
                    Stream::Stdout => &mut texts.0,
                    Stream::Stderr => &mut texts.1,
                };
                let room = TEXT_BYTES.saturating_sub(text.bytes.len());
                text.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
                text.more |= bytes.len() > room;
            }
            on(stream, bytes);
        })
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct InSession<'a> {
    session: &'a str,
    turn: u64,
    kept: bool,
    files_kept: bool,
    held: Option<&'a str>,
    #[serde(flatten)]
    report: Report,
}
