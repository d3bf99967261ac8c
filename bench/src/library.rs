//! The library in this process: loading a kernel, starting sessions and running turns in them.

use std::fmt;

use agentkernel::Kernel;
use anyhow::Result;
use serde::Serialize;

use crate::concurrency::{self, AtOnce, Throughput};
use crate::measure::{Summary, Times};
use crate::memory::{self, Idle, Live};
use crate::setup::{Setup, TURN, check};
use crate::table::{Table, kibibytes};

/// Rounds that are not counted.
const WARM_UP: usize = 20;

/// What the library takes.
#[derive(Serialize)]
pub struct Library {
    kernel_load: Summary,
    one_thread: OneThread,
    at_once: AtOnce,
    throughput: Throughput,
    idle: Idle,
    live: Live,
}

/// One session after the other on one thread.
#[derive(Serialize)]
struct OneThread {
    start: Summary,
    first_turn: Summary,
    second_turn: Summary,
    drop: Summary,
    /// From before the start to after the first turn.
    start_to_result: Summary,
}

/// Measures all of it.
pub fn measure(setup: &Setup) -> Result<Library> {
    let kernel_load = load(setup)?;
    let kernel = setup.kernel()?;
    let one_thread = one_thread(&kernel, setup.rounds(500, 100))?;
    let at_once = concurrency::at_once(setup)?;
    let throughput = concurrency::throughput(&kernel, setup.quick)?;
    drop(kernel);
    let idle = memory::idle(&setup.kernel()?)?;
    let live = memory::live(&setup.kernel()?, setup.quick);
    Ok(Library { kernel_load, one_thread, at_once, throughput, idle, live })
}

fn load(setup: &Setup) -> Result<Summary> {
    let mut times = Times::default();
    for _ in 0..setup.rounds(20, 5) {
        // The kernel is dropped after the clock is stopped.
        times.time(|| setup.kernel())?;
    }
    Ok(times.summary())
}

fn one_thread(kernel: &Kernel, rounds: usize) -> Result<OneThread> {
    let (mut start, mut first, mut second, mut drops, mut sum) =
        <(Times, Times, Times, Times, Times)>::default();
    for round in 0..WARM_UP + rounds {
        if round == WARM_UP {
            (start, first, second, drops, sum) = Default::default();
        }
        let begin = std::time::Instant::now();
        let mut session = start.time(|| kernel.session().start())?;
        let outcome = first.time(|| session.run_blocking(TURN))?;
        sum.push(begin.elapsed());
        check(&outcome)?;
        check(&second.time(|| session.run_blocking(TURN))?)?;
        drops.time(|| drop(session));
    }
    Ok(OneThread {
        start: start.summary(),
        first_turn: first.summary(),
        second_turn: second.summary(),
        drop: drops.summary(),
        start_to_result: sum.summary(),
    })
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Library { kernel_load, one_thread, at_once, throughput, idle, live } = self;
        let OneThread { start, first_turn, second_turn, drop, start_to_result } = one_thread;
        let title = format!("The library, one thread, `{TURN}`, {} rounds", start.rounds);
        Table::new(title, &["", "min", "median"])
            .times("load a kernel from a warm cache", kernel_load)
            .times("start a session", start)
            .times("first turn", first_turn)
            .times("second turn", second_turn)
            .times("drop the session", drop)
            .times("start to result", start_to_result)
            .times("start to result, memory not used before", &idle.start_to_result)
            .fmt(f)?;
        writeln!(f)?;
        let AtOnce { sessions, again, first } = at_once;
        Table::new(
            format!("The library, {sessions} sessions at once, until all have a result"),
            &["", "min", "median"],
        )
        .times("memory used before", again)
        .times("memory not used before", first)
        .fmt(f)?;
        writeln!(f)?;
        let each = |bytes: Option<f64>| [bytes.map_or("not known".to_owned(), kibibytes)];
        let Idle { sessions, private_bytes, page_table_bytes, .. } = idle;
        let rate = format!("sessions a second on {} threads (start, turn, drop)", throughput.threads);
        let table = Table::new("The library, many sessions", &["", "value"])
            .row(rate, [format!("{:.0}", throughput.sessions_per_second)])
            .row(format!("private memory of an idle session, mean of {sessions}"), each(*private_bytes))
            .row("page tables of an idle session", each(*page_table_bytes))
            .row(format!("live at once and answering, of {}", live.wanted), [live.answered.to_string()])
            .row("private memory of each after two turns", each(live.private_bytes))
            .row(
                "mappings of the process then",
                [live.mappings.map_or("not known".to_owned(), |mappings| mappings.to_string())],
            );
        match &live.stopped_by {
            Some(error) => table.remark(error).fmt(f),
            None => table.fmt(f),
        }
    }
}
