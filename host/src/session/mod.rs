//! A live interpreter with its own namespace, workspace, grants and limits.

mod builder;
mod canceller;
mod fork;
mod keep;
mod live;
mod start;
mod told;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use crate::bindings::{Python, guest};
use crate::engine::{Frozen, Interrupt, Memory};
use crate::kernel::Inner;
use crate::llm::{Budget, LlmService};
use crate::outcome::Outcome;
use crate::state::State;
use crate::turn::Turn;
use crate::{Error, ErrorKind, Files, Overlay, Result};
pub use builder::SessionBuilder;
pub use canceller::Canceller;
use canceller::StopOnDrop;
use keep::After;
use told::Told;
pub use transaction::Transaction;

/// What a question beside the turns may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

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
    recipe: builder::Recipe,
    told: Told,
    /// How often it was forked.
    forks: u32,
    /// What the program held when the session ended, if that is why it could not go back.
    held: Vec<String>,
}

/// What moves to the thread that runs a turn.
struct Live {
    store: Store<State>,
    python: Python,
    memory: Memory,
    /// Given to the guest with the first turn of an instance.
    settings: guest::Settings,
    is_configured: bool,
    /// Whether a turn has run since the point.
    has_run: bool,
    llm: Option<Arc<LlmService>>,
    /// Whether it goes back when a turn was stopped.
    rollback: bool,
    /// The most that is kept for that.
    rollback_bytes: usize,
    /// What goes back with it.
    overlay: Option<Overlay>,
    /// Where it goes back to: the state before the last turn.
    point: keep::Point,
    /// What was kept last for others: what is kept next shares its pages.
    latest: Option<Arc<Frozen>>,
}

impl Session {
    /// Runs one turn on a thread of the kernel's.
    ///
    /// Dropping the future stops the turn; the session has then ended, the kernel and its other
    /// sessions go on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SessionEnded`] when an earlier turn was stopped by a limit, a trap or a
    /// cancellation; [`ErrorKind::System`] when the machine cannot go on, for instance because a
    /// temporary workspace cannot be made. Where the files of a transactional session cannot be kept, the
    /// turn is taken back, and the session lives on if its memory can be put back. Whatever the code
    /// itself does is an [`Outcome`].
    pub async fn run(&mut self, turn: impl Into<Turn>) -> Result<Outcome> {
        let turn = turn.into();
        let live = self.live.take().ok_or_else(|| self.ended())?;
        let stop = StopOnDrop(Some(Arc::clone(&self.interrupt)));
        let kernel = Arc::clone(&self.kernel);
        let interrupt = Arc::clone(&self.interrupt);
        let span = self.told.turn(&turn);
        let run = move || told::turn(live, &kernel, &interrupt, turn, &span);
        let task = self.kernel.runtime.handle().spawn_blocking(run);
        let (outcome, after) = task
            .await
            .map_err(|error| Error::new(ErrorKind::System, "the turn's thread failed").source(error))
            .flatten()?;
        stop.disarm();
        self.take_up(after);
        outcome
    }

    fn take_up(&mut self, after: After) {
        match after {
            After::Live(live) => self.live = Some(live),
            After::Ended(held) => self.held = held,
        }
    }

    fn ended(&self) -> Error {
        match self.held.is_empty() {
            true => ended(),
            false => Error::new(
                ErrorKind::SessionEnded,
                format!(
                    "the session has ended: a turn was stopped before it could finish, and the state before it could not be kept while the program held {}",
                    self.held.join(", ")
                ),
            )
            .hint("start a new session; close files and resources of tools (use `with`), and await tasks, before a turn ends"),
        }
    }

    /// Runs one turn on this thread, which is the fastest way for a program without an executor.
    ///
    /// The thread must not be one that drives asynchronous tasks. Its stack may be small.
    ///
    /// # Errors
    ///
    /// As [`Session::run`].
    pub fn run_blocking(&mut self, turn: impl Into<Turn>) -> Result<Outcome> {
        let live = self.live.take().ok_or_else(|| self.ended())?;
        let turn = turn.into();
        let span = self.told.turn(&turn);
        let (outcome, after) = told::turn(live, &self.kernel, &self.interrupt, turn, &span)?;
        self.take_up(after);
        outcome
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
        let mut live = self.live.take().ok_or_else(|| self.ended())?;
        let limit = live.store.data().limits.timeout.map_or(ASK_TIMEOUT, |limit| limit.min(ASK_TIMEOUT));
        let answer = live.beside(&self.kernel, &self.interrupt, limit, question)?;
        let answer = answer.map_err(|_| ended())?;
        self.live = Some(live);
        Ok(answer)
    }

    /// What the session may still ask of models, if it may ask any.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// The files at `/workspace`, to be looked at beside the program; nothing if the session has ended. What it
    /// gives stays of use while turns run, and keeps a temporary workspace there.
    pub fn files(&self) -> Option<Files> {
        self.live.as_ref()?.store.data().filesystem.files()
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

fn ended() -> Error {
    Error::new(ErrorKind::SessionEnded, "the session has ended: a turn was stopped before it could finish")
        .hint("start a new session")
}
