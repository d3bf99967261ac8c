//! A program that prints a lot, through a pipe to a reader.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Summary, Times};
use crate::process::{CommandLine, Python, time};
use crate::setup::Setup;
use crate::table::{RATIO, Table, ratio, seconds};

/// What is printed in all; the default output limit is a little more.
const BYTES: usize = 10_000_000;

/// Lengths of lines, with their ends.
const LINES: [usize; 2] = [100, 1000];

/// How fast output is.
#[derive(Serialize)]
pub struct Output {
    bytes: usize,
    lines: Vec<Line>,
}

/// Output in lines of one length. The times are of whole processes.
#[derive(Serialize)]
struct Line {
    line_bytes: usize,
    agentkernel: Summary,
    python: Summary,
    /// The ratio of the medians.
    ratio: f64,
}

/// Measures each length of lines.
pub fn measure(setup: &Setup, python: &Python) -> Result<Output> {
    let command_line = CommandLine::build(setup)?;
    let measure = |line_bytes| line(setup, &command_line, python, line_bytes);
    Ok(Output { bytes: BYTES, lines: LINES.into_iter().map(measure).collect::<Result<_>>()? })
}

fn line(setup: &Setup, command_line: &CommandLine, python: &Python, line_bytes: usize) -> Result<Line> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("lines.py");
    let (count, width) = (BYTES / line_bytes, line_bytes - 1);
    std::fs::write(&script, format!("line = 'x' * {width}\nfor _ in range({count}):\n    print(line)\n"))?;
    let mut commands = [command_line.run(&script), python.isolated(&script)];
    let mut times: [Times; 2] = Default::default();
    // The first round is not counted.
    for round in 0..=setup.rounds(15, 3) {
        for (command, times) in commands.iter_mut().zip(&mut times) {
            let time = time(command.current_dir(directory.path()), BYTES)?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    let [agentkernel, python] = times.map(|times| times.summary());
    Ok(Line { line_bytes, ratio: agentkernel.ratio(&python), agentkernel, python })
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.lines.first().map_or(0, |line| line.python.rounds);
        let title = format!("Output, {} MB by `print` into a pipe, {rounds} rounds", self.bytes / 1_000_000);
        let columns = ["", "agentkernel min", "median", "python3 -I -S min", "median", "ratio of medians"];
        let mut table = Table::new(title, &columns);
        for Line { line_bytes, agentkernel, python, ratio: times } in &self.lines {
            let cells = [agentkernel, python]
                .iter()
                .flat_map(|times| [seconds(times.min_seconds), seconds(times.median_seconds)])
                .chain([ratio(*times)])
                .collect::<Vec<_>>();
            table = table.row(format!("lines of {line_bytes} bytes"), cells);
        }
        table.remark(RATIO).fmt(f)
    }
}
