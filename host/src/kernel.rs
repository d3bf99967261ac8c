//! The configured host that sessions are started from.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Runtime;

use crate::engine::{Cache, Engine, Mode, Progress, Source, Stacks, Watchdog, manifest};
use crate::image::Image;
use crate::llm::Llm;
use crate::pool::{Pool, PoolStats};
use crate::session::SessionBuilder;
use crate::telemetry::{Counters, Metrics, spans};
use crate::tool::{Network, Resolve, Tool, ToolInfo, Toolbox};
use crate::{Error, ErrorKind, Privacy, Result, Skills};

/// Turns that run at the same time; more wait for one of these to end.
const MAX_TURNS: usize = 4096;

/// Native stack of a thread for calls that overlap: address space, of which little is ever touched.
const CALL_STACK_BYTES: usize = 8 << 20;

/// A configured host: the compiled interpreter and what all sessions share. Cheap to clone.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Ending, Kernel};
///
/// let kernel = Kernel::new()?;
/// let mut session = kernel.session().start()?;
/// session.run_blocking("x = 20")?;
/// let outcome = session.run_blocking("print('hello'); x + 22")?;
/// assert_eq!(outcome.stdout, b"hello\n");
/// let Ending::Completed(Some(value)) = outcome.ending else { panic!("{:?}", outcome.ending) };
/// assert_eq!(value.repr, "42");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Kernel(Arc<Inner>);

pub(crate) struct Inner {
    pub engine: Engine,
    pub metered: bool,
    pub watchdog: Watchdog,
    pub runtime: Background,
    pub stacks: Stacks,
    pub tools: Option<Arc<Toolbox>>,
    pub llm: Option<Llm>,
    pub pool: Pool,
    pub skills: Option<Skills>,
    #[cfg(feature = "state")]
    pub state: Option<crate::State>,
    pub cache: Cache,
    pub counters: Arc<Counters>,
    /// Whether spans hold texts of programs and models.
    pub trace_content: bool,
    guest: Option<PathBuf>,
    sha256: OnceLock<String>,
    trusted: OnceLock<Vec<PathBuf>>,
}

/// The runtime that turns, their timers and their host calls run on. It outlives no kernel and
/// blocks nobody who drops one, inside another runtime or not.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("taken only when dropped").handle()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    /// SHA-256 of the interpreter.
    pub fn guest_sha256(&self) -> Result<String> {
        if let Some(known) = self.sha256.get() {
            return Ok(known.clone());
        }
        let sha256 = self.guest.clone().map_or(Source::BuiltIn, Source::File).sha256()?;
        Ok(self.sha256.get_or_init(|| sha256).clone())
    }

    /// Refuses to let a program write to a directory in which the compiled interpreter lies: what is
    /// loaded from there is machine code.
    pub fn check_writable(&self, directory: &Path) -> Result<()> {
        let trusted = self.trusted.get_or_init(|| {
            let paths = self.cache.root().into_iter().chain(self.guest.as_deref());
            paths.filter_map(|path| path.ancestors().find_map(|path| path.canonicalize().ok())).collect()
        });
        let Ok(directory) = directory.canonicalize() else { return Ok(()) };
        let Some(inside) = trusted.iter().find(|path| path.starts_with(&directory)) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Grant,
            format!(
                "`{}`, from which the interpreter is loaded, lies in `{}`, which the program may write to",
                inside.display(),
                directory.display()
            ),
        )
        .hint("keep the compilation cache and the interpreter outside of what is granted"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watchdog.stop();
    }
}

impl Kernel {
    /// A kernel with the default configuration. The first one on a machine compiles the
    /// interpreter, which takes seconds; see [`KernelBuilder::on_progress`].
    ///
    /// # Errors
    ///
    /// As [`KernelBuilder::build`].
    pub fn new() -> Result<Self> {
        Kernel::builder().build()
    }

    /// A kernel to be configured.
    pub fn builder() -> KernelBuilder {
        KernelBuilder::default()
    }

    /// A session to be configured and started.
    pub fn session(&self) -> SessionBuilder {
        SessionBuilder::new(Arc::clone(&self.0))
    }

    /// Keeps `sessions` instances ready that start from `image`, or else from the interpreter as it is; with 0,
    /// none any more. A session that finds one starts without making its own; a burst that
    /// empties the pool makes its own. They are made by a thread in the background.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when a thread cannot be started, [`ErrorKind::Image`] when the image does not fit
    /// this kernel.
    pub fn keep_ready(&self, image: Option<&Image>, sessions: usize) -> Result<()> {
        let kept = image.map(|image| image.memory_for(&self.0)).transpose()?;
        self.0.pool.keep(&self.0, kept, sessions)
    }

    /// How often the pool of an image, or that of the interpreter as it is, was of use.
    pub fn pool_stats(&self, image: Option<&Image>) -> PoolStats {
        match image.map(|image| image.memory_for(&self.0)) {
            Some(Err(_)) => PoolStats::default(),
            Some(Ok(kept)) => self.0.pool.stats(Some(&kept)),
            None => self.0.pool.stats(None),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// The runtime on which its host calls run.
    pub(crate) fn runtime(&self) -> tokio::runtime::Handle {
        self.0.runtime.handle().clone()
    }

    /// The tools of this kernel, in the order in which they were given.
    pub fn tools(&self) -> Vec<ToolInfo> {
        self.0.tools.as_ref().map(|tools| tools.info()).unwrap_or_default()
    }

    /// Asks the MCP servers among the tools what they offer, each within its time to start, so that [`Kernel::tools`] and
    /// [`Kernel::tool_stubs`] tell it. Those that are not shared are started for this alone. Blocks until all have answered, and
    /// gives the names of those that did not with the reason.
    #[cfg(feature = "mcp")]
    pub fn ask_servers(&self) -> Vec<(String, Error)> {
        let Some(tools) = self.0.tools.clone() else { return Vec::new() };
        crate::tool::ask_servers(&tools, &self.runtime())
    }

    /// Stub files (PEP 561) of the tools for type checkers: paths and contents. They say nothing of
    /// tools that are Python packages, and of MCP servers what they were last known to offer.
    pub fn tool_stubs(&self) -> Vec<(String, String)> {
        self.0.tools.as_ref().map(|tools| tools.stubs()).unwrap_or_default()
    }

    /// The models that its programs may ask.
    pub fn llm(&self) -> Option<&Llm> {
        self.0.llm.as_ref()
    }

    /// The background tasks in the SQLite database at `path`, which is made if there is none, and a worker
    /// that runs them in sessions of this kernel as long as a clone of what is returned is kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when the database cannot be used, [`ErrorKind::System`] when the worker's thread
    /// cannot be started.
    #[cfg(feature = "tasks")]
    pub fn tasks(&self, path: impl AsRef<Path>) -> Result<crate::task::Tasks> {
        let tasks = crate::task::Tasks::open(path)?;
        let worker = tasks.worker(self).start()?;
        Ok(tasks.with_worker(worker))
    }

    /// What it has done since it was built: sessions, turns, calls of tools and models, denials, caches.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.0.counters.metrics();
        (metrics.pool_hits, metrics.pool_misses) = self.0.pool.used();
        (metrics.compilation_cache_hits, metrics.compilation_cache_misses) = self.0.cache.used();
        if let Some(tools) = &self.0.tools {
            tools.tell(&mut metrics);
        }
        if let Some(llm) = &self.0.llm {
            llm.tell(&mut metrics);
        }
        metrics
    }

    /// What this kernel runs on.
    pub fn info(&self) -> KernelInfo {
        let engine = &self.0.engine;
        KernelInfo {
            cpython: manifest().cpython,
            host_owned_memory: !matches!(engine.mode(), Mode::Portable { .. }),
            page_scan: crate::engine::page_scan_supported(),
            memory_at_start_bytes: engine.memory_at_start(),
            cache: self.0.cache.root().map(PathBuf::from),
        }
    }
}

/// What a kernel runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelInfo {
    /// The version of CPython.
    pub cpython: String,
    /// Whether sessions start as copy-on-write views of one image and are stopped by a safepoint
    /// page, which is the fast way; otherwise wasmtime's memories and epochs serve.
    pub host_owned_memory: bool,
    /// Whether the kernel of the operating system can tell which pages changed (`PAGEMAP_SCAN`,
    /// Linux 6.7), so that memory is recycled the fast way.
    pub page_scan: bool,
    /// Linear memory that each session starts with. Where the host owns it, it is shared until it is
    /// written.
    pub memory_at_start_bytes: u64,
    /// The directory of the compilation cache, if there is one.
    pub cache: Option<PathBuf>,
}

/// Configures a [`Kernel`].
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, Progress};
///
/// let kernel = Kernel::builder()
///     .on_progress(|progress| {
///         if progress == Progress::Compiling {
///             eprintln!("compiling Python, this once");
///         }
///     })
///     .build()?;
/// assert!(kernel.info().cpython.starts_with("3.14"));
/// # Ok(())
/// # }
/// ```
pub struct KernelBuilder {
    source: Source,
    cache: Option<PathBuf>,
    metered: bool,
    portable: bool,
    tools: Vec<Tool>,
    resolve: Option<Arc<Resolve>>,
    llm: Option<Llm>,
    privacy: Option<Privacy>,
    skills: Option<Skills>,
    #[cfg(feature = "state")]
    state: Option<crate::State>,
    trace_content: bool,
    progress: Box<dyn Fn(Progress)>,
}

impl Default for KernelBuilder {
    fn default() -> Self {
        KernelBuilder {
            source: Source::BuiltIn,
            cache: Cache::default_root(),
            metered: false,
            portable: false,
            tools: Vec::new(),
            resolve: None,
            llm: None,
            privacy: None,
            skills: None,
            #[cfg(feature = "state")]
            state: None,
            trace_content: false,
            progress: Box::new(|_| {}),
        }
    }
}

impl KernelBuilder {
    /// Where compiled interpreters are kept. Default: `AGENTKERNEL_CACHE_DIR`, or `agentkernel` in
    /// the user's cache directory. `None` compiles at every start.
    pub fn cache_dir(mut self, directory: Option<PathBuf>) -> Self {
        self.cache = directory;
        self
    }

    /// Another interpreter than the built-in one: a `.wasm` or `.wasm.zst` file made by
    /// `cargo xtask guest`. It is trusted as this crate is.
    pub fn guest(mut self, file: impl Into<PathBuf>) -> Self {
        self.source = Source::File(file.into());
        self
    }

    /// Whether computation is metered by fuel. Then every session needs [`Limits::fuel`](crate::Limits::fuel).
    /// Default: no.
    pub fn metered(mut self, metered: bool) -> Self {
        self.metered = metered;
        self
    }

    /// Whether to run without host-owned memory and safepoints even where they are to be had, as
    /// systems other than Linux do. Default: no.
    pub fn portable(mut self, portable: bool) -> Self {
        self.portable = portable;
        self
    }

    /// A tool that programs of every session import as `tools.NAME`. A component is compiled once and
    /// kept in the compilation cache. Default: no tool.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// How the names of hosts that tools send requests to are resolved. It may block. The addresses it
    /// gives are checked as the system's are. Default: the system's resolver.
    pub fn resolver(
        mut self,
        resolve: impl Fn(&str) -> std::io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.resolve = Some(Arc::new(resolve));
        self
    }

    /// The models that programs of every session may ask, each session within a budget of its own
    /// unless it is given one ([`SessionBuilder::budget`]). Default: none.
    pub fn llm(mut self, llm: Llm) -> Self {
        self.llm = Some(llm);
        self
    }

    /// What the models are not shown, in place of what [`Llm::privacy`] says. Default: they are shown all.
    pub fn privacy(mut self, privacy: Privacy) -> Self {
        self.privacy = Some(privacy);
        self
    }

    /// What programs of every session import from `skills`, unless a session is given others
    /// ([`SessionBuilder::skills`]). Children of a run have none. Default: none.
    pub fn skills(mut self, skills: Skills) -> Self {
        self.skills = Some(skills);
        self
    }

    /// What programs of every session keep as `agentkernel.state`, unless a session is given another
    /// ([`SessionBuilder::state`]). Children of a run have none. Default: none.
    #[cfg(feature = "state")]
    pub fn state(mut self, state: crate::State) -> Self {
        self.state = Some(state);
        self
    }

    /// Whether the spans that `tracing` is told of hold texts as well: programs, what they write, arguments and results of
    /// tools, prompts and answers of models (without what [privacy](KernelBuilder::privacy) hides), each cut after 64 KiB.
    /// Default: no.
    pub fn trace_content(mut self, trace_content: bool) -> Self {
        self.trace_content = trace_content;
        self
    }

    /// Called when the start takes long, and when it no longer does. Default: nothing.
    pub fn on_progress(mut self, report: impl Fn(Progress) + 'static) -> Self {
        self.progress = Box::new(report);
        self
    }

    /// Builds the kernel: loads the interpreter, and compiles it where it is not in the cache.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Guest`] when the interpreter cannot be read or compiled, [`ErrorKind::Tool`] when
    /// a tool cannot, [`ErrorKind::Grant`] when privacy has no model, [`ErrorKind::System`] when threads cannot be started. A cache that cannot be used is no error: the kernel then
    /// compiles, and says so through `tracing`.
    pub fn build(self) -> Result<Kernel> {
        let _span = spans::kernel().entered();
        let llm = match (self.llm, self.privacy) {
            (Some(llm), Some(privacy)) => Some(llm.privacy(privacy)),
            (None, Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Grant,
                    "`privacy` has no effect in a kernel without a model",
                )
                .hint("give it a model with `KernelBuilder::llm`"));
            }
            (llm, None) => llm,
        };
        let llm = llm.map(|llm| llm.counted(self.trace_content));
        let mode = Mode::choose(self.metered, self.portable);
        let cache = Cache::new(self.cache);
        let engine = Engine::load(mode, &self.source, &cache, &self.progress)?;
        let tools = match self.tools.is_empty() {
            true => None,
            false => {
                let network = Network::new(self.resolve);
                let tools = Toolbox::load(self.tools, network, &cache, &self.progress)?;
                Some(Arc::new(tools.trace_content(self.trace_content)))
            }
        };
        let guest = match self.source {
            Source::BuiltIn => None,
            Source::File(file) => Some(file),
        };
        let threads = |error| Error::new(ErrorKind::System, "cannot start a thread").source(error);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime
            .worker_threads(1)
            .thread_name("agentkernel")
            .max_blocking_threads(2 * MAX_TURNS)
            .enable_time();
        // Calls that overlap run there, and tools that call tools.
        runtime.thread_stack_size(CALL_STACK_BYTES);
        // Who needs no network does not wake through a poll of it.
        if llm.is_some() || tools.as_ref().is_some_and(|tools| tools.needs_network()) {
            runtime.enable_io();
        }
        let runtime = runtime.build().map_err(threads)?;
        Ok(Kernel(Arc::new(Inner {
            engine,
            metered: self.metered,
            watchdog: Watchdog::start().map_err(threads)?,
            runtime: Background(Some(runtime)),
            stacks: Stacks::default(),
            tools,
            llm,
            pool: Pool::default(),
            skills: self.skills,
            #[cfg(feature = "state")]
            state: self.state,
            cache,
            counters: Arc::default(),
            trace_content: self.trace_content,
            guest,
            sha256: OnceLock::new(),
            trusted: OnceLock::new(),
        })))
    }
}
