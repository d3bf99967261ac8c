//! Host calls in flight, and waiting for many of them at once.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use wasmtime::component::Resource;

use crate::bindings::operations::{Failure, Host, HostOperation};
use crate::state::State;

/// What an operation ends in: bytes whose meaning the call that started it defines.
pub(crate) type Answer = Result<Vec<u8>, Failure>;

/// A host call in flight.
pub struct Operation {
    progress: Progress,
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
            self.progress = Progress::Ready(joined.unwrap_or_else(|_| {
                Err(Failure { kind: "cancelled".into(), message: "the host call was cancelled".into() })
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
        let operation = self.table.push(Operation { progress })?;
        self.operations_in_flight += 1;
        Ok(Ok(operation))
    }
}

impl HostOperation for State {
    fn take(&mut self, operation: Resource<Operation>) -> wasmtime::Result<Answer> {
        self.host_calls += 1;
        let mut taken =
            std::mem::replace(self.table.get_mut(&operation)?, Operation { progress: Progress::Taken });
        self.block_on(std::future::poll_fn(|context| taken.poll(context)))?;
        Ok(match std::mem::replace(&mut taken.progress, Progress::Taken) {
            Progress::Ready(answer) => answer,
            Progress::Running(_) | Progress::Taken => Err(Failure {
                kind: "taken".into(),
                message: "the result of this operation was taken before".into(),
            }),
        })
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
            waiting.push(std::mem::replace(slot, Operation { progress: Progress::Taken }));
        }
        let ready = self.block_on_until_signal(async {
            let any = std::future::poll_fn(|context| {
                let ready: Vec<u32> = (0u32..)
                    .zip(&mut waiting)
                    .filter_map(|(index, operation)| operation.poll(context).is_ready().then_some(index))
                    .collect();
                if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
            });
            match timeout {
                Some(nanoseconds) => {
                    tokio::time::timeout(Duration::from_nanos(nanoseconds), any).await.unwrap_or_default()
                }
                None => any.await,
            }
        })?;
        for (operation, state) in pending.iter().zip(waiting) {
            *self.table.get_mut(operation)? = state;
        }
        Ok(ready.unwrap_or_default())
    }

    fn sleep(&mut self, nanoseconds: u64) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        self.host_calls += 1;
        self.start(async move {
            tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
            Ok(Vec::new())
        })
    }
}
