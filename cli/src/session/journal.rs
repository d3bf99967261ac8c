//! What a session's turns did, a line each.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agentkernel::ContextMark;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::head::is_image;
use crate::failure::{Failure, Result};

const FILE: &str = "journal.jsonl";
/// Where what cannot be read is put aside.
const DAMAGED: &str = "journal.damaged";

/// One step of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1.
    pub turn: u64,
    pub time: String,
    #[serde(flatten)]
    pub what: What,
    /// The image of the memory after it; none at the beginning.
    pub image: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    Turn(Box<Ran>),
    /// The memory is that of the beginning.
    Reset {
        files: bool,
        /// What `--context` names looked like.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ContextMark>,
    },
    /// The memory is that of a file.
    Restored {
        from: String,
        /// What `--context` named looked like when that memory was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ContextMark>,
    },
    /// The memory is what the turns before led to once more.
    Replayed {
        turns: u64,
        differing: u64,
        /// What `--context` names looked like.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ContextMark>,
    },
}

/// A program that was run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ran {
    pub file: String,
    pub arguments: Vec<String>,
    /// Where its script lay in the sandbox, if it did: `import` looked there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import_path: Option<String>,
    pub code: String,
    /// As in `--json`.
    pub outcome: String,
    pub exit_code: i32,
    pub exception: Option<Raised>,
    /// Why it was stopped.
    pub message: Option<String>,
    /// The `repr` of its last expression.
    pub value: Option<String>,
    pub stdout: String,
    pub stderr: String,
    /// Whether a text is longer than what is written down.
    pub truncated: bool,
    pub usage: Value,
    pub transactional: bool,
    /// Whether it was stopped or failed in a transaction: the memory is what it was before.
    pub rolled_back: bool,
    /// Why its memory could not be kept, if so.
    pub held: Option<String>,
    /// Whether its memory is part of the session.
    pub kept: bool,
    /// Whether what it did to files is.
    pub files_kept: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Raised {
    pub r#type: String,
    pub message: String,
    pub traceback: String,
}

/// The lines that can be read.
#[derive(Debug, Default)]
pub struct Journal {
    path: PathBuf,
    pub entries: Vec<Entry>,
    /// Where each entry ends, in bytes.
    ends: Vec<u64>,
    length: u64,
    /// What is wrong with the line after the last entry.
    pub problem: Option<String>,
}

impl Journal {
    pub fn read(session: &Path) -> Result<Self, String> {
        let path = session.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("`{FILE}` cannot be read: {error}")),
        };
        let mut journal = Journal { path, length: text.len() as u64, ..Journal::default() };
        let mut end = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            // What a killed process wrote half of has no end of line.
            if line.last() != Some(&b'\n') {
                break;
            }
            let last = journal.entries.last().map_or(0, |entry| entry.turn);
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if entry.turn > last && entry.image.as_deref().is_none_or(is_image) => {
                    end += line.len() as u64;
                    journal.entries.push(entry);
                    journal.ends.push(end);
                }
                read => {
                    let why = read.err().map_or("it does not follow".to_owned(), |error| error.to_string());
                    journal.problem = Some(format!("line {} of `{FILE}`: {why}", journal.entries.len() + 1));
                    break;
                }
            }
        }
        Ok(journal)
    }

    /// What `--context` named looked like when the memory was made that the turns up to `turn` went on from, if that is in it.
    pub fn context(&self, turn: u64) -> Option<&ContextMark> {
        self.entries.iter().rev().filter(|entry| entry.turn <= turn).find_map(|entry| match &entry.what {
            What::Reset { context, .. } | What::Replayed { context, .. } | What::Restored { context, .. } => {
                context.as_ref()
            }
            What::Turn(_) => None,
        })
    }

    /// What there is since the last time that the memory was that of the beginning.
    pub fn since_reset(&self) -> &[Entry] {
        let reset = self.entries.iter().rposition(|entry| matches!(entry.what, What::Reset { .. }));
        &self.entries[reset.map_or(0, |reset| reset + 1)..]
    }

    /// The turn since then, and the file, at which a memory came from a file: no turns lead to it.
    pub fn restored(&self) -> Option<(u64, &str)> {
        self.since_reset().iter().find_map(|entry| match &entry.what {
            What::Restored { from, .. } => Some((entry.turn, from.as_str())),
            _ => None,
        })
    }

    pub fn entry(&self, turn: u64) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.turn == turn)
    }

    /// Cuts off what came after a turn.
    pub fn cut(&mut self, turn: u64) -> Result<()> {
        let kept = self.entries.iter().take_while(|entry| entry.turn <= turn).count();
        self.entries.truncate(kept);
        self.ends.truncate(kept);
        let end = self.ends.last().copied().unwrap_or(0);
        if end < self.length {
            let file = OpenOptions::new().write(true).open(&self.path).map_err(unwritten)?;
            file.set_len(end).and_then(|()| file.sync_data()).map_err(unwritten)?;
            self.length = end;
        }
        self.problem = None;
        Ok(())
    }

    /// Puts a copy of a journal with a damaged line aside.
    pub fn put_aside(&self) -> Result<()> {
        fs::copy(&self.path, self.path.with_file_name(DAMAGED)).map(drop).map_err(unwritten)
    }

    /// Writes one step down, and waits until it is on the disk.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_vec(&entry).map_err(|error| unwritten(error.into()))?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(&line).and_then(|()| file.sync_data())).map_err(unwritten)?;
        self.length += line.len() as u64;
        self.ends.push(self.length);
        self.entries.push(entry);
        Ok(())
    }

    /// Copies it to another session.
    pub fn copy_to(&self, session: &Path) -> Result<()> {
        match self.entries.is_empty() {
            true => Ok(()),
            false => fs::copy(&self.path, session.join(FILE)).map(drop).map_err(unwritten),
        }
    }
}

fn unwritten(error: io::Error) -> Failure {
    Failure::new(format!("cannot write `{FILE}` of the session: {error}"))
        .hint("check that its disk has room and can be written")
}
