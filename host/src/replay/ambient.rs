//! The clocks and the random numbers of a session that can be run again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand_core::TryRng;
use serde::{Deserialize, Serialize};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};

/// Each reading moves the clocks on, so that a program which waits for a time by looking at them ends.
const STEP: u64 = 1000;

/// What a program sees of the world without asking for anything: its clocks and random numbers.
pub struct Ambient {
    pub clock: Clock,
    insecure_seed: u128,
    insecure: Numbers,
    secure: Numbers,
}

/// How far clocks and random numbers have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    clock: u64,
    insecure: u64,
    secure: u64,
}

impl Ambient {
    pub fn new(start: Duration, seed: u64) -> Self {
        let secure = Numbers::new(seed);
        let (high, low) = (secure.next(), secure.next());
        Ambient {
            clock: Clock { now: Arc::default(), start },
            insecure_seed: u128::from(high) << 64 | u128::from(low),
            insecure: Numbers::new(secure.next()),
            secure,
        }
    }

    /// Makes them those of a guest.
    pub fn set(&self, wasi: &mut WasiCtxBuilder) {
        wasi.wall_clock(self.clock.clone())
            .monotonic_clock(self.clock.clone())
            .insecure_random_seed(self.insecure_seed)
            .insecure_random(self.insecure.clone())
            .secure_random(self.secure.clone());
    }

    pub fn position(&self) -> Position {
        let [clock, insecure, secure] = self.counters().map(|counter| counter.load(Ordering::Relaxed));
        Position { clock, insecure, secure }
    }

    pub fn go_to(&self, Position { clock, insecure, secure }: Position) {
        for (counter, to) in self.counters().into_iter().zip([clock, insecure, secure]) {
            counter.store(to, Ordering::Relaxed);
        }
    }

    fn counters(&self) -> [&AtomicU64; 3] {
        [&self.clock.now, &self.insecure.0, &self.secure.0]
    }
}

/// A clock that only readings and waits move.
#[derive(Clone)]
pub struct Clock {
    /// Nanoseconds since the session's start.
    now: Arc<AtomicU64>,
    /// The time of day then.
    start: Duration,
}

impl Clock {
    /// Moves it on.
    pub fn pass(&self, nanoseconds: u64) {
        let now = self.now.load(Ordering::Relaxed);
        self.now.store(now.saturating_add(nanoseconds), Ordering::Relaxed);
    }

    /// Nanoseconds since the session's start, without moving it.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    fn read(&self) -> u64 {
        self.pass(STEP);
        self.now.load(Ordering::Relaxed)
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(STEP)
    }

    fn now(&self) -> Duration {
        self.start.saturating_add(Duration::from_nanos(self.read()))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        STEP
    }

    fn now(&self) -> u64 {
        self.read()
    }
}

/// SplitMix64, written out because a cassette must mean the same with every version of a library. Clones are the same.
#[derive(Clone)]
pub struct Numbers(Arc<AtomicU64>);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(Arc::new(AtomicU64::new(seed)))
    }

    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl TryRng for Numbers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let numbers = Numbers::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| numbers.next()).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }
}
