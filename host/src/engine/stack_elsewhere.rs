//! Native stack for turns, where the stack of a thread cannot be looked at: a thread of its own.

use std::io;

use super::GUEST_STACK_BYTES;

#[derive(Default)]
pub(crate) struct Stacks;

impl Stacks {
    /// Calls `turn` with enough stack.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn run<T: Send>(&self, turn: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(GUEST_STACK_BYTES + (8 << 20));
            let thread = thread.spawn_scoped(scope, turn)?;
            Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}
