//! `agentkernel run`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use agentkernel::report::Report;
use agentkernel::{Context, Ending, Grants, Limits, Outcome, Session, Stdin, Stream, Turn, Workspace};

use crate::arguments::Run;
use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::output::{self, Output, unwritten};
use crate::repetition::Again;
use crate::settings::Settings;
use crate::signals::{Signal, Stopper};
use crate::task::Background;
use crate::{hints, overlay, report, terminal, trust, warm};

/// What a program's context is called.
pub const CONTEXT: &str = "context";

/// A program and where it came from.
pub struct Program {
    pub code: String,
    /// Its name in tracebacks, and `sys.argv[0]`.
    pub name: String,
    pub arguments: Vec<String>,
    /// The script's file, if it is one.
    pub path: Option<PathBuf>,
    /// Whether the code was read from standard input, which is then at its end.
    pub used_stdin: bool,
}

pub fn run(arguments: Run) -> Result<i32> {
    let Run { code, sandbox, models, data, tasks, lasting, changes, start, repetition, .. } = arguments;
    let (json, talk, rest) = (arguments.json, arguments.talk, arguments.rest);
    let again = Again::open(&repetition)?;
    let mut settings = Settings::with_models(sandbox, &models, &again)?.lasting(&lasting)?;
    if talk.verbose
        && let Some(file) = &settings.config_file
    {
        terminal::remark(&format!("configured by `{}`", file.display()));
    }
    let program = program(code, rest, "run")?;
    let overlay = match again.replaying() {
        // It touches no file, and the directory may be gone.
        Some(_) => None,
        None => overlay::over_workspace(&mut settings.grants, changes)?,
    };
    if let Some(path) = &program.path {
        settings.grants.import_paths.extend(directory_in_sandbox(path, &settings.grants));
    }
    let context = context(&data.contexts, &settings)?;
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let background = Background::start(&tasks, &settings, &kernel)?;
    let output = Output::default();
    let mut builder = again.session(kernel.session().grants(settings.grants.clone()));
    if let Some(image) = &start.image {
        builder = builder.image(&warm::image_over(&kernel, &settings, image, context.as_ref())?);
    }
    if let Some(background) = &background {
        builder = builder.tasks(&background.tasks);
    }
    if let Some(context) = context {
        builder = builder.context(context);
    }
    if !program.used_stdin {
        builder = builder.stdin(Stdin::Reader(Box::new(Input::default())));
    }
    if !json {
        builder = builder.on_output(output.handler());
    }
    let mut session = builder.start()?;
    output.stops(session.canceller());
    let canceller = session.canceller();
    let stopper = Stopper::start(move || canceller.cancel());

    let mut turn = Turn::new(program.code)
        .file(program.name.as_str())
        .arguments(std::iter::once(program.name.clone()).chain(program.arguments))
        .last();
    if !json {
        turn = turn.without_value();
    }
    let outcome = session.run_blocking(turn)?;
    let signal = stopper.ended();
    let mut code = signal.map_or_else(|| outcome.ending.exit_code(), Signal::exit_code);
    // The temporary workspace goes now: `main` leaves without unwinding.
    drop::<Session>(session);
    if let Some(background) = background {
        background.end(talk);
    }

    // What could not be taken over is told, and kept: no misuse, but no success either.
    let end = |code: i32| {
        let Some(overlay) = &overlay else { return code };
        let ended = overlay::end("run", overlay, changes.apply, code == 0, talk.quiet);
        let Err(failure) = ended else { return code };
        terminal::error(&failure.message, failure.hint.as_deref());
        code.max(1)
    };
    if let Some(error) = output.finish(signal.is_some() || !outcome.ending.is_kept()) {
        // That nobody reads on is no failure of the program.
        let ended = end(code);
        again.end_recording()?;
        return if ended == code { unwritten(&error) } else { Ok(ended) };
    }
    let recorded = again.finish();
    let limits = &settings.grants.limits;
    if json {
        code = end(code);
        let mut report = serde_json::to_string(&report(&outcome, limits, code))
            .map_err(|error| Failure::new(format!("the outcome has no JSON form: {error}")))?;
        report.push('\n');
        if let Err(error) = output::write(Stream::Stdout, report.as_bytes()) {
            recorded?;
            return unwritten(&error);
        }
    } else {
        if let Ending::Raised(exception) = &outcome.ending {
            let _ = output::write(Stream::Stderr, report::traceback(exception, limits).as_bytes());
            if !talk.quiet
                && let Some(hint) =
                    hints::hint(exception, &settings.grants, &outcome.usage, program.path.as_deref())
            {
                terminal::hint(&hint);
            }
        } else if let Some((message, hint)) = report::stopped(&outcome.ending, limits) {
            terminal::error(&message, hint.filter(|_| !talk.quiet));
        }
        code = end(code);
    }
    recorded?;
    if talk.verbose {
        terminal::remark(&report::used(&outcome.usage));
    }
    Ok(code)
}

/// What `--json` prints. The exit code may be that of a signal.
pub fn report(outcome: &Outcome, limits: &Limits, exit_code: i32) -> Report {
    let mut report = Report::new(outcome.clone(), limits);
    report.exit_code = exit_code;
    report
}

/// The data of `--context`, if there is any. It must not show keys.
pub fn context(paths: &[PathBuf], settings: &Settings) -> Result<Option<Context>> {
    if paths.is_empty() {
        return Ok(None);
    }
    if let Some(file) = settings.llm.as_ref().and_then(|granted| granted.secrets.as_ref()) {
        trust::hidden(file, paths.iter().map(PathBuf::as_path))?;
    }
    Ok(Some(Context::open(paths)?))
}

/// The program that the arguments of a command name.
pub fn program(code: Option<String>, rest: Vec<OsString>, command: &str) -> Result<Program> {
    let mut rest = rest.into_iter().map(argument).collect::<Result<Vec<_>>>()?;
    if let Some(code) = code {
        // `run -c CODE --timeot 1s` must not run without the limit.
        if let Some(option) = rest.first().filter(|first| first.starts_with('-') && first.len() > 1)
            && !after_two_dashes(rest.len())
        {
            return Err(Failure::new(format!("`{option}` is not an option of `agentkernel {command}`"))
                .hint("give the program's own options after `--`: `… -c CODE -- --option`"));
        }
        return Ok(Program { code, name: "-c".to_owned(), arguments: rest, path: None, used_stdin: false });
    }
    if rest.is_empty() {
        return Err(Failure::new("nothing to run").hint(format!(
            "name a script, `-` for standard input, or give code: `agentkernel {command} -c 'print(1 + 1)'`"
        )));
    }
    let name = rest.remove(0);
    if name == "-" {
        let mut code = Vec::new();
        Input::default()
            .read_to_end(&mut code)
            .map_err(|error| Failure::new(format!("cannot read the program from standard input: {error}")))?;
        let code = source(code, "standard input")?;
        return Ok(Program {
            code,
            name: "<stdin>".to_owned(),
            arguments: rest,
            path: None,
            used_stdin: true,
        });
    }
    if name.starts_with('-') {
        return Err(Failure::new(format!("`{name}` is not an option of `agentkernel {command}`"))
            .hint(format!("options go before the script; see `agentkernel {command} --help`")));
    }
    let path = PathBuf::from(&name);
    let bytes = std::fs::read(&path).map_err(|error| {
        let failure = Failure::new(format!("cannot read the script `{name}`: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => {
                failure.hint(format!("to run code itself, use `agentkernel {command} -c CODE`"))
            }
            _ => failure,
        }
    })?;
    let code = source(bytes, &format!("`{name}`"))?;
    Ok(Program { code, name, arguments: rest, path: Some(path), used_stdin: false })
}

/// An argument as Python can have it.
fn argument(argument: OsString) -> Result<String> {
    argument.into_string().map_err(|argument| {
        Failure::new(format!("the argument `{}` is not UTF-8", argument.display()))
            .hint("rename the file, or let the program read such bytes from its standard input")
    })
}

/// A program's text.
pub fn source(bytes: Vec<u8>, name: &str) -> Result<String> {
    if bytes.starts_with(b"SQLite format 3\0") {
        return Err(Failure::new(format!("{name} is a database, and no program"))
            .hint("a store of tasks is named with `=`: `--tasks=FILE`"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("{name} is not UTF-8")).hint("save the program as UTF-8"))?;
    if text.contains('\0') {
        return Err(Failure::new(format!("{name} has a NUL byte, so it is not Python")));
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Where the script's own directory is in the sandbox, if a grant covers it: `import` looks there.
pub fn directory_in_sandbox(script: &Path, grants: &Grants) -> Option<String> {
    let directory = script.canonicalize().ok()?.parent()?.to_owned();
    let workspace = match &grants.workspace {
        Workspace::Directory(directory) => Some((directory.as_path(), "/workspace")),
        Workspace::Overlay(overlay) => Some((overlay.directory(), "/workspace")),
        Workspace::Temporary => None,
    };
    let mounts = grants.mounts.iter().map(|mount| (mount.host.as_path(), mount.guest.as_str()));
    workspace.into_iter().chain(mounts).find_map(|(host, guest)| {
        let below = directory.strip_prefix(host.canonicalize().ok()?).ok()?;
        Some(match below.to_str()? {
            "" => guest.to_owned(),
            below => format!("{guest}/{below}"),
        })
    })
}

/// Whether the last `count` arguments of this process stand behind `--`.
fn after_two_dashes(count: usize) -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let before = arguments.len().checked_sub(count + 1).and_then(|index| arguments.get(index));
    before.is_some_and(|argument| argument == "--")
}

/// Whether a person sits at both ends.
pub fn interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
