//! Asking servers what they offer when no program does.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::tool::toolbox::Toolbox;
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
