//! The directories a session was granted: `wasi:filesystem` on cap-std.
//!
//! This is the only place that opens a path of the host, and it opens only granted ones. Below a
//! granted directory every path is resolved by cap-std, which never leaves it, whatever symbolic
//! links and other processes do. What a session may use (open files, bytes written, path length) is
//! counted here.
//!
//! It is ours and not wasmtime-wasi's because that one has no limits and hides its directories.

mod descriptor;
mod error;
mod files;
mod listing;
mod node;
mod overlay;
mod preopen;
mod stream;
mod taped;
mod temporary;
mod tree;
mod types;
mod view;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use wasmtime::component::{HasData, Linker, ResourceTable};

pub(crate) use descriptor::is_granted_directory;
pub(crate) use overlay::records;
pub use overlay::{
    Change, ChangeKind, Checkpoint, Conflict, ConflictKind, Diff, Object, ObjectKind, Overlay, Side,
};
pub use preopen::Access;
pub(crate) use preopen::{Preopen, open_directory, open_preopen};
pub use tree::{copy_tree, remove_tree};
pub use view::{Files, WorkspaceFile};

use crate::replay::FileTape;
use crate::{Error, ErrorKind, Result};

mod bindings {
    //! `wasi:filesystem` 0.2, with the streams of wasmtime-wasi.
    wasmtime::component::bindgen!({
        path: "wit",
        world: "agentkernel:filesystem/host",
        imports: { default: trappable },
        // For the tape of a session that is recorded.
        additional_derives: [serde::Serialize, serde::Deserialize],
        with: {
            "wasi:io/error.error": wasmtime_wasi::p2::IoError,
            "wasi:io/streams.input-stream": wasmtime_wasi::p2::DynInputStream,
            "wasi:io/streams.output-stream": wasmtime_wasi::p2::DynOutputStream,
            "wasi:filesystem/types.descriptor": super::descriptor::Descriptor,
            "wasi:filesystem/types.directory-entry-stream": super::listing::Listing,
        },
    });
}

/// How much of the granted directories a session may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilesystemLimits {
    /// Files, directories and listings open at once.
    pub open_files: u32,
    /// Bytes written over the session's life; growing a file counts as writing.
    pub write_bytes: u64,
    /// Files, directories and links made, less those removed.
    pub new_entries: u32,
    /// Length of a path.
    pub path_bytes: u32,
}

/// A session's directories and what it has used of its limits.
pub(crate) struct FilesystemCtx {
    preopens: Vec<Preopen>,
    budget: Budget,
    path_bytes: usize,
    missed: Cell<Option<Missed>>,
    /// Of a session that is recorded or replayed.
    tape: Option<FileTape>,
}

/// What a guest asked for last of what it was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    /// Any directory: there is none.
    Directories,
    /// To write in a directory that it may only read.
    Writing(usize),
}

impl FilesystemCtx {
    /// # Errors
    ///
    /// When two directories stand at the same path, or one below another.
    pub fn new(preopens: Vec<Preopen>, limits: FilesystemLimits) -> Result<Self> {
        Self::sharing(preopens, limits, None)
    }

    /// What is left of the limits, to be shared.
    pub fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// As [`FilesystemCtx::new`], with the budget of another one if there is one.
    pub fn sharing(preopens: Vec<Preopen>, limits: FilesystemLimits, budget: Option<Budget>) -> Result<Self> {
        for (index, one) in preopens.iter().enumerate() {
            for other in &preopens[..index] {
                let (one, other) = (&one.guest_path, &other.guest_path);
                if one == other {
                    let message = format!("two directories are granted at `{one}`");
                    return Err(Error::new(ErrorKind::Grant, message).hint("give each a path of its own"));
                }
                // The guest finds a directory by the text of a path, so `/a/./b` would lead past `/a/b`.
                let below = |inner: &str, outer: &str| {
                    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
                };
                if below(one, other) || below(other, one) {
                    let message = format!("of `{one}` and `{other}` one is granted below the other");
                    return Err(Error::new(ErrorKind::Grant, message)
                        .hint("give each a path beside the others, like `/data` beside `/workspace`"));
                }
            }
        }
        Ok(FilesystemCtx {
            preopens,
            budget: budget.unwrap_or_else(|| Budget::new(limits)),
            path_bytes: limits.path_bytes as usize,
            missed: Cell::new(None),
            tape: None,
        })
    }

    /// Records all that the guest does here, or replays it: then no directory is touched.
    pub fn set_tape(&mut self, tape: FileTape) {
        self.tape = Some(tape);
    }

    /// The workspace, or a directory in it.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn workspace(&self, below: &std::path::Path) -> Result<node::DirectoryNode> {
        let missing = |message: String| Error::new(ErrorKind::Grant, message);
        let workspace = self.preopens.first().ok_or_else(|| missing("there is no workspace".into()))?;
        let directory = workspace.directory()?;
        if below.as_os_str().is_empty() {
            return Ok(directory);
        }
        directory.directory(&below.to_string_lossy()).map_err(|error| {
            missing(format!("cannot open `{}` in the workspace", below.display())).source(error)
        })
    }

    /// The files of the workspace, for the host to look at.
    pub fn files(&self) -> Option<Files> {
        let workspace = self.preopens.first()?;
        Some(Files::new(workspace.clone(), self.path_bytes))
    }

    /// Copies a temporary workspace, if it was made by now.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn copy_workspace(&self, to: &FilesystemCtx) -> Result<()> {
        let (Some(from), Some(to)) = (self.preopens.first(), to.preopens.first()) else { return Ok(()) };
        let Some(from) = from.made() else { return Ok(()) };
        let to = to.temporary_directory()?;
        tree::copy_all(from, to).map_err(|error| {
            Error::new(ErrorKind::System, "cannot copy the temporary workspace").source(error)
        })
    }

    /// What the guest asked for since this was called last and was not granted: the path of a directory
    /// in which it may not write, or nothing if it was granted no directory.
    pub fn missed(&self) -> Option<Option<&str>> {
        Some(match self.missed.take()? {
            Missed::Directories => None,
            Missed::Writing(mount) => Some(self.preopens.get(mount)?.guest_path.as_str()),
        })
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.budget.0.written.load(Ordering::Relaxed)
    }
}

/// What is left of the limits; shared with every open file.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Counters>);

struct Counters {
    open_limit: u32,
    open: AtomicU32,
    write_limit: u64,
    written: AtomicU64,
    entry_limit: u32,
    entries: AtomicU32,
}

/// One open file, directory or listing, counted until the last of its users is gone.
struct Opened(Budget);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    fn new(limits: FilesystemLimits) -> Self {
        Budget(Arc::new(Counters {
            open_limit: limits.open_files,
            open: AtomicU32::new(0),
            write_limit: limits.write_bytes,
            written: AtomicU64::new(0),
            entry_limit: limits.new_entries,
            entries: AtomicU32::new(0),
        }))
    }

    fn open(&self) -> Option<Arc<Opened>> {
        let counters = &self.0;
        counters
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < counters.open_limit).then_some(open + 1)
            })
            .ok()?;
        Some(Arc::new(Opened(self.clone())))
    }

    /// Takes up to `wanted` bytes and says how many there were.
    fn write(&self, wanted: u64) -> u64 {
        let counters = &self.0;
        let mut granted = 0;
        let _ = counters.written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |written| {
            granted = wanted.min(counters.write_limit - written);
            Some(written + granted)
        });
        granted
    }

    /// Makes a file, directory or link, if there may be another.
    fn entry<T>(&self, make: impl FnOnce() -> std::io::Result<T>) -> error::Result<T> {
        let counters = &self.0;
        counters
            .entries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |entries| {
                (entries < counters.entry_limit).then_some(entries + 1)
            })
            .map_err(|_| error::ErrorCode::Quota)?;
        Ok(make().inspect_err(|_| self.entry_gone())?)
    }

    /// One less. What the session did not make counts too: the sum is what grows.
    fn entry_gone(&self) {
        let _ = self
            .0
            .entries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |entries| entries.checked_sub(1));
    }

    /// Gives back what was taken and not used.
    fn refund(&self, bytes: u64) {
        self.0.written.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A store's filesystem, with the table that its handles are in.
pub(crate) struct FilesystemCtxView<'a> {
    pub ctx: &'a mut FilesystemCtx,
    pub table: &'a mut ResourceTable,
}

/// Store data that has a filesystem.
pub(crate) trait FilesystemView: Send + 'static {
    fn filesystem(&mut self) -> FilesystemCtxView<'_>;
}

struct Filesystem;

impl HasData for Filesystem {
    type Data<'a> = FilesystemCtxView<'a>;
}

/// Links `wasi:filesystem`.
pub(crate) fn add_to_linker<T: FilesystemView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::wasi::filesystem::types::add_to_linker::<T, Filesystem>(linker, T::filesystem)?;
    bindings::wasi::filesystem::preopens::add_to_linker::<T, Filesystem>(linker, T::filesystem)
}
