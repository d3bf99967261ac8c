//! Calls of a tool, timed by the program that calls it.

use std::fmt;
use std::path::Path;

use agentkernel::{Ending, Kernel, Limits, Tool};
use anyhow::{Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::measure::{Summary, Times};
use crate::setup::{Setup, TURN, check};
use crate::table::{Table, ratio, seconds};

/// What is called: a title, the call, what it must give, and how many are timed as one.
const CASES: &[(&str, &str, &str, usize)] = &[
    (ADD, "values.add(1, 2)", "3", 200),
    ("a record of two integers, both ways", "values.points(point)", "point", 200),
    ("a list of one record of four fields, both ways", "values.people(people)", "people", 100),
    (BYTES, "values.bytes(blob)", "blob", 10),
    ("1 M floats in an array, both ways", "values.floats(floats)", "floats", 1),
    ("a string of 1 MiB (ASCII), both ways", "values.strings(text)", "text", 10),
];
pub const ADD: &str = "two integers";
pub const BYTES: &str = "1 MiB of bytes, both ways";

/// Times each of [`CASES`] and prints lists of times.
const CALLS: &str = include_str!("calls.py");

/// Prints how long importing a tool, the first call and the second took.
const FIRST: &str = include_str!("first.py");

/// Prints how long calls took that were made one after the other, and at once.
const GATHERED: &str = include_str!("gathered.py");

const ADDITIONS: u32 = 1000;
const PAUSES: usize = 20;
const MILLISECONDS: usize = 50;

/// The tool that gives back what it is given, under this name.
pub fn echo(name: &str) -> Tool {
    Tool::new(name, Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/echo.wasm"))
}

/// What a program prints that ran in a new session.
fn ask<T: DeserializeOwned>(kernel: &Kernel, program: &str) -> Result<T> {
    let mut limits = Limits::default();
    // The default is less, and gathering more fails.
    limits.operations = limits.operations.max(ADDITIONS);
    let outcome = kernel.session().limits(limits).start()?.run_blocking(program)?;
    if !matches!(outcome.ending, Ending::Completed(_)) {
        bail!("the session ended in {:?}", outcome.ending);
    }
    Ok(serde_json::from_slice(&outcome.stdout)?)
}

/// The times of [`CASES`], over several sessions.
pub struct Warm(Vec<Times>);

impl Warm {
    /// No times.
    pub fn new() -> Self {
        Warm(vec![Times::default(); CASES.len()])
    }

    /// Adds those of a new session.
    pub fn round(&mut self, setup: &Setup, kernel: &Kernel) -> Result<()> {
        let cases: Vec<_> = CASES.iter().map(|(_, call, expected, batch)| (call, expected, batch)).collect();
        let program = format!("CASES = {}\nROUNDS = {}\n{CALLS}", json!(cases), setup.rounds(100, 5));
        let times: Vec<Vec<f64>> = ask(kernel, &program)?;
        for (all, new) in self.0.iter_mut().zip(times) {
            new.into_iter().for_each(|seconds| all.push_seconds(seconds));
        }
        Ok(())
    }

    /// What was measured.
    pub fn summary(self) -> Calls {
        Calls(CASES.iter().zip(self.0).map(|((name, ..), times)| (*name, times.summary())).collect())
    }
}

/// Calls of an instance that is there: titles and times of one call.
#[derive(Serialize)]
pub struct Calls(Vec<(&'static str, Summary)>);

impl Calls {
    /// The times of the case with this title, which there must be.
    pub fn of(&self, title: &str) -> &Summary {
        self.0.iter().find(|(name, _)| *name == title).map(|(_, times)| times).expect("a case")
    }
}

/// The first call in a session.
#[derive(Serialize)]
pub struct First {
    import: Summary,
    first_call: Summary,
    second_call: Summary,
}

impl First {
    /// Starts a session for each round.
    pub fn measure(setup: &Setup, kernel: &Kernel) -> Result<Self> {
        let mut times: [Times; 3] = Default::default();
        for _ in 0..setup.rounds(200, 20) {
            let round: [f64; 3] = ask(kernel, FIRST)?;
            times.iter_mut().zip(round).for_each(|(all, seconds)| all.push_seconds(seconds));
        }
        let [import, first_call, second_call] = times.map(|times| times.summary());
        Ok(First { import, first_call, second_call })
    }
}

/// From before the start of a session to after its first turn, with tools that are not called and without.
#[derive(Serialize)]
pub struct Start {
    tools: Vec<String>,
    without: Summary,
    with: Summary,
    /// How much later, by the medians.
    later_seconds: f64,
}

impl Start {
    /// Starts sessions of two kernels in turn.
    pub fn measure(setup: &Setup) -> Result<Self> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/prebuilt");
        let tools = match shipped.is_dir() {
            true => Tool::discover(&shipped)?,
            false => (1..=7).map(|number| echo(&format!("echo{number}"))).collect(),
        };
        let names = tools.iter().map(|tool| tool.name().to_owned()).collect();
        let plain = setup.kernel()?;
        let equipped = tools.into_iter().fold(setup.builder(), |builder, tool| builder.tool(tool)).build()?;
        let mut times: [Times; 2] = Default::default();
        for round in 0..setup.rounds(1000, 50) + 20 {
            for (kernel, times) in [&plain, &equipped].into_iter().zip(&mut times) {
                let mut now = Times::default();
                let (session, outcome) = now.time(|| {
                    let mut session = kernel.session().start()?;
                    let outcome = session.run_blocking(TURN)?;
                    anyhow::Ok((session, outcome))
                })?;
                check(&outcome)?;
                drop(session);
                // The first rounds are not counted.
                if round >= 20 {
                    times.push_seconds(now.summary().median_seconds);
                }
            }
        }
        let [without, with] = times.map(|times| times.summary());
        let later_seconds = with.median_seconds - without.median_seconds;
        Ok(Start { tools: names, without, with, later_seconds })
    }
}

/// Calls that a program makes at once.
#[derive(Serialize)]
pub struct Gathered {
    in_turn: Summary,
    adds_first: Summary,
    adds_again: Summary,
    pauses_first: Summary,
    pauses_again: Summary,
    /// How many times as long as one pause takes, by the median.
    pauses_to_ideal: f64,
}

impl Gathered {
    /// Starts a session for each round.
    pub fn measure(setup: &Setup, kernel: &Kernel) -> Result<Self> {
        let program =
            format!("ADDITIONS = {ADDITIONS}\nPAUSES = {PAUSES}\nMILLISECONDS = {MILLISECONDS}\n{GATHERED}");
        let mut times: [Times; 5] = Default::default();
        for _ in 0..setup.rounds(20, 3) {
            let round: [f64; 5] = ask(kernel, &program)?;
            times.iter_mut().zip(round).for_each(|(all, seconds)| all.push_seconds(seconds));
        }
        let [in_turn, adds_first, adds_again, pauses_first, pauses_again] =
            times.map(|times| times.summary());
        let ideal = MILLISECONDS as f64 / 1000.0;
        let pauses_to_ideal = pauses_first.median_seconds / ideal;
        Ok(Gathered { in_turn, adds_first, adds_again, pauses_first, pauses_again, pauses_to_ideal })
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.of(ADD).rounds;
        let mut table =
            Table::new(format!("Calls of a tool, {rounds} times each case"), &["", "min", "median"]);
        for (name, times) in &self.0 {
            table = table.times(*name, times);
        }
        table.fmt(f)
    }
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("The first call of a tool, {} sessions", self.import.rounds);
        Table::new(title, &["", "min", "median"])
            .times("import the tool's module", &self.import)
            .times("first call, which makes the instance", &self.first_call)
            .times("second call", &self.second_call)
            .fmt(f)
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.tools.len();
        let title = format!("Start to the result of `{TURN}`, {} sessions each", self.with.rounds);
        let later = self.later_seconds;
        let sign = if later < 0.0 { "-" } else { "" };
        Table::new(title, &["", "min", "median"])
            .times("without tools", &self.without)
            .times(format!("with {count} tools"), &self.with)
            .row("later by", [String::new(), format!("{sign}{}", seconds(later.abs()))])
            .remark(format!("the tools: {}", self.tools.join(", ")))
            .fmt(f)
    }
}

impl fmt::Display for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("Calls at once (`asyncio.gather`), {} sessions", self.in_turn.rounds);
        let first = "first in the session";
        Table::new(title, &["", "min", "median"])
            .times(format!("{ADDITIONS} additions one after the other"), &self.in_turn)
            .times(format!("{ADDITIONS} additions at once, {first}"), &self.adds_first)
            .times("the same again", &self.adds_again)
            .times(format!("{PAUSES} pauses of {MILLISECONDS} ms at once, {first}"), &self.pauses_first)
            .times("the same again", &self.pauses_again)
            .remark(format!("{PAUSES} pauses take {} of the time of one", ratio(self.pauses_to_ideal)))
            .fmt(f)
    }
}
