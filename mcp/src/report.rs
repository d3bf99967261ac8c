//! An outcome as a client gets it: an object like that of `agentkernel run --json`, and a text for a model.

use std::sync::Arc;

use agentkernel::report::Report;
use agentkernel::{Ending, Exception, Limits, Outcome};
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::output::Written;
use crate::schema;

/// Bytes of a message, and of a traceback, that are passed on. The ends of a traceback say the most.
const MESSAGE_BYTES: usize = 16 << 10;
const TRACEBACK_BYTES: usize = 64 << 10;

/// Frames of a traceback, and bytes of each of their texts. Of more frames the first and last are passed on.
const FRAMES: usize = 100;
const FRAME_BYTES: usize = 1 << 10;

/// What a turn did: the object of docs/outcome.schema.json, and more.
#[derive(Debug, Serialize)]
pub(crate) struct Executed {
    #[serde(flatten)]
    pub report: Report,
    #[serde(flatten)]
    pub turn: InSession,
}

/// What is said beside the outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InSession {
    /// The session it ran in.
    pub session: String,
    /// Its number in the session, from 1.
    pub turn: u64,
    /// Whether what the turn did in memory is part of the session.
    pub kept: bool,
    /// Whether the session was put back to where it was before the turn. Files are not put back.
    pub rolled_back: bool,
    /// Whether the session is on disk as it is now; null where the server keeps no sessions.
    pub saved: Option<bool>,
    /// What else there is to know, null if there is nothing.
    pub note: Option<String>,
}

impl Executed {
    pub fn new(session: &str, turn: u64, mut outcome: Outcome, written: Written, limits: &Limits) -> Self {
        let turn = InSession {
            session: session.to_owned(),
            turn,
            kept: outcome.ending.is_kept(),
            rolled_back: outcome.rolled_back,
            saved: None,
            note: None,
        };
        (outcome.stdout, outcome.stderr) = (written.stdout, written.stderr);
        outcome.usage.output_dropped_bytes = written.dropped;
        if let Ending::Raised(exception) = &mut outcome.ending {
            shorten(exception);
        }
        Executed { report: Report::new(outcome, limits), turn }
    }

    /// The schema, in one piece.
    pub fn schema() -> Arc<JsonObject> {
        let mut schema = schema::in_one_piece(Report::schema());
        let more = schema::given::<InSession>();
        let strings = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let required = [strings(schema.get("required")), strings(more.get("required"))].concat();
        if let (Some(Value::Object(fields)), Some(Value::Object(more))) =
            (schema.get_mut("properties"), more.get("properties"))
        {
            fields.extend(more.clone());
        }
        schema.insert("required".to_owned(), required.into());
        Arc::new(schema)
    }

    /// Whether the program failed, as a model should see it.
    pub fn is_error(&self) -> bool {
        self.report.exit_code != 0
    }

    /// What a model reads, of about `most` bytes at the most.
    pub fn text(&self, most: usize) -> String {
        let Executed { report, turn } = self;
        let mut text = cut(&report.stdout, most / 2);
        let mut part = |name: &str, content: &str| {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(name);
            text.push_str(content);
        };
        if !report.stderr.is_empty() {
            part("[standard error]\n", &cut(&report.stderr, most / 8));
        }
        if let Some(repr) = &report.repr
            && repr != "None"
        {
            part("", &cut(repr, most / 4));
        }
        match &report.error {
            Some(error) if !error.traceback.is_empty() => part("", &cut(&error.traceback, most / 8)),
            Some(error) => part("error: ", &error.message),
            None => {}
        }
        if report.outcome == "exited" {
            part("", &format!("[sys.exit with code {}]", report.exit_code));
        }
        if turn.rolled_back {
            part("", "[the session is as it was before this turn; files are not put back]");
        }
        if let Some(note) = &turn.note {
            part("", &format!("[{note}]"));
        }
        if text.is_empty() { "[no output]".to_owned() } else { text }
    }
}

/// Cuts what a program can make as long as it likes.
fn shorten(exception: &mut Exception) {
    if let Some(left_out) = exception.frames.len().checked_sub(FRAMES) {
        exception.frames.drain(FRAMES / 2..FRAMES / 2 + left_out);
    }
    let texts = exception.frames.iter_mut().flat_map(|frame| {
        [Some(&mut frame.file), Some(&mut frame.function), frame.source.as_mut()].into_iter().flatten()
    });
    for text in texts.chain([&mut exception.kind]) {
        *text = cut(text, FRAME_BYTES);
    }
    exception.message = cut(&exception.message, MESSAGE_BYTES);
    exception.traceback = cut(&exception.traceback, TRACEBACK_BYTES);
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
