//! An outcome as the command line tells it to people.

use std::borrow::Cow;

use agentkernel::{Ending, Exception, Limits, Usage};

use crate::llm;
use crate::units::{show_bytes, show_duration};

/// A message and a remedy for an ending that is not Python's own.
pub fn stopped(ending: &Ending, limits: &Limits) -> Option<(String, Option<&'static str>)> {
    Some(match ending {
        Ending::TimedOut => {
            let timeout = show_duration(limits.timeout.unwrap_or_default());
            (format!("stopped at the time limit of {timeout}"), Some("give more with `--timeout`"))
        }
        Ending::OutOfFuel => {
            let fuel = limits.fuel.unwrap_or_default();
            (format!("stopped at the fuel limit of {fuel}"), Some("give more with `--fuel`"))
        }
        Ending::OutOfMemory => {
            let memory = show_bytes(limits.memory_bytes);
            (format!("stopped at the memory limit of {memory}"), Some("give more with `--memory`"))
        }
        Ending::Cancelled => ("interrupted".to_owned(), None),
        ending => return ending.stopped(limits).map(|message| (message, None)),
    })
}

/// A traceback as it is printed: no longer than the output may be. Its ends say the most.
pub fn traceback<'a>(exception: &'a Exception, limits: &Limits) -> Cow<'a, str> {
    let text = exception.traceback.as_str();
    let limit = usize::try_from(limits.output_bytes).unwrap_or(usize::MAX);
    if text.len() <= limit {
        return text.into();
    }
    let head = &text[..text.floor_char_boundary(limit / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - limit / 2)..];
    let cut = text.len() - head.len() - tail.len();
    let marker = format!(
        "[agentkernel: {cut} bytes of the traceback are left out at the output limit of {limit} bytes]"
    );
    format!("{head}\n{marker}\n{tail}").into()
}

/// What was used, in one line.
pub fn used(usage: &Usage) -> String {
    let mut line = format!(
        "used {} (processor {}), {} of memory, {} of output, {} written, {} host calls",
        show_duration(usage.wall),
        show_duration(usage.cpu),
        show_bytes(usage.peak_memory_bytes),
        show_bytes(usage.output_bytes),
        show_bytes(usage.written_bytes),
        usage.host_calls,
    );
    if let Some(fuel) = usage.fuel {
        line += &format!(", {fuel} units of fuel");
    }
    if !usage.llm.models.is_empty() {
        line += &format!(", {}", llm::used(&usage.llm));
    }
    line
}
