//! Workers whose store does not do as they think.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentkernel::task::store::{LogPage, Message, News, Pulled, Quota, Report, Standing, TaskStore};
use agentkernel::task::{SqliteTasks, Task, TaskFilter, TaskId, TaskState, TaskStatus, Tasks};
use agentkernel::{Grants, Result, Workspace};
use agentkernel_tests::kernel;
use tokio::sync::watch;

use super::{Place, value};

/// A store that forgets that first attempts are in progress, as if their worker had slept.
struct Forgetful(SqliteTasks);

impl TaskStore for Forgetful {
    fn report(&self, reports: &[Report]) -> Result<Vec<Standing>> {
        let forgets =
            |report: &&Report| report.lease.token == 1 && matches!(report.news, News::InProgress { .. });
        match reports.iter().find(forgets) {
            None => self.0.report(reports),
            Some(_) => reports
                .iter()
                .map(|report| match forgets(&report) {
                    true => Ok(Standing::Held),
                    false => Ok(self.0.report(std::slice::from_ref(report))?[0]),
                })
                .collect(),
        }
    }

    fn publish(&self, messages: &[Message], quota: Option<&Quota>) -> Result<Vec<bool>> {
        self.0.publish(messages, quota)
    }

    fn pull(&self, worker: &str, most: usize, lease: Duration) -> Result<Pulled> {
        self.0.pull(worker, most, lease)
    }

    fn to_stop(&self, worker: &str) -> Result<Vec<TaskId>> {
        self.0.to_stop(worker)
    }

    fn cancel(&self, id: &TaskId) -> Result<Option<TaskState>> {
        self.0.cancel(id)
    }

    fn status(&self, id: &TaskId) -> Result<Option<TaskStatus>> {
        self.0.status(id)
    }

    fn scope(&self, id: &TaskId) -> Result<Option<String>> {
        self.0.scope(id)
    }

    fn list(&self, filter: &TaskFilter) -> Result<Vec<TaskStatus>> {
        self.0.list(filter)
    }

    fn unfinished(&self) -> Result<u64> {
        self.0.unfinished()
    }

    fn log(&self, id: &TaskId, position: u64) -> Result<LogPage> {
        self.0.log(id, position)
    }

    fn prune(&self, older_than: Duration, most: usize) -> Result<usize> {
        self.0.prune(older_than, most)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }

    fn file(&self) -> Option<&Path> {
        self.0.file()
    }
}

#[test]
fn a_worker_that_gets_its_own_task_again_stops_the_attempt_before() {
    let place = Place::new();
    let out = tempfile::tempdir().unwrap();
    let tasks = Tasks::new(Arc::new(Forgetful(SqliteTasks::open(place.file()).unwrap())));
    let _worker = tasks.worker(kernel()).concurrency(2).lease(Duration::from_millis(500)).start().unwrap();
    let code = "from agentkernel import task\nimport time\ntime.sleep(1)\n\
                open(f'ended-{task.attempt}', 'x').close()\ntime.sleep(1)\ntask.attempt";
    let grants = Grants { workspace: Workspace::Directory(out.path().to_owned()), ..Grants::default() };
    let id = place.dispatch(Task::new(code).grants(grants));
    assert_eq!(value(&place.ended(&id)), 2);
    let ended: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(ended, ["ended-2"]);
}
