//! Workers: they take tasks from a store and run them in sessions of a kernel.

mod coordinate;
mod lent;
mod shared;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) use self::lent::MOST_LENT;
pub(super) use self::shared::{Outbox, Shared, Why};
use super::{TaskId, Tasks};
use crate::{Error, ErrorKind, Kernel, Result};

/// The least time for which a task can be kept: a store that is busy must not cost a worker its tasks.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);

/// A worker to be started; see [`Tasks::worker`].
pub struct WorkerBuilder {
    kernel: Kernel,
    tasks: Tasks,
    concurrency: usize,
    lease: Duration,
}

impl WorkerBuilder {
    pub(super) fn new(kernel: Kernel, tasks: Tasks) -> Self {
        let concurrency = std::thread::available_parallelism().map_or(2, usize::from);
        WorkerBuilder { kernel, tasks, concurrency, lease: Duration::from_secs(30) }
    }

    /// How many tasks run at the same time. One that waits for another task leaves its place to it
    /// meanwhile. Default: as many as there are processors.
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.concurrency = tasks.max(1);
        self
    }

    /// How long a task stays this worker's without a sign of life: when the worker is killed, others take
    /// its tasks after this time. At least 500 ms. Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(SHORTEST_LEASE);
        self
    }

    /// Starts the worker. It runs until it is stopped or dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when its thread cannot be started.
    pub fn start(self) -> Result<Worker> {
        let WorkerBuilder { kernel, tasks, concurrency, lease } = self;
        let name = format!("{}-{}", std::process::id(), TaskId::new());
        let changes = tasks.store().changes();
        let shared = Arc::new(Shared::new(kernel, tasks, name, concurrency, lease));
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tasks-worker".into())
            .spawn(move || coordinate::run(&own, changes))
            .map_err(|error| {
                Error::new(ErrorKind::System, "cannot start a thread for a worker").source(error)
            })?;
        Ok(Worker { shared, thread: Mutex::new(Some(thread)) })
    }
}

/// Runs the tasks of a store, those with the highest priority first, each in a session of its own. They
/// are granted what was granted when they were dispatched, the tools of the worker's kernel, and no model.
///
/// Dropping it stops it as [`Worker::stop`] does.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Takes no more tasks, stops those that run and gives them back to the store, where other workers find
    /// them as if they had not been begun. Waits until that is done, which takes some milliseconds.
    pub fn stop(&self) {
        self.shared.stop_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::warn!("the thread of a worker failed; its tasks are others' when their leases are over");
        }
    }

    /// How many tasks it has at the moment.
    pub fn active(&self) -> usize {
        self.shared.active()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("active", &self.active()).finish_non_exhaustive()
    }
}
