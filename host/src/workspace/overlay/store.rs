//! Where an overlay keeps what was written: a flat directory of contents, named by numbers, and in one that is to
//! outlive the process a log of all else.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cap_std::fs::{Dir, File, OpenOptions};
use serde::{Deserialize, Serialize};

use super::super::temporary::TempWorkspace;
use super::lower::sync;
use super::state::{Op, State};
use crate::{Error, ErrorKind, Result};

const LOG: &str = "log.jsonl";
const NEW_LOG: &str = "log.new";
const BLOBS: &str = "files";
const LOCK: &str = "lock";
const APPLIED: &str = "applied";

/// Steps in one line of a log that is written anew.
const OPS_PER_LINE: usize = 512;

/// A log this much longer than it needs to be is written anew.
const LOG_SLACK: u64 = 1 << 20;

/// A directory of contents.
pub struct Store {
    blobs: OnceLock<Dir>,
    /// Made with the first content: most overlays have none.
    temporary: OnceLock<TempWorkspace>,
    /// Whether contents are left where they are when nobody here needs them any more.
    kept: AtomicBool,
    /// That of the layers: a fork that needs their contents keeps them in use.
    _lock: Option<std::fs::File>,
}

/// The content of a file. It is removed when no state has it.
pub struct Blob {
    pub store: Arc<Store>,
    pub number: u64,
    pub size: AtomicU64,
}

impl Drop for Blob {
    fn drop(&mut self) {
        if !self.store.kept.load(Ordering::Relaxed)
            && let Some(blobs) = self.store.blobs.get()
        {
            let _ = blobs.remove_file(self.number.to_string());
        }
    }
}

impl Blob {
    /// Whether another state, or another directory of layers, has it too.
    pub fn is_shared(self: &Arc<Self>) -> bool {
        let links = self.metadata().map(|found| cap_fs_ext::MetadataExt::nlink(&found));
        Arc::strong_count(self) > 1 || links.is_ok_and(|links| links > 1)
    }

    /// What it is like; its mode does not matter.
    pub fn metadata(&self) -> io::Result<cap_std::fs::Metadata> {
        self.store.directory()?.symlink_metadata(self.number.to_string())
    }

    /// Opens it, to be written too if its mode lets us.
    pub fn open(&self) -> io::Result<File> {
        let (directory, name) = (self.store.directory()?, self.number.to_string());
        let mut options = OpenOptions::new();
        match directory.open_with(&name, options.read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => directory.open(&name),
            opened => opened,
        }
    }
}

impl Store {
    pub fn temporary() -> Self {
        Store {
            blobs: OnceLock::new(),
            temporary: OnceLock::new(),
            kept: AtomicBool::new(false),
            _lock: None,
        }
    }

    fn directory(&self) -> io::Result<&Dir> {
        if let Some(directory) = self.blobs.get() {
            return Ok(directory);
        }
        let made = TempWorkspace::new().and_then(|made| Ok((made.open()?, made)));
        let (directory, workspace) = made.map_err(io::Error::other)?;
        if self.temporary.set(workspace).is_ok() {
            let _ = self.blobs.set(directory);
        }
        self.blobs.get().ok_or_else(|| io::Error::other("the overlay has no directory"))
    }

    /// Nothing more is removed.
    pub fn keep(&self) {
        if self.temporary.get().is_none() {
            self.kept.store(true, Ordering::Relaxed);
        }
    }

    /// A new empty content.
    pub fn create(self: &Arc<Self>, number: u64) -> io::Result<(Arc<Blob>, File)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = self.directory()?.open_with(number.to_string(), &options)?;
        Ok((Arc::new(Blob { store: Arc::clone(self), number, size: AtomicU64::new(0) }), file))
    }

    /// A content of another store, linked where that can be and copied elsewhere.
    pub fn adopt(self: &Arc<Self>, other: &Blob) -> io::Result<Arc<Blob>> {
        let name = other.number.to_string();
        let (from, to) = (other.store.directory()?, self.directory()?);
        let is_linked = from.hard_link(&name, to, &name).is_ok();
        if !is_linked {
            from.copy(&name, to, &name)?;
        }
        // The log will say that it is there. What is linked from other layers is as safe as it was in them.
        if !is_linked || other.store.temporary.get().is_some() {
            match to.open(&name) {
                // Nobody can read what may only be written; its log can still be kept.
                Err(error) if is_linked && error.kind() == io::ErrorKind::PermissionDenied => {}
                opened => opened?.sync_all()?,
            }
        }
        let size = AtomicU64::new(other.size.load(Ordering::Relaxed));
        Ok(Arc::new(Blob { store: Arc::clone(self), number: other.number, size }))
    }

    /// Waits until the names of contents are on the disk.
    pub fn sync(&self) -> io::Result<()> {
        sync(self.directory()?, "");
        Ok(())
    }

    /// Fills in the contents that a state's files have, and removes all others. Where layers are not `whole`, one may be missing.
    fn fill(self: &Arc<Self>, state: &mut State, whole: bool) -> io::Result<()> {
        use super::state::{Data, Node};
        let mut wanted: std::collections::HashSet<u64> = Default::default();
        for node in state.nodes.values() {
            if let Node::File(file) = &**node
                && let Data::Blob(number) = file.data
            {
                wanted.insert(number);
            }
        }
        let directory = self.directory()?;
        for entry in directory.entries()? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            if number.is_none_or(|number: u64| !wanted.contains(&number)) {
                directory.remove_file(&name)?;
            }
        }
        for number in wanted {
            let name = number.to_string();
            let size = match directory.metadata(&name) {
                Ok(found) => found.len(),
                // A machine that lost power may have lost a content that a later change had removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && whole => {
                    let message = format!("the content `{BLOBS}/{name}` is gone");
                    return Err(io::Error::new(error.kind(), message));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    directory.write(&name, b"")?;
                    0
                }
                Err(error) => return Err(error),
            };
            let size = AtomicU64::new(size);
            state.blobs.insert(number, Arc::new(Blob { store: Arc::clone(self), number, size }));
        }
        Ok(())
    }
}

/// What the first line of every log has.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "agentkernel-overlay")]
    version: u32,
}

/// The first line of a log.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "agentkernel-overlay")]
    version: u32,
    lower: String,
    /// Which overlay it is, for those that find a half-done `apply`.
    name: String,
}

/// Any other line.
#[derive(Serialize, Deserialize)]
enum Line {
    Ops(Vec<Op>),
    /// From here on the changes may be in the directory already; the journal of that name tells.
    Applying(String),
    /// They were not.
    NotApplied,
}

/// Each change of an overlay, written before it is done.
pub struct Log {
    directory: Dir,
    file: File,
    header: Header,
    length: u64,
    needed: u64,
    /// What it says was applied, and it could not be written anew yet.
    pub is_stale: bool,
    _lock: std::fs::File,
}

/// What a directory of layers held.
pub struct Loaded {
    pub log: Log,
    pub store: Arc<Store>,
    pub state: State,
    /// The `apply` that was begun last, if it is not known how it ended.
    pub applying: Option<String>,
}

impl Log {
    /// Opens or makes a directory of layers over `lower`.
    pub fn open(layers: &Path, lower: &Path, whole: bool, empty: impl Fn() -> State) -> Result<Loaded> {
        let shown = layers.display();
        let failed = |error: io::Error| {
            Error::new(ErrorKind::System, format!("cannot use `{shown}` for the layers of an overlay"))
                .hint("check its permissions, or name another directory")
                .source(error)
        };
        let damaged = |what: String| {
            Error::new(ErrorKind::Damaged, format!("the layers in `{shown}` are damaged: {what}"))
                .hint("put the directory back from a copy, or remove it to lose its changes")
        };
        let is_new = !layers.exists();
        std::fs::create_dir_all(layers).map_err(failed)?;
        let directory = Dir::open_ambient_dir(layers, cap_std::ambient_authority()).map_err(failed)?;
        if is_new && let Ok(parent) = directory.open_parent_dir(cap_std::ambient_authority()) {
            sync(&parent, "");
        }
        let mut options = OpenOptions::new();
        let lock = directory.open_with(LOCK, options.write(true).create(true)).map_err(failed)?.into_std();
        lock.try_lock().map_err(|_| {
            Error::new(ErrorKind::System, format!("the layers in `{shown}` are in use"))
                .hint("end the session that uses them, or name another directory")
        })?;
        directory.create_dir_all(BLOBS).map_err(failed)?;
        let blobs = directory.open_dir(BLOBS).map_err(failed)?;
        let store = Arc::new(Store {
            blobs: OnceLock::from(blobs),
            temporary: OnceLock::new(),
            kept: AtomicBool::new(false),
            _lock: Some(lock.try_clone().map_err(failed)?),
        });
        let lower = lower.to_string_lossy().into_owned();
        let mut text = Vec::new();
        match directory.open(LOG) {
            Ok(mut file) => drop(file.read_to_end(&mut text).map_err(failed)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // What a killed process wrote half of has no end of line.
        let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = text[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let Some(first) = lines.next() else {
            let name = format!("{:016x}", fastrand::u64(..));
            let header = Header { version: 1, lower, name };
            let mut state = empty();
            let log = Self::create(directory, header, &state, lock).map_err(failed)?;
            store.fill(&mut state, whole).map_err(failed)?;
            return Ok(Loaded { log, store, state, applying: None });
        };
        // A newer one may have another head.
        let Version { version } =
            serde_json::from_slice(first).map_err(|error| damaged(error.to_string()))?;
        if version != 1 {
            let message = format!("the layers in `{shown}` have the format {version}, which is not known");
            return Err(Error::new(ErrorKind::System, message)
                .hint("use the version of AgentKernel that wrote them, or a newer one"));
        }
        let header: Header = serde_json::from_slice(first).map_err(|error| damaged(error.to_string()))?;
        if header.lower != lower {
            let message = format!("the layers in `{shown}` were made over `{}`", header.lower);
            return Err(Error::new(ErrorKind::Grant, message)
                .hint("open them over that directory, or name another directory for the layers"));
        }
        let mut state = State::default();
        let mut applying = None;
        for (number, line) in lines.enumerate() {
            let read = serde_json::from_slice(line);
            match read.map_err(|error| damaged(format!("line {}: {error}", number + 2)))? {
                Line::Ops(ops) => ops.into_iter().for_each(|op| state.perform(op)),
                Line::Applying(name) => applying = Some(name),
                Line::NotApplied => applying = None,
            }
        }
        if let Some(name) = &applying
            && directory.read_to_string(APPLIED).is_ok_and(|applied| applied == *name)
        {
            // Somebody else finished it.
            let label = state.label;
            (state, applying) = (State { label, ..empty() }, None);
        }
        if state.directory(super::state::ROOT).is_none() {
            return Err(damaged("there is no top directory".into()));
        }
        // Before contents are removed that the log as it is does not need.
        let mut log = Self::create(directory, header, &state, lock).map_err(failed)?;
        if let Some(name) = &applying {
            log.applying(name).map_err(failed)?;
        }
        store.fill(&mut state, whole).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => damaged(error.to_string()),
            // Of the machine: the layers may be sound.
            _ => failed(error),
        })?;
        Ok(Loaded { log, store, state, applying })
    }

    fn create(directory: Dir, header: Header, state: &State, lock: std::fs::File) -> io::Result<Self> {
        let mut file = directory.create(NEW_LOG)?;
        let mut text = serde_json::to_vec(&header)?;
        text.push(b'\n');
        let mut ops = state.ops().peekable();
        while ops.peek().is_some() {
            serde_json::to_writer(&mut text, &Line::Ops(ops.by_ref().take(OPS_PER_LINE).collect()))?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        file.sync_data()?;
        directory.rename(NEW_LOG, &directory, LOG)?;
        sync(&directory, "");
        let length = text.len() as u64;
        Ok(Log { directory, file, header, length, needed: length, is_stale: false, _lock: lock })
    }

    /// Replaces the log by one that only has this state.
    pub fn rewrite(&mut self, state: &State) -> io::Result<()> {
        let (directory, lock) = (self.directory.try_clone()?, self._lock.try_clone()?);
        let Header { version, lower, name } = &self.header;
        let header = Header { version: *version, lower: lower.clone(), name: name.clone() };
        *self = Self::create(directory, header, state, lock)?;
        Ok(())
    }

    /// Brings it in line with the state before something is appended, if it is not.
    pub fn refresh(&mut self, state: &State) -> io::Result<()> {
        if self.is_stale { self.rewrite(state) } else { Ok(()) }
    }

    /// Appends a line, and waits until it is on the disk if it is to be `synced`.
    fn line(&mut self, line: &Line, synced: bool) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| match synced {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        if let Err(error) = written {
            // A line without an end would make the next one unreadable.
            self.file.set_len(self.length)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += text.len() as u64;
        Ok(())
    }

    pub fn append(&mut self, ops: &[Op], synced: bool) -> io::Result<()> {
        self.line(&Line::Ops(ops.to_vec()), synced)
    }

    /// Whether it is far longer than it needs to be.
    pub fn is_long(&self) -> bool {
        self.length > 2 * self.needed + LOG_SLACK
    }

    pub fn applying(&mut self, name: &str) -> io::Result<()> {
        self.line(&Line::Applying(name.to_owned()), true)
    }

    pub fn not_applied(&mut self) -> io::Result<()> {
        self.line(&Line::NotApplied, false)
    }
}

/// Tells the owner of layers, wherever it is, that its changes are in the directory. Nothing is written where
/// no `apply` of that name was begun: they may have been made anew.
pub fn tell_applied(layers: &Path, name: &str) -> io::Result<()> {
    let directory = match Dir::open_ambient_dir(layers, cap_std::ambient_authority()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let Ok(log) = directory.read(LOG) else { return Ok(()) };
    let line = serde_json::to_vec(&Line::Applying(name.to_owned()))?;
    if !log.split(|byte| *byte == b'\n').any(|there| there == line) {
        return Ok(());
    }
    let temporary = format!("{APPLIED}.new");
    let mut file = directory.create(&temporary)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    directory.rename(&temporary, &directory, APPLIED)?;
    // Before what else says so is removed.
    sync(&directory, "");
    Ok(())
}
