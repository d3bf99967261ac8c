//! What a session's store holds, and the interfaces linked to it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::clock::Clock;
use crate::console::{Console, Input, Stdin, Stream, WasiOutput};
use crate::engine::{Interrupt, Stopped, Watchdog};
use crate::kernel::Inner;
use crate::replay::{Asked, Given, Tape};
use crate::service;
use crate::tool::{Instances, Numbers};
use crate::wasi::Waits;
use crate::workspace::{
    FilesystemCtx, FilesystemCtxView, FilesystemLimits, FilesystemView, is_granted_directory,
};
use crate::{Limits, Result, bindings};

/// Handles of all kinds that a guest may hold: far more than any program needs, few enough to keep
/// the host's memory small.
const MAX_HANDLES: usize = 16_384;

/// The data of a session's store.
pub(crate) struct State {
    pub table: ResourceTable,
    wasi: WasiCtx,
    clock: Clock,
    pub filesystem: FilesystemCtx,
    pub console: Console,
    pub input: Input,
    pub limits: Limits,
    pub runtime: Handle,
    pub interrupt: Arc<Interrupt>,
    pub operations_in_flight: u32,
    /// Calls of tools that this turn has started.
    pub started: Vec<tokio::task::AbortHandle>,
    /// What calls in flight hold on the host.
    pub held_bytes: Arc<AtomicU64>,
    pub tools: Instances,
    pub services: service::Services,
    /// What makes the session one that can be run again.
    pub tape: Option<Box<Tape>>,
    /// Standard output that a host call passed on which ended after the turn was to stop.
    pub passed_at_stop: Vec<u8>,
    /// Memory for what calls of tools give.
    pub answer: Arc<Vec<u8>>,
    pub watchdog: Watchdog,
    pub host_calls: u64,
    /// Calls of this turn to services that the session has not.
    pub denied: u64,
    pub peak_memory_bytes: u64,
    /// Whether the guest was refused memory since this was last cleared.
    pub memory_refused: bool,
}

/// What a session has of its kernel.
pub(crate) struct Shared {
    pub clock: Clock,
    pub runtime: Handle,
    pub watchdog: Watchdog,
    pub tools: Instances,
    pub services: service::Services,
    pub tape: Option<Box<Tape>>,
}

impl State {
    pub fn new(
        limits: Limits,
        filesystem: FilesystemCtx,
        console: Console,
        input: Input,
        interrupt: Arc<Interrupt>,
        shared: Shared,
    ) -> Self {
        let Shared { clock, runtime, watchdog, tools, services, tape } = shared;
        let output = |stream| WasiOutput { console: console.clone(), stream };
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output(Stream::Stdout)).stderr(output(Stream::Stderr)).allow_tcp(false).allow_udp(false);
        wasi.monotonic_clock(clock.clone());
        if let Some(tape) = &tape {
            tape.set(&mut wasi);
        }
        let wasi = wasi.build();
        State {
            table: handles(),
            wasi,
            clock,
            filesystem,
            console,
            input,
            limits,
            runtime,
            interrupt,
            operations_in_flight: 0,
            started: Vec::new(),
            held_bytes: Arc::default(),
            tools,
            services,
            tape,
            passed_at_stop: Vec::new(),
            answer: Arc::default(),
            watchdog,
            host_calls: 0,
            denied: 0,
            peak_memory_bytes: 0,
            memory_refused: false,
        }
    }

    /// That of an instance which is nobody's yet.
    ///
    /// # Errors
    ///
    /// None that is expected.
    pub fn without_session(kernel: &Inner) -> Result<Self> {
        let limits = Limits::default();
        let files = FilesystemLimits { open_files: 0, write_bytes: 0, new_entries: 0, path_bytes: 0 };
        let shared = Shared {
            clock: Clock::at(Duration::ZERO),
            runtime: kernel.runtime.handle().clone(),
            watchdog: kernel.watchdog.clone(),
            tools: Instances::default(),
            services: service::Services::default(),
            tape: None,
        };
        let (console, interrupt) = (Console::new(None, 0), Interrupt::new());
        let filesystem = FilesystemCtx::new(Vec::new(), files)?;
        Ok(State::new(limits, filesystem, console, Input::from(Stdin::Empty), interrupt, shared))
    }

    /// Whether programs can pass something large to the host: there are tools, or a model.
    pub fn hands_over(&self) -> bool {
        self.tools.toolbox().is_some() || self.services.has(service::Kind::Llm)
    }

    /// What its monotonic clock shows.
    pub fn now(&self) -> Duration {
        self.tape.as_ref().map_or_else(|| self.clock.now(), |tape| tape.now())
    }

    /// What the instance holds of the host.
    pub fn holdings(&mut self) -> Holdings {
        let mut holdings = Holdings::default();
        for entry in self.table.iter_mut() {
            match is_own(entry) {
                true => holdings.own = true,
                false => holdings.programs += 1,
            }
        }
        holdings
    }

    /// Makes it that of another instance: nothing of the one before is held any more, nor what came of tools after `numbers`.
    pub fn leave_instance(&mut self, numbers: &Numbers) {
        self.end_started();
        self.tools.put_back(numbers);
        self.table = handles();
        self.operations_in_flight = 0;
        self.answer = Arc::default();
        self.passed_at_stop = Vec::new();
        self.memory_refused = false;
    }

    /// An error if this is a replay that goes another way than its recording.
    pub fn check_replay(&self) -> wasmtime::Result<()> {
        match &self.tape {
            Some(tape) => Ok(tape.track.check()?),
            None => Ok(()),
        }
    }

    /// Waits on this thread for `future`, for less if the turn is sent a signal: then there is no
    /// result. The future is not lost.
    pub fn block_on_until_signal<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> std::result::Result<Option<T>, Stopped> {
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
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> std::result::Result<T, Stopped> {
        self.interrupt.block_on(&self.runtime, future)
    }
}

/// What an instance holds of the host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Holdings {
    /// Whether there is something that it acquires anew when it needs it: directories that were granted,
    /// the standard streams.
    pub own: bool,
    /// How many handles the program holds: open files, listings, host calls in flight.
    pub programs: usize,
}

fn handles() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    table
}

/// Whether the interpreter's library holds this for itself. (Of a file there is a descriptor beside its
/// streams.)
fn is_own(entry: &(dyn Any + Send)) -> bool {
    is_granted_directory(entry)
        || entry.is::<DynOutputStream>()
        || entry.is::<DynInputStream>()
        || entry.is::<DynPollable>()
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

impl Waits for State {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    fn waiting(&self) -> (Handle, Arc<Interrupt>) {
        (self.runtime.clone(), Arc::clone(&self.interrupt))
    }

    fn replayed(&mut self, asked: &Asked) -> wasmtime::Result<Option<Given>> {
        State::replayed(self, asked)
    }

    fn waited(&mut self, asked: Asked, since: Instant, given: wasmtime::Result<Given>) {
        self.took(asked, since, &given, Given::clone);
    }
}

/// Links all that the interpreter imports.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::console::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    bindings::operations::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    crate::modules::add_to_linker(linker)?;
    crate::wasi::add_to_linker(linker)?;
    crate::wasi::add_ambient_to_linker(linker)
}
