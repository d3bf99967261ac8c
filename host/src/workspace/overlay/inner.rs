//! What all users of one overlay share.

use std::collections::HashMap;
use std::io::{self, Seek};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::fs::{File, Metadata};
use rustix::io::Errno;

use super::handles::{Key, OpenDirectory, OpenFile};
use super::lower::{Lower, identity, is_writable};
use super::state::{self, Data, Directory, Id, Identity, Link, Node, Op, ROOT, State, Time, join};
use super::store::{Log, Store};

/// Steps of an unfinished transaction that are kept; after more, its end writes the whole log anew.
const BUFFERED_OPS: usize = 8192;

pub struct Shared {
    /// Where the layers are, if they outlive the process.
    pub layers: Option<std::path::PathBuf>,
    pub lower: Arc<Lower>,
    /// Grows whenever something that was written may have to stay as it is.
    pub generation: AtomicU64,
    /// Bytes of files that have no name any more and are still open.
    pub orphans: Arc<AtomicU64>,
    pub inner: Mutex<Inner>,
}

pub struct Inner {
    pub state: Arc<State>,
    pub store: Arc<Store>,
    /// `None` for an overlay that ends with its process.
    pub log: Option<Log>,
    pub next: u64,
    /// Bytes of the contents that the state has.
    pub held: u64,
    pub quota: u64,
    pub checkpoints: Vec<Saved>,
    /// What an unfinished transaction did, unless it is too much.
    pub buffer: Vec<Op>,
    pub overflowed: bool,
    pub files: HashMap<Key, Weak<OpenFile>>,
    pub directories: Vec<Weak<OpenDirectory>>,
    /// Stands for a device in the identities of what is new.
    pub serial: u64,
}

/// What a checkpoint goes back to.
pub struct Saved {
    pub serial: u64,
    pub state: Arc<State>,
    pub held: u64,
    pub buffered: usize,
    pub overflowed: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.log.is_some() {
            self.store.keep();
        }
    }
}

pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(since.as_secs(), since.subsec_nanos())
}

pub fn time_of(time: io::Result<cap_std::time::SystemTime>) -> Time {
    let since =
        time.ok().and_then(|time| time.into_std().duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Time(since.as_secs(), since.subsec_nanos())
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // No step leaves anything half done in memory.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn used(&self, inner: &Inner) -> u64 {
        inner.held + self.orphans.load(Ordering::Relaxed)
    }

    /// Refuses `more` bytes that the quota has no room for.
    pub fn room(&self, inner: &Inner, more: u64) -> io::Result<()> {
        match self.used(inner).checked_add(more) {
            Some(all) if all <= inner.quota => Ok(()),
            _ => Err(Errno::NOSPC.into()),
        }
    }

    /// Makes a node of an object below, at `name` in `parent`.
    pub fn promote(
        &self,
        inner: &mut Inner,
        parent: Id,
        name: &str,
        path: &str,
        found: &Metadata,
    ) -> io::Result<Id> {
        let id = inner.number();
        let identity = identity(found);
        let node = if found.is_dir() {
            Node::Directory(Directory {
                base: Some(path.to_owned()),
                parent,
                identity,
                accessed: None,
                modified: None,
                writable: is_writable(found),
                entries: Default::default(),
            })
        } else if found.is_symlink() {
            Node::Link(Link {
                target: self.lower.link(path)?,
                links: 1,
                identity,
                accessed: time_of(found.accessed()),
                modified: time_of(found.modified()),
            })
        } else {
            Node::File(state::File { data: Data::Lower(path.to_owned()), links: 1, identity })
        };
        let mut ops = vec![Op::Put(id, node), Op::Entry(parent, name.to_owned(), Some(id))];
        if !inner.state.seen.contains_key(path) {
            ops.insert(0, Op::Seen(path.to_owned(), self.lower.look(path, found)?));
        }
        inner.change(ops)?;
        if found.is_dir() {
            inner.reanchor(parent, name, id);
        } else if let Some(open) = inner.open_file(&Key::Lower(path.to_owned())) {
            inner.files.remove(&Key::Lower(path.to_owned()));
            open.set_key(Key::Node(id));
            inner.register(Key::Node(id), &open);
        }
        Ok(id)
    }

    /// Gives a file a content that may be written, and opens it. The content is empty if all of it is to go.
    pub fn own(&self, inner: &mut Inner, id: Id, empty: bool) -> io::Result<(u64, File)> {
        let Some(state::File { data, links, identity }) = inner.state.file(id).cloned() else {
            return Err(Errno::NOENT.into());
        };
        let old = match &data {
            Data::Blob(number) => {
                let state = Arc::make_mut(&mut inner.state);
                let blob = state.blobs.get(number).ok_or(Errno::IO)?;
                let alone = Arc::strong_count(blob) == 1;
                let file = blob.open()?;
                let found = file.metadata()?;
                // Another directory of layers may have it too.
                if alone && cap_fs_ext::MetadataExt::nlink(&found) == 1 {
                    if empty && found.len() > 0 {
                        file.set_len(0)?;
                        blob.size.store(0, Ordering::Relaxed);
                        inner.held = inner.held.saturating_sub(found.len());
                    }
                    return Ok((*number, file));
                }
                file
            }
            Data::Lower(path) => self.lower.read(path)?,
        };
        let found = old.metadata()?;
        if !found.is_file() {
            return Err(Errno::PERM.into());
        }
        let replaced = if matches!(data, Data::Blob(_)) { found.len() } else { 0 };
        let size = if empty { 0 } else { found.len() };
        self.room(inner, size.saturating_sub(replaced))?;
        let number = inner.number();
        let (blob, file) = inner.store.create(number)?;
        if !empty {
            copy(&old, &file)?;
        }
        let file = file.into_std();
        file.set_permissions(old.try_clone()?.into_std().metadata()?.permissions())?;
        if !empty {
            let mut times = std::fs::FileTimes::new();
            if let (Ok(accessed), Ok(modified)) = (found.accessed(), found.modified()) {
                times = times.set_accessed(accessed.into_std()).set_modified(modified.into_std());
            }
            file.set_times(times)?;
        }
        let size = file.metadata()?.len();
        blob.size.store(size, Ordering::Relaxed);
        let before = match data {
            Data::Blob(number) => Some(number),
            Data::Lower(_) => None,
        };
        let node = state::File { data: Data::Blob(number), links, identity };
        inner.change(vec![Op::Put(id, Node::File(node))])?;
        let state = Arc::make_mut(&mut inner.state);
        state.blobs.insert(number, blob);
        if let Some(before) = before {
            state.blobs.remove(&before);
        }
        inner.held = (inner.held + size).saturating_sub(replaced);
        let file = File::from_std(file);
        if let Some(open) = inner.open_file(&Key::Node(id)) {
            open.replace(file.try_clone()?, Some(number), self.generation.load(Ordering::Relaxed));
        }
        Ok((number, file))
    }

    /// After a node is gone: its content goes, or stays as long as somebody has it open.
    pub fn release(&self, inner: &mut Inner, id: Id, data: Option<Data>) {
        if inner.state.nodes.contains_key(&id) {
            return;
        }
        let open = inner.open_file(&Key::Node(id));
        inner.files.remove(&Key::Node(id));
        let mut bytes = 0;
        // What lies below stays as it is.
        let mut is_shared = true;
        if let Some(Data::Blob(number)) = data
            && let Some(blob) = Arc::make_mut(&mut inner.state).blobs.remove(&number)
        {
            bytes = blob.size.load(Ordering::Relaxed);
            is_shared = blob.is_shared();
            inner.held = inner.held.saturating_sub(bytes);
        }
        if let Some(open) = open {
            open.orphan(bytes, is_shared);
        }
    }

    /// The steps that take `name` out of `parent`; what is below it there does not show through.
    pub fn detach_ops(&self, inner: &Inner, parent: Id, name: &str) -> io::Result<Vec<Op>> {
        let base = inner.state.directory(parent).and_then(|directory| directory.base.as_deref());
        if let Some(base) = base {
            let path = join(base, name);
            if let Some(found) = self.lower.stat(&path)? {
                let mut ops = vec![Op::Entry(parent, name.to_owned(), None)];
                if !inner.state.seen.contains_key(&path) {
                    ops.push(Op::Seen(path.clone(), self.lower.look(&path, &found)?));
                }
                return Ok(ops);
            }
        }
        Ok(vec![Op::Forget(parent, name.to_owned())])
    }
}

/// Copies bytes, in the kernel where it can.
pub fn copy(from: &File, to: &File) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?.into_std(), to.try_clone()?.into_std());
    from.rewind()?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}

impl Inner {
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn new_identity(&self, id: Id) -> Identity {
        Identity { device: self.serial, inode: id }
    }

    /// Does a change, in the log first.
    pub fn change(&mut self, ops: Vec<Op>) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            if self.checkpoints.is_empty() {
                log.refresh(&self.state)?;
                log.append(&ops, false)?;
            } else if self.buffer.len() + ops.len() > BUFFERED_OPS {
                self.overflowed = true;
            } else {
                self.buffer.extend_from_slice(&ops);
            }
        }
        let state = Arc::make_mut(&mut self.state);
        ops.into_iter().for_each(|op| state.perform(op));
        if let Some(log) = &mut self.log
            && self.checkpoints.is_empty()
            && log.is_long()
        {
            // The change is done and in the log as it is.
            if let Err(error) = log.rewrite(&self.state) {
                tracing::warn!("the log of an overlay stays long: {error}");
            }
        }
        Ok(())
    }

    /// Ends all checkpoints, with what they have not committed as it is.
    pub fn end_checkpoints(&mut self) {
        self.checkpoints.clear();
        self.buffer.clear();
        self.overflowed = false;
    }

    pub fn open_file(&self, key: &Key) -> Option<Arc<OpenFile>> {
        self.files.get(key)?.upgrade()
    }

    pub fn register(&mut self, key: Key, open: &Arc<OpenFile>) {
        if self.files.len() == self.files.capacity() {
            self.files.retain(|_, open| open.strong_count() > 0);
        }
        self.files.insert(key, Arc::downgrade(open));
    }

    pub fn register_directory(&mut self, open: &Arc<OpenDirectory>) {
        if self.directories.len() == self.directories.capacity() {
            self.directories.retain(|open| open.strong_count() > 0);
        }
        self.directories.push(Arc::downgrade(open));
    }

    pub fn open_directories(&self) -> Vec<Arc<OpenDirectory>> {
        self.directories.iter().filter_map(Weak::upgrade).collect()
    }

    /// Lets open directories at or below `name` of `parent` start from its node, so that they move with it.
    fn reanchor(&mut self, parent: Id, name: &str, id: Id) {
        for open in self.open_directories() {
            let mut place = open.place();
            if place.anchor == parent && place.below.first().is_some_and(|first| first == name) {
                place.anchor = id;
                place.below.remove(0);
            }
        }
    }

    /// Exchanges the state for another one. Open directories stay where they are, by their paths.
    pub fn exchange(&mut self, state: Arc<State>, held: u64) -> Arc<State> {
        for open in self.open_directories() {
            let mut place = open.place();
            if place.anchor == ROOT {
                continue;
            }
            if let Some(mut path) = self.state.position(place.anchor) {
                path.append(&mut place.below);
                place.anchor = ROOT;
                place.below = path;
            }
        }
        self.held = held;
        let before = std::mem::replace(&mut self.state, state);
        for open in self.open_directories() {
            let mut place = open.place();
            while let Some(name) = place.below.first()
                && let Some(directory) = self.state.directory(place.anchor)
                && let Some(entry) = directory.entries.get(name)
            {
                place.anchor = entry.unwrap_or(Id::MAX);
                place.below.remove(0);
            }
        }
        before
    }
}
