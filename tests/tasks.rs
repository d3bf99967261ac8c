//! Background tasks: the store, workers, what programs may do with them.

#[path = "tasks/late.rs"]
mod late;
#[path = "tasks/many.rs"]
mod many;
#[path = "tasks/programs.rs"]
mod programs;
#[path = "tasks/store.rs"]
mod store;
#[path = "tasks/workers.rs"]
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use agentkernel::task::{Task, TaskId, TaskResult, TaskState, TaskStatus, Tasks, Worker};
use agentkernel_tests::kernel;

/// How long anything here may take.
const LONG: Duration = Duration::from_secs(60);

/// A store in a directory of its own.
struct Place {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    tasks: Tasks,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = Tasks::open(directory.path().join("tasks.db")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        Place { directory, runtime: runtime.unwrap(), tasks }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("tasks.db")
    }

    fn work(&self, concurrency: usize) -> Worker {
        self.tasks.worker(kernel()).concurrency(concurrency).start().unwrap()
    }

    fn dispatch(&self, task: impl Into<Dispatched>) -> TaskId {
        self.runtime.block_on(self.tasks.dispatch(task.into().0)).unwrap()
    }

    fn refused(&self, task: Task) -> agentkernel::Error {
        self.runtime.block_on(self.tasks.dispatch(task)).unwrap_err()
    }

    /// What is known of a task that must end.
    fn ended(&self, id: &TaskId) -> TaskStatus {
        let status = self.runtime.block_on(self.tasks.wait(id, LONG)).unwrap();
        assert!(status.state.is_ended(), "{status:?}");
        status
    }

    fn status(&self, id: &TaskId) -> TaskStatus {
        self.runtime.block_on(self.tasks.status(id)).unwrap()
    }

    fn cancel(&self, id: &TaskId) -> TaskState {
        self.runtime.block_on(self.tasks.cancel(id)).unwrap()
    }

    fn log(&self, id: &TaskId) -> String {
        let mut logs = self.tasks.logs(id);
        let mut bytes = Vec::new();
        loop {
            let chunks = self.runtime.block_on(logs.read()).unwrap();
            if chunks.is_empty() {
                return String::from_utf8(bytes).unwrap();
            }
            bytes.extend(chunks.into_iter().flat_map(|chunk| chunk.bytes));
        }
    }

    /// Waits until that holds of a task.
    fn until(&self, id: &TaskId, holds: impl Fn(&TaskStatus) -> bool) -> TaskStatus {
        let deadline = std::time::Instant::now() + LONG;
        loop {
            let status = self.status(id);
            if holds(&status) {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "{status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A task, or the code of one.
struct Dispatched(Task);

impl From<&str> for Dispatched {
    fn from(code: &str) -> Self {
        Dispatched(Task::new(code))
    }
}

impl From<Task> for Dispatched {
    fn from(task: Task) -> Self {
        Dispatched(task)
    }
}

/// The JSON of what a task gave.
fn value(status: &TaskStatus) -> serde_json::Value {
    match &status.result {
        Some(TaskResult::Json(value)) => value.clone(),
        other => panic!("{other:?} {:?}", status.failure),
    }
}

fn failure(status: &TaskStatus) -> &agentkernel::task::TaskFailure {
    status.failure.as_ref().unwrap_or_else(|| panic!("{status:?}"))
}
