//! Flags of what lasts longer than a session.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// What programs find again in later sessions.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Grants")]
pub struct Lasting {
    /// A database of what programs keep as `agentkernel.state`, made if there is none [default: none].
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_STATE", hide_env = true, value_hint = ValueHint::FilePath)]
    pub state: Option<PathBuf>,
}
