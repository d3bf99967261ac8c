//! Opening granted directories.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::node::DirectoryNode;
use super::overlay::Overlay;
use super::temporary::TempWorkspace;
use crate::{Error, ErrorKind, Result};

/// Whether a program may change a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// It may read.
    #[default]
    ReadOnly,
    /// It may read and write.
    ReadWrite,
}

/// A directory and where the program sees it.
#[derive(Clone)]
pub(crate) struct Preopen {
    place: Place,
    pub(super) guest_path: String,
    pub(super) access: Access,
}

#[derive(Clone)]
enum Place {
    Open(DirectoryNode),
    /// Made when the program first looks at its directories: most never do.
    Temporary(Arc<OnceLock<(Arc<Dir>, TempWorkspace)>>),
}

impl Preopen {
    /// An empty private directory, removed with the preopen.
    pub fn temporary(guest: &str) -> Self {
        Preopen {
            place: Place::Temporary(Arc::default()),
            guest_path: guest.to_owned(),
            access: Access::ReadWrite,
        }
    }

    /// A directory seen through an overlay.
    pub fn overlay(overlay: &Overlay, guest: &str) -> Self {
        Self::shared(DirectoryNode::Overlaid(overlay.top()), guest, Access::ReadWrite)
    }

    /// A directory that is open already.
    pub fn shared(directory: DirectoryNode, guest: &str, access: Access) -> Self {
        Preopen { place: Place::Open(directory), guest_path: guest.to_owned(), access }
    }

    /// The same directory once more, for another store.
    pub fn again(&self) -> Result<Self> {
        Ok(Self::shared(self.directory()?, &self.guest_path, self.access))
    }

    /// The temporary directory, if there is one by now.
    pub(super) fn made(&self) -> Option<&Arc<Dir>> {
        match &self.place {
            Place::Open(_) => None,
            Place::Temporary(made) => made.get().map(|(directory, _)| directory),
        }
    }

    /// The temporary directory, which is made if there is none yet.
    pub(super) fn temporary_directory(&self) -> Result<&Arc<Dir>> {
        self.directory()?;
        self.made().ok_or_else(|| Error::new(ErrorKind::Grant, "the workspace is not a temporary one"))
    }

    /// The directory, if there is one by now.
    pub(super) fn present(&self) -> Option<DirectoryNode> {
        match &self.place {
            Place::Open(directory) => Some(directory.clone()),
            Place::Temporary(_) => self.made().map(|made| DirectoryNode::Plain(Arc::clone(made))),
        }
    }

    pub(super) fn directory(&self) -> Result<DirectoryNode> {
        match &self.place {
            Place::Open(directory) => Ok(directory.clone()),
            Place::Temporary(made) => {
                if made.get().is_none() {
                    let workspace = TempWorkspace::new()?;
                    // If another thread was faster, this one is removed again.
                    let _ = made.set((Arc::new(workspace.open()?), workspace));
                }
                Ok(DirectoryNode::Plain(Arc::clone(&made.get().expect("just made").0)))
            }
        }
    }
}

/// Opens a directory of the host that a grant names.
pub(crate) fn open_preopen(host: &Path, guest: &str, access: Access) -> Result<Preopen> {
    let plain = guest.strip_prefix('/').is_some_and(|rest| {
        !rest.is_empty()
            && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !rest.contains('\0')
    });
    if !plain {
        return Err(Error::new(ErrorKind::Grant, format!("`{guest}` cannot be a path in the sandbox"))
            .hint("give an absolute path below `/`, without `.`, `..` or a trailing slash, like `/data`"));
    }
    Ok(Preopen::shared(DirectoryNode::Plain(open_directory(host)?), guest, access))
}

/// Opens a directory of the host for the host itself.
pub(crate) fn open_directory(host: &Path) -> Result<Arc<Dir>> {
    let directory = Dir::open_ambient_dir(host, ambient_authority()).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "create it first, or correct the path",
            std::io::ErrorKind::NotADirectory => "grant the directory that the file lies in",
            _ => "check its permissions",
        };
        let message = format!("cannot open the directory `{}`", host.display());
        Error::new(ErrorKind::Grant, message).hint(hint).source(error)
    })?;
    Ok(Arc::new(directory))
}
