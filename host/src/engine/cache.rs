//! Compiled interpreters on disk, so that only the first start ever compiles.
//!
//! An entry is a directory named after everything that shaped its content. It is written beside
//! its place and renamed into it, so that it is whole or absent. What is loaded from it is machine
//! code, so an entry is used only if nobody but this user could have written it, and if each file
//! has the length that was written; anything else is built anew.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::guest::hex;
use crate::Result;
use crate::telemetry::spans;

const COMPILED: &str = "guest.cwasm";
const IMAGE: &str = "guest.image";
const NOTES: &str = "guest.json";
const INDEX: &str = "entry.json";

/// What an entry is called while it is written. One of a process that was killed stays.
const BUILDING: &str = ".building-";

/// What compiling gives.
pub(crate) struct Built {
    pub compiled: Vec<u8>,
    /// The memory that instances start from; empty where wasmtime owns it.
    pub image: Vec<u8>,
    /// What is known about that memory.
    pub notes: Vec<u8>,
}

impl Built {
    fn files(&self) -> [(&'static str, &[u8]); 3] {
        [(COMPILED, &self.compiled), (IMAGE, &self.image), (NOTES, &self.notes)]
    }
}

/// Something to start from.
pub(crate) enum Artefact {
    Stored(Entry),
    /// The cache could not be used: what was just built.
    Fresh(Built),
}

/// An entry that passed its checks.
pub(crate) struct Entry {
    directory: PathBuf,
}

impl Entry {
    pub fn compiled(&self) -> PathBuf {
        self.directory.join(COMPILED)
    }

    pub fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    pub fn notes(&self) -> PathBuf {
        self.directory.join(NOTES)
    }
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Index {
    files: Vec<Listed>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Listed {
    name: String,
    bytes: u64,
    sha256: String,
}

/// The directory of entries. Everything that goes wrong with it is reported and then done without.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: Option<PathBuf>,
    /// What was found, and what was not.
    used: Arc<[AtomicU64; 2]>,
}

/// One entry as `agentkernel cache info` shows it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CacheEntry {
    /// The entry's name: a hash of everything that shaped it.
    pub key: String,
    /// Its size on disk.
    pub bytes: u64,
    /// Why it would not be used, if so.
    pub problem: Option<String>,
}

impl Cache {
    /// A cache at `root`; with none, every start compiles.
    pub fn new(root: Option<PathBuf>) -> Self {
        Cache { root, used: Arc::default() }
    }

    /// `AGENTKERNEL_CACHE_DIR`, or the user's cache directory.
    pub fn default_root() -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("AGENTKERNEL_CACHE_DIR").or_else(|| {
            let base = if cfg!(target_os = "macos") {
                variable("HOME").map(|home| home.join("Library/Caches"))
            } else {
                variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
            };
            base.map(|base| base.join("agentkernel"))
        })
    }

    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// How often something was found, and how often it was not.
    pub fn used(&self) -> (u64, u64) {
        let [hits, misses] = &*self.used;
        (hits.load(Ordering::Relaxed), misses.load(Ordering::Relaxed))
    }

    /// What `load` makes of the entry `key`, which is built if it is not there or cannot be loaded.
    /// `waiting` is called before another process is waited for that builds it.
    ///
    /// # Errors
    ///
    /// Those of `build`, and those of `load` for what was just built.
    pub fn get<T>(
        &self,
        key: &str,
        waiting: impl FnOnce(),
        build: impl FnOnce() -> Result<Built>,
        load: impl Fn(&Artefact) -> Result<T>,
    ) -> Result<T> {
        let [hits, misses] = &*self.used;
        let found = |loaded| {
            hits.fetch_add(1, Ordering::Relaxed);
            Ok(loaded)
        };
        let build = || {
            misses.fetch_add(1, Ordering::Relaxed);
            spans::artefact(key).in_scope(build)
        };
        let Some(root) = &self.root else {
            return load(&Artefact::Fresh(build()?));
        };
        let directory = root.join(key);
        let stored = || -> Result<T, Problem> {
            check(root, &directory)?;
            let entry = Artefact::Stored(Entry { directory: directory.clone() });
            load(&entry).map_err(|error| Problem::Useless(error.to_string()))
        };
        if let Ok(loaded) = stored() {
            return found(loaded);
        }
        // One process builds, the others wait for it. Without a lock each builds its own.
        let _lock = lock(root, key, waiting)
            .inspect_err(|error| tracing::debug!("no lock in the compilation cache: {error}"));
        match stored() {
            Ok(loaded) => return found(loaded),
            Err(Problem::Absent) => {}
            Err(problem) => tracing::warn!("the cached interpreter is built anew: {problem}"),
        }
        let built = build()?;
        match store(root, &directory, &built) {
            Ok(()) => load(&Artefact::Stored(Entry { directory })),
            Err(error) => {
                tracing::warn!(
                    "cannot keep the compiled interpreter in `{}`, so the next start compiles again: {error}",
                    root.display()
                );
                load(&Artefact::Fresh(built))
            }
        }
    }

    /// All entries, with what is wrong with them. Reads every byte.
    pub fn entries(&self) -> io::Result<Vec<CacheEntry>> {
        let mut entries = Vec::new();
        for (key, path) in self.directories()? {
            let bytes = fs::read_dir(&path)?
                .filter_map(|file| file.ok()?.metadata().ok())
                .map(|metadata| metadata.len())
                .sum();
            let problem = match self.root.as_deref().map(|root| check(root, &path)) {
                Some(Err(problem)) => Some(problem.to_string()),
                _ => damaged(&path)?.map(|name| format!("`{name}` is not what was written")),
            };
            entries.push(CacheEntry { key, bytes, problem });
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Removes all entries and says how many bytes that freed.
    pub fn clear(&self) -> io::Result<u64> {
        let mut freed = 0;
        for entry in self.entries()? {
            freed += entry.bytes;
        }
        // What stands in the way of one entry is in the way of no other.
        let removed: Vec<_> = self.directories()?.iter().map(|(_, path)| remove(path)).collect();
        removed.into_iter().collect::<io::Result<()>>()?;
        Ok(freed)
    }

    /// Those that are entries: the directory may hold other things, and may be named by mistake.
    fn directories(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let Some(root) = &self.root else {
            return Ok(Vec::new());
        };
        let listing = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let mut found = Vec::new();
        for entry in listing {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_entry(&name) && entry.file_type()?.is_dir() {
                found.push((name, entry.path()));
            }
        }
        Ok(found)
    }
}

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("it is not there")]
    Absent,
    #[error("`{0}` belongs to another user")]
    Foreign(String),
    #[error("`{0}` can be written by others")]
    Writable(String),
    #[error("`{0}` is not a regular file or directory")]
    Kind(String),
    #[error("`{0}` is cut short or has grown")]
    Length(String),
    #[error("its index cannot be read: {0}")]
    Index(String),
    #[error("it cannot be loaded: {0}")]
    Useless(String),
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Problem::Absent } else { Problem::Io(error) }
    }
}

fn check(root: &Path, directory: &Path) -> Result<(), Problem> {
    trusted(root, true)?;
    trusted(directory, true)?;
    let index = directory.join(INDEX);
    trusted(&index, false)?;
    let index: Index =
        serde_json::from_slice(&fs::read(index)?).map_err(|error| Problem::Index(error.to_string()))?;
    for listed in &index.files {
        if ![COMPILED, IMAGE, NOTES].contains(&listed.name.as_str()) {
            return Err(Problem::Index(format!("it lists `{}`", listed.name)));
        }
        if trusted(&directory.join(&listed.name), false)? != listed.bytes {
            return Err(Problem::Length(listed.name.clone()));
        }
    }
    if index.files.iter().all(|listed| listed.name == NOTES) {
        return Err(Problem::Index(format!("it lists neither `{COMPILED}` nor `{IMAGE}`")));
    }
    Ok(())
}

/// The length of `path`, if nobody else can have written it.
fn trusted(path: &Path, directory: bool) -> Result<u64, Problem> {
    let metadata = if directory && path.is_symlink() {
        // A user may well have put the cache on another disk.
        fs::metadata(path)?
    } else {
        fs::symlink_metadata(path)?
    };
    let name = || path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    if if directory { !metadata.is_dir() } else { !metadata.is_file() } {
        return Err(Problem::Kind(name()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(Problem::Foreign(name()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(Problem::Writable(name()));
        }
    }
    Ok(metadata.len())
}

/// The first file whose content is not what was written.
fn damaged(directory: &Path) -> io::Result<Option<String>> {
    let index: Index = serde_json::from_slice(&fs::read(directory.join(INDEX))?)?;
    for listed in index.files {
        let mut hash = Sha256::new();
        io::copy(&mut File::open(directory.join(&listed.name))?, &mut hash)?;
        if hex(&hash.finalize()) != listed.sha256 {
            return Ok(Some(listed.name));
        }
    }
    Ok(None)
}

fn private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Makes the cache directory, if nobody else can write to it.
fn own(root: &Path) -> io::Result<()> {
    private(root)?;
    trusted(root, true).map(drop).map_err(io::Error::other)
}

fn lock(root: &Path, key: &str, waiting: impl FnOnce()) -> io::Result<File> {
    own(root)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(root.join(format!("{key}.lock")))?;
    if file.try_lock().is_err() {
        waiting();
        file.lock()?;
    }
    Ok(file)
}

fn store(root: &Path, directory: &Path, built: &Built) -> io::Result<()> {
    own(root)?;
    let temporary = tempfile::Builder::new().prefix(BUILDING).tempdir_in(root)?;
    let mut index = Index { files: Vec::new() };
    for (name, bytes) in built.files() {
        if !bytes.is_empty() {
            write(&temporary.path().join(name), bytes)?;
            index.files.push(Listed {
                name: name.to_owned(),
                bytes: bytes.len() as u64,
                sha256: hex(&Sha256::digest(bytes)),
            });
        }
    }
    write(&temporary.path().join(INDEX), &serde_json::to_vec(&index)?)?;
    match remove(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(temporary.path(), directory)
}

/// Whether that is the name of an entry: a kind and half a SHA-256, or what is being built.
fn is_entry(name: &str) -> bool {
    let is_hash = |hash: &str| {
        hash.len() == 32 && hash.bytes().all(|digit| digit.is_ascii_digit() || matches!(digit, b'a'..=b'f'))
    };
    name.starts_with(BUILDING) || name.rsplit_once('-').is_some_and(|(_, hash)| is_hash(hash))
}

/// Removes an entry and nothing else: what somebody has put into it stays, and it with that.
fn remove(directory: &Path) -> io::Result<()> {
    for name in [INDEX, COMPILED, IMAGE, NOTES] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => {
            let message = format!("`{}` holds files that are not the cache's", directory.display());
            io::Error::new(error.kind(), message)
        }
        _ => error,
    })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut options = File::options();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
