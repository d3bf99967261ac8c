//! The directory below, which is only read.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cap_fs_ext::{
    DirExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsMaybeDirExt, OpenOptionsSyncExt,
};
use cap_std::fs::{Dir, File, Metadata, OpenOptions, ReadDir};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state::Identity;
use crate::{Error, ErrorKind, Result};

/// What `apply` keeps its things in while it works, beside or in the directory. No program sees it.
pub const STAGE: &str = ".agentkernel-apply";

/// A file that was changed this short a time ago may be changed again without any time telling so.
const RECENT: Duration = Duration::from_secs(3);

pub struct Lower {
    pub directory: Dir,
    pub path: PathBuf,
}

/// What an object below looked like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// What is in it is looked at by itself.
    Directory { device: u64, inode: u64 },
    /// A file, or what is neither a file nor a directory.
    Other {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
        /// Of the content, where the times alone could not tell that it was changed later.
        sha256: Option<String>,
    },
}

pub fn options(read: bool, write: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(read).write(write).maybe_dir(true).follow(FollowSymlinks::No);
    // A pipe would otherwise keep the host waiting for its other end.
    options.nonblock(true);
    options
}

/// Waits until the names in a directory are on the disk, where the system can.
pub fn sync(directory: &Dir, path: &str) {
    let opened = directory.open_with(here(path), &options(true, false));
    if let Err(error) = opened.and_then(|directory| directory.sync_all()) {
        tracing::debug!("a directory cannot be synced: {error}");
    }
}

/// Things more than which are waited for together, with all else that the file system has to write.
pub const MANY: usize = 64;

/// Waits until all that was written to the file system of a directory is on the disk; says whether that can be.
pub fn sync_all(directory: &Dir) -> bool {
    #[cfg(target_os = "linux")]
    return rustix::fs::syncfs(directory).is_ok();
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = directory;
        false
    };
}

pub fn identity(metadata: &Metadata) -> Identity {
    Identity { device: MetadataExt::dev(metadata), inode: MetadataExt::ino(metadata) }
}

/// Whether the mode lets its owner write, or nobody asks.
pub fn is_writable(metadata: &Metadata) -> bool {
    !metadata.permissions().readonly() || rustix::process::geteuid().is_root()
}

/// The path as the system wants it.
pub fn here(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

impl Lower {
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "create it first, or correct the path",
                io::ErrorKind::NotADirectory => "name the directory that the file lies in",
                _ => "check its permissions",
            };
            let message = format!("cannot open the directory `{}`", path.display());
            Error::new(ErrorKind::Grant, message).hint(hint).source(error)
        };
        let directory = Dir::open_ambient_dir(path, cap_std::ambient_authority()).map_err(failed)?;
        Ok(Lower { directory, path: path.canonicalize().map_err(failed)? })
    }

    /// What is at a path, or `None`. A link is itself.
    pub fn stat(&self, path: &str) -> io::Result<Option<Metadata>> {
        if path == STAGE {
            return Ok(None);
        }
        match self.directory.symlink_metadata(here(path)) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same in one step for a path that has no link in it before its end, where the system can; `None` says
    /// nothing.
    #[cfg(target_os = "linux")]
    pub fn stat_at_once(&self, path: &str) -> Option<Metadata> {
        use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
        if path.split('/').next() == Some(STAGE) {
            return None;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&self.directory, path, flags, Mode::empty(), resolve).ok()?;
        File::from_std(opened.into()).metadata().ok()
    }

    #[cfg(not(target_os = "linux"))]
    pub fn stat_at_once(&self, _path: &str) -> Option<Metadata> {
        None
    }

    /// Opens a file or directory to be read.
    pub fn read(&self, path: &str) -> io::Result<File> {
        self.directory.open_with(here(path), &options(true, false))
    }

    pub fn list(&self, path: &str) -> io::Result<ReadDir> {
        if path.is_empty() {
            self.directory.entries()
        } else {
            self.directory.open_dir_nofollow(path)?.entries()
        }
    }

    /// Where a link leads; an absolute path too.
    pub fn link(&self, path: &str) -> io::Result<String> {
        let target = self.directory.read_link_contents(path)?;
        target.into_os_string().into_string().map_err(|_| rustix::io::Errno::ILSEQ.into())
    }

    /// What an object looks like now.
    pub fn look(&self, path: &str, metadata: &Metadata) -> io::Result<Seen> {
        use cap_std::fs::MetadataExt;
        let Identity { device, inode } = identity(metadata);
        if metadata.is_dir() {
            return Ok(Seen::Directory { device, inode });
        }
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let recent = changed.0 >= (age.saturating_sub(RECENT).as_secs() as i64);
        let tells = metadata.is_symlink() || recent && metadata.is_file();
        let sha256 = if tells { Some(self.digest(path, metadata)?) } else { None };
        Ok(Seen::Other {
            device,
            inode,
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            sha256,
        })
    }

    /// Whether an object looks as it did. If only its status was changed, its content tells, where that is known.
    pub fn is_as_seen(&self, path: &str, seen: &Seen) -> io::Result<bool> {
        let Some(found) = self.stat(path)? else { return Ok(false) };
        let (sha256, then) = match seen {
            Seen::Directory { .. } => return Ok(*seen == self.look(path, &found)?),
            Seen::Other { sha256, changed, .. } => (sha256, changed),
        };
        let Seen::Other { device, inode, size, modified, changed, .. } = self.look(path, &found)? else {
            return Ok(false);
        };
        let now = Seen::Other { device, inode, size, modified, changed: *then, sha256: sha256.clone() };
        Ok(now == *seen
            && match sha256 {
                Some(sha256) => *sha256 == self.digest(path, &found)?,
                None => changed == *then,
            })
    }

    /// Of a file's content, or of where a link leads.
    fn digest(&self, path: &str, found: &Metadata) -> io::Result<String> {
        let mut hash = Sha256::new();
        if found.is_symlink() {
            hash.update(self.link(path)?);
        } else {
            let mut file = self.read(path)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => hash.update(&buffer[..read]),
                }
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
