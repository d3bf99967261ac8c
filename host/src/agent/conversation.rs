//! What goes on in an agent: one task after another, in one session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::files::Files;
use super::log::Log;
use super::outcome::{AgentOutcome, artefacts, since};
use super::{AgentTask, prompt};
use crate::llm::{Budget, LlmLimits};
use crate::rlm::{Node, Run};
use crate::steps::{Steps, without_reserve};
use crate::trajectory::AnswerKind;
use crate::{Diff, Error, ErrorKind, Result};

pub(super) struct Conversation {
    pub run: Arc<Run>,
    pub node: Arc<Node>,
    pub steps: Steps,
    pub budget: Budget,
    /// Of one task.
    pub max_time: Option<Duration>,
    pub files: Files,
    pub notes: Arc<Mutex<Vec<String>>>,
    pub log: Log,
    /// Whether a task was begun.
    pub has_begun: bool,
}

/// What became of files.
struct Ended {
    changes: Diff,
    applied: bool,
    problem: Option<String>,
}

impl Conversation {
    pub async fn execute(&mut self, task: AgentTask) -> Result<AgentOutcome> {
        let began = Instant::now();
        let before = self.budget.usage();
        if !self.has_begun {
            self.has_begun = true;
            self.run.begin(task.as_str(), &self.budget);
            self.node.tell(task.as_str());
        }
        self.log.begin();
        for note in self.notes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.steps.note(note);
        }
        if let Some(time) = self.max_time {
            let budget = self.budget.child(LlmLimits { time: Some(time), ..LlmLimits::none() });
            let time = without_reserve(&budget).time;
            let work = self.node.work.child(LlmLimits { time, ..LlmLimits::none() });
            self.steps.within(budget, work);
        }
        let done = match &task {
            AgentTask::Text(text) => self.steps.answer(text, &prompt::task(text)).await,
            AgentTask::Code(code) => self.steps.run(code).await,
        };
        // What was changed counts, however the task ended.
        let ended = end_files(self.files.clone()).await;
        let done = done?;
        let log = self.log.end(done.ending);
        let Ended { changes, applied, problem } = ended?;
        Ok(AgentOutcome {
            best_effort: done.content.is_some() && done.how == AnswerKind::Limit,
            answer: done.content,
            ending: done.ending,
            message: done.message,
            iterations: done.iterations,
            log,
            artefacts: artefacts(&changes),
            changes,
            applied,
            changes_problem: problem,
            usage: since(&self.budget.usage(), &before),
            wall: began.elapsed(),
        })
    }
}

/// Looks at what was changed, and takes it over unless it is held.
async fn end_files(files: Files) -> Result<Ended> {
    let ending = move || {
        let mut ended = Ended { changes: Diff::default(), applied: false, problem: None };
        match files.diff() {
            Ok(changes) => ended.changes = changes,
            // They are not lost by it.
            Err(error) => {
                ended.problem = Some(error.to_string());
                return ended;
            }
        }
        // Also where nothing differs: what the program wrote may be what another has written meanwhile.
        if !files.held {
            match files.apply() {
                Ok(()) => ended.applied = !ended.changes.changes.is_empty(),
                Err(error) => ended.problem = Some(error.to_string()),
            }
        }
        ended
    };
    // It may wait for a disk.
    let ended = tokio::task::spawn_blocking(ending).await;
    ended.map_err(|error| Error::new(ErrorKind::System, "the files could not be looked at").source(error))
}
