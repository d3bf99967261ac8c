//! What an agent is made with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::conversation::Conversation;
use super::files::Files;
use super::log::Log;
use super::{Agent, AgentEvent, prompt};
use crate::context::Context;
use crate::llm::{Budget, LlmLimits};
use crate::replay::Plan;
use crate::rlm::{Audience, Extend, Node, Place, Run, Settings, TURN_TIMEOUT, Task};
use crate::trajectory::{Teller, Trajectory};
use crate::{Error, ErrorKind, Grants, Kernel, Result, Workspace, steps};

/// Sees what happens.
type OnEvent = Arc<dyn Fn(AgentEvent<'_>) + Send + Sync>;

/// Configures an [`Agent`].
#[must_use]
pub struct AgentBuilder {
    kernel: Kernel,
    grants: Grants,
    context: Option<Context>,
    budget: Option<Budget>,
    settings: Settings,
    max_time: Option<Duration>,
    hold: bool,
    trajectory: Trajectory,
    on_event: Option<OnEvent>,
    #[cfg(feature = "tasks")]
    tasks: Option<crate::task::Tasks>,
}

/// An agent on the model that the environment names, with the default limits and an empty temporary workspace.
///
/// `AGENTKERNEL_LLM_MODEL` names the model; `AGENTKERNEL_LLM_PROVIDER` and the variables that
/// [`provider_from_environment`](crate::llm::provider_from_environment) lists say who answers for it. For a
/// workspace, tools and limits of your own build a [`Kernel`] and use [`Agent::builder`].
///
/// ```no_run
/// # fn main() -> agentkernel::Result<()> {
/// let mut agent = agentkernel::create_agent()?;
/// let outcome = agent.execute_task_blocking("How many days are there from 1 March to Christmas?")?;
/// println!("{}", outcome.answer.unwrap_or_default());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ErrorKind::Model`] when no model is named or its provider is not configured, otherwise as
/// [`KernelBuilder::build`](crate::KernelBuilder::build).
#[cfg(feature = "providers")]
pub fn create_agent() -> Result<Agent> {
    Agent::from_environment(|name| std::env::var(name).ok())
}

impl Agent {
    /// As [`create_agent`], with variables that `lookup` gives; empty values count as absent.
    ///
    /// # Errors
    ///
    /// As [`create_agent`].
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let file = directory.path().join("script.toml");
    /// use agentkernel::agent::Agent;
    ///
    /// std::fs::write(&file, "[[rule]]\nmatch = \"Task: Add\"\nreply = \"```python\\nFINAL(20 + 22)\\n```\"\n").unwrap();
    /// let mut agent = Agent::from_environment(|name| match name {
    ///     "AGENTKERNEL_LLM_MODEL" => Some("any".to_owned()),
    ///     "AGENTKERNEL_LLM_PROVIDER" => Some(format!("script:{}", file.display())),
    ///     _ => None,
    /// })?;
    /// assert_eq!(agent.execute_task_blocking("Add 20 and 22.")?.answer.as_deref(), Some("42"));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "providers")]
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Agent> {
        use crate::llm::{HttpOptions, Llm, provider_from_environment};

        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let model = get("AGENTKERNEL_LLM_MODEL").ok_or_else(|| {
            Error::new(ErrorKind::Model, "no model is named for the agent")
                .hint("set AGENTKERNEL_LLM_MODEL, and the variables of its provider (docs/llm.md)")
        })?;
        let provider = get("AGENTKERNEL_LLM_PROVIDER");
        let provider =
            provider_from_environment(provider.as_deref(), Some(&model), &HttpOptions::new(), get)?;
        let kernel = Kernel::builder().llm(Llm::with(model, provider)).build()?;
        Agent::builder(&kernel).build()
    }
}

impl AgentBuilder {
    pub(super) fn new(kernel: &Kernel) -> Self {
        let mut grants = Grants::default();
        grants.limits.timeout = Some(TURN_TIMEOUT);
        AgentBuilder {
            kernel: kernel.clone(),
            grants,
            context: None,
            budget: None,
            settings: Settings::default(),
            max_time: None,
            hold: false,
            trajectory: Trajectory::none(),
            on_event: None,
            #[cfg(feature = "tasks")]
            tasks: None,
        }
    }

    /// What the agent's session may touch. An overlay as its workspace is yours: its changes are held. Default:
    /// [`Grants::default`] with 10 minutes for a block of code.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// The directory at `/workspace`. Default: an empty temporary one.
    pub fn workspace(mut self, directory: impl Into<PathBuf>) -> Self {
        self.grants.workspace = Workspace::Directory(directory.into());
        self
    }

    /// Whether changes to files stay apart from the directory until [`Agent::apply`] or [`Agent::discard`].
    /// Default: they are taken over when a task has ended, however it did.
    pub fn hold_changes(mut self, hold: bool) -> Self {
        self.hold = hold;
        self
    }

    /// Data that programs read as `context`, of any size. Default: none.
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// What the agent may ask of models in all its tasks, its own steps included. Default: the limits of the kernel's
    /// models.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Steps that the model may make for a task. Default: 30.
    pub fn max_steps(mut self, steps: u32) -> Self {
        self.settings.steps.iterations = steps.max(1);
        self
    }

    /// Steps in a row that may fail: whose code raises, or that have none. Default: 5.
    pub fn max_errors(mut self, steps: u32) -> Self {
        self.settings.steps.errors = steps.max(1);
        self
    }

    /// Time that a task may take; a part of it, at most 30 seconds, is kept for the last answer. Default: no limit.
    pub fn max_time(mut self, time: Duration) -> Self {
        self.max_time = Some(time);
        self
    }

    /// Characters of a block's output that the model is shown. Default: 20,000.
    pub fn shown_output(mut self, characters: usize) -> Self {
        self.settings.steps.shown = characters;
        self
    }

    /// Bytes of the conversation that a request has, beside the system prompt. Of longer ones the middle of what was
    /// shown long ago is left out, then the oldest messages; earlier tasks are named with the beginnings of their
    /// answers. The task itself and the newest messages are always whole. Default: 300,000.
    pub fn max_history(mut self, bytes: usize) -> Self {
        self.settings.steps.history = bytes;
        self
    }

    /// Child sessions of one depth that run at the same time. Default: 8.
    pub fn max_children(mut self, children: u32) -> Self {
        self.settings.children = children.max(1);
        self
    }

    /// Where the events of the conversation are written. Default: nowhere.
    pub fn trajectory(mut self, trajectory: Trajectory) -> Self {
        self.trajectory = trajectory;
        self
    }

    /// Sees what happens as it does. It must not block. Default: nobody does.
    pub fn on_event(mut self, on_event: impl Fn(AgentEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(on_event));
        self
    }

    /// Lets the agent's programs dispatch background tasks
    /// ([`SessionBuilder::tasks`](crate::SessionBuilder::tasks)). Default: none.
    #[cfg(feature = "tasks")]
    pub fn tasks(mut self, tasks: &crate::task::Tasks) -> Self {
        self.tasks = Some(tasks.clone());
        self
    }

    /// The agent, ready for its first task. Its session is started by that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when the kernel has no model, or the workspace cannot be opened.
    pub fn build(self) -> Result<Agent> {
        let Some(llm) = self.kernel.llm().cloned() else {
            return Err(Error::new(ErrorKind::Grant, "the kernel has no model for the agent")
                .hint("build it with `KernelBuilder::llm`"));
        };
        let mut grants = self.grants;
        let files = Files::open(&mut grants, self.hold)?;
        // The agent's own, so that its totals are its own.
        let budget = match self.budget {
            Some(budget) => budget.child(LlmLimits::none()),
            None => llm.budget(),
        };
        #[cfg(feature = "tasks")]
        let (has_tasks, extend) = (self.tasks.is_some(), self.tasks.map(dispatching));
        #[cfg(not(feature = "tasks"))]
        let (has_tasks, extend): (bool, Option<Extend>) = (false, None);
        let log = Log::default();
        let (seen, on_event) = (log.clone(), self.on_event.clone());
        let see = move |event: &crate::rlm::Event| {
            seen.see(event);
            if let Some(on_event) = &on_event {
                on_event(AgentEvent::Event(event));
            }
        };
        let teller = Teller::new(self.trajectory, Some(Arc::new(see)), llm.hides().cloned());
        let shown = self.settings.steps.shown;
        let run = Arc::new(Run::new(self.kernel.clone(), llm, self.settings, teller, Plan::default()));
        let task = Task {
            place: Place::root(),
            question: String::new(),
            model: run.llm.model().to_owned(),
            grants: grants.clone(),
            budget: budget.clone(),
            context: self.context,
            _room: None,
            track: None,
        };
        let node = Node::extended(Arc::clone(&run), task, extend);
        let system = prompt::system(&prompt::Has {
            grants: &grants,
            context: node.task.context.as_ref(),
            can_recurse: node.can_recurse(),
            tools: &self.kernel.tools(),
            lasting: steps::prompt::lasting(self.kernel.inner()),
            tasks: has_tasks,
            shown,
        });
        let interrupted = Arc::new(watch::Sender::new(false));
        let (text, output) = (self.on_event.clone(), self.on_event);
        let audience = Audience {
            interrupted: interrupted.subscribe(),
            on_text: Arc::new(move |piece| {
                text.iter().for_each(|on_event| on_event(AgentEvent::Text(piece)));
            }),
            on_output: Arc::new(move |stream, bytes| {
                output.iter().for_each(|on_event| on_event(AgentEvent::Output(stream, bytes)));
            }),
        };
        let steps = node.steps(system, Some(audience));
        let notes = Arc::new(Mutex::default());
        let conversation = Conversation {
            run: Arc::clone(&run),
            node,
            steps,
            budget: budget.clone(),
            max_time: self.max_time,
            files: files.clone(),
            notes: Arc::clone(&notes),
            log: log.clone(),
            has_begun: false,
        };
        let conversation = Arc::new(tokio::sync::Mutex::new(conversation));
        Ok(Agent {
            kernel: self.kernel,
            run,
            budget,
            conversation,
            files,
            notes,
            log,
            interrupted,
            ended: false,
        })
    }
}

/// Lets a session dispatch tasks.
#[cfg(feature = "tasks")]
fn dispatching(tasks: crate::task::Tasks) -> Extend {
    Box::new(move |session| session.tasks(&tasks))
}
