//! `agentkernel run hello.py` as a whole process, against Python.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Summary, Times};
use crate::process::{self, Python, time};
use crate::setup::Setup;
use crate::table::{RATIO, Table, ratio, seconds};

const SCRIPT: &str = "print('hello')\n";
const OUTPUT: &str = "hello\n";

/// Rounds that are not counted.
const WARM_UP: usize = 3;

/// How long whole processes take.
#[derive(Serialize)]
pub struct CommandLine {
    agentkernel: Summary,
    python_isolated: Summary,
    python: Summary,
    /// The ratios of the medians.
    ratio_to_isolated: f64,
    ratio_to_python: f64,
}

/// Runs all three in turn, round by round.
pub fn measure(setup: &Setup, python: &Python) -> Result<CommandLine> {
    let command_line = process::CommandLine::build(setup)?;
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("hello.py");
    std::fs::write(&script, SCRIPT)?;
    let mut commands = [command_line.run(&script), python.isolated(&script), python.plain(&script)];
    let mut times: [Times; 3] = Default::default();
    for round in 0..WARM_UP + setup.rounds(40, 10) {
        for (command, times) in commands.iter_mut().zip(&mut times) {
            let time = time(command.current_dir(directory.path()), OUTPUT.len())?;
            if round >= WARM_UP {
                times.push(time);
            }
        }
    }
    let [agentkernel, python_isolated, python] = times.map(|times| times.summary());
    Ok(CommandLine {
        ratio_to_isolated: agentkernel.ratio(&python_isolated),
        ratio_to_python: agentkernel.ratio(&python),
        agentkernel,
        python_isolated,
        python,
    })
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandLine { agentkernel, python_isolated, python, .. } = self;
        let row = |times: &Summary, other: String| {
            [seconds(times.min_seconds), seconds(times.median_seconds), other]
        };
        let title =
            format!("The command line, a whole process that says hello, {} rounds", agentkernel.rounds);
        Table::new(title, &["", "min", "median", "ratio of medians"])
            .row("agentkernel run hello.py", row(agentkernel, String::new()))
            .row("python3 -I -S hello.py", row(python_isolated, ratio(self.ratio_to_isolated)))
            .row("python3 hello.py", row(python, ratio(self.ratio_to_python)))
            .remark(RATIO)
            .fmt(f)
    }
}
