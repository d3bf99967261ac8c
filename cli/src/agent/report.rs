//! What a task came to, as the command line says it.

use std::io::{self, IsTerminal};
use std::path::Path;

use agentkernel::agent::{AgentOutcome, AgentStep, Artefact};
use agentkernel::rlm::RunEnding;
use agentkernel::{Change, Stream};
use serde::Serialize;

use crate::arguments::Talk;
use crate::failure::{Failure, Result};
use crate::report::{self, Asked};
use crate::units::{show_bytes, show_duration, show_number_of};
use crate::{hints, llm, output, terminal};

/// Artefacts that are named.
const NAMED: usize = 20;

/// How an outcome is told.
pub struct How<'a> {
    pub json: bool,
    pub talk: Talk,
    pub trajectory: Option<&'a Path>,
}

/// Prints the answer. A terminal would obey what is in it.
pub fn answer(outcome: &AgentOutcome) -> io::Result<()> {
    let Some(answer) = &outcome.answer else { return Ok(()) };
    let mut text = match io::stdout().is_terminal() {
        true => terminal::escaped(answer),
        false => answer.clone(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    output::write(Stream::Stdout, text.as_bytes())
}

/// Says why the task has not ended as it should, if it has not.
pub fn complain(outcome: &AgentOutcome) {
    if let Some(problem) = &outcome.changes_problem {
        let message = format!("changes to files were not applied: {}", terminal::escaped(problem));
        terminal::error(&message, None);
    }
    if outcome.ending == RunEnding::Answered {
        return;
    }
    let reason = terminal::escaped(outcome.message.as_deref().unwrap_or("nobody knows why"));
    let hint = match outcome.ending {
        RunEnding::Limit if reason.contains("steps were made") => {
            Some("give more with `--max-steps`".to_owned())
        }
        RunEnding::Limit => hints::more(&reason),
        _ => None,
    };
    let what = match outcome.answer {
        Some(_) => "this is only the best that was known",
        None => "there is no answer",
    };
    terminal::error(&format!("{what}: {reason}"), hint.as_deref());
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
        usage: report::asked(&outcome.usage),
        wall_seconds: outcome.wall.as_secs_f64(),
        trajectory: how.trajectory.map(|file| file.display().to_string()),
        exit_code,
    };
    let mut text = serde_json::to_string(&report)
        .map_err(|error| Failure::new(format!("the outcome has no JSON form: {error}")))?;
    text.push('\n');
    Ok(output::write(Stream::Stdout, text.as_bytes()))
}
