//! What programs do with many tasks, and with large numbers.

use std::time::Duration;

use agentkernel::Stream;
use agentkernel::task::store::{Message, News, Quota, Report, TaskStore};
use agentkernel::task::{SqliteTasks, Task, TaskId, TaskResult, TaskState};
use agentkernel_tests::kernel;

use super::{Place, value};

#[test]
fn integers_of_an_input_are_what_they_were_or_refused() {
    let place = Place::new();
    let _worker = place.work(1);
    let code = "
from agentkernel import task
def attempt(number):
    try:
        return task.dispatch('from agentkernel import task; str(task.input)', input=number).result()
    except ValueError as error:
        return str(error)
def twice(number):
    return str(2 * number)
most = 2**64 - 1
[attempt(most) == str(most), attempt(-2**63) == str(-2**63), attempt(most + 1), attempt([{'a': -2**63 - 1}]),
 attempt(str(most + 1)) == str(most + 1), task.dispatch(twice, 2**70).result() == str(2**71)]
";
    let mut session = kernel().session().tasks(&place.tasks).start().unwrap();
    let told = session.run_blocking(code).unwrap();
    let told = agentkernel_tests::value(&told).json.clone().unwrap();
    for (at, expected) in [(0, true), (1, true), (4, true), (5, true)] {
        assert_eq!(told[at], expected, "{at}: {told}");
    }
    for (at, number) in [(2, "`18446744073709551616`"), (3, "`-9223372036854775809`")] {
        let told = told[at].as_str().unwrap();
        assert!(told.contains(number) && told.contains("does not fit into 64 bits"), "{told}");
    }
}

#[test]
fn more_waiting_tasks_than_there_are_places_for_do_not_block_a_worker() {
    const PARENTS: usize = 300;
    let place = Place::new();
    let code = "
from agentkernel import task
try:
    told = task.dispatch('21 * 2').result()
except task.TaskError as error:
    told = str(error)
told";
    let parents = (0..PARENTS).map(|_| Task::new(code).levels(1).timeout(None)).collect();
    let ids = place.runtime.block_on(place.tasks.dispatch_all(parents)).unwrap();
    let _worker = place.work(1);
    let (mut answered, mut refused) = (0, 0);
    for id in &ids {
        match value(&place.ended(id)) {
            told if told == 42 => answered += 1,
            told => {
                assert!(told.as_str().unwrap().contains("wait for others already"), "{told}");
                refused += 1;
            }
        }
    }
    assert!(answered >= 256 && refused > 0 && answered + refused == PARENTS, "{answered}, {refused}");
}

#[test]
fn a_program_lists_more_tasks_than_fit_on_a_page() {
    let place = Place::new();
    let code = "
from agentkernel import task
first = task.dispatch('1')
made = [task.dispatch('1', after=[first])]
for _ in range(430):
    made.append(task.dispatch('1', after=made[-20:]))
    made[-3].cancel() if len(made) > 100 else None
listed = task.list()
[len(listed), listed == [first, *made][::-1]]
";
    let mut limits = agentkernel::task::TaskLimits::default();
    limits.unfinished = 1000;
    let tasks = place.tasks.clone().limits(limits);
    let mut session = kernel().session().tasks(&tasks).start().unwrap();
    let told = session.run_blocking(code).unwrap();
    assert_eq!(agentkernel_tests::value(&told).json.clone().unwrap(), serde_json::json!([432, true]));
}

fn message(body: &str, after: Vec<TaskId>) -> Message {
    let (name, scope, body) = (String::new(), "own".to_owned(), body.to_owned());
    Message { id: TaskId::new(), name, scope, priority: 0, after, body }
}

#[test]
fn rows_count_in_what_tasks_take_though_their_texts_are_short() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteTasks::open(directory.path().join("tasks.db")).unwrap();
    let quota = |stored_bytes| Quota { unfinished: 1000, dispatched: 1000, stored_bytes };
    let wide = quota(1 << 30);
    let first = message("1", Vec::new());
    store.publish(std::slice::from_ref(&first), Some(&wide)).unwrap();
    let lease = store.pull("worker", 1, Duration::from_secs(60)).unwrap().deliveries.remove(0).lease;
    // A letter to each stream in turn: each is a row.
    let chunks = (0..2000).map(|number| match number % 2 {
        0 => (Stream::Stdout, b"o".to_vec()),
        _ => (Stream::Stderr, b"e".to_vec()),
    });
    let wrote = News::Wrote { chunks: chunks.collect(), most: 1 << 20 };
    let result = TaskResult::Json(1.into());
    let reports = [wrote, News::Ack { result }].map(|news| Report { lease: lease.clone(), news });
    store.report(&reports).unwrap();
    let refused = store.publish(&[message("2", Vec::new())], Some(&quota(20_000))).unwrap_err();
    assert!(refused.to_string().contains("would take"), "{refused}");
    store.publish(&[message("2", Vec::new())], Some(&quota(100_000))).unwrap();
    // What is removed counts no more.
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(store.prune(Duration::ZERO, 10).unwrap(), 1);
    store.publish(&[message("3", Vec::new())], Some(&quota(20_000))).unwrap();
    assert!(store.list(&Default::default()).unwrap().iter().all(|status| status.state == TaskState::Ready));
}

/// Only one may have more than that.
#[test]
fn tasks_that_wait_hold_no_more_memory_together_than_they_may() {
    let mut place = Place::new();
    let mut limits = agentkernel::task::TaskLimits::default();
    limits.waiting_bytes = 100 << 20;
    place.tasks = place.tasks.limits(limits);
    let holding = |megabytes: u32| {
        let code = format!(
            "
from agentkernel import task
held = bytearray({megabytes} << 20)
try:
    told = task.dispatch('21 * 2').result()
except task.TaskError as error:
    told = str(error)
told"
        );
        Task::new(code).levels(1).timeout(None)
    };
    let run = |tasks: Vec<Task>| -> Vec<serde_json::Value> {
        let ids = place.runtime.block_on(place.tasks.dispatch_all(tasks)).unwrap();
        let _worker = place.work(1);
        ids.iter().map(|id| value(&place.ended(id))).collect()
    };
    assert_eq!(run(vec![holding(200)]), [42]);
    let told = run((0..12).map(|_| holding(40)).collect());
    let refused =
        told.iter().filter(|told| told.as_str().is_some_and(|told| told.contains("100 MiB"))).count();
    assert!(refused >= 6, "{told:?}");
    assert_eq!(told.iter().filter(|told| **told == 42).count(), told.len() - refused, "{told:?}");
}

/// Who waits in the background and computes meanwhile has not left its place, and who has left it waits for one.
#[test]
fn no_more_tasks_compute_at_once_than_a_worker_has_places() {
    let place = Place::new();
    let code = "
import asyncio, time
from agentkernel import task
spans = []
def work():
    begun = time.time()
    while time.time() < begun + 0.1: pass
    spans.append((begun, time.time()))
async def main():
    async def result(): return await task.dispatch('1')
    waits = [asyncio.create_task(result())]
    await asyncio.sleep(0)
    work()
    waits.append(asyncio.create_task(result()))
    await asyncio.wait(waits, timeout=0.05)
    work()
    await asyncio.gather(*waits)
    work()
asyncio.run(main())
spans";
    let parents = (0..4).map(|_| Task::new(code).levels(1).timeout(None)).collect();
    let ids = place.runtime.block_on(place.tasks.dispatch_all(parents)).unwrap();
    let _worker = place.work(1);
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for id in &ids {
        let told = value(&place.ended(id));
        spans.extend(serde_json::from_value::<Vec<(f64, f64)>>(told).unwrap());
    }
    spans.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!(spans.len(), 12);
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{spans:?}");
    }
}

/// It would have to wait for it where there is more to do.
#[test]
fn who_has_what_it_waits_for_does_not_leave_its_place() {
    let place = Place::new();
    let code = "
import asyncio, time
from agentkernel import task
first = task.dispatch('1')
first.wait()
others = [task.dispatch('import time; time.sleep(1)') for _ in range(5)]
async def main():
    waits = [asyncio.create_task(first.wait_async()), asyncio.create_task(others[-1].wait_async())]
    for _ in range(20): await asyncio.sleep(0)
    return waits[0].done()
begun = time.time()
first.wait()
[asyncio.run(main()), time.time() - begun < 4]";
    let id = place.runtime.block_on(place.tasks.dispatch(Task::new(code).levels(1).timeout(None))).unwrap();
    let _worker = place.work(1);
    assert_eq!(value(&place.ended(&id))[1], true);
}
