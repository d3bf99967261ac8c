//! What a worker's threads share: the tasks that it has, and what there is to report of them.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::task::store::{Delivery, Lease, News, Report, Standing};
use crate::task::{TaskId, Tasks, attempt};
use crate::telemetry::spans;
use crate::{Canceller, Kernel, Stream};

/// What the tasks that are taken ahead may need together at a place.
const AHEAD: Duration = Duration::from_millis(20);

/// Tasks that are taken ahead at most.
const MOST_AHEAD: f64 = 64.0;

/// How long one that was taken ahead waits before it is left to others.
const STALE: Duration = Duration::from_millis(200);

/// How many ended tasks, and for how long, are reported together while there is more to run.
const BATCH: usize = 32;
const BATCH_TIME: Duration = Duration::from_millis(4);

/// How often output and progress are passed on, and bytes that do not wait for that.
const FLUSH: Duration = Duration::from_millis(50);
const FLUSH_BYTES: usize = 256 << 10;

pub(in crate::task) struct Shared {
    pub kernel: Kernel,
    pub tasks: Tasks,
    pub name: String,
    pub lease: Duration,
    pub(super) concurrency: usize,
    state: Mutex<State>,
    /// Something is to be reported, or a place is free.
    pub event: Notify,
    /// A place is free for one that had left its own.
    pub(super) freed: Notify,
    /// Something waits in an outbox.
    dirty: AtomicBool,
}

pub(super) struct State {
    /// Taken and not begun.
    queue: VecDeque<Queued>,
    running: HashMap<Lease, Running>,
    pub(super) runners: usize,
    pub(super) lent: usize,
    pub(super) lent_bytes: u64,
    /// Those that have left their places, and want one again: they come before what is queued.
    pub(super) returning: usize,
    done: Vec<Report>,
    done_since: Option<Instant>,
    flushed: Instant,
    pub(super) stopping: bool,
    /// Seconds that an attempt takes, lately.
    pace: f64,
}

struct Queued {
    delivery: Delivery,
    taken: Instant,
    until: Instant,
}

struct Running {
    until: Instant,
    stop: Option<Why>,
    canceller: Option<Canceller>,
    outbox: Arc<Outbox>,
}

/// Why an attempt is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum Why {
    /// Its task is cancelled.
    Cancelled,
    /// The worker ends.
    GivenBack,
    /// The task is not the worker's any more, or may soon not be.
    Late,
}

/// What an attempt has to say, until it is reported.
#[derive(Default)]
pub(in crate::task) struct Outbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    chunks: Vec<(Stream, Vec<u8>)>,
    bytes: usize,
    progress: Option<(f64, String)>,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, shared: &Shared, stream: Stream, bytes: &[u8]) {
        let is_much = {
            let mut waiting = self.lock();
            waiting.bytes += bytes.len();
            match waiting.chunks.last_mut() {
                Some((last, text)) if *last == stream => text.extend_from_slice(bytes),
                _ => waiting.chunks.push((stream, bytes.to_vec())),
            }
            waiting.bytes > FLUSH_BYTES
        };
        shared.has_news(is_much);
    }

    pub fn progress(&self, shared: &Shared, fraction: f64, message: String) {
        self.lock().progress = Some((fraction, message));
        shared.has_news(false);
    }

    fn empty(&self, lease: &Lease, most: u64, reports: &mut Vec<Report>) {
        let Waiting { chunks, progress, .. } = std::mem::take(&mut *self.lock());
        let mut say = |news| reports.push(Report { lease: lease.clone(), news });
        if !chunks.is_empty() {
            say(News::Wrote { chunks, most });
        }
        if let Some((fraction, message)) = progress {
            say(News::Progress { fraction, message });
        }
    }
}

impl Shared {
    pub fn new(kernel: Kernel, tasks: Tasks, name: String, concurrency: usize, lease: Duration) -> Self {
        let state = State {
            queue: VecDeque::new(),
            running: HashMap::new(),
            runners: 0,
            lent: 0,
            lent_bytes: 0,
            returning: 0,
            done: Vec::new(),
            done_since: None,
            flushed: Instant::now(),
            stopping: false,
            pace: 1.0,
        };
        Shared {
            kernel,
            tasks,
            name,
            lease,
            concurrency,
            state: Mutex::new(state),
            event: Notify::new(),
            freed: Notify::new(),
            dirty: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_news(&self, now: bool) {
        if !self.dirty.swap(true, Ordering::AcqRel) || now {
            self.event.notify_one();
        }
    }

    pub fn active(&self) -> usize {
        let state = self.lock();
        state.running.len() + state.queue.len()
    }

    /// Takes no more tasks, and stops those that run.
    pub fn stop_all(&self) {
        let mut state = self.lock();
        state.stopping = true;
        for running in state.running.values_mut() {
            running.stop(Why::GivenBack);
        }
        self.event.notify_one();
    }

    pub fn stop(&self, id: &TaskId, why: Why) {
        let mut state = self.lock();
        state.stop(id, why);
        if let Some(position) = state.queue.iter().position(|queued| queued.delivery.lease.id == *id)
            && let Some(queued) = state.queue.remove(position)
            && why == Why::Cancelled
        {
            state.say_done([Report { lease: queued.delivery.lease, news: News::Cancelled }]);
        }
    }

    /// Stops attempts whose tasks may soon be others'.
    pub fn stop_late(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        for running in state.running.values_mut().filter(|running| running.until <= now) {
            running.stop(Why::Late);
        }
        // They were not begun, and need not be reported either.
        state.queue.retain(|queued| queued.until > now);
    }

    /// Whether it is to end, and nothing is left to be done for that.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.stopping && state.running.is_empty() && state.queue.is_empty() && state.done.is_empty()
    }

    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// What is to be reported now.
    pub fn collect(&self, reports: &mut Vec<Report>) {
        let now = Instant::now();
        let most = self.tasks.limited().log_bytes;
        let mut state = self.lock();
        let state = &mut *state;
        let waited = state.done_since.is_some_and(|since| now >= since + BATCH_TIME);
        if state.queue.is_empty() || state.done.len() >= BATCH || waited || state.stopping {
            reports.append(&mut state.done);
            state.done_since = None;
        }
        if self.dirty.load(Ordering::Acquire) && (now >= state.flushed + FLUSH || state.stopping) {
            self.dirty.store(false, Ordering::Release);
            state.flushed = now;
            for (lease, running) in &state.running {
                running.outbox.empty(lease, most, reports);
            }
        } else {
            let full = |running: &Running| running.outbox.lock().bytes > FLUSH_BYTES;
            for (lease, running) in state.running.iter().filter(|(_, running)| full(running)) {
                running.outbox.empty(lease, most, reports);
            }
        }
        let is_full = state.runners >= state.capacity(self.concurrency);
        let stopping = state.stopping;
        state.queue.retain(|queued| {
            let is_stale = is_full && now >= queued.taken + STALE;
            if is_stale {
                // None are taken ahead until tasks are short again.
                state.pace = STALE.as_secs_f64();
            }
            let stays = !stopping && !is_stale;
            if !stays {
                let news = News::Release { delay: Duration::ZERO };
                reports.push(Report { lease: queued.delivery.lease.clone(), news });
            }
            stays
        });
        let queued = state.queue.iter().map(|queued| (&queued.delivery.lease, queued.until));
        let running = state.running.iter().map(|(lease, running)| (lease, running.until));
        for (lease, _) in queued.chain(running).filter(|(_, until)| now >= self.renewal(*until)) {
            reports.push(Report { lease: lease.clone(), news: News::InProgress { lease: self.lease } });
        }
    }

    /// When a lease that ends then is to be renewed.
    fn renewal(&self, until: Instant) -> Instant {
        until.checked_sub(self.lease * 6 / 10).unwrap_or(until)
    }

    /// When `collect` has something to report next, if nothing happens before.
    pub fn next(&self) -> Instant {
        let state = self.lock();
        let mut next = Instant::now() + self.lease;
        if let Some(since) = state.done_since {
            next = next.min(since + BATCH_TIME);
        }
        if self.dirty.load(Ordering::Acquire) {
            next = next.min(state.flushed + FLUSH);
        }
        let queued = state.queue.iter().map(|queued| queued.until);
        for until in queued.chain(state.running.values().map(|running| running.until)) {
            next = next.min(self.renewal(until));
        }
        match state.queue.front() {
            Some(queued) => next.min(queued.taken + STALE),
            None => next,
        }
    }

    /// Learns how deliveries stood when these reports were made, at `sent`.
    pub fn learn(&self, reports: &[Report], standings: &[Standing], sent: Instant) {
        let mut state = self.lock();
        let state = &mut *state;
        for (Report { lease, news }, standing) in reports.iter().zip(standings) {
            let is_renewal = matches!(news, News::InProgress { .. });
            let running = state.running.get_mut(lease);
            match (standing, running) {
                (Standing::Refused, Some(running)) => running.stop(Why::Late),
                (Standing::ToStop, Some(running)) => running.stop(Why::Cancelled),
                (Standing::Held, Some(running)) if is_renewal => running.until = sent + self.until(),
                (Standing::Refused, None) => {
                    tracing::debug!("the task `{}` was not this worker's any more", lease.id);
                    state.queue.retain(|queued| queued.delivery.lease != *lease);
                }
                (_, None) if is_renewal => {
                    let mut queue = state.queue.iter_mut();
                    if let Some(queued) = queue.find(|queued| queued.delivery.lease == *lease) {
                        queued.until = sent + self.until();
                    }
                }
                _ => {}
            }
        }
    }

    /// How long a task is this worker's to its own mind: a little shorter than to the store's, so that its
    /// attempt has stopped when another begins.
    fn until(&self) -> Duration {
        self.lease * 9 / 10
    }

    /// How many tasks it should take now.
    pub fn wants(&self) -> usize {
        let state = self.lock();
        if state.stopping {
            return 0;
        }
        let ahead = (AHEAD.as_secs_f64() / state.pace.max(1e-6)).min(MOST_AHEAD) as usize;
        if state.queue.len() > ahead / 2 {
            return 0;
        }
        let busy = state.running.len() + state.queue.len();
        (state.capacity(self.concurrency) + ahead).saturating_sub(busy)
    }

    /// Takes tasks that were given at `sent`, and starts as many threads as there is work for: also with none, as places
    /// may have become free for what is queued.
    pub fn take(self: &Arc<Self>, deliveries: Vec<Delivery>, sent: Instant) {
        let mut state = self.lock();
        let now = Instant::now();
        let until = sent + self.until();
        for Delivery { lease, .. } in &deliveries {
            // Its lease ran out unnoticed, while the machine slept.
            state.stop(&lease.id, Why::Late);
            state.queue.retain(|queued| queued.delivery.lease.id != lease.id);
        }
        let queued = deliveries.into_iter().map(|delivery| Queued { delivery, taken: now, until });
        state.queue.extend(queued);
        let free = state.capacity(self.concurrency).saturating_sub(state.runners);
        for _ in 0..free.min(state.queue.len()) {
            state.runners += 1;
            let shared = Arc::clone(self);
            self.kernel.runtime().spawn_blocking(move || shared.work());
        }
    }

    /// Runs tasks, one after another, as long as there are some.
    fn work(self: Arc<Self>) {
        while let Some((delivery, outbox)) = self.begin() {
            let began = Instant::now();
            let counters = &self.kernel.inner().counters;
            let span = spans::task(&delivery.lease.id, delivery.attempt);
            counters.attempt_begun();
            let run = || attempt::run(&self, &delivery, &outbox);
            let attempt = AssertUnwindSafe(|| span.in_scope(run));
            // Otherwise the worker would keep the task for ever.
            let news = catch_unwind(attempt).unwrap_or(News::Lost { delay: attempt::PAUSE });
            counters.attempt_ended(news.outcome());
            spans::task_ended(&span, news.outcome());
            drop(span);
            self.end(&delivery.lease, news, began.elapsed());
        }
    }

    /// The next task of a thread; with none, its place is free again.
    fn begin(&self) -> Option<(Delivery, Arc<Outbox>)> {
        let mut state = self.lock();
        let goes_on = !state.stopping && state.runners <= state.capacity(self.concurrency);
        let next = if goes_on { state.queue.pop_front() } else { None };
        let Some(Queued { delivery, until, .. }) = next else {
            // Under the same lock: what is queued from now on gets a thread.
            state.runners -= 1;
            self.freed.notify_waiters();
            self.event.notify_one();
            return None;
        };
        let outbox = Arc::<Outbox>::default();
        let running = Running { until, stop: None, canceller: None, outbox: Arc::clone(&outbox) };
        state.running.insert(delivery.lease.clone(), running);
        Some((delivery, outbox))
    }

    /// Names what stops the attempt, unless it is to be stopped already.
    pub fn can_be_stopped(&self, lease: &Lease, canceller: Canceller) -> Result<(), Why> {
        let mut state = self.lock();
        match state.running.get_mut(lease) {
            Some(running) => match running.stop {
                Some(why) => Err(why),
                None => {
                    running.canceller = Some(canceller);
                    Ok(())
                }
            },
            None => Err(Why::Late),
        }
    }

    /// Why the attempt is stopped, if it is.
    pub fn why(&self, lease: &Lease) -> Option<Why> {
        self.lock().running.get(lease)?.stop
    }

    fn end(&self, lease: &Lease, news: News, took: Duration) {
        let mut reports = Vec::new();
        let mut state = self.lock();
        let Some(running) = state.running.remove(lease) else { return };
        running.outbox.empty(lease, self.tasks.limited().log_bytes, &mut reports);
        reports.push(Report { lease: lease.clone(), news });
        state.say_done(reports);
        state.pace = 0.8 * state.pace + 0.2 * took.as_secs_f64();
        // The rest of a batch is not far.
        let alone = state.queue.is_empty();
        if alone || state.done.len() >= BATCH || state.done.len() == 1 {
            self.event.notify_one();
        }
    }
}

impl State {
    fn capacity(&self, concurrency: usize) -> usize {
        (concurrency + self.lent).saturating_sub(self.returning)
    }

    /// Stops the attempts at a task.
    fn stop(&mut self, id: &TaskId, why: Why) {
        let own = self.running.iter_mut().filter(|(lease, _)| lease.id == *id);
        own.for_each(|(_, running)| running.stop(why));
    }

    fn say_done(&mut self, reports: impl IntoIterator<Item = Report>) {
        self.done.extend(reports);
        self.done_since.get_or_insert_with(Instant::now);
    }
}

impl Running {
    fn stop(&mut self, why: Why) {
        if self.stop.is_none() {
            self.stop = Some(why);
            if let Some(canceller) = &self.canceller {
                canceller.cancel();
            }
        }
    }
}
