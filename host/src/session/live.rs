//! Running turns, and what comes out of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

use super::Live;
use super::keep::Point;
use crate::bindings::{Python, guest};
use crate::console::Stream;
use crate::engine::{Interrupt, Reason};
use crate::kernel::Inner;
use crate::outcome::{Ending, Exception, Frame, Outcome, Usage, Value};
use crate::state::State;
use crate::turn::{Mode, Turn};
use crate::{Error, ErrorKind, Result};

/// Length of a value's JSON form; the host holds a longer one as text only, or not at all.
const JSON_BYTES: usize = 4 << 20;

impl Live {
    /// Asks the guest something beside its turns, which a time limit alone stops.
    pub(super) fn beside<T>(
        &mut self,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
        timeout: Duration,
        call: impl FnOnce(&Python, &mut Store<State>) -> wasmtime::Result<T> + Send,
    ) -> Result<Result<T, Ending>> {
        interrupt.begin_beside();
        self.limited(kernel, interrupt, Some(timeout), call)
    }

    /// Calls into the guest, once the interrupt knows of it, with a deadline in force. Gives the ending of a call
    /// that did not return.
    fn limited<T>(
        &mut self,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
        timeout: Option<Duration>,
        call: impl FnOnce(&Python, &mut Store<State>) -> wasmtime::Result<T> + Send,
    ) -> Result<Result<T, Ending>> {
        if let Some(fuel) = self.store.data().limits.fuel {
            // Only an engine without fuel refuses this, and `start` has checked that.
            let _ = self.store.set_fuel(fuel);
        }
        self.store.data_mut().memory_refused = false;
        // Closing a stream spawns a task.
        let _runtime = kernel.runtime.handle().enter();
        let watch = kernel.watchdog.watch(interrupt, timeout);
        let result = kernel.stacks.run(|| call(&self.python, &mut self.store));
        drop(watch);
        let ended = interrupt.end();
        let result = result.map_err(|error| {
            Error::new(ErrorKind::System, "the system has no address space for another stack").source(error)
        })?;
        match result {
            Ok(_) if !ended.usable => {
                Err(Error::new(ErrorKind::System, "the system has no memory mappings left"))
            }
            Ok(result) => Ok(Ok(result)),
            // The machine's fault: the program can do nothing about it.
            Err(error) => match error.downcast::<Error>() {
                Ok(fault) => Err(fault),
                Err(error) => Ok(Err(classify(&error, ended.reason, self.store.data()))),
            },
        }
    }

    /// Runs one turn; the flag says whether the session can run another.
    pub(super) fn run(
        &mut self,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
        turn: Turn,
    ) -> Result<(Outcome, bool)> {
        let limits = &self.store.data().limits;
        let (timeout, fuel_limit) = (limits.timeout, limits.fuel);
        let when = |wanted, option| if wanted { option } else { guest::Options::empty() };
        let options = when(turn.mode == Mode::Repl, guest::Options::INTERACTIVE)
            | when(turn.wants_value, guest::Options::VALUE)
            | when(turn.is_last, guest::Options::LAST);
        let turn_llm_limits = turn.llm_limits;
        let state = self.store.data_mut();
        state.passed_at_stop = Vec::new();
        if let Some(tape) = &mut state.tape {
            let held = match &self.point {
                Point::Lost(held) if self.rollback => Some(held.join(", ")),
                _ => None,
            };
            if let Some(held) = tape.begin_turn(&turn, held, &state.console)? {
                self.point = Point::Lost(vec![held]);
            }
        }
        let turn = guest::Turn {
            code: turn.code,
            file: turn.file,
            argv: turn.arguments,
            options,
            settings: (!self.is_configured).then(|| self.settings.clone()),
        };
        (self.is_configured, self.has_run) = (true, true);
        if let Some(llm) = &self.llm {
            llm.begin_turn(turn_llm_limits);
        }
        self.store.data().services.begin_turn();
        let calls_before = self.store.data().host_calls;
        let (wall, cpu) = (Instant::now(), thread_time());
        interrupt.begin();
        let result = self.limited(kernel, interrupt, timeout, |python, store| {
            python.agentkernel_kernel_guest().call_run(store, &turn)
        })?;
        let usage =
            Usage { wall: wall.elapsed(), cpu: thread_time().saturating_sub(cpu), ..Usage::default() };
        let (ending, alive) = match result {
            Ok(guest::Outcome::Completed(value)) => (Ending::Completed(value.map(Value::from)), true),
            Ok(guest::Outcome::Raised(exception)) => (Ending::Raised(exception.into()), true),
            Ok(guest::Outcome::Exited(code)) => (Ending::Exited(code), true),
            Err(ending) => (ending, false),
        };
        let state = self.store.data_mut();
        kernel.counters.services_denied(std::mem::take(&mut state.denied));
        if let Some(tape) = &mut state.tape {
            tape.end_turn(&ending, &state.console)?;
        }
        // A replay keeps nothing, so what is recorded is how the program itself ended.
        let ending = state.services.end_turn(ending);
        // Tools may have given large answers.
        self.store.data_mut().answer = Arc::default();
        self.store.data_mut().end_started();
        let state = self.store.data();
        if !alive && let Some(pending) = interrupt.pending_output() {
            // What was being passed on when the turn was stopped has been, though the guest does not know it.
            let rest = pending.strip_prefix(&state.passed_at_stop[..]).unwrap_or(&pending);
            state.console.write(Stream::Stdout, rest);
        }
        let captured = state.console.take();
        let usage = Usage {
            fuel: fuel_limit.map(|limit| limit.saturating_sub(self.store.get_fuel().unwrap_or(0))),
            peak_memory_bytes: state.peak_memory_bytes,
            output_bytes: captured.written,
            output_dropped_bytes: captured.dropped,
            written_bytes: state.filesystem.bytes_written(),
            host_calls: state.host_calls - calls_before,
            llm: self.llm.as_ref().map(|llm| llm.turn_usage()).unwrap_or_default(),
            ..usage
        };
        let (stdout, stderr) = (captured.stdout, captured.stderr);
        Ok((Outcome { ending, stdout, stderr, usage, rolled_back: false }, alive))
    }
}

/// What an error that came out of the guest means.
fn classify(error: &wasmtime::Error, stopped: Option<Reason>, state: &State) -> Ending {
    match stopped {
        Some(Reason::Deadline) => return Ending::TimedOut,
        Some(Reason::Cancelled) => return Ending::Cancelled,
        None => {}
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Ending::Exited(*code);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Ending::OutOfFuel,
        Some(Trap::StackOverflow) => Ending::Trapped("the interpreter's stack overflowed".to_owned()),
        _ if state.memory_refused => Ending::OutOfMemory,
        Some(Trap::UnreachableCodeReached) => Ending::Trapped("the interpreter aborted".to_owned()),
        Some(trap) => Ending::Trapped(trap.to_string()),
        None => Ending::Trapped(format!("{error:#}")),
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl From<guest::Value> for Value {
    fn from(value: guest::Value) -> Self {
        Value {
            // A guest that made up its JSON has none, and a large one would take many times its length.
            json: value
                .json
                .filter(|json| json.len() <= JSON_BYTES)
                .and_then(|json| serde_json::from_str(&json).ok()),
            repr: value.repr,
        }
    }
}

impl From<guest::Exception> for Exception {
    fn from(exception: guest::Exception) -> Self {
        let guest::Exception { kind, message, traceback, frames } = exception;
        let frames = frames
            .into_iter()
            .map(|guest::Frame { file, line, function, source }| Frame { file, line, function, source })
            .collect();
        Exception { kind, message, traceback, frames }
    }
}
