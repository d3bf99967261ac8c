//! Programs that compute, in a session and in Python.

use std::fmt;

use agentkernel::{Ending, Kernel};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::measure::{Summary, Times, geometric_mean};
use crate::process::Python;
use crate::setup::Setup;
use crate::table::{RATIO, Table, ratio, seconds};

/// Times `work()` inside the interpreter and prints an [`Answer`].
const HARNESS: &str = include_str!("harness.py");

macro_rules! programs {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../programs/", $name, ".py")))),+]
    };
}

/// The names and sources of the programs.
const PROGRAMS: &[(&str, &str)] = programs![
    "function_calls",
    "integer_loop",
    "big_integers",
    "nbody",
    "word_count",
    "sorting",
    "json_documents",
    "regular_expressions",
    "classes",
    "dataclass_records",
    "generators",
    "comprehensions",
    "exceptions",
    "string_building",
    "bytes_and_arrays",
    "decimals",
];

/// How fast computing is.
#[derive(Serialize)]
pub struct Cpu {
    /// How often `work()` ran in each interpreter; the least time counts.
    best_of: usize,
    programs: Vec<Program>,
    geometric_mean_of_ratios: f64,
}

/// One program. Each time is the least of one interpreter.
#[derive(Serialize)]
struct Program {
    name: &'static str,
    agentkernel: Summary,
    python: Summary,
    /// The least time of all against the least of all.
    ratio: f64,
}

/// What the harness prints.
#[derive(Deserialize)]
struct Answer {
    best_seconds: f64,
    result: String,
}

/// Runs each program in new sessions and new processes in turn.
pub fn measure(setup: &Setup, python: &Python) -> Result<Cpu> {
    let kernel = setup.kernel()?;
    let best_of = setup.rounds(5, 2);
    let mut programs = Vec::with_capacity(PROGRAMS.len());
    for (name, source) in PROGRAMS {
        let source = format!("{source}\n\n{HARNESS}\n\nmeasure({best_of})\n");
        programs.push(
            program(&kernel, python, name, &source, setup.rounds(5, 2)).with_context(|| name.to_string())?,
        );
    }
    let geometric_mean_of_ratios = geometric_mean(programs.iter().map(|program| program.ratio));
    Ok(Cpu { best_of, programs, geometric_mean_of_ratios })
}

fn program(
    kernel: &Kernel,
    python: &Python,
    name: &'static str,
    source: &str,
    rounds: usize,
) -> Result<Program> {
    let (mut ours, mut theirs) = <(Times, Times)>::default();
    for _ in 0..rounds {
        let here = in_session(kernel, source)?;
        let there = in_python(python, source)?;
        ensure!(here.result == there.result, "`{}` here, `{}` in Python", here.result, there.result);
        ours.push_seconds(here.best_seconds);
        theirs.push_seconds(there.best_seconds);
    }
    let (agentkernel, python) = (ours.summary(), theirs.summary());
    Ok(Program { name, ratio: agentkernel.min_seconds / python.min_seconds, agentkernel, python })
}

/// Runs in a new session with the default limits, so that the time limit is in force.
fn in_session(kernel: &Kernel, source: &str) -> Result<Answer> {
    let outcome = kernel.session().start()?.run_blocking(source)?;
    if !matches!(outcome.ending, Ending::Completed(_)) {
        bail!("the session ended in {:?}", outcome.ending);
    }
    Ok(serde_json::from_slice(&outcome.stdout)?)
}

fn in_python(python: &Python, source: &str) -> Result<Answer> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("program.py");
    std::fs::write(&script, source)?;
    let output = python.isolated(&script).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "Python ended with {}: {errors}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.programs.first().map_or(0, |program| program.python.rounds);
        let title = format!("Computing, the best of {} runs in each of {rounds} interpreters", self.best_of);
        let mut table = Table::new(title, &["", "agentkernel", "python3", "ratio"]);
        for Program { name, agentkernel, python, ratio: times } in &self.programs {
            let cells = [seconds(agentkernel.min_seconds), seconds(python.min_seconds), ratio(*times)];
            table = table.row(*name, cells);
        }
        let mean = ratio(self.geometric_mean_of_ratios);
        table.row("geometric mean", [String::new(), String::new(), mean]).remark(RATIO).fmt(f)
    }
}
