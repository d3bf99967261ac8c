//! Host calls in flight, and waiting for many of them at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::Instrument;
use wasmtime::component::Resource;

use crate::bindings::operations::{Failure, Host, HostOperation};
use crate::engine::Stopped;
use crate::service::SOON;
use crate::state::State;

/// What an operation ends in: bytes whose meaning the call that started it defines.
pub(crate) type Answer = Result<Vec<u8>, Failure>;

/// A host call in flight.
pub struct Operation {
    progress: Progress,
    /// In a session that can be run again: the event that started it, and the function's number.
    pub(crate) taped: (u64, u32),
    /// What it holds on the host, counted until it is gone.
    _held: Option<Held>,
}

/// Bytes that calls in flight hold on the host: arguments that wait, and answers that nobody has taken.
#[derive(Clone)]
pub(crate) struct Held(Arc<Share>);

struct Share {
    total: Arc<AtomicU64>,
    own: AtomicU64,
    limit: u64,
}

impl Held {
    /// Nothing yet, of a `total` that is to stay below `limit`.
    pub fn new(total: &Arc<AtomicU64>, limit: u64) -> Self {
        Held(Arc::new(Share { total: Arc::clone(total), own: AtomicU64::new(0), limit }))
    }

    /// Counts more, unless that would be too much.
    pub fn add(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let before = self.0.total.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.0.limit {
            self.0.total.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.0.own.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.total.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

enum Progress {
    Running(JoinHandle<Answer>),
    Ready(Answer),
    Taken,
}

impl Operation {
    /// Ready once the task has ended; takes its answer in.
    fn poll(&mut self, context: &mut std::task::Context<'_>) -> Poll<()> {
        if let Progress::Running(task) = &mut self.progress {
            let Poll::Ready(joined) = Pin::new(task).poll(context) else {
                return Poll::Pending;
            };
            self.progress = Progress::Ready(joined.unwrap_or_else(|error| {
                let (kind, message) = match error.is_panic() {
                    true => ("trap", "the host's function panicked"),
                    false => ("cancelled", "the host call was cancelled, or its turn has ended"),
                };
                Err(Failure { kind: kind.into(), message: message.into() })
            }));
        }
        Poll::Ready(())
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Progress::Running(task) = &self.progress {
            task.abort();
        }
    }
}

impl State {
    /// Whether fewer operations are in flight than may be.
    pub(crate) fn may_start(&self) -> bool {
        self.operations_in_flight < self.limits.operations
    }

    /// Starts `call` unless too many are in flight.
    pub(crate) fn start(
        &mut self,
        call: impl Future<Output = Answer> + Send + 'static,
    ) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        if !self.may_start() {
            return Ok(Err(Failure {
                kind: "limit".into(),
                message: format!(
                    "{} host calls are in flight, which is the limit; await some of them first",
                    self.limits.operations
                ),
            }));
        }
        let progress = Progress::Running(self.runtime.spawn(call));
        self.keep(Operation { progress, taped: (0, 0), _held: None })
    }

    /// Starts a call of a tool, which ends with the turn at the latest.
    pub(crate) fn start_in_turn(
        &mut self,
        call: impl Future<Output = Answer> + Send + 'static,
        held: Held,
    ) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        // What it does is a part of the turn, wherever it goes on.
        let task = self.runtime.spawn(call.in_current_span());
        if self.started.len() >= 2 * self.limits.operations as usize {
            self.started.retain(|started| !started.is_finished());
        }
        self.started.push(task.abort_handle());
        self.keep(Operation { progress: Progress::Running(task), taped: (0, 0), _held: Some(held) })
    }

    /// Ends calls of tools that are still in flight when the turn is over.
    pub(crate) fn end_started(&mut self) {
        self.started.drain(..).for_each(|started| started.abort());
    }

    fn keep(&mut self, operation: Operation) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        let operation = self.table.push(operation)?;
        self.operations_in_flight += 1;
        Ok(Ok(operation))
    }
}

impl State {
    /// An operation that nothing does, because the recording has its end.
    pub(crate) fn keep_given(&mut self, number: u64, function: u32) -> wasmtime::Result<Resource<Operation>> {
        self.operations_in_flight += 1;
        let taped = (number, function);
        Ok(self.table.push(Operation { progress: Progress::Taken, taped, _held: None })?)
    }

    /// Ends an operation whose result is known.
    pub(crate) fn end(&mut self, operation: &Resource<Operation>) -> wasmtime::Result<()> {
        let operation = self.table.get_mut(operation)?;
        let (ended, taped) = (Progress::Taken, operation.taped);
        *operation = Operation { progress: ended, taped, _held: None };
        Ok(())
    }

    pub(crate) fn take_now(&mut self, operation: Resource<Operation>) -> wasmtime::Result<Answer> {
        self.host_calls += 1;
        let mut taken = std::mem::replace(
            self.table.get_mut(&operation)?,
            Operation { progress: Progress::Taken, taped: (0, 0), _held: None },
        );
        self.block_on(std::future::poll_fn(|context| taken.poll(context)))?;
        Ok(match std::mem::replace(&mut taken.progress, Progress::Taken) {
            Progress::Ready(answer) => answer,
            Progress::Running(_) | Progress::Taken => Err(Failure {
                kind: "taken".into(),
                message: "the result of this operation was taken before".into(),
            }),
        })
    }

    pub(crate) fn wait_now(
        &mut self,
        pending: Vec<Resource<Operation>>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Vec<u32>> {
        self.host_calls += 1;
        if pending.is_empty() {
            if let Some(nanoseconds) = timeout {
                self.interrupt.sleep(Duration::from_nanos(nanoseconds))?;
            }
            return Ok(Vec::new());
        }
        let mut waiting = Vec::with_capacity(pending.len());
        for operation in &pending {
            let slot = self.table.get_mut(operation)?;
            waiting.push(std::mem::replace(
                slot,
                Operation { progress: Progress::Taken, taped: (0, 0), _held: None },
            ));
        }
        let timeout = timeout.map(Duration::from_nanos);
        let ready = match self.services.may_leave() && timeout != Some(Duration::ZERO) {
            true => self.wait_aside(&mut waiting, timeout)?,
            false => self.block_on_until_signal(any_of(&mut waiting, timeout))?,
        };
        for (operation, state) in pending.iter().zip(waiting) {
            *self.table.get_mut(operation)? = state;
        }
        Ok(ready.unwrap_or_default())
    }

    /// As otherwise, but for what takes long others may have the program's place.
    fn wait_aside(
        &self,
        waiting: &mut [Operation],
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<u32>>, Stopped> {
        let soon = timeout.map_or(SOON, |timeout| timeout.min(SOON));
        let ready = self.block_on_until_signal(any_of(waiting, Some(soon)))?;
        let left = timeout.map(|timeout| timeout.saturating_sub(soon));
        if ready.as_ref().is_none_or(|ready| !ready.is_empty()) || left == Some(Duration::ZERO) {
            return Ok(ready);
        }
        let go_on = self.services.blocked(self.peak_memory_bytes);
        let ready = self.block_on_until_signal(any_of(waiting, left))?;
        go_on.map_or(Ok(()), |go_on| self.block_on(go_on))?;
        Ok(ready)
    }

    pub(crate) fn sleep_now(
        &mut self,
        nanoseconds: u64,
    ) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        self.host_calls += 1;
        self.start(async move {
            tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
            Ok(Vec::new())
        })
    }
}

/// Waits until some are ready, and says which; none when that takes longer than it may.
async fn any_of(waiting: &mut [Operation], timeout: Option<Duration>) -> Vec<u32> {
    let any = std::future::poll_fn(|context| {
        let ready: Vec<u32> = (0u32..)
            .zip(&mut *waiting)
            .filter_map(|(index, operation)| operation.poll(context).is_ready().then_some(index))
            .collect();
        if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
    });
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, any).await.unwrap_or_default(),
        None => any.await,
    }
}

impl HostOperation for State {
    fn take(&mut self, operation: Resource<Operation>) -> wasmtime::Result<Answer> {
        match self.tape {
            None => self.take_now(operation),
            Some(_) => self.taped_take(operation),
        }
    }

    fn drop(&mut self, operation: Resource<Operation>) -> wasmtime::Result<()> {
        self.table.delete(operation)?;
        self.operations_in_flight -= 1;
        Ok(())
    }
}

impl Host for State {
    fn wait(
        &mut self,
        pending: Vec<Resource<Operation>>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Vec<u32>> {
        match self.tape {
            None => self.wait_now(pending, timeout),
            Some(_) => self.taped_wait(pending, timeout),
        }
    }

    fn sleep(&mut self, nanoseconds: u64) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        match self.tape {
            None => self.sleep_now(nanoseconds),
            Some(_) => self.taped_sleep(nanoseconds),
        }
    }
}
