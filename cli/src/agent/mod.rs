//! `agentkernel agent`: tasks done by programs that a model writes.

mod approval;
mod conversation;
mod left;
mod narrator;
mod report;

use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentkernel::agent::{Agent, AgentOutcome};
use agentkernel::rlm::Trajectory;
use agentkernel::{Grants, Workspace};

use self::approval::Approval;
use self::narrator::Narrator;
use crate::arguments;
use crate::changes::{self, Kept};
use crate::failure::{Failure, Result};
use crate::input::{Input, input};
use crate::output::unwritten;
use crate::repetition::Again;
use crate::run::context;
use crate::settings::Settings;
use crate::signals::Stopper;
use crate::task::Background;
use crate::{answer, llm, terminal};

/// Bytes of a task: it is part of every prompt.
const LONGEST_TASK: u64 = 1 << 20;

pub fn run(arguments: arguments::Agent) -> Result<i32> {
    let talk = arguments.talk;
    let task = arguments.task.map(task).transpose()?;
    let settings = Settings::with_timeout(
        arguments.sandbox,
        &arguments.models,
        &Again::default(),
        answer::BLOCK_TIMEOUT,
    )?
    .lasting(&arguments.lasting)?;
    let granted = settings.llm.as_ref().ok_or_else(llm::absent)?;
    let approval = Approval::new(arguments.approve, &settings.grants)?;
    if talk.verbose
        && let Some(file) = &settings.config_file
    {
        terminal::remark(&format!("configured by `{}`", file.display()));
    }
    let context = context(&arguments.data.contexts, &settings)?;
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let background = Background::start(&arguments.tasks, &settings, &kernel)?;
    let holders = granted.holders();
    let (budget, max_time) = granted.conversation();
    let mut builder =
        Agent::builder(&kernel).grants(settings.grants.clone()).hold_changes(approval.holds()).budget(budget);
    if let Some(time) = max_time {
        builder = builder.max_time(time);
    }
    if let Some(context) = context {
        builder = builder.context(context);
    }
    if let Some(steps) = arguments.max_steps {
        builder = builder.max_steps(steps);
    }
    if let Some(steps) = arguments.effort.max_errors {
        builder = builder.max_errors(steps);
    }
    if let Some(children) = arguments.effort.max_children {
        builder = builder.max_children(children);
    }
    if let Some(background) = &background {
        builder = builder.tasks(&background.tasks);
    }
    if let Some(file) = &arguments.trajectory {
        builder = builder.trajectory(Trajectory::create(file)?);
    }
    let narrator = Narrator::start(talk);
    if let Some(on_event) = narrator.handler() {
        builder = builder.on_event(on_event);
    }
    let mut agent = builder.build()?;
    let code = match &task {
        Some(task) => {
            let how = report::How { json: arguments.json, talk, trajectory: arguments.trajectory.as_deref() };
            once(&mut agent, &settings.grants, task, approval, &narrator, &how)
        }
        None => conversation::hold(&mut agent, &kernel, &settings.grants, approval, &narrator, talk),
    };
    let finished = agent.finish();
    narrator.end();
    answer::wait_for(|| granted.holders() > holders);
    if let Some(background) = background {
        background.end(talk);
    }
    let code = code?;
    if let Err(error) = finished {
        terminal::error(&terminal::escaped(&error.to_string()), Some("the answer is not touched by it"));
    }
    Ok(code)
}

/// Does one task, and says what came of it.
fn once(
    agent: &mut Agent,
    grants: &Grants,
    task: &str,
    approval: Approval,
    narrator: &Narrator,
    how: &report::How<'_>,
) -> Result<i32> {
    let interrupter = agent.interrupter();
    let (input, wake) =
        input().map_err(|error| Failure::new(format!("cannot listen to the terminal: {error}")))?;
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    // The first signal ends the task, or the question after it.
    let stopper = Stopper::start(move || match ended.load(Ordering::SeqCst) {
        true => wake.wake(),
        false => interrupter.interrupt(),
    });
    let mut outcome = match agent.execute_task_blocking(task) {
        Ok(outcome) => outcome,
        Err(error) => {
            // What was to be applied when the task has ended, however it does.
            if !approval.holds() && agent.diff().map_or(true, |diff| !diff.changes.is_empty()) {
                hint_at(keep(agent, grants, &error.to_string()));
            }
            return Err(error.into());
        }
    };
    has_ended.store(true, Ordering::SeqCst);
    narrator.settle();
    let printed = match how.json {
        true => Ok(()),
        false => answer::print(outcome.answer.as_deref()),
    };
    // What nobody reads is no reason to drop what was approved beforehand.
    let can_ask = printed.is_ok();
    approval.end(agent, &mut outcome, how.talk, || can_ask && approval::asked(input))?;
    report::complain_of_changes(&outcome);
    if let Some(problem) = &outcome.changes_problem {
        hint_at(keep(agent, grants, problem));
    }
    if let Err(error) = printed {
        report::complain(&outcome);
        return unwritten(&error);
    }
    let code = match stopper.ended() {
        Some(signal) => signal.exit_code(),
        None => exit_code(&outcome),
    };
    if how.json {
        return match report::json(&outcome, how, code)? {
            Ok(()) => Ok(code),
            Err(error) => unwritten(&error),
        };
    }
    report::complain(&outcome);
    if !how.talk.quiet {
        report::remarks(&outcome, approval.holds());
    }
    Ok(code)
}

/// Keeps changes that could not be applied to a directory of the user's.
fn keep(agent: &Agent, grants: &Grants, why: &str) -> Option<Kept> {
    let Workspace::Directory(directory) = &grants.workspace else { return None };
    let count = agent.diff().ok().map(|diff| diff.changes.len());
    Some(changes::keep("agent", directory, count, why, |layers| agent.keep_changes(layers)))
}

/// Says what to do with changes that were kept.
fn hint_at(kept: Option<Kept>) {
    if let Some(kept) = kept {
        terminal::hint(&kept.remedy());
    }
}

fn exit_code(outcome: &AgentOutcome) -> i32 {
    match answer::exit_code(outcome.ending, outcome.answer.is_some()) {
        0 | 3 if outcome.changes_problem.is_some() => 1,
        code => code,
    }
}

/// The task: an argument, or standard input.
fn task(given: String) -> Result<String> {
    let bytes = match given.as_str() {
        "-" => {
            let mut bytes = Vec::new();
            // No more than tells that it is too much.
            let read = Input::default().take(LONGEST_TASK + 1).read_to_end(&mut bytes);
            read.map_err(|error| Failure::new(format!("cannot read the task from standard input: {error}")))?;
            bytes
        }
        _ => given.into_bytes(),
    };
    if bytes.len() as u64 > LONGEST_TASK {
        return Err(Failure::new(format!("a task may have {LONGEST_TASK} bytes, and this one has more"))
            .hint("give data with `--context`, or as a file in the workspace"));
    }
    let task = String::from_utf8(bytes).map_err(|_| Failure::new("the task is not UTF-8"))?;
    match task.trim() {
        "" => Err(Failure::new("the task is empty")),
        task => Ok(task.to_owned()),
    }
}

/// Whether somebody can be asked.
fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
