//! Workers: what they run, in which order, and what they do when it goes wrong.

use std::time::{Duration, Instant};

use agentkernel::task::{FailureKind, Task, TaskFilter, TaskLimits, TaskResult, TaskState, Tasks};
use agentkernel::{Access, ErrorKind, Grants, Mount, Skills, State, Stream, Workspace};
use agentkernel_tests::{builder, kernel};

use super::{LONG, Place, failure, value};

#[test]
fn a_task_gives_its_result_its_log_and_its_times() {
    let place = Place::new();
    let _worker = place.work(2);
    let code = "import sys\nfrom agentkernel import task\nprint('out')\nprint('err', file=sys.stderr)\n\
                {'sum': sum(task.input), 'id': task.id, 'argv': sys.argv, 'attempt': task.attempt}";
    let task = Task::new(code).name("sum").input(serde_json::json!([1, 2, 3])).arguments(["a", "b"]);
    let id = place.dispatch(task);
    let status = place.ended(&id);
    assert_eq!(
        value(&status),
        serde_json::json!({"sum": 6, "id": id.as_str(), "argv": ["a", "b"], "attempt": 1})
    );
    assert_eq!((status.state, status.name.as_str(), status.attempts), (TaskState::Succeeded, "sum", 1));
    assert!(status.created <= status.started.unwrap() && status.started <= status.ended);
    assert_eq!(place.log(&id), "out\nerr\n");
    let chunks = place.runtime.block_on(place.tasks.logs(&id).read()).unwrap();
    let streams: Vec<Stream> = chunks.iter().map(|chunk| chunk.stream).collect();
    assert_eq!(streams, [Stream::Stdout, Stream::Stderr]);
    // A value without a JSON form, and none at all.
    let status = place.ended(&place.dispatch("{1, 2}"));
    assert_eq!(status.result, Some(TaskResult::Repr("{1, 2}".into())));
    assert_eq!(value(&place.ended(&place.dispatch("x = 1"))), serde_json::Value::Null);
    assert_eq!(value(&place.ended(&place.dispatch("raise SystemExit"))), serde_json::Value::Null);
    assert_eq!(value(&place.ended(&place.dispatch("import asyncio\nawait asyncio.sleep(0.01, 7)"))), 7);
}

#[test]
fn the_highest_priority_goes_first_and_then_the_oldest() {
    let place = Place::new();
    let out = tempfile::tempdir().unwrap();
    let mark = |name: &str, priority| {
        let grants = Grants { workspace: Workspace::Directory(out.path().to_owned()), ..Grants::default() };
        let code = format!("print({name:?}, file=open('order', 'a'))");
        place.dispatch(Task::new(code).grants(grants).priority(priority))
    };
    let ids = [mark("a", 0), mark("b", -5), mark("c", 100), mark("d", 0), mark("e", 100)];
    let _worker = place.work(1);
    for id in &ids {
        assert_eq!(place.ended(id).state, TaskState::Succeeded);
    }
    let order = std::fs::read_to_string(out.path().join("order")).unwrap();
    assert_eq!(order.split_whitespace().collect::<String>(), "cead".to_owned() + "b");
}

#[test]
fn a_task_runs_after_those_that_it_needs_or_fails_with_them() {
    let place = Place::new();
    let slow = place.dispatch("import time; time.sleep(0.2); 1");
    let other = place.dispatch("2");
    let both = place.dispatch(Task::new("3").after([slow.clone(), other.clone()]));
    let failing = place.dispatch("1 / 0");
    let needing = place.dispatch(Task::new("4").after([failing.clone(), both.clone()]));
    let further = place.dispatch(Task::new("5").after([needing.clone()]));
    assert_eq!(place.status(&both).state, TaskState::Waiting);
    let _worker = place.work(2);
    let ended = place.ended(&both);
    assert_eq!(ended.state, TaskState::Succeeded);
    assert!(ended.started.unwrap() >= place.status(&slow).ended.unwrap());
    assert_eq!(failure(&place.ended(&failing)).exception.as_deref(), Some("ZeroDivisionError"));
    for (id, cause) in [(&needing, &failing), (&further, &needing)] {
        let status = place.ended(id);
        assert_eq!((status.state, status.attempts), (TaskState::Failed, 0));
        assert_eq!(failure(&status).kind, FailureKind::DependencyFailed);
        assert!(failure(&status).message.contains(cause.as_str()));
    }
    // Of one that has ended already.
    let late = place.dispatch(Task::new("6").after([failing]));
    assert_eq!(failure(&place.status(&late)).kind, FailureKind::DependencyFailed);
    assert_eq!(value(&place.ended(&place.dispatch(Task::new("7").after([both])))), 7);
    let unknown = place.refused(Task::new("8").after(["nobody".parse().unwrap()]));
    assert_eq!(unknown.kind(), ErrorKind::Tasks);
    assert!(unknown.to_string().contains("there is no task `nobody`"), "{unknown}");
}

#[test]
fn a_failing_task_is_tried_again_with_growing_pauses() {
    let place = Place::new();
    let _worker = place.work(2);
    let code = "from agentkernel import task\nprint('attempt', task.attempt)\nif task.attempt < 3: raise OSError('not yet')\n'now'";
    let began = Instant::now();
    let id = place.dispatch(Task::new(code).retries(5).backoff(Duration::from_millis(100)));
    let waiting = place.until(&id, |status| status.state == TaskState::Waiting);
    assert_eq!(failure(&waiting).message, "not yet");
    assert!(waiting.due.is_some());
    let status = place.ended(&id);
    assert_eq!((value(&status), status.attempts), ("now".into(), 3));
    assert_eq!(status.failure, None);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(place.log(&id), "attempt 1\nattempt 2\nattempt 3\n");
    let id =
        place.dispatch(Task::new("print('x')\nimport sys\nsys.exit(3)").retries(1).backoff(Duration::ZERO));
    let status = place.ended(&id);
    assert_eq!((status.state, status.attempts), (TaskState::Failed, 2));
    assert_eq!((failure(&status).kind, place.log(&id).as_str()), (FailureKind::Exited, "x\nx\n"));
}

#[test]
fn every_limit_ends_a_task_with_a_failure_that_says_so() {
    let place = Place::new();
    let _worker = place.work(2);
    let ended = |task: Task| {
        let status = place.ended(&place.dispatch(task));
        assert_eq!(status.state, TaskState::Failed, "{status:?}");
        failure(&status).clone()
    };
    let slow = ended(Task::new("while True: pass").timeout(Duration::from_millis(100)));
    assert_eq!(
        (slow.kind, slow.message.as_str()),
        (FailureKind::TimedOut, "it was stopped at its time limit of 0.1 s")
    );
    let deep = ended(Task::new("raise ValueError('a' * 100_000)"));
    assert_eq!(deep.kind, FailureKind::Raised);
    assert!(deep.message.len() < 5000 && deep.message.contains("bytes are left out"));
    let large = ended(Task::new("'x' * 2_000_000").retries(3));
    assert_eq!(large.kind, FailureKind::ResultTooLarge);
    assert!(large.message.contains("write it to a file"), "{}", large.message);
    let large = ended(Task::new("{'x' * 2_000_000}"));
    assert_eq!(large.kind, FailureKind::ResultTooLarge);
    // Kept and started: the worker goes on.
    assert_eq!(value(&place.ended(&place.dispatch("1"))), 1);
}

#[test]
fn waiting_tasks_are_cancelled_at_once_and_running_ones_stopped() {
    let place = Place::new();
    let waiting = place.dispatch("1");
    let needing = place.dispatch(Task::new("2").after([waiting.clone()]));
    assert_eq!(place.cancel(&waiting), TaskState::Cancelled);
    assert_eq!(place.status(&waiting).state, TaskState::Cancelled);
    assert_eq!(failure(&place.status(&needing)).kind, FailureKind::DependencyFailed);
    let _worker = place.work(2);
    for code in
        ["print('up', flush=True)\nwhile True: pass", "print('up', flush=True)\nimport time; time.sleep(100)"]
    {
        let running = place.dispatch(Task::new(code).retries(3));
        place.until(&running, |status| status.log_bytes > 0);
        let began = Instant::now();
        assert_eq!(place.cancel(&running), TaskState::Running);
        let status = place.ended(&running);
        assert_eq!(status.state, TaskState::Cancelled);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(place.cancel(&running), TaskState::Cancelled);
        assert_eq!(place.log(&running), "up\n");
    }
    let unknown = place.runtime.block_on(place.tasks.cancel(&"nobody".parse().unwrap())).unwrap_err();
    assert!(unknown.to_string().contains("there is no task"), "{unknown}");
}

#[test]
fn progress_and_output_are_seen_while_a_task_runs() {
    let place = Place::new();
    let _worker = place.work(2);
    let code = "from agentkernel import task\nimport os, time\ntask.progress(0.25, 'a quarter')\nprint('one')\n\
                while not os.path.exists('/go/on'): time.sleep(0.01)\ntask.progress(1)\nprint('two')";
    let go = tempfile::tempdir().unwrap();
    let mut grants = Grants::default();
    let mount = Mount { host: go.path().to_owned(), guest: "/go".into(), access: Access::ReadOnly };
    grants.mounts.push(mount);
    let id = place.dispatch(Task::new(code).grants(grants));
    let status = place.until(&id, |status| status.progress.is_some());
    assert_eq!((status.progress, status.message.as_str()), (Some(0.25), "a quarter"));
    let mut logs = place.tasks.logs(&id);
    let first = place.runtime.block_on(logs.next()).unwrap().unwrap();
    assert_eq!(first[0].bytes, b"one\n");
    assert_eq!(place.status(&id).state, TaskState::Running);
    std::fs::write(go.path().join("on"), "").unwrap();
    let second = place.runtime.block_on(logs.next()).unwrap().unwrap();
    assert_eq!(second[0].bytes, b"two\n");
    assert_eq!(place.runtime.block_on(logs.next()).unwrap(), None);
    assert_eq!(place.status(&id).progress, Some(1.0));
}

#[test]
fn what_is_old_is_removed() {
    let place = Place::new();
    let limits = |keep| {
        let mut limits = TaskLimits::default();
        limits.keep = keep;
        limits
    };
    let worker = place.work(1);
    let ids: Vec<_> = (0..3).map(|number| place.dispatch(format!("print({number})").as_str())).collect();
    ids.iter().for_each(|id| drop(place.ended(id)));
    worker.stop();
    place.dispatch("1");
    let prune = |age| place.runtime.block_on(place.tasks.prune(age)).unwrap();
    assert_eq!(prune(Duration::from_secs(60)), 0);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(prune(Duration::ZERO), 3);
    for id in &ids {
        let gone = place.runtime.block_on(place.tasks.status(id)).unwrap_err();
        assert!(gone.to_string().contains("there is no task"), "{gone}");
    }
    assert_eq!(place.runtime.block_on(place.tasks.list(TaskFilter::default())).unwrap().len(), 1);
    // A worker does it by itself.
    let tasks = Tasks::open(place.file()).unwrap().limits(limits(Duration::ZERO));
    let worker = tasks.worker(kernel()).start().unwrap();
    let deadline = Instant::now() + LONG;
    while place.runtime.block_on(tasks.unfinished()).unwrap() > 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(worker);
    // More than at a time.
    let many = (0..120).map(|_| Task::new("1")).collect();
    for id in place.runtime.block_on(place.tasks.dispatch_all(many)).unwrap() {
        place.cancel(&id);
    }
    std::thread::sleep(Duration::from_millis(5));
    let _worker = tasks.worker(kernel()).start().unwrap();
    while !place.runtime.block_on(place.tasks.list(TaskFilter::default())).unwrap().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_worker_that_ends_gives_its_tasks_back() {
    let place = Place::new();
    let worker = place.work(2);
    let ids: Vec<_> = (0..4)
        .map(|_| place.dispatch("from agentkernel import task\nimport time\nprint('up', flush=True)\ntime.sleep(0.5)\ntask.attempt"))
        .collect();
    place.until(&ids[0], |status| status.log_bytes > 0);
    let began = Instant::now();
    drop(worker);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for id in &ids {
        let status = place.status(id);
        assert_eq!((status.state, status.attempts), (TaskState::Ready, 0));
    }
    let _worker = place.work(4);
    for id in &ids {
        assert_eq!(value(&place.ended(id)), 1);
    }
}

#[test]
fn several_workers_share_a_store() {
    let place = Place::new();
    let out = tempfile::tempdir().unwrap();
    let grants = Grants { workspace: Workspace::Directory(out.path().to_owned()), ..Grants::default() };
    let others: Vec<_> = (0..3)
        .map(|_| {
            let tasks = Tasks::open(place.file()).unwrap();
            tasks.worker(kernel()).concurrency(2).start().unwrap()
        })
        .collect();
    // Twice at once would find the file there.
    let code = "from agentkernel import task\nopen(task.id, 'x').close()\n1";
    let tasks = (0..300).map(|_| Task::new(code).grants(grants.clone())).collect();
    let ids = place.runtime.block_on(place.tasks.dispatch_all(tasks)).unwrap();
    for id in &ids {
        assert_eq!(value(&place.ended(id)), 1);
    }
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 300);
    drop(others);
}

#[test]
fn a_kernel_has_a_worker_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let tasks = kernel().tasks(directory.path().join("tasks.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let id = tasks.dispatch(Task::new("6 * 7")).await.unwrap();
        assert_eq!(value(&tasks.wait(&id, LONG).await.unwrap()), 42);
        let id = tasks.dispatch(Task::new("import time; time.sleep(30)")).await.unwrap();
        let began = Instant::now();
        let status = tasks.wait(&id, Duration::from_millis(100)).await.unwrap();
        assert!(!status.state.is_ended() && began.elapsed() < Duration::from_secs(5));
        // In the middle of one, inside of a runtime.
        drop(tasks);
    });
}

#[test]
fn directories_are_checked_when_a_task_is_dispatched_and_when_it_runs() {
    let place = Place::new();
    let inside = |directory: &std::path::Path| {
        Task::new("1")
            .grants(Grants { workspace: Workspace::Directory(directory.to_owned()), ..Grants::default() })
    };
    let error = place.refused(inside(std::path::Path::new("/nowhere/at/all")));
    assert_eq!(error.kind(), ErrorKind::Grant);
    let error = place.refused(inside(place.directory.path()));
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("which the program may write to"), "{error}");
    let gone = tempfile::tempdir().unwrap();
    let id = place.dispatch(inside(gone.path()).retries(3));
    drop(gone);
    let _worker = place.work(1);
    let status = place.ended(&id);
    assert_eq!((failure(&status).kind, status.attempts), (FailureKind::Refused, 1));
}

#[test]
fn what_was_taken_ahead_is_left_to_others_when_it_must_wait() {
    let place = Place::new();
    let _worker = place.work(1);
    let dispatch = |tasks| place.runtime.block_on(place.tasks.dispatch_all(tasks)).unwrap();
    // The worker learns that tasks are short.
    let short = || (0..100).map(|_| Task::new("1"));
    dispatch(short().collect()).iter().for_each(|id| drop(place.ended(id)));
    let long = Task::new("import time; time.sleep(50)");
    let ids = dispatch(std::iter::once(long).chain(short().take(30)).collect());
    place.until(&ids[0], |status| status.state == TaskState::Running);
    let _other = place.work(1);
    for id in &ids[1..] {
        assert_eq!(place.ended(id).attempts, 1);
    }
    assert_eq!(place.status(&ids[0]).state, TaskState::Running);
}

#[test]
fn a_task_has_neither_the_state_nor_the_skills_of_the_kernel() {
    let place = Place::new();
    let skills = tempfile::tempdir().unwrap();
    let kernel = builder()
        .state(State::in_memory().unwrap())
        .skills(Skills::open_writable(skills.path()).unwrap())
        .build()
        .unwrap();
    let _worker = place.tasks.worker(&kernel).start().unwrap();
    for code in ["from agentkernel import state\nstate['k'] = 1", "import skills"] {
        let status = place.ended(&place.dispatch(code));
        assert_eq!(status.state, TaskState::Failed, "{code}: {status:?}");
    }
}

#[test]
fn a_task_waits_for_a_worker_whose_kernel_meters_fuel_as_it_needs() {
    let place = Place::new();
    let worker = place.work(1);
    let mut grants = Grants::default();
    grants.limits.fuel = Some(10_000_000_000);
    let id = place.dispatch(Task::new("from agentkernel import task\ntask.attempt").grants(grants));
    // It is taken and given back.
    let status = place.until(&id, |status| status.due.is_some());
    assert_eq!((status.state, status.attempts), (TaskState::Waiting, 0));
    drop(worker);
    let metering = builder().metered(true).build().unwrap();
    let other = place.tasks.worker(&metering).start().unwrap();
    assert_eq!(value(&place.ended(&id)), 1);
    let id = place.dispatch("1");
    place.until(&id, |status| status.due.is_some());
    drop(other);
    let _worker = place.work(1);
    assert_eq!(value(&place.ended(&id)), 1);
}

#[test]
fn a_place_that_is_left_is_used_for_what_was_taken_ahead() {
    let place = Place::new();
    let _worker = place.work(1);
    let dispatch = |tasks| place.runtime.block_on(place.tasks.dispatch_all(tasks)).unwrap();
    // The worker learns that tasks are short.
    let short = || (0..100).map(|_| Task::new("1"));
    dispatch(short().collect()).iter().for_each(|id| drop(place.ended(id)));
    let waits = "from agentkernel import task\ntask.dispatch('41 + 1').result()";
    let waits = Task::new(waits).levels(1).timeout(Duration::from_secs(20));
    let ids = dispatch(std::iter::once(waits).chain(short()).collect());
    assert_eq!(value(&place.ended(&ids[0])), 42);
}

#[test]
fn a_task_that_waits_for_many_leaves_one_place() {
    let place = Place::new();
    let _worker = place.work(1);
    let waits = "
import asyncio
from agentkernel import task
code = 'import time; began = time.time(); time.sleep(0.05); [began, time.time()]'
times = await asyncio.gather(*[task.dispatch(code).wait_async() for _ in range(8)])
times = sorted(t.result() for t in [task.get(one.id) for one in task.list()])
[a[1] <= b[0] for a, b in zip(times, times[1:])]
";
    let id = place.dispatch(Task::new(waits).levels(1).timeout(Duration::from_secs(20)));
    assert_eq!(value(&place.ended(&id)), serde_json::Value::from(vec![true; 7]));
}
