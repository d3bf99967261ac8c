//! Background tasks: how many empty ones a second, and how long one takes from its dispatch to its result.

use std::fmt;
use std::time::{Duration, Instant};

use agentkernel::task::{Task, TaskState};
use anyhow::{Result, ensure};
use serde::Serialize;

use crate::measure::{Summary, Times};
use crate::setup::Setup;
use crate::table::Table;

/// Tasks of a round; less with `--quick`.
const TASKS: usize = 5000;
const QUICK_TASKS: usize = 500;

/// Tasks that one transaction puts in.
const BATCH: usize = 100;

/// How long one task may take before something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// What tasks take, through SQLite and in sessions of their own.
#[derive(Serialize)]
pub struct Tasks {
    tasks: usize,
    workers: usize,
    /// Dispatched, one transaction each.
    dispatched_per_second: f64,
    /// Dispatched in transactions of many.
    dispatched_together_per_second: f64,
    /// Run to their ends by one worker, which has them all before it.
    run_per_second: f64,
    /// Dispatched and run at the same time.
    through_per_second: f64,
    /// From the dispatch of one task to its result, with a worker that waits.
    latency: Summary,
}

/// Measures all of it, in a store on the disk of the temporary directory.
pub fn measure(setup: &Setup) -> Result<Tasks> {
    let count = setup.rounds(TASKS, QUICK_TASKS);
    let kernel = setup.kernel()?;
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let workers = std::thread::available_parallelism()?.get();
    let open = |name: &str| agentkernel::task::Tasks::open(directory.path().join(name));
    let batches = |count: usize| {
        (0..count.div_ceil(BATCH)).map(|_| (0..BATCH).map(|_| Task::new("")).collect::<Vec<_>>())
    };
    let drained = |tasks: &agentkernel::task::Tasks| -> Result<()> {
        while runtime.block_on(tasks.unfinished())? > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    };
    let rate = |since: Instant| count as f64 / since.elapsed().as_secs_f64();

    let tasks = open("one.db")?;
    let since = Instant::now();
    for _ in 0..count {
        runtime.block_on(tasks.dispatch(Task::new("")))?;
    }
    let dispatched_per_second = rate(since);

    let tasks = open("many.db")?;
    let since = Instant::now();
    for batch in batches(count) {
        runtime.block_on(tasks.dispatch_all(batch))?;
    }
    let dispatched_together_per_second = rate(since);
    let since = Instant::now();
    let worker = tasks.worker(&kernel).start()?;
    drained(&tasks)?;
    let run_per_second = rate(since);

    let since = Instant::now();
    for batch in batches(count) {
        runtime.block_on(tasks.dispatch_all(batch))?;
    }
    drained(&tasks)?;
    let through_per_second = rate(since);

    let mut times = Times::default();
    for _ in 0..setup.rounds(200, 20) {
        let since = Instant::now();
        let id = runtime.block_on(tasks.dispatch(Task::new("1")))?;
        let status = runtime.block_on(tasks.wait(&id, LONG))?;
        times.push(since.elapsed());
        ensure!(status.state == TaskState::Succeeded, "a task ended in {status:?}");
    }
    drop(worker);
    let latency = times.summary();
    Ok(Tasks {
        tasks: count,
        workers,
        dispatched_per_second,
        dispatched_together_per_second,
        run_per_second,
        through_per_second,
        latency,
    })
}

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("Background tasks, {} empty ones, {} at the same time", self.tasks, self.workers);
        let rate = |rate: f64| [format!("{rate:.0}/s")];
        Table::new(title, &["", "rate or least time", "median"])
            .row("dispatched, one by one", rate(self.dispatched_per_second))
            .row(format!("dispatched, {BATCH} at a time"), rate(self.dispatched_together_per_second))
            .row("run by one worker", rate(self.run_per_second))
            .row("dispatched and run", rate(self.through_per_second))
            .times("one, from dispatch to result", &self.latency)
            .fmt(f)
    }
}
