//! Open files and directories of an overlay.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::{File, FileExt, Metadata};
use rustix::io::Errno;

use super::acts::Status;
use super::inner::{Inner, Shared, copy};
use super::state::{Data, Id, Identity};

/// Which file is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Node(Id),
    /// Unchanged below.
    Lower(String),
    /// Without a name.
    Orphan,
}

/// An open file, the same one for all who have it open.
pub struct OpenFile {
    overlay: Arc<Shared>,
    backing: Mutex<Backing>,
    /// Bytes that it holds without a name.
    bytes: AtomicU64,
}

struct Backing {
    key: Key,
    file: Arc<File>,
    /// Which content that is; none is the file below.
    blob: Option<u64>,
    /// When it was last known to be the file's.
    read: u64,
    /// When it was last known to be nobody else's.
    written: u64,
    /// Of an orphan whose content others need as it is.
    is_shared: bool,
    identity: Identity,
    /// Where a file that is unchanged below stands.
    home: Option<(Arc<OpenDirectory>, String)>,
}

impl Backing {
    fn below(home: Arc<OpenDirectory>, name: String, path: String, file: File, of: Identity) -> Self {
        Backing {
            key: Key::Lower(path),
            file: Arc::new(file),
            blob: None,
            read: home.overlay.generation.load(Ordering::Relaxed),
            written: u64::MAX,
            is_shared: false,
            identity: of,
            home: Some((home, name)),
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.overlay.orphans.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

impl OpenFile {
    /// A file with a content, which may be written only if it `is_owned`.
    pub fn new(
        overlay: &Arc<Shared>,
        id: Id,
        file: File,
        blob: Option<u64>,
        is_owned: bool,
        of: Identity,
    ) -> Self {
        let generation = overlay.generation.load(Ordering::Relaxed);
        let backing = Backing {
            key: Key::Node(id),
            file: Arc::new(file),
            blob,
            read: generation,
            written: if is_owned { generation } else { u64::MAX },
            is_shared: false,
            identity: of,
            home: None,
        };
        let (overlay, backing) = (Arc::clone(overlay), Mutex::new(backing));
        OpenFile { overlay, backing, bytes: AtomicU64::new(0) }
    }

    /// A file below, which stands as `name` in `home`.
    pub fn below(home: Arc<OpenDirectory>, name: String, path: String, file: File, of: Identity) -> Self {
        let overlay = Arc::clone(&home.overlay);
        let backing = Mutex::new(Backing::below(home, name, path, file, of));
        OpenFile { overlay, backing, bytes: AtomicU64::new(0) }
    }

    /// From here on it is a file below, for all who have it open.
    pub fn settle(&self, home: Arc<OpenDirectory>, name: String, path: String, file: File, of: Identity) {
        *self.backing() = Backing::below(home, name, path, file, of);
    }

    pub fn identity(&self) -> Identity {
        self.backing().identity
    }

    fn backing(&self) -> MutexGuard<'_, Backing> {
        self.backing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_key(&self, key: Key) {
        self.backing().key = key;
    }

    pub fn replace(&self, file: File, blob: Option<u64>, generation: u64) {
        let mut backing = self.backing();
        (backing.file, backing.blob) = (Arc::new(file), blob);
        (backing.read, backing.written) = (generation, generation);
    }

    /// It has no name any more.
    pub fn orphan(&self, bytes: u64, is_shared: bool) {
        let mut backing = self.backing();
        (backing.key, backing.is_shared) = (Key::Orphan, is_shared);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.overlay.orphans.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The file to read. It is looked for anew after all was put back to an earlier state.
    fn current(&self) -> io::Result<Arc<File>> {
        let generation = self.overlay.generation.load(Ordering::Acquire);
        let key = {
            let backing = self.backing();
            match &backing.key {
                Key::Node(id) if backing.read != generation => *id,
                _ => return Ok(Arc::clone(&backing.file)),
            }
        };
        let inner = self.overlay.lock();
        self.follow(&inner, key)?;
        Ok(Arc::clone(&self.backing().file))
    }

    /// Takes the content that the state has for the file.
    fn follow(&self, inner: &Inner, id: Id) -> io::Result<()> {
        let generation = self.overlay.generation.load(Ordering::Acquire);
        let known = self.backing().blob;
        match inner.state.file(id).map(|file| &file.data) {
            None => self.orphan(0, true),
            Some(Data::Blob(number)) if known != Some(*number) => {
                let blob = inner.state.blobs.get(number).ok_or(Errno::IO)?;
                self.replace(blob.open()?, Some(*number), generation);
                self.backing().written = u64::MAX;
            }
            Some(Data::Lower(path)) if known.is_some() => {
                self.replace(self.overlay.lower.read(path)?, None, generation);
            }
            // Still its content, but it may not be its own any more: a writer has to look.
            Some(_) => self.backing().read = generation,
        }
        Ok(())
    }

    /// The file to write, which nobody else needs as it is.
    fn owned(&self, inner: &mut Inner) -> io::Result<Arc<File>> {
        let generation = self.overlay.generation.load(Ordering::Acquire);
        let (mut key, mut is_shared) = {
            let backing = self.backing();
            if backing.blob.is_some() && !backing.is_shared && backing.written == generation {
                return Ok(Arc::clone(&backing.file));
            }
            (backing.key.clone(), backing.is_shared)
        };
        if let Key::Node(id) = key
            && inner.state.file(id).is_none()
        {
            // It was dropped meanwhile, and a fork may still have its content.
            self.orphan(0, true);
            (key, is_shared) = (Key::Orphan, true);
        }
        if let Key::Lower(_) = key {
            let home = self.backing().home.clone();
            let (home, name) = home.ok_or(Errno::BADF)?;
            home.promote_child(inner, &name)?;
            key = self.backing().key.clone();
        }
        match key {
            Key::Node(id) => {
                let (number, file) = self.overlay.own(inner, id, false)?;
                self.replace(file, Some(number), generation);
            }
            // Somebody else has put another one in its place.
            Key::Lower(_) => return Err(Errno::STALE.into()),
            Key::Orphan if is_shared => {
                let old = Arc::clone(&self.backing().file);
                let size = old.metadata()?.len();
                let more = size.saturating_sub(self.bytes.load(Ordering::Relaxed));
                self.overlay.room(inner, more)?;
                let number = inner.number();
                // It loses its only name at once.
                let (_blob, file) = inner.store.create(number)?;
                copy(&old, &file)?;
                self.replace(file, Some(number), generation);
                let mut backing = self.backing();
                (backing.is_shared, backing.key) = (false, Key::Orphan);
                self.bytes.fetch_add(more, Ordering::Relaxed);
                self.overlay.orphans.fetch_add(more, Ordering::Relaxed);
            }
            Key::Orphan => self.backing().written = generation,
        }
        Ok(Arc::clone(&self.backing().file))
    }

    /// Counts a file's new length.
    fn count(&self, inner: &mut Inner, before: u64, after: u64) {
        let backing = self.backing();
        if backing.key == Key::Orphan {
            let orphans = &self.overlay.orphans;
            if after > before {
                self.bytes.fetch_add(after - before, Ordering::Relaxed);
                orphans.fetch_add(after - before, Ordering::Relaxed);
            } else {
                let less = (before - after).min(self.bytes.load(Ordering::Relaxed));
                self.bytes.fetch_sub(less, Ordering::Relaxed);
                orphans.fetch_sub(less, Ordering::Relaxed);
            }
        } else {
            inner.held = (inner.held + after).saturating_sub(before);
            if let Some(blob) = backing.blob.and_then(|number| inner.state.blobs.get(&number)) {
                blob.size.store(after, Ordering::Relaxed);
            }
        }
    }

    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.current()?.read_at(buffer, offset)
    }

    pub fn status(&self) -> io::Result<Status> {
        let metadata = self.metadata()?;
        let links = self.links(&metadata);
        Ok(Status::Of(Box::new(metadata), Some(links), self.identity()))
    }

    pub fn metadata(&self) -> io::Result<Metadata> {
        self.current()?.metadata()
    }

    /// Under how many names the file is known.
    fn links(&self, found: &Metadata) -> u64 {
        let key = self.backing().key.clone();
        match key {
            Key::Orphan => 0,
            Key::Lower(_) => cap_fs_ext::MetadataExt::nlink(found),
            Key::Node(id) => self.overlay.lock().state.file(id).map_or(0, |file| file.links.into()),
        }
    }

    /// Writes at `offset`, or at the end; less than asked where the quota ends.
    pub fn write_at(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
        let mut inner = self.overlay.lock();
        let file = self.owned(&mut inner)?;
        let before = file.metadata()?.len();
        let offset = offset.unwrap_or(before);
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
        let room = inner.quota.saturating_sub(self.overlay.used(&inner));
        let over = end.saturating_sub(before).saturating_sub(room);
        let bytes = match (bytes.len() as u64).checked_sub(over) {
            None | Some(0) if !bytes.is_empty() => return Err(Errno::NOSPC.into()),
            fitting => &bytes[..fitting.unwrap_or(0) as usize],
        };
        let written = file.write_at(bytes, offset);
        let after = file.metadata()?.len();
        self.count(&mut inner, before, after);
        written
    }

    pub fn set_len(&self, size: u64) -> io::Result<()> {
        let mut inner = self.overlay.lock();
        let file = self.owned(&mut inner)?;
        let before = file.metadata()?.len();
        self.overlay.room(&inner, size.saturating_sub(before))?;
        file.set_len(size)?;
        self.count(&mut inner, before, size);
        Ok(())
    }

    pub fn set_times(&self, times: std::fs::FileTimes) -> io::Result<()> {
        let mut inner = self.overlay.lock();
        self.owned(&mut inner)?.try_clone()?.into_std().set_times(times)
    }

    pub fn sync(&self, data: bool) -> io::Result<()> {
        let file = self.current()?;
        if data { file.sync_data() } else { file.sync_all() }
    }
}

/// Where an open directory is: a node, and names below it that are unchanged.
#[derive(Clone, Debug)]
pub struct Place {
    pub anchor: Id,
    pub below: Vec<String>,
}

/// An open directory.
pub struct OpenDirectory {
    pub overlay: Arc<Shared>,
    place: Mutex<Place>,
}

impl OpenDirectory {
    pub fn new(overlay: &Arc<Shared>, inner: &mut Inner, place: Place) -> Arc<Self> {
        let open = Arc::new(OpenDirectory { overlay: Arc::clone(overlay), place: Mutex::new(place) });
        inner.register_directory(&open);
        open
    }

    pub fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
