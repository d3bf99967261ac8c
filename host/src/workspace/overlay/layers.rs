//! Forks, checkpoints and what becomes of them. States share all that they have in common, so none of this copies
//! contents, and there is no stack of layers to look through.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cap_std::fs::Metadata;

use super::handles::{Key, OpenDirectory, OpenFile, Place};
use super::inner::{Inner, Saved, Shared};
use super::lower::identity;
use super::state::{Id, Node, Op, ROOT, State, join};
use super::store::Store;
use super::{Overlay, empty};
use crate::{Error, ErrorKind, Result};

/// A state that an overlay can go back to; see [`Overlay::checkpoint`].
///
/// Dropped without a word, it goes back.
#[must_use = "a checkpoint that is dropped rolls the overlay back"]
pub struct Checkpoint {
    overlay: Option<Arc<Shared>>,
    serial: u64,
}

pub fn failed(doing: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::System, format!("cannot {doing}"))
        .hint("check that its disk has room and can be written")
        .source(error)
}

impl Overlay {
    /// An overlay of its own that begins with what this one has now. They share what neither changes from here
    /// on. The new one ends with its process. Both may be in use.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn fork(&self) -> Result<Overlay> {
        let inner = self.0.lock();
        self.0.generation.fetch_add(1, Ordering::Release);
        let mut fork =
            Self::of(Arc::clone(&self.0.lower), State::default(), Arc::new(Store::temporary()), None, None);
        let shared = Arc::get_mut(&mut fork.0).expect("nobody has it yet");
        let new = shared.inner.get_mut().expect("nobody had it");
        new.state = Arc::clone(&inner.state);
        (new.next, new.held, new.quota, new.serial) = (inner.next, inner.held, inner.quota, inner.serial);
        Ok(fork)
    }

    /// As [`Overlay::fork`], with layers in a directory that outlives the process. Contents are linked where both
    /// lie on one file system, and copied elsewhere.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used or has layers already.
    pub fn fork_into(&self, layers: impl AsRef<Path>) -> Result<Overlay> {
        let layers = layers.as_ref();
        let fork = Self::load(Arc::clone(&self.0.lower), layers, true)?;
        let inner = self.0.lock();
        self.0.generation.fetch_add(1, Ordering::Release);
        let mut new = fork.0.lock();
        if new.state.nodes.len() > 1 || !new.state.seen.is_empty() {
            let message = format!("`{}` has layers already", layers.display());
            return Err(Error::new(ErrorKind::Grant, message).hint("name a directory that does not exist"));
        }
        let cannot = |error| failed(&format!("copy the layers to `{}`", layers.display()), error);
        let mut state = (*inner.state).clone();
        for blob in state.blobs.values_mut() {
            *blob = new.store.adopt(blob).map_err(cannot)?;
        }
        new.store.sync().map_err(cannot)?;
        if let Some(log) = &mut new.log {
            log.rewrite(&state).map_err(cannot)?;
        }
        new.state = Arc::new(state);
        (new.next, new.held, new.quota) = (inner.next, inner.held, inner.quota);
        drop(new);
        Ok(fork)
    }

    /// Begins a transaction: what is done from here on is kept or dropped together. Transactions nest. If the
    /// process is killed before the outermost is committed, layers that outlive it are as they were at
    /// its beginning.
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let overlay = agentkernel::Overlay::over(directory.path())?;
    /// let before = overlay.checkpoint();
    /// // … a turn …
    /// before.roll_back();
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint(&self) -> Checkpoint {
        let mut inner = self.0.lock();
        self.0.generation.fetch_add(1, Ordering::Release);
        let serial = inner.number();
        let saved = Saved {
            serial,
            state: Arc::clone(&inner.state),
            held: inner.held,
            buffered: inner.buffer.len(),
            overflowed: inner.overflowed,
        };
        inner.checkpoints.push(saved);
        Checkpoint { overlay: Some(Arc::clone(&self.0)), serial }
    }

    /// What the last transaction was called that was committed by [`Checkpoint::commit_as`]. It outlives the process
    /// with the layers, is that of a fork as well, and stays when changes are applied or discarded.
    pub fn label(&self) -> Option<u64> {
        self.0.lock().state.label
    }

    /// Drops all changes. Sessions on the overlay see the directory as it is.
    ///
    /// # Errors
    ///
    /// When a checkpoint is open, or the layers cannot be written.
    pub fn discard(&self) -> Result<()> {
        let mut inner = self.0.lock();
        self.0.no_checkpoint(&inner, "discarded")?;
        self.0.reset(&mut inner)
    }
}

impl Shared {
    /// Goes back to what a checkpoint saved, and ends it and those within it.
    pub fn roll_back(&self, inner: &mut Inner, at: usize) {
        let saved = inner.checkpoints.swap_remove(at);
        inner.checkpoints.truncate(at);
        inner.buffer.truncate(saved.buffered);
        inner.overflowed = saved.overflowed;
        self.generation.fetch_add(1, Ordering::Release);
        drop(inner.exchange(saved.state, saved.held));
    }

    pub fn no_checkpoint(&self, inner: &Inner, what: &str) -> Result<()> {
        if inner.checkpoints.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Grant, format!("an overlay with an open checkpoint cannot be {what}"))
            .hint("commit it or roll it back first"))
    }

    /// What there is when all changes are forgotten.
    pub fn unchanged(&self, inner: &Inner) -> Result<State> {
        Ok(State { label: inner.state.label, ..empty(&self.lower)? })
    }

    /// Forgets all changes; with an error, none.
    pub fn reset(self: &Arc<Self>, inner: &mut Inner) -> Result<()> {
        let state = self.unchanged(inner)?;
        if let Some(log) = &mut inner.log {
            log.rewrite(&state).map_err(|error| failed("write the layers", error))?;
        }
        self.begin_anew(inner, state, |open, found| identity(found) == open.identity());
        Ok(())
    }

    /// Goes on without changes. Open files go on as what has their names below, where that is the same to them.
    pub fn begin_anew(
        self: &Arc<Self>,
        inner: &mut Inner,
        state: State,
        is_same: impl Fn(&OpenFile, &Metadata) -> bool,
    ) {
        self.generation.fetch_add(1, Ordering::Release);
        let before = inner.exchange(Arc::new(state), 0);
        let mut files: HashMap<Id, Arc<OpenFile>> = HashMap::new();
        for (key, open) in &inner.files {
            if let (Key::Node(id), Some(open)) = (key, open.upgrade()) {
                files.insert(*id, open);
            }
        }
        if files.is_empty() {
            return;
        }
        for (id, node) in &before.nodes {
            let Node::Directory(directory) = &**node else { continue };
            for (name, child) in &directory.entries {
                let Some((id_of_file, open)) = child.and_then(|child| files.get_key_value(&child)) else {
                    continue;
                };
                let Some(below) = before.position(*id) else { continue };
                let path = join(&below.join("/"), name);
                let found = self.lower.stat(&path).ok().flatten().filter(Metadata::is_file);
                if let Some(found) = found.filter(|found| is_same(open, found))
                    && let Ok(file) = self.lower.read(&path)
                {
                    let home = OpenDirectory::new(self, inner, Place { anchor: ROOT, below });
                    open.settle(home, name.clone(), path.clone(), file, identity(&found));
                    inner.register(Key::Lower(path), open);
                    // Under one of its names is enough.
                    let settled = *id_of_file;
                    files.remove(&settled);
                }
            }
        }
    }
}

impl Checkpoint {
    /// Keeps what was done since, also in transactions within. In layers that outlive the process it is kept in one step.
    ///
    /// # Errors
    ///
    /// When the layers cannot be written: then it is rolled back.
    pub fn commit(self) -> Result<()> {
        self.end(None)
    }

    /// As [`Checkpoint::commit`], and calls what is kept by a number in the same step: [`Overlay::label`] says afterwards,
    /// in any process, whether this transaction was kept. It waits for the disk.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::commit`].
    pub fn commit_as(self, label: u64) -> Result<()> {
        self.end(Some(label))
    }

    fn end(mut self, label: Option<u64>) -> Result<()> {
        let Some(overlay) = &self.overlay else { return Ok(()) };
        let mut inner = overlay.lock();
        let Some(at) = inner.checkpoints.iter().position(|saved| saved.serial == self.serial) else {
            let message = "the checkpoint is over: one before it was committed or rolled back";
            return Err(
                Error::new(ErrorKind::Grant, message).hint("end checkpoints in the order of their nesting")
            );
        };
        let written = label.map_or(Ok(()), |label| inner.change(vec![Op::Label(label)]));
        if let Err(error) = written {
            drop(inner);
            return Err(failed("write the layers", error));
        }
        let Inner { log, buffer, overflowed, state, .. } = &mut *inner;
        if at == 0
            && let Some(log) = log
        {
            let written = match *overflowed || log.is_stale {
                true => log.rewrite(state),
                false if buffer.is_empty() => Ok(()),
                false => log.append(buffer, label.is_some()),
            };
            if let Err(error) = written {
                drop(inner);
                return Err(failed("write the layers", error));
            }
            buffer.clear();
            *overflowed = false;
        }
        // Contents that only the checkpoint had go now.
        inner.checkpoints.truncate(at);
        drop(inner);
        self.overlay = None;
        Ok(())
    }

    /// Drops what was done since, also in transactions within.
    pub fn roll_back(self) {}

    /// Does something with the overlay, if this is the only checkpoint of it.
    pub(super) fn alone(
        &self,
        what: &str,
        act: impl FnOnce(&Arc<Shared>, &mut Inner) -> Result<()>,
    ) -> Result<()> {
        if let Some(overlay) = &self.overlay {
            let mut inner = overlay.lock();
            if inner.checkpoints.len() == 1 && inner.checkpoints[0].serial == self.serial {
                return act(overlay, &mut inner);
            }
        }
        let message =
            format!("the overlay cannot be {what}: another checkpoint of it is open, or this one is over");
        Err(Error::new(ErrorKind::Grant, message).hint("commit the others, or roll them back"))
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        let Some(overlay) = &self.overlay else { return };
        let mut inner = overlay.lock();
        if let Some(at) = inner.checkpoints.iter().position(|saved| saved.serial == self.serial) {
            overlay.roll_back(&mut inner, at);
        }
    }
}
