//! Python modules that the host provides, and the functions behind them: those of the session's tools
//! and services.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, WasmList};

use crate::bindings::modules::Module;
use crate::bindings::operations::Failure;
use crate::operations::{Answer, Held, Operation};
use crate::replay;
use crate::service::{self, Called};
use crate::state::State;
use crate::tool::{Caller, Host};

/// What a call gives to the guest. The host keeps a share, to use the memory again.
pub(crate) type Given = Result<Arc<Vec<u8>>, Failure>;

/// Links the interface by hand: what the guest passes is read where it lies, and what it gets is
/// written from a buffer that serves call after call. Copies of large values in fresh memory would be
/// most of what their calls cost.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut modules = linker.instance("agentkernel:kernel/modules@0.1.0")?;
    modules.func_wrap("find", |mut store: StoreContextMut<'_, State>, (name,): (String,)| {
        let state = store.data_mut();
        state.host_calls += 1;
        let of_tools = || state.tools.toolbox().and_then(|toolbox| toolbox.module(&name));
        let found = service::module(&name)
            .or_else(|| state.services.module(&name))
            .or_else(|| of_tools().map(|(source, is_package)| Module { source, is_package }));
        Ok((found,))
    })?;
    modules.func_wrap("call", |mut store: StoreContextMut<'_, State>, (function, head, tail): Call| {
        Ok((match store.data().tape {
            None => call_now(&mut store, function, &head, &tail)?,
            Some(_) => replay::call(&mut store, function, &head, &tail)?,
        },))
    })?;
    modules.func_wrap("start", |mut store: StoreContextMut<'_, State>, (function, head, tail): Call| {
        Ok((match store.data().tape {
            None => start_now(&mut store, function, &head, &tail)?,
            Some(_) => replay::start(&mut store, function, &head, &tail)?,
        },))
    })
}

fn host(state: &State) -> Host<'_> {
    Host {
        runtime: &state.runtime,
        watchdog: &state.watchdog,
        interrupt: &state.interrupt,
        console: state.tape.as_ref().map_or(&state.console, |tape| &tape.console),
    }
}

/// What is said when it is too much.
pub(crate) const TOO_MUCH_HELD: &str =
    "calls in flight hold as many bytes as the program may have memory; await some of them first";

type Call = (u32, WasmList<u8>, WasmList<u8>);

pub(crate) fn call_now(
    store: &mut StoreContextMut<'_, State>,
    function: u32,
    head: &WasmList<u8>,
    tail: &WasmList<u8>,
) -> wasmtime::Result<Given> {
    let state = store.data_mut();
    state.host_calls += 1;
    if function >= service::FIRST {
        let state = store.data();
        let called = state.services.call(function, head.as_le_slice(&*store), tail.as_le_slice(&*store));
        state.check_replay()?;
        match called {
            Some(Called::Ready(answer)) => {
                count_denied(store, &answer);
                return Ok(answer.map(Arc::new));
            }
            Some(Called::Running(running)) => return Ok(state.block_on(running)?.map(Arc::new)),
            Some(Called::Waiting(mut running)) => {
                let soon = async { tokio::time::timeout(service::SOON, &mut running).await };
                if let Ok(answer) = state.block_on(soon)? {
                    return Ok(answer.map(Arc::new));
                }
                let go_on = state.services.blocked(state.peak_memory_bytes);
                let answer = state.block_on(running)?;
                go_on.map_or(Ok(()), |go_on| state.block_on(go_on))?;
                return Ok(answer.map(Arc::new));
            }
            None => {}
        }
    }
    // The arguments borrow the store while the tools work.
    let state = store.data_mut();
    let mut tools = std::mem::take(&mut state.tools);
    let buffer = Arc::get_mut(&mut state.answer).map(std::mem::take).unwrap_or_default();
    let state = store.data();
    let mut caller = Caller { host: host(state), filesystem: &state.filesystem, buffer };
    let answer = tools.call(function, head.as_le_slice(&*store), tail.as_le_slice(&*store), &mut caller);
    let state = store.data_mut();
    state.tools = tools;
    Ok(answer?.map(|bytes| {
        state.answer = Arc::new(bytes);
        Arc::clone(&state.answer)
    }))
}

pub(crate) fn start_now(
    store: &mut StoreContextMut<'_, State>,
    function: u32,
    head: &WasmList<u8>,
    tail: &WasmList<u8>,
) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
    if !store.data().may_start() {
        // Says that there are too many.
        return store.data_mut().start(std::future::pending());
    }
    let held = Held::new(&store.data().held_bytes, store.data().limits.memory_bytes);
    if !held.add(head.len() + tail.len()) {
        return Ok(Err(too_much()));
    }
    let state = store.data();
    let called = state.services.call(function, head.as_le_slice(&*store), tail.as_le_slice(&*store));
    state.check_replay()?;
    match called {
        Some(Called::Ready(answer)) => {
            count_denied(store, &answer);
            return begun(store, answer, held);
        }
        Some(Called::Running(running) | Called::Waiting(running)) => {
            let counted = held.clone();
            let running = async move {
                let answer = running.await?;
                counted.add(answer.len()).then_some(answer).ok_or_else(too_much)
            };
            store.data_mut().host_calls += 1;
            return store.data_mut().start_in_turn(running, held);
        }
        None => {}
    }
    let mut tools = std::mem::take(&mut store.data_mut().tools);
    let state = store.data();
    let caller = Caller { host: host(state), filesystem: &state.filesystem, buffer: Vec::new() };
    let arguments = [head.as_le_slice(&*store), tail.as_le_slice(&*store)];
    let running = tools.start(function, arguments, &caller, &held);
    let state = store.data_mut();
    state.tools = tools;
    if let Some(running) = running {
        state.host_calls += 1;
        return state.start_in_turn(running, held);
    }
    // This one is over when it has started.
    let answer = call_now(store, function, head, tail)?.map(|bytes| bytes.to_vec());
    begun(store, answer, held)
}

fn count_denied(store: &mut StoreContextMut<'_, State>, answer: &Answer) {
    if answer.as_ref().is_err_and(|failure| failure.kind == "denied") {
        store.data_mut().denied += 1;
    }
}

/// An operation that is over already.
fn begun(
    store: &mut StoreContextMut<'_, State>,
    answer: Answer,
    held: Held,
) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
    match answer {
        Ok(bytes) if held.add(bytes.len()) => {
            store.data_mut().start_in_turn(std::future::ready(Ok(bytes)), held)
        }
        Ok(_) => Ok(Err(too_much())),
        Err(failure) => Ok(Err(failure)),
    }
}

fn too_much() -> Failure {
    Failure { kind: "limit".into(), message: TOO_MUCH_HELD.into() }
}
