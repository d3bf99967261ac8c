//! What the command line itself says, on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use agentkernel::{Progress, Stream};
use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;

use crate::arguments::Talk;
use crate::output;
use crate::units::show_duration;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Prints a line to standard output; ends the process when that cannot be done, quietly when nobody
/// reads it.
macro_rules! say {
    ($($argument:tt)*) => {
        if let Err(error) = $crate::terminal::print(format!($($argument)*)) {
            std::process::exit($crate::code($crate::output::unwritten(&error)));
        }
    };
}
pub(crate) use say;

/// Prints a line to standard output.
pub fn print(mut line: String) -> io::Result<()> {
    line.push('\n');
    output::write(Stream::Stdout, line.as_bytes())
}

/// Says a line on standard error. If that cannot be written, there is nowhere to say so.
fn tell(line: fmt::Arguments<'_>) {
    let mut text = AutoStream::new(Vec::new(), AutoStream::choice(&io::stderr()));
    let _ = writeln!(text, "{line}");
    let _ = output::write(Stream::Stderr, &text.into_inner());
}

pub fn error(message: &str, hint: Option<&str>) {
    tell(format_args!("{ERROR}error:{ERROR:#} {message}"));
    if let Some(hint) = hint {
        self::hint(hint);
    }
}

pub fn hint(hint: &str) {
    tell(format_args!("{HINT}hint:{HINT:#} {hint}"));
}

pub fn remark(message: &str) {
    tell(format_args!("{DIM}agentkernel: {message}{DIM:#}"));
}

/// Warnings of the host library go to standard error; with `--verbose` all that it says.
pub fn listen(talk: Talk) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match talk {
        Talk { quiet: true, .. } => LevelFilter::ERROR,
        Talk { verbose: true, .. } => LevelFilter::DEBUG,
        _ => LevelFilter::WARN,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // It would panic where standard error cannot be written.
        .log_internal_errors(false)
        .init();
}

/// Says why the first start takes seconds: a spinner on a terminal, one line elsewhere.
pub fn progress(talk: Talk) -> impl Fn(Progress) + 'static {
    const WHY: &str = "compiling Python for this machine (once; later starts load it)";
    let spinner: RefCell<Option<ProgressBar>> = RefCell::default();
    move |progress| {
        if talk.quiet {
            return;
        }
        match progress {
            Progress::Compiling if io::stderr().is_terminal() => {
                let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
                let bar = ProgressBar::new_spinner()
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                    .with_message(WHY);
                bar.enable_steady_tick(Duration::from_millis(80));
                spinner.replace(Some(bar));
            }
            Progress::Compiling => remark(WHY),
            Progress::Compiled(duration) => {
                if let Some(bar) = spinner.take() {
                    bar.finish_and_clear();
                }
                if talk.verbose {
                    remark(&format!("compiled in {}", show_duration(duration)));
                }
            }
            Progress::Waiting => remark("waiting for another process that compiles Python for this machine"),
            _ => {}
        }
    }
}
