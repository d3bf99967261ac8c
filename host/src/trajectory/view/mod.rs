//! The page that shows a trajectory: one HTML file that needs nothing else.
//!
//! What a trajectory holds was written by models and programs, so it is hostile. It enters the page
//! as JSON in a data block, with every character escaped that could end the block or deceive whoever
//! reads the source; the page's script puts it into the document as text alone. A content security
//! policy names the page's own script and style by hash and forbids everything else, the network
//! included.

use std::io::{self, BufRead, BufWriter, Read, Write};

use base64::Engine;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::event::Record;
use crate::error::{Error, ErrorKind, Result};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("model.js"), include_str!("text.js"), include_str!("page.js"));

/// Bytes of a line that is still read.
const LINE_BYTES: u64 = 64 << 20;
/// Bytes of events that a page holds: browsers cannot hold a text of more than 512 MiB.
const PAGE_BYTES: u64 = 256 << 20;
/// Unreadable lines that the page names; the others are counted.
const PROBLEMS: usize = 1_000;
/// Characters of an unreadable line that the page shows.
const PROBLEM_CHARS: usize = 500;

/// What a page shows of its trajectory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Viewed {
    /// Events.
    pub events: u64,
    /// Lines that are not shown: what is no JSON object, or too much.
    pub problems: u64,
}

/// Beside the events, what the page is told of the lines that hold none.
#[derive(Default, Serialize)]
struct Notes {
    problems: Vec<Problem>,
    /// Problems that are not in the list.
    more: u64,
    /// The events that are shown as they stand, by index, with the reason.
    raw: Vec<(u64, String)>,
}

#[derive(Serialize)]
struct Problem {
    line: u64,
    problem: String,
    text: String,
}

/// Writes a page that shows the trajectory `jsonl`: one HTML file that works without a network.
///
/// Lines that cannot be read are named in the page, with the reason, and the others are shown: the
/// last line may be cut short by a crash. Events that this version does not know are shown as they stand.
///
/// # Errors
///
/// When `jsonl` cannot be read or `out` cannot be written to.
pub fn view(mut jsonl: impl BufRead, out: impl Write) -> Result<Viewed> {
    write(&mut jsonl, &mut BufWriter::new(out))
}

fn write(jsonl: &mut dyn BufRead, out: &mut dyn Write) -> Result<Viewed> {
    let page = PAGE.replace("STYLE_HASH", &hash(STYLE)).replace("SCRIPT_HASH", &hash(SCRIPT));
    let mut viewed = Viewed::default();
    let mut notes = Notes::default();
    let mut rest = page.as_str();
    // Placeholders stand on lines of their own, in this order.
    for placeholder in ["STYLE\n", "EVENTS\n", "NOTES\n", "SCRIPT\n"] {
        let (before, after) = rest.split_once(placeholder).expect("the page has all placeholders");
        out.write_all(before.as_bytes()).map_err(cannot_write)?;
        match placeholder {
            "STYLE\n" => out.write_all(STYLE.as_bytes()),
            "EVENTS\n" => {
                events(jsonl, out, &mut viewed, &mut notes)?;
                Ok(())
            }
            "NOTES\n" => {
                let notes = serde_json::to_string(&notes).expect("notes are plain data");
                write_escaped(&notes, out)
            }
            _ => out.write_all(SCRIPT.as_bytes()),
        }
        .map_err(cannot_write)?;
        rest = after;
    }
    out.write_all(rest.as_bytes()).and_then(|()| out.flush()).map_err(cannot_write)?;
    Ok(viewed)
}

/// Writes the events of `jsonl` as the items of a JSON array.
fn events(
    jsonl: &mut dyn BufRead,
    out: &mut dyn Write,
    viewed: &mut Viewed,
    notes: &mut Notes,
) -> Result<()> {
    let mut line = Vec::new();
    let mut bytes = 0;
    for number in 1.. {
        line.clear();
        let read = Read::take(&mut *jsonl, LINE_BYTES).read_until(b'\n', &mut line).map_err(cannot_read)?;
        if read == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        let trimmed = line.trim_ascii();
        if trimmed.is_empty() {
            continue;
        }
        let event = if !whole && read as u64 == LINE_BYTES {
            skip_line(jsonl).map_err(cannot_read)?;
            Err(format!("the line is longer than {LINE_BYTES} bytes"))
        } else if bytes + read as u64 > PAGE_BYTES {
            Err("there is no more room in the page".to_owned())
        } else {
            event(trimmed, whole)
        };
        match event {
            Ok((text, odd)) => {
                let separator: &[u8] = if viewed.events == 0 { b"" } else { b",\n" };
                let written = out.write_all(separator).and_then(|()| write_escaped(text, out));
                written.map_err(cannot_write)?;
                notes.raw.extend(odd.map(|reason| (viewed.events, reason)));
                viewed.events += 1;
                bytes += read as u64;
            }
            Err(problem) => {
                viewed.problems += 1;
                if notes.problems.len() < PROBLEMS {
                    let start = String::from_utf8_lossy(&trimmed[..trimmed.len().min(4 * PROBLEM_CHARS)]);
                    let text = start.chars().take(PROBLEM_CHARS).collect();
                    notes.problems.push(Problem { line: number, problem, text });
                } else {
                    notes.more += 1;
                }
            }
        }
    }
    out.write_all(b"\n").map_err(cannot_write)
}

/// The JSON of an event, with the reason if it is to be shown as it stands; or why there is none.
fn event(line: &[u8], whole: bool) -> Result<(&str, Option<String>), String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let Err(reason) = serde_json::from_str::<Record>(text) else { return Ok((text, None)) };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(event))
            if event.get("event").is_some_and(Value::is_string)
                && event.get("at").is_some_and(Value::is_number) =>
        {
            Ok((text, Some(short(&reason))))
        }
        Ok(_) => Err("it is no event: an object with `event` and `at`".to_owned()),
        Err(error) if !whole && error.is_eof() => {
            Err("the last line is cut short: the run was stopped while it was written".to_owned())
        }
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

/// The reason without the names of all events and the place in the line.
fn short(reason: &serde_json::Error) -> String {
    let reason = reason.to_string();
    let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
    reason.split_once(", expected one of").map_or(reason, |(reason, _)| reason).to_owned()
}

/// Reads to the end of the line.
fn skip_line(jsonl: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = jsonl.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (used, done) = end.map_or((buffer.len(), buffer.is_empty()), |end| (end + 1, true));
        jsonl.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// Writes JSON such that it says the same, and neither ends the block it stands in nor holds characters
/// that a reader of the page's source cannot see. Such characters stand in strings alone.
fn write_escaped(json: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut from = 0;
    for (at, found) in json.match_indices(is_escaped) {
        out.write_all(&json.as_bytes()[from..at])?;
        let mut units = [0; 2];
        for unit in found.chars().next().unwrap_or_default().encode_utf16(&mut units) {
            write!(out, "\\u{unit:04x}")?;
        }
        from = at + found.len();
    }
    out.write_all(&json.as_bytes()[from..])
}

fn is_escaped(character: char) -> bool {
    matches!(character,
        '<' | '>' | '&' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

fn hash(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(hash))
}

fn cannot_read(error: io::Error) -> Error {
    Error::new(ErrorKind::System, "cannot read the trajectory").source(error)
}

fn cannot_write(error: io::Error) -> Error {
    Error::new(ErrorKind::System, "cannot write the page").source(error)
}
