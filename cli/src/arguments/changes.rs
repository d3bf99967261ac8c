//! Flags of changes that were kept.

use clap::{Args, Subcommand};

/// What becomes of places where the directory was changed meanwhile.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Conflicts")]
pub struct Settle {
    /// Where the directory was changed meanwhile at PATH or below, replace what is there by the change. `.` is everywhere; of several paths over it, the longest holds. Repeatable.
    #[arg(long, value_name = "PATH")]
    pub ours: Vec<String>,
    /// There, leave what is there and drop the change. Repeatable.
    #[arg(long, value_name = "PATH")]
    pub theirs: Vec<String>,
}

/// `agentkernel changes`.
#[derive(Debug, Subcommand)]
pub enum ChangesAction {
    /// List the changes that are kept.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show changes, and where the directory was changed meanwhile.
    Diff {
        /// The changes, by their name in `changes list`.
        name: String,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Take changes over into their directory: all of them, or none if it was changed meanwhile.
    Apply {
        /// The changes, by their name in `changes list`.
        name: String,
        #[command(flatten)]
        settle: Settle,
    },
    /// Drop changes.
    Discard {
        /// The changes, by their names in `changes list`.
        #[arg(required = true)]
        names: Vec<String>,
    },
}
