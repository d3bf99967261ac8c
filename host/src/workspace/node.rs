//! Files and directories, of the host as they are or through an overlay.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cap_fs_ext::{
    DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsMaybeDirExt, OpenOptionsSyncExt, SystemTimeSpec,
};
use cap_std::fs::{Dir, File, FileExt, Metadata, OpenOptions};

use super::bindings::wasi::filesystem::types::{DescriptorStat, MetadataHashValue};
use super::descriptor::{self, Node, absolute};
use super::error::{ErrorCode, Result};
use super::listing::Entries;
use super::overlay::{OpenDirectory, OpenFile, Opened};
use super::{Budget, files};

/// What an object is like, and what it is recognised by.
pub(super) struct Status {
    pub stat: DescriptorStat,
    pub identity: MetadataHashValue,
}

impl Status {
    fn of(metadata: &Metadata) -> Self {
        use cap_fs_ext::MetadataExt;
        let identity = descriptor::identity(MetadataExt::dev(metadata), MetadataExt::ino(metadata));
        Status { stat: descriptor::stat(metadata), identity }
    }
}

/// How a path is opened.
#[derive(Default)]
pub(super) struct How {
    pub read: bool,
    pub write: bool,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    pub follow: bool,
    /// Only a directory will do.
    pub directory: bool,
    pub sync: bool,
    pub dsync: bool,
}

#[derive(Clone)]
pub(super) enum FileNode {
    Plain(Arc<File>),
    Overlaid(Arc<OpenFile>),
}

#[derive(Clone)]
pub(crate) enum DirectoryNode {
    Plain(Arc<Dir>),
    Overlaid(Arc<OpenDirectory>),
}

/// Times to be set, of which `None` stay.
pub(super) struct Times {
    pub access: Option<SystemTimeSpec>,
    pub modification: Option<SystemTimeSpec>,
}

impl Times {
    fn of_file(self) -> std::fs::FileTimes {
        let mut times = std::fs::FileTimes::new();
        if let Some(time) = self.access {
            times = times.set_accessed(absolute(time));
        }
        if let Some(time) = self.modification {
            times = times.set_modified(absolute(time));
        }
        times
    }
}

impl FileNode {
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(match self {
            FileNode::Plain(file) => file.metadata()?.len(),
            FileNode::Overlaid(file) => file.metadata()?.len(),
        })
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            FileNode::Plain(file) => file.read_at(buffer, offset),
            FileNode::Overlaid(file) => file.read_at(buffer, offset),
        }
    }

    /// Writes at `offset`, or at the end.
    pub(super) fn write_at(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
        match (self, offset) {
            (FileNode::Plain(file), Some(offset)) => file.write_at(bytes, offset),
            (FileNode::Plain(file), None) => files::append(file, bytes),
            (FileNode::Overlaid(file), offset) => file.write_at(bytes, offset),
        }
    }

    pub(super) fn set_len(&self, size: u64) -> io::Result<()> {
        match self {
            FileNode::Plain(file) => file.set_len(size),
            FileNode::Overlaid(file) => file.set_len(size),
        }
    }

    pub(super) fn set_times(&self, times: Times) -> io::Result<()> {
        match self {
            FileNode::Plain(file) => file.try_clone()?.into_std().set_times(times.of_file()),
            FileNode::Overlaid(file) => file.set_times(times.of_file()),
        }
    }

    pub(super) fn sync(&self, data_only: bool) -> io::Result<()> {
        match self {
            FileNode::Plain(file) if data_only => file.sync_data(),
            FileNode::Plain(file) => file.sync_all(),
            FileNode::Overlaid(file) => file.sync(data_only),
        }
    }

    pub(super) fn status(&self) -> io::Result<Status> {
        match self {
            FileNode::Plain(file) => Ok(Status::of(&file.metadata()?)),
            FileNode::Overlaid(file) => file.status().map(Into::into),
        }
    }
}

/// Whether a path asks for a directory, as one that ends with a slash does.
pub(super) fn asks_for_directory(path: &str) -> bool {
    path.ends_with('/')
}

fn metadata_at(directory: &Dir, path: &str, follow: bool) -> Result<Metadata> {
    if asks_for_directory(path) {
        let metadata = directory.metadata(path)?;
        return if metadata.is_dir() { Ok(metadata) } else { Err(ErrorCode::NotDirectory.into()) };
    }
    Ok(if follow { directory.metadata(path)? } else { directory.symlink_metadata(path)? })
}

impl DirectoryNode {
    pub(super) fn open(&self, path: &str, how: &How, budget: &Budget) -> Result<Node> {
        match self {
            DirectoryNode::Plain(directory) => open(directory, path, how, budget),
            DirectoryNode::Overlaid(directory) => Ok(match directory.open(path, how, budget)? {
                Opened::File(file) => Node::File(FileNode::Overlaid(file)),
                Opened::Directory(directory) => Node::Directory(DirectoryNode::Overlaid(directory)),
            }),
        }
    }

    /// A directory below it.
    pub(super) fn directory(&self, path: &str) -> io::Result<Self> {
        Ok(match self {
            DirectoryNode::Plain(directory) => DirectoryNode::Plain(Arc::new(directory.open_dir(path)?)),
            DirectoryNode::Overlaid(directory) => DirectoryNode::Overlaid(directory.directory(path)?),
        })
    }

    pub(super) fn create_directory(&self, path: &str) -> io::Result<()> {
        match self {
            DirectoryNode::Plain(directory) => directory.create_dir(path),
            DirectoryNode::Overlaid(directory) => directory.create_directory(path),
        }
    }

    pub(super) fn remove_directory(&self, path: &str) -> io::Result<()> {
        match self {
            DirectoryNode::Plain(directory) => directory.remove_dir(path),
            DirectoryNode::Overlaid(directory) => directory.remove_directory(path),
        }
    }

    pub(super) fn remove_file(&self, path: &str) -> io::Result<()> {
        match self {
            DirectoryNode::Plain(directory) => directory.remove_file_or_symlink(path),
            DirectoryNode::Overlaid(directory) => directory.remove_file(path),
        }
    }

    pub(super) fn read_link(&self, path: &str) -> Result<String> {
        match self {
            DirectoryNode::Plain(directory) => {
                let target = directory.read_link(path)?.into_os_string();
                Ok(target.into_string().map_err(|_| ErrorCode::IllegalByteSequence)?)
            }
            DirectoryNode::Overlaid(directory) => Ok(directory.read_link(path)?),
        }
    }

    /// Where a link leads as far as that is told, if there is one.
    pub(super) fn link_target(&self, path: &str) -> Option<PathBuf> {
        match self {
            DirectoryNode::Plain(directory) => directory.read_link(path).ok(),
            DirectoryNode::Overlaid(directory) => directory.read_link(path).ok().map(PathBuf::from),
        }
    }

    pub(super) fn symlink(&self, target: &str, path: &str) -> io::Result<()> {
        match self {
            DirectoryNode::Plain(directory) => directory.symlink(target, path),
            DirectoryNode::Overlaid(directory) => directory.symlink(target, path),
        }
    }

    pub(super) fn rename(&self, old: &str, to: &Self, new: &str) -> io::Result<()> {
        match (self, to) {
            (DirectoryNode::Plain(from), DirectoryNode::Plain(to)) => from.rename(old, to, new),
            (DirectoryNode::Overlaid(from), DirectoryNode::Overlaid(to)) => from.rename(old, to, new),
            _ => Err(rustix::io::Errno::XDEV.into()),
        }
    }

    pub(super) fn hard_link(&self, old: &str, to: &Self, new: &str) -> io::Result<()> {
        match (self, to) {
            (DirectoryNode::Plain(from), DirectoryNode::Plain(to)) => from.hard_link(old, to, new),
            (DirectoryNode::Overlaid(from), DirectoryNode::Overlaid(to)) => from.hard_link(old, to, new),
            _ => Err(rustix::io::Errno::XDEV.into()),
        }
    }

    pub(super) fn entries(&self) -> io::Result<Entries> {
        Ok(match self {
            DirectoryNode::Plain(directory) => Entries::Plain(directory.entries()?),
            DirectoryNode::Overlaid(directory) => Entries::Overlaid(directory.entries()?),
        })
    }

    pub(super) fn status(&self) -> io::Result<Status> {
        match self {
            DirectoryNode::Plain(directory) => Ok(Status::of(&directory.dir_metadata()?)),
            DirectoryNode::Overlaid(directory) => directory.status().map(Into::into),
        }
    }

    pub(super) fn status_at(&self, path: &str, follow: bool) -> Result<Status> {
        Ok(match self {
            DirectoryNode::Plain(directory) => Status::of(&metadata_at(directory, path, follow)?),
            DirectoryNode::Overlaid(directory) => directory.status_at(path, follow)?.into(),
        })
    }

    pub(super) fn set_times(&self, times: Times) -> io::Result<()> {
        match self {
            DirectoryNode::Plain(directory) => {
                directory.try_clone()?.into_std_file().set_times(times.of_file())
            }
            DirectoryNode::Overlaid(directory) => {
                directory.set_times_at(".", true, times.access, times.modification)
            }
        }
    }

    pub(super) fn set_times_at(&self, path: &str, follow: bool, times: Times) -> Result<()> {
        let directory = match self {
            DirectoryNode::Plain(directory) => directory,
            DirectoryNode::Overlaid(directory) => {
                return Ok(directory.set_times_at(path, follow, times.access, times.modification)?);
            }
        };
        if !follow && !asks_for_directory(path) {
            return Ok(directory.set_symlink_times(path, times.access, times.modification)?);
        }
        // Opened here, because cap-std's own way would wait for the other end of a pipe.
        let mut options = OpenOptions::new();
        let file = directory.open_with(path, options.read(true).maybe_dir(true).nonblock(true))?;
        if !file.metadata()?.is_file() && !file.metadata()?.is_dir() {
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(file.into_std().set_times(times.of_file())?)
    }

    /// An overlay writes nothing that a sync could wait for.
    pub(super) fn sync(&self, data_only: bool) -> io::Result<()> {
        match self {
            DirectoryNode::Plain(directory) if data_only => {
                directory.try_clone()?.into_std_file().sync_data()
            }
            DirectoryNode::Plain(directory) => directory.try_clone()?.into_std_file().sync_all(),
            DirectoryNode::Overlaid(_) => Ok(()),
        }
    }
}

fn open(directory: &Dir, path: &str, how: &How, budget: &Budget) -> Result<Node> {
    let follow = match how.follow {
        true => FollowSymlinks::Yes,
        false => FollowSymlinks::No,
    };
    let mut options = OpenOptions::new();
    options
        .read(how.read)
        .write(how.write)
        .truncate(how.truncate)
        .maybe_dir(true)
        .follow(follow)
        // A pipe would otherwise keep the host waiting for its other end.
        .nonblock(true)
        .sync(how.sync)
        .dsync(how.dsync);
    // Without write access the file is made first and opened after.
    let made = |directory: &Dir| {
        if !how.create || how.write {
            return Ok(());
        }
        let mut make = OpenOptions::new();
        make.write(true).follow(follow).nonblock(true);
        make.create(!how.exclusive).create_new(how.exclusive);
        directory.open_with(path, &make).map(drop)
    };
    if how.create && how.write {
        options.create(!how.exclusive).create_new(how.exclusive);
    }
    // (Made by somebody else in between, it is counted all the same.)
    let there = if how.follow { directory.metadata(path) } else { directory.symlink_metadata(path) };
    let new = how.create && there.is_err();
    let file = if new {
        budget.entry(|| made(directory).and_then(|()| directory.open_with(path, &options)))?
    } else {
        made(directory)?;
        directory.open_with(path, &options)?
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        Ok(Node::Directory(DirectoryNode::Plain(Arc::new(Dir::from_std_file(file.into_std())))))
    } else if how.directory {
        Err(ErrorCode::NotDirectory.into())
    } else if metadata.is_file() {
        Ok(Node::File(FileNode::Plain(Arc::new(file))))
    } else {
        // Pipes, devices and sockets reach beyond the directory they lie in.
        Err(ErrorCode::NotPermitted.into())
    }
}
