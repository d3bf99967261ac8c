//! The workspace of an agent: an overlay, so that it is known what a task has changed.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::{Diff, Error, ErrorKind, Grants, Overlay, Result, Workspace};

/// Bytes that an overlay may hold at least.
const QUOTA: u64 = 1 << 30;

/// An overlay and what becomes of its changes. Clones are the same.
#[derive(Clone)]
pub(super) struct Files {
    overlay: Overlay,
    /// Whether changes stay in the overlay until somebody says what becomes of them.
    pub held: bool,
    /// The directory below, where none is granted.
    _below: Option<Arc<TempDir>>,
}

impl Files {
    /// Lays an overlay over the workspace that is granted. One that is an overlay already belongs to who made it.
    pub fn open(grants: &mut Grants, hold: bool) -> Result<Self> {
        let (overlay, held, below) = match &grants.workspace {
            Workspace::Overlay(overlay) => (overlay.clone(), true, None),
            Workspace::Directory(directory) => {
                let overlay = Overlay::over(directory)?;
                // Not only when the work is done.
                overlay.check_apply()?;
                (overlay, hold, None)
            }
            Workspace::Temporary => {
                let below = tempfile::Builder::new().prefix("agentkernel-").tempdir();
                let below = below.map_err(|error| {
                    Error::new(ErrorKind::System, "cannot create a temporary workspace").source(error)
                })?;
                (Overlay::over(below.path())?, hold, Some(Arc::new(below)))
            }
        };
        if grants.workspace != Workspace::Overlay(overlay.clone()) {
            // What may be written may be held; copies of what is changed count as well.
            overlay.set_quota(grants.limits.write_bytes.max(QUOTA));
        }
        grants.workspace = Workspace::Overlay(overlay.clone());
        Ok(Files { overlay, held, _below: below })
    }

    pub fn diff(&self) -> Result<Diff> {
        self.overlay.diff()
    }

    pub fn apply(&self) -> Result<()> {
        self.overlay.apply()
    }

    pub fn keep(&self, layers: &Path) -> Result<()> {
        self.overlay.fork_into(layers).map(drop)
    }

    pub fn discard(&self) -> Result<()> {
        self.overlay.discard()
    }
}
