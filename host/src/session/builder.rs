//! What a session is started with.

use std::sync::Arc;

use tempfile::TempDir;

use super::Session;
use crate::console::{OutputHandler, Stdin, Stream};
use crate::context::Context;
use crate::kernel::Inner;
use crate::llm::{Budget, Llm, Watch};
use crate::replay::{Plan, Recording, Replaying};
use crate::{Grants, Image, Limits, Result, Skills, Workspace, service};

/// Changed memory that is kept for a rollback by default.
const ROLLBACK_BYTES: usize = 64 << 20;

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
    pub(super) kernel: Arc<Inner>,
    pub(super) recipe: Recipe,
    pub(super) stdin: Stdin,
    pub(super) output: Option<OutputHandler>,
    /// Whether it is a fork of another session.
    pub(super) is_fork: bool,
}

/// What a fork of a session is started with as well.
#[derive(Clone)]
pub(super) struct Recipe {
    pub grants: Grants,
    pub llm: Option<Llm>,
    pub budget: Option<Budget>,
    pub watch: Option<Arc<dyn Watch>>,
    pub services: service::Services,
    pub contexts: Vec<(String, Context)>,
    pub plan: Plan,
    pub at: Option<String>,
    pub image: Option<Image>,
    pub rollback: bool,
    pub rollback_bytes: usize,
    pub transactional: bool,
    /// The directory below the overlay that a transactional session has for a temporary workspace.
    pub below: Option<Arc<TempDir>>,
    #[cfg(feature = "state")]
    pub state: Option<crate::State>,
    pub skills: Option<Skills>,
    #[cfg(feature = "tasks")]
    pub tasks: Option<crate::task::Access>,
}

impl SessionBuilder {
    pub(crate) fn new(kernel: Arc<Inner>) -> Self {
        let recipe = Recipe {
            grants: Grants::default(),
            llm: kernel.llm.clone(),
            #[cfg(feature = "state")]
            state: kernel.state.clone(),
            skills: kernel.skills.clone(),
            budget: None,
            watch: None,
            services: Default::default(),
            contexts: Vec::new(),
            plan: Plan::default(),
            at: None,
            image: None,
            rollback: true,
            rollback_bytes: ROLLBACK_BYTES,
            transactional: false,
            below: None,
            #[cfg(feature = "tasks")]
            tasks: None,
        };
        SessionBuilder { kernel, recipe, stdin: Stdin::Empty, output: None, is_fork: false }
    }

    pub(super) fn again(kernel: &Arc<Inner>, recipe: Recipe) -> Self {
        SessionBuilder {
            kernel: Arc::clone(kernel),
            recipe,
            stdin: Stdin::Empty,
            output: None,
            is_fork: true,
        }
    }

    /// What the session starts from, in place of an interpreter that has run nothing. Default: none.
    pub fn image(mut self, image: &Image) -> Self {
        self.recipe.image = Some(image.clone());
        self
    }

    /// Whether a turn that is stopped (a time-out, out of memory, a trap, a cancellation) puts the
    /// session back to where it was before that turn; otherwise it ends the session. Before each turn
    /// from the second on, what the turns before have changed is kept, which takes time and
    /// the changed memory once more (docs/benchmarks.md says what is measured). Files are not put back. Without effect where the host does not own the
    /// guest's memory ([`KernelInfo::host_owned_memory`](crate::KernelInfo::host_owned_memory)). Default: yes.
    pub fn rollback(mut self, rollback: bool) -> Self {
        self.recipe.rollback = rollback;
        self
    }

    /// The most changed memory that is kept for a rollback, in bytes. A session that has changed more ends when a turn
    /// is stopped, as one that has a file open. Default: 64 MiB.
    pub fn rollback_bytes(mut self, bytes: u64) -> Self {
        self.recipe.rollback_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self
    }

    /// Whether files are put back with memory: what a turn that was stopped has done in the workspace is dropped. The
    /// workspace must be an overlay or a temporary one. Default: no.
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.recipe.transactional = transactional;
        self
    }

    /// What the session may touch. Default: [`Grants::default`].
    pub fn grants(mut self, grants: Grants) -> Self {
        self.recipe.grants = grants;
        self
    }

    /// The directory at `/workspace`, read and written. Default: an empty temporary one.
    pub fn workspace(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.recipe.grants.workspace = Workspace::Directory(directory.into());
        self
    }

    /// The limits. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.recipe.grants.limits = limits;
        self
    }

    /// What the program reads as standard input. Default: nothing.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Passes output on as the program writes it, in place of collecting it in the [`Outcome`](crate::Outcome). The
    /// handler runs on the turn's thread; while it blocks, so does the program.
    pub fn on_output(mut self, handler: impl FnMut(Stream, &[u8]) + Send + 'static) -> Self {
        self.output = Some(Box::new(handler));
        self
    }

    /// What the session may ask of models. Sessions may share one, or have a part of it each
    /// ([`Budget::child`]). Default: one with the limits of the kernel's [`Llm`].
    pub fn budget(mut self, budget: Budget) -> Self {
        self.recipe.budget = Some(budget);
        self
    }

    /// Grants no model, though the kernel has one.
    pub fn without_llm(mut self) -> Self {
        self.recipe.llm = None;
        self
    }

    /// What the session's programs keep as `agentkernel.state`. Default: the kernel's.
    #[cfg(feature = "state")]
    pub fn state(mut self, state: crate::State) -> Self {
        self.recipe.state = Some(state);
        self
    }

    /// What the session's programs import from `skills`, and save if they may. Default: the kernel's.
    pub fn skills(mut self, skills: Skills) -> Self {
        self.recipe.skills = Some(skills);
        self
    }

    /// Grants no skills, though the kernel has some.
    pub fn without_skills(mut self) -> Self {
        self.recipe.skills = None;
        self
    }

    /// Grants no state, though the kernel has one.
    #[cfg(feature = "state")]
    pub fn without_state(mut self) -> Self {
        self.recipe.state = None;
        self
    }

    /// Sees the calls of models that the session's programs make. Default: nobody does.
    pub fn watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.recipe.watch = Some(watch);
        self
    }

    /// Records all that enters the session, so that it can be replayed. Its clocks are moved by what it
    /// asks of the host alone, and its random numbers come from a seed: they are no secret. Each line is
    /// passed on by itself. Default: nothing is recorded.
    pub fn record(mut self, recording: &Recording) -> Self {
        self.recipe.plan.record(recording);
        self
    }

    /// Replays a session: nothing is asked of models, tools or standard input, nothing is waited for, and
    /// the same programs do the same. What goes another way ends the session with an error of
    /// [`ErrorKind::Replay`](crate::ErrorKind::Replay). Files are read and written again. Default: it is no replay.
    pub fn replay(mut self, replaying: &Replaying) -> Self {
        self.recipe.plan.replay(replaying);
        self
    }

    /// Makes the session the same each time as far as the host can: clocks begin in 2026 and are moved by
    /// readings and sleeps, which take no time, random numbers come from `seed`, and operations end in the
    /// order in which they were begun. Default: no.
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.recipe.plan.deterministic(seed);
        self
    }

    /// Grants nothing that lasts longer than the session.
    pub(crate) fn without_lasting(self) -> Self {
        #[cfg(feature = "state")]
        let this = self.without_state();
        #[cfg(not(feature = "state"))]
        let this = self;
        this.without_skills()
    }

    /// Models with tokens that others have as well.
    pub(crate) fn llm(mut self, llm: Llm) -> Self {
        self.recipe.llm = Some(llm);
        self
    }

    /// As the session of a run does.
    pub(crate) fn plan(mut self, plan: &Plan, at: String) -> Self {
        (self.recipe.plan, self.recipe.at) = (plan.clone(), Some(at));
        self
    }

    /// Lets the session's programs dispatch background tasks, which get the session's grants or narrower ones, its
    /// directory if it has one, and no model. Default: none.
    #[cfg(feature = "tasks")]
    pub fn tasks(self, tasks: &crate::task::Tasks) -> Self {
        self.task_access(crate::task::Access::new(tasks))
    }

    #[cfg(feature = "tasks")]
    pub(crate) fn task_access(mut self, access: crate::task::Access) -> Self {
        self.recipe.tasks = Some(access);
        self
    }

    /// Adds what else the host offers its programs.
    pub(crate) fn service(mut self, service: Arc<dyn service::Service>) -> Self {
        self.recipe.services.add(service);
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
        match self.recipe.contexts.iter_mut().find(|(given, _)| *given == name) {
            Some((_, given)) => *given = context,
            None => self.recipe.contexts.push((name, context)),
        }
        self
    }

    /// Starts the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`](crate::ErrorKind::Grant) when a directory cannot be opened or a limit makes no sense, and
    /// [`ErrorKind::System`](crate::ErrorKind::System) when the system has no memory or address space left.
    pub fn start(self) -> Result<Session> {
        Session::start(self)
    }
}
