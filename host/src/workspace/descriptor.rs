//! An open file or directory of the guest.

use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use cap_fs_ext::{MetadataExt, SystemTimeSpec};
use cap_std::fs::{FileType, FileTypeExt, Metadata};

use super::bindings::wasi::clocks::wall_clock::Datetime;
use super::bindings::wasi::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, MetadataHashValue, NewTimestamp,
};
use super::error::{ErrorCode, Result};
use super::node::{DirectoryNode, FileNode, Status, Times};
use super::{Access, Opened};
use crate::replay::Taped;

/// An open file or directory.
pub struct Descriptor {
    pub(super) node: Node,
    pub(super) flags: DescriptorFlags,
    /// Of the granted directory it was reached through.
    pub(super) access: Access,
    /// Which granted directory that is.
    pub(super) mount: usize,
    /// `None` for a granted directory itself, which counts as nothing.
    pub(super) opened: Option<Arc<Opened>>,
    /// What the tape calls it, if there is one.
    pub(super) taped: Option<Arc<Taped>>,
}

pub(super) enum Node {
    File(FileNode),
    Directory(DirectoryNode),
    /// Nothing: this is a replay, which gives what the recording has of it.
    Recorded,
}

/// Whether an entry of a table of handles is a granted directory itself, and not something opened in it.
pub(crate) fn is_granted_directory(entry: &(dyn Any + Send)) -> bool {
    entry.downcast_ref::<Descriptor>().is_some_and(|descriptor| descriptor.opened.is_none())
}

impl Descriptor {
    /// That of something which only a recording has.
    pub(super) fn recorded(flags: DescriptorFlags, opened: Option<Arc<Opened>>) -> Self {
        Descriptor { node: Node::Recorded, flags, access: Access::ReadOnly, mount: 0, opened, taped: None }
    }

    pub(super) fn file(&self) -> Result<&FileNode> {
        match &self.node {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(ErrorCode::IsDirectory.into()),
            Node::Recorded => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    pub(super) fn readable(&self) -> Result<&FileNode> {
        let file = self.file()?;
        if !self.flags.contains(DescriptorFlags::READ) {
            return Err(ErrorCode::BadDescriptor.into());
        }
        Ok(file)
    }

    pub(super) fn writable(&self) -> Result<&FileNode> {
        let file = self.file()?;
        if !self.flags.contains(DescriptorFlags::WRITE) {
            return Err(ErrorCode::BadDescriptor.into());
        }
        Ok(file)
    }

    pub(super) fn directory(&self) -> Result<&DirectoryNode> {
        match &self.node {
            Node::Directory(directory) => Ok(directory),
            Node::File(_) => Err(ErrorCode::NotDirectory.into()),
            Node::Recorded => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    /// The directory, if the program may change what is in it.
    pub(super) fn mutable_directory(&self) -> Result<&DirectoryNode> {
        let directory = self.directory()?;
        match self.access {
            Access::ReadWrite => Ok(directory),
            Access::ReadOnly => Err(ErrorCode::ReadOnly.into()),
        }
    }

    pub(super) fn status(&self) -> Result<Status> {
        Ok(match &self.node {
            Node::File(file) => file.status()?,
            Node::Directory(directory) => directory.status()?,
            Node::Recorded => return Err(ErrorCode::BadDescriptor.into()),
        })
    }

    pub(super) fn kind(&self) -> Result<DescriptorType> {
        match self.node {
            Node::File(_) => Ok(DescriptorType::RegularFile),
            Node::Directory(_) => Ok(DescriptorType::Directory),
            Node::Recorded => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    pub(super) fn sync(&self, data_only: bool) -> Result<()> {
        match &self.node {
            Node::File(file) => Ok(file.sync(data_only)?),
            Node::Directory(directory) => Ok(directory.sync(data_only)?),
            Node::Recorded => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    pub(super) fn set_times(&self, access: NewTimestamp, modification: NewTimestamp) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Err(ErrorCode::ReadOnly.into());
        }
        let times = Times { access: timestamp(access)?, modification: timestamp(modification)? };
        match &self.node {
            Node::File(file) => Ok(file.set_times(times)?),
            Node::Directory(directory) => Ok(directory.set_times(times)?),
            Node::Recorded => Err(ErrorCode::BadDescriptor.into()),
        }
    }
}

pub(super) fn kind(ty: FileType) -> DescriptorType {
    if ty.is_file() {
        DescriptorType::RegularFile
    } else if ty.is_dir() {
        DescriptorType::Directory
    } else if ty.is_symlink() {
        DescriptorType::SymbolicLink
    } else if ty.is_fifo() {
        DescriptorType::Fifo
    } else if ty.is_block_device() {
        DescriptorType::BlockDevice
    } else if ty.is_char_device() {
        DescriptorType::CharacterDevice
    } else if ty.is_socket() {
        DescriptorType::Socket
    } else {
        DescriptorType::Unknown
    }
}

pub(super) fn stat(metadata: &Metadata) -> DescriptorStat {
    let changed = {
        use cap_std::fs::MetadataExt;
        u64::try_from(metadata.ctime()).ok().map(|seconds| Datetime {
            seconds,
            nanoseconds: u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
        })
    };
    DescriptorStat {
        type_: kind(metadata.file_type()),
        link_count: MetadataExt::nlink(metadata),
        size: metadata.len(),
        data_access_timestamp: metadata.accessed().ok().and_then(|time| datetime(time.into_std())),
        data_modification_timestamp: metadata.modified().ok().and_then(|time| datetime(time.into_std())),
        status_change_timestamp: changed,
    }
}

fn datetime(time: SystemTime) -> Option<Datetime> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() })
}

/// A name for a file that is the same as long as it is the same file. It tells nothing of the host's
/// devices and inodes, and differs from process to process.
pub(super) fn identity(device: u64, inode: u64) -> MetadataHashValue {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    let [lower, upper] = KEYS.each_ref().map(|keys| keys.hash_one((device, inode)));
    MetadataHashValue { lower, upper }
}

/// A time as set-times means it; `None` leaves it as it is.
pub(super) fn timestamp(new: NewTimestamp) -> Result<Option<SystemTimeSpec>> {
    Ok(match new {
        NewTimestamp::NoChange => None,
        NewTimestamp::Now => Some(SystemTimeSpec::SymbolicNow),
        NewTimestamp::Timestamp(at) => {
            let since = std::time::Duration::from_secs(at.seconds)
                .checked_add(std::time::Duration::from_nanos(at.nanoseconds.into()))
                .ok_or(ErrorCode::Overflow)?;
            let time = UNIX_EPOCH.checked_add(since).ok_or(ErrorCode::Overflow)?;
            Some(SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(time)))
        }
    })
}

pub(super) fn absolute(time: SystemTimeSpec) -> SystemTime {
    match time {
        SystemTimeSpec::SymbolicNow => SystemTime::now(),
        SystemTimeSpec::Absolute(time) => time.into_std(),
    }
}
