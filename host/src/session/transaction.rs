//! Turns whose effects on memory and files are kept or dropped together.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Session;
use super::fork::is_held;
use super::keep::Point;
use crate::workspace::Checkpoint;
use crate::{Error, ErrorKind, Result, Workspace};

/// Several turns that are kept or dropped together; see [`Session::transaction`]. It is used as the session is.
///
/// Dropped without a word, it is rolled back.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'a> {
    session: &'a mut Session,
    /// The memory at its beginning.
    point: Option<Point>,
    files: Option<Checkpoint>,
}

impl Session {
    /// Begins a transaction: what its turns do in memory and in the workspace is kept by
    /// [`Transaction::commit`], or dropped. What they ask of models, tools and tasks is not taken back, nor are
    /// files below mounts.
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// # let kernel = agentkernel::Kernel::new()?;
    /// # if !kernel.info().host_owned_memory { return Ok(()) }
    /// let mut session = kernel.session().transactional(true).start()?;
    /// session.run_blocking("rows = [1]")?;
    /// let mut transaction = session.transaction()?;
    /// transaction.run_blocking("rows.append(2)\nopen('rows', 'w').write('2')")?;
    /// transaction.run_blocking("rows.append(3)")?;
    /// transaction.rollback()?;
    /// let outcome = session.run_blocking("import os\nprint(rows, os.listdir())")?;
    /// assert_eq!(outcome.stdout, b"[1] []\n");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Session::snapshot`], and [`ErrorKind::Grant`] when the workspace is not an overlay: files of a directory cannot be
    /// taken back.
    pub fn transaction(&mut self) -> Result<Transaction<'_>> {
        let Workspace::Overlay(overlay) = &self.recipe.grants.workspace else { return Err(no_overlay()) };
        let overlay = overlay.clone();
        let Some(live) = &mut self.live else { return Err(self.ended()) };
        live.check_keepable()?;
        let point = match &live.point {
            // Nothing has run since.
            Point::Start(kept) if !live.has_run => Point::Start(kept.clone()),
            Point::Kept(kept, numbers) if !live.has_run => Point::Kept(Arc::clone(kept), numbers.clone()),
            _ => match live.let_go(&self.kernel, &self.interrupt) {
                Ok(Ok(())) => Point::Kept(live.freeze()?, live.store.data_mut().tools.numbers()),
                Ok(Err(held)) => return Err(is_held(&held)),
                Err(error) => {
                    self.live = None;
                    return Err(error);
                }
            },
        };
        Ok(Transaction { point: Some(point), files: Some(overlay.checkpoint()), session: self })
    }
}

/// What is said where files could not be taken back.
pub(super) fn no_overlay() -> Error {
    Error::new(
        ErrorKind::Grant,
        "files of a directory cannot be taken back, so it cannot be part of a transaction",
    )
    .hint("use `Workspace::Overlay`, or `SessionBuilder::transactional` with a temporary workspace")
}

impl Transaction<'_> {
    /// Keeps what was done.
    ///
    /// # Errors
    ///
    /// When layers of the overlay that outlive the process cannot be written: then all is dropped.
    pub fn commit(mut self) -> Result<()> {
        let Some(files) = self.files.take() else { return Ok(()) };
        match files.commit() {
            Ok(()) => Ok(()),
            Err(error) => {
                self.go_back()?;
                Err(error)
            }
        }
    }

    /// Drops what was done.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SessionEnded`] when the session has ended meanwhile, and [`ErrorKind::System`] when the system has no memory
    /// left.
    pub fn rollback(mut self) -> Result<()> {
        let files = self.files.take();
        let result = self.go_back();
        if let Some(files) = files {
            files.roll_back();
        }
        result
    }

    fn go_back(&mut self) -> Result<()> {
        let Some(mut live) = self.session.live.take() else { return Err(self.session.ended()) };
        if let Some(point) = self.point.take() {
            live.point = point;
        }
        self.session.live = Some(live.go_back(&self.session.kernel, &self.session.interrupt)?);
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(files) = self.files.take() {
            if let Err(error) = self.go_back() {
                tracing::debug!("a transaction could not be rolled back: {error}");
            }
            files.roll_back();
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session
    }
}
