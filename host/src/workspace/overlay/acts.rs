//! What a program does with an overlay's files and directories.

use std::io;
use std::sync::Arc;

use cap_fs_ext::SystemTimeSpec;
use cap_std::fs::Metadata;
use rustix::io::Errno;

use super::super::Budget;
use super::super::descriptor::absolute;
use super::super::error::{Fault, Result};
use super::super::node::How;
use super::handles::{Key, OpenDirectory, OpenFile, Place};
use super::inner::{Inner, Shared, now, time_of};
use super::lower::{identity, is_writable};
use super::state::{self, Data, Directory, Id, Identity, Link, Node, Op, Time};
use super::walk::{Follow, Found, Kind, Spot, Target};

/// What `open` gave.
pub enum Opened {
    File(Arc<OpenFile>),
    Directory(Arc<OpenDirectory>),
}

/// What an object is like.
pub enum Status {
    /// As a file of the host is, under that many names.
    Of(Box<Metadata>, Option<u64>, Identity),
    Directory(Option<Box<Metadata>>, Option<Time>, Option<Time>, Identity),
    Link(Link),
}

pub fn errno<T>(errno: Errno) -> io::Result<T> {
    Err(errno.into())
}

fn seconds(spec: SystemTimeSpec) -> Time {
    let since = absolute(spec).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(since.as_secs(), since.subsec_nanos())
}

impl Target {
    /// Where the path's directory is.
    fn place(&self) -> Place {
        place(&self.dirs)
    }

    pub fn name(&self, otherwise: Errno) -> io::Result<&str> {
        self.name.as_deref().ok_or_else(|| otherwise.into())
    }
}

fn place(dirs: &[(Spot, String)]) -> Place {
    let at = dirs.iter().rposition(|(spot, _)| matches!(spot, Spot::Node(_))).unwrap_or(0);
    let anchor = match dirs.get(at) {
        Some((Spot::Node(id), _)) => *id,
        _ => Id::MAX,
    };
    Place { anchor, below: dirs.iter().skip(at + 1).map(|(_, name)| name.clone()).collect() }
}

impl Shared {
    /// The directory in which something is to be changed.
    pub fn parent(&self, inner: &mut Inner, target: &mut Target) -> io::Result<Id> {
        let id = self.materialise(inner, &mut target.dirs)?;
        match inner.state.directory(id) {
            Some(directory) if directory.writable => Ok(id),
            Some(_) => errno(Errno::ACCESS),
            None => errno(Errno::NOENT),
        }
    }

    fn status(&self, inner: &Inner, found: &Found) -> io::Result<Status> {
        Ok(match found {
            Found::Lower(_, metadata) => {
                let of = identity(metadata);
                Status::Of(metadata.clone(), None, of)
            }
            Found::Node(id) => match inner.state.nodes.get(id).map(|node| &**node) {
                None => return errno(Errno::NOENT),
                Some(Node::Link(link)) => Status::Link(link.clone()),
                Some(Node::Directory(directory)) => {
                    let base = match &directory.base {
                        Some(base) => self.lower.stat(base)?.filter(Metadata::is_dir).map(Box::new),
                        None => None,
                    };
                    Status::Directory(base, directory.accessed, directory.modified, directory.identity)
                }
                Some(Node::File(file)) => {
                    let metadata = match &file.data {
                        Data::Lower(path) => self.lower.stat(path)?.ok_or(Errno::NOENT)?,
                        Data::Blob(number) => {
                            // Its mode may keep us from reading it, but not from asking.
                            inner.state.blobs.get(number).ok_or(Errno::IO)?.metadata()?
                        }
                    };
                    Status::Of(Box::new(metadata), Some(file.links.into()), file.identity)
                }
            },
        })
    }
}

impl OpenDirectory {
    fn walk(&self, inner: &Inner, path: &str, follow: bool) -> io::Result<Target> {
        let follow = if follow { Follow::Yes } else { Follow::No };
        let place = self.place().clone();
        self.overlay.walk(inner, &place, path, follow)
    }

    /// For what is done to a name itself.
    pub fn walk_to_name(&self, inner: &Inner, path: &str) -> io::Result<Target> {
        let place = self.place().clone();
        self.overlay.walk(inner, &place, path, Follow::Never)
    }

    fn at(&self, target: &Target) -> io::Result<Found> {
        if let Some(found) = &target.found {
            return Ok(found.clone());
        }
        if target.name.is_some() {
            return errno(Errno::NOENT);
        }
        match target.dirs.last() {
            Some((Spot::Node(id), _)) => Ok(Found::Node(*id)),
            Some((Spot::Lower(path), _)) => {
                let found = self.overlay.lower.stat(path)?.ok_or(Errno::NOENT)?;
                Ok(Found::Lower(path.clone(), Box::new(found)))
            }
            None => errno(Errno::NOENT),
        }
    }

    /// Makes a node of a file of this directory that is open.
    pub fn promote_child(&self, inner: &mut Inner, name: &str) -> io::Result<()> {
        let mut target = self.walk(inner, name, false)?;
        let found = target.found.clone().ok_or(Errno::NOENT)?;
        let parent = self.overlay.materialise(inner, &mut target.dirs)?;
        self.overlay.node(inner, parent, name, &found).map(drop)
    }

    pub(in super::super) fn open(&self, path: &str, how: &How, budget: &Budget) -> Result<Opened> {
        let overlay = &self.overlay;
        let mut inner = overlay.lock();
        let exclusive = how.create && how.exclusive;
        let mut target = self.walk(&inner, path, how.follow && !exclusive)?;
        let found = match (&target.found, &target.name) {
            (None, Some(name)) if how.create => {
                if target.slash {
                    return Err(Fault::from(io::Error::from(Errno::ISDIR)));
                }
                let name = name.clone();
                return budget.entry(|| {
                    let parent = overlay.parent(&mut inner, &mut target)?;
                    self.create(&mut inner, parent, &name).map(Opened::File)
                });
            }
            _ => self.at(&target)?,
        };
        Ok(self.open_found(&mut inner, target, found, how)?)
    }

    fn open_found(&self, inner: &mut Inner, target: Target, found: Found, how: &How) -> io::Result<Opened> {
        let overlay = &self.overlay;
        if how.create && how.exclusive {
            return errno(Errno::EXIST);
        }
        match overlay.kind(inner, &found)? {
            Kind::Link => errno(Errno::LOOP),
            Kind::Directory if how.write || how.create => errno(Errno::ISDIR),
            Kind::Directory => {
                let mut dirs = target.dirs;
                match (&found, target.name) {
                    (_, None) => {}
                    (Found::Node(id), Some(name)) => dirs.push((Spot::Node(*id), name)),
                    (Found::Lower(path, _), Some(name)) => {
                        // One that may not be read cannot be opened.
                        drop(overlay.lower.read(path)?);
                        dirs.push((Spot::Lower(path.clone()), name));
                    }
                }
                Ok(Opened::Directory(OpenDirectory::new(overlay, inner, place(&dirs))))
            }
            _ if target.slash || how.directory => errno(Errno::NOTDIR),
            Kind::Other => errno(Errno::PERM),
            Kind::File => {
                let Some(name) = target.name.clone() else { return errno(Errno::NOENT) };
                self.open_file(inner, target, &name, found, how).map(Opened::File)
            }
        }
    }

    fn create(&self, inner: &mut Inner, parent: Id, name: &str) -> io::Result<Arc<OpenFile>> {
        let overlay = &self.overlay;
        let number = inner.number();
        let (blob, file) = inner.store.create(number)?;
        let identity = inner.new_identity(number);
        let node = state::File { data: Data::Blob(number), links: 1, identity };
        Shared::put(inner, parent, name, number, Node::File(node))?;
        Arc::make_mut(&mut inner.state).blobs.insert(number, blob);
        let open = Arc::new(OpenFile::new(overlay, number, file, Some(number), true, identity));
        inner.register(Key::Node(number), &open);
        Ok(open)
    }

    fn open_file(
        &self,
        inner: &mut Inner,
        mut target: Target,
        name: &str,
        found: Found,
        how: &How,
    ) -> io::Result<Arc<OpenFile>> {
        let overlay = &self.overlay;
        if !how.write {
            let key = match &found {
                Found::Node(id) => Key::Node(*id),
                Found::Lower(path, _) => Key::Lower(path.clone()),
            };
            if let Some(open) = inner.open_file(&key) {
                return Ok(open);
            }
            let open = match found {
                Found::Lower(path, _) => {
                    let file = overlay.lower.read(&path)?;
                    let metadata = file.metadata()?;
                    if !metadata.is_file() {
                        // Another process was faster.
                        return errno(Errno::PERM);
                    }
                    let home = OpenDirectory::new(overlay, inner, target.place());
                    OpenFile::below(home, name.to_owned(), path, file, identity(&metadata))
                }
                Found::Node(id) => {
                    let node = inner.state.file(id).ok_or(Errno::NOENT)?;
                    let (file, blob) = match &node.data {
                        Data::Lower(path) => (overlay.lower.read(path)?, None),
                        Data::Blob(number) => {
                            (inner.state.blobs.get(number).ok_or(Errno::IO)?.open()?, Some(*number))
                        }
                    };
                    OpenFile::new(overlay, id, file, blob, false, node.identity)
                }
            };
            let open = Arc::new(open);
            inner.register(key, &open);
            return Ok(open);
        }
        let metadata = match overlay.status(inner, &found)? {
            Status::Of(metadata, ..) => *metadata,
            _ => return errno(Errno::NOENT),
        };
        if !is_writable(&metadata) {
            return errno(Errno::ACCESS);
        }
        let parent = overlay.materialise(inner, &mut target.dirs)?;
        let id = overlay.node(inner, parent, name, &found)?;
        let open = inner.open_file(&Key::Node(id));
        let (number, file) = overlay.own(inner, id, how.truncate)?;
        if let Some(open) = open {
            open.replace(file, Some(number), overlay.generation.load(std::sync::atomic::Ordering::Relaxed));
            return Ok(open);
        }
        let identity = inner.state.file(id).ok_or(Errno::NOENT)?.identity;
        let open = Arc::new(OpenFile::new(overlay, id, file, Some(number), true, identity));
        inner.register(Key::Node(id), &open);
        Ok(open)
    }

    pub fn create_directory(&self, path: &str) -> io::Result<()> {
        let mut inner = self.overlay.lock();
        let mut target = self.walk_to_name(&inner, path)?;
        let name = target.name(Errno::EXIST)?.to_owned();
        if target.found.is_some() {
            return errno(Errno::EXIST);
        }
        let parent = self.overlay.parent(&mut inner, &mut target)?;
        let id = inner.number();
        let node = Directory {
            base: None,
            parent,
            identity: inner.new_identity(id),
            accessed: Some(now()),
            modified: Some(now()),
            writable: true,
            entries: Default::default(),
        };
        Shared::put(&mut inner, parent, &name, id, Node::Directory(node))
    }

    pub fn symlink(&self, to: &str, path: &str) -> io::Result<()> {
        let mut inner = self.overlay.lock();
        let mut target = self.walk_to_name(&inner, path)?;
        let name = target.name(Errno::EXIST)?.to_owned();
        if target.found.is_some() {
            return errno(Errno::EXIST);
        }
        if target.slash {
            return errno(Errno::NOENT);
        }
        if to.contains('\0') {
            return errno(Errno::INVAL);
        }
        let parent = self.overlay.parent(&mut inner, &mut target)?;
        let id = inner.number();
        let identity = inner.new_identity(id);
        let link = Link { target: to.to_owned(), links: 1, identity, accessed: now(), modified: now() };
        Shared::put(&mut inner, parent, &name, id, Node::Link(link))
    }

    pub fn read_link(&self, path: &str) -> io::Result<String> {
        let inner = self.overlay.lock();
        let target = self.walk(&inner, path, false)?;
        let found = self.at(&target)?;
        if target.slash && self.overlay.kind(&inner, &found)? != Kind::Directory {
            return errno(Errno::NOTDIR);
        }
        let link = match found {
            Found::Lower(path, metadata) if metadata.is_symlink() => self.overlay.lower.link(&path)?,
            Found::Node(id) => match inner.state.nodes.get(&id).map(|node| &**node) {
                Some(Node::Link(link)) => link.target.clone(),
                _ => return errno(Errno::INVAL),
            },
            Found::Lower(..) => return errno(Errno::INVAL),
        };
        // It would tell a path of the host.
        if link.starts_with('/') { errno(Errno::PERM) } else { Ok(link) }
    }

    pub fn remove_directory(&self, path: &str) -> io::Result<()> {
        let mut inner = self.overlay.lock();
        let mut target = self.walk_to_name(&inner, path)?;
        let name = target.name(Errno::INVAL)?.to_owned();
        let found = target.found.clone().ok_or(Errno::NOENT)?;
        if self.overlay.kind(&inner, &found)? != Kind::Directory {
            return errno(Errno::NOTDIR);
        }
        if !self.overlay.is_empty(&inner, &found)? {
            return errno(Errno::NOTEMPTY);
        }
        let parent = self.overlay.parent(&mut inner, &mut target)?;
        // As a node, so that those who have it open lose it.
        let id = self.overlay.node(&mut inner, parent, &name, &found)?;
        let mut ops = self.overlay.detach_ops(&inner, parent, &name)?;
        ops.extend([Op::Drop(id), Op::Touch(parent, now())]);
        inner.change(ops)
    }

    pub fn remove_file(&self, path: &str) -> io::Result<()> {
        let mut inner = self.overlay.lock();
        let mut target = self.walk_to_name(&inner, path)?;
        let name = target.name(Errno::ISDIR)?.to_owned();
        let found = target.found.clone().ok_or(Errno::NOENT)?;
        match self.overlay.kind(&inner, &found)? {
            Kind::Directory => return errno(Errno::ISDIR),
            _ if target.slash => return errno(Errno::NOTDIR),
            _ => {}
        }
        let parent = self.overlay.parent(&mut inner, &mut target)?;
        let mut ops = self.overlay.detach_ops(&inner, parent, &name)?;
        ops.push(Op::Touch(parent, now()));
        match found {
            Found::Lower(path, _) => {
                inner.change(ops)?;
                // Whoever has it open goes on without its name.
                if let Some(open) = inner.files.remove(&Key::Lower(path)).and_then(|open| open.upgrade()) {
                    open.orphan(0, true);
                }
            }
            Found::Node(id) => {
                let data = inner.state.file(id).map(|file| file.data.clone());
                ops.push(inner.state.unlink(id, 1));
                inner.change(ops)?;
                self.overlay.release(&mut inner, id, data);
            }
        }
        Ok(())
    }

    pub fn status(&self) -> io::Result<Status> {
        self.status_at(".", true)
    }

    pub fn status_at(&self, path: &str, follow: bool) -> io::Result<Status> {
        let inner = self.overlay.lock();
        let target = self.walk(&inner, path, follow)?;
        let found = self.at(&target)?;
        if target.slash && self.overlay.kind(&inner, &found)? != Kind::Directory {
            return errno(Errno::NOTDIR);
        }
        self.overlay.status(&inner, &found)
    }

    pub fn set_times_at(
        &self,
        path: &str,
        follow: bool,
        accessed: Option<SystemTimeSpec>,
        modified: Option<SystemTimeSpec>,
    ) -> io::Result<()> {
        let overlay = &self.overlay;
        let mut inner = overlay.lock();
        let mut target = self.walk(&inner, path, follow)?;
        let found = self.at(&target)?;
        let kind = overlay.kind(&inner, &found)?;
        if kind == Kind::Other {
            return errno(Errno::PERM);
        }
        if target.slash && kind != Kind::Directory {
            return errno(Errno::NOTDIR);
        }
        let parent = overlay.materialise(&mut inner, &mut target.dirs)?;
        let id = match &target.name {
            Some(name) => overlay.node(&mut inner, parent, name, &found)?,
            None => parent,
        };
        let node = match inner.state.nodes.get(&id).map(|node| (**node).clone()) {
            Some(Node::Directory(directory)) => Node::Directory(Directory {
                accessed: accessed.map(seconds).or(directory.accessed),
                modified: modified.map(seconds).or(directory.modified),
                ..directory
            }),
            Some(Node::Link(link)) => Node::Link(Link {
                accessed: accessed.map_or(link.accessed, seconds),
                modified: modified.map_or(link.modified, seconds),
                ..link
            }),
            Some(Node::File(_)) => {
                let (_, file) = overlay.own(&mut inner, id, false)?;
                let mut times = std::fs::FileTimes::new();
                if let Some(time) = accessed {
                    times = times.set_accessed(absolute(time));
                }
                if let Some(time) = modified {
                    times = times.set_modified(absolute(time));
                }
                return file.into_std().set_times(times);
            }
            None => return errno(Errno::NOENT),
        };
        inner.change(vec![Op::Put(id, node)])
    }

    /// Where a directory below it is, for another grant.
    pub fn directory(&self, path: &str) -> io::Result<Arc<OpenDirectory>> {
        let mut inner = self.overlay.lock();
        let target = self.walk(&inner, path, true)?;
        let found = self.at(&target)?;
        let how = How { directory: true, ..How::default() };
        match self.open_found(&mut inner, target, found, &how)? {
            Opened::Directory(directory) => Ok(directory),
            Opened::File(_) => errno(Errno::NOTDIR),
        }
    }

    /// What is in it, of the overlay and below: the names that are not to be taken from below, what to
    /// say in their place, and the directory below.
    pub fn entries(&self) -> io::Result<super::listing::Entries> {
        let inner = self.overlay.lock();
        let target = self.walk(&inner, ".", true)?;
        let (node, base) = match self.at(&target)? {
            Found::Lower(path, _) => (None, Some(path)),
            Found::Node(id) => {
                let node = Arc::clone(inner.state.nodes.get(&id).ok_or(Errno::NOENT)?);
                let base = inner.state.directory(id).and_then(|directory| directory.base.clone());
                (Some(node), base)
            }
        };
        super::listing::Entries::new(&self.overlay, &inner, node, base)
    }
}

/// Times of a status that the overlay made up.
pub fn known(time: Option<Time>, of: Option<&Metadata>, modified: bool) -> Time {
    time.unwrap_or_else(|| match of {
        Some(metadata) if modified => time_of(metadata.modified()),
        Some(metadata) => time_of(metadata.accessed()),
        None => Time(0, 0),
    })
}
