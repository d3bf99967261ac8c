//! Sessions on many threads.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use agentkernel::Kernel;
use anyhow::{Result, anyhow};
use serde::Serialize;

use crate::machine::cores;
use crate::measure::{Summary, Times};
use crate::setup::{Setup, TURN, check};

/// Sessions that are started at once.
const SESSIONS: usize = 64;

/// Stack of a thread that runs turns; `Session::run_blocking` asks for 2 MiB.
const STACK_BYTES: usize = 4 << 20;

/// Sessions started at the same time: from the first thread's start to the last one's result.
#[derive(Serialize)]
pub struct AtOnce {
    pub sessions: usize,
    /// In a kernel that has had as many sessions before, and keeps their memory for the next.
    pub again: Summary,
    /// In a new kernel.
    pub first: Summary,
}

/// Sessions one after the other on each core.
#[derive(Serialize)]
pub struct Throughput {
    pub threads: usize,
    pub sessions: usize,
    pub seconds: f64,
    pub sessions_per_second: f64,
}

/// Starts sessions on as many threads and waits until all have their result. The threads are there
/// before the clock starts, and all sessions live until it stops.
pub fn at_once(setup: &Setup) -> Result<AtOnce> {
    let (mut first, mut again) = <(Times, Times)>::default();
    for _ in 0..setup.rounds(5, 2) {
        let kernel = setup.kernel()?;
        first.push(round_at_once(&kernel)?);
        for _ in 0..setup.rounds(5, 2) {
            again.push(round_at_once(&kernel)?);
        }
    }
    Ok(AtOnce { sessions: SESSIONS, again: again.summary(), first: first.summary() })
}

fn round_at_once(kernel: &Kernel) -> Result<Duration> {
    let (ready, done) = (Barrier::new(SESSIONS), Barrier::new(SESSIONS));
    let spans = on_threads(SESSIONS, || {
        ready.wait();
        let begin = Instant::now();
        let result = kernel.session().start().map(|mut session| {
            let outcome = session.run_blocking(TURN);
            (session, outcome)
        });
        let end = Instant::now();
        // Whatever came of it: the others wait here too.
        done.wait();
        let (_session, outcome) = result?;
        check(&outcome?)?;
        Ok((begin, end))
    })?;
    let begin = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    begin.zip(end).map(|(begin, end)| end - begin).ok_or_else(|| anyhow!("there were no threads"))
}

/// Starts a session, runs a turn in it and drops it, again and again on all cores.
pub fn throughput(kernel: &Kernel, quick: bool) -> Result<Throughput> {
    let duration = Duration::from_millis(if quick { 500 } else { 2000 });
    let threads = cores();
    let begin = Instant::now();
    let counts = on_threads(threads, || {
        let mut count = 0;
        while begin.elapsed() < duration {
            let mut session = kernel.session().start()?;
            check(&session.run_blocking(TURN)?)?;
            count += 1;
        }
        Ok(count)
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let sessions: usize = counts.iter().sum();
    Ok(Throughput { threads, sessions, seconds, sessions_per_second: sessions as f64 / seconds })
}

/// Does the same on some threads and returns what each gave.
fn on_threads<T: Send>(count: usize, action: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, &action))
            .collect::<std::io::Result<_>>()?;
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    })
}
