//! Numbers: what was counted since a kernel was built, and how it is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a kernel has done since it was built; see [`Kernel::metrics`](crate::Kernel::metrics).
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// let kernel = agentkernel::Kernel::new()?;
/// let mut session = kernel.session().start()?;
/// session.run_blocking("1 + 1")?;
/// session.run_blocking("1 / 0")?;
/// let metrics = kernel.metrics();
/// assert_eq!((metrics.sessions, metrics.turns["completed"], metrics.turns["raised"]), (1, 1, 1));
/// assert!(metrics.prometheus().contains("agentkernel_turns_total{ending=\"raised\"} 1\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Sessions that were started and not dropped yet.
    pub sessions: u64,
    /// Sessions that were started, by what from: `base`, `image`, `fork`.
    pub sessions_started: BTreeMap<&'static str, u64>,
    /// Instances that were ready when one was asked for, where a pool is kept.
    pub pool_hits: u64,
    /// Instances that had to be made although a pool is kept.
    pub pool_misses: u64,
    /// Turns that ended, by [`Ending::name`](crate::Ending::name).
    pub turns: BTreeMap<&'static str, u64>,
    /// Turns after which the session was put back.
    pub turns_rolled_back: u64,
    /// How long turns took ([`Usage::wall`](crate::Usage::wall)).
    pub turn_times: Histogram,
    /// Calls of tools, by tool and by how they ended: `ok`, `error` (the function gave its own error), `failed` (a
    /// trap, a limit, arguments that are none), `denied`, `cancelled` (the turn was stopped).
    pub tool_calls: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// What was refused since it was not granted, by what: `service` (models, state, tasks and the like that the session
    /// has not), `tool` (a call that may not be made, or what a tool asked for), `model`, `budget`.
    pub denials: BTreeMap<&'static str, u64>,
    /// What models were asked, by the names that are granted; `other` is what programs named without a grant.
    pub models: BTreeMap<String, ModelMetrics>,
    /// How long calls of models took, waits for others and retries included, cached answers not.
    pub model_times: Histogram,
    /// Calls of models that the cache of answers answered.
    pub answer_cache_hits: u64,
    /// Calls of models that were sent although there is a cache of answers.
    pub answer_cache_misses: u64,
    /// Interpreters, tools and images that were found in the compilation cache.
    pub compilation_cache_hits: u64,
    /// Those that had to be compiled or made.
    pub compilation_cache_misses: u64,
    /// Tasks that workers of this kernel run at the moment.
    pub tasks_running: u64,
    /// Attempts of tasks, by what came of them: `succeeded`, `failed`, `retried`, `cancelled`, `released` (given back).
    pub task_attempts: BTreeMap<&'static str, u64>,
}

/// What one model was asked.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ModelMetrics {
    /// Calls by how they ended: `answered`, `cached`, `refused`, `failed` (by the provider), `budget`, `invalid`,
    /// `denied` (the model is not granted), `cancelled`.
    pub calls: BTreeMap<&'static str, u64>,
    /// Tokens it read. Those of a call that was cancelled are not known.
    pub input_tokens: u64,
    /// Tokens it wrote.
    pub output_tokens: u64,
    /// Values that it was not shown ([`Privacy`](crate::Privacy)).
    pub hidden: u64,
    /// US dollars; 0 where its price is not known.
    pub cost: f64,
}

/// Times, by how long they are.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// How many were at most as long, for each of some lengths from the shortest to the longest.
    pub at_most: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
}

/// The lengths of a histogram, in nanoseconds: from a turn that does nothing to one that waits for models.
const LENGTHS: [u64; 20] = {
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    const S: u64 = 1_000_000_000;
    [
        25 * US,
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2 * MS + 500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        5 * S,
        10 * S,
        30 * S,
        60 * S,
        300 * S,
    ]
};

/// What a session is started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Base,
    Image,
    Fork,
}

impl Start {
    pub fn name(self) -> &'static str {
        STARTS[self as usize]
    }
}

const STARTS: [&str; 3] = ["base", "image", "fork"];
const ENDINGS: [&str; 8] =
    ["completed", "raised", "exited", "timed-out", "out-of-memory", "out-of-fuel", "cancelled", "trapped"];
const ATTEMPTS: [&str; 5] = ["succeeded", "failed", "retried", "cancelled", "released"];

/// One number for each of some names.
#[derive(Debug)]
pub(crate) struct Counts<const N: usize> {
    names: [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Counts<N> {
    pub fn new(names: [&'static str; N]) -> Self {
        Counts { names, counts: [const { AtomicU64::new(0) }; N] }
    }

    pub fn add(&self, name: &str) {
        if let Some(position) = self.names.iter().position(|known| *known == name) {
            add(&self.counts[position], 1);
        }
    }

    pub fn get(&self) -> BTreeMap<&'static str, u64> {
        self.names.iter().zip(&self.counts).map(|(name, count)| (*name, get(count))).collect()
    }
}

/// What is counted where it happens. Nothing here waits for anything.
pub(crate) struct Counters {
    sessions: AtomicU64,
    started: Counts<3>,
    turns: Counts<8>,
    rolled_back: AtomicU64,
    times: Times,
    denied: AtomicU64,
    running: AtomicU64,
    attempts: Counts<5>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            sessions: AtomicU64::new(0),
            started: Counts::new(STARTS),
            turns: Counts::new(ENDINGS),
            rolled_back: AtomicU64::new(0),
            times: Times::default(),
            denied: AtomicU64::new(0),
            running: AtomicU64::new(0),
            attempts: Counts::new(ATTEMPTS),
        }
    }
}

impl Counters {
    pub fn session_started(&self, from: Start) {
        self.started.add(from.name());
        add(&self.sessions, 1);
    }

    pub fn session_dropped(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn turn(&self, ending: &str, wall: Duration, rolled_back: bool) {
        self.turns.add(ending);
        self.times.add(wall);
        if rolled_back {
            add(&self.rolled_back, 1);
        }
    }

    /// Services that a program asked for and that its session has not.
    pub fn services_denied(&self, denied: u64) {
        if denied > 0 {
            add(&self.denied, denied);
        }
    }

    pub fn attempt_begun(&self) {
        add(&self.running, 1);
    }

    pub fn attempt_ended(&self, outcome: &str) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.attempts.add(outcome);
    }

    /// Its part of all there is to tell.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            sessions: get(&self.sessions),
            sessions_started: self.started.get(),
            turns: self.turns.get(),
            turns_rolled_back: get(&self.rolled_back),
            turn_times: self.times.get(),
            // Where there are neither tools nor models, none of theirs is denied.
            denials: BTreeMap::from([
                ("service", get(&self.denied)),
                ("tool", 0),
                ("model", 0),
                ("budget", 0),
            ]),
            tasks_running: get(&self.running),
            task_attempts: self.attempts.get(),
            ..Metrics::default()
        }
    }
}

/// What models were asked. A call takes so long that a lock is nothing.
#[derive(Default)]
pub(crate) struct ModelCounts {
    models: Mutex<BTreeMap<String, ModelMetrics>>,
    times: Times,
    cache_misses: AtomicU64,
}

/// A call of a model that is over.
pub(crate) struct Called<'a> {
    /// The model, if it is granted.
    pub model: Option<&'a str>,
    pub outcome: &'static str,
    pub took: Duration,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub hidden: u64,
    pub cost: f64,
    /// Whether a cache of answers was looked into.
    pub may_be_cached: bool,
}

impl ModelCounts {
    pub fn add(&self, called: &Called<'_>) {
        let sent = !matches!(called.outcome, "cached" | "denied" | "invalid" | "budget");
        if sent {
            self.times.add(called.took);
        }
        if sent && called.may_be_cached {
            add(&self.cache_misses, 1);
        }
        let mut models = self.lock();
        // What programs name without a grant must not fill the host's memory.
        let model = models.entry(called.model.unwrap_or("other").to_owned()).or_default();
        *model.calls.entry(called.outcome).or_default() += 1;
        model.input_tokens = model.input_tokens.saturating_add(called.input_tokens);
        model.output_tokens = model.output_tokens.saturating_add(called.output_tokens);
        model.hidden = model.hidden.saturating_add(called.hidden);
        model.cost += called.cost;
    }

    /// Adds its part of all there is to tell.
    pub fn tell(&self, metrics: &mut Metrics) {
        metrics.models = self.lock().clone();
        metrics.model_times = self.times.get();
        metrics.answer_cache_misses = get(&self.cache_misses);
        let sum =
            |outcome: &str| metrics.models.values().filter_map(|model| model.calls.get(outcome)).sum::<u64>();
        metrics.answer_cache_hits = sum("cached");
        let (budget, model) = (sum("budget"), sum("denied"));
        metrics.denials.extend([("budget", budget), ("model", model)]);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ModelMetrics>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A histogram that is added to.
#[derive(Default)]
struct Times {
    /// How many are at most as long as each length, and longer than the one before.
    counts: [AtomicU64; LENGTHS.len()],
    longer: AtomicU64,
    sum_ns: AtomicU64,
}

impl Times {
    fn add(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let position = LENGTHS.partition_point(|length| *length < ns);
        add(self.counts.get(position).unwrap_or(&self.longer), 1);
        add(&self.sum_ns, ns);
    }

    fn get(&self) -> Histogram {
        let mut count = 0;
        let at_most = LENGTHS.iter().zip(&self.counts).map(|(length, own)| {
            count += get(own);
            (Duration::from_nanos(*length), count)
        });
        let at_most = at_most.collect();
        Histogram { at_most, count: count + get(&self.longer), sum: Duration::from_nanos(get(&self.sum_ns)) }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_where_they_belong() {
        let times = Times::default();
        for ns in [0, 25_000, 25_001, 1_000_000_000, 301_000_000_000] {
            times.add(Duration::from_nanos(ns));
        }
        let histogram = times.get();
        let at = |length: Duration| histogram.at_most.iter().find(|(at, _)| *at == length).unwrap().1;
        assert_eq!(at(Duration::from_micros(25)), 2);
        assert_eq!(at(Duration::from_micros(50)), 3);
        assert_eq!(at(Duration::from_millis(500)), 3);
        assert_eq!(at(Duration::from_secs(1)), 4);
        assert_eq!(at(Duration::from_secs(300)), 4);
        assert_eq!((histogram.count, histogram.sum), (5, Duration::from_nanos(302_000_050_001)));
        assert!(LENGTHS.is_sorted());
    }

    #[test]
    fn every_ending_is_counted() {
        use crate::Ending;
        let counters = Counters::default();
        let endings = [
            Ending::Completed(None),
            Ending::Exited(1),
            Ending::TimedOut,
            Ending::OutOfMemory,
            Ending::OutOfFuel,
            Ending::Cancelled,
            Ending::Trapped(String::new()),
        ];
        endings.iter().for_each(|ending| counters.turn(ending.name(), Duration::ZERO, false));
        counters.turn("raised", Duration::ZERO, true);
        let metrics = counters.metrics();
        assert!(metrics.turns.values().all(|count| *count == 1), "{:?}", metrics.turns);
        assert_eq!((metrics.turn_times.count, metrics.turns_rolled_back), (8, 1));
    }
}
