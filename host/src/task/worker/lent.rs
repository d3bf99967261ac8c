//! Places of a worker that tasks which wait leave to others, and take back.

use std::sync::Arc;

use super::shared::{Shared, State};

/// Tasks that may wait for others, and leave their places to them, at the same time. Each keeps its interpreter and
/// a thread. One that waits beyond that would keep its place, and with as many as there are places nothing would run.
pub(in crate::task) const MOST_LENT: usize = 256;

/// What an interpreter begins with, and what one that waits is counted as at least.
const BEGINNING_BYTES: u64 = 48 << 20;
const LEAST_BYTES: u64 = 4 << 20;

/// A place that a task which waits has left to others, until it is back or the task ends.
pub(in crate::task) struct Lent {
    shared: Arc<Shared>,
    bytes: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Away,
    Returning,
    Back,
}

impl Lent {
    /// Waits for a place: no more than there are compute at the same time.
    pub async fn back(mut self) {
        let shared = Arc::clone(&self.shared);
        self.stage = Stage::Returning;
        shared.lock().returning += 1;
        loop {
            let mut freed = std::pin::pin!(shared.freed.notified());
            freed.as_mut().enable();
            {
                let mut state = shared.lock();
                if state.stopping || state.runners - state.lent < shared.concurrency {
                    return self.end(&mut state);
                }
            }
            freed.await;
        }
    }

    fn end(&mut self, state: &mut State) {
        let before = std::mem::replace(&mut self.stage, Stage::Back);
        state.returning -= usize::from(before == Stage::Returning);
        if before != Stage::Back {
            state.lent -= 1;
            state.lent_bytes -= self.bytes;
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.end(&mut shared.lock());
    }
}

impl Shared {
    /// Leaves the place of a task that waits, and has so much memory, to others, unless too many wait already.
    pub fn lend(self: &Arc<Self>, memory_bytes: u64) -> Option<Lent> {
        let bytes = memory_bytes.saturating_sub(BEGINNING_BYTES).max(LEAST_BYTES);
        let mut state = self.lock();
        let is_too_much = state.lent > 0 && state.lent_bytes + bytes > self.tasks.limited().waiting_bytes;
        if state.lent == MOST_LENT || is_too_much {
            return None;
        }
        state.lent += 1;
        state.lent_bytes += bytes;
        drop(state);
        self.freed.notify_waiters();
        self.event.notify_one();
        Some(Lent { shared: Arc::clone(self), bytes, stage: Stage::Away })
    }
}
