//! Tools that are servers of the Model Context Protocol.
//!
//! A server ([`server`]) is a program ([`process`], [`stdio`]) or at a URL ([`http`]). A session that first needs it starts it
//! ([`client`], [`connection`]) and asks what it offers. That is read into plain data ([`model`], [`schema`]) with names of ours
//! ([`names`]) and cleaned texts ([`text`]), of which the Python is made ([`python`]) and by which arguments and results are
//! checked ([`check`]). Answers become values ([`answer`]).
//!
//! The modules that programs import ask the host for what is in them, by a call like any other. So nothing is started for a
//! program that imports none, and a recording has in it what was imported.

mod answer;
mod check;
mod client;
mod connection;
mod http;
mod model;
mod names;
mod process;
mod python;
mod schema;
mod server;
mod stdio;
mod text;

pub(crate) use answer::value as json_value;
pub(crate) use client::{Act, Mcp, Owned};
pub(crate) use python::{RUNTIME, items, stubs};
pub use server::McpServer;

use std::sync::Arc;

use tokio::runtime::Handle;

use super::toolbox::Toolbox;
use crate::{Error, ErrorKind};

/// Asks all servers among the tools what they offer, at the same time; gives those that did not say.
pub(crate) fn ask_servers(toolbox: &Arc<Toolbox>, runtime: &Handle) -> Vec<(String, Error)> {
    let servers = (0..toolbox.tools.len()).filter(|position| toolbox.tools[*position].mcp().is_some());
    let asking: Vec<_> = servers
        .map(|position| {
            let toolbox = Arc::clone(toolbox);
            (position, runtime.spawn(async move { Some(toolbox.tools[position].mcp()?.list().await) }))
        })
        .collect();
    let mut unasked = Vec::new();
    for (position, asking) in asking {
        let name = &toolbox.tools[position].name;
        // Not on the runtime's own threads: this may be called on a thread of the embedder's runtime.
        let (sender, answer) = std::sync::mpsc::channel();
        runtime.spawn(async move { sender.send(asking.await) });
        let message = match answer.recv() {
            Ok(Ok(Some(Ok(_)) | None)) => continue,
            Ok(Ok(Some(Err(failure)))) => failure.message,
            _ => "it could not be asked".to_owned(),
        };
        unasked.push((name.clone(), Error::new(ErrorKind::Tool, message).hint("see docs/mcp-tools.md")));
    }
    unasked
}
