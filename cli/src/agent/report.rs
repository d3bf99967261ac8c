//! What a task came to, as the command line says it.

use std::io;
use std::path::Path;

use agentkernel::agent::{AgentOutcome, AgentStep, Artefact};
use agentkernel::report::Asked;
use agentkernel::rlm::RunEnding;
use agentkernel::{Change, Stream};
use serde::Serialize;

use crate::arguments::Talk;
use crate::failure::{Failure, Result};
use crate::units::{show_bytes, show_duration, show_number_of};
use crate::{answer, llm, output, terminal};

/// Artefacts that are named.
const NAMED: usize = 20;

/// How an outcome is told.
pub struct How<'a> {
    pub json: bool,
    pub talk: Talk,
    pub trajectory: Option<&'a Path>,
}

/// Says why changes are not in the directory, if they should be.
pub fn complain_of_changes(outcome: &AgentOutcome) {
    if let Some(problem) = &outcome.changes_problem {
        let message = format!("changes to files were not applied: {}", terminal::escaped(problem));
        terminal::error(&message, None);
    }
}

/// Says why the task has not ended as it should, if it has not.
pub fn complain(outcome: &AgentOutcome) {
    let (message, has_answer) = (outcome.message.as_deref(), outcome.answer.is_some());
    answer::complain(outcome.ending, has_answer, message, "--max-steps");
}

/// Says what it left and what it took. Where changes are held they have been told.
pub fn remarks(outcome: &AgentOutcome, holds: bool) {
    if !holds {
        for Artefact { path, bytes, is_new, .. } in outcome.artefacts.iter().take(NAMED) {
            let what = if *is_new { "new" } else { "changed" };
            let path = terminal::escaped(path).replace('\n', "\\n");
            terminal::remark(&format!("{what:<8} {path}, {}", show_bytes(*bytes)));
        }
        if outcome.artefacts.len() > NAMED {
            terminal::remark(&format!("{} more", outcome.artefacts.len() - NAMED));
        }
    }
    let steps = show_number_of(outcome.iterations.into(), "step");
    let (asked, wall) = (llm::used(&outcome.usage), show_duration(outcome.wall));
    terminal::remark(&format!("{steps}, {asked}, {wall}"));
}

/// The object that `--json` prints; docs/agent.schema.json describes it.
#[derive(Serialize)]
struct Report<'a> {
    answer: Option<&'a str>,
    best_effort: bool,
    ending: RunEnding,
    message: Option<&'a str>,
    iterations: u32,
    artefacts: &'a [Artefact],
    changes: &'a [Change],
    applied: bool,
    changes_problem: Option<&'a str>,
    log: &'a [AgentStep],
    usage: std::collections::BTreeMap<String, Asked>,
    wall_seconds: f64,
    trajectory: Option<String>,
    exit_code: i32,
}

pub fn json(outcome: &AgentOutcome, how: &How<'_>, exit_code: i32) -> Result<io::Result<()>> {
    let report = Report {
        answer: outcome.answer.as_deref(),
        best_effort: outcome.best_effort,
        ending: outcome.ending,
        message: outcome.message.as_deref(),
        iterations: outcome.iterations,
        artefacts: &outcome.artefacts,
        changes: &outcome.changes.changes,
        applied: outcome.applied,
        changes_problem: outcome.changes_problem.as_deref(),
        log: &outcome.log,
        usage: Asked::of(&outcome.usage),
        wall_seconds: outcome.wall.as_secs_f64(),
        trajectory: how.trajectory.map(|file| file.display().to_string()),
        exit_code,
    };
    let mut text = serde_json::to_string(&report)
        .map_err(|error| Failure::new(format!("the outcome has no JSON form: {error}")))?;
    text.push('\n');
    Ok(output::write(Stream::Stdout, text.as_bytes()))
}
