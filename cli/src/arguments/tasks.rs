//! Flags of background tasks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel::task::TaskState;
use clap::{Args, Subcommand, ValueHint};

use super::{Configuration, Engine, Sandbox, Talk, Telemetry};
use crate::units::{self, Timeout};

/// `--tasks` of commands that run programs.
#[derive(Clone, Debug, Default, Args)]
pub struct Granted {
    /// Let programs dispatch background tasks, kept in FILE [default: none; the file of `agentkernel task`].
    #[arg(long = "tasks", value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "", value_hint = ValueHint::FilePath, help_heading = "Grants")]
    pub tasks: Option<OsString>,
}

/// Where tasks are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// Where tasks are kept [default: tasks.db among the user's data].
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_TASK_STORE", hide_env = true, value_hint = ValueHint::FilePath)]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub configuration: Configuration,
}

#[derive(Debug, Subcommand)]
pub enum TaskAction {
    /// Put a program into the store, for a worker to run; prints its id.
    Dispatch(Box<Plan>),
    /// Say all that is known of tasks.
    Status {
        /// The tasks.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Print a JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print what a task wrote.
    Logs {
        /// The task.
        id: String,
        /// Go on until the task has ended.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Wait until tasks have ended. Exit code 0 if all succeeded, 1 if not, 124 if the time is over.
    Wait {
        /// The tasks.
        #[arg(required = true)]
        ids: Vec<String>,
        /// How long [default: as long as it takes].
        #[arg(short, long, value_name = "TIME", value_parser = units::timeout)]
        timeout: Option<Timeout>,
        /// Print a JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List tasks, the newest first.
    List {
        /// Only those in this state: waiting, ready, running, succeeded, failed or cancelled. Repeatable.
        #[arg(long = "state", value_name = "STATE", value_parser = state)]
        states: Vec<TaskState>,
        /// Only those that are called so.
        #[arg(long)]
        name: Option<String>,
        /// At most as many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        most: usize,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Cancel tasks: those that run are stopped soon after.
    Cancel {
        /// The tasks.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Print a JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Run tasks of the store until this is ended by Ctrl-C or SIGTERM.
    Work(Box<Work>),
    /// Remove ended tasks with their results and logs.
    Prune {
        /// Those that ended as long ago [default: 7 days, or what the file says].
        #[arg(long, value_name = "TIME", value_parser = units::duration)]
        older_than: Option<Duration>,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

impl TaskAction {
    pub fn talk(&self) -> Talk {
        match self {
            TaskAction::Dispatch(plan) => plan.talk,
            TaskAction::Work(work) => work.talk,
            _ => Talk::default(),
        }
    }
}

/// `agentkernel task dispatch`.
#[derive(Debug, Args)]
#[command(
    override_usage = "agentkernel task dispatch [OPTIONS] <SCRIPT|-> [ARGS]...\n       agentkernel task dispatch [OPTIONS] -c <CODE> [ARGS]...",
    after_help = "Exit codes: 0; 2 misuse. With --wait: 0 it succeeded, 1 it failed, 130 interrupted: it stays in the store."
)]
pub struct Plan {
    /// Run this code in place of a script.
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub code: Option<String>,
    /// What people call the task [default: the script's name].
    #[arg(long)]
    pub name: Option<String>,
    /// What the program reads as `agentkernel.task.input`.
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// Tasks with a higher one run first: -100 to 100 [default: 0].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// A task that must have succeeded first. Repeatable.
    #[arg(long, value_name = "ID")]
    pub after: Vec<String>,
    /// How often it is tried again when it fails [default: 0].
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// The time before that, twice as much each time [default: 1s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub backoff: Option<Duration>,
    /// Levels of tasks that it may dispatch itself [default: 0].
    #[arg(long, value_name = "N")]
    pub levels: Option<u32>,
    /// The task's id; a store that has it already gets no second one [default: a new one].
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Run a worker here until the task has ended, and print what it writes.
    #[arg(long)]
    pub wait: bool,
    /// Print a JSON object: the id, or with --wait all that is known of the task.
    #[arg(long)]
    pub json: bool,
    /// Where tasks are kept [default: tasks.db among the user's data].
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_TASK_STORE", hide_env = true, value_hint = ValueHint::FilePath)]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub sandbox: Sandbox,
    /// The script, `-` for standard input, and the program's arguments.
    #[arg(help_heading = None::<&'static str>, value_name = "SCRIPT|-", trailing_var_arg = true, allow_hyphen_values = true, value_hint = ValueHint::FilePath)]
    pub rest: Vec<OsString>,
}

/// `agentkernel task work`.
#[derive(Debug, Args)]
pub struct Work {
    /// Tasks at the same time [default: as many as there are processors].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
    /// How long a task stays this worker's without a sign of life [default: 30s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub lease: Option<Duration>,
    /// End when all tasks in the store have ended.
    #[arg(long)]
    pub drain: bool,
    /// A tool component, or a directory of them, which the tasks can import. Repeatable.
    #[arg(long = "tools", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub tools: Vec<PathBuf>,
    /// Count fuel, for tasks that were dispatched with a limit of it; only these run here then.
    #[arg(long)]
    pub fuel: bool,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub telemetry: Telemetry,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub engine: Engine,
}

fn state(text: &str) -> Result<TaskState, String> {
    TaskState::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
        let names: Vec<_> = TaskState::ALL.iter().map(|state| state.name()).collect();
        format!("use one of {}", names.join(", "))
    })
}
