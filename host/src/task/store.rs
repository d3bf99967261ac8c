//! Where tasks are kept, and the operations that a queue of messages has.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::{LogChunk, TaskFailure, TaskFilter, TaskId, TaskResult, TaskState, TaskStatus};
use crate::{Result, Stream};

/// A store of tasks: a work queue, and what is known of each task.
///
/// The operations are those of a queue of messages with acknowledgements, as NATS JetStream has them: tasks are
/// published, pulled with a deadline, kept by reports that they are in progress, and acknowledged, given back
/// or ended. A task is given to one worker at a time. Each delivery has a token, and what is reported with
/// another than the last one is refused, so a worker that was too late changes nothing.
///
/// All of them may block for a while: they are called on threads that may.
pub trait TaskStore: Send + Sync {
    /// Puts tasks in, all of them or, with an error, none. One whose name is there already is left out;
    /// says for each whether it is new. The tasks that it needs must be there, of the same scope if it has one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`](crate::ErrorKind::Tasks) when a needed task is not there, when the scope has as many tasks as it
    /// may, or when the store cannot be used; so in all of these functions.
    fn publish(&self, messages: &[Message], quota: Option<&Quota>) -> Result<Vec<bool>>;

    /// Gives tasks that are ready, those with the highest priority first, each to be kept for `lease`. Those
    /// whose lease ran out are ready again.
    fn pull(&self, worker: &str, most: usize, lease: Duration) -> Result<Pulled>;

    /// Takes in what a worker has to say of tasks that it holds, all or, with an error, nothing; says for each how the
    /// delivery stands afterwards.
    fn report(&self, reports: &[Report]) -> Result<Vec<Standing>>;

    /// The tasks that a worker holds and is to stop.
    fn to_stop(&self, worker: &str) -> Result<Vec<TaskId>>;

    /// Cancels a task: at once, if nobody runs it; otherwise its worker is asked to stop it. Gives its state
    /// afterwards, and nothing if it is not there.
    fn cancel(&self, id: &TaskId) -> Result<Option<TaskState>>;

    /// What is known of a task.
    fn status(&self, id: &TaskId) -> Result<Option<TaskStatus>>;

    /// Its scope: empty for a task that no program dispatched.
    fn scope(&self, id: &TaskId) -> Result<Option<String>>;

    /// What is known of tasks, without results and failures' tracebacks, the newest first.
    fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskStatus>>;

    /// How many tasks have not ended.
    fn unfinished(&self) -> Result<u64>;

    /// What a task wrote from `position` on, some hundred kilobytes at most.
    fn log(&self, id: &TaskId, position: u64) -> Result<LogPage>;

    /// Removes tasks that ended as long ago, with their results and logs, the oldest first and no more than `most`; says
    /// how many.
    fn prune(&self, older_than: Duration, most: usize) -> Result<usize>;

    /// Tells of changes by whomever, soon after they are made.
    fn changes(&self) -> watch::Receiver<u64>;

    /// A file that decides what tasks may do, which no program may write to.
    fn file(&self) -> Option<&Path> {
        None
    }
}

/// A task to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its name.
    pub id: TaskId,
    /// What people call it.
    pub name: String,
    /// Whose programs dispatched it, if any did.
    pub scope: String,
    /// Its priority.
    pub priority: i32,
    /// Tasks that must have succeeded first.
    pub after: Vec<TaskId>,
    /// What only workers read.
    pub body: String,
}

/// How much the tasks of a scope may be together.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Tasks that have not ended.
    pub unfinished: u64,
    /// Tasks in all.
    pub dispatched: u64,
    /// Bytes that they take.
    pub stored_bytes: u64,
}

/// One delivery of a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task.
    pub id: TaskId,
    /// Which delivery of it; a later one has a larger token.
    pub token: u64,
}

/// A task that is given to a worker.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which task and which delivery.
    pub lease: Lease,
    /// The attempt, from 1: those before it failed or were lost.
    pub attempt: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// The message's scope.
    pub scope: String,
    /// The message's body.
    pub body: String,
}

/// What a pull gave.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    /// The tasks.
    pub deliveries: Vec<Delivery>,
    /// The time until another one becomes ready by itself, if one does.
    pub next: Option<Duration>,
}

/// What a worker says of a task that it holds.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub lease: Lease,
    /// What it says.
    pub news: News,
}

/// What there is to say of a task that is held.
#[derive(Clone, Debug)]
pub enum News {
    /// It wrote something. No more than `most` bytes of a task are kept, and a marker.
    Wrote {
        /// What, in order.
        chunks: Vec<(Stream, Vec<u8>)>,
        /// Bytes of all its attempts that are kept.
        most: u64,
    },
    /// It says how far it is.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// In its own words.
        message: String,
    },
    /// It is in progress, and is kept for as long again.
    InProgress {
        /// From now on.
        lease: Duration,
    },
    /// It succeeded.
    Ack {
        /// What it gave.
        result: TaskResult,
    },
    /// It failed, and is to be tried again.
    Nak {
        /// The time before that.
        delay: Duration,
        /// How it failed.
        failure: TaskFailure,
    },
    /// It failed for good.
    Term {
        /// How.
        failure: TaskFailure,
    },
    /// It was stopped because it was cancelled.
    Cancelled,
    /// It is given back as it was, as if it had not been begun.
    Release {
        /// The time before it is given to a worker again.
        delay: Duration,
    },
    /// The worker could not run it, for a reason that is not the task's.
    Lost {
        /// The time before it is tried again.
        delay: Duration,
    },
}

impl News {
    /// What came of an attempt, as it is counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            News::Ack { .. } => "succeeded",
            News::Nak { .. } => "retried",
            News::Term { .. } => "failed",
            News::Cancelled => "cancelled",
            _ => "released",
        }
    }
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The report was taken in.
    Held,
    /// It was taken in, and the task is to be stopped.
    ToStop,
    /// It was refused: the task is not this worker's any more.
    Refused,
}

/// A part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// What was written, in order.
    pub chunks: Vec<LogChunk>,
    /// Where the next part begins.
    pub next: u64,
    /// Whether this is all there will be.
    pub is_last: bool,
}
