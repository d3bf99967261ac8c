//! What programs do with `agentkernel.task`, and what they may not.

use std::time::{Duration, Instant};

use agentkernel::task::{FailureKind, Task, TaskFilter, TaskLimits, TaskState, Tasks};
use agentkernel::{Ending, ErrorKind, Grants, Workspace};
use agentkernel_tests::{kernel, limits};

use super::{Place, failure, value};

impl Place {
    /// Runs a program that may dispatch tasks, with no limit of the store changed.
    fn program(&self, code: &str) -> serde_json::Value {
        self.program_in(Grants { limits: limits(), ..Grants::default() }, code)
    }

    fn program_in(&self, grants: Grants, code: &str) -> serde_json::Value {
        let mut session = kernel().session().grants(grants).tasks(&self.tasks).start().unwrap();
        let outcome = session.run_blocking(code).unwrap();
        match outcome.ending {
            Ending::Completed(Some(value)) => value.json.unwrap_or_else(|| value.repr.into()),
            Ending::Completed(None) => serde_json::Value::Null,
            Ending::Raised(exception) => format!("{}: {}", exception.kind, exception.message).into(),
            other => panic!("{other:?}"),
        }
    }

    fn limited(mut self, change: impl FnOnce(&mut TaskLimits)) -> Self {
        let mut limits = TaskLimits::default();
        change(&mut limits);
        self.tasks = self.tasks.limits(limits);
        self
    }
}

#[test]
fn a_program_dispatches_code_and_functions() {
    let place = Place::new();
    let _worker = place.work(2);
    let code = "
from agentkernel import task

def add(a, b=1):
    '''With a docstring.'''
    import math
    return math.floor(a) + b

async def later(seconds):
    import asyncio
    await asyncio.sleep(seconds)
    return {'slept': seconds}

one = task.dispatch(add, 1.5, 2)
two = task.dispatch(later, 0.01, name='named')
three = task.dispatch('from agentkernel import task\\nprint(task.input)\\ntask.input[\"x\"]', input={'x': [1, 2]}, after=[one, two])
results = [one.result(), two.result(timeout=30), await three]
[results, two.status().name, one.status().name, three.logs(), three.status().state, len(task.list()), task.get(one.id) == one]
";
    let expected = serde_json::json!([[3, {"slept": 0.01}, [1, 2]], "named", "add", "{'x': [1, 2]}\n", "succeeded", 3, true]);
    assert_eq!(place.program(code), expected);
}

#[test]
fn waiting_failing_and_cancelling_in_a_program() {
    let place = Place::new();
    let _worker = place.work(2);
    let code = "
import asyncio, time
from agentkernel import task
slow = task.dispatch('import time; time.sleep(60)')
try:
    slow.wait(timeout=0.05)
except TimeoutError as error:
    first = str(error).startswith(f'the task {slow.id} has not ended')
while slow.status().state != 'running': time.sleep(0.01)
cancelled = slow.cancel()
try:
    slow.result()
except task.TaskFailed as error:
    second = error.kind
bad = task.dispatch('def f(): return 1 / 0\\nf()', retries=1, backoff=0)
try:
    bad.result()
except task.TaskFailed as error:
    third = [error.kind, error.exception, 'return 1 / 0' in error.traceback, str(error).endswith('ZeroDivisionError: division by zero')]
many = [task.dispatch(f'{n} * 2') for n in range(5)]
results = await asyncio.gather(*many)
[first, cancelled, second, third, bad.status().attempts, results]
";
    let expected = serde_json::json!([
        true,
        "running",
        "cancelled",
        ["raised", "ZeroDivisionError", true, true],
        2,
        [0, 2, 4, 6, 8]
    ]);
    assert_eq!(place.program(code), expected);
}

#[test]
fn what_cannot_be_sent_is_said_with_its_reason() {
    let place = Place::new();
    let refusals = [
        ("lambda: 1", "it is a lambda"),
        ("[].append", "not a function that is written in Python"),
        ("dict", "not a function that is written in Python"),
        ("closure()", "uses variables of the function around it (x)"),
        ("nested()", "defined inside of a class or a function"),
        ("A().method", "it is a method"),
        ("A.method", "defined inside of a class or a function"),
        ("numbers", "it is a generator"),
        ("cached", "lru_cache"),
        ("decorated", "decorated"),
        ("made", "its source is not known"),
        ("42", "code or a function can be dispatched, and this is a int"),
        ("(plain, object())", "the arguments must have a JSON form"),
        ("(plain, float('nan'))", "the arguments must have a JSON form"),
        ("('1', 2)", "arguments go with a function"),
    ];
    for (what, reason) in refusals {
        let code = format!(
            "
import functools
from agentkernel import task
def plain(x): return x
def closure():
    x = 1
    def inner(): return x
    return inner
def nested():
    def inner(): return 1
    return inner
class A:
    def method(self): return 1
def numbers():
    yield 1
@functools.lru_cache
def cached(): return 1
def through(f): return f
@through
def decorated(): return 1
names = {{}}
exec('def made(): return 1', names)
made = names['made']
what = {what}
what = what if isinstance(what, tuple) else (what,)
try:
    task.dispatch(*what)
except TypeError as error:
    told = str(error)
told
"
        );
        let told = place.program(&code);
        assert!(told.as_str().unwrap_or_default().contains(reason), "{what}: {told}");
    }
    assert_eq!(place.runtime.block_on(place.tasks.unfinished()).unwrap(), 0);
}

#[test]
fn a_program_without_the_grant_is_told_how_to_get_it() {
    let mut session = kernel().session().start().unwrap();
    let outcome = session.run_blocking("from agentkernel import task\ntask.dispatch('1')").unwrap();
    let Ending::Raised(exception) = outcome.ending else { panic!("{:?}", outcome.ending) };
    assert_eq!(exception.kind, "PermissionError");
    assert!(exception.message.contains("`--tasks`"), "{}", exception.message);
}

#[test]
fn tasks_have_the_directory_of_their_program_or_one_of_their_own() {
    let place = Place::new();
    let _worker = place.work(1);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("data"), "here").unwrap();
    let grants = Grants {
        workspace: Workspace::Directory(directory.path().to_owned()),
        limits: limits(),
        ..Grants::default()
    };
    let code = "
from agentkernel import task
def look():
    import os
    open('made', 'w').close()
    return sorted(os.listdir())
[task.dispatch(look).result(), task.dispatch(look, workspace=False).result()]
";
    assert_eq!(place.program_in(grants, code), serde_json::json!([["data", "made"], ["made"]]));
    assert_eq!(place.program(code), serde_json::json!([["made"], ["made"]]));
}

#[test]
fn a_task_never_gets_more_than_its_program() {
    let place = Place::new();
    for (options, reason) in [
        ("timeout=10_000", "its limit of time is wider"),
        ("memory=1 << 40", "its limit of memory is wider"),
        ("mounts=['/etc']", "`/etc` is not granted to this program"),
        ("workspace=True", ""),
        ("timeout=float('inf')", ""),
        ("timeout=-1", "negative"),
        ("retries=10**6", "at most 100 times"),
        ("priority=1000", "priority"),
        ("name='\\x1b[31mred'", "cannot be named"),
        ("name='a\\nb'", "cannot be named"),
        ("after=['someone-else']", "there is no task"),
        ("after=['../../etc']", "cannot be the name of a task"),
        ("input='x' * 2_000_000", "of input"),
    ] {
        let code = format!("from agentkernel import task\ntask.dispatch('1', {options}).status().state");
        let told = place.program(&code);
        let told = told.as_str().unwrap_or_default();
        let told_so = if reason.is_empty() { !told.is_empty() } else { told.contains(reason) };
        assert!(told_so, "{options}: {told}");
    }
    // Past the module, as a hostile program would.
    for head in [
        "{\"code\": 1, \"grants\": {\"workspace\": \"/etc\"}}",
        "{\"code\": 1, \"levels\": 9}",
        "{\"code\": 99}",
        "{\"code\": 1, \"timeout\": null, \"memory\": 99999999999999}",
        "[]",
        "",
        "{\"code\": 1, \"after\": [7]}",
    ] {
        let code = format!(
            "from agentkernel import _calls\ntry:\n    told = _calls.call(0xFF000400, {head:?}.encode(), b'1')\nexcept _calls.Failure as error:\n    told = error.value.kind\ntold"
        );
        let told = place.program(&code);
        assert!(["value", "denied", "arguments"].iter().any(|kind| told == *kind), "{head}: {told}");
    }
    let waiting = place.runtime.block_on(place.tasks.list(TaskFilter::default())).unwrap();
    assert!(waiting.len() <= 2, "{waiting:?}");
    let store = place.file();
    let grants =
        Grants { workspace: Workspace::Directory(store.parent().unwrap().to_owned()), ..Grants::default() };
    let error = kernel().session().grants(grants).tasks(&place.tasks).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("which the program may write to"), "{error}");
}

#[test]
fn programs_do_not_see_the_tasks_of_others() {
    let place = Place::new();
    let other = place.dispatch("1");
    let own = place.program("from agentkernel import task\ntask.dispatch('1').id");
    for id in [other.as_str(), own.as_str().unwrap()] {
        for call in [
            "task.get(ID)",
            "task.Task(ID).cancel()",
            "task.Task(ID).logs()",
            "task.Task(ID).wait(0)",
            "task.dispatch('1', after=[ID])",
        ] {
            let code = format!("from agentkernel import task\nID = {id:?}\n{call}");
            let told = place.program(&code);
            assert!(told.as_str().unwrap_or_default().contains("there is no task"), "{call}: {told}");
        }
    }
    assert_eq!(place.program("from agentkernel import task\ntask.list()"), serde_json::json!([]));
    assert_eq!(place.status(&other).state, TaskState::Ready);
}

/// Sessions of one owner are one to the store, those of other owners are strangers, and none is taken for a task.
#[test]
fn sessions_of_one_owner_have_their_tasks_in_common() {
    let mut place = Place::new().limited(|limits| limits.dispatched = 3);
    let _worker = place.work(1);
    let all = place.tasks.clone();
    let mut of = |owner: &str, code: &str| {
        place.tasks = all.owned_by(owner);
        place.program(&format!("from agentkernel import task\n{code}"))
    };
    let id = of("one", "one = task.dispatch('1'); one.result(); one.id");
    let id = id.as_str().unwrap();
    assert_eq!(
        of("one", &format!("[task.get({id:?}).result(), len(task.list())]")),
        serde_json::json!([1, 1])
    );
    let strangers = format!("task-{id}");
    for owner in ["other", "", "one' OR '1", strangers.as_str()] {
        let got = of(owner, &format!("task.get({id:?})"));
        assert!(got.as_str().unwrap().contains("there is no task"), "{owner}: {got}");
    }
    // What they dispatch counts together.
    assert_eq!(
        of("one", "[task.dispatch('2').result(), task.dispatch('3').result()]"),
        serde_json::json!([2, 3])
    );
    let refused = of("one", "task.dispatch('4')");
    assert!(refused.as_str().unwrap().starts_with("agentkernel.task.TaskError"), "{refused}");
    assert_eq!(of("other", "task.dispatch('4').result()"), 4);
}

#[test]
fn floods_of_tasks_are_stopped_at_their_limits() {
    let place = Place::new().limited(|limits| {
        limits.unfinished = 20;
        limits.dispatched = 30;
        limits.stored_bytes = 100_000;
    });
    let flood = "
from agentkernel import task
count = 0
try:
    while True:
        task.dispatch('1', input=INPUT)
        count += 1
except task.TaskError as error:
    told = str(error)
[count, told]
";
    let told = place.program(&flood.replace("INPUT", "None"));
    assert_eq!(told[0], 20);
    assert!(told[1].as_str().unwrap().contains("20 tasks of this program have not ended"), "{told}");
    let told = place.program(&flood.replace("INPUT", "'x' * 50_000"));
    assert_eq!(told[0], 1);
    assert!(told[1].as_str().unwrap().contains("would take"), "{told}");
    let _worker = place.work(2);
    let told = place.program(&flood.replace("task.dispatch('1', input=INPUT)", "task.dispatch('1').wait()"));
    assert_eq!(told[0], 30);
    assert!(told[1].as_str().unwrap().contains("has dispatched 30 tasks"), "{told}");
}

#[test]
fn tasks_dispatch_tasks_only_as_deep_as_they_may() {
    let place = Place::new().limited(|limits| limits.levels = 3);
    // One place: each leaves its own to the one that it waits for.
    let _worker = place.work(1);
    let code = "
from agentkernel import task
def deeper():
    from agentkernel import task
    source = '''
from agentkernel import task
try:
    below = task.dispatch(task.input, input=task.input).result()
except PermissionError as error:
    below = str(error)
[below]
'''
    return task.dispatch(source, input=source).result()
task.dispatch(deeper).result()
";
    let told = place.program(code);
    let message = told[0][0].as_str().unwrap_or_else(|| panic!("{told}"));
    assert!(message.contains("may dispatch no others"), "{told}");
    // One that nobody gave levels.
    let id = place.dispatch("from agentkernel import task\ntask.dispatch('1')");
    let status = place.ended(&id);
    assert_eq!(failure(&status).exception.as_deref(), Some("PermissionError"));
    let id =
        place.dispatch(Task::new("from agentkernel import task\ntask.dispatch('41 + 1').result()").levels(1));
    assert_eq!(value(&place.ended(&id)), 42);
}

#[test]
fn floods_of_output_and_progress_cost_little() {
    let place = Place::new().limited(|limits| limits.log_bytes = 10_000);
    let _worker = place.work(2);
    let flood = "import sys\nfor n in range(20_000):\n    print('x' * 100)\n    print('y', file=sys.stderr)\nraise ValueError";
    let id = place.dispatch(Task::new(flood).retries(1).backoff(Duration::ZERO));
    let status = place.ended(&id);
    assert_eq!((status.state, status.attempts), (TaskState::Failed, 2));
    let log = place.log(&id);
    assert!(log.len() < 10_200 && status.log_bytes == log.len() as u64, "{}", log.len());
    assert_eq!(log.matches("the log limit of 10000 bytes is reached").count(), 1);
    let began = Instant::now();
    let id = place.dispatch(
        "from agentkernel import task\nfor n in range(50_000): task.progress(n / 50_000, 'm' * 500)",
    );
    let status = place.ended(&id);
    assert_eq!(status.progress, Some(49_999.0 / 50_000.0));
    // Not one transaction each.
    assert!(status.revision < 500, "{} in {:?}", status.revision, began.elapsed());
    for (code, message) in [
        ("task.progress(2)", "from 0 to 1"),
        ("task.progress(float('nan'))", "ValueError"),
        ("task.progress(0, 'm' * 2000)", "at most 1000 bytes"),
    ] {
        let status = place.ended(&place.dispatch(format!("from agentkernel import task\n{code}").as_str()));
        let told = failure(&status);
        let told = format!("{:?}: {}", told.exception, told.message);
        assert!(told.contains(message), "{told}");
    }
    let told = place.program("from agentkernel import task\ntask.progress(0.5)");
    assert!(told.as_str().unwrap().contains("is not a task"), "{told}");
    assert_eq!(place.program("from agentkernel import task\ntask.input"), serde_json::Value::Null);
}

#[test]
fn what_a_program_cannot_do_in_time_it_leaves_to_its_tasks() {
    let place = Place::new();
    let id = place.program("from agentkernel import task\ntask.dispatch('6 * 7').id");
    // The session is over; the task is kept for whoever runs it.
    let tasks = Tasks::open(place.file()).unwrap();
    let _worker = tasks.worker(kernel()).start().unwrap();
    let status = place.ended(&id.as_str().unwrap().parse().unwrap());
    assert_eq!(value(&status), 42);
    let hostile = place.ended(&place.dispatch("import os\nos.abort()"));
    assert!(matches!(failure(&hostile).kind, FailureKind::Trapped | FailureKind::Exited), "{hostile:?}");
}
