//! `agentkernel rlm`: questions answered by programs that a model writes.

mod progress;
mod runs;

use std::io::{self, Read};
use std::path::PathBuf;

use agentkernel::Stream;
use agentkernel::report::Asked;
use agentkernel::rlm::{Rlm, RlmOutcome, RunEnding, Trajectory};
use serde::Serialize;

use self::progress::Display;
pub use self::progress::describe;
use crate::arguments::{self, RlmAction};
use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::output::{self, unwritten};
use crate::repetition::Again;
use crate::run::context;
use crate::settings::Settings;
use crate::signals::Stopper;
use crate::units::{show_duration, show_number_of};
use crate::{answer, llm, terminal};

pub fn run(mut arguments: arguments::Rlm) -> Result<i32> {
    match arguments.action.take() {
        Some(RlmAction::View { file, output }) => runs::view(file, output.as_deref()),
        Some(RlmAction::List { json }) => runs::list(json),
        None => ask(arguments),
    }
}

fn ask(arguments: arguments::Rlm) -> Result<i32> {
    let talk = arguments.talk;
    let question = question(arguments.question, arguments.question_file)?;
    let again = Again::open(&arguments.repetition)?;
    let settings =
        Settings::with_timeout(arguments.sandbox, &arguments.models, &again, answer::BLOCK_TIMEOUT)?
            .lasting(&arguments.lasting)?;
    let granted = settings.llm.as_ref().ok_or_else(llm::absent)?;
    if talk.verbose
        && let Some(file) = &settings.config_file
    {
        terminal::remark(&format!("configured by `{}`", file.display()));
    }
    let context = context(&arguments.data.contexts, &settings)?;
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let (trajectory, kept) = match (arguments.no_trajectory, arguments.trajectory) {
        (true, _) => (Trajectory::none(), None),
        (false, Some(file)) => (Trajectory::create(&file)?, Some(file)),
        (false, None) => runs::keep(),
    };
    let holders = granted.holders();
    let mut builder = Rlm::builder(&kernel)
        .grants(settings.grants.clone())
        .budget(granted.budget.clone())
        .trajectory(trajectory);
    if let Some(context) = context {
        builder = builder.context(context);
    }
    if let Some(steps) = arguments.max_iterations {
        builder = builder.max_iterations(steps);
    }
    if let Some(steps) = arguments.effort.max_errors {
        builder = builder.max_errors(steps);
    }
    if let Some(children) = arguments.effort.max_children {
        builder = builder.max_children(children);
    }
    let display = Display::start(talk);
    if let Some(on_event) = display.handler() {
        builder = builder.on_event(on_event);
    }
    let rlm = again.run(builder).build()?;
    let interrupter = rlm.interrupter();
    let stopper = Stopper::start(move || interrupter.interrupt());
    let result = rlm.ask_blocking(&question);
    answer::wait_for(|| granted.holders() > holders);
    display.end();
    let outcome = result?;
    again.finish()?;
    let code = match stopper.ended() {
        Some(signal) if outcome.ending == RunEnding::Interrupted => signal.exit_code(),
        _ => answer::exit_code(outcome.ending, outcome.answer.is_some()),
    };

    let kept = kept.map(|file| file.display().to_string());
    let written = match arguments.json {
        true => json(&outcome, kept.as_deref(), code)?,
        false => answer::print(outcome.answer.as_deref()),
    };
    if let Err(error) = written {
        return unwritten(&error);
    }
    if arguments.json {
        return Ok(code);
    }
    complain(&outcome);
    if !talk.quiet {
        let steps = show_number_of(outcome.iterations.into(), "step");
        let (asked, wall) = (llm::used(&outcome.usage), show_duration(outcome.wall));
        terminal::remark(&format!("{steps}, {asked}, {wall}"));
        if let Some(file) = kept {
            terminal::remark(&format!("`agentkernel rlm view {file}` makes a page of it"));
        }
    }
    Ok(code)
}

/// What is asked: an argument, standard input or a file.
fn question(given: Option<String>, file: Option<PathBuf>) -> Result<String> {
    let cannot =
        |what: &str, error: io::Error| Failure::new(format!("cannot read the question from {what}: {error}"));
    let bytes = match (given, file) {
        (Some(given), _) if given == "-" => {
            at_most(Input::default()).map_err(|error| cannot("standard input", error))?
        }
        (Some(given), _) => given.into_bytes(),
        (None, Some(file)) => {
            let opened = std::fs::File::open(&file).and_then(at_most);
            opened.map_err(|error| cannot(&format!("`{}`", file.display()), error))?
        }
        (None, None) => {
            return Err(Failure::new("nothing is asked").hint(
                "give a question, as in `agentkernel rlm --model NAME \"What is …?\"`, `-` for standard input, \
                 or `--question-file FILE`",
            ));
        }
    };
    if bytes.len() as u64 > LONGEST_QUESTION {
        return Err(Failure::new(format!(
            "a question may have {LONGEST_QUESTION} bytes, and this one has more"
        ))
        .hint("give data with `--context`"));
    }
    let question = String::from_utf8(bytes).map_err(|_| Failure::new("the question is not UTF-8"))?;
    match question.trim() {
        "" => Err(Failure::new("the question is empty")),
        question => Ok(question.to_owned()),
    }
}

/// Bytes of a question: it is part of every prompt.
const LONGEST_QUESTION: u64 = 1 << 20;

/// Reads no more than tells that it is too much.
fn at_most(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_QUESTION + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says why the run has not ended with an answer, if it has not.
fn complain(outcome: &RlmOutcome) {
    if let Some(problem) = &outcome.trajectory_problem {
        terminal::error(&terminal::escaped(problem), Some("the answer is not touched by it"));
    }
    let (message, has_answer) = (outcome.message.as_deref(), outcome.answer.is_some());
    answer::complain(outcome.ending, has_answer, message, "--max-iterations");
}

/// The object that `--json` prints; docs/rlm.schema.json describes it.
#[derive(Serialize)]
struct Report<'a> {
    answer: Option<&'a str>,
    best_effort: bool,
    ending: RunEnding,
    message: Option<&'a str>,
    iterations: u32,
    usage: std::collections::BTreeMap<String, Asked>,
    wall_seconds: f64,
    trajectory: Option<&'a str>,
    trajectory_problem: Option<&'a str>,
    exit_code: i32,
}

fn json(outcome: &RlmOutcome, trajectory: Option<&str>, exit_code: i32) -> Result<io::Result<()>> {
    let report = Report {
        answer: outcome.answer.as_deref(),
        best_effort: outcome.best_effort,
        ending: outcome.ending,
        message: outcome.message.as_deref(),
        iterations: outcome.iterations,
        usage: Asked::of(&outcome.usage),
        wall_seconds: outcome.wall.as_secs_f64(),
        trajectory,
        trajectory_problem: outcome.trajectory_problem.as_deref(),
        exit_code,
    };
    let mut text = serde_json::to_string(&report)
        .map_err(|error| Failure::new(format!("the outcome has no JSON form: {error}")))?;
    text.push('\n');
    Ok(output::write(Stream::Stdout, text.as_bytes()))
}
