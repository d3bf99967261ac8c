//! Background tasks: programs that are kept in a store until a worker has run them.
//!
//! [`Tasks`] dispatches them and tells how they are; a [`Worker`] runs them in sessions of a kernel. The store
//! ([`SqliteTasks`], or another [`TaskStore`]) is what several processes share. A task is run at least once: a
//! worker that ends in the middle of one leaves it to another, when its lease is over. No two run the same task at once,
//! and only the last one that was given it can say how it ended.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> agentkernel::Result<()> {
//! use agentkernel::Kernel;
//! use agentkernel::task::{Task, TaskResult};
//!
//! let directory = std::env::temp_dir().join(format!("agentkernel-tasks-{}", std::process::id()));
//! std::fs::create_dir_all(&directory).unwrap();
//! let tasks = Kernel::new()?.tasks(directory.join("tasks.db"))?;
//! let id = tasks.dispatch(Task::new("print('working'); 6 * 7")).await?;
//! let status = tasks.wait(&id, std::time::Duration::from_secs(30)).await?;
//! assert_eq!(status.result, Some(TaskResult::Json(42.into())));
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok(())
//! # }
//! ```

mod attempt;
mod client;
mod grants;
mod id;
mod input;
mod record;
mod service;
mod spec;
mod sqlite;
pub mod store;
mod worker;

use std::time::{Duration, SystemTime};

pub use client::{Logs, Tasks};
pub use id::TaskId;
pub use record::{
    FailureKind, LogChunk, TaskFailure, TaskFilter, TaskLimits, TaskResult, TaskState, TaskStatus,
};
pub use spec::{PRIORITIES, Task};
pub use sqlite::SqliteTasks;
pub use store::TaskStore;
pub use worker::{Worker, WorkerBuilder};

pub(crate) use service::Access;

use crate::{Error, ErrorKind};

fn absent(id: &TaskId) -> Error {
    Error::new(ErrorKind::Tasks, format!("there is no task `{id}`"))
        .hint("it may have been removed: ended tasks are kept for a set time")
}

fn milliseconds_now() -> i64 {
    milliseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
