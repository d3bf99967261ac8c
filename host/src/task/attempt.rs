//! One attempt of a task, in a session of its own.

use std::sync::Arc;
use std::time::Duration;

use super::spec::length;
use super::store::{Delivery, News};
use super::worker::{Outbox, Shared, Why};
use super::{Access, FailureKind, Task, TaskFailure, TaskResult, grants};
use crate::{Ending, Error, ErrorKind, Exception, Turn, Value};

/// The time before a task is tried again that the machine, or this worker, could not run.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of a value's `repr()` that are kept.
const REPR_BYTES: usize = 65_536;

/// Bytes of a message, and of a traceback, that are kept. The ends of a traceback say the most.
const MESSAGE_BYTES: usize = 4096;
const TRACEBACK_BYTES: usize = 32_768;

/// The characters after which a session cuts a value's `repr()`, which then has no JSON form either.
const CUT: usize = 1_048_576;

/// Runs a task and says what came of it.
pub(super) fn run(shared: &Arc<Shared>, delivery: &Delivery, outbox: &Arc<Outbox>) -> News {
    let refused = |message: String| News::Term { failure: TaskFailure::new(FailureKind::Refused, message) };
    let task: Task = match serde_json::from_str(&delivery.body) {
        Ok(task) => task,
        Err(error) => {
            return refused(format!(
                "it was not dispatched by this version, or the store is damaged: {error}"
            ));
        }
    };
    let mut granted = task.grants.clone();
    if let Err(error) = grants::check_store(&granted, shared.tasks.store().file()) {
        return refused(told(&error));
    }
    let metered = shared.kernel.inner().metered;
    if granted.limits.fuel.is_some() != metered {
        // It is how the worker was configured, and no fault of the task.
        tracing::debug!("the task `{}` is left to a worker with metering: {}", delivery.lease.id, !metered);
        return News::Release { delay: PAUSE };
    }
    let log_bytes = shared.tasks.limited().log_bytes;
    granted.limits.output_bytes = granted.limits.output_bytes.min(log_bytes.saturating_add(1));
    let (writes, own) = (Arc::clone(outbox), Arc::clone(shared));
    let session = shared
        .kernel
        .session()
        .grants(granted)
        .without_llm()
        .without_lasting()
        .on_output(move |stream, bytes| writes.write(&own, stream, bytes))
        .task_access(Access::inside(shared, delivery, &task, outbox))
        .start();
    let mut session = match session {
        Ok(session) => session,
        Err(error) if error.kind() == ErrorKind::Grant => return refused(told(&error)),
        Err(error) => return lost(delivery, &error),
    };
    if let Err(why) = shared.can_be_stopped(&delivery.lease, session.canceller()) {
        return stopped(Some(why));
    }
    let turn = Turn::new(task.code.as_str()).file(task.file.as_str()).arguments(&task.arguments).last();
    let outcome = match session.run_blocking(turn) {
        Ok(outcome) => outcome,
        Err(error) => return lost(delivery, &error),
    };
    let failure = match outcome.ending {
        Ending::Completed(value) => match result(value, shared.tasks.limited().result_bytes) {
            Ok(result) => return News::Ack { result },
            // It would be as large the next time.
            Err(failure) => return News::Term { failure },
        },
        Ending::Exited(0) => return News::Ack { result: TaskResult::Json(serde_json::Value::Null) },
        Ending::Cancelled => return stopped(shared.why(&delivery.lease)),
        Ending::Raised(exception) => raised(exception),
        ending => ended(&ending, &task),
    };
    match delivery.failed < task.retries {
        true => News::Nak { delay: task.delay(delivery.failed + 1), failure },
        false => News::Term { failure },
    }
}

/// What is said of an attempt that was stopped.
fn stopped(why: Option<Why>) -> News {
    match why {
        Some(Why::Cancelled) => News::Cancelled,
        _ => News::Release { delay: Duration::ZERO },
    }
}

/// It is the machine's fault, and another worker may do better.
fn lost(delivery: &Delivery, error: &Error) -> News {
    tracing::warn!("the task `{}` could not be run, and is tried again: {error}", delivery.lease.id);
    News::Lost { delay: PAUSE }
}

fn told(error: &Error) -> String {
    match error.remedy() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

fn result(value: Option<Value>, most: u64) -> Result<TaskResult, TaskFailure> {
    let too_large = |bytes: String| {
        let message = format!("a result of {bytes} bytes is more than is kept ({most}); write it to a file");
        Err(TaskFailure::new(FailureKind::ResultTooLarge, message))
    };
    let Some(Value { repr, json, .. }) = value else { return Ok(TaskResult::Json(serde_json::Value::Null)) };
    match json {
        Some(json) => match length(&json) {
            bytes if bytes > most => too_large(bytes.to_string()),
            _ => Ok(TaskResult::Json(json)),
        },
        None if repr.len() >= CUT => too_large(format!("{CUT} and more")),
        None => Ok(TaskResult::Repr(repr[..repr.floor_char_boundary(REPR_BYTES)].to_owned())),
    }
}

fn raised(exception: Exception) -> TaskFailure {
    let Exception { kind, message, traceback, .. } = exception;
    let mut failure = TaskFailure::new(FailureKind::Raised, cut(&message, MESSAGE_BYTES));
    failure.exception = Some(cut(&kind, 200));
    failure.traceback = Some(cut(&traceback, TRACEBACK_BYTES));
    failure
}

fn ended(ending: &Ending, task: &Task) -> TaskFailure {
    let limits = &task.grants.limits;
    let (kind, message) = match ending {
        Ending::Exited(code) => (FailureKind::Exited, format!("it exited with the code {code}")),
        Ending::TimedOut => {
            let seconds = limits.timeout.unwrap_or_default().as_secs_f64();
            (FailureKind::TimedOut, format!("it was stopped at its time limit of {seconds} s"))
        }
        Ending::OutOfMemory => {
            let bytes = limits.memory_bytes;
            (FailureKind::OutOfMemory, format!("it was stopped at its memory limit of {bytes} bytes"))
        }
        Ending::OutOfFuel => {
            let fuel = limits.fuel.unwrap_or_default();
            (FailureKind::OutOfFuel, format!("it was stopped at its fuel limit of {fuel}"))
        }
        Ending::Trapped(reason) => {
            (FailureKind::Trapped, format!("the interpreter failed: {}", cut(reason, MESSAGE_BYTES)))
        }
        other => (FailureKind::Trapped, format!("it ended in `{}`", other.name())),
    };
    TaskFailure::new(kind, message)
}

/// A text of which the middle is left out where it is too long.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(most / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - most / 2)..];
    format!("{head}\n[{} bytes are left out]\n{tail}", text.len() - head.len() - tail.len())
}
