//! Flags that several commands have which run programs: data, changes to files, what programs start from.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Data for programs.
#[derive(Clone, Debug, Default, Args)]
pub struct Data {
    /// Data that programs read as `agentkernel.context`, of any size. Repeatable.
    #[arg(short = 'C', long = "context", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath, help_heading = "Grants")]
    pub contexts: Vec<PathBuf>,
}

/// What becomes of changes to the workspace.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Grants")]
pub struct Changes {
    /// Keep what programs change in the workspace apart from the directory; what differs is shown at the end, then dropped.
    #[arg(long)]
    pub overlay: bool,
    /// Take the changes over into the directory at the end, if there was no error.
    #[arg(long, requires = "overlay")]
    pub apply: bool,
}

/// What sessions begin with.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = None::<&str>)]
pub struct Start {
    /// What programs start from: `[image.NAME]` of agentkernel.toml, or a file that `session snapshot` has written.
    #[arg(long, value_name = "NAME|FILE", value_hint = ValueHint::FilePath)]
    pub image: Option<PathBuf>,
}
