//! What programs ask: `agentkernel.task`, decoded and held to what their session may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use super::client::{Scope, put};
use super::store::{Delivery, Quota};
use super::worker::{MOST_LENT, Outbox, Shared};
use super::{Task, TaskFilter, TaskId, TaskLimits, Tasks, grants};
use crate::bindings::operations::Failure;
use crate::operations::Answer;
use crate::service::{Called, GoOn, Kind, Service, failure};
use crate::{Error, ErrorKind, Grants, Result, Workspace};

/// Bytes that a program says with its progress.
const MESSAGE_BYTES: usize = 1000;

/// Tasks that a program lists at most, and how many of them are looked at together: what is known of each may be much.
const LISTED: usize = 10_000;
const PAGE: usize = 200;

/// A program may only try again so often: each attempt takes time of a worker.
const MOST_RETRIES: u32 = 100;

/// What a session's programs may do with tasks.
#[derive(Clone)]
pub(crate) struct Access {
    tasks: Tasks,
    scope: Scope,
    /// Levels of tasks that may be below.
    levels: u32,
    inside: Option<Inside>,
}

/// The task that the session runs.
#[derive(Clone)]
struct Inside {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    id: TaskId,
    attempt: u32,
    input: Value,
    waits: Arc<Waits>,
}

/// Calls of a task in which it waits for other tasks.
#[derive(Default)]
struct Waits {
    pending: AtomicUsize,
    /// Its place could not be left to others.
    is_refused: AtomicBool,
    refused: Notify,
}

/// One of them.
struct Wait(Arc<Waits>);

impl Wait {
    fn begin(waits: &Arc<Waits>) -> Self {
        waits.pending.fetch_add(1, Ordering::SeqCst);
        waits.is_refused.store(false, Ordering::SeqCst);
        Wait(Arc::clone(waits))
    }

    /// Ready when the place could not be left.
    async fn refused(&self) {
        loop {
            let mut refused = std::pin::pin!(self.0.refused.notified());
            refused.as_mut().enable();
            if self.0.is_refused.load(Ordering::SeqCst) {
                return;
            }
            refused.await;
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inside {
    /// Leaves its place to others while it waits for them, until that is over.
    fn blocked(&self, memory_bytes: u64) -> Option<GoOn> {
        match self.shared.lend(memory_bytes) {
            Some(lent) => Some(Box::pin(lent.back())),
            None => {
                self.waits.is_refused.store(true, Ordering::SeqCst);
                self.waits.refused.notify_waiters();
                None
            }
        }
    }
}

fn too_many(limits: &TaskLimits) -> Failure {
    let message = format!(
        "too many tasks of this worker wait for others already: {MOST_LENT} may, with {} MiB of memory together; dispatch \
         what is to come after other tasks with `after=`, which takes no place",
        limits.waiting_bytes >> 20
    );
    failure("tasks", message)
}

impl Access {
    /// For a session that is no task.
    pub fn new(tasks: &Tasks) -> Self {
        let tasks = tasks.of_session();
        let name = match tasks.owner() {
            Some(owner) => format!("owner-{owner}"),
            None => format!("session-{}", TaskId::new()),
        };
        let scope = scope(&tasks, name);
        Access { levels: tasks.limited().levels, tasks, scope, inside: None }
    }

    /// For the session of a task.
    pub(super) fn inside(
        shared: &Arc<Shared>,
        delivery: &Delivery,
        task: &Task,
        outbox: &Arc<Outbox>,
    ) -> Self {
        let tasks = shared.tasks.of_session();
        let name = match delivery.scope.is_empty() {
            true => format!("task-{}", delivery.lease.id),
            false => delivery.scope.clone(),
        };
        let inside = Inside {
            shared: Arc::clone(shared),
            outbox: Arc::clone(outbox),
            id: delivery.lease.id.clone(),
            attempt: delivery.attempt,
            input: task.input.clone(),
            waits: Arc::default(),
        };
        Access {
            scope: scope(&tasks, name),
            levels: task.levels.min(tasks.limited().levels),
            tasks,
            inside: Some(inside),
        }
    }

    /// The service of a session with these grants.
    pub fn service(self, granted: &Grants) -> Result<Arc<dyn Service>> {
        grants::check_store(granted, self.tasks.store().file())?;
        // What a task is granted is found where the session found it.
        let mut granted = granted.clone();
        if let Workspace::Overlay(_) = granted.workspace {
            // Tasks have directories of their own then.
            granted.workspace = Workspace::Temporary;
        }
        if self.levels > 0 {
            granted = grants::settled(granted)?;
        }
        Ok(Arc::new(TaskService(Arc::new(Own { access: self, granted }))))
    }
}

fn scope(tasks: &Tasks, name: String) -> Scope {
    let limits = tasks.limited();
    let quota = Quota {
        unfinished: limits.unfinished,
        dispatched: limits.dispatched,
        stored_bytes: limits.stored_bytes,
    };
    Scope { name, quota }
}

struct TaskService(Arc<Own>);

struct Own {
    access: Access,
    granted: Grants,
}

/// What a program says of a task that it dispatches. The code is the first part of the tail, the input as
/// JSON the rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dispatch {
    code: usize,
    name: Option<String>,
    file: Option<String>,
    timeout: Option<f64>,
    memory: Option<u64>,
    #[serde(default)]
    retries: u32,
    backoff: Option<f64>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    after: Vec<TaskId>,
    /// Whether it sees the session's directory.
    workspace: Option<bool>,
    /// Those of the session's further directories that it sees; all, where nothing is said.
    mounts: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    id: TaskId,
    timeout: Option<f64>,
    #[serde(default)]
    position: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    fraction: f64,
    #[serde(default)]
    message: String,
}

#[derive(Serialize)]
struct Log {
    text: String,
    next: u64,
    is_last: bool,
}

impl Service for TaskService {
    fn kind(&self) -> Kind {
        Kind::Task
    }

    fn may_leave(&self) -> bool {
        let inside = self.0.access.inside.as_ref();
        inside.is_some_and(|inside| inside.waits.pending.load(Ordering::SeqCst) > 0)
    }

    fn blocked(&self, memory_bytes: u64) -> Option<GoOn> {
        self.0.access.inside.as_ref()?.blocked(memory_bytes)
    }

    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called {
        let own = Arc::clone(&self.0);
        let begun = match function {
            0 => own.dispatch(head, tail),
            1 => about(head).map(|about| own.status(about)),
            2 => about(head).map(|about| own.wait(about)),
            3 => Ok(own.list()),
            4 => about(head).map(|about| own.log(about)),
            5 => about(head).map(|about| own.cancel(about)),
            6 => own.progress(head),
            7 => Ok(Called::Ready(json(&own.itself()))),
            _ => Err(failure("unknown", "there is no such function")),
        };
        begun.unwrap_or_else(|failure| Called::Ready(Err(failure)))
    }
}

impl Own {
    fn dispatch(self: Arc<Self>, head: &[u8], tail: &[u8]) -> Result<Called, Failure> {
        let asked: Dispatch = read(head)?;
        let task = self.task(asked, tail)?;
        Ok(running(async move {
            let own = Arc::clone(&self);
            let put = move || {
                let Access { tasks, scope, .. } = &own.access;
                put(&**tasks.store(), tasks.limited(), vec![task], Some(scope))
            };
            let ids = self.access.tasks.blocking(put).await.map_err(|error| refused(&error))?;
            json(&ids.first())
        }))
    }

    /// The task that is asked for, with no more than the session itself has.
    fn task(&self, asked: Dispatch, tail: &[u8]) -> Result<Task, Failure> {
        let Some(levels) = self.access.levels.checked_sub(1) else {
            let message = "this task may dispatch no others; give it levels of them where it is dispatched \
                           (`--levels`, docs/tasks.md)";
            return Err(failure("denied", message));
        };
        let limits = self.access.tasks.limited();
        let (code, input) =
            tail.split_at_checked(asked.code).ok_or_else(|| failure("arguments", "the code is missing"))?;
        if code.len() as u64 > limits.code_bytes || input.len() as u64 > limits.input_bytes {
            let message = format!(
                "a task may have {} bytes of code and {} of input; put more into a file that it reads",
                limits.code_bytes, limits.input_bytes
            );
            return Err(failure("value", message));
        }
        let code = std::str::from_utf8(code).map_err(|_| failure("value", "the code must be UTF-8"))?;
        let mut task = Task::new(code).priority(asked.priority).after(asked.after).levels(levels);
        if !input.is_empty() {
            task.input = super::input::parse(input).map_err(|error| failure("value", told(&error)))?;
        }
        task.name = asked.name.unwrap_or_default();
        if let Some(file) = asked.file {
            task.file = file;
        }
        if asked.retries > MOST_RETRIES {
            return Err(failure("value", format!("a task is tried again at most {MOST_RETRIES} times")));
        }
        task.retries = asked.retries;
        if let Some(backoff) = asked.backoff {
            task.backoff = seconds(backoff)?;
        }
        task.grants = self.granted.clone();
        if asked.workspace == Some(false) {
            task.grants.workspace = Workspace::Temporary;
        }
        if let Some(kept) = asked.mounts {
            let known = |guest: &String| self.granted.mounts.iter().any(|mount| mount.guest == *guest);
            if let Some(unknown) = kept.iter().find(|guest| !known(guest)) {
                let shown = super::spec::shortened(unknown).escape_debug();
                return Err(failure("denied", format!("`{shown}` is not granted to this program")));
            }
            task.grants.mounts.retain(|mount| kept.contains(&mount.guest));
        }
        if let Some(timeout) = asked.timeout {
            task.grants.limits.timeout = Some(seconds(timeout)?);
        }
        if let Some(bytes) = asked.memory {
            task.grants.limits.memory_bytes = bytes;
        }
        if let Some(excess) = grants::excess(&task.grants, &self.granted) {
            let message = format!("a task cannot have more than the program that dispatches it: {excess}");
            return Err(failure("denied", message));
        }
        Ok(task)
    }

    /// Whether the task is one of this session's. Others are as if they were not there.
    async fn check(&self, id: &TaskId) -> Result<(), Failure> {
        let (store, id) = (Arc::clone(self.access.tasks.store()), id.clone());
        let own = self.access.scope.name.clone();
        let look = move || Ok((store.scope(&id)?.is_some_and(|scope| scope == own), id));
        let known = self.access.tasks.blocking(look).await;
        match known.map_err(|error| refused(&error))? {
            (true, _) => Ok(()),
            (false, id) => Err(refused(&super::absent(&id))),
        }
    }

    fn status(self: Arc<Self>, about: About) -> Called {
        running(async move {
            self.check(&about.id).await?;
            let status = self.access.tasks.status(&about.id).await.map_err(|error| refused(&error))?;
            json(&status.to_json())
        })
    }

    fn wait(self: Arc<Self>, about: About) -> Called {
        // Its place is for the task that it waits for.
        let inside = self.access.inside.as_ref();
        let wait = inside.map(|inside| Wait::begin(&inside.waits));
        let ended = async move {
            let wait = wait;
            let timeout = about.timeout.map(seconds).transpose()?;
            self.check(&about.id).await?;
            let ended = self.access.tasks.wait(&about.id, timeout);
            let status = match &wait {
                None => ended.await,
                Some(wait) => tokio::select! {
                    biased;
                    ended = ended => ended,
                    () = wait.refused() => return Err(too_many(self.access.tasks.limited())),
                },
            };
            json(&status.map_err(|error| refused(&error))?.to_json())
        };
        Called::Waiting(Box::pin(ended))
    }

    fn list(self: Arc<Self>) -> Called {
        running(async move {
            let scope = Some(self.access.scope.name.clone());
            let mut filter = TaskFilter { scope, most: Some(PAGE), ..TaskFilter::default() };
            let mut listed: Vec<TaskId> = Vec::new();
            loop {
                let page = self.access.tasks.list(filter.clone()).await.map_err(|error| refused(&error))?;
                let is_last = page.len() < PAGE;
                listed.extend(page.into_iter().map(|status| status.id));
                if is_last || listed.len() >= LISTED {
                    break;
                }
                filter.before = listed.last().cloned();
            }
            json(&listed)
        })
    }

    fn log(self: Arc<Self>, about: About) -> Called {
        running(async move {
            self.check(&about.id).await?;
            let store = Arc::clone(self.access.tasks.store());
            let read = move || store.log(&about.id, about.position);
            let page = self.access.tasks.blocking(read).await;
            let page = page.map_err(|error| refused(&error))?;
            let bytes: Vec<u8> = page.chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            json(&Log { text, next: page.next, is_last: page.is_last })
        })
    }

    fn cancel(self: Arc<Self>, about: About) -> Called {
        running(async move {
            self.check(&about.id).await?;
            let state = self.access.tasks.cancel(&about.id).await.map_err(|error| refused(&error))?;
            json(&state)
        })
    }

    fn progress(self: Arc<Self>, head: &[u8]) -> Result<Called, Failure> {
        let Progress { fraction, message } = read(head)?;
        let Some(inside) = &self.access.inside else {
            return Err(failure("tasks", "this program is not a task, so it has no progress to tell"));
        };
        if !(0.0..=1.0).contains(&fraction) {
            return Err(failure("value", "progress is a number from 0 to 1"));
        }
        if message.len() > MESSAGE_BYTES {
            return Err(failure("value", format!("a message has at most {MESSAGE_BYTES} bytes")));
        }
        inside.outbox.progress(&inside.shared, fraction, message);
        Ok(Called::Ready(Ok(Vec::new())))
    }

    fn itself(&self) -> BTreeMap<&'static str, Value> {
        let Some(inside) = &self.access.inside else { return BTreeMap::new() };
        [
            ("id", inside.id.as_str().into()),
            ("attempt", inside.attempt.into()),
            ("input", inside.input.clone()),
        ]
        .into()
    }
}

fn running(answer: impl Future<Output = Answer> + Send + 'static) -> Called {
    Called::Running(Box::pin(answer))
}

fn about(head: &[u8]) -> Result<About, Failure> {
    read(head)
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| failure("value", error.to_string()))
}

fn json(value: &impl Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| failure("trap", error.to_string()))
}

fn seconds(number: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(number).map_err(|error| failure("value", error.to_string()))
}

/// An error as the program is told it: what it asked for cannot be, or the store cannot be used.
fn refused(error: &Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::Grant => "denied",
        _ => "tasks",
    };
    failure(kind, told(error))
}

fn told(error: &Error) -> String {
    match error.remedy() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}
