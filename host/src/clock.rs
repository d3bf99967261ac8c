//! The monotonic clock of a session.

use std::time::{Duration, Instant};

use wasmtime_wasi::clocks::HostMonotonicClock;

/// A clock that goes on where that of another session was, so that for what was forked or woken time never
/// runs backwards.
#[derive(Clone)]
pub(crate) struct Clock {
    began: Instant,
    before: Duration,
}

impl Clock {
    /// A clock that shows `before` now.
    pub fn at(before: Duration) -> Self {
        Clock { began: Instant::now(), before }
    }

    pub fn now(&self) -> Duration {
        self.before + self.began.elapsed()
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(Clock::now(self).as_nanos()).unwrap_or(u64::MAX)
    }
}
