//! Flags of models, and of questions answered by them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Data, Lasting, Sandbox, Talk, Telemetry};
use crate::units::{self, Timeout};

/// Which models may be asked, and how much of them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Models")]
pub struct Models {
    /// The model that may be asked [default: none].
    #[arg(long, value_name = "NAME", env = "AGENTKERNEL_LLM_MODEL", hide_env = true)]
    pub model: Option<String>,
    /// The model that programs ask where they name none [default: the model].
    #[arg(long, value_name = "NAME", env = "AGENTKERNEL_LLM_SUB_MODEL", hide_env = true)]
    pub sub_model: Option<String>,
    /// Who answers: `openai`, `azure`, `anthropic` or `script:FILE` [default: whose variables are set].
    #[arg(long, value_name = "NAME", env = "AGENTKERNEL_LLM_PROVIDER", hide_env = true)]
    pub provider: Option<String>,
    /// Calls [default: 1000].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_LLM_MAX_CALLS", hide_env = true)]
    pub max_calls: Option<u64>,
    /// Tokens read and written [default: 10000000].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_LLM_MAX_TOKENS", hide_env = true)]
    pub max_tokens: Option<u64>,
    /// US dollars. Named, it also refuses models of unknown price [default: 10, of what has a price].
    #[arg(long, value_name = "DOLLARS", env = "AGENTKERNEL_LLM_MAX_COST", hide_env = true, value_parser = units::dollars)]
    pub max_cost: Option<f64>,
    /// Levels of child sessions [default: 1].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_LLM_MAX_DEPTH", hide_env = true)]
    pub max_depth: Option<u32>,
    /// Calls at the same time [default: 16].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_LLM_MAX_CONCURRENCY", hide_env = true)]
    pub max_concurrency: Option<u32>,
    /// Time in which models may be asked, from the start, or `none` [default: none].
    #[arg(long, value_name = "TIME", env = "AGENTKERNEL_LLM_MAX_TIME", hide_env = true, value_parser = units::timeout)]
    pub max_time: Option<Timeout>,
    /// A database of answers: equal requests are asked and paid once [default: none].
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_LLM_CACHE", hide_env = true, value_hint = ValueHint::FilePath)]
    pub llm_cache: Option<PathBuf>,
}

/// Making a run happen again.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Repetition")]
pub struct Repetition {
    /// Write down all that enters the run, so that it can be replayed.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub record: Option<PathBuf>,
    /// Run as it was recorded: no model and no tool is asked, clocks and random numbers are the same.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record", "deterministic"], value_hint = ValueHint::FilePath)]
    pub replay: Option<PathBuf>,
    /// Clocks and random numbers that are the same each time, from this number.
    #[arg(long, value_name = "SEED")]
    pub deterministic: Option<u64>,
}

/// How much may go wrong, and go on at the same time, while models write programs.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Effort {
    /// Steps in a row that may fail [default: 5].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_errors: Option<u32>,
    /// Child sessions of one depth at the same time [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_children: Option<u32>,
}

/// `agentkernel rlm`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "agentkernel rlm [OPTIONS] <QUESTION|->\n       agentkernel rlm view [FILE]\n       agentkernel rlm list",
    after_help = "Exit codes: 0 answered; 3 the best that was known when a limit was reached or a model failed; 1 no answer; \
                  2 misuse; 130 interrupted."
)]
pub struct Rlm {
    #[command(subcommand)]
    pub action: Option<RlmAction>,

    /// The question, or `-` to read it from standard input.
    #[arg(value_name = "QUESTION|-")]
    pub question: Option<String>,
    /// Read the question from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "question", value_hint = ValueHint::FilePath)]
    pub question_file: Option<PathBuf>,
    /// Steps that a session may make [default: 30].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_iterations: Option<u32>,
    #[command(flatten)]
    pub effort: Effort,
    /// Where all that happens is written [default: a file among the user's; see `rlm list`].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trajectory: Option<PathBuf>,
    /// Write down nothing.
    #[arg(long, conflicts_with = "trajectory")]
    pub no_trajectory: bool,
    /// Print one JSON object with the answer and what it took, in place of the answer.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub telemetry: Telemetry,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub repetition: Repetition,
    #[command(flatten)]
    pub sandbox: Sandbox,
}

#[derive(Debug, Subcommand)]
pub enum RlmAction {
    /// Make one HTML page of a run.
    View {
        /// The trajectory, by its path or by its name in `rlm list` [default: the newest].
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// The page, `-` for standard output [default: beside the trajectory].
        #[arg(short, long, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// List the runs whose trajectories are kept, the newest first.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}
