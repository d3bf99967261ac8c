//! Waiting. The only operation that takes time here is to sleep: calls of tools are over when they
//! have started.

use std::cell::Cell;

use crate::exports::agentkernel::kernel::operations::{
    Failure, Guest, GuestOperation, Operation, OperationBorrow,
};
use crate::wasi::clocks::monotonic_clock;
use crate::Bridge;

pub enum Pending {
    /// Until the clock shows this.
    Sleep(u64),
    Done(Cell<Option<Result<Vec<u8>, Failure>>>),
}

impl Pending {
    pub fn done(result: Vec<u8>) -> Operation {
        Operation::new(Pending::Done(Cell::new(Some(Ok(result)))))
    }

    /// When it is ready.
    fn ready_at(&self) -> u64 {
        match self {
            Pending::Sleep(until) => *until,
            Pending::Done(_) => 0,
        }
    }
}

pub fn failure(kind: &str, message: impl Into<String>) -> Failure {
    Failure { kind: kind.into(), message: message.into() }
}

fn sleep_until(then: u64) {
    let now = monotonic_clock::now();
    if now < then {
        monotonic_clock::subscribe_duration(then - now).block();
    }
}

impl GuestOperation for Pending {
    fn take(&self) -> Result<Vec<u8>, Failure> {
        match self {
            Pending::Sleep(until) => {
                sleep_until(*until);
                Ok(Vec::new())
            }
            Pending::Done(result) => {
                result.take().unwrap_or_else(|| Err(failure("taken", "the result has been taken already")))
            }
        }
    }
}

impl Guest for Bridge {
    type Operation = Pending;

    fn wait(pending: Vec<OperationBorrow<'_>>, timeout: Option<u64>) -> Vec<u32> {
        let started = monotonic_clock::now();
        let ready_at: Vec<u64> =
            pending.iter().map(|operation| operation.get::<Pending>().ready_at()).collect();
        let until = timeout.map(|timeout| started.saturating_add(timeout));
        if let Some(then) = ready_at.iter().copied().chain(until).min() {
            sleep_until(then);
        }
        let now = monotonic_clock::now();
        (0..).zip(ready_at).filter(|(_, at)| *at <= now).map(|(index, _)| index).collect()
    }

    fn sleep(nanoseconds: u64) -> Result<Operation, Failure> {
        let until = monotonic_clock::now().saturating_add(nanoseconds);
        Ok(Operation::new(Pending::Sleep(until)))
    }
}
