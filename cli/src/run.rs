//! `agentkernel run`.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentkernel::{Canceller, Ending, Grants, OutputHandler, Session, Stdin, Stream, Turn, Workspace};

use crate::arguments::Run;
use crate::failure::{Failure, Result};
use crate::report::{self, Report};
use crate::settings::Settings;
use crate::{hints, terminal};

/// The exit code of a program whose reader went away: 128 and the number of SIGPIPE.
const CLOSED: i32 = 141;

/// A program and where it came from.
struct Program {
    code: String,
    /// Its name in tracebacks, and `sys.argv[0]`.
    name: String,
    arguments: Vec<String>,
    /// The script's file, if it is one.
    path: Option<PathBuf>,
    /// Whether the code was read from standard input, which is then at its end.
    used_stdin: bool,
}

pub fn run(arguments: Run) -> Result<i32> {
    let Run { code, sandbox, json, talk, rest } = arguments;
    let mut settings = Settings::resolve(sandbox)?;
    if talk.verbose
        && let Some(file) = &settings.config_file
    {
        terminal::remark(&format!("configured by `{}`", file.display()));
    }
    let program = program(code, rest)?;
    if let Some(path) = &program.path {
        settings.grants.import_paths.extend(directory_in_sandbox(path, &settings.grants));
    }
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let closed = Arc::new(AtomicBool::new(false));
    let mut builder = kernel.session().grants(settings.grants.clone());
    if !program.used_stdin {
        builder = builder.stdin(Stdin::Reader(Box::new(io::stdin())));
    }
    let canceller = Arc::new(std::sync::OnceLock::<Canceller>::new());
    if !json {
        builder = builder.on_output(forward(Arc::clone(&canceller), Arc::clone(&closed)));
    }
    let mut session = builder.start()?;
    let _ = canceller.set(session.canceller());
    stop_on_interrupt(session.canceller());

    let turn = Turn::new(program.code)
        .file(program.name.as_str())
        .arguments(std::iter::once(program.name.clone()).chain(program.arguments));
    let outcome = session.run_blocking(turn)?;
    // The temporary workspace goes now: `main` leaves without unwinding.
    drop::<Session>(session);

    if closed.load(Ordering::Relaxed) {
        return Ok(CLOSED);
    }
    let limits = &settings.grants.limits;
    if json {
        let report = serde_json::to_string(&Report::new(&outcome, limits))
            .map_err(|error| Failure::new(format!("the outcome has no JSON form: {error}")))?;
        if writeln!(io::stdout(), "{report}").is_err() {
            return Ok(CLOSED);
        }
    } else if let Ending::Raised(exception) = &outcome.ending {
        let _ = io::stderr().write_all(exception.traceback.as_bytes());
        if !talk.quiet
            && let Some(hint) =
                hints::hint(exception, &settings.grants, &outcome.usage, program.path.as_deref())
        {
            terminal::hint(&hint);
        }
    } else if let Some((message, hint)) = report::stopped(&outcome.ending, limits) {
        terminal::error(&message, hint);
    }
    if talk.verbose {
        terminal::remark(&report::used(&outcome.usage));
    }
    Ok(report::exit_code(&outcome.ending))
}

fn program(code: Option<String>, mut rest: Vec<String>) -> Result<Program> {
    if let Some(code) = code {
        return Ok(Program { code, name: "-c".to_owned(), arguments: rest, path: None, used_stdin: false });
    }
    if rest.is_empty() {
        return Err(Failure::new("nothing to run").hint(
            "name a script, `-` for standard input, or give code: `agentkernel run -c 'print(1 + 1)'`",
        ));
    }
    let name = rest.remove(0);
    if name == "-" {
        let mut code = Vec::new();
        io::stdin()
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
        return Err(Failure::new(format!("`{name}` is not an option of `agentkernel run`"))
            .hint("options go before the script; see `agentkernel run --help`"));
    }
    let path = PathBuf::from(&name);
    let bytes = std::fs::read(&path).map_err(|error| {
        let failure = Failure::new(format!("cannot read the script `{name}`: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => failure.hint("to run code itself, use `agentkernel run -c CODE`"),
            _ => failure,
        }
    })?;
    let code = source(bytes, &format!("`{name}`"))?;
    Ok(Program { code, name, arguments: rest, path: Some(path), used_stdin: false })
}

fn source(bytes: Vec<u8>, name: &str) -> Result<String> {
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("{name} is not UTF-8")).hint("save the program as UTF-8"))?;
    if text.contains('\0') {
        return Err(Failure::new(format!("{name} has a NUL byte, so it is not Python")));
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Where the script's own directory is in the sandbox, if a grant covers it: `import` looks there.
fn directory_in_sandbox(script: &Path, grants: &Grants) -> Option<String> {
    let directory = script.canonicalize().ok()?.parent()?.to_owned();
    let workspace = match &grants.workspace {
        Workspace::Directory(directory) => Some((directory, "/workspace")),
        Workspace::Temporary => None,
    };
    let mounts = grants.mounts.iter().map(|mount| (&mount.host, mount.guest.as_str()));
    workspace.into_iter().chain(mounts).find_map(|(host, guest)| {
        let below = directory.strip_prefix(host.canonicalize().ok()?).ok()?;
        Some(match below.to_str()? {
            "" => guest.to_owned(),
            below => format!("{guest}/{below}"),
        })
    })
}

/// Passes output on as it comes; stops the program when nobody reads it any more.
pub fn forward(canceller: Arc<std::sync::OnceLock<Canceller>>, closed: Arc<AtomicBool>) -> OutputHandler {
    let mut stdout = io::stdout();
    let mut stderr = io::stderr();
    Box::new(move |stream, bytes| {
        let written = match stream {
            Stream::Stdout => stdout.write_all(bytes).and_then(|()| stdout.flush()),
            Stream::Stderr => stderr.write_all(bytes),
        };
        if written.is_err()
            && !closed.swap(true, Ordering::Relaxed)
            && let Some(canceller) = canceller.get()
        {
            canceller.cancel();
        }
    })
}

/// The first interrupt stops the program, the second this process.
fn stop_on_interrupt(canceller: Canceller) {
    let before = AtomicBool::new(false);
    // Without a handler an interrupt ends the process, which is all right too.
    let _ = ctrlc::set_handler(move || {
        if before.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        canceller.cancel();
    });
}

/// Whether a person sits at both ends.
pub fn interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
