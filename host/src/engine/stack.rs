//! Native stack for turns.
//!
//! The interpreter recurses natively where Python objects are nested, deeper than a thread's usual
//! stack allows. So a turn runs on a stack of its own, unless the thread's has enough left: address
//! space of which only what is used takes memory, kept for the next turn.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use super::GUEST_STACK_BYTES;
use super::reservation::Reservation;

/// What a turn needs: the guest's stack, and room above it for host calls and a tool.
const NEEDED_BYTES: usize = GUEST_STACK_BYTES + (8 << 20);

/// Below a stack, so that running over its end is a fault and not somebody else's memory.
const GUARD_BYTES: usize = 64 << 10;

/// How much of a stack's memory is kept for the next turn.
const RESIDENT_BYTES: usize = 256 << 10;

/// Stacks that wait for the next turn.
const MAX_IDLE: usize = 64;

#[derive(Default)]
pub(crate) struct Stacks(Mutex<Vec<Reservation>>);

thread_local! {
    /// The lowest address of the stack that this thread runs on, once it is known.
    static LOWEST: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Stacks {
    /// Calls `turn` with enough stack.
    ///
    /// # Errors
    ///
    /// When the system has no address space for another stack.
    pub fn run<T>(&self, turn: impl FnOnce() -> T) -> io::Result<T> {
        let lowest = LOWEST.get().unwrap_or_else(|| {
            let lowest = lowest_of_thread();
            LOWEST.set(Some(lowest));
            lowest
        });
        if (psm::stack_pointer() as usize).saturating_sub(lowest) >= NEEDED_BYTES {
            return Ok(turn());
        }
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let stack = match idle {
            Some(stack) => stack,
            None => {
                let stack = Reservation::new(GUARD_BYTES + NEEDED_BYTES)?;
                stack.protect(GUARD_BYTES, NEEDED_BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
                stack
            }
        };
        let base = stack.at(GUARD_BYTES, NEEDED_BYTES);
        LOWEST.set(Some(base as usize));
        // SAFETY: the range is a mapping of ours that can be read and written, is aligned to a page, lies
        // above memory without access, and is used by nothing else until it goes back to the pool. No
        // panic leaves the callback.
        let result =
            unsafe { psm::on_stack(base.cast(), NEEDED_BYTES, || catch_unwind(AssertUnwindSafe(turn))) };
        LOWEST.set(Some(lowest));
        if stack.discard(GUARD_BYTES, NEEDED_BYTES - RESIDENT_BYTES).is_ok() {
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(stack);
            }
        }
        Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

/// The lowest address of this thread's own stack; that of the highest one if nobody knows.
fn lowest_of_thread() -> usize {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut start, mut bytes, mut guard) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: `pthread_getattr_np` initialises the attributes of this live thread when it succeeds, and
    // only then they are read and destroyed.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return usize::MAX;
        }
        libc::pthread_attr_getstack(attributes.as_ptr(), &mut start, &mut bytes);
        libc::pthread_attr_getguardsize(attributes.as_ptr(), &mut guard);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    start as usize + guard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn dig(depth: usize) -> usize {
        let block = std::hint::black_box([depth as u8; 4096]);
        if depth == 0 { 0 } else { dig(depth - 1) + block.len() }
    }

    #[test]
    fn a_small_thread_has_a_large_stack_inside() {
        let stacks = Stacks::default();
        let deep = std::thread::Builder::new().stack_size(128 << 10);
        let deep = deep.spawn(move || {
            // Also one inside of another, and again on the same.
            let inner = || stacks.run(|| dig(GUEST_STACK_BYTES / 8192)).unwrap();
            let first = stacks.run(|| dig(GUEST_STACK_BYTES / 16384) + inner()).unwrap();
            assert_eq!(first, stacks.run(|| dig(GUEST_STACK_BYTES / 16384) + inner()).unwrap());
            let panicked = catch_unwind(AssertUnwindSafe(|| stacks.run(|| panic!("inside"))));
            assert!(panicked.is_err());
            stacks.run(|| 7).unwrap()
        });
        assert_eq!(deep.unwrap().join().unwrap(), 7);
    }
}
