//! What is known of a task: its state, its progress, how it ended, what it wrote.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TaskId;
use crate::Stream;

/// Where a task is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It waits for other tasks, or for the time of its next attempt.
    Waiting,
    /// It runs when a worker has a place for it.
    Ready,
    /// A worker runs it.
    Running,
    /// It ran to its end.
    Succeeded,
    /// It failed, and is not tried again.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl TaskState {
    /// All of them, in the order of a task's way.
    pub const ALL: [TaskState; 6] = [
        TaskState::Waiting,
        TaskState::Ready,
        TaskState::Running,
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Cancelled,
    ];

    /// Whether nothing happens to it any more.
    pub fn is_ended(self) -> bool {
        matches!(self, TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled)
    }

    /// Its name in machine-readable output: `waiting`, `ready`, `running`, `succeeded`, `failed` or
    /// `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Waiting => "waiting",
            TaskState::Ready => "ready",
            TaskState::Running => "running",
            TaskState::Succeeded => "succeeded",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }
}

/// What a task gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskResult {
    /// The JSON form of its last expression's value; null if it did not end in one.
    Json(Value),
    /// The `repr()` of a value without a JSON form, cut after 65,536 bytes.
    Repr(String),
}

/// Why a task failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureKind {
    /// An exception was not caught.
    Raised,
    /// `sys.exit` with another code than 0.
    Exited,
    /// Its time limit was reached.
    TimedOut,
    /// Its memory limit was reached.
    OutOfMemory,
    /// Its fuel limit was reached.
    OutOfFuel,
    /// The interpreter failed.
    Trapped,
    /// Its result is larger than may be kept.
    ResultTooLarge,
    /// A task that it needs did not succeed.
    DependencyFailed,
    /// It could not be started as it is, and is not tried again.
    Refused,
    /// Its workers ended in the middle of it, or could not run it, again and again.
    Lost,
}

impl FailureKind {
    /// Its name in machine-readable output, `timed-out` for instance.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Raised => "raised",
            FailureKind::Exited => "exited",
            FailureKind::TimedOut => "timed-out",
            FailureKind::OutOfMemory => "out-of-memory",
            FailureKind::OutOfFuel => "out-of-fuel",
            FailureKind::Trapped => "trapped",
            FailureKind::ResultTooLarge => "result-too-large",
            FailureKind::DependencyFailed => "dependency-failed",
            FailureKind::Refused => "refused",
            FailureKind::Lost => "lost",
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What happened, in a line or some. It may be the program's own text.
    pub message: String,
    /// The class of the exception, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exception: Option<String>,
    /// Its traceback.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceback: Option<String>,
}

impl TaskFailure {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        TaskFailure { kind, message: message.into(), exception: None, traceback: None }
    }
}

/// What is known of a task at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStatus {
    /// Its name in the store.
    pub id: TaskId,
    /// What people call it.
    pub name: String,
    /// Where it is on its way.
    pub state: TaskState,
    /// Whether it runs, and was asked to stop.
    pub stopping: bool,
    /// Its priority.
    pub priority: i32,
    /// How often it was started, the attempts that were given back not counted.
    pub attempts: u32,
    /// How far it is, from 0 to 1, where it says.
    pub progress: Option<f64>,
    /// What it said with its progress: the program's own text.
    pub message: String,
    /// What it gave, once it has succeeded.
    pub result: Option<TaskResult>,
    /// How the last attempt failed, unless one has succeeded since.
    pub failure: Option<TaskFailure>,
    /// The tasks that it was to wait for.
    pub after: Vec<TaskId>,
    /// When it was dispatched.
    pub created: SystemTime,
    /// When its last attempt began.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// When it is tried again, if it waits for that.
    pub due: Option<SystemTime>,
    /// Bytes of its log that are kept.
    pub log_bytes: u64,
    /// Changes whenever anything else here does.
    pub revision: u64,
}

/// Which tasks are listed.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TaskFilter {
    /// Only tasks in one of these states; all, if there is none here.
    pub states: Vec<TaskState>,
    /// Only tasks that are called so.
    pub name: Option<String>,
    /// Only tasks that were dispatched before this one.
    pub before: Option<TaskId>,
    /// At most as many. Default: 1000.
    pub most: Option<usize>,
    /// Only those of one scope: of a session's programs.
    pub scope: Option<String>,
}

/// A piece of what a task wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Which standard stream.
    pub stream: Stream,
    /// The attempt that wrote it, from 1.
    pub attempt: u32,
    /// What it wrote.
    pub bytes: Vec<u8>,
}

/// How much tasks may be, and how much of them is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskLimits {
    /// Bytes of code, with the arguments. Default: 1 MiB.
    pub code_bytes: u64,
    /// Bytes of an input as JSON. Default: 1 MiB.
    pub input_bytes: u64,
    /// Bytes of a result as JSON; a task with a larger one fails. Default: 1 MiB.
    pub result_bytes: u64,
    /// Bytes of a task's output that are kept, all its attempts together; the rest is dropped after a
    /// marker. Default: 1 MiB.
    pub log_bytes: u64,
    /// Tasks of one session's programs that have not ended. Default: 256.
    pub unfinished: u64,
    /// Tasks that one session's programs dispatch in all. Default: 10,000.
    pub dispatched: u64,
    /// Bytes that the tasks of one session's programs take in the store, beyond which they dispatch no
    /// more. Default: 256 MiB.
    pub stored_bytes: u64,
    /// Bytes of memory, beside what each begins with, of the tasks of one worker that wait for others; what is more is
    /// refused to wait, unless it is the only one. Default: 2 GiB.
    pub waiting_bytes: u64,
    /// Levels of tasks that a session's programs may dispatch. Default: 4.
    pub levels: u32,
    /// How long ended tasks are kept, with their results and logs. Default: 7 days.
    pub keep: Duration,
}

impl Default for TaskLimits {
    fn default() -> Self {
        TaskLimits {
            code_bytes: 1 << 20,
            input_bytes: 1 << 20,
            result_bytes: 1 << 20,
            log_bytes: 1 << 20,
            unfinished: 256,
            dispatched: 10_000,
            stored_bytes: 256 << 20,
            waiting_bytes: 2 << 30,
            levels: 4,
            keep: Duration::from_secs(7 * 86_400),
        }
    }
}

impl TaskStatus {
    /// What machine-readable output has of it: the fields of this type, times in seconds since 1970, and the
    /// result as `result` (its JSON form) and `repr`. See docs/tasks.md.
    pub fn to_json(&self) -> Value {
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1e3
        };
        let (result, repr) = match &self.result {
            Some(TaskResult::Json(value)) => (value.clone(), None),
            Some(TaskResult::Repr(text)) => (Value::Null, Some(text)),
            None => (Value::Null, None),
        };
        serde_json::json!({
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "stopping": self.stopping,
            "priority": self.priority,
            "attempts": self.attempts,
            "progress": self.progress,
            "message": self.message,
            "result": result,
            "repr": repr,
            "failure": self.failure,
            "after": self.after,
            "created": seconds(self.created),
            "started": self.started.map(seconds),
            "ended": self.ended.map(seconds),
            "due": self.due.map(seconds),
            "log_bytes": self.log_bytes,
            "revision": self.revision,
        })
    }
}
