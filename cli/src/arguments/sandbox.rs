//! Flags of the sandbox: what programs may touch and use, what runs them, and where that is configured.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::units::{self, Timeout};

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
