//! Memory that calls in flight hold on the host beside what the guest passed: texts that were read for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::failure;
use crate::bindings::operations::Failure;

/// Bytes that the calls of one session may hold together.
const MOST: u64 = 256 << 20;

/// What calls of one session hold.
#[derive(Clone, Default)]
pub(crate) struct Room(Arc<AtomicU64>);

/// A call's part of it, until it is dropped.
pub(crate) struct Taken {
    room: Room,
    bytes: u64,
}

impl Room {
    /// Takes as many bytes, or says that calls must end first: a program that gathers calls then waits for
    /// one to end.
    pub fn take(&self, bytes: u64) -> Result<Taken, Failure> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let taken = Taken { room: self.clone(), bytes };
        match before.saturating_add(bytes) <= MOST {
            true => Ok(taken),
            false => Err(failure(
                "limit",
                format!(
                    "calls in flight hold {before} bytes of text of {MOST} that they may; await some of them first"
                ),
            )),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let room = Room::default();
        let half = room.take(MOST / 2).ok().unwrap();
        assert_eq!(room.take(MOST / 2 + 1).err().unwrap().kind, "limit");
        let other = room.take(MOST / 2).ok().unwrap();
        assert!(room.take(1).is_err());
        drop((half, other));
        assert!(room.take(MOST).is_ok());
        assert!(room.take(u64::MAX).is_err());
        assert!(room.take(MOST).is_ok());
    }
}
