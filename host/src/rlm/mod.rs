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

mod history;
mod node;
mod prompt;
mod reply;
mod run;
mod service;
mod trajectory;
mod view;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::Either;
use tokio::sync::watch;
use tracing::Instrument;

use crate::context::Context;
use crate::llm::{Budget, LlmLimits, LlmUsage, ModelUsage};
use crate::replay::Plan;
use crate::{Error, ErrorKind, Grants, Kernel, Result};
use crate::{Recording, Replaying};
use node::{Done, Node, Place, Task};
use run::{OnEvent, Run, Settings};
pub use trajectory::{
    AnswerKind, CallKind, ContextPart, Event, Failure, ModelTotals, PromptMessage, PromptRole, Raised,
    Record, RunEnding, Spent, TRAJECTORY_VERSION, cut, timestamp,
};
pub use view::{Viewed, view};
pub use writer::Trajectory;

/// How long it is waited for the thread of a turn that was interrupted.
const LET_GO: Duration = Duration::from_secs(2);

/// How long a block of code may run where nobody says: it waits for models and for children.
const TURN_TIMEOUT: Duration = Duration::from_secs(600);

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
            settings: Settings { iterations: 30, errors: 5, shown: 20_000, children: 8 },
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

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends a run from another thread.
#[derive(Clone)]
pub struct Interrupter(Arc<watch::Sender<bool>>);

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
        self.settings.iterations = steps.max(1);
        self
    }

    /// Steps in a row that may fail: whose code raises, or that have none. Default: 5.
    pub fn max_errors(mut self, steps: u32) -> Self {
        self.settings.errors = steps.max(1);
        self
    }

    /// Characters of a block's output that the model is shown. Default: 20,000.
    pub fn shown_output(mut self, characters: usize) -> Self {
        self.settings.shown = characters;
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
        let place = Place { name: "0".into(), depth: 0, parent: None, call: None };
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
        let iterations = settings.iterations;
        let run = Arc::new(Run::new(kernel, llm, settings, trajectory, on_event, plan));
        let llm = &run.llm;
        run.record(|| Event::Start {
            version: TRAJECTORY_VERSION,
            time: timestamp(SystemTime::now()),
            question: question.clone(),
            model: llm.model().to_owned(),
            sub_model: llm.model_of_programs().to_owned(),
            limits: limits(&budget, iterations),
            agentkernel: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let task = Task {
            place: place.clone(),
            question,
            model: llm.model().to_owned(),
            grants,
            budget: budget.clone(),
            context,
            _room: None,
            track: track.clone(),
        };
        let root = Node::new(Arc::clone(&run), task);
        let stopped = std::pin::pin!(interrupted.wait_for(|interrupted| *interrupted));
        let done = match futures_util::future::select(Arc::clone(&root).answer(), stopped).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Ok(Done {
                content: root.best_known(),
                how: AnswerKind::Limit,
                ending: RunEnding::Interrupted,
                message: Some("the run was interrupted".into()),
                iterations: root.iteration.load(Ordering::Relaxed),
            }),
        };
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
        run.record(|| Event::End { ending, totals: totals(&usage), message: message.clone() });
        // It may wait for a disk.
        let written = Arc::clone(&run);
        let finished = tokio::task::spawn_blocking(move || written.trajectory.finish()).await;
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
            message,
            iterations: done.iterations,
            usage,
            trajectory_problem: problem,
            wall: began.elapsed(),
        })
    }
}

/// Limits by the names of their flags.
fn limits(budget: &Budget, iterations: u32) -> serde_json::Map<String, serde_json::Value> {
    let left = budget.left();
    let mut limits = serde_json::Map::new();
    limits.insert("max-iterations".into(), iterations.into());
    limits.insert("max-calls".into(), left.calls.into());
    limits.insert("max-tokens".into(), left.tokens.into());
    limits.insert("max-cost".into(), left.cost.into());
    limits.insert("max-depth".into(), left.depth.into());
    limits.insert("max-concurrency".into(), budget.concurrency().into());
    limits.insert("max-time".into(), left.time.into());
    limits
}

fn totals(usage: &LlmUsage) -> std::collections::BTreeMap<String, ModelTotals> {
    let totals = |usage: &ModelUsage| ModelTotals {
        calls: usage.calls + usage.cached,
        cached: usage.cached,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost: usage.cost.map(crate::llm::Dollars::get),
        hidden: usage.hidden,
    };
    usage.models.iter().map(|(model, usage)| (model.clone(), totals(usage))).collect()
}
