//! The store against a model of it, and stores that are none.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use agentkernel::task::store::{Lease, Message, News, Report, Standing, TaskStore};
use agentkernel::task::{
    FailureKind, SqliteTasks, TaskFailure, TaskFilter, TaskId, TaskResult, TaskState, Tasks,
};
use agentkernel::{ErrorKind, Stream};
use proptest::prelude::*;

/// Times that pass at once, or not while a test runs.
const NOW: Duration = Duration::ZERO;
const LATER: Duration = Duration::from_secs(3600);

/// Attempts after which a task that is lost again and again fails.
const MOST_LOST: u32 = 16;

#[derive(Clone, Debug)]
enum Step {
    Publish { priority: i32, after: Vec<prop::sample::Index> },
    PublishAgain(prop::sample::Index),
    Pull { most: usize, expires: bool },
    Report { lease: prop::sample::Index, say: Say },
    Cancel(prop::sample::Index),
    Prune,
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Say {
    Wrote,
    Progress,
    InProgress { expires: bool },
    Ack,
    Nak { later: bool },
    Term,
    Cancelled,
    Release { later: bool },
    Lost { later: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let say = prop_oneof![
        2 => Just(Say::Wrote),
        1 => Just(Say::Progress),
        1 => any::<bool>().prop_map(|expires| Say::InProgress { expires }),
        4 => Just(Say::Ack),
        2 => any::<bool>().prop_map(|later| Say::Nak { later }),
        1 => Just(Say::Term),
        1 => Just(Say::Cancelled),
        1 => any::<bool>().prop_map(|later| Say::Release { later }),
        1 => any::<bool>().prop_map(|later| Say::Lost { later }),
    ];
    prop_oneof![
        6 => (-2..3, prop::collection::vec(index(), 0..3))
            .prop_map(|(priority, after)| Step::Publish { priority, after }),
        1 => index().prop_map(Step::PublishAgain),
        5 => (1..4usize, any::<bool>()).prop_map(|(most, expires)| Step::Pull { most, expires }),
        10 => (index(), say).prop_map(|(lease, say)| Step::Report { lease, say }),
        2 => index().prop_map(Step::Cancel),
        1 => Just(Step::Prune),
        1 => Just(Step::Reopen),
    ]
}

/// A task as it should be.
#[derive(Clone, Debug)]
struct Known {
    priority: i32,
    blockers: Vec<TaskId>,
    state: TaskState,
    token: u64,
    attempts: u32,
    lost: u32,
    cancel: bool,
    expires: bool,
    log: Vec<u8>,
    kind: Option<FailureKind>,
}

/// In the order in which they were published: names sort so.
#[derive(Default)]
struct Model {
    tasks: BTreeMap<TaskId, Known>,
    leases: Vec<Lease>,
}

impl Model {
    fn publish(&mut self, id: TaskId, priority: i32, after: &[TaskId]) -> bool {
        if after.iter().any(|needed| !self.tasks.contains_key(needed)) {
            return false;
        }
        let is = |needed: &TaskId, states: &[TaskState]| states.contains(&self.tasks[needed].state);
        let failed = after.iter().any(|needed| is(needed, &[TaskState::Failed, TaskState::Cancelled]));
        let open = |needed: &&TaskId| !is(needed, &[TaskState::Succeeded]);
        let mut blockers: Vec<TaskId> = after.iter().filter(open).cloned().collect();
        blockers.dedup();
        let state = match (failed, blockers.is_empty()) {
            (true, _) => TaskState::Failed,
            (false, false) => TaskState::Waiting,
            (false, true) => TaskState::Ready,
        };
        let known = Known {
            priority,
            blockers,
            state,
            token: 0,
            attempts: 0,
            lost: 0,
            cancel: false,
            expires: false,
            log: Vec::new(),
            kind: failed.then_some(FailureKind::DependencyFailed),
        };
        self.tasks.insert(id, known);
        true
    }

    fn end(&mut self, id: &TaskId, state: TaskState, kind: Option<FailureKind>) {
        let task = self.tasks.get_mut(id).unwrap();
        (task.state, task.kind, task.cancel) = (state, kind, false);
        let waiting: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.state == TaskState::Waiting && task.blockers.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for other in waiting {
            if state != TaskState::Succeeded {
                self.end(&other, TaskState::Failed, Some(FailureKind::DependencyFailed));
                continue;
            }
            let task = self.tasks.get_mut(&other).unwrap();
            task.blockers.retain(|needed| needed != id);
            if task.blockers.is_empty() {
                task.state = TaskState::Ready;
            }
        }
    }

    fn lose(&mut self, id: &TaskId) {
        let task = self.tasks.get_mut(id).unwrap();
        if task.cancel {
            return self.end(id, TaskState::Cancelled, None);
        }
        task.lost += 1;
        task.state = TaskState::Ready;
        if task.lost >= MOST_LOST {
            self.end(id, TaskState::Failed, Some(FailureKind::Lost));
        }
    }

    fn pull(&mut self, most: usize, expires: bool) -> Vec<Lease> {
        let expired = |task: &Known| task.state == TaskState::Running && task.expires;
        let lost: Vec<TaskId> =
            self.tasks.iter().filter(|(_, task)| expired(task)).map(|(id, _)| id.clone()).collect();
        lost.iter().for_each(|id| self.lose(id));
        let mut ready: Vec<(i32, TaskId)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.state == TaskState::Ready)
            .map(|(id, task)| (-task.priority, id.clone()))
            .collect();
        ready.sort();
        ready.truncate(most);
        let mut given = Vec::new();
        for (_, id) in ready {
            let task = self.tasks.get_mut(&id).unwrap();
            task.token += 1;
            task.attempts += 1;
            (task.state, task.expires) = (TaskState::Running, expires);
            given.push(Lease { id, token: task.token });
        }
        self.leases.extend(given.clone());
        given
    }

    fn report(&mut self, lease: &Lease, say: Say) -> Standing {
        let held = self.tasks.get_mut(&lease.id);
        let held = held.filter(|task| task.state == TaskState::Running && task.token == lease.token);
        let Some(task) = held else { return Standing::Refused };
        let standing = if task.cancel { Standing::ToStop } else { Standing::Held };
        match say {
            Say::Wrote => task.log.extend_from_slice(b"text"),
            Say::Progress => {}
            Say::InProgress { expires } => task.expires = expires,
            Say::Ack => self.end(&lease.id, TaskState::Succeeded, None),
            Say::Nak { .. } | Say::Release { .. } if task.cancel => {
                self.end(&lease.id, TaskState::Cancelled, None)
            }
            Say::Nak { later } => {
                task.kind = Some(FailureKind::Raised);
                task.state = if later { TaskState::Waiting } else { TaskState::Ready };
            }
            Say::Term => self.end(&lease.id, TaskState::Failed, Some(FailureKind::Raised)),
            Say::Cancelled => self.end(&lease.id, TaskState::Cancelled, None),
            Say::Release { later } => {
                task.attempts -= 1;
                task.state = if later { TaskState::Waiting } else { TaskState::Ready };
            }
            Say::Lost { later } => {
                self.lose(&lease.id);
                let task = self.tasks.get_mut(&lease.id).unwrap();
                if later && task.state == TaskState::Ready {
                    task.state = TaskState::Waiting;
                }
            }
        }
        standing
    }
}

fn failure() -> TaskFailure {
    TaskFailure { kind: FailureKind::Raised, message: "m".into(), exception: None, traceback: None }
}

fn news(say: Say) -> News {
    let time = |expires| if expires { NOW } else { LATER };
    match say {
        Say::Wrote => News::Wrote { chunks: vec![(Stream::Stdout, b"text".to_vec())], most: 1 << 20 },
        Say::Progress => News::Progress { fraction: 0.5, message: "half".into() },
        Say::InProgress { expires } => News::InProgress { lease: time(expires) },
        Say::Ack => News::Ack { result: TaskResult::Json(1.into()) },
        Say::Nak { later } => News::Nak { delay: time(!later), failure: failure() },
        Say::Term => News::Term { failure: failure() },
        Say::Cancelled => News::Cancelled,
        Say::Release { later } => News::Release { delay: time(!later) },
        Say::Lost { later } => News::Lost { delay: time(!later) },
    }
}

fn message(id: &TaskId, priority: i32, after: Vec<TaskId>) -> Message {
    let (name, scope, body) = ("n".into(), String::new(), "b".into());
    Message { id: id.clone(), name, scope, priority, after, body }
}

fn check(store: &SqliteTasks, model: &Model) -> Result<(), TestCaseError> {
    let listed = store.list(&TaskFilter::default()).unwrap();
    prop_assert_eq!(listed.len(), model.tasks.len());
    for (listed, (id, known)) in listed.iter().rev().zip(&model.tasks) {
        prop_assert_eq!((&listed.id, listed.state, listed.attempts), (id, known.state, known.attempts));
        prop_assert_eq!(listed.stopping, known.cancel);
        let status = store.status(id).unwrap().unwrap();
        prop_assert_eq!(status.failure.map(|failure| failure.kind), known.kind);
        prop_assert_eq!(status.result.is_some(), known.state == TaskState::Succeeded);
        let page = store.log(id, 0).unwrap();
        let log: Vec<u8> = page.chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
        prop_assert_eq!(&log, &known.log);
        prop_assert_eq!(page.is_last, known.state.is_ended());
    }
    let unfinished = model.tasks.values().filter(|task| !task.state.is_ended()).count();
    prop_assert_eq!(store.unfinished().unwrap(), unfinished as u64);
    let mut to_stop = store.to_stop("w").unwrap();
    to_stop.sort();
    let stopping: Vec<TaskId> =
        model.tasks.iter().filter(|(_, task)| task.cancel).map(|(id, _)| id.clone()).collect();
    prop_assert_eq!(to_stop, stopping);
    Ok(())
}

fn follow(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks.db");
    let open = || SqliteTasks::open(&file).unwrap();
    let mut store = open();
    let mut model = Model::default();
    let mut ids: Vec<TaskId> = Vec::new();
    let pick = |ids: &[TaskId], index: &prop::sample::Index| {
        (!ids.is_empty()).then(|| ids[index.index(ids.len())].clone())
    };
    for step in steps {
        match step {
            Step::Publish { priority, after } => {
                let mut after: Vec<TaskId> = after.iter().filter_map(|index| pick(&ids, index)).collect();
                after.sort();
                let id = TaskId::new();
                let put = store.publish(&[message(&id, priority, after.clone())], None);
                match model.publish(id.clone(), priority, &after) {
                    true => {
                        prop_assert_eq!(put.unwrap(), [true]);
                        ids.push(id);
                    }
                    false => prop_assert_eq!(put.unwrap_err().kind(), ErrorKind::Tasks),
                }
            }
            Step::PublishAgain(index) => {
                if let Some(id) = pick(&ids, &index).filter(|id| model.tasks.contains_key(id)) {
                    prop_assert_eq!(store.publish(&[message(&id, 9, Vec::new())], None).unwrap(), [false]);
                }
            }
            Step::Pull { most, expires } => {
                let pulled = store.pull("w", most, if expires { NOW } else { LATER }).unwrap();
                let leases: Vec<Lease> =
                    pulled.deliveries.iter().map(|delivery| delivery.lease.clone()).collect();
                prop_assert_eq!(leases, model.pull(most, expires));
            }
            Step::Report { lease, say } => {
                if !model.leases.is_empty() {
                    let lease = model.leases[lease.index(model.leases.len())].clone();
                    let report = Report { lease: lease.clone(), news: news(say) };
                    prop_assert_eq!(store.report(&[report]).unwrap(), [model.report(&lease, say)]);
                }
            }
            Step::Cancel(index) => {
                let Some(id) = pick(&ids, &index) else { continue };
                let state = model.tasks.get(&id).map(|task| task.state);
                match state {
                    Some(TaskState::Running) => model.tasks.get_mut(&id).unwrap().cancel = true,
                    Some(TaskState::Waiting | TaskState::Ready) => model.end(&id, TaskState::Cancelled, None),
                    _ => {}
                }
                let now = model.tasks.get(&id).map(|task| task.state);
                prop_assert_eq!(store.cancel(&id).unwrap(), now);
            }
            Step::Prune => {
                let before = model.tasks.len();
                model.tasks.retain(|_, task| !task.state.is_ended());
                prop_assert_eq!(store.prune(NOW, usize::MAX).unwrap(), before - model.tasks.len());
            }
            Step::Reopen => store = open(),
        }
        check(&store, &model)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        follow(steps)?;
    }
}

#[test]
fn a_task_that_is_always_lost_comes_to_an_end() {
    let lose = [Step::Pull { most: 1, expires: true }];
    let steps = [Step::Publish { priority: 0, after: Vec::new() }];
    follow(steps.into_iter().chain(lose.into_iter().cycle().take(20)).collect()).unwrap();
}

#[test]
fn a_worker_that_was_too_late_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteTasks::open(directory.path().join("tasks.db")).unwrap();
    let other = SqliteTasks::open(directory.path().join("tasks.db")).unwrap();
    let id = TaskId::new();
    store.publish(&[message(&id, 0, Vec::new())], None).unwrap();
    let late = store.pull("late", 1, NOW).unwrap().deliveries.remove(0);
    let next = other.pull("next", 1, LATER).unwrap().deliveries.remove(0);
    assert!(next.lease.token > late.lease.token);
    assert_eq!((late.attempt, next.attempt), (1, 2));
    for say in [
        Say::Wrote,
        Say::Progress,
        Say::InProgress { expires: false },
        Say::Ack,
        Say::Release { later: false },
    ] {
        let report = Report { lease: late.lease.clone(), news: news(say) };
        assert_eq!(store.report(&[report]).unwrap(), [Standing::Refused]);
    }
    assert_eq!(store.status(&id).unwrap().unwrap().state, TaskState::Running);
    assert_eq!(
        other.report(&[Report { lease: next.lease, news: news(Say::Ack) }]).unwrap(),
        [Standing::Held]
    );
    assert_eq!(store.status(&id).unwrap().unwrap().state, TaskState::Succeeded);
}

#[test]
fn a_store_is_its_owners_alone_and_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks.db");
    let id = TaskId::new();
    SqliteTasks::open(&file).unwrap().publish(&[message(&id, 0, Vec::new())], None).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let status = SqliteTasks::open(&file).unwrap().status(&id).unwrap().unwrap();
    assert_eq!(status.state, TaskState::Ready);
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |file: &Path, message: &str| {
        let before = fs::read(file).ok();
        let error = Tasks::open(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tasks);
        assert!(error.to_string().contains("cannot use") && error.remedy().is_some(), "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(fs::read(file).ok() == before, "{} has changed", file.display());
    };
    let text = directory.path().join("text");
    fs::write(&text, "this is no database, and long enough to be read as one".repeat(100)).unwrap();
    refused(&text, "not a database");
    refused(&directory.path().join("absent/tasks.db"), "No such file");

    // A newer store and a database of something else: their numbers stand in the header.
    let patched = |name: &str, offset: u64, number: u32| {
        let file = directory.path().join(name);
        drop(Tasks::open(&file).unwrap());
        let mut open = fs::OpenOptions::new().write(true).open(&file).unwrap();
        open.seek(SeekFrom::Start(offset)).unwrap();
        open.write_all(&number.to_be_bytes()).unwrap();
        file
    };
    refused(&patched("newer", 60, 2), "another version of AgentKernel, in format 2");
    refused(&patched("other", 68, 7), "database of something else");
}

#[test]
fn a_damaged_store_is_an_error_and_never_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks.db");
    {
        let store = SqliteTasks::open(&file).unwrap();
        let messages: Vec<Message> =
            (0..200).map(|number| message(&TaskId::new(), number % 3, Vec::new())).collect();
        store.publish(&messages, None).unwrap();
    }
    let whole = fs::read(&file).unwrap();
    let mut errors = 0;
    for place in (0..whole.len()).step_by(2048) {
        let mut bytes = whole.clone();
        let end = (place + 512).min(bytes.len());
        bytes[place..end].fill(0xa5);
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(directory.path().join(format!("tasks.db{suffix}")));
        }
        fs::write(&file, &bytes).unwrap();
        let used = SqliteTasks::open(&file).and_then(|store| {
            store.list(&TaskFilter::default())?;
            let pulled = store.pull("w", 300, LATER)?;
            let reports: Vec<Report> = pulled
                .deliveries
                .into_iter()
                .map(|delivery| Report { lease: delivery.lease, news: news(Say::Ack) })
                .collect();
            store.report(&reports)?;
            store.prune(NOW, usize::MAX)
        });
        if let Err(error) = used {
            assert_eq!(error.kind(), ErrorKind::Tasks, "{error:?}");
            assert!(error.remedy().is_some(), "{error:?}");
            errors += 1;
        }
    }
    assert!(errors > 3, "{errors}");
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(directory.path().join(format!("tasks.db{suffix}")));
    }
    assert!(SqliteTasks::open(&file).and_then(|store| store.list(&TaskFilter::default())).is_err());
}

#[test]
fn a_removed_task_leaves_nothing_to_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteTasks::open(directory.path().join("tasks.db")).unwrap();
    let [needed, waiting, next] = [TaskId::new(), TaskId::new(), TaskId::new()];
    store.publish(&[message(&needed, 0, Vec::new())], None).unwrap();
    store.publish(&[message(&waiting, 0, vec![needed.clone()])], None).unwrap();
    store.cancel(&waiting).unwrap();
    assert_eq!(store.prune(NOW, usize::MAX).unwrap(), 1);
    store.publish(&[message(&next, 0, Vec::new())], None).unwrap();
    store.cancel(&needed).unwrap();
    assert_eq!(store.status(&next).unwrap().unwrap().state, TaskState::Ready);
}

#[test]
fn no_more_are_removed_than_were_asked_for_and_the_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteTasks::open(directory.path().join("tasks.db")).unwrap();
    let ids = [TaskId::new(), TaskId::new(), TaskId::new()];
    for id in &ids {
        store.publish(&[message(id, 0, Vec::new())], None).unwrap();
        store.cancel(id).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(store.prune(NOW, 2).unwrap(), 2);
    let left = store.list(&TaskFilter::default()).unwrap();
    assert_eq!(left.iter().map(|status| &status.id).collect::<Vec<_>>(), [&ids[2]]);
    assert_eq!(store.prune(NOW, 2).unwrap(), 1);
}
