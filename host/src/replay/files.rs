//! Files, as the tape of a session has them: what each function of WASI's filesystem was asked and gave.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::line::{Bytes, FileAsk};
use super::player::Next;
use super::tape::{digest, stop};
use super::{Asked, Given, Track};
use crate::engine::Interrupt;

/// Bytes from which on content is kept compressed.
const PACKED: usize = 4096;

/// The most of a file that one function gives.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Bytes of a text that are kept: no file has a longer path, and no link a longer target.
const TEXT_BYTES: usize = 4096;

/// The tape of a session's files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FileTape {
    track: Track,
    interrupt: Arc<Interrupt>,
    handles: Arc<AtomicU64>,
}

/// An open file, directory, listing or stream: the same number means the same one in a replay.
pub(crate) struct Taped {
    tape: FileTape,
    number: u64,
    path: String,
}

impl FileTape {
    pub fn new(track: Track, interrupt: Arc<Interrupt>) -> Self {
        FileTape { track, interrupt, handles: Arc::default() }
    }

    /// Whether what is asked is given by a recording.
    pub fn is_replay(&self) -> bool {
        self.track.is_replay()
    }

    /// The granted directories as a whole.
    pub fn root(&self) -> Taped {
        Taped { tape: self.clone(), number: 0, path: String::new() }
    }

    /// The next handle.
    pub fn handle(&self, path: String) -> Arc<Taped> {
        let number = self.handles.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Taped { tape: self.clone(), number, path })
    }
}

impl Taped {
    /// The next handle, of something at `path` in this directory, or of this file.
    pub fn open(&self, path: &str) -> Arc<Taped> {
        self.tape.handle(self.place(path))
    }

    /// Where the program sees what is at `path` below it, or itself. Of a long one the end: programs can go down from
    /// directory to directory for ever, and which one it is of says its number.
    pub fn place(&self, path: &str) -> String {
        let whole = match (self.path.as_str(), path) {
            (directory, "") => directory.to_owned(),
            ("", path) => path.to_owned(),
            (directory, path) => format!("{directory}/{path}"),
        };
        match whole.len().checked_sub(TEXT_BYTES) {
            None => whole,
            Some(over) => whole[whole.ceil_char_boundary(over)..].to_owned(),
        }
    }

    /// What is asked of it. `path` is below it, and empty for itself; `with` is all else that matters.
    pub fn asked(&self, does: &str, path: &str, with: impl ToString) -> Asked {
        let (path, mut with) = (self.place(path), with.to_string());
        with.truncate(with.floor_char_boundary(TEXT_BYTES));
        Asked::File(Box::new(FileAsk { does: does.to_owned(), handle: self.number, path, with }))
    }

    /// What the recording gives, if this is a replay.
    pub fn replayed<T: DeserializeOwned>(&self, asked: &Asked) -> wasmtime::Result<Option<T>> {
        let given = match self.tape.track.next(asked)? {
            None => return Ok(None),
            Some(Next::Event(event)) => event.given,
            Some(Next::Stopped(why)) => return Err(stop(&self.tape.interrupt, why).into()),
        };
        let value = match given {
            Given::File(value) => serde_json::from_value(value).ok(),
            _ => None,
        };
        match value {
            Some(value) => Ok(Some(value)),
            None => Err(self.damaged()),
        }
    }

    /// What the recording gives cannot be.
    pub fn damaged(&self) -> wasmtime::Error {
        self.tape.track.diverge("at what a file gave, which is damaged").into()
    }

    /// Takes in what was given.
    pub fn took<T: Serialize>(&self, asked: Asked, given: &T) {
        // All that files give is text, numbers and lists of these.
        let value = serde_json::to_value(given).unwrap_or_default();
        self.tape.track.decide(asked, Given::File(value));
    }
}

/// What was written, for the tape: a replay must write the same.
pub(crate) fn written(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), digest([bytes]))
}

/// The content of a file, or a piece of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content(pub Vec<u8>);

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let packed = match self.0.len() >= PACKED {
            true => zstd::bulk::compress(&self.0, 0).ok().filter(|packed| packed.len() < self.0.len() / 2),
            false => None,
        };
        match packed {
            Some(packed) => Bytes::Zstd(STANDARD.encode(packed)),
            None => Bytes::of(&self.0),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Bytes::deserialize(deserializer)?.get();
        content.map(Content).ok_or_else(|| D::Error::custom("it is damaged"))
    }
}

/// What was compressed; nothing if that is damaged, or more than a file gives at once.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    zstd::Decoder::new(packed).ok()?.take(READ_BYTES as u64 + 1).read_to_end(&mut content).ok()?;
    (content.len() <= READ_BYTES).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(content: &[u8]) -> (String, Vec<u8>) {
        let text = serde_json::to_string(&Content(content.to_vec())).unwrap();
        let read: Content = serde_json::from_str(&text).unwrap();
        (text, read.0)
    }

    #[test]
    fn content_is_read_as_it_was() {
        let numbers = super::super::ambient::Numbers::new(7);
        let noise: Vec<u8> = (0..70_000).map(|_| numbers.next() as u8).collect();
        let table = "one,two,three\n".repeat(20_000);
        for (content, how) in [
            (&b""[..], "text"),
            (b"name,value\n", "text"),
            (b"\xff\x00", "base64"),
            (&noise, "base64"),
            (table.as_bytes(), "zstd"),
        ] {
            let (text, read) = again(content);
            assert!(text.starts_with(&format!("{{\"{how}\"")), "{}", &text[..40.min(text.len())]);
            assert_eq!(read, content);
        }
        assert!(again(table.as_bytes()).0.len() < 2000);
    }

    #[test]
    fn content_that_is_damaged_or_too_large_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        for packed in [STANDARD.encode(bomb), STANDARD.encode("no frame"), "*".into()] {
            let text = serde_json::to_string(&Bytes::Zstd(packed)).unwrap();
            assert!(serde_json::from_str::<Content>(&text).is_err());
        }
    }
}
