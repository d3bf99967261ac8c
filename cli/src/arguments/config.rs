//! Flags of `agentkernel config`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Engine, Granted, Lasting, Models, Sandbox, Telemetry};

/// `agentkernel config`.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print what is in force, and where it comes from: a flag, a variable, the file, or the default.
    Show(Box<ConfigShow>),
    /// Say all that is wrong with a configuration file. Exit code 2 if anything is.
    Check {
        /// The file [default: agentkernel.toml here or in a directory above].
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        #[command(flatten)]
        engine: Engine,
    },
    /// Write a configuration file in which every key stands in a comment.
    Init {
        /// The file.
        #[arg(default_value = "agentkernel.toml", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
}

/// `agentkernel config show`.
#[derive(Debug, Args)]
pub struct ConfigShow {
    /// Print a JSON array, with the keys that nobody has set.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub tasks: Granted,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub telemetry: Telemetry,
}
