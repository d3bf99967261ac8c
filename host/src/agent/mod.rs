//! Agents: tasks done by programs that a model writes, one after another in one session.
//!
//! An [`Agent`] is a conversation. A task is text, which the model works on step by step until it answers, or
//! code, which runs at once. Variables stay from task to task, and so does what was said. Files are changed in
//! an [`Overlay`](crate::Overlay): what a task has changed is known exactly, and taken over into the directory
//! when the task has ended, or when [`Agent::apply`] says so.
//!
//! ```
//! # fn main() -> agentkernel::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! use agentkernel::Kernel;
//! use agentkernel::agent::{Agent, AgentTask};
//! use agentkernel::llm::{Llm, Script};
//!
//! /// A model that knows two tasks.
//! fn model() -> Llm {
//!     let code = "```python\nrows = [3, 1, 2]\nopen('sorted.txt', 'w').write(str(sorted(rows)))\n```";
//!     let script = Script::new()
//!         .reply("Task: Sort", code)
//!         .reply("^Output", "FINAL(They are in sorted.txt.)")
//!         .reply("Task: How many", "```python\nFINAL(len(rows))\n```");
//!     Llm::new("scripted", script)
//! }
//!
//! let kernel = Kernel::builder().llm(model()).build()?;
//! let mut agent = Agent::builder(&kernel).workspace(directory).build()?;
//!
//! let outcome = agent.execute_task_blocking("Sort the rows.")?;
//! assert_eq!(outcome.answer.as_deref(), Some("They are in sorted.txt."));
//! assert_eq!(outcome.artefacts[0].path, "sorted.txt");
//! assert_eq!(std::fs::read_to_string(directory.join("sorted.txt")).unwrap(), "[1, 2, 3]");
//!
//! agent.execute_task_blocking(AgentTask::code("rows.append(4)"))?;
//! let outcome = agent.execute_task_blocking("How many rows are there?")?;
//! assert_eq!(outcome.answer.as_deref(), Some("4"));
//! # Ok(())
//! # }
//! ```

mod builder;
mod conversation;
mod files;
mod log;
mod outcome;
mod prompt;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::Instrument;

pub use builder::AgentBuilder;
#[cfg(feature = "providers")]
pub use builder::create_agent;
use conversation::Conversation;
use files::Files;
use log::Log;
pub use outcome::{AgentBlock, AgentOutcome, AgentStep, Artefact};

pub use crate::rlm::Interrupter;
use crate::rlm::{AbortOnDrop, Run};
use crate::trajectory::{Event, RunEnding};
use crate::{Diff, Error, ErrorKind, Kernel, Result, Stream};

/// Bytes of a task: it is part of every prompt.
const LONGEST_TASK: usize = 1 << 20;

/// What an [`Agent`] is given to do. Made of a text; code has to be called so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentTask {
    /// Words, which the model works on.
    Text(String),
    /// Python, which is run in the agent's session at once. No model is asked; it hears of the code and its output
    /// with the next task.
    Code(String),
}

impl AgentTask {
    /// A task in words.
    pub fn text(text: impl Into<String>) -> Self {
        AgentTask::Text(text.into())
    }

    /// Code to run.
    pub fn code(code: impl Into<String>) -> Self {
        AgentTask::Code(code.into())
    }

    fn as_str(&self) -> &str {
        match self {
            AgentTask::Text(text) | AgentTask::Code(text) => text,
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: &str, hint: &str| Err(Error::new(ErrorKind::Grant, message).hint(hint));
        match self.as_str() {
            text if text.trim().is_empty() => wrong("the task is empty", "say what is to be done"),
            text if text.len() > LONGEST_TASK => wrong(
                "a task may have 1 MiB, and this one has more",
                "give data as a file or with `AgentBuilder::context`",
            ),
            _ => Ok(()),
        }
    }
}

impl From<&str> for AgentTask {
    fn from(text: &str) -> Self {
        AgentTask::text(text)
    }
}

impl From<String> for AgentTask {
    fn from(text: String) -> Self {
        AgentTask::Text(text)
    }
}

/// What happens while an agent works.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AgentEvent<'a> {
    /// A piece of what the model says, as it comes in; all at once where its provider does not stream. When a call
    /// is lost and made again, its pieces come again.
    Text(&'a str),
    /// What a program writes, as it writes it.
    Output(Stream, &'a [u8]),
    /// Something that trajectories have as well: a reply is complete, code begins to run or has ended, a program
    /// asks a model.
    Event(&'a Event),
}

/// A model that does tasks by programs, in one session; see the [module](self).
///
/// Dropping it ends the session.
pub struct Agent {
    kernel: Kernel,
    run: Arc<Run>,
    budget: crate::llm::Budget,
    conversation: Arc<tokio::sync::Mutex<Conversation>>,
    files: Files,
    /// What the model is told with its next task.
    notes: Arc<Mutex<Vec<String>>>,
    log: Log,
    interrupted: Arc<watch::Sender<bool>>,
    ended: bool,
}

impl Agent {
    /// An agent to be configured, on the models and tools of a kernel.
    pub fn builder(kernel: &Kernel) -> AgentBuilder {
        AgentBuilder::new(kernel)
    }

    /// Does one task; those before it are remembered.
    ///
    /// Dropping the future stops the task, and ends the session: the next task begins in a new one, and the model is
    /// told so. [`Interrupter::interrupt`] stops a task and keeps the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when the task is empty or too long, or a directory cannot be opened,
    /// [`ErrorKind::System`] when the machine cannot go on. What the model or its programs do, and what providers
    /// say, is an [`AgentOutcome`].
    pub async fn execute_task(&mut self, task: impl Into<AgentTask>) -> Result<AgentOutcome> {
        let task = task.into();
        task.check()?;
        self.interrupted.send_replace(false);
        let conversation = Arc::clone(&self.conversation);
        let executing = async move { conversation.lock().await.execute(task).await };
        let mut executing = AbortOnDrop(self.kernel.runtime().spawn(executing.in_current_span()));
        let ended = (&mut executing.0).await;
        ended.map_err(|error| Error::new(ErrorKind::System, "the task failed").source(error))?
    }

    /// As [`Agent::execute_task`], for a program without an executor.
    ///
    /// # Errors
    ///
    /// As [`Agent::execute_task`].
    pub fn execute_task_blocking(&mut self, task: impl Into<AgentTask>) -> Result<AgentOutcome> {
        let runtime = self.kernel.runtime();
        runtime.block_on(self.execute_task(task))
    }

    /// A handle that ends the current task from elsewhere, with what is known so far. Between tasks it does nothing.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.interrupted))
    }

    /// What differs from the directory and is not applied: all that was changed since the last
    /// [`Agent::apply`] or [`Agent::discard`], with [`AgentBuilder::hold_changes`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when files cannot be read.
    pub fn diff(&self) -> Result<Diff> {
        self.files.diff()
    }

    /// Takes changes over into the directory: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when somebody else has changed the directory meanwhile where the agent has;
    /// [`ErrorKind::System`] when it cannot be written. The changes are still held then.
    pub fn apply(&mut self) -> Result<()> {
        self.files.apply()
    }

    /// Copies changes that are not applied to layers of an overlay that outlive the agent
    /// ([`Overlay::open`](crate::Overlay::open) opens them over the same directory).
    ///
    /// # Errors
    ///
    /// When the directory `layers` cannot be used or has layers already.
    pub fn keep_changes(&self, layers: impl AsRef<Path>) -> Result<()> {
        self.files.keep(layers.as_ref())
    }

    /// Drops changes that are not applied. The model is told so with its next task.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when the directory cannot be looked at.
    pub fn discard(&mut self) -> Result<()> {
        // What cannot be compared differs.
        let has_changes = self.files.diff().map_or(true, |diff| !diff.changes.is_empty());
        self.files.discard()?;
        if has_changes {
            let note = "The user dropped your changes to files: they are as they were before them.";
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note.to_owned());
        }
        Ok(())
    }

    /// What the agent may still ask of models.
    pub fn budget(&self) -> &crate::llm::Budget {
        &self.budget
    }

    /// Ends the conversation, and waits until its trajectory is written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when the trajectory does not have all that happened.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        match self.log.ending() {
            Some(ending) if !self.ended => {
                self.ended = true;
                let message =
                    (ending != RunEnding::Answered).then(|| "the last task was not done".to_owned());
                self.run.end(ending, &self.budget.usage(), message)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{error}");
        }
    }
}
