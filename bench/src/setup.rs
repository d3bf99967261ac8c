//! What was asked for, and the kernel that is measured.

use std::path::PathBuf;

use agentkernel::{Ending, Kernel, KernelBuilder, Outcome};
use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use crate::mcp_server::Transport;

/// Measures AgentKernel on this machine.
#[derive(Parser)]
pub struct Arguments {
    /// Measure fewer rounds: enough to see that all works, not to compare.
    #[arg(long)]
    quick: bool,
    /// Measure one part only.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Write the results to this file as JSON; times are in seconds, sizes in bytes.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do without host-owned memory and safepoints, as on systems other than Linux.
    #[arg(long, env = "AGENTKERNEL_PORTABLE", hide_env = true)]
    portable: bool,
    /// Another interpreter than the built-in one (a file made by `cargo xtask guest`).
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_GUEST", hide_env = true)]
    guest: Option<PathBuf>,
    /// The Python to compare with.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Measure nothing, but be the MCP server that calls are compared with.
    #[arg(long, value_name = "TRANSPORT", hide = true)]
    pub serve: Option<Transport>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Library,
    CommandLine,
    Cpu,
    Output,
    Tools,
    Context,
    Models,
    Sessions,
    Peers,
    Tasks,
    Mcp,
}

impl Part {
    /// What the part is called in what is printed.
    pub fn name(self) -> &'static str {
        match self {
            Part::Library => "the library",
            Part::CommandLine => "the command line",
            Part::Cpu => "computing",
            Part::Output => "output",
            Part::Tools => "tools",
            Part::Context => "contexts",
            Part::Models => "models",
            Part::Sessions => "sessions",
            Part::Peers => "peers",
            Part::Tasks => "tasks",
            Part::Mcp => "the MCP server",
        }
    }
}

/// What all parts need to know.
pub struct Setup {
    pub quick: bool,
    pub json: Option<PathBuf>,
    pub portable: bool,
    pub guest: Option<PathBuf>,
    pub python: PathBuf,
    only: Option<Part>,
}

impl Setup {
    /// Compiles the interpreter if the cache does not have it, so that no measurement does.
    pub fn new(arguments: Arguments) -> Result<Self> {
        let Arguments { quick, only, json, portable, guest, python, serve: _ } = arguments;
        // Programs are started in other directories.
        let guest = guest.map(std::path::absolute).transpose()?;
        let setup = Setup { quick, json, portable, guest, python, only };
        setup.kernel()?;
        Ok(setup)
    }

    /// Whether this part was asked for.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// How many rounds: the first, or the second with `--quick`.
    pub fn rounds(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// A kernel as it was asked for, with the default cache.
    pub fn kernel(&self) -> Result<Kernel> {
        Ok(self.builder().build()?)
    }

    /// The same, to be given tools.
    pub fn builder(&self) -> KernelBuilder {
        let mut builder = Kernel::builder()
            .portable(self.portable)
            .on_progress(|progress| eprintln!("the interpreter: {progress:?}"));
        if let Some(guest) = &self.guest {
            builder = builder.guest(guest);
        }
        builder
    }
}

/// The turn that the library's times are for.
pub const TURN: &str = "1+1";

/// Checks that [`TURN`] gave what it must.
pub fn check(outcome: &Outcome) -> Result<()> {
    match &outcome.ending {
        Ending::Completed(Some(value)) if value.repr == "2" => Ok(()),
        other => bail!("`{TURN}` ended in {other:?}"),
    }
}
