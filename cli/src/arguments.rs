//! The command line, as clap reads it. `AGENTKERNEL_*` variables stand in for flags that are not given.

mod agent;
mod changes;
mod config;
mod grants;
mod lasting;
mod mcp;
mod models;
mod run;
mod sandbox;
mod sessions;
mod tasks;
mod telemetry;
mod tool;

use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::agent::{Agent, Approve};
pub use self::changes::{ChangesAction, Settle};
pub use self::config::{ConfigAction, ConfigShow};
pub use self::grants::{Changes, Data, Start};
pub use self::lasting::{Lasting, SkillAction, SkillsAt};
pub use self::mcp::{Http, McpAction, Serve};
pub use self::models::{Effort, Models, Repetition, Rlm, RlmAction};
pub use self::run::{Compose, Repl, Run};
pub use self::sandbox::{Configuration, Engine, Sandbox};
pub use self::sessions::{NewSession, SessionAction, SessionRun};
pub use self::tasks::{Granted, Place, Plan, TaskAction, Work};
pub use self::telemetry::Telemetry;
pub use self::tool::{Detail, ToolAction};

static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (wasmtime {}, CPython {})",
        env!("CARGO_PKG_VERSION"),
        agentkernel::WASMTIME_VERSION,
        agentkernel::cpython_version()
    )
});

/// Runs Python that a language model wrote, in a sandbox that holds only what you grant.
#[derive(Debug, Parser)]
#[command(name = "agentkernel", version = VERSION.as_str(), propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a Python program.
    Run(Box<Run>),
    /// Start an interactive session.
    Repl(Repl),
    /// Answer a question, about data of any size, by programs that a model writes.
    Rlm(Box<Rlm>),
    /// Do tasks by programs that a model writes: one, or a conversation.
    Agent(Box<Agent>),
    /// Look after the compiled interpreters on disk.
    Cache {
        #[command(subcommand)]
        action: CacheAction,
        #[command(flatten)]
        engine: Engine,
        #[command(flatten)]
        configuration: Configuration,
    },
    /// Find, show, try and check the tools that programs can import.
    Tool {
        #[command(subcommand)]
        action: ToolAction,
    },
    /// Sessions that live from command to command, by name.
    Session {
        #[command(subcommand)]
        action: SessionAction,
    },
    /// Changes of programs that could not be applied to their directory.
    Changes {
        #[command(subcommand)]
        action: ChangesAction,
    },
    /// Run programs in the background, and hear of them.
    Task {
        #[command(subcommand)]
        action: TaskAction,
    },
    /// Look after programs that were kept.
    Skill {
        #[command(subcommand)]
        action: SkillAction,
    },
    /// Let MCP clients run programs.
    Mcp {
        #[command(subcommand)]
        action: McpAction,
    },
    /// Make one WebAssembly component of a program, its tools and Python.
    Compose(Compose),
    /// Show, check or begin the configuration.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Say what this machine supports, and what to do about what it lacks.
    Doctor(Doctor),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `agentkernel doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub lasting: Lasting,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CacheAction {
    /// Show the entries, each checked byte by byte.
    Info,
    /// Remove all entries.
    Clear,
    /// Compile now, so that the next start does not have to.
    Warm {
        /// Compile the interpreter that counts fuel.
        #[arg(long)]
        fuel: bool,
    },
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, Default, Args)]
// Flags of a group would else leave theirs to those that follow.
#[command(next_help_heading = None::<&str>)]
pub struct Talk {
    /// Say nothing that is not an error.
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say what was used, and how the start went.
    #[arg(short, long)]
    pub verbose: bool,
}

/// The variables that flags are read from; any other with the prefix is a mistake.
pub const VARIABLES: &[&str] = &[
    "AGENTKERNEL_CACHE_DIR",
    "AGENTKERNEL_CONFIG",
    "AGENTKERNEL_DATA_DIR",
    "AGENTKERNEL_FUEL",
    "AGENTKERNEL_GUEST",
    "AGENTKERNEL_LLM_CACHE",
    "AGENTKERNEL_LLM_MAX_CALLS",
    "AGENTKERNEL_LLM_MAX_CONCURRENCY",
    "AGENTKERNEL_LLM_MAX_COST",
    "AGENTKERNEL_LLM_MAX_DEPTH",
    "AGENTKERNEL_LLM_MAX_TIME",
    "AGENTKERNEL_LLM_MAX_TOKENS",
    "AGENTKERNEL_LLM_MODEL",
    "AGENTKERNEL_LLM_PROVIDER",
    "AGENTKERNEL_LLM_SUB_MODEL",
    "AGENTKERNEL_MAX_ENTRIES",
    "AGENTKERNEL_MAX_OPEN_FILES",
    "AGENTKERNEL_MAX_OPERATIONS",
    "AGENTKERNEL_MAX_OUTPUT",
    "AGENTKERNEL_MAX_PATH",
    "AGENTKERNEL_MAX_WRITTEN",
    "AGENTKERNEL_MCP_TOKEN",
    "AGENTKERNEL_MEMORY",
    "AGENTKERNEL_OTLP",
    "AGENTKERNEL_PORTABLE",
    "AGENTKERNEL_SKILLS",
    "AGENTKERNEL_SKILLS_WRITE",
    "AGENTKERNEL_STATE",
    "AGENTKERNEL_TASK_STORE",
    "AGENTKERNEL_TIMEOUT",
    "AGENTKERNEL_TRACE",
    "AGENTKERNEL_TRACE_CONTENT",
    "AGENTKERNEL_WORKSPACE",
    "SANDBOX_TYPE",
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// The heading of a group of flags is not that of the flags after it.
    #[test]
    fn what_belongs_to_no_group_stands_under_options() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let is_own = ["quiet", "verbose", "json", "image"].contains(&argument.get_id().as_str());
                assert!(
                    !is_own || argument.get_help_heading().is_none(),
                    "{argument} of {}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }

    #[test]
    fn every_variable_is_known() {
        fn variables(command: &clap::Command) -> Vec<String> {
            let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
            let below = command.get_subcommands().flat_map(variables);
            own.map(str::to_owned).chain(below).collect()
        }
        let mut found = variables(&Arguments::command());
        // No flag says it: it is where several files of the user's are.
        found.push("AGENTKERNEL_DATA_DIR".into());
        // Nor this: it is a secret.
        found.push("AGENTKERNEL_MCP_TOKEN".into());
        found.sort();
        found.dedup();
        assert_eq!(found, VARIABLES);
    }
}
