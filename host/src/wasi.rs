//! WASI 0.2 for a store whose waits end when the turn that runs in it is stopped.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::io::streams as waiting;
use wasmtime_wasi::p2::bindings::sync as wasi;
use wasmtime_wasi::p2::bindings::sync::io::streams;
use wasmtime_wasi::p2::bindings::{cli, clocks, random, sockets};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use crate::engine::{Interrupt, Stopped};
use crate::replay::{Asked, Given};
use crate::workspace::FilesystemView;

/// Store data whose guest can be stopped while it waits.
pub(crate) trait Waits: 'static {
    fn table(&mut self) -> &mut ResourceTable;

    /// Where to wait, and what ends a wait.
    fn waiting(&self) -> (Handle, Arc<Interrupt>);

    /// What a wait gave in the recording, if this is a replay.
    fn replayed(&mut self, _asked: &Asked) -> wasmtime::Result<Option<Given>> {
        Ok(None)
    }

    /// Takes in what a wait gave.
    fn waited(&mut self, _asked: Asked, _since: Instant, _given: wasmtime::Result<Given>) {}
}

/// `wasi:io` with waiting that ends when the turn is stopped.
struct Waiting;

struct WaitView<'a>(&'a mut dyn Waits);

impl HasData for Waiting {
    type Data<'a> = WaitView<'a>;
}

impl WaitView<'_> {
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

    fn stream<T>(
        &mut self,
        wait: impl AsyncFnOnce(&mut ResourceTable) -> StreamResult<T>,
    ) -> StreamResult<T> {
        self.wait(async |table| Ok(wait(table).await)).map_err(StreamError::Trap)?
    }
}

impl WaitView<'_> {
    /// Waits for pollables, or as the recording says.
    fn pollables<T: Clone + 'static>(
        &mut self,
        asked: Asked,
        wait: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>,
        give: impl FnOnce(&T) -> Given,
        take: impl FnOnce(Given) -> Option<T>,
    ) -> wasmtime::Result<T> {
        if let Some(given) = self.0.replayed(&asked)? {
            return take(given).ok_or_else(|| wasmtime::Error::msg("the recording has another wait"));
        }
        let since = Instant::now();
        let waited = self.wait(wait);
        let given = match &waited {
            Ok(value) => Ok(give(value)),
            Err(error) if error.is::<Stopped>() => Err(Stopped.into()),
            Err(error) => Err(wasmtime::Error::msg(error.to_string())),
        };
        self.0.waited(asked, since, given);
        waited
    }
}

impl wasi::io::poll::Host for WaitView<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        use wasmtime_wasi::p2::bindings::io::poll::Host;
        self.pollables(
            Asked::Poll { pollables: pollables.len() as u32 },
            async |table| Host::poll(table, pollables).await,
            |ready| Given::Ready(ready.clone()),
            |given| if let Given::Ready(ready) = given { Some(ready) } else { None },
        )
    }
}

impl wasi::io::poll::HostPollable for WaitView<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
        self.pollables(
            Asked::Ready,
            async |table| HostPollable::ready(table, pollable).await,
            |ready| Given::Flag(*ready),
            |given| if let Given::Flag(ready) = given { Some(ready) } else { None },
        )
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
        self.pollables(
            Asked::Block,
            async |table| HostPollable::block(table, pollable).await,
            |()| Given::Nothing,
            |given| (given == Given::Nothing).then_some(()),
        )
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
        HostPollable::drop(self.0.table(), pollable)
    }
}

impl streams::Host for WaitView<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.0.table(), error)
    }
}

impl streams::HostInputStream for WaitView<'_> {
    fn read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        streams::HostInputStream::read(self.0.table(), stream, length)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        self.stream(async |table| waiting::HostInputStream::blocking_read(table, stream, length).await)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        streams::HostInputStream::skip(self.0.table(), stream, length)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        self.stream(async |table| waiting::HostInputStream::blocking_skip(table, stream, length).await)
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostInputStream::subscribe(self.0.table(), stream)
    }

    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.wait(async |table| waiting::HostInputStream::drop(table, stream).await)
    }
}

impl streams::HostOutputStream for WaitView<'_> {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        streams::HostOutputStream::check_write(self.0.table(), stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        streams::HostOutputStream::write(self.0.table(), stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.stream(async |table| {
            waiting::HostOutputStream::blocking_write_and_flush(table, stream, bytes).await
        })
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        streams::HostOutputStream::flush(self.0.table(), stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.stream(async |table| waiting::HostOutputStream::blocking_flush(table, stream).await)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostOutputStream::subscribe(self.0.table(), stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        streams::HostOutputStream::write_zeroes(self.0.table(), stream, length)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        length: u64,
    ) -> StreamResult<()> {
        self.stream(async |table| {
            waiting::HostOutputStream::blocking_write_zeroes_and_flush(table, stream, length).await
        })
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        streams::HostOutputStream::splice(self.0.table(), to, from, length)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        self.stream(async |table| waiting::HostOutputStream::blocking_splice(table, to, from, length).await)
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.wait(async |table| waiting::HostOutputStream::drop(table, stream).await)
    }
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links WASI 0.2 but for HTTP, and for what [`add_ambient_to_linker`] does. Sockets are linked, because
/// libraries import them, and every use of them is denied.
pub(crate) fn add_to_linker<S>(linker: &mut Linker<S>) -> wasmtime::Result<()>
where
    S: WasiView + FilesystemView + Waits,
{
    crate::workspace::add_to_linker::<S>(linker)?;

    wasi::io::poll::add_to_linker::<S, Waiting>(linker, |state| WaitView(state))?;
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<S, Table>(linker, S::table)?;
    streams::add_to_linker::<S, Waiting>(linker, |state| WaitView(state))?;

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
    wasi::sockets::tcp::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    wasi::sockets::udp::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    Ok(())
}

/// Links what needs no handle: clocks, random numbers, and the making of sockets.
pub(crate) fn add_ambient_to_linker<S: WasiView + 'static>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    clocks::monotonic_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    random::random::add_to_linker::<S, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
    random::insecure::add_to_linker::<S, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<S, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
    sockets::ip_name_lookup::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    wasi::sockets::udp_create_socket::add_to_linker::<S, WasiSockets>(linker, S::sockets)
}
