//! Recursive language models (arXiv 2512.24601): questions about data that fits in no context window.
//!
//! The data is a variable of a Python session, not a prompt. A model writes programs that look at parts
//! of it, search it, and ask models about the rest; sessions may start child sessions. Every run can
//! leave a [`Trajectory`], which [`view`] makes a page of.
//!
//! ```
//! # fn main() -> agentkernel::Result<()> {
//! use agentkernel::Kernel;
//! use agentkernel::llm::{Completing, Completion, Llm, ModelRequest, OnText, Provider, StopReason, Tokens};
//! use agentkernel::rlm::Rlm;
//!
//! /// A model that knows one program.
//! struct Counter;
//!
//! impl Provider for Counter {
//!     fn name(&self) -> &str {
//!         "counter"
//!     }
//!
//!     fn complete<'a>(&'a self, request: &'a ModelRequest, _: Option<OnText<'a>>) -> Completing<'a> {
//!         Box::pin(async {
//!             Ok(Completion {
//!                 text: "```python\nFINAL(sum(range(101)))\n```".into(),
//!                 model: request.model.clone(),
//!                 tokens: Tokens { input: 100, output: 10 },
//!                 stop: StopReason::End,
//!             })
//!         })
//!     }
//! }
//!
//! let kernel = Kernel::builder().llm(Llm::new("counter", Counter)).build()?;
//! let outcome = Rlm::builder(&kernel).build()?.ask_blocking("What is the sum of 1 to 100?")?;
//! assert_eq!(outcome.answer.as_deref(), Some("5050"));
//! assert_eq!((outcome.iterations, outcome.usage.total().calls), (1, 1));
//! # Ok(())
//! # }
//! ```

mod node;
mod prompt;
mod run;
mod service;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::sync::watch;
use tracing::Instrument;

use crate::context::Context;
use crate::llm::{Budget, LlmLimits, LlmUsage};
use crate::replay::Plan;
use crate::steps::Done;
pub use crate::trajectory::{
    AnswerKind, CallKind, ContextPart, Event, Failure, ModelTotals, PromptMessage, PromptRole, Raised,
    Record, RunEnding, Spent, TRAJECTORY_VERSION, Trajectory, Viewed, cut, timestamp, view,
};
use crate::trajectory::{OnEvent, Teller};
use crate::{Error, ErrorKind, Grants, Kernel, Result};
use crate::{Recording, Replaying};
pub(crate) use node::{Audience, Extend, Node, Place, Task};
pub(crate) use run::{Run, Settings};

/// How long it is waited for the thread of a turn that was interrupted.
const LET_GO: Duration = Duration::from_secs(2);

/// How long a block of code may run where nobody says: it waits for models and for children.
pub(crate) const TURN_TIMEOUT: Duration = Duration::from_secs(600);

/// Answers questions by programs that a model writes; see the [module](self).
pub struct Rlm {
    builder: RlmBuilder,
    interrupted: Arc<watch::Sender<bool>>,
}

/// Configures an [`Rlm`].
pub struct RlmBuilder {
    kernel: Kernel,
    grants: Grants,
    context: Option<Context>,
    budget: Option<Budget>,
    settings: Settings,
    trajectory: Trajectory,
    on_event: Option<OnEvent>,
    plan: Plan,
}

/// What a run came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RlmOutcome {
    /// The answer; none if the run failed, or was interrupted before anything was known.
    pub answer: Option<String>,
    /// Whether the answer is only the best that was known when a limit was reached or the run was
    /// interrupted.
    pub best_effort: bool,
    /// How the run ended.
    pub ending: RunEnding,
    /// Why it was not answered as it should be.
    pub message: Option<String>,
    /// Steps that the root made.
    pub iterations: u32,
    /// What was asked of models in all.
    pub usage: LlmUsage,
    /// Why the trajectory is not complete, if it is not: the answer does not get lost by it.
    pub trajectory_problem: Option<String>,
    /// How long it took.
    pub wall: Duration,
}

impl Rlm {
    /// A run to be configured, on the models and tools of a kernel.
    pub fn builder(kernel: &Kernel) -> RlmBuilder {
        let mut grants = Grants::default();
        grants.limits.timeout = Some(TURN_TIMEOUT);
        RlmBuilder {
            kernel: kernel.clone(),
            grants,
            context: None,
            budget: None,
            settings: Settings::default(),
            trajectory: Trajectory::none(),
            on_event: None,
            plan: Plan::default(),
        }
    }

    /// A handle that ends the run from elsewhere, with what is known so far.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.interrupted))
    }

    /// Answers one question.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when a directory cannot be opened, [`ErrorKind::System`] when the machine
    /// cannot go on. What the model or its programs do, and what
    /// providers say, is a [`RlmOutcome`].
    pub async fn ask(self, question: &str) -> Result<RlmOutcome> {
        let Rlm { builder, interrupted } = self;
        let runtime = builder.kernel.runtime();
        let question = question.to_owned();
        let asking = async move { builder.ask(question, interrupted.subscribe()).await };
        let task = AbortOnDrop(runtime.spawn(asking.in_current_span()));
        let mut task = task;
        (&mut task.0).await.map_err(|error| Error::new(ErrorKind::System, "the run failed").source(error))?
    }

    /// As [`Rlm::ask`], for a program without an executor.
    ///
    /// # Errors
    ///
    /// As [`Rlm::ask`].
    pub fn ask_blocking(self, question: &str) -> Result<RlmOutcome> {
        let runtime = self.builder.kernel.runtime();
        runtime.block_on(self.ask(question))
    }
}

pub(crate) struct AbortOnDrop<T>(pub tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends a run from another thread.
#[derive(Clone)]
pub struct Interrupter(pub(crate) Arc<watch::Sender<bool>>);

impl Interrupter {
    /// Ends the run. It gives what is known so far.
    pub fn interrupt(&self) {
        self.0.send_replace(true);
    }
}

impl RlmBuilder {
    /// The data that the question is about. Default: none.
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// What the root session may touch. Children have its limits and nothing else. Default:
    /// [`Grants::default`] with 10 minutes for a block of code.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// What the run may ask of models, its own steps included. Default: the limits of the kernel's models.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Steps that a session may make. Default: 30.
    pub fn max_iterations(mut self, steps: u32) -> Self {
        self.settings.steps.iterations = steps.max(1);
        self
    }

    /// Steps in a row that may fail: whose code raises, or that have none. Default: 5.
    pub fn max_errors(mut self, steps: u32) -> Self {
        self.settings.steps.errors = steps.max(1);
        self
    }

    /// Characters of a block's output that the model is shown. Default: 20,000.
    pub fn shown_output(mut self, characters: usize) -> Self {
        self.settings.steps.shown = characters;
        self
    }

    /// Child sessions of one depth that run at the same time. Default: 8.
    pub fn max_children(mut self, children: u32) -> Self {
        self.settings.children = children.max(1);
        self
    }

    /// Where the events of the run are written. Default: nowhere.
    pub fn trajectory(mut self, trajectory: Trajectory) -> Self {
        self.trajectory = trajectory;
        self
    }

    /// Sees the events of the run as they happen. It must not block. Default: nobody does.
    pub fn on_event(mut self, on_event: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(on_event));
        self
    }

    /// Records the run, its children included, so that it can be replayed
    /// ([`SessionBuilder::record`](crate::SessionBuilder::record)). Default: nothing is recorded.
    pub fn record(mut self, recording: &Recording) -> Self {
        self.plan.record(recording);
        self
    }

    /// Replays a run: no model is asked. What goes another way ends it with an error of
    /// [`ErrorKind::Replay`]. The levels of children are those of the recording. Default: it is no replay.
    pub fn replay(mut self, replaying: &Replaying) -> Self {
        self.plan.replay(replaying);
        self
    }

    /// Makes all sessions of the run deterministic
    /// ([`SessionBuilder::deterministic`](crate::SessionBuilder::deterministic)). Default: no.
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.plan.deterministic(seed);
        self
    }

    /// The run, ready to be asked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when the kernel has no model.
    pub fn build(self) -> Result<Rlm> {
        if self.kernel.llm().is_none() {
            return Err(Error::new(ErrorKind::Grant, "the kernel has no model to answer questions")
                .hint("build it with `KernelBuilder::llm`"));
        }
        Ok(Rlm { builder: self, interrupted: Arc::new(watch::Sender::new(false)) })
    }

    async fn ask(self, question: String, mut interrupted: watch::Receiver<bool>) -> Result<RlmOutcome> {
        let began = Instant::now();
        let RlmBuilder { kernel, grants, context, budget, settings, trajectory, on_event, plan } = self;
        let llm = kernel.llm().cloned().ok_or_else(|| Error::new(ErrorKind::Grant, "there is no model"))?;
        // The run's own, so that its totals are its own.
        let budget = match budget {
            Some(budget) => budget.child(LlmLimits::none()),
            None => llm.budget(),
        };
        let place = Place::root();
        let track = plan.track(Some(place.name.clone()))?;
        let budget = match &track {
            None => budget,
            Some(track) => {
                let depth = track.run(&llm, budget.left().depth);
                match track.is_replay() {
                    false => budget,
                    // What was refused then is in the recording.
                    true => Budget::new(LlmLimits { depth, ..LlmLimits::none() }),
                }
            }
        };
        let teller = Teller::new(trajectory, on_event, llm.hides().cloned());
        let run = Arc::new(Run::new(kernel, llm, settings, teller, plan));
        run.begin(&question, &budget);
        let task = Task {
            place,
            question,
            model: run.llm.model().to_owned(),
            grants,
            budget: budget.clone(),
            context,
            _room: None,
            track: track.clone(),
        };
        let root = Node::new(Arc::clone(&run), task);
        let mut steps = root.question();
        let stopped = std::pin::pin!(interrupted.wait_for(|interrupted| *interrupted));
        let answered = {
            let first = prompt::first(&root.task.question);
            let answering = std::pin::pin!(steps.answer(&root.task.question, &first));
            match select(answering, stopped).await {
                Either::Left((done, _)) => Some(done),
                Either::Right(_) => None,
            }
        };
        let done = answered.unwrap_or_else(|| {
            Ok(Done {
                content: steps.best_known(),
                how: AnswerKind::Limit,
                ending: RunEnding::Interrupted,
                message: Some("the run was interrupted".into()),
                iterations: steps.iterations(),
            })
        });
        // With it ends the session.
        drop(steps);
        // What a turn had in flight is counted, and recorded, when its thread has let go.
        if matches!(&done, Ok(done) if done.ending == RunEnding::Interrupted) {
            let until = Instant::now() + LET_GO;
            while Arc::strong_count(&root) > 1 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let usage = budget.usage();
        let (ending, message) = match &done {
            Ok(done) => (done.ending, done.message.clone()),
            Err(error) => (RunEnding::Failed, Some(error.to_string())),
        };
        let (ended, totals) = (Arc::clone(&run), usage.clone());
        // It may wait for a disk.
        let finished = tokio::task::spawn_blocking(move || ended.end(ending, &totals, message)).await;
        let problem = match finished {
            Ok(finished) => finished.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let done = done?;
        if let Some(track) = &track {
            track.check()?;
        }
        Ok(RlmOutcome {
            best_effort: done.content.is_some() && done.how == AnswerKind::Limit,
            answer: done.content,
            ending,
            message: done.message,
            iterations: done.iterations,
            usage,
            trajectory_problem: problem,
            wall: began.elapsed(),
        })
    }
}
