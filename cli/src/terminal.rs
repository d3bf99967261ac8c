//! What the command line itself says, on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use agentkernel::Progress;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;

use crate::arguments::Talk;
use crate::units::show_duration;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const DIM: Style = Style::new().dimmed();

pub fn error(message: &str, hint: Option<&str>) {
    anstream::eprintln!("{ERROR}error:{ERROR:#} {message}");
    if let Some(hint) = hint {
        self::hint(hint);
    }
}

pub fn hint(hint: &str) {
    anstream::eprintln!("{HINT}hint:{HINT:#} {hint}");
}

pub fn remark(message: &str) {
    anstream::eprintln!("{DIM}agentkernel: {message}{DIM:#}");
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
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
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
            Progress::Compiling if std::io::stderr().is_terminal() => {
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
            _ => {}
        }
    }
}
