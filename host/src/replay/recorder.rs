//! Writing a cassette.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::line::{LINE_BYTES, Line, VERSION};
use crate::{Error, ErrorKind, Result};

/// Bytes that a cassette may have where nobody says.
const MOST: u64 = 1 << 30;

/// A cassette that is being written.
pub struct Recorder {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    written: Written,
    lines: u64,
    bytes: u64,
    most: u64,
    error: Option<io::Error>,
    places: HashSet<String>,
    sessions: u64,
}

/// Where the lines are.
enum Written {
    /// In memory until a session begins: what is in the file's place is not lost for one that is refused.
    Pending(Vec<u8>),
    File(File),
    /// The end is written.
    Ended,
}

impl Recorder {
    pub fn create(path: &Path) -> Result<Self> {
        let cannot = |error: io::Error| {
            cannot_write(path).hint("check that its directory is there and can be written").source(error)
        };
        // It takes its place later, wherever this process is by then.
        let path = std::path::absolute(path).map_err(cannot)?;
        let is_other = path.symlink_metadata().is_ok_and(|there| !there.is_file());
        if is_other {
            return Err(cannot_write(&path).hint("name a file: what is there is none"));
        }
        // That it can be written is known now, and not only then.
        drop(beside(&path).map_err(cannot)?);
        let written = Written::Pending(Vec::new());
        let places = HashSet::new();
        let state = State { written, lines: 0, bytes: 0, most: MOST, error: None, places, sessions: 0 };
        let recorder = Recorder { path, state: Mutex::new(state) };
        let agentkernel = env!("CARGO_PKG_VERSION").to_owned();
        recorder.write(&Line::Cassette { version: VERSION, agentkernel });
        Ok(recorder)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Limits the bytes of the cassette.
    pub fn limit(&self, bytes: u64) {
        self.lock().most = bytes;
    }

    /// Makes a place known, or names the next session.
    pub fn place(&self, at: Option<String>) -> Result<String> {
        let mut state = self.lock();
        let at = at.unwrap_or_else(|| {
            state.sessions += 1;
            state.sessions.to_string()
        });
        match state.places.insert(at.clone()) {
            true => Ok(at),
            false => Err(Error::new(ErrorKind::Replay, "the cassette holds a run already")
                .hint("record each run into a file of its own")),
        }
    }

    /// Takes its place: a session begins.
    pub fn put(&self) -> Result<()> {
        self.lock().put(&self.path).map_err(|error| cannot_write(&self.path).source(error))
    }

    /// Writes one line, in one piece.
    pub fn write(&self, line: &Line) {
        self.lock().write(&self.path, line);
    }

    /// Writes the end; says whether all was written.
    pub fn finish(&self) -> Result<()> {
        self.put()?;
        let mut state = self.lock();
        let lines = state.lines;
        state.write(&self.path, &Line::End { lines });
        state.written = Written::Ended;
        match state.error.take() {
            Some(error) => Err(cannot_write(&self.path).source(error)),
            None => Ok(()),
        }
    }
}

impl State {
    /// Puts the file in its place.
    fn put(&mut self, path: &Path) -> io::Result<()> {
        if let Written::Pending(lines) = &self.written {
            let mut file = beside(path)?;
            file.write_all(lines)?;
            self.written = Written::File(file.persist(path)?);
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, line: &Line) {
        if matches!(self.written, Written::Ended) || self.error.is_some() {
            return;
        }
        match self.add(path, line) {
            Ok(()) => self.lines += 1,
            Err(error) => {
                tracing::warn!("the cassette `{}` cannot be written: {error}", path.display());
                self.error = Some(error);
            }
        }
    }

    fn add(&mut self, path: &Path, line: &Line) -> io::Result<()> {
        let too_long = |what: String| Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
        bytes.push(b'\n');
        self.bytes += bytes.len() as u64;
        if self.bytes > self.most {
            return too_long(format!("it would have more than {} bytes, its limit", self.most));
        }
        if bytes.len() > LINE_BYTES {
            return too_long(format!("a line of it would have more than {LINE_BYTES} bytes"));
        }
        // What a program or a model was given is lost with nothing.
        if matches!(line, Line::Event(_) | Line::Ask(_)) {
            self.put(path)?;
        }
        match &mut self.written {
            Written::Pending(lines) => lines.extend_from_slice(&bytes),
            Written::File(file) => file.write_all(&bytes)?,
            Written::Ended => {}
        }
        Ok(())
    }
}

/// A new file that is to take the place of another: it has our mode, whoever holds the old one open.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    NamedTempFile::new_in(path.parent().unwrap_or(path))
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let has_begun = matches!(self.lock().written, Written::File(_));
        if has_begun {
            let _ = self.finish();
        }
    }
}

fn cannot_write(path: &Path) -> Error {
    Error::new(ErrorKind::Replay, format!("cannot write the cassette `{}`", path.display()))
}
