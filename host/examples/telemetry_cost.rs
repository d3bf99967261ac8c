//! What telemetry costs: a turn and a call of a tool where nobody listens, and where somebody does.
//!
//! `cargo run --release -p agentkernel-host --example telemetry_cost`. The two take turns, and the least time of each counts.

use std::time::{Duration, Instant};

use agentkernel::{Kernel, Session, Tool};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const ROUNDS: usize = 40;
const TURNS: u32 = 200;
const CALLS: u32 = 2000;

/// Hears everything and keeps nothing.
struct Deaf;

impl Subscriber for Deaf {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn main() -> agentkernel::Result<()> {
    let tool = Tool::functions("sum", "add: func(a: u32, b: u32) -> u32;")
        .function("add", |(a, b): (u32, u32)| a + b);
    let kernel = Kernel::builder().tool(tool).build()?;
    let mut session = kernel.session().rollback(false).start()?;
    session.run_blocking("from tools import sum\ndef calls(n):\n    for _ in range(n): sum.add(1, 2)")?;
    let mut off = [Duration::MAX; 2];
    let mut heard = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        least(&mut off, measure(&mut session)?);
        // A session has its span from its start on.
        let listened = tracing::subscriber::with_default(Deaf, || {
            let mut session = kernel.session().rollback(false).start()?;
            session
                .run_blocking("from tools import sum\ndef calls(n):\n    for _ in range(n): sum.add(1, 2)")?;
            measure(&mut session)
        });
        least(&mut heard, listened?);
        tracing::callsite::rebuild_interest_cache();
    }
    for (what, [turn, call]) in [("nobody listens", off), ("somebody listens", heard)] {
        println!("{what}: a turn {:.2} µs, a call of a tool {:.3} µs", micros(turn), micros(call));
    }
    Ok(())
}

/// The time of a turn, and of a call of a function of this program.
fn measure(session: &mut Session) -> agentkernel::Result<[Duration; 2]> {
    let began = Instant::now();
    for _ in 0..TURNS {
        session.run_blocking("1+1")?;
    }
    let turn = began.elapsed() / TURNS;
    let began = Instant::now();
    session.run_blocking(format!("calls({CALLS})"))?;
    Ok([turn, began.elapsed() / CALLS])
}

fn least(least: &mut [Duration; 2], times: [Duration; 2]) {
    least.iter_mut().zip(times).for_each(|(least, time)| *least = (*least).min(time));
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
