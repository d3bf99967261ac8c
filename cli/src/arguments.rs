//! The command line, as clap reads it. `AGENTKERNEL_*` variables stand in for flags that are not given.

mod agent;
mod config;
mod lasting;
mod mcp;
mod models;
mod sessions;
mod tasks;
mod telemetry;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub use self::agent::{Agent, Approve};
pub use self::config::{ConfigAction, ConfigShow};
pub use self::lasting::{Lasting, SkillAction, SkillsAt};
pub use self::mcp::{Http, McpAction, Serve};
pub use self::models::{Models, Repetition, Rlm, RlmAction};
pub use self::sessions::{NewSession, SessionAction, SessionRun};
pub use self::tasks::{Granted, Place, Plan, TaskAction, Work};
pub use self::telemetry::Telemetry;
use crate::units::{self, Timeout};

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

/// `agentkernel run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "agentkernel run [OPTIONS] <SCRIPT|-> [ARGS]...\n       agentkernel run [OPTIONS] -c <CODE> [ARGS]...",
    after_help = "Exit codes: 0; 1 uncaught exception; N sys.exit(N); 2 misuse; 124 time or fuel limit; \
                  130 interrupted (KeyboardInterrupt too); 134 the interpreter failed; 137 memory limit."
)]
pub struct Run {
    /// Run this code in place of a script.
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub code: Option<String>,

    #[command(flatten)]
    pub sandbox: Sandbox,

    #[command(flatten)]
    pub models: Models,

    /// Data that the program reads as `agentkernel.context`, of any size. Repeatable.
    #[arg(short = 'C', long = "context", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath, help_heading = "Grants")]
    pub contexts: Vec<PathBuf>,

    #[command(flatten)]
    pub tasks: Granted,

    #[command(flatten)]
    pub lasting: Lasting,

    /// Keep what the program changes in the workspace apart from the directory; what differs is shown, then dropped.
    #[arg(long, help_heading = "Grants")]
    pub overlay: bool,
    /// Take the changes over into the directory if the program ends without an error.
    #[arg(long, requires = "overlay", help_heading = "Grants")]
    pub apply: bool,
    /// What the program starts from: `[image.NAME]` of agentkernel.toml, or a file that `session snapshot` has written.
    #[arg(long, value_name = "NAME|FILE", value_hint = ValueHint::FilePath)]
    pub image: Option<PathBuf>,

    #[command(flatten)]
    pub repetition: Repetition,

    /// Print one JSON object with the outcome, in place of the program's output.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub talk: Talk,

    #[command(flatten)]
    pub telemetry: Telemetry,

    /// The script, `-` for standard input, and the program's arguments.
    #[arg(value_name = "SCRIPT|-", trailing_var_arg = true, allow_hyphen_values = true, value_hint = ValueHint::FilePath)]
    pub rest: Vec<OsString>,
}

/// `agentkernel repl`.
#[derive(Debug, Args)]
pub struct Repl {
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub tasks: Granted,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub telemetry: Telemetry,
}

/// `agentkernel compose`.
#[derive(Debug, Args)]
#[command(
    after_help = "The component exports `wasi:cli/run`: `wasmtime run --dir .::/workspace FILE` runs it."
)]
pub struct Compose {
    /// The program.
    #[arg(value_name = "SCRIPT", value_hint = ValueHint::FilePath)]
    pub script: PathBuf,
    /// The component to write.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// A tool component, or a directory of them: `text.wasm` is imported as `tools.text`. Repeatable.
    #[arg(long = "tools", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub tools: Vec<PathBuf>,
    /// A directory whose Python modules and packages the program can import. Repeatable.
    #[arg(long = "modules", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub modules: Vec<PathBuf>,
    /// End with the program's own exit code, not 1 for all but 0, which needs a host of WASI 0.2.12.
    #[arg(long)]
    pub exit_codes: bool,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub configuration: Configuration,
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

#[derive(Debug, Subcommand)]
pub enum ToolAction {
    /// List the tools, each with a line about it.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Show what a tool offers, or all about one of its functions or classes.
    Describe {
        /// The tool, or a part of it: `text`, `text.search`.
        name: String,
        /// How much is shown [default: a line each for a tool, all for a function or class].
        #[arg(long, value_enum)]
        detail: Option<Detail>,
        /// Print a JSON array of what is in it.
        #[arg(long, conflicts_with = "detail")]
        json: bool,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Find functions by what they do.
    Search {
        /// Words, in any order.
        #[arg(required = true)]
        words: Vec<String>,
        /// How many are shown.
        #[arg(long, default_value_t = 10)]
        limit: u32,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Call a function, and print what it gives as JSON.
    Call {
        /// The function: `text.search`.
        name: String,
        /// Its arguments: a JSON array, or an object by name; `-` reads it from standard input.
        #[arg(value_name = "JSON|-", default_value = "[]", allow_hyphen_values = true)]
        arguments: String,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Say what a component imports and exports, and whether it can be a tool.
    Check {
        /// The components.
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        engine: Engine,
    },
    /// Write stub files of the tools, for type checkers and editors.
    Stubs {
        /// Where; type checkers must look there (`MYPYPATH`, `stubPath`).
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: PathBuf,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Put the documentation of its WIT into a component, where programs see it as docstrings.
    Document {
        /// The component.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The WIT it was built from.
        #[arg(long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
        wit: PathBuf,
        /// Where to write the result [default: over the component].
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
}

/// How much is said about a tool.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Detail {
    /// Names alone.
    Name,
    /// A line each.
    Summary,
    /// All that is needed to call it.
    Full,
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
pub struct Talk {
    /// Say nothing that is not an error.
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say what was used, and how the start went.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Which interpreter runs and how. Global, so that `cache` takes them on both sides of its action.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub struct Engine {
    /// Another interpreter than the built-in one (a file made by `cargo xtask guest`).
    #[arg(long, global = true, value_name = "FILE", env = "AGENTKERNEL_GUEST", hide_env = true, value_hint = ValueHint::FilePath)]
    pub guest: Option<PathBuf>,
    /// Do without host-owned memory and safepoints, as on systems other than Linux.
    #[arg(long, global = true, env = "AGENTKERNEL_PORTABLE", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub portable: bool,
    /// Where compiled interpreters are kept [default: the user's cache directory].
    #[arg(long, global = true, value_name = "DIR", env = "AGENTKERNEL_CACHE_DIR", hide_env = true, value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
    /// Compile anew and keep nothing, whatever directory is configured.
    #[arg(long, global = true)]
    pub no_cache: bool,
}

/// What the program may touch and use.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Grants")]
pub struct Sandbox {
    /// The directory at /workspace, read and written [default: an empty one, removed afterwards].
    #[arg(short, long, value_name = "DIR", env = "AGENTKERNEL_WORKSPACE", hide_env = true, value_hint = ValueHint::DirPath)]
    pub workspace: Option<PathBuf>,
    /// A further directory, read-only unless `:rw` is added. Repeatable.
    #[arg(short, long = "mount", value_name = "HOST:GUEST[:ro|rw]")]
    pub mounts: Vec<String>,
    /// An environment variable; with its name alone, the value it has here. Repeatable.
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<String>,

    /// A tool component, or a directory of them: `text.wasm` is imported as `tools.text`. Repeatable.
    #[arg(long = "tools", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub tools: Vec<PathBuf>,

    /// Wall-clock time of the run, waiting included, or `none` [default: 60s; for a block of code of `rlm` and `agent` 10m].
    #[arg(short, long, value_name = "TIME", env = "AGENTKERNEL_TIMEOUT", hide_env = true, value_parser = units::timeout, help_heading = "Limits")]
    pub timeout: Option<Timeout>,
    /// Memory of the interpreter [default: 512MiB].
    #[arg(long, value_name = "SIZE", env = "AGENTKERNEL_MEMORY", hide_env = true, value_parser = units::bytes, help_heading = "Limits")]
    pub memory: Option<u64>,
    /// Units of computation, the same on every machine [default: not counted, which is faster].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_FUEL", hide_env = true, help_heading = "Limits")]
    pub fuel: Option<u64>,
    /// Output in all; the rest is dropped after a marker [default: 10MiB].
    #[arg(long, value_name = "SIZE", env = "AGENTKERNEL_MAX_OUTPUT", hide_env = true, value_parser = units::bytes, help_heading = "Limits")]
    pub max_output: Option<u64>,
    /// Bytes written to all directories [default: 1GiB].
    #[arg(long, value_name = "SIZE", env = "AGENTKERNEL_MAX_WRITTEN", hide_env = true, value_parser = units::bytes, help_heading = "Limits")]
    pub max_written: Option<u64>,
    /// Files and directories open at once [default: 256].
    #[arg(
        long,
        value_name = "N",
        env = "AGENTKERNEL_MAX_OPEN_FILES",
        hide_env = true,
        help_heading = "Limits"
    )]
    pub max_open_files: Option<u32>,
    /// Files, directories and links made, less those removed [default: 20000].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_MAX_ENTRIES", hide_env = true, help_heading = "Limits")]
    pub max_entries: Option<u32>,
    /// Length of a path in bytes [default: 4096].
    #[arg(long, value_name = "N", env = "AGENTKERNEL_MAX_PATH", hide_env = true, help_heading = "Limits")]
    pub max_path: Option<u32>,
    /// Host calls in flight at once [default: 256].
    #[arg(
        long,
        value_name = "N",
        env = "AGENTKERNEL_MAX_OPERATIONS",
        hide_env = true,
        help_heading = "Limits"
    )]
    pub max_operations: Option<u32>,

    /// What runs programs: `wasm`, the only one that is there [default: wasm].
    #[arg(long, value_name = "NAME", env = "SANDBOX_TYPE", hide_env = true, help_heading = "Engine")]
    pub sandbox: Option<String>,

    #[command(flatten)]
    pub engine: Engine,

    #[command(flatten)]
    pub configuration: Configuration,
}

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Configuration {
    /// The configuration file [default: agentkernel.toml here or in a directory above].
    #[arg(long, global = true, value_name = "FILE", env = "AGENTKERNEL_CONFIG", hide_env = true, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Use no configuration file, whichever is there or named by a variable.
    #[arg(long, global = true)]
    pub no_config: bool,
}

/// The variables read above; any other with the prefix is a mistake.
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
