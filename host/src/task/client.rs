//! Dispatching tasks, and hearing of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::store::{Message, Quota, TaskStore};
use super::{
    LogChunk, SqliteTasks, Task, TaskFilter, TaskId, TaskLimits, TaskState, TaskStatus, Worker, absent,
    grants,
};
use crate::gate::Gate;
use crate::{Error, ErrorKind, Kernel, Result};

/// The least time between two looks at the store while it changes all the time.
const BREATH: Duration = Duration::from_millis(2);

/// How long nothing may be heard before the store is looked at all the same.
const SILENCE: Duration = Duration::from_secs(5);

/// Tasks that are removed together, so that nobody waits for long.
const PRUNED: usize = 500;

/// Tasks in a store. Cheap to clone; what several processes open is the same for all of them.
///
/// The functions are asynchronous, and need a tokio runtime with time.
#[derive(Clone)]
pub struct Tasks {
    store: Arc<dyn TaskStore>,
    limits: TaskLimits,
    /// Whose tasks programs see and dispatch, if that is not for each session by itself.
    owner: Option<String>,
    /// The worker of [`Kernel::tasks`](crate::Kernel::tasks).
    worker: Option<Arc<Worker>>,
    gate: Gate,
}

impl Tasks {
    /// The tasks in the SQLite database at `path`, which is made if there is none. They wait until a
    /// [`Worker`] runs them, in this process or another.
    ///
    /// # Errors
    ///
    /// As [`SqliteTasks::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Tasks::new(Arc::new(SqliteTasks::open(path.as_ref())?)))
    }

    /// The tasks in another store.
    pub fn new(store: Arc<dyn TaskStore>) -> Self {
        Tasks { store, limits: TaskLimits::default(), owner: None, worker: None, gate: Gate::default() }
    }

    /// How much they may be. Default: [`TaskLimits::default`].
    pub fn limits(mut self, limits: TaskLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes all sessions that are given these tasks under one name the same to them, in whatever process: what the
    /// programs of one dispatch those of the others find, and limits are those of all together. Default: each
    /// session by itself.
    pub fn owned_by(&self, owner: impl Into<String>) -> Self {
        Tasks { owner: Some(owner.into()), ..self.clone() }
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    pub(crate) fn with_worker(mut self, worker: Worker) -> Self {
        self.worker = Some(Arc::new(worker));
        self
    }

    /// The same tasks for programs that a worker runs: it must not keep itself alive.
    pub(super) fn without_worker(&self) -> Self {
        Tasks { worker: None, ..self.clone() }
    }

    /// The same tasks for one session, whose calls wait for nobody else's.
    pub(super) fn of_session(&self) -> Self {
        Tasks { worker: None, gate: Gate::default(), ..self.clone() }
    }

    /// Does what may block where that holds up nobody.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let failed = |error| Error::new(ErrorKind::System, "a thread failed").source(error);
        self.gate.pass(work).await.map_err(failed).flatten()
    }

    pub(super) fn store(&self) -> &Arc<dyn TaskStore> {
        &self.store
    }

    pub(super) fn limited(&self) -> &TaskLimits {
        &self.limits
    }

    /// Puts a task into the store. When this returns, it is kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when the task is more than may be kept or could never run, when a task that it needs
    /// is not there, or when the store cannot be used; [`ErrorKind::Grant`] when a directory cannot be
    /// granted.
    pub async fn dispatch(&self, task: Task) -> Result<TaskId> {
        let ids = self.dispatch_all(vec![task]).await?;
        ids.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Tasks, "nothing was dispatched"))
    }

    /// Puts tasks into the store, all of them or, with an error, none; in one transaction, which is the
    /// fast way. They may need those before them.
    ///
    /// # Errors
    ///
    /// As [`Tasks::dispatch`].
    pub async fn dispatch_all(&self, tasks: Vec<Task>) -> Result<Vec<TaskId>> {
        let (store, limits) = (Arc::clone(&self.store), self.limits.clone());
        self.blocking(move || put(&*store, &limits, tasks, None)).await
    }

    /// What is known of a task.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when there is no such task, or the store cannot be used.
    pub async fn status(&self, id: &TaskId) -> Result<TaskStatus> {
        let (store, id) = (Arc::clone(&self.store), id.clone());
        self.blocking(move || store.status(&id)?.ok_or_else(|| absent(&id))).await
    }

    /// Waits until a task has ended, or for `timeout`; gives what is known of it then.
    ///
    /// # Errors
    ///
    /// As [`Tasks::status`].
    pub async fn wait(&self, id: &TaskId, timeout: impl Into<Option<Duration>>) -> Result<TaskStatus> {
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        let mut changes = self.store.changes();
        loop {
            changes.borrow_and_update();
            let status = self.status(id).await?;
            if status.state.is_ended() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(status);
            }
            let silence = Instant::now() + SILENCE;
            let until = deadline.map_or(silence, |deadline| deadline.min(silence));
            if let Ok(Err(_)) = tokio::time::timeout_at(until, changes.changed()).await {
                // Nobody tells of changes any more.
                tokio::time::sleep_until(until).await;
            }
            tokio::time::sleep_until(until.min(Instant::now() + BREATH)).await;
        }
    }

    /// Tasks, the newest first, without results and tracebacks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when the store cannot be used.
    pub async fn list(&self, filter: TaskFilter) -> Result<Vec<TaskStatus>> {
        let store = Arc::clone(&self.store);
        self.blocking(move || store.list(&filter)).await
    }

    /// How many tasks have not ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when the store cannot be used.
    pub async fn unfinished(&self) -> Result<u64> {
        let store = Arc::clone(&self.store);
        self.blocking(move || store.unfinished()).await
    }

    /// What a task writes, from its beginning.
    pub fn logs(&self, id: &TaskId) -> Logs {
        Logs { tasks: self.without_worker(), id: id.clone(), position: 0, is_over: false }
    }

    /// Cancels a task: at once if it waits; one that runs is stopped soon after. Gives its state afterwards.
    /// One that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Tasks::status`].
    pub async fn cancel(&self, id: &TaskId) -> Result<TaskState> {
        let (store, id) = (Arc::clone(&self.store), id.clone());
        self.blocking(move || store.cancel(&id)?.ok_or_else(|| absent(&id))).await
    }

    /// Removes tasks that ended as long ago, with their results and logs; says how many. Workers do this by
    /// themselves with what is older than [`TaskLimits::keep`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when the store cannot be used.
    pub async fn prune(&self, older_than: Duration) -> Result<u64> {
        let store = Arc::clone(&self.store);
        let prune = move || {
            let mut removed = 0;
            loop {
                let some = store.prune(older_than, PRUNED)?;
                removed += some as u64;
                if some < PRUNED {
                    return Ok(removed);
                }
            }
        };
        self.blocking(prune).await
    }

    /// A worker for these tasks, to be configured and started.
    pub fn worker(&self, kernel: &Kernel) -> super::WorkerBuilder {
        super::WorkerBuilder::new(kernel.clone(), self.without_worker())
    }

    /// The file of the store, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        self.store.file().map(Path::to_owned)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tasks").field("file", &self.store.file()).finish_non_exhaustive()
    }
}

/// Whose programs dispatch tasks, and how much these may be together.
#[derive(Clone)]
pub(super) struct Scope {
    pub name: String,
    pub quota: Quota,
}

/// Puts tasks into the store; blocks.
pub(super) fn put(
    store: &dyn TaskStore,
    limits: &TaskLimits,
    tasks: Vec<Task>,
    scope: Option<&Scope>,
) -> Result<Vec<TaskId>> {
    let mut messages = Vec::with_capacity(tasks.len());
    for mut task in tasks {
        task.check(limits)?;
        task.grants = grants::settled(task.grants)?;
        grants::check_store(&task.grants, store.file())?;
        let body = serde_json::to_string(&task).map_err(|error| {
            Error::new(ErrorKind::Tasks, "the task has no JSON form to be kept in").source(error)
        })?;
        messages.push(Message {
            id: task.id.take().unwrap_or_else(TaskId::new),
            name: task.name,
            scope: scope.map(|scope| scope.name.clone()).unwrap_or_default(),
            priority: task.priority,
            after: task.after,
            body,
        });
    }
    store.publish(&messages, scope.map(|scope| &scope.quota))?;
    Ok(messages.into_iter().map(|message| message.id).collect())
}

/// What a task writes, piece by piece.
#[derive(Clone, Debug)]
pub struct Logs {
    tasks: Tasks,
    id: TaskId,
    position: u64,
    is_over: bool,
}

impl Logs {
    /// The next pieces, which are waited for; nothing when the task has ended and this was all.
    ///
    /// # Errors
    ///
    /// As [`Tasks::status`].
    pub async fn next(&mut self) -> Result<Option<Vec<LogChunk>>> {
        let mut changes = self.tasks.store.changes();
        loop {
            changes.borrow_and_update();
            let chunks = self.read().await?;
            if !chunks.is_empty() {
                return Ok(Some(chunks));
            }
            if self.is_over {
                return Ok(None);
            }
            let _ = tokio::time::timeout(SILENCE, changes.changed()).await;
            tokio::time::sleep(BREATH).await;
        }
    }

    /// The pieces that are there and were not given yet.
    ///
    /// # Errors
    ///
    /// As [`Tasks::status`].
    pub async fn read(&mut self) -> Result<Vec<LogChunk>> {
        let (store, id, position) = (Arc::clone(&self.tasks.store), self.id.clone(), self.position);
        let page = self.tasks.blocking(move || store.log(&id, position)).await?;
        (self.position, self.is_over) = (page.next, page.is_last);
        Ok(page.chunks)
    }
}
