//! Stopping a turn from another thread.

use std::sync::Arc;

use crate::engine::{Interrupt, Reason};

/// Stops a session's turn from another thread, a signal handler's thread for instance.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Ending, Kernel};
/// use std::time::Duration;
///
/// let kernel = Kernel::new()?;
/// let mut session = kernel.session().start()?;
/// let canceller = session.canceller();
/// std::thread::spawn(move || {
///     std::thread::sleep(Duration::from_millis(50));
///     canceller.cancel();
/// });
/// assert_eq!(session.run_blocking("while True: pass")?.ending, Ending::Cancelled);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Canceller(pub(super) Arc<Interrupt>);

impl Canceller {
    /// Raises `KeyboardInterrupt` in the current turn, as Ctrl-C does; the session lives on. Does
    /// nothing between turns.
    ///
    /// A second time, and where the host does not own the guest's memory
    /// ([`KernelInfo::host_owned_memory`](crate::KernelInfo::host_owned_memory)), it stops the turn as
    /// [`Canceller::cancel`] does.
    pub fn interrupt(&self) {
        self.0.interrupt();
    }

    /// Whether the turn that runs at the moment is to stop, or the last one was stopped, at its time
    /// limit or because it was cancelled. For an output handler that would otherwise wait.
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }

    /// Stops the current turn, or the next one if none runs. It ends in [`Ending::Cancelled`](crate::Ending::Cancelled).
    pub fn cancel(&self) {
        self.0.fire(Reason::Cancelled);
    }

    /// Takes back a cancellation that came when no turn ran, so that it does not stop the next one. Does nothing
    /// to a turn that runs.
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// use agentkernel::{Ending, Kernel};
    ///
    /// let mut session = Kernel::new()?.session().start()?;
    /// let canceller = session.canceller();
    /// canceller.cancel();
    /// canceller.withdraw();
    /// assert_eq!(session.run_blocking("pass")?.ending, Ending::Completed(None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn withdraw(&self) {
        self.0.withdraw();
    }
}

/// Cancels the turn, unless it is disarmed first.
pub(super) struct StopOnDrop(pub(super) Option<Arc<Interrupt>>);

impl StopOnDrop {
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(interrupt) = &self.0 {
            interrupt.fire(Reason::Cancelled);
        }
    }
}
