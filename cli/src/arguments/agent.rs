//! Flags of agents.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{Data, Effort, Granted, Lasting, Models, Sandbox, Talk, Telemetry};

/// `agentkernel agent`.
#[derive(Debug, Args)]
#[command(
    override_usage = "agentkernel agent [OPTIONS] <TASK|->\n       agentkernel agent [OPTIONS]",
    after_help = "Exit codes: 0 answered; 3 the best that was known when a limit was reached or a model failed; 1 no answer, or changes \
                  could not be applied; 2 misuse; 130 interrupted. Without TASK those of the last task, on a terminal 0."
)]
pub struct Agent {
    /// The task, or `-` to read it from standard input [default: a conversation, a line for each task].
    #[arg(value_name = "TASK|-")]
    pub task: Option<String>,
    /// Keep changes to files apart from the workspace until they are approved: they are shown, and asked for on the
    /// terminal; `yes` and `no` say it beforehand [default: changes are kept when a task ends].
    #[arg(
        long,
        value_enum,
        value_name = "ask|yes|no",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "ask"
    )]
    pub approve: Option<Approve>,
    /// Steps that the model may make for a task [default: 30].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_steps: Option<u32>,
    #[command(flatten)]
    pub effort: Effort,
    /// Where all that happens is written [default: nowhere]; `rlm view` makes a page of it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trajectory: Option<PathBuf>,
    /// Print one JSON object with the answer, the log and what it took, in place of the answer.
    #[arg(long, requires = "task")]
    pub json: bool,

    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub tasks: Granted,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub telemetry: Telemetry,
}

/// Who approves changes to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Approve {
    /// The user, on the terminal.
    Ask,
    /// All are kept.
    Yes,
    /// None is kept.
    No,
}
