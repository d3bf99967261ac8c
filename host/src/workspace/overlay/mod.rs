//! A directory with changes laid over it: the program sees both, and the directory stays as it is.
//!
//! The overlay is a file system of its own in memory that holds only what differs: `state` says what, `walk`
//! finds things in it and below, `acts` changes it. Contents of files lie in a `store`, one host file each; a
//! file is copied there when it is first opened to be written. Nothing of this has names in the program's
//! tree. States are values: a fork, a checkpoint and a roll-back keep or exchange one.

mod acts;
mod apply;
mod diff;
mod handles;
mod inner;
mod journal;
mod layers;
mod listing;
mod lower;
mod moves;
mod plan;
mod record;
mod settle;
mod state;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(super) use acts::Opened;
pub use diff::{Change, ChangeKind, Diff, Object, ObjectKind};
use handles::Place;
pub(super) use handles::{OpenDirectory, OpenFile};
use inner::{Inner, Shared};
pub use layers::Checkpoint;
pub(super) use listing::Entries;
use lower::Lower;
pub use plan::{Conflict, ConflictKind};
pub(crate) use record::root as records;
pub use settle::Side;
use state::{Node, ROOT, State};
use store::{Loaded, Log, Store};

use crate::Result;

/// Bytes that an overlay holds unless it is told otherwise.
const QUOTA: u64 = 1 << 30;

/// A directory whose changes are kept apart from it.
///
/// A session whose workspace is an overlay sees the directory and may change all in it; its changes go to
/// layers of the overlay, and the directory is not touched. Nothing is copied or looked through beforehand.
/// Clones are the same overlay.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path();
/// use agentkernel::{Grants, Kernel, Overlay, Workspace};
///
/// std::fs::write(directory.join("notes.txt"), "one\n").unwrap();
/// let overlay = Overlay::over(directory)?;
/// let mut grants = Grants::default();
/// grants.workspace = Workspace::Overlay(overlay.clone());
/// let mut session = Kernel::new()?.session().grants(grants).start()?;
/// session.run_blocking("open('notes.txt', 'a').write('two\\n')")?;
///
/// assert_eq!(std::fs::read(directory.join("notes.txt")).unwrap(), b"one\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Overlay(Arc<Shared>);

impl PartialEq for Overlay {
    /// Whether it is the same overlay.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Overlay {}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay")
            .field("directory", &self.0.lower.path)
            .field("layers", &self.0.layers)
            .finish()
    }
}

/// An empty state over a directory.
fn empty(lower: &Lower) -> Result<State> {
    let found = lower.directory.dir_metadata().map_err(|error| {
        let message = format!("cannot look at the directory `{}`", lower.path.display());
        crate::Error::new(crate::ErrorKind::System, message).source(error)
    })?;
    Ok(State::new(lower::identity(&found), lower::is_writable(&found)))
}

impl Overlay {
    /// Lays an empty overlay over a directory. Its changes lie in a private temporary directory and end with the
    /// last clone of it and the last session on it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened, or a change of it was begun that cannot be finished, or not by this user.
    pub fn over(directory: impl AsRef<Path>) -> Result<Self> {
        let lower = Lower::open(directory.as_ref())?;
        journal::recover(&lower)?;
        let state = empty(&lower)?;
        Ok(Self::of(lower, state, Arc::new(Store::temporary()), None, None))
    }

    /// Lays over a directory what `layers`, another directory, holds from before; it is made if it does not exist.
    /// Every change is in it at once, so that it is there in another process, also after this one was killed.
    ///
    /// # Errors
    ///
    /// When a directory cannot be opened, the layers were made over another directory or are open elsewhere, and
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) when they are not as they were written.
    pub fn open(directory: impl AsRef<Path>, layers: impl AsRef<Path>) -> Result<Self> {
        let lower = Lower::open(directory.as_ref())?;
        Self::load(Arc::new(lower), layers.as_ref(), false)
    }

    /// As [`Overlay::open`], for layers that no program has changed since they were
    /// [forked](Overlay::fork_into): a content that is missing is damage. Where programs change layers, it may only be one that
    /// was removed shortly before the machine lost power, and is empty then.
    ///
    /// # Errors
    ///
    /// As [`Overlay::open`].
    pub fn open_whole(directory: impl AsRef<Path>, layers: impl AsRef<Path>) -> Result<Self> {
        let lower = Lower::open(directory.as_ref())?;
        Self::load(Arc::new(lower), layers.as_ref(), true)
    }

    fn load(lower: Arc<Lower>, at: &Path, whole: bool) -> Result<Self> {
        let existing = std::path::absolute(at).unwrap_or_else(|_| at.to_owned());
        let existing = existing.ancestors().find_map(|path| path.canonicalize().ok());
        if existing.is_some_and(|path| path.starts_with(&lower.path)) {
            let message = format!("the layers in `{}` would lie in the directory below them", at.display());
            return Err(crate::Error::new(crate::ErrorKind::Grant, message)
                .hint("name a directory that is not in the workspace"));
        }
        journal::recover(&lower)?;
        let fresh = empty(&lower)?;
        let Loaded { mut log, store, state, applying } = Log::open(at, &lower.path, whole, || fresh.clone())?;
        let path = at.canonicalize().unwrap_or_else(|_| at.to_owned());
        if applying.is_some() {
            // All that was begun is finished by now, and this was not.
            log.not_applied().map_err(|error| layers::failed("write the layers", error))?;
        }
        Ok(Self::of(lower, state, store, Some(log), Some(path)))
    }

    fn of(
        lower: impl Into<Arc<Lower>>,
        state: State,
        store: Arc<Store>,
        log: Option<Log>,
        layers: Option<PathBuf>,
    ) -> Self {
        let next = state.nodes.keys().chain(state.blobs.keys()).max().copied().unwrap_or(ROOT);
        let held = state.blobs.values().map(|blob| blob.size.load(Ordering::Relaxed)).sum();
        let serial = state.nodes.values().find_map(|node| match &**node {
            Node::Directory(directory) if directory.base.is_none() => Some(directory.identity.device),
            _ => None,
        });
        let inner = Inner {
            state: Arc::new(state),
            store,
            log,
            next,
            held,
            quota: QUOTA,
            checkpoints: Vec::new(),
            buffer: Vec::new(),
            overflowed: false,
            files: HashMap::new(),
            directories: Vec::new(),
            serial: serial.unwrap_or_else(|| fastrand::u64(1 << 63..)),
        };
        Overlay(Arc::new(Shared {
            lower: lower.into(),
            layers,
            generation: AtomicU64::new(0),
            orphans: Arc::new(AtomicU64::new(0)),
            inner: Mutex::new(inner),
        }))
    }

    /// Lets the overlay hold that many bytes; what is copied to be changed counts. Default: 1 GiB. A program that
    /// would exceed it sees `OSError` with `ENOSPC`. What open checkpoints go back to is not counted.
    pub fn set_quota(&self, bytes: u64) {
        self.0.lock().quota = bytes;
    }

    /// Bytes that the overlay holds, in contents of files.
    pub fn held_bytes(&self) -> u64 {
        let inner = self.0.lock();
        self.0.used(&inner)
    }

    /// The directory below.
    pub fn directory(&self) -> &Path {
        &self.0.lower.path
    }

    /// Where the layers are, if they outlive the process.
    pub fn layers(&self) -> Option<&Path> {
        self.0.layers.as_deref()
    }

    /// The top, opened.
    pub(super) fn top(&self) -> Arc<OpenDirectory> {
        let mut inner = self.0.lock();
        OpenDirectory::new(&self.0, &mut inner, Place { anchor: ROOT, below: Vec::new() })
    }
}
