//! Work that is cut into parts: done by as many threads as the machine has cores, results in order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Result, later, stopped};

/// What a piece of work may do: go on until it is stopped, or read so many bytes.
pub struct Run<'a> {
    stop: &'a AtomicBool,
    bytes: AtomicU64,
}

impl<'a> Run<'a> {
    /// Until `stop` is set.
    pub fn until(stop: &'a AtomicBool) -> Self {
        Run { stop, bytes: AtomicU64::new(u64::MAX) }
    }

    /// On the turn's own thread, so no more than a moment.
    pub fn briefly() -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Run { stop: &NEVER, bytes: AtomicU64::new(BRIEF_BYTES) }
    }

    /// Whether nobody has stopped it. This is asked after each match, so it costs nearly nothing.
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Before reading so many bytes.
    pub fn go_on(&self, bytes: u64) -> Result<()> {
        if !self.goes_on() {
            return Err(stopped());
        }
        let left = |left: u64| left.checked_sub(bytes);
        match self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Ok(()),
            Err(_) => Err(later()),
        }
    }
}

/// What is read at once without asking another thread to: less than a millisecond's work.
const BRIEF_BYTES: u64 = 2 << 20;

/// Parts that one thread does before others are asked to help.
const ALONE: usize = 2;

/// Threads that help, in the whole process.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// As many helpers as there are cores left.
struct Helpers(usize);

impl Helpers {
    fn ask() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let mut got = 0;
        let _ = HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            got = most.saturating_sub(used);
            Some(used + got)
        });
        Helpers(got)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        HELPERS.fetch_sub(self.0, Ordering::Relaxed);
    }
}

struct Shared<I, T> {
    state: Mutex<State<I, T>>,
    changed: Condvar,
    ahead: usize,
}

struct State<I, T> {
    parts: I,
    exhausted: bool,
    taken: usize,
    delivered: usize,
    done: BTreeMap<usize, Result<T>>,
    over: bool,
}

impl<P, T, I: Iterator<Item = P>> Shared<I, T> {
    fn lock(&self) -> MutexGuard<'_, State<I, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<I, T>>) -> MutexGuard<'a, State<I, T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next part, if it may be begun.
    fn take(&self, state: &mut State<I, T>) -> Option<(usize, P)> {
        if state.over || state.exhausted || state.taken - state.delivered >= self.ahead {
            return None;
        }
        let Some(part) = state.parts.next() else {
            state.exhausted = true;
            self.changed.notify_all();
            return None;
        };
        state.taken += 1;
        Some((state.taken - 1, part))
    }

    fn help(&self, work: &(impl Fn(P) -> Result<T> + Sync)) {
        let _over = OverOnPanic(self);
        let mut state = self.lock();
        loop {
            if let Some((number, part)) = self.take(&mut state) {
                drop(state);
                let result = work(part);
                state = self.lock();
                state.done.insert(number, result);
                self.changed.notify_all();
            } else if state.over || state.exhausted {
                return;
            } else {
                state = self.wait(state);
            }
        }
    }
}

/// Ends the work for all when one thread panics, and when the one that collects leaves.
struct OverOnPanic<'a, P, T, I: Iterator<Item = P>>(&'a Shared<I, T>);

impl<P, T, I: Iterator<Item = P>> Drop for OverOnPanic<'_, P, T, I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().over = true;
            self.0.changed.notify_all();
        }
    }
}

/// Does `work` for each part and gives the results to `each` in the order of the parts, until that
/// breaks. No more than a few parts are begun whose turn has not come.
pub fn in_order<P: Send, T: Send>(
    mut parts: impl Iterator<Item = P> + Send,
    work: impl Fn(P) -> Result<T> + Sync,
    mut each: impl FnMut(T) -> ControlFlow<()>,
) -> Result<()> {
    for part in parts.by_ref().take(ALONE) {
        if each(work(part)?).is_break() {
            return Ok(());
        }
    }
    let Some(next) = parts.next() else { return Ok(()) };
    let parts = std::iter::once(next).chain(parts);
    let helpers = Helpers::ask();
    let state = State { parts, exhausted: false, taken: 0, delivered: 0, done: BTreeMap::new(), over: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), ahead: 2 * (helpers.0 + 1) };
    std::thread::scope(|scope| {
        for _ in 0..helpers.0 {
            // Without a thread it takes longer, that is all.
            let _ = std::thread::Builder::new()
                .name("context".to_owned())
                .spawn_scoped(scope, || shared.help(&work));
        }
        let _over = OverOnPanic(&shared);
        let result = collect(&shared, &work, &mut each);
        shared.lock().over = true;
        shared.changed.notify_all();
        result
    })
}

fn collect<P, T, I: Iterator<Item = P>>(
    shared: &Shared<I, T>,
    work: &impl Fn(P) -> Result<T>,
    each: &mut impl FnMut(T) -> ControlFlow<()>,
) -> Result<()> {
    let mut state = shared.lock();
    loop {
        let number = state.delivered;
        if let Some(result) = state.done.remove(&number) {
            state.delivered += 1;
            shared.changed.notify_all();
            drop(state);
            if each(result?).is_break() {
                return Ok(());
            }
            state = shared.lock();
        } else if let Some((number, part)) = shared.take(&mut state) {
            drop(state);
            let result = work(part);
            state = shared.lock();
            state.done.insert(number, result);
        } else if state.over || state.exhausted && state.delivered == state.taken {
            return Ok(());
        } else {
            state = shared.wait(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_few_are_begun_early() {
        let begun = AtomicUsize::new(0);
        let mut seen = Vec::new();
        let work = |number: u64| {
            begun.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_micros(number * 37 % 400));
            Ok(number)
        };
        let each = |number| {
            seen.push(number);
            if number == 99 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        in_order(0..10_000, work, each).unwrap();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(begun.into_inner() <= 100 + 2 * cores);
    }

    #[test]
    fn an_error_ends_it_at_its_place() {
        let mut seen = 0;
        let work = |number| if number == 50 { Err(stopped()) } else { Ok(number) };
        let each = |_| {
            seen += 1;
            ControlFlow::Continue(())
        };
        assert!(in_order(0..1000, work, each).is_err());
        assert_eq!(seen, 50);
    }

    #[test]
    fn a_panic_does_not_hang() {
        let work = |number: u64| if number == 50 { panic!("on purpose") } else { Ok(number) };
        let run = || in_order(0..1000, work, |_| ControlFlow::Continue(()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
}
