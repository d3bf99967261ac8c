//! Tools that are servers of the Model Context Protocol.
//!
//! A server ([`server`]) is a program ([`process`], [`stdio`]) or at a URL ([`http`]). A session that first needs it starts it
//! ([`client`], [`connection`], [`bounded`]) and asks what it offers. That is read into plain data ([`model`], [`schema`]) with names of ours
//! ([`names`]) and cleaned texts ([`text`]), of which the Python is made ([`python`]) and by which arguments and results are
//! checked ([`check`]). Answers become values ([`answer`]).
//!
//! The modules that programs import ask the host for what is in them, by a call like any other. So nothing is started for a
//! program that imports none, and a recording has in it what was imported.

mod answer;
mod ask;
mod bounded;
mod check;
mod client;
mod connection;
mod found;
mod http;
mod model;
mod names;
mod process;
mod python;
mod schema;
mod server;
mod stdio;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use answer::value as json_value;
pub(crate) use ask::ask_servers;
pub(crate) use client::{Act, Mcp, Owned};
pub use process::end_servers;
pub(crate) use python::{RUNTIME, items, stubs};
pub use server::McpServer;
