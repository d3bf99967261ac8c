//! An outcome as a client gets it: an object like that of `agentkernel run --json`, and a text for a model.

use std::collections::BTreeMap;

use agentkernel::{Ending, Exception, Frame, Limits, Outcome, Usage};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::Written;

/// Bytes of a message, and of a traceback, that are passed on. The ends of a traceback say the most.
const MESSAGE_BYTES: usize = 16 << 10;
const TRACEBACK_BYTES: usize = 64 << 10;

/// Frames of a traceback, and bytes of each of their texts. Of more frames the first and last are passed on.
const FRAMES: usize = 100;
const FRAME_BYTES: usize = 1 << 10;

/// The names of endings.
const OUTCOMES: [&str; 8] =
    ["completed", "raised", "exited", "timed-out", "out-of-memory", "out-of-fuel", "cancelled", "trapped"];

/// What a turn did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Executed {
    /// The session it ran in.
    pub session: String,
    /// Its number in the session, from 1.
    pub turn: u64,
    /// How the program ended.
    #[schemars(extend("enum" = OUTCOMES))]
    pub outcome: &'static str,
    /// The value of the last expression, if there is one and JSON can say all of it; null otherwise.
    pub value: Value,
    /// Python's repr() of that value, null if the program did not end in an expression.
    pub repr: Option<String>,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, without the traceback of an uncaught exception.
    pub stderr: String,
    /// The uncaught exception, or the limit that stopped the program.
    pub error: Option<Raised>,
    /// The exit code that a process would have.
    pub exit_code: i32,
    /// What the turn used.
    pub usage: Used,
    /// Whether what the turn did in memory is part of the session.
    pub kept: bool,
    /// Whether the session was put back to where it was before the turn. Files are not put back.
    pub rolled_back: bool,
    /// Whether the session is on disk as it is now; null where the server keeps no sessions.
    pub saved: Option<bool>,
    /// What else there is to know, null if there is nothing.
    pub note: Option<String>,
}

/// An uncaught exception, or the limit that stopped the program: then `type` is the outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Raised {
    /// The exception's class, with its module unless that is builtins or __main__.
    r#type: String,
    message: String,
    /// As Python prints it; the middle of a long one is left out.
    traceback: String,
    /// The outermost first; of many, the first and the last.
    frames: Vec<Place>,
}

/// A frame of a traceback.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Place {
    file: String,
    line: u32,
    function: String,
    source: Option<String>,
}

/// What a turn used.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Used {
    wall_seconds: f64,
    cpu_seconds: f64,
    fuel: Option<u64>,
    peak_memory_bytes: u64,
    output_bytes: u64,
    output_dropped_bytes: u64,
    /// Over the session's life.
    written_bytes: u64,
    host_calls: u64,
    /// What models were asked, by the model's name.
    llm: BTreeMap<String, Value>,
}

impl Executed {
    pub fn new(session: &str, turn: u64, outcome: Outcome, written: Written, limits: &Limits) -> Self {
        let exit_code = exit_code(&outcome.ending);
        let kept = outcome.ending.is_kept();
        let usage = Used::new(&outcome.usage, written.dropped);
        let name = outcome.ending.name();
        let (mut value, mut repr, mut error) = (Value::Null, None, None);
        match outcome.ending {
            Ending::Completed(Some(given)) => {
                (value, repr) = (given.json.unwrap_or_default(), Some(given.repr));
            }
            Ending::Raised(exception) => error = Some(Raised::from(exception)),
            ending => {
                error = stopped(&ending, limits).map(|message| Raised {
                    r#type: name.to_owned(),
                    message,
                    traceback: String::new(),
                    frames: Vec::new(),
                });
            }
        }
        Executed {
            session: session.to_owned(),
            turn,
            outcome: name,
            value,
            repr,
            stdout: lossy(written.stdout),
            stderr: lossy(written.stderr),
            error,
            exit_code,
            usage,
            kept,
            rolled_back: outcome.rolled_back,
            saved: None,
            note: None,
        }
    }

    /// Whether the program failed, as a model should see it.
    pub fn is_error(&self) -> bool {
        self.exit_code != 0
    }

    /// What a model reads, of about `most` bytes at the most.
    pub fn text(&self, most: usize) -> String {
        let mut text = cut(&self.stdout, most / 2);
        let mut part = |name: &str, content: &str| {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(name);
            text.push_str(content);
        };
        if !self.stderr.is_empty() {
            part("[standard error]\n", &cut(&self.stderr, most / 8));
        }
        if let Some(repr) = &self.repr
            && repr != "None"
        {
            part("", &cut(repr, most / 4));
        }
        match &self.error {
            Some(error) if !error.traceback.is_empty() => part("", &cut(&error.traceback, most / 8)),
            Some(error) => part("error: ", &error.message),
            None => {}
        }
        if self.outcome == "exited" {
            part("", &format!("[sys.exit with code {}]", self.exit_code));
        }
        if self.rolled_back {
            part("", "[the session is as it was before this turn; files are not put back]");
        }
        if let Some(note) = &self.note {
            part("", &format!("[{note}]"));
        }
        if text.is_empty() { "[no output]".to_owned() } else { text }
    }
}

/// As a shell would see a process.
fn exit_code(ending: &Ending) -> i32 {
    match ending {
        Ending::Completed(_) => 0,
        Ending::Raised(exception) if exception.kind == "KeyboardInterrupt" => 130,
        Ending::Raised(_) => 1,
        Ending::Exited(code) => code & 0xff,
        Ending::TimedOut | Ending::OutOfFuel => 124,
        Ending::Cancelled => 130,
        Ending::OutOfMemory => 137,
        _ => 134,
    }
}

fn stopped(ending: &Ending, limits: &Limits) -> Option<String> {
    Some(match ending {
        Ending::TimedOut => format!("stopped at the time limit of {:?}", limits.timeout.unwrap_or_default()),
        Ending::OutOfFuel => format!("stopped at the fuel limit of {}", limits.fuel.unwrap_or_default()),
        Ending::OutOfMemory => format!("stopped at the memory limit of {} bytes", limits.memory_bytes),
        Ending::Cancelled => "cancelled".to_owned(),
        Ending::Trapped(reason) => format!("the interpreter failed: {reason}"),
        _ => return None,
    })
}

impl From<Exception> for Raised {
    fn from(exception: Exception) -> Self {
        let left_out = exception.frames.len().saturating_sub(FRAMES);
        let is_shown = |at: &usize| *at < FRAMES / 2 || *at >= FRAMES / 2 + left_out;
        let frames = exception.frames.into_iter().enumerate().filter(|(at, _)| is_shown(at));
        Raised {
            r#type: cut(&exception.kind, FRAME_BYTES),
            message: cut(&exception.message, MESSAGE_BYTES),
            traceback: cut(&exception.traceback, TRACEBACK_BYTES),
            frames: frames.map(|(_, frame)| Place::from(frame)).collect(),
        }
    }
}

impl From<Frame> for Place {
    fn from(frame: Frame) -> Self {
        Place {
            file: cut(&frame.file, FRAME_BYTES),
            line: frame.line,
            function: cut(&frame.function, FRAME_BYTES),
            source: frame.source.map(|source| cut(&source, FRAME_BYTES)),
        }
    }
}

impl Used {
    fn new(usage: &Usage, dropped: u64) -> Self {
        let asked = usage.llm.models.iter().map(|(name, model)| {
            let asked = json!({
                "calls": model.calls,
                "cached": model.cached,
                "input_tokens": model.input_tokens,
                "output_tokens": model.output_tokens,
                "cost": model.cost,
                "hidden": model.hidden,
            });
            (name.clone(), asked)
        });
        Used {
            wall_seconds: usage.wall.as_secs_f64(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory_bytes,
            output_bytes: usage.output_bytes,
            output_dropped_bytes: dropped,
            written_bytes: usage.written_bytes,
            host_calls: usage.host_calls,
            llm: asked.collect(),
        }
    }
}

/// Bytes as text, without a copy where they are text.
pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A text of about `most` bytes, without its middle if it is longer.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(most / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - most / 2)..];
    let left_out = text.len() - head.len() - tail.len();
    format!("{head}\n[agentkernel: {left_out} bytes are left out here]\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        assert_eq!(cut("äöü", 6), "äöü");
        let text = cut(&"ä".repeat(1000), 101);
        assert!(text.starts_with("ääää") && text.ends_with("ääää"), "{text}");
        assert!(text.contains("1900 bytes are left out"), "{text}");
    }
}
