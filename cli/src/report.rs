//! An outcome as the command line reports it: exit code, messages, JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agentkernel::llm::{Dollars, LlmUsage};
use agentkernel::{Ending, Exception, Limits, Outcome, Usage};
use serde::Serialize;
use serde_json::Value;

use crate::llm;
use crate::units::{show_bytes, show_duration};

/// What a shell gets to see of an ending.
pub fn exit_code(ending: &Ending) -> i32 {
    match ending {
        Ending::Completed(_) => 0,
        // As the shell sees a python3 that Ctrl-C ended.
        Ending::Raised(exception) if exception.kind == "KeyboardInterrupt" => 130,
        Ending::Raised(_) => 1,
        // A process has no more than eight bits to say it.
        Ending::Exited(code) => code & 0xff,
        Ending::TimedOut | Ending::OutOfFuel => 124,
        Ending::Cancelled => 130,
        Ending::OutOfMemory => 137,
        // Trapped, and what a later version may add.
        _ => 134,
    }
}

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
        Ending::Trapped(reason) => (format!("the interpreter failed: {reason}"), None),
        _ => return None,
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

/// The object that `--json` prints; docs/outcome.schema.json describes it.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    outcome: &'static str,
    value: Option<&'a Value>,
    repr: Option<&'a str>,
    stdout: String,
    stderr: String,
    error: Option<Error<'a>>,
    exit_code: i32,
    usage: Used,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Error<'a> {
    Python(&'a Exception),
    Stopped { r#type: &'static str, message: String, traceback: &'static str, frames: [(); 0] },
}

/// What a turn used.
#[derive(Debug, Serialize)]
pub struct Used {
    wall_seconds: f64,
    cpu_seconds: f64,
    fuel: Option<u64>,
    peak_memory_bytes: u64,
    output_bytes: u64,
    output_dropped_bytes: u64,
    written_bytes: u64,
    host_calls: u64,
    llm: BTreeMap<String, Asked>,
}

/// What a model was asked.
#[derive(Debug, Serialize)]
pub struct Asked {
    calls: u64,
    cached: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost: Option<Dollars>,
    hidden: u64,
}

/// What models were asked, by model.
pub fn asked(usage: &LlmUsage) -> BTreeMap<String, Asked> {
    let asked = |model: &agentkernel::llm::ModelUsage| Asked {
        calls: model.calls,
        cached: model.cached,
        input_tokens: model.input_tokens,
        output_tokens: model.output_tokens,
        cost: model.cost,
        hidden: model.hidden,
    };
    usage.models.iter().map(|(name, model)| (name.clone(), asked(model))).collect()
}

impl<'a> Report<'a> {
    pub fn new(outcome: &'a Outcome, limits: &Limits, exit_code: i32) -> Self {
        let value = match &outcome.ending {
            Ending::Completed(value) => value.as_ref(),
            _ => None,
        };
        let error = match &outcome.ending {
            Ending::Raised(exception) => Some(Error::Python(exception)),
            ending => stopped(ending, limits).map(|(message, _)| Error::Stopped {
                r#type: ending.name(),
                message,
                traceback: "",
                frames: [],
            }),
        };
        Report {
            outcome: outcome.ending.name(),
            value: value.and_then(|value| value.json.as_ref()),
            repr: value.map(|value| value.repr.as_str()),
            stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            error,
            exit_code,
            usage: Used::from(&outcome.usage),
        }
    }
}

impl From<&Usage> for Used {
    fn from(usage: &Usage) -> Self {
        Used {
            wall_seconds: usage.wall.as_secs_f64(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory_bytes,
            output_bytes: usage.output_bytes,
            output_dropped_bytes: usage.output_dropped_bytes,
            written_bytes: usage.written_bytes,
            host_calls: usage.host_calls,
            llm: asked(&usage.llm),
        }
    }
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
