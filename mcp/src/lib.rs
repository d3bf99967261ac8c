//! An MCP server over AgentKernel: a client runs Python in sessions, looks for tools, dispatches background
//! tasks and reads the files of the workspace.
//!
//! A [`Server`] is made of a [`Kernel`](agentkernel::Kernel) and what its sessions are granted. It speaks over standard input and
//! output ([`Server::serve_stdio`]), over any pair of streams ([`Server::serve`]) and over streamable HTTP
//! ([`Server::bind`]).
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> agentkernel_mcp::Result<()> {
//! use agentkernel::{Grants, Kernel};
//! use agentkernel_mcp::Server;
//!
//! let server = Server::builder(Kernel::new()?).grants(Grants::default()).build()?;
//! server.serve_stdio(std::future::pending()).await
//! # }
//! ```
//!
//! Each connection has sessions of its own, which no other one sees, and they end with it; with
//! [`ServerBuilder::keep_sessions`] they belong to the server, and what a turn has done is on disk before the
//! client hears of it.

#![warn(missing_docs)]

#[cfg(doctest)]
#[doc = include_str!("../../docs/mcp-server.md")]
struct Page;

mod arguments;
mod catalog;
mod client;
mod error;
mod http;
mod output;
mod refusal;
mod report;
mod resources;
mod schema;
mod search;
mod server;
mod sessions;
mod settings;
mod tasks;
mod too_long;
mod turn;
mod uri;

pub use error::{Error, Result};
pub use http::{HttpServer, HttpSettings, Token};
pub use server::Server;
pub use settings::{ServerBuilder, ServerLimits};
