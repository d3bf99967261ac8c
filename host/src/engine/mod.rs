//! The wasmtime engine, the compiled interpreter and its memory. All of the crate's `unsafe` is here.
//!
//! There are two ways to run the interpreter. On Linux the host owns its memory: every instance is a
//! copy-on-write view of one image, and a safepoint page stops it. Elsewhere, and where computation
//! is metered by fuel, wasmtime's own memories and epochs do the same more slowly.

mod cache;
mod dynamic;
#[cfg(target_os = "linux")]
mod frozen;
#[cfg(not(target_os = "linux"))]
#[path = "frozen_elsewhere.rs"]
mod frozen;
mod guest;
mod image;
mod interrupt;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod pagemap;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod pages;
#[cfg(target_os = "linux")]
mod pending;
#[cfg(target_os = "linux")]
mod reservation;
#[cfg(target_os = "linux")]
mod slot;
#[cfg(target_os = "linux")]
mod stack;
#[cfg(not(target_os = "linux"))]
#[path = "stack_elsewhere.rs"]
mod stack;
mod tools;
#[cfg(target_os = "linux")]
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, OptLevel, Store, UpdateDeadline};

pub(crate) use cache::Cache;
pub use cache::CacheEntry;
pub(crate) use dynamic::{Handles, Malformed, call, call_async};
pub(crate) use frozen::Frozen;
pub(crate) use guest::{Source, hex, manifest};
pub(crate) use interrupt::{Control, Interrupt, Raised, Reason, Signal, Stopped, Watchdog};
pub(crate) use pages::Page;
pub(crate) use stack::Stacks;
pub(crate) use tools::{ToolEngines, tool_control, tool_store};

use crate::bindings::{Python, PythonPre};
use crate::state::State;
use crate::{Error, ErrorKind, Result};

/// Changes whenever the way a cached artefact is made or laid out does.
const CACHE_FORMAT: u32 = 6;

/// Native stack that guest code may use. Python's own limits are lower but for freeing, comparing and
/// showing deeply nested data.
const GUEST_STACK_BYTES: usize = 64 << 20;

/// Slots of address space kept for the next sessions.
#[cfg(target_os = "linux")]
const MAX_IDLE_SLOTS: usize = 64;

/// How instances get their memory and are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// wasmtime's memories, epochs; computation is metered if `fuel`.
    Portable { fuel: bool },
    /// Host-owned memory and the safepoint page.
    #[cfg(target_os = "linux")]
    Owned,
}

impl Mode {
    pub fn choose(fuel: bool, portable: bool) -> Self {
        #[cfg(target_os = "linux")]
        if !fuel && !portable {
            return Mode::Owned;
        }
        let _ = portable;
        Mode::Portable { fuel }
    }

    fn name(self) -> &'static str {
        match self {
            Mode::Portable { fuel: false } => "portable",
            Mode::Portable { fuel: true } => "fuel",
            #[cfg(target_os = "linux")]
            Mode::Owned => "owned",
        }
    }
}

/// Why a kernel starts slowly this one time; see [`KernelBuilder::on_progress`](crate::KernelBuilder::on_progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The interpreter is being compiled for this machine, which is kept for later starts.
    Compiling,
    /// It was compiled in this time.
    Compiled(Duration),
    /// Another process is compiling it, and this one waits for that.
    Waiting,
}

/// A compiled interpreter, ready to instantiate.
pub(crate) struct Engine {
    mode: Mode,
    pre: PythonPre<State>,
    /// Memory that an instance starts with, in bytes.
    memory_at_start: u64,
    #[cfg(target_os = "linux")]
    image: Option<Arc<slot::Image>>,
}

impl Engine {
    pub fn load(mode: Mode, source: &Source, cache: &Cache, progress: &dyn Fn(Progress)) -> Result<Self> {
        let engine = wasmtime::Engine::new(&config(mode))
            .map_err(|error| Error::new(ErrorKind::System, "cannot set up wasmtime").source(error))?;
        let key = cache_key(mode, source, &engine)?;
        let build = || {
            progress(Progress::Compiling);
            let start = Instant::now();
            let built = build(mode, source, &engine)?;
            progress(Progress::Compiled(start.elapsed()));
            Ok(built)
        };
        cache.get(
            &key,
            || progress(Progress::Waiting),
            build,
            |artefact| Self::from_artefact(mode, &engine, artefact),
        )
    }

    fn from_artefact(mode: Mode, engine: &wasmtime::Engine, artefact: &cache::Artefact) -> Result<Self> {
        // SAFETY: the bytes were made by this engine (the key says so): either just now, or by an
        // earlier run of this user whose cache entry nobody else can write and whose length is whole.
        #[expect(unsafe_code)]
        let component = unsafe {
            match artefact {
                cache::Artefact::Stored(entry) => Component::deserialize_file(engine, entry.compiled()),
                cache::Artefact::Fresh(built) => Component::deserialize(engine, &built.compiled),
            }
        }
        .map_err(|error| {
            Error::new(ErrorKind::Guest, "cannot load the compiled interpreter").source(error)
        })?;
        #[cfg(target_os = "linux")]
        let image = match mode {
            Mode::Portable { .. } => None,
            Mode::Owned => Some(map_image(artefact).map_err(|error| {
                Error::new(ErrorKind::Guest, "cannot map the interpreter's memory image").source(error)
            })?),
        };
        let mut linker = Linker::new(engine);
        let pre = crate::state::add_to_linker(&mut linker)
            .and_then(|()| PythonPre::new(linker.instantiate_pre(&component)?))
            .map_err(|error| {
                Error::new(ErrorKind::Guest, "the interpreter does not fit this version of AgentKernel")
                    .hint("rebuild it with `cargo xtask guest`")
                    .source(error)
            })?;
        Ok(Engine {
            mode,
            pre,
            memory_at_start: component
                .resources_required()
                .and_then(|required| required.max_initial_memory_size)
                .map_or(0, |pages| pages * 65536),
            #[cfg(target_os = "linux")]
            image,
        })
    }

    /// Whether running turns are asked to pass their output on, so that they need not line by line.
    pub fn flushes(&self) -> bool {
        !matches!(self.mode, Mode::Portable { .. })
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn wasmtime(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }

    pub fn memory_at_start(&self) -> u64 {
        self.memory_at_start
    }

    /// Creates an instance on this thread, whose memory starts as `kept` if that is given.
    pub fn instantiate(
        &self,
        store: &mut Store<State>,
        kept: Option<&Arc<Frozen>>,
    ) -> wasmtime::Result<Instance> {
        match self.mode {
            Mode::Portable { .. } => {
                // Ringing moves the epoch on for every session; those that were not meant go on.
                store.set_epoch_deadline(1);
                store.epoch_deadline_callback(|context| {
                    if context.data().interrupt.is_fired() {
                        return Err(Stopped.into());
                    }
                    Ok(UpdateDeadline::Continue(1))
                });
                if kept.is_some() {
                    wasmtime::bail!("memory was kept that is not the host's own");
                }
                let control = Arc::new(Epochs(self.wasmtime().clone()));
                let python = self.pre.instantiate(store)?;
                Ok(Instance { python, control, memory: Memory::Wasmtimes })
            }
            #[cfg(target_os = "linux")]
            Mode::Owned => {
                let image = self.image.as_ref().expect("loaded with the component");
                let (python, control) = memory::instantiate(image, kept, || self.pre.instantiate(store))?;
                let control = Arc::new(control);
                Ok(Instance { python, control: Arc::clone(&control) as _, memory: Memory::Owned(control) })
            }
        }
    }

    /// Whether memories of its instances can be kept.
    pub fn owns_memory(&self) -> bool {
        !matches!(self.mode, Mode::Portable { .. })
    }

    /// Whether a kept memory is one of its own instances'.
    pub fn owns(&self, kept: &Frozen) -> bool {
        #[cfg(target_os = "linux")]
        return self.image.as_ref().is_some_and(|image| kept.is_over(image));
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// A memory and its notes from the cache, or as `build` makes them.
    pub fn kept(
        &self,
        cache: &Cache,
        key: &str,
        build: impl Fn() -> Result<Kept>,
    ) -> Result<(std::fs::File, Vec<u8>)> {
        let unusable = |error: std::io::Error| {
            Error::new(ErrorKind::Image, "the image cannot be kept in a file").source(error)
        };
        let build = || {
            let Kept { memory, notes } = build()?;
            Ok(cache::Built { compiled: Vec::new(), image: memory, notes })
        };
        cache.get(
            key,
            || {},
            build,
            |artefact| match artefact {
                cache::Artefact::Stored(entry) => {
                    let notes = std::fs::read(entry.notes()).map_err(unusable)?;
                    Ok((std::fs::File::open(entry.image()).map_err(unusable)?, notes))
                }
                cache::Artefact::Fresh(built) => {
                    use std::io::Write;
                    let mut file = tempfile::tempfile().map_err(unusable)?;
                    file.write_all(&built.image).map_err(unusable)?;
                    Ok((file, built.notes.clone()))
                }
            },
        )
    }

    /// A whole memory in a file as one to start from; `runs` are where it may differ from the
    /// interpreter's image.
    pub fn map(&self, file: std::fs::File, runs: &[(u64, u64)]) -> std::io::Result<Frozen> {
        #[cfg(target_os = "linux")]
        if let Some(image) = &self.image {
            return Frozen::from_whole(image, file, runs);
        }
        let _ = (file, runs);
        Err(std::io::Error::other("the memory is not the host's own"))
    }

    /// Pages over the interpreter's image as a memory to start from, if they can be one.
    pub fn thaw(&self, size: usize, pages: Vec<Page>) -> Option<Frozen> {
        #[cfg(target_os = "linux")]
        return Frozen::from_flat(self.image.as_ref()?, size, pages);
        #[cfg(not(target_os = "linux"))]
        return None;
    }
}

/// A memory as a whole, and what is known about it.
pub(crate) struct Kept {
    pub memory: Vec<u8>,
    pub notes: Vec<u8>,
}

/// An instance of the interpreter.
pub(crate) struct Instance {
    pub python: Python,
    /// What controls it from other threads.
    pub control: Arc<dyn Control>,
    pub memory: Memory,
}

/// The memory of an instance.
pub(crate) enum Memory {
    /// It cannot be kept.
    Wasmtimes,
    #[cfg(target_os = "linux")]
    Owned(Arc<memory::LeaseControl>),
}

impl Memory {
    /// Whether it can be kept.
    pub fn is_owned(&self) -> bool {
        !matches!(self, Memory::Wasmtimes)
    }

    /// Keeps it as it is, while no turn runs. Nothing if more than `limit` bytes have changed. What was kept `before`
    /// and is not needed any more makes that cheaper.
    pub fn freeze(
        &self,
        _no_turn_runs: &mut Store<State>,
        limit: usize,
        before: Option<Arc<Frozen>>,
    ) -> Option<Arc<Frozen>> {
        match self {
            Memory::Wasmtimes => None,
            #[cfg(target_os = "linux")]
            Memory::Owned(control) => control.freeze(limit, before),
        }
    }
}

#[cfg(target_os = "linux")]
fn map_image(artefact: &cache::Artefact) -> std::io::Result<Arc<slot::Image>> {
    match artefact {
        cache::Artefact::Stored(entry) => {
            let notes = image::Notes::parse(&std::fs::read(entry.notes())?)?;
            slot::Image::from_file(std::fs::File::open(entry.image())?, notes)
        }
        cache::Artefact::Fresh(built) => {
            slot::Image::from_bytes(&built.image, image::Notes::parse(&built.notes)?)
        }
    }
}

/// Whether recycled memory is reset by copying back the pages that changed, which is the fast way.
pub(crate) fn page_scan_supported() -> bool {
    #[cfg(target_os = "linux")]
    return pagemap::supported();
    #[cfg(not(target_os = "linux"))]
    return false;
}

/// Stops an instance whose memory is wasmtime's.
struct Epochs(wasmtime::Engine);

impl Control for Epochs {
    fn ring(&self) {
        self.0.increment_epoch();
    }

    fn silence(&self) -> bool {
        true
    }

    fn raise(&self, _signal: Signal) -> Raised {
        Raised::Never
    }

    fn raise_in_host_call(&self, _signal: Signal) {}

    fn take_back(&self, _signal: Signal) {}

    fn pending_output(&self) -> Option<Vec<u8>> {
        None
    }
}

fn config(mode: Mode) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(GUEST_STACK_BYTES)
        // There are no fibers, but wasmtime checks that they would be large enough.
        .async_stack_size(GUEST_STACK_BYTES + (1 << 20))
        // Tracebacks are Python's. Without these the artefact is a third smaller.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false)
        // Calls of the interpreter never overlap in one store.
        .concurrency_support(false);
    match mode {
        Mode::Portable { fuel } => {
            config.epoch_interruption(true).consume_fuel(fuel);
        }
        #[cfg(target_os = "linux")]
        Mode::Owned => {
            config
                .with_host_memory(Arc::new(memory::Creator(slot::Pool::new(MAX_IDLE_SLOTS))))
                .memory_init_cow(false);
        }
    }
    config
}

fn build(mode: Mode, source: &Source, engine: &wasmtime::Engine) -> Result<cache::Built> {
    let component = source.component()?;
    let compile = |component: &[u8]| {
        engine.precompile_component(component).map_err(|error| {
            Error::new(ErrorKind::Guest, "cannot compile the interpreter")
                .hint("rebuild it with `cargo xtask guest`")
                .source(error)
        })
    };
    match mode {
        Mode::Portable { .. } => {
            Ok(cache::Built { compiled: compile(&component)?, image: Vec::new(), notes: Vec::new() })
        }
        #[cfg(target_os = "linux")]
        Mode::Owned => {
            let split = image::split(&component)?;
            Ok(cache::Built { compiled: compile(&split.component)?, image: split.memory, notes: split.notes })
        }
    }
}

/// Equal for engines that can load each other's compiled components.
fn compatibility(engine: &wasmtime::Engine) -> [u8; 32] {
    struct Hasher(Sha256);
    impl std::hash::Hasher for Hasher {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("the digest is taken instead")
        }
    }
    let mut hasher = Hasher(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    hasher.0.finalize().into()
}

fn cache_key(mode: Mode, source: &Source, engine: &wasmtime::Engine) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(CACHE_FORMAT.to_le_bytes());
    hasher.update(mode.name());
    hasher.update(source.sha256()?);
    hasher.update(compatibility(engine));
    let digest = hex(&hasher.finalize());
    Ok(format!("{}-{}", mode.name(), &digest[..32]))
}
