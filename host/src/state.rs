//! What a session's store holds, and the interfaces linked to it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Handle;
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync as wasi;
use wasmtime_wasi::p2::bindings::{cli, clocks, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::console::{Console, Input, Stream, WasiOutput};
use crate::engine::{Interrupt, Stopped};
use crate::workspace::{FilesystemCtx, FilesystemCtxView, FilesystemView};
use crate::{Limits, bindings};

/// Handles of all kinds that a guest may hold: far more than any program needs, few enough to keep
/// the host's memory small.
const MAX_HANDLES: usize = 16_384;

/// The data of a session's store.
pub(crate) struct State {
    pub table: ResourceTable,
    wasi: WasiCtx,
    pub filesystem: FilesystemCtx,
    pub console: Console,
    pub input: Input,
    pub limits: Limits,
    pub runtime: Handle,
    pub interrupt: Arc<Interrupt>,
    pub operations_in_flight: u32,
    pub host_calls: u64,
    pub peak_memory_bytes: u64,
    /// Whether the guest was refused memory since this was last cleared.
    pub memory_refused: bool,
}

impl State {
    pub fn new(
        limits: Limits,
        filesystem: FilesystemCtx,
        console: Console,
        input: Input,
        runtime: Handle,
        interrupt: Arc<Interrupt>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let output = |stream| WasiOutput { console: console.clone(), stream };
        let wasi = WasiCtxBuilder::new()
            .stdout(output(Stream::Stdout))
            .stderr(output(Stream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        State {
            table,
            wasi,
            filesystem,
            console,
            input,
            limits,
            runtime,
            interrupt,
            operations_in_flight: 0,
            host_calls: 0,
            peak_memory_bytes: 0,
            memory_refused: false,
        }
    }

    /// Waits on this thread for `future`, for less if the turn is sent a signal: then there is no
    /// result. The future is not lost.
    pub fn block_on_until_signal<T>(&self, future: impl Future<Output = T>) -> Result<Option<T>, Stopped> {
        let mut signalled = pin!(self.interrupt.signalled());
        let mut future = pin!(future);
        self.runtime.block_on(poll_fn(|context| {
            if let Poll::Ready(signalled) = signalled.as_mut().poll(context) {
                return Poll::Ready(signalled.map(|()| None));
            }
            future.as_mut().poll(context).map(|result| Ok(Some(result)))
        }))
    }

    /// Waits on this thread for `future`, unless the turn is stopped first.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut stopped = pin!(self.interrupt.fired());
        let mut future = pin!(future);
        self.runtime.block_on(poll_fn(|context| {
            if stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Stopped));
            }
            future.as_mut().poll(context).map(Ok)
        }))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl FilesystemView for State {
    fn filesystem(&mut self) -> FilesystemCtxView<'_> {
        FilesystemCtxView { ctx: &mut self.filesystem, table: &mut self.table }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired as u64 <= self.limits.memory_bytes;
        if allowed {
            self.peak_memory_bytes = self.peak_memory_bytes.max(desired as u64);
        } else {
            self.memory_refused = true;
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 1 << 20)
    }
}

/// `wasi:io/poll`, with waiting that ends when the turn is stopped.
struct Pollables;

struct PollView<'a>(&'a mut State);

impl HasData for Pollables {
    type Data<'a> = PollView<'a>;
}

impl PollView<'_> {
    fn wait<T>(
        &mut self,
        wait: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let mut table = std::mem::take(&mut self.0.table);
        let waited = self.0.block_on(wait(&mut table));
        self.0.table = table;
        waited?
    }
}

impl wasi::io::poll::Host for PollView<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        use wasmtime_wasi::p2::bindings::io::poll::Host;
        self.wait(async |table| Host::poll(table, pollables).await)
    }
}

impl wasi::io::poll::HostPollable for PollView<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
        self.wait(async |table| HostPollable::ready(table, pollable).await)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
        self.wait(async |table| HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
        HostPollable::drop(&mut self.0.table, pollable)
    }
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links all that the interpreter imports. Sockets are linked, because CPython imports them, and
/// every use of them is denied.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type S = State;
    bindings::console::add_to_linker::<S, HasSelf<S>>(linker, |state| state)?;
    bindings::operations::add_to_linker::<S, HasSelf<S>>(linker, |state| state)?;
    crate::workspace::add_to_linker::<S>(linker)?;

    wasi::io::poll::add_to_linker::<S, Pollables>(linker, |state| PollView(state))?;
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<S, Table>(linker, |s| &mut s.table)?;
    wasi::io::streams::add_to_linker::<S, Table>(linker, |s| &mut s.table)?;

    clocks::wall_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    clocks::monotonic_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    random::random::add_to_linker::<S, WasiRandom>(linker, |s| s.wasi.random())?;
    random::insecure::add_to_linker::<S, WasiRandom>(linker, |s| s.wasi.random())?;
    random::insecure_seed::add_to_linker::<S, WasiRandom>(linker, |s| s.wasi.random())?;

    cli::exit::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::environment::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::stdin::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::stdout::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::stderr::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_input::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_output::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_stdin::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_stdout::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_stderr::add_to_linker::<S, WasiCli>(linker, S::cli)?;

    sockets::network::add_to_linker::<S, WasiSockets>(linker, &Default::default(), S::sockets)?;
    sockets::instance_network::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    wasi::sockets::tcp::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    wasi::sockets::udp::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    wasi::sockets::udp_create_socket::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    Ok(())
}
