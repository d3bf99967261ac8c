//! Stopping a turn from outside: a deadline, a cancellation.
//!
//! A turn is either computing or waiting in a host call. Computing is stopped through a [`Control`]
//! that the compiled code listens to; waiting is stopped by waking the host call.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
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

    /// Undoes `ring`, so that the next turn can run; says whether it can.
    fn silence(&self) -> bool;

    /// Makes a signal pending in the interpreter, from any thread, unless it is in a host call.
    fn raise(&self, signal: Signal) -> Raised;

    /// Makes a signal pending, on the thread of a host call.
    fn raise_in_host_call(&self, signal: Signal);

    /// Takes a pending signal back, after a turn and on its thread.
    fn take_back(&self, signal: Signal);

    /// Standard output that the guest has not passed on, when it is stopped for good.
    fn pending_output(&self) -> Option<Vec<u8>>;
}

/// A signal that the interpreter handles at its next byte code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: `KeyboardInterrupt`.
    Interrupt,
    /// SIGSYS: pass pending output on.
    Flush,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    Pending,
    /// The interpreter is in a host call, whose end is soon enough to try again.
    NotNow,
    /// This engine cannot do it.
    Never,
}

/// How a turn ended, as far as it was stopped from outside.
pub(crate) struct Ended {
    pub reason: Option<Reason>,
    /// Whether the guest can run again, if it was not stopped.
    pub usable: bool,
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
    /// Whether what runs is a question beside the turns, which its time limit alone stops.
    beside: bool,
    reason: Option<Reason>,
    /// A SIGINT that came during a host call. It ends the wait of that call, if it waits.
    undelivered: bool,
    /// Whether this turn has been sent a SIGINT.
    asked: bool,
    /// Whether the last turn was stopped: what it had still to say may not hold anybody up.
    stopped: bool,
    /// A cancellation that arrived between turns stops the next one.
    cancelled: bool,
    /// Whether turns are never asked to pass their output on.
    quiet: bool,
    /// What the turn runs elsewhere, in a tool for instance, and has to be stopped with it.
    nested: Vec<Arc<Interrupt>>,
}

impl State {
    fn start(&mut self, beside: bool) {
        self.running = true;
        self.beside = beside;
        self.reason = None;
        self.undelivered = false;
        self.asked = false;
        self.stopped = false;
    }
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

    /// Never asks turns to pass their output on. That happens at another point each time, and leaves
    /// traces in the interpreter.
    pub fn set_quiet(&self) {
        self.lock().quiet = true;
    }

    /// Why the current turn is to stop.
    pub fn reason(&self) -> Option<Reason> {
        self.lock().reason
    }

    /// Marks the start of a turn.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.start(false);
        if std::mem::take(&mut state.cancelled) {
            self.stop(&mut state, Reason::Cancelled);
        }
    }

    /// Marks the start of a question beside the turns. A cancellation meanwhile is for the next turn: what keeps
    /// a session's state must not end the session.
    pub fn begin_beside(&self) {
        self.lock().start(true);
    }

    /// Marks the end of a turn, on its thread.
    pub fn end(&self) -> Ended {
        let mut state = self.lock();
        state.running = false;
        let reason = state.reason.take();
        state.stopped = reason.is_some();
        let mut usable = true;
        if let Some(control) = &state.control {
            if reason.is_some() {
                usable = control.silence();
            }
            if state.asked {
                // What came too late for this turn is not for the next one.
                control.take_back(Signal::Interrupt);
            }
        }
        Ended { reason, usable }
    }

    /// Stops the current turn, if one runs.
    pub fn fire(&self, reason: Reason) {
        let mut state = self.lock();
        match reason {
            Reason::Cancelled if state.beside || !state.running => state.cancelled = true,
            _ if state.running => self.stop(&mut state, reason),
            _ => {}
        }
    }

    /// Takes back a cancellation that arrived between turns.
    pub fn withdraw(&self) {
        self.lock().cancelled = false;
    }

    /// Raises SIGINT in the current turn; stops it where that is not possible or did not help.
    pub fn interrupt(&self) {
        let mut state = self.lock();
        if !state.running || state.beside || state.reason.is_some() {
            return;
        }
        let raised = match (&state.control, state.asked) {
            (Some(control), false) => control.raise(Signal::Interrupt),
            _ => Raised::Never,
        };
        match raised {
            Raised::Never => return self.stop(&mut state, Reason::Cancelled),
            Raised::Pending => {}
            Raised::NotNow => {
                state.undelivered = true;
                self.woken.notify_all();
                self.notify.notify_waiters();
            }
        }
        state.asked = true;
    }

    /// Asks the current turn to pass its output on, and delivers what could not be before.
    fn tick(&self) {
        let mut state = self.lock();
        if !state.running || state.reason.is_some() {
            return;
        }
        let Some(control) = state.control.clone() else { return };
        if state.undelivered && control.raise(Signal::Interrupt) == Raised::Pending {
            state.undelivered = false;
        }
        if !state.quiet {
            control.raise(Signal::Flush);
        }
    }

    /// Whether the turn that runs is to stop, or the last one was stopped.
    pub fn is_stopping(&self) -> bool {
        let state = self.lock();
        state.reason.is_some() || state.stopped
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
            for nested in &state.nested {
                nested.fire(reason);
            }
            self.woken.notify_all();
            self.notify.notify_waiters();
        }
    }

    /// Stops `nested` too when this turn is stopped, as long as `call` runs; at once if it already is.
    pub fn with_nested<T>(&self, nested: &Arc<Interrupt>, call: impl FnOnce() -> T) -> T {
        {
            let mut state = self.lock();
            state.nested.push(Arc::clone(nested));
            if let Some(reason) = state.reason {
                nested.fire(reason);
            }
        }
        let result = call();
        self.lock().nested.retain(|other| !Arc::ptr_eq(other, nested));
        result
    }

    pub fn is_fired(&self) -> bool {
        self.lock().reason.is_some()
    }

    /// Waits on this thread for `future`, unless the turn is stopped first.
    pub fn block_on<T>(&self, runtime: &Handle, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut stopped = pin!(self.fired());
        let mut future = pin!(future);
        runtime.block_on(poll_fn(|context| {
            if stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Stopped));
            }
            future.as_mut().poll(context).map(Ok)
        }))
    }

    /// Runs `future` on this thread, unless the turn is stopped first. What it calls may block: it is
    /// on no runtime.
    pub fn drive<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut context = Context::from_waker(&waker);
        let mut stopped = pin!(self.fired());
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return Ok(result);
            }
            if stopped.as_mut().poll(&mut context).is_ready() {
                return Err(Stopped);
            }
            std::thread::park();
        }
    }

    /// Waits until the turn is stopped.
    pub async fn fired(&self) {
        self.until(|state| state.reason.is_some()).await;
    }

    /// Waits until the turn is stopped, or was sent a signal that should end its wait.
    pub async fn signalled(&self) -> Result<(), Stopped> {
        self.until(|state| state.reason.is_some() || state.undelivered).await;
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

    /// Ends a wait, on the turn's thread.
    fn settle(&self) -> Result<(), Stopped> {
        let mut state = self.lock();
        if state.reason.is_some() {
            return Err(Stopped);
        }
        if std::mem::take(&mut state.undelivered)
            && let Some(control) = &state.control
        {
            control.raise_in_host_call(Signal::Interrupt);
        }
        Ok(())
    }

    /// Sleeps on this thread, for less if the turn is stopped or sent a signal.
    pub fn sleep(&self, duration: Duration) -> Result<(), Stopped> {
        let state = self.lock();
        let waiting = |state: &mut State| state.reason.is_none() && !state.undelivered;
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
                    turn.interrupt.tick();
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
