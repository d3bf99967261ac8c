//! Stopping a turn from outside: a deadline, a cancellation.
//!
//! A turn is either computing or waiting in a host call. Computing is stopped through a [`Control`]
//! that the compiled code listens to; waiting is stopped by waking the host call.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Why a turn was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its time limit was reached.
    Deadline,
    /// The embedder cancelled it.
    Cancelled,
}

/// What can be done to a guest from outside while it runs.
pub(crate) trait Control: Send + Sync {
    /// Makes computing guest code stop soon.
    fn ring(&self);

    /// Undoes `ring`, so that the memory can be read or the next turn can run.
    fn silence(&self);

    /// Makes a signal pending in the interpreter; says whether that is possible.
    fn raise(&self, signal: Signal) -> bool;

    /// Standard output that the guest has not passed on, when it is stopped for good.
    fn pending_output(&self) -> Option<Vec<u8>>;
}

/// A signal that the interpreter handles at its next byte code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: `KeyboardInterrupt`.
    Interrupt,
    /// SIGALRM: pass pending output on.
    Flush,
}

/// Raised through the host calls of a turn that was stopped; becomes the turn's ending.
#[derive(Debug, thiserror::Error)]
#[error("the turn was stopped")]
pub(crate) struct Stopped;

/// The switch that stops one session's current turn.
pub(crate) struct Interrupt {
    state: Mutex<State>,
    woken: Condvar,
    notify: Notify,
}

#[derive(Default)]
struct State {
    control: Option<Arc<dyn Control>>,
    running: bool,
    reason: Option<Reason>,
    /// A pending SIGINT, of which the wait that it should end does not know yet.
    signalled: bool,
    /// Whether this turn has been sent a SIGINT.
    asked: bool,
    /// A cancellation that arrived between turns stops the next one.
    cancelled: bool,
}

impl Interrupt {
    pub fn new() -> Arc<Self> {
        Arc::new(Interrupt { state: Mutex::default(), woken: Condvar::new(), notify: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_control(&self, control: Arc<dyn Control>) {
        self.lock().control = Some(control);
    }

    /// Marks the start of a turn.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.running = true;
        state.reason = None;
        state.signalled = false;
        state.asked = false;
        if state.cancelled {
            self.stop(&mut state, Reason::Cancelled);
        }
    }

    /// Marks the end of a turn and says why it was stopped, if it was.
    pub fn end(&self) -> Option<Reason> {
        let mut state = self.lock();
        state.running = false;
        let reason = state.reason.take();
        if reason.is_some()
            && let Some(control) = &state.control
        {
            control.silence();
        }
        reason
    }

    /// Stops the current turn, if one runs.
    pub fn fire(&self, reason: Reason) {
        let mut state = self.lock();
        if state.running {
            self.stop(&mut state, reason);
        } else if reason == Reason::Cancelled {
            state.cancelled = true;
        }
    }

    /// Raises SIGINT in the current turn; stops it where that is not possible or did not help.
    pub fn interrupt(&self) {
        let mut state = self.lock();
        if !state.running {
            return;
        }
        let raised = !state.asked && state.control.as_ref().is_some_and(|it| it.raise(Signal::Interrupt));
        if !raised {
            return self.stop(&mut state, Reason::Cancelled);
        }
        state.asked = true;
        state.signalled = true;
        self.woken.notify_all();
        self.notify.notify_waiters();
    }

    /// Asks the current turn to pass its output on.
    fn flush(&self) {
        let state = self.lock();
        if let (true, Some(control)) = (state.running, &state.control) {
            control.raise(Signal::Flush);
        }
    }

    /// Standard output that a guest which cannot go on has not passed on.
    pub fn pending_output(&self) -> Option<Vec<u8>> {
        self.lock().control.as_ref()?.pending_output()
    }

    fn stop(&self, state: &mut State, reason: Reason) {
        if state.reason.is_none() {
            state.reason = Some(reason);
            if let Some(control) = &state.control {
                control.ring();
            }
            self.woken.notify_all();
            self.notify.notify_waiters();
        }
    }

    pub fn is_fired(&self) -> bool {
        self.lock().reason.is_some()
    }

    /// Waits until the turn is stopped.
    pub async fn fired(&self) {
        self.until(|state| state.reason.is_some()).await;
    }

    /// Waits until the turn is stopped, or was sent a signal that should end its wait.
    pub async fn signalled(&self) -> Result<(), Stopped> {
        self.until(|state| state.reason.is_some() || state.signalled).await;
        self.settle()
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        let mut notified = std::pin::pin!(self.notify.notified());
        loop {
            // Registered before the check, so that no `fire` is missed between the two.
            notified.as_mut().enable();
            if reached(&self.lock()) {
                return;
            }
            notified.as_mut().await;
            notified.set(self.notify.notified());
        }
    }

    fn settle(&self) -> Result<(), Stopped> {
        let mut state = self.lock();
        state.signalled = false;
        if state.reason.is_some() { Err(Stopped) } else { Ok(()) }
    }

    /// Sleeps on this thread, for less if the turn is stopped or sent a signal.
    pub fn sleep(&self, duration: Duration) -> Result<(), Stopped> {
        let state = self.lock();
        let waiting = |state: &mut State| state.reason.is_none() && !state.signalled;
        let slept = self.woken.wait_timeout_while(state, duration, waiting);
        drop(slept.unwrap_or_else(PoisonError::into_inner));
        self.settle()
    }
}

/// How often a running turn is asked to pass its output on.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Looks after running turns from a thread of its own: stops them at their deadlines, and makes them
/// pass their output on.
#[derive(Clone)]
pub(crate) struct Watchdog(Arc<Shared>);

struct Shared {
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Default)]
struct Turns {
    running: BTreeMap<u64, Watched>,
    next: u64,
    /// When the thread wakes by itself; `None` while it has nothing to wait for.
    wakes: Option<Instant>,
    stopped: bool,
}

struct Watched {
    interrupt: Arc<Interrupt>,
    started: Instant,
    deadline: Option<Instant>,
}

/// A turn that is looked after until this is dropped.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    turn: u64,
}

impl Watchdog {
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared { turns: Mutex::default(), changed: Condvar::new() });
        let watching = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("agentkernel-watchdog".into())
            .stack_size(128 << 10)
            .spawn(move || watching.watch())?;
        Ok(Watchdog(shared))
    }

    pub fn watch(&self, interrupt: &Arc<Interrupt>, timeout: Option<Duration>) -> Watch {
        let started = Instant::now();
        // A deadline past the end of time is none.
        let deadline = timeout.and_then(|timeout| started.checked_add(timeout));
        let mut turns = self.0.lock();
        let turn = turns.next;
        turns.next += 1;
        turns.running.insert(turn, Watched { interrupt: Arc::clone(interrupt), started, deadline });
        let first = started + FLUSH_EVERY;
        let first = deadline.map_or(first, |deadline| deadline.min(first));
        // Short turns one after another wake the thread once in a while, not each.
        if turns.wakes.is_none_or(|wakes| first < wakes) {
            turns.wakes = Some(first);
            self.0.changed.notify_one();
        }
        Watch { shared: Arc::clone(&self.0), turn }
    }

    pub fn stop(&self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut turns = self.lock();
        while !turns.stopped {
            let now = Instant::now();
            let mut wakes = None::<Instant>;
            turns.running.retain(|_, turn| {
                if turn.deadline.is_some_and(|deadline| deadline <= now) {
                    turn.interrupt.fire(Reason::Deadline);
                    return false;
                }
                if now >= turn.started + FLUSH_EVERY {
                    turn.interrupt.flush();
                }
                let next =
                    turn.deadline.map_or(now + FLUSH_EVERY, |deadline| deadline.min(now + FLUSH_EVERY));
                wakes = Some(wakes.map_or(next, |wakes| wakes.min(next)));
                true
            });
            turns.wakes = wakes;
            turns = match wakes {
                Some(at) => {
                    let waited = self.changed.wait_timeout(turns, at.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(turns).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().running.remove(&self.turn);
    }
}
