//! Writing a cassette.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::line::{Line, VERSION};
use crate::{Error, ErrorKind, Result};

/// Bytes that a cassette may have where nobody says.
const MOST: u64 = 1 << 30;

/// A cassette that is being written.
pub struct Recorder {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Nothing once the end is written.
    file: Option<File>,
    /// Where it is until a session begins: what is in its place is not lost for one that is refused.
    beside: Option<tempfile::TempPath>,
    lines: u64,
    bytes: u64,
    most: u64,
    error: Option<io::Error>,
    places: HashSet<String>,
    sessions: u64,
}

impl Recorder {
    pub fn create(path: &Path) -> Result<Self> {
        let cannot = |error: io::Error| cannot_write(path).source(error);
        // A new file in the place of an old one has our mode, whoever holds the old one open.
        let regular = |path: &Path| match path.symlink_metadata() {
            Ok(there) => there.is_file(),
            Err(_) => true,
        };
        if !regular(path) {
            return Err(cannot_write(path).hint("name a file: what is there is none"));
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).map_err(cannot)?;
        let (file, beside) = file.into_parts();
        let (file, beside, places) = (Some(file), Some(beside), HashSet::new());
        let state = State { file, beside, lines: 0, bytes: 0, most: MOST, error: None, places, sessions: 0 };
        let recorder = Recorder { path: path.to_owned(), state: Mutex::new(state) };
        let agentkernel = env!("CARGO_PKG_VERSION").to_owned();
        recorder.write(&Line::Cassette { version: VERSION, agentkernel });
        let error = recorder.lock().error.take();
        error.map_or(Ok(recorder), |error| Err(cannot(error)))
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
        state.put(&self.path)?;
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

    /// Writes one line, in one piece.
    pub fn write(&self, line: &Line) {
        self.lock().write(&self.path, line);
    }

    /// Writes the end; says whether all was written.
    pub fn finish(&self) -> Result<()> {
        let mut state = self.lock();
        state.put(&self.path)?;
        let lines = state.lines;
        state.write(&self.path, &Line::End { lines });
        state.file = None;
        match state.error.take() {
            Some(error) => Err(cannot_write(&self.path).source(error)),
            None => Ok(()),
        }
    }
}

impl State {
    /// Puts the file in its place.
    fn put(&mut self, path: &Path) -> Result<()> {
        match self.beside.take() {
            None => Ok(()),
            Some(beside) => beside.persist(path).map_err(|error| cannot_write(path).source(error.error)),
        }
    }

    fn write(&mut self, path: &Path, line: &Line) {
        let (Some(file), None) = (&mut self.file, &self.error) else { return };
        let written = serde_json::to_vec(line).map_err(io::Error::other).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.bytes += bytes.len() as u64;
            if self.bytes > self.most {
                let message = format!("it would have more than {} bytes, its limit", self.most);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            file.write_all(&bytes)
        });
        match written {
            Ok(()) => self.lines += 1,
            Err(error) => {
                tracing::warn!("the cassette `{}` cannot be written: {error}", path.display());
                self.error = Some(error);
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let has_begun = {
            let state = self.lock();
            state.file.is_some() && state.beside.is_none()
        };
        if has_begun {
            let _ = self.finish();
        }
    }
}

fn cannot_write(path: &Path) -> Error {
    Error::new(ErrorKind::Replay, format!("cannot write the cassette `{}`", path.display()))
}
