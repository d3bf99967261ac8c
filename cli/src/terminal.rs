//! What the command line itself says, on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use agentkernel::{Progress, Stream};
use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::arguments::Talk;
use crate::output;
use crate::units::show_duration;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Prints a line to standard output; ends the process when that cannot be done, quietly when nobody
/// reads it.
macro_rules! say {
    ($($argument:tt)*) => {
        if let Err(error) = $crate::terminal::print(format!($($argument)*)) {
            $crate::exit($crate::code($crate::output::unwritten(&error), $crate::arguments::Talk::default()));
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

/// Text of a model's or a program's as a terminal may be shown it: what would move its cursor, change its
/// colours or reorder its letters is escaped.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.replace("\r\n", "\n").chars() {
        match letter {
            '\n' | '\t' => shown.push(letter),
            _ if letter.is_control() || reorders(letter) => shown.extend(letter.escape_default()),
            _ => shown.push(letter),
        }
    }
    shown
}

/// Whether a character changes the direction of text, or is not seen.
pub fn reorders(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}')
        || matches!(letter, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The first line of a text, cut to `most` characters.
pub fn line(text: &str, most: usize) -> String {
    let text = text.trim();
    let first = text.lines().next().unwrap_or_default();
    let cut = first.char_indices().nth(most).map_or(first, |(at, _)| &first[..at]);
    let more = if cut.len() < text.len() { "…" } else { "" };
    escaped(cut) + more
}

pub fn warning(message: &str) {
    tell(format_args!("{WARNING}warning:{WARNING:#} {message}"));
}

/// Warnings of the host library go to standard error; with `--verbose` all that it says.
pub fn listener<S>(talk: Talk) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let level = match talk {
        Talk { quiet: true, .. } => LevelFilter::ERROR,
        Talk { verbose: true, .. } => LevelFilter::DEBUG,
        _ => LevelFilter::WARN,
    };
    // Spans are for those who ask for them. What libraries say may have in it what is secret, or what a server has said.
    let messages = filter_fn(move |metadata| {
        metadata.is_event() && metadata.target().starts_with("agentkernel") && *metadata.level() <= level
    });
    tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // It would panic where standard error cannot be written.
        .log_internal_errors(false)
        .with_filter(messages.with_max_level_hint(level))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let text = "a\tb\r\nc\u{1b}[31md\u{7}\u{9b}2J\u{202e}e\rf";
        assert_eq!(escaped(text), "a\tb\nc\\u{1b}[31md\\u{7}\\u{9b}2J\\u{202e}e\\rf");
        assert_eq!(escaped("a\u{200b}b\u{e0041}c\u{61c}d"), "a\\u{200b}b\\u{e0041}c\\u{61c}d");
        assert_eq!(line("  one\u{1b}\ntwo", 9), "one\\u{1b}…");
        assert_eq!(line("äöü", 2), "äö…");
        assert_eq!(line("äöü", 3), "äöü");
    }
}
