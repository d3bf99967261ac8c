//! What people and systems send to stop a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why the process is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Somebody ends it, or its terminal is gone; the number is the signal's.
    Terminate(i32),
}

impl Signal {
    /// The exit code of a process that such a signal ended.
    pub fn exit_code(self) -> i32 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate(number) => 128 + number,
        }
    }
}

/// Stops what goes on at the first signal and this process at the second, or at any that comes when
/// that has ended.
#[derive(Clone, Default)]
pub struct Stopper(Arc<Mutex<Stopping>>);

#[derive(Default)]
struct Stopping {
    first: Option<Signal>,
    ended: bool,
}

impl Stopper {
    pub fn start(stop: impl Fn() + Send + 'static) -> Self {
        let stopper = Stopper::default();
        let heard = stopper.clone();
        // Without a handler a signal ends the process, which is all right too.
        let _ = listen(move |signal| {
            let mut state = heard.lock();
            if state.ended || state.first.is_some() {
                crate::exit(signal.exit_code());
            }
            state.first = Some(signal);
            stop();
        });
        stopper
    }

    /// It has ended, and there is nothing to stop any more; says which signal stopped it.
    pub fn ended(&self) -> Option<Signal> {
        let mut state = self.lock();
        state.ended = true;
        state.first
    }

    fn lock(&self) -> MutexGuard<'_, Stopping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `handle` on a thread of its own for each signal that comes.
#[cfg(unix)]
pub fn listen(handle: impl Fn(Signal) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let listen = move || {
        for number in signals.forever() {
            handle(if number == SIGINT { Signal::Interrupt } else { Signal::Terminate(number) });
        }
    };
    std::thread::Builder::new().name("signals".into()).stack_size(128 << 10).spawn(listen)?;
    Ok(())
}

/// Elsewhere a signal ends the process, as it does without a handler.
#[cfg(not(unix))]
pub fn listen(handle: impl Fn(Signal) + Send + 'static) -> std::io::Result<()> {
    drop(handle);
    Ok(())
}
