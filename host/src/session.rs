//! A live interpreter with its own namespace, workspace, grants and limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

use crate::bindings::{Python, guest};
use crate::console::{Console, Input, OutputHandler, Stdin, Stream};
use crate::context::{Context, Contexts};
use crate::engine::{Interrupt, Reason};
use crate::kernel::Inner;
use crate::llm::{Budget, Llm, LlmService, Watch};
use crate::outcome::{Ending, Exception, Frame, Outcome, Usage, Value};
use crate::replay::{Plan, Recording, Replaying, Tape};
use crate::service;
use crate::state::{Shared, State};
use crate::tool::{Instances, Package};
use crate::turn::{Mode, Turn};
use crate::workspace::{self, FilesystemCtx, FilesystemLimits, Preopen};
use crate::{Error, ErrorKind, Grants, Limits, Result, Workspace};

/// What a question beside the turns may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that the guest may hand over in one call, and that the host then holds for a while.
const HANDOVER_BYTES: usize = 32 << 20;

/// Length of a value's JSON form; the host holds a longer one as text only, or not at all.
const JSON_BYTES: usize = 4 << 20;

/// Where the workspace stands in the guest.
pub(crate) const WORKSPACE: &str = "/workspace";

/// A session to be started; see [`Kernel::session`](crate::Kernel::session).
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, Stdin, Stream};
///
/// let kernel = Kernel::new()?;
/// let mut session = kernel
///     .session()
///     .stdin(Stdin::Bytes(b"1 2 3\n".to_vec()))
///     .on_output(|stream, bytes| {
///         assert_eq!((stream, bytes), (Stream::Stdout, &b"6\n"[..]));
///     })
///     .start()?;
/// session.run_blocking("print(sum(map(int, input().split())))")?;
/// # Ok(())
/// # }
/// ```
pub struct SessionBuilder {
    kernel: Arc<Inner>,
    grants: Grants,
    stdin: Stdin,
    output: Option<OutputHandler>,
    llm: Option<Llm>,
    budget: Option<Budget>,
    watch: Option<Arc<dyn Watch>>,
    services: service::Services,
    contexts: Vec<(String, Context)>,
    plan: Plan,
    at: Option<String>,
}

impl SessionBuilder {
    pub(crate) fn new(kernel: Arc<Inner>) -> Self {
        let llm = kernel.llm.clone();
        let (grants, stdin) = (Grants::default(), Stdin::Empty);
        SessionBuilder {
            kernel,
            grants,
            stdin,
            output: None,
            llm,
            budget: None,
            watch: None,
            services: Default::default(),
            contexts: Vec::new(),
            plan: Plan::default(),
            at: None,
        }
    }

    /// What the session may touch. Default: [`Grants::default`].
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// The directory at `/workspace`, read and written. Default: an empty temporary one.
    pub fn workspace(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.grants.workspace = Workspace::Directory(directory.into());
        self
    }

    /// The limits. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.grants.limits = limits;
        self
    }

    /// What the program reads as standard input. Default: nothing.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Passes output on as the program writes it, in place of collecting it in the [`Outcome`]. The
    /// handler runs on the turn's thread; while it blocks, so does the program.
    pub fn on_output(mut self, handler: impl FnMut(Stream, &[u8]) + Send + 'static) -> Self {
        self.output = Some(Box::new(handler));
        self
    }

    /// What the session may ask of models. Sessions may share one, or have a part of it each
    /// ([`Budget::child`]). Default: one with the limits of the kernel's [`Llm`].
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Grants no model, though the kernel has one.
    pub fn without_llm(mut self) -> Self {
        self.llm = None;
        self
    }

    /// Sees the calls of models that the session's programs make. Default: nobody does.
    pub fn watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Records all that enters the session, so that it can be replayed. Its clocks are moved by what it
    /// asks of the host alone, and its random numbers come from a seed: they are no secret. Each line is
    /// passed on by itself. Default: nothing is recorded.
    pub fn record(mut self, recording: &Recording) -> Self {
        self.plan.record(recording);
        self
    }

    /// Replays a session: nothing is asked of models, tools or standard input, nothing is waited for, and
    /// the same programs do the same. What goes another way ends the session with an error of
    /// [`ErrorKind::Replay`]. Files are read and written again. Default: it is no replay.
    pub fn replay(mut self, replaying: &Replaying) -> Self {
        self.plan.replay(replaying);
        self
    }

    /// Makes the session the same each time as far as the host can: clocks begin in 2026 and are moved by
    /// readings and sleeps, which take no time, random numbers come from `seed`, and operations end in the
    /// order in which they were begun. Default: no.
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.plan.deterministic(seed);
        self
    }

    /// As the session of a run does.
    pub(crate) fn plan(mut self, plan: &Plan, at: String) -> Self {
        (self.plan, self.at) = (plan.clone(), Some(at));
        self
    }

    /// Adds what else the host offers its programs.
    pub(crate) fn service(mut self, service: Arc<dyn service::Service>) -> Self {
        self.services.add(service);
        self
    }

    /// What the program reads as `agentkernel.context`. Default: nothing.
    pub fn context(self, context: Context) -> Self {
        self.named_context("context", context)
    }

    /// What the program reads as `agentkernel.Context.named(name)`. The first context that is given is
    /// the main one; a name that is given again takes the place of the one before.
    pub fn named_context(mut self, name: impl Into<String>, context: Context) -> Self {
        let name = name.into();
        match self.contexts.iter_mut().find(|(given, _)| *given == name) {
            Some((_, given)) => *given = context,
            None => self.contexts.push((name, context)),
        }
        self
    }

    /// Starts the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when a directory cannot be opened or a limit makes no sense, and
    /// [`ErrorKind::System`] when the system has no memory or address space left.
    pub fn start(self) -> Result<Session> {
        Session::start(self)
    }
}

/// A live interpreter. It runs one turn at a time; names that a turn defines are there in the next.
///
/// Dropping it frees its memory and removes its temporary workspace.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Ending, Kernel};
///
/// let kernel = Kernel::new()?;
/// let mut session = kernel.session().start()?;
/// session.run("import json\nrows = json.loads('[1, 2]')").await?;
/// let outcome = session.run("rows[2]").await?;
/// let Ending::Raised(exception) = outcome.ending else { panic!("{:?}", outcome.ending) };
/// assert_eq!((exception.kind.as_str(), exception.frames[0].line), ("IndexError", 1));
/// assert!(session.is_alive());
/// # Ok(())
/// # }
/// ```
pub struct Session {
    kernel: Arc<Inner>,
    interrupt: Arc<Interrupt>,
    budget: Option<Budget>,
    live: Option<Box<Live>>,
}

/// What moves to the thread that runs a turn.
struct Live {
    store: Store<State>,
    python: Python,
    /// Given to the guest with its first turn.
    settings: Option<guest::Settings>,
    llm: Option<Arc<LlmService>>,
}

impl Session {
    fn start(builder: SessionBuilder) -> Result<Self> {
        let SessionBuilder {
            kernel,
            grants,
            stdin,
            output,
            llm,
            budget,
            watch,
            mut services,
            contexts,
            plan,
            at,
        } = builder;
        grants.check(kernel.engine.memory_at_start())?;
        if grants.limits.fuel.is_some() != kernel.metered {
            let (message, hint) = if kernel.metered {
                ("this kernel meters fuel, and no fuel limit is given", "set `Limits::fuel`")
            } else {
                (
                    "a fuel limit has no effect in a kernel that does not meter fuel",
                    "build the kernel with `metered(true)`",
                )
            };
            return Err(Error::new(ErrorKind::Grant, message).hint(hint));
        }
        if llm.is_none() && (budget.is_some() || watch.is_some()) {
            let message = "a budget has no effect in a session without a model";
            return Err(Error::new(ErrorKind::Grant, message).hint("build the kernel with `llm(…)`"));
        }
        let contexts = Contexts::new(contexts);
        let tape = match plan.track(at)? {
            Some(track) => {
                let guest = || kernel.guest_sha256();
                Some(Box::new(Tape::new(track, guest, llm.as_ref(), grants.limits.output_bytes)?))
            }
            None => None,
        };
        let llm = llm.map(|llm| {
            let track = tape.as_ref().map(|tape| tape.track.clone());
            let budget = budget.unwrap_or_else(|| llm.budget());
            Arc::new(LlmService::new(llm, budget, watch, contexts.clone(), track))
        });
        if !contexts.is_empty() {
            services.add(Arc::new(contexts));
        }
        if let Some(llm) = &llm {
            services.add(Arc::clone(llm) as _);
        }
        let Grants { workspace, mounts, import_paths, environment, limits } = grants;
        let mut preopens = Vec::with_capacity(1 + mounts.len());
        preopens.push(match workspace {
            Workspace::Temporary => Preopen::temporary(WORKSPACE),
            Workspace::Directory(directory) => {
                kernel.check_writable(&directory)?;
                workspace::open_preopen(&directory, WORKSPACE, crate::Access::ReadWrite)?
            }
        });
        for mount in mounts {
            if mount.access == crate::Access::ReadWrite {
                kernel.check_writable(&mount.host)?;
            }
            preopens.push(workspace::open_preopen(&mount.host, &mount.guest, mount.access)?);
        }
        for (name, package) in kernel.tools.iter().flat_map(|tools| tools.packages()) {
            let place = Package::place(name);
            preopens.push(workspace::open_preopen(&package.directory, &place, crate::Access::ReadOnly)?);
        }
        let interrupt = Interrupt::new();
        let is_taped = tape.is_some();
        if is_taped {
            interrupt.set_quiet();
        }
        let state = State::new(
            limits.clone(),
            filesystem(preopens, &limits)?,
            Console::new(output, limits.output_bytes),
            Input::from(stdin),
            Arc::clone(&interrupt),
            Shared {
                runtime: kernel.runtime.handle().clone(),
                watchdog: kernel.watchdog.clone(),
                tools: Instances::new(kernel.tools.clone()),
                services,
                tape,
            },
        );
        let mut store = Store::new(kernel.engine.wasmtime(), state);
        store.limiter(|state| state);
        // What programs pass to tools may be large.
        let handover = if kernel.tools.is_some() { limits.memory_bytes } else { 0 };
        store.set_hostcall_fuel(HANDOVER_BYTES.max(usize::try_from(handover).unwrap_or(usize::MAX)));
        if kernel.metered {
            // Instantiation runs no guest code of ours, but wasmtime wants fuel to be there.
            store.set_fuel(u64::MAX).map_err(cannot_start)?;
        }
        let (python, control) = kernel.engine.instantiate(&mut store).map_err(cannot_start)?;
        interrupt.set_control(control);
        let settings = guest::Settings {
            environment: environment.into_iter().collect(),
            import_paths,
            modules: std::iter::once(service::PACKAGE)
                .chain(kernel.tools.iter().map(|_| "tools"))
                .map(str::to_owned)
                .collect(),
            line_buffered: is_taped || !kernel.engine.flushes(),
        };
        Ok(Session {
            kernel,
            interrupt,
            budget: llm.as_ref().map(|llm| llm.budget().clone()),
            live: Some(Box::new(Live { store, python, settings: Some(settings), llm })),
        })
    }

    /// Runs one turn on a thread of the kernel's.
    ///
    /// Dropping the future stops the turn; the session has then ended, the kernel and its other
    /// sessions go on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SessionEnded`] when an earlier turn was stopped by a limit, a trap or a
    /// cancellation; [`ErrorKind::System`] when the machine cannot go on, for instance because a
    /// temporary workspace cannot be made. Whatever the code itself does is an [`Outcome`].
    pub async fn run(&mut self, turn: impl Into<Turn>) -> Result<Outcome> {
        let turn = turn.into();
        let mut live = self.live.take().ok_or_else(ended)?;
        let stop = StopOnDrop(Some(Arc::clone(&self.interrupt)));
        let kernel = Arc::clone(&self.kernel);
        let interrupt = Arc::clone(&self.interrupt);
        let task = self.kernel.runtime.handle().spawn_blocking(move || {
            let (outcome, alive) = live.run(&kernel, &interrupt, turn)?;
            Ok((outcome, alive.then_some(live)))
        });
        let (outcome, live) = task
            .await
            .map_err(|error| Error::new(ErrorKind::System, "the turn's thread failed").source(error))
            .flatten()?;
        stop.disarm();
        self.live = live;
        Ok(outcome)
    }

    /// Runs one turn on this thread, which is the fastest way for a program without an executor.
    ///
    /// The thread must not be one that drives asynchronous tasks. Its stack may be small.
    ///
    /// # Errors
    ///
    /// As [`Session::run`].
    pub fn run_blocking(&mut self, turn: impl Into<Turn>) -> Result<Outcome> {
        let mut live = self.live.take().ok_or_else(ended)?;
        let (outcome, alive) = live.run(&self.kernel, &self.interrupt, turn.into())?;
        self.live = alive.then_some(live);
        Ok(outcome)
    }

    /// Whether `code` is the beginning of a statement that needs more lines.
    ///
    /// # Errors
    ///
    /// As [`Session::run`].
    pub fn is_incomplete(&mut self, code: &str) -> Result<bool> {
        self.ask(|python, store| python.agentkernel_kernel_guest().call_incomplete(store, code))
    }

    /// Completions of the last name in `text`, each a replacement for that name.
    ///
    /// # Errors
    ///
    /// As [`Session::run`].
    pub fn complete(&mut self, text: &str) -> Result<Vec<String>> {
        self.ask(|python, store| python.agentkernel_kernel_guest().call_complete(store, text))
    }

    /// Asks the guest something beside its turns. A program can make the answer take long, by a
    /// `__dir__` of its own for instance; then the session ends.
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&Python, &mut Store<State>) -> wasmtime::Result<T> + Send,
    ) -> Result<T> {
        let mut live = self.live.take().ok_or_else(ended)?;
        let limit = live.store.data().limits.timeout.map_or(ASK_TIMEOUT, |limit| limit.min(ASK_TIMEOUT));
        let answer = live.limited(&self.kernel, &self.interrupt, Some(limit), question)?;
        let answer = answer.map_err(|_| ended())?;
        self.live = Some(live);
        Ok(answer)
    }

    /// What the session may still ask of models, if it may ask any.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// Whether another turn can run.
    pub fn is_alive(&self) -> bool {
        self.live.is_some()
    }

    /// A handle that stops the current turn from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.interrupt))
    }
}

/// Stops a session's turn from another thread, a signal handler's thread for instance.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Ending, Kernel};
/// use std::time::Duration;
///
/// let kernel = Kernel::new()?;
/// let mut session = kernel.session().start()?;
/// let canceller = session.canceller();
/// std::thread::spawn(move || {
///     std::thread::sleep(Duration::from_millis(50));
///     canceller.cancel();
/// });
/// assert_eq!(session.run_blocking("while True: pass")?.ending, Ending::Cancelled);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Canceller(Arc<Interrupt>);

impl Canceller {
    /// Raises `KeyboardInterrupt` in the current turn, as Ctrl-C does; the session lives on. Does
    /// nothing between turns.
    ///
    /// A second time, and where the host does not own the guest's memory
    /// ([`KernelInfo::host_owned_memory`](crate::KernelInfo::host_owned_memory)), it stops the turn as
    /// [`Canceller::cancel`] does.
    pub fn interrupt(&self) {
        self.0.interrupt();
    }

    /// Whether the turn that runs at the moment is to stop, or the last one was stopped, at its time
    /// limit or because it was cancelled. For an output handler that would otherwise wait.
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }

    /// Stops the current turn, or the next one if none runs. It ends in [`Ending::Cancelled`].
    pub fn cancel(&self) {
        self.0.fire(Reason::Cancelled);
    }
}

struct StopOnDrop(Option<Arc<Interrupt>>);

impl StopOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(interrupt) = &self.0 {
            interrupt.fire(Reason::Cancelled);
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::SessionEnded, "the session has ended: a turn was stopped before it could finish")
        .hint("start a new session")
}

fn cannot_start(error: wasmtime::Error) -> Error {
    Error::new(ErrorKind::System, "cannot start the interpreter").source(error)
}

fn filesystem(preopens: Vec<Preopen>, limits: &Limits) -> Result<FilesystemCtx> {
    let limits = FilesystemLimits {
        open_files: limits.open_files,
        write_bytes: limits.write_bytes,
        new_entries: limits.new_entries,
        path_bytes: limits.path_bytes,
    };
    FilesystemCtx::new(preopens, limits)
}

impl Live {
    /// Calls into the guest with a deadline in force. Gives the ending of a call that did not return.
    fn limited<T>(
        &mut self,
        kernel: &Inner,
        interrupt: &Arc<Interrupt>,
        timeout: Option<Duration>,
        call: impl FnOnce(&Python, &mut Store<State>) -> wasmtime::Result<T> + Send,
    ) -> Result<Result<T, Ending>> {
        if let Some(fuel) = self.store.data().limits.fuel {
            // Only an engine without fuel refuses this, and `start` has checked that.
            let _ = self.store.set_fuel(fuel);
        }
        self.store.data_mut().memory_refused = false;
        // Closing a stream spawns a task.
        let _runtime = kernel.runtime.handle().enter();
        interrupt.begin();
        let watch = kernel.watchdog.watch(interrupt, timeout);
        let result = kernel.stacks.run(|| call(&self.python, &mut self.store));
        drop(watch);
        let ended = interrupt.end();
        let result = result.map_err(|error| {
            Error::new(ErrorKind::System, "the system has no address space for another stack").source(error)
        })?;
        match result {
            Ok(_) if !ended.usable => {
                Err(Error::new(ErrorKind::System, "the system has no memory mappings left"))
            }
            Ok(result) => Ok(Ok(result)),
            // The machine's fault: the program can do nothing about it.
            Err(error) => match error.downcast::<Error>() {
                Ok(fault) => Err(fault),
                Err(error) => Ok(Err(classify(&error, ended.reason, self.store.data()))),
            },
        }
    }

    /// Runs one turn; the flag says whether the session can run another.
    fn run(&mut self, kernel: &Inner, interrupt: &Arc<Interrupt>, turn: Turn) -> Result<(Outcome, bool)> {
        let limits = &self.store.data().limits;
        let (timeout, fuel_limit) = (limits.timeout, limits.fuel);
        let when = |wanted, option| if wanted { option } else { guest::Options::empty() };
        let options = when(turn.mode == Mode::Repl, guest::Options::INTERACTIVE)
            | when(turn.wants_value, guest::Options::VALUE)
            | when(turn.is_last, guest::Options::LAST);
        let turn_llm_limits = turn.llm_limits;
        let state = self.store.data_mut();
        if let Some(tape) = &mut state.tape {
            tape.begin_turn(&turn, &state.console)?;
        }
        let turn = guest::Turn {
            code: turn.code,
            file: turn.file,
            argv: turn.arguments,
            options,
            settings: self.settings.take(),
        };
        if let Some(llm) = &self.llm {
            llm.begin_turn(turn_llm_limits);
        }
        let calls_before = self.store.data().host_calls;
        let (wall, cpu) = (Instant::now(), thread_time());
        let result = self.limited(kernel, interrupt, timeout, |python, store| {
            python.agentkernel_kernel_guest().call_run(store, &turn)
        })?;
        let usage =
            Usage { wall: wall.elapsed(), cpu: thread_time().saturating_sub(cpu), ..Usage::default() };
        let (ending, alive) = match result {
            Ok(guest::Outcome::Completed(value)) => (Ending::Completed(value.map(Value::from)), true),
            Ok(guest::Outcome::Raised(exception)) => (Ending::Raised(exception.into()), true),
            Ok(guest::Outcome::Exited(code)) => (Ending::Exited(code), true),
            Err(ending) => (ending, false),
        };
        let state = self.store.data_mut();
        if let Some(tape) = &mut state.tape {
            tape.end_turn(&ending, &state.console)?;
        }
        // Tools may have given large answers.
        self.store.data_mut().answer = Arc::default();
        self.store.data_mut().end_started();
        let state = self.store.data();
        if !alive && let Some(pending) = interrupt.pending_output() {
            state.console.write(Stream::Stdout, &pending);
        }
        let captured = state.console.take();
        let usage = Usage {
            fuel: fuel_limit.map(|limit| limit.saturating_sub(self.store.get_fuel().unwrap_or(0))),
            peak_memory_bytes: state.peak_memory_bytes,
            output_bytes: captured.written,
            output_dropped_bytes: captured.dropped,
            written_bytes: state.filesystem.bytes_written(),
            host_calls: state.host_calls - calls_before,
            llm: self.llm.as_ref().map(|llm| llm.turn_usage()).unwrap_or_default(),
            ..usage
        };
        let (stdout, stderr) = (captured.stdout, captured.stderr);
        Ok((Outcome { ending, stdout, stderr, usage }, alive))
    }
}

/// What an error that came out of the guest means.
fn classify(error: &wasmtime::Error, stopped: Option<Reason>, state: &State) -> Ending {
    match stopped {
        Some(Reason::Deadline) => return Ending::TimedOut,
        Some(Reason::Cancelled) => return Ending::Cancelled,
        None => {}
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Ending::Exited(*code);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Ending::OutOfFuel,
        Some(Trap::StackOverflow) => Ending::Trapped("the interpreter's stack overflowed".to_owned()),
        _ if state.memory_refused => Ending::OutOfMemory,
        Some(Trap::UnreachableCodeReached) => Ending::Trapped("the interpreter aborted".to_owned()),
        Some(trap) => Ending::Trapped(trap.to_string()),
        None => Ending::Trapped(format!("{error:#}")),
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl From<guest::Value> for Value {
    fn from(value: guest::Value) -> Self {
        Value {
            // A guest that made up its JSON has none, and a large one would take many times its length.
            json: value
                .json
                .filter(|json| json.len() <= JSON_BYTES)
                .and_then(|json| serde_json::from_str(&json).ok()),
            repr: value.repr,
        }
    }
}

impl From<guest::Exception> for Exception {
    fn from(exception: guest::Exception) -> Self {
        let guest::Exception { kind, message, traceback, frames } = exception;
        let frames = frames
            .into_iter()
            .map(|guest::Frame { file, line, function, source }| Frame { file, line, function, source })
            .collect();
        Exception { kind, message, traceback, frames }
    }
}
