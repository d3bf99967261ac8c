//! Flags of named sessions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Data, Granted, Lasting, Models, Sandbox, Settle, Start, Talk, Telemetry};

/// `agentkernel session`.
#[derive(Debug, Subcommand)]
pub enum SessionAction {
    /// Make a session; its grants and limits are those of the flags, at every turn.
    New(Box<NewSession>),
    /// Run one turn, and keep what it leaves.
    Run(SessionRun),
    /// List the sessions.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Say all that is known of a session.
    Show {
        /// The session.
        name: String,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show the turns of a session.
    Log {
        /// The session.
        name: String,
        /// Print a JSON object a line, with all that was written down.
        #[arg(long)]
        json: bool,
    },
    /// Make another session in the same state.
    Fork {
        /// The session.
        name: String,
        /// The name of the other one.
        new: String,
    },
    /// Write the state to a file, to be restored later or in another session.
    Snapshot {
        /// The session.
        name: String,
        /// The file, by convention with the extension `akimg` [default: one of the session's own, named after its turn].
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Put the session into the state of a file. Its files stay as they are.
    Restore {
        /// The session.
        name: String,
        /// The file, or the number of the turn after which `snapshot` was asked for.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Show what a session with `--overlay` has changed in its files.
    Diff {
        /// The session.
        name: String,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Take these changes over into the directory: all of them, or none if it was changed meanwhile.
    Apply {
        /// The session.
        name: String,
        #[command(flatten)]
        settle: Settle,
    },
    /// Drop these changes.
    Discard {
        /// The session.
        name: String,
    },
    /// Put the session's memory back to its beginning.
    Reset {
        /// The session.
        name: String,
        /// Drop its files as well: all of its own workspace, or what it changed in an overlay.
        #[arg(long)]
        files: bool,
    },
    /// Run the turns that were kept once more and take the state they lead to, when an image no longer fits.
    Replay {
        /// The session.
        name: String,
        #[command(flatten)]
        talk: Talk,
    },
    /// Remove sessions with all they have kept.
    #[command(aliases = ["delete", "remove"])]
    Rm {
        /// The sessions.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl SessionAction {
    pub fn talk(&self) -> Talk {
        match self {
            SessionAction::New(new) => new.talk,
            SessionAction::Run(run) => run.talk,
            SessionAction::Replay { talk, .. } => *talk,
            _ => Talk::default(),
        }
    }
}

/// `agentkernel session new`.
#[derive(Debug, Args)]
pub struct NewSession {
    /// The session's name: small letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Keep what programs change in the workspace apart from the directory, with each turn as a whole.
    #[arg(long, help_heading = "Grants")]
    pub overlay: bool,
    #[command(flatten)]
    pub start: Start,
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub tasks: Granted,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub talk: Talk,
}

/// `agentkernel session run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "agentkernel session run [OPTIONS] <NAME> <SCRIPT|-> [ARGS]...\n       agentkernel session run [OPTIONS] <NAME> -c <CODE> [ARGS]...",
    after_help = "Exit codes: as of `agentkernel run`, and 1 when the turn ran and its state could not be kept."
)]
pub struct SessionRun {
    /// The session.
    pub name: String,
    /// Run this code in place of a script.
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub code: Option<String>,
    /// Keep nothing of a turn that raises, is stopped or exits with another code than 0: memory and files.
    #[arg(long)]
    pub transactional: bool,
    /// Print one JSON object with the outcome, in place of the program's output.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// The script, `-` for standard input, and the program's arguments.
    #[arg(help_heading = None::<&'static str>, value_name = "SCRIPT|-", trailing_var_arg = true, allow_hyphen_values = true, value_hint = ValueHint::FilePath)]
    pub rest: Vec<OsString>,
}
