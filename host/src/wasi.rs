//! WASI 0.2 for a store whose waits end when the turn that runs in it is stopped.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync as wasi;
use wasmtime_wasi::p2::bindings::{cli, clocks, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use crate::engine::Interrupt;
use crate::workspace::FilesystemView;

/// Store data whose guest can be stopped while it waits.
pub(crate) trait Waits: 'static {
    fn table(&mut self) -> &mut ResourceTable;

    /// Where to wait, and what ends a wait.
    fn waiting(&self) -> (Handle, Arc<Interrupt>);
}

/// `wasi:io/poll`, with waiting that ends when the turn is stopped.
struct Pollables;

struct PollView<'a>(&'a mut dyn Waits);

impl HasData for Pollables {
    type Data<'a> = PollView<'a>;
}

impl PollView<'_> {
    fn wait<T>(
        &mut self,
        wait: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let mut table = std::mem::take(self.0.table());
        let (runtime, interrupt) = self.0.waiting();
        let waited = interrupt.block_on(&runtime, wait(&mut table));
        *self.0.table() = table;
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
        HostPollable::drop(self.0.table(), pollable)
    }
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links WASI 0.2 but for HTTP. Sockets are linked, because libraries import them, and every use of
/// them is denied.
pub(crate) fn add_to_linker<S>(linker: &mut Linker<S>) -> wasmtime::Result<()>
where
    S: WasiView + FilesystemView + Waits,
{
    crate::workspace::add_to_linker::<S>(linker)?;

    wasi::io::poll::add_to_linker::<S, Pollables>(linker, |state| PollView(state))?;
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<S, Table>(linker, S::table)?;
    wasi::io::streams::add_to_linker::<S, Table>(linker, S::table)?;

    clocks::wall_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    clocks::monotonic_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    random::random::add_to_linker::<S, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
    random::insecure::add_to_linker::<S, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<S, WasiRandom>(linker, |s| s.ctx().ctx.random())?;

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
