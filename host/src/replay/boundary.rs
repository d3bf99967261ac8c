//! The host's functions as a session that can be run again calls them.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, WasmList};

use super::line::{Bytes, Event};
use super::tape::digest;
use super::{Asked, Given, Policy};
use crate::bindings::operations::Failure;
use crate::engine::Stopped;
use crate::modules;
use crate::operations::{Answer, Operation};
use crate::state::State;

/// An operation, or why there is none.
type Started = Result<Resource<Operation>, Failure>;

impl State {
    /// What came next in the recording, if this is a replay.
    fn event(&self, asked: &Asked) -> wasmtime::Result<Option<Event>> {
        match &self.tape {
            Some(tape) => tape.replayed(asked, &self.interrupt, &self.console),
            None => Ok(None),
        }
    }

    /// What was given next in the recording, if this is a replay.
    pub(crate) fn replayed(&self, asked: &Asked) -> wasmtime::Result<Option<Given>> {
        Ok(self.event(asked)?.map(|event| event.given))
    }

    /// Takes in what the host gave, or that the turn was stopped meanwhile; gives the event's number.
    pub(crate) fn took<T>(
        &self,
        asked: Asked,
        since: Instant,
        result: &wasmtime::Result<T>,
        given: impl FnOnce(&T) -> Given,
    ) -> u64 {
        let Some(tape) = &self.tape else { return 0 };
        match result {
            Ok(value) => return tape.given(asked, since, given(value), &self.console),
            Err(error) if error.is::<Stopped>() => {
                tape.stopped(asked, since, &self.interrupt, &self.console);
            }
            // The session is over.
            Err(_) => {}
        }
        0
    }

    /// An error of a replay that goes another way.
    pub(crate) fn diverge(&self, how: &str) -> wasmtime::Error {
        match &self.tape {
            Some(tape) => tape.track.diverge(how).into(),
            None => wasmtime::Error::msg(how.to_owned()),
        }
    }

    /// What `given` is, of which the recording has nothing else in this place.
    fn bytes(&self, given: Given) -> wasmtime::Result<Answer> {
        match given {
            Given::Failure { kind, message } => Ok(Err(Failure { kind, message })),
            Given::Bytes(bytes) => {
                bytes.get().map(Ok).ok_or_else(|| self.diverge("at a Base64 text that is damaged"))
            }
            other => Err(self.diverge(&format!("at {other:?}, which is no answer"))),
        }
    }

    /// What a replayed call gives, of which `answer` is what it gave this time.
    fn compared(&self, function: u32, given: Given, answer: Answer) -> wasmtime::Result<Answer> {
        match (Policy::of(function), &given) {
            (Policy::Model, Given::Answers) => Ok(answer),
            (Policy::Repeat, Given::Digest(recorded)) => {
                let same = matches!(&answer, Ok(bytes) if digest([bytes.as_slice()]) == *recorded);
                match same {
                    true => Ok(answer),
                    false => Err(self.diverge(
                        "as the context is not that of the recording: a read of it gives other data",
                    )),
                }
            }
            (Policy::Child, Given::Bytes(_)) => match answer {
                Ok(_) => self.bytes(given),
                Err(failure) => Err(self.diverge(&format!("in a child session: {}", failure.message))),
            },
            _ => self.bytes(given),
        }
    }

    /// As the recording says, or waits.
    pub(crate) fn taped_wait(
        &mut self,
        pending: Vec<Resource<Operation>>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Vec<u32>> {
        let mut operations = Vec::with_capacity(pending.len());
        for operation in &pending {
            operations.push(self.table.get(operation)?.taped.0);
        }
        let asked = Asked::Wait { operations, timeout };
        if let Some(event) = self.event(&asked)? {
            self.host_calls += 1;
            return match event.given {
                Given::Ready(ready) if ready.iter().all(|index| (*index as usize) < pending.len()) => {
                    Ok(ready)
                }
                other => Err(self.diverge(&format!("at {other:?}, which is no answer"))),
            };
        }
        let since = Instant::now();
        let ready = match &mut self.tape {
            Some(tape) if tape.ordered => match (pending.first(), timeout) {
                (None, timeout) => {
                    self.host_calls += 1;
                    tape.slept(asked, timeout.unwrap_or(0), &self.console);
                    return Ok(Vec::new());
                }
                (Some(_), Some(0)) if tape.glance() => {
                    self.host_calls += 1;
                    Ok(Vec::new())
                }
                (Some(first), _) => {
                    let first = Resource::new_borrow(first.rep());
                    self.wait_now(vec![first], None)
                }
            },
            _ => self.wait_now(pending, timeout),
        };
        self.took(asked, since, &ready, |ready| Given::Ready(ready.clone()));
        ready
    }

    pub(crate) fn taped_read(&mut self, max: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        let asked = Asked::Read { max };
        if let Some(event) = self.event(&asked)? {
            return match event.given {
                Given::Nothing => Ok(None),
                given => Ok(self.bytes(given)?.ok()),
            };
        }
        let since = Instant::now();
        let read = self.read_now(max);
        self.took(asked, since, &read, |read| {
            read.as_ref().map_or(Given::Nothing, |bytes| Given::Bytes(Bytes::of(bytes)))
        });
        read
    }

    pub(crate) fn taped_sleep(&mut self, ns: u64) -> wasmtime::Result<Started> {
        let asked = Asked::Sleep { ns };
        if let Some(event) = self.event(&asked)? {
            return self.started(event, 0).map(|started| started.unwrap_or_else(|_| Err(gone())));
        }
        let since = Instant::now();
        let started = self.sleep_now(ns);
        self.has_started(asked, since, 0, started)
    }

    /// What a start gives in a replay; the event's number, if it is to be started.
    fn started(&mut self, event: Event, function: u32) -> wasmtime::Result<Result<Started, u64>> {
        match (event.given, Policy::of(function)) {
            (Given::Failure { kind, message }, _) => Ok(Ok(Err(Failure { kind, message }))),
            (_, Policy::Give) => {
                self.host_calls += 1;
                Ok(Ok(Ok(self.keep_given(event.n, function)?)))
            }
            _ => Ok(Err(event.n)),
        }
    }

    fn has_started(
        &mut self,
        asked: Asked,
        since: Instant,
        function: u32,
        started: wasmtime::Result<Started>,
    ) -> wasmtime::Result<Started> {
        let number = self.took(asked, since, &started, |started| match started {
            Ok(_) => Given::Nothing,
            Err(failure) => failure.clone().into(),
        });
        self.numbered(started?, number, function)
    }

    fn numbered(&mut self, started: Started, number: u64, function: u32) -> wasmtime::Result<Started> {
        if let Ok(operation) = &started {
            self.table.get_mut(operation)?.taped = (number, function);
        }
        Ok(started)
    }

    pub(crate) fn taped_take(&mut self, operation: Resource<Operation>) -> wasmtime::Result<Answer> {
        let (number, function) = self.table.get(&operation)?.taped;
        let asked = Asked::Take { operation: number };
        if let Some(event) = self.event(&asked)? {
            let given = event.given;
            return match Policy::of(function).calls(&given) {
                false => {
                    self.host_calls += 1;
                    self.end(&operation)?;
                    self.bytes(given)
                }
                true => {
                    let answer = self.take_now(operation)?;
                    self.compared(function, given, answer)
                }
            };
        }
        let since = Instant::now();
        let taken = self.take_now(operation);
        self.took(asked, since, &taken, |answer| answered(function, answer.as_ref().map(Vec::as_slice)));
        taken
    }
}

/// What the recording has of an answer.
fn answered(function: u32, answer: Result<&[u8], &Failure>) -> Given {
    match (answer, Policy::of(function)) {
        (Err(failure), Policy::Model) if failure.kind == "llm" => Given::Answers,
        (Err(failure), _) => failure.clone().into(),
        (Ok(_), Policy::Model) => Given::Answers,
        (Ok(bytes), Policy::Repeat) => Given::Digest(digest([bytes])),
        (Ok(bytes), Policy::Give | Policy::Child) => Given::Bytes(Bytes::of(bytes)),
    }
}

fn arguments(store: &StoreContextMut<'_, State>, head: &WasmList<u8>, tail: &WasmList<u8>) -> String {
    let length = (head.len() as u64).to_le_bytes();
    digest([&length, head.as_le_slice(store), tail.as_le_slice(store)])
}

/// `modules.call`, as the recording says, or called.
pub(crate) fn call(
    store: &mut StoreContextMut<'_, State>,
    function: u32,
    head: &WasmList<u8>,
    tail: &WasmList<u8>,
) -> wasmtime::Result<modules::Given> {
    let asked = Asked::Call { function, arguments: arguments(store, head, tail) };
    if let Some(event) = store.data().event(&asked)? {
        let given = event.given;
        let answer = match Policy::of(function).calls(&given) {
            false => {
                store.data_mut().host_calls += 1;
                store.data().bytes(given)?
            }
            true => {
                let answer = modules::call_now(store, function, head, tail)?.map(|bytes| bytes.to_vec());
                store.data().compared(function, given, answer)?
            }
        };
        return Ok(answer.map(Arc::new));
    }
    let since = Instant::now();
    let answer = modules::call_now(store, function, head, tail);
    store.data().took(asked, since, &answer, |answer| {
        answered(function, answer.as_ref().map(|bytes| bytes.as_slice()))
    });
    answer
}

/// `modules.start`, as the recording says, or called.
pub(crate) fn start(
    store: &mut StoreContextMut<'_, State>,
    function: u32,
    head: &WasmList<u8>,
    tail: &WasmList<u8>,
) -> wasmtime::Result<Started> {
    let asked = Asked::Start { function, arguments: arguments(store, head, tail) };
    if let Some(event) = store.data().event(&asked)? {
        return match store.data_mut().started(event, function)? {
            Ok(started) => Ok(started),
            Err(number) => {
                let started = modules::start_now(store, function, head, tail)?;
                store.data_mut().numbered(started, number, function)
            }
        };
    }
    let since = Instant::now();
    let started = modules::start_now(store, function, head, tail);
    store.data_mut().has_started(asked, since, function, started)
}

fn gone() -> Failure {
    Failure { kind: "trap".into(), message: "the recording has another operation".into() }
}
