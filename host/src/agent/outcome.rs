//! What a task came to.

use std::time::Duration;

use serde::Serialize;

use crate::llm::{Dollars, LlmUsage, ModelUsage};
use crate::trajectory::RunEnding;
use crate::{ChangeKind, Diff, ObjectKind};

/// What one task of an [`Agent`](super::Agent) came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentOutcome {
    /// The answer; none if the task failed, or was stopped before anything was known. Of code it is what it gave
    /// with `FINAL`, or else what it printed and its last value.
    pub answer: Option<String>,
    /// Whether the answer is only the best that was known when a limit was reached or the task was
    /// interrupted.
    pub best_effort: bool,
    /// How the task ended.
    pub ending: RunEnding,
    /// Why it was not done as it should be.
    pub message: Option<String>,
    /// Steps that were made.
    pub iterations: u32,
    /// What was said, run and printed, apart from the answer.
    pub log: Vec<AgentStep>,
    /// Files that are new or changed.
    pub artefacts: Vec<Artefact>,
    /// All that differs from the directory below. With [`hold_changes`](super::AgentBuilder::hold_changes) it
    /// includes what earlier tasks changed and is not applied.
    pub changes: Diff,
    /// Whether the changes are in the directory.
    pub applied: bool,
    /// Why changes that were to be in the directory are not; they are held, and [`Agent::apply`](super::Agent::apply)
    /// tries again.
    pub changes_problem: Option<String>,
    /// What was asked of models for this task, in steps and by programs.
    pub usage: LlmUsage,
    /// How long it took.
    pub wall: Duration,
}

/// One step: a reply of the model and what came of its code. Personal data is covered as in trajectories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AgentStep {
    /// What the model said, its code included; empty where the user ran code.
    pub reply: String,
    /// The code that was run.
    pub blocks: Vec<AgentBlock>,
}

/// One block of code that was run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AgentBlock {
    /// The code.
    pub code: String,
    /// How it ended: a name that [`Ending::name`](crate::Ending::name) gives.
    pub ending: String,
    /// What it printed, its value or traceback, as the model is shown it.
    pub output: String,
}

/// A file that a task made or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Artefact {
    /// Where it is in the workspace, with `/` between names.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// The files that are new or changed.
pub(super) fn artefacts(changes: &Diff) -> Vec<Artefact> {
    let artefact = |change: &crate::Change| {
        let after = change.after.filter(|after| after.kind == ObjectKind::File)?;
        let is_new = change.kind == ChangeKind::Added;
        Some(Artefact { path: change.path.clone(), bytes: after.size, is_new })
    };
    changes.changes.iter().filter_map(artefact).collect()
}

/// What was asked since `before`.
pub(super) fn since(now: &LlmUsage, before: &LlmUsage) -> LlmUsage {
    let mut usage = LlmUsage::default();
    for (model, now) in &now.models {
        let before = before.models.get(model).copied().unwrap_or_default();
        let spent = ModelUsage {
            calls: now.calls - before.calls,
            cached: now.cached - before.cached,
            input_tokens: now.input_tokens.saturating_sub(before.input_tokens),
            output_tokens: now.output_tokens.saturating_sub(before.output_tokens),
            hidden: now.hidden.saturating_sub(before.hidden),
            cost: now.cost.map(|cost| Dollars(cost.0.saturating_sub(before.cost.unwrap_or_default().0))),
        };
        if spent.calls + spent.cached > 0 {
            usage.models.insert(model.clone(), spent);
        }
    }
    usage
}
