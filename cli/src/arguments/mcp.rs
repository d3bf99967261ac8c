//! Flags of the MCP server.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Changes, Data, Granted, Lasting, Models, Sandbox, Start, Talk, Telemetry};
use crate::units;

/// `agentkernel mcp`.
#[derive(Debug, Subcommand)]
pub enum McpAction {
    /// Serve MCP clients: one over standard input and output, or several over HTTP.
    Serve(Box<Serve>),
}

impl McpAction {
    pub fn talk(&self) -> Talk {
        match self {
            McpAction::Serve(serve) => serve.talk,
        }
    }
}

/// `agentkernel mcp serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C, SIGTERM and the end of standard input end the server; turns that run are stopped."
)]
pub struct Serve {
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub telemetry: Telemetry,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub tasks: Granted,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub start: Start,

    /// Keep sessions in this directory, the state after each turn before its outcome is told [default: they end with their connection].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub sessions: Option<PathBuf>,
    /// Sessions of all clients together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Limits")]
    pub max_sessions: u32,
    /// How long a session lives that nobody uses, or `none` [default: 30m].
    #[arg(long, value_name = "TIME", value_parser = units::timeout, help_heading = "Limits")]
    pub idle: Option<units::Timeout>,

    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub talk: Talk,
}

/// Where HTTP is served, and to whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub struct Http {
    /// Serve streamable HTTP at this address, or port of this machine, and not standard input and output [default: 127.0.0.1:8642].
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:8642")]
    pub http: Option<String>,
    /// A file with the token that clients show. Needed where other machines can connect; AGENTKERNEL_MCP_TOKEN does as well.
    #[arg(long, value_name = "FILE", requires = "http", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// A further name by which clients reach this server. Repeatable.
    #[arg(long = "allow-host", value_name = "NAME", requires = "http")]
    pub hosts: Vec<String>,
    /// An origin whose pages may use this server, like `https://app.example`. Repeatable.
    #[arg(long = "allow-origin", value_name = "ORIGIN", requires = "http")]
    pub origins: Vec<String>,
    /// Clients at the same time.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "http", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_clients: u32,
}
