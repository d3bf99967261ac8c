//! What programs keep from session to session: JSON values by key, in an SQLite database.

mod database;
mod service;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};
use database::Database;
pub(crate) use service::StateService;

/// What programs keep from session to session: `agentkernel.state`. Cheap to clone.
///
/// What a turn puts is kept when the turn ends by itself, by an exception or by `sys.exit`, all of it at
/// once. When a limit, a trap or a cancellation ends it, nothing of it is.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, State};
///
/// let kernel = Kernel::builder().state(State::in_memory()?).build()?;
/// kernel.session().start()?.run_blocking("from agentkernel import state\nstate['seen'] = 41")?;
/// let later = kernel.session().start()?.run_blocking("from agentkernel import state\nprint(state['seen'] + 1)")?;
/// assert_eq!(later.stdout, b"42\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct State {
    database: Arc<Database>,
    path: Option<PathBuf>,
    limits: StateLimits,
}

/// How much a [`State`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateLimits {
    /// Bytes of a key. Default: 512.
    pub key_bytes: u64,
    /// Bytes of a value's JSON form. Default: 1 MiB.
    pub value_bytes: u64,
    /// Keys. Default: 10,000.
    pub keys: u64,
    /// Bytes of all keys and values. Default: 64 MiB.
    pub total_bytes: u64,
}

impl Default for StateLimits {
    fn default() -> Self {
        StateLimits { key_bytes: 512, value_bytes: 1 << 20, keys: 10_000, total_bytes: 64 << 20 }
    }
}

impl State {
    /// The state in the database at `path`, which is made if there is none, readable by its owner alone.
    /// Any number of sessions and processes may have it open.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when the database cannot be opened and written, is damaged, or is something
    /// else.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let database = Database::open(&path).map_err(|error| {
            Error::new(ErrorKind::Grant, format!("cannot keep state in `{}`", path.display()))
                .hint("name a file in a directory that you may write to, or one that keeps state already")
                .source(error)
        })?;
        Ok(State { database: Arc::new(database), path: Some(path), limits: StateLimits::default() })
    }

    /// A state that is gone with the last of its clones, kernels and sessions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when there is no memory for it.
    pub fn in_memory() -> Result<Self> {
        let database = Database::in_memory()
            .map_err(|error| Error::new(ErrorKind::System, "cannot keep state in memory").source(error))?;
        Ok(State { database: Arc::new(database), path: None, limits: StateLimits::default() })
    }

    /// How much it may hold. What it holds already stays. Default: [`StateLimits::default`].
    pub fn limits(mut self, limits: StateLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("State");
        shown.field("path", &self.path).field("limits", &self.limits).finish_non_exhaustive()
    }
}
