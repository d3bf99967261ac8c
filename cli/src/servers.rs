//! Tools that are MCP servers, as the configuration writes them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use agentkernel::McpServer;
use serde::Deserialize;

use crate::config;
use crate::failure::{Failure, Result};
use crate::units::Timeout;

/// `mcp` of `[tool.NAME]`: a program, or a URL.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct McpConfig {
    /// The program; a name without a slash is looked for in `PATH`.
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    /// The directory that the program works in. Default: where the file lies.
    directory: Option<PathBuf>,
    url: Option<String>,
    /// Headers of each request; `{{NAME}}` is a secret.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Whether all sessions share one server.
    #[serde(default)]
    shared: bool,
    #[serde(default, deserialize_with = "config::timeout")]
    start_timeout: Option<Timeout>,
    /// The longest message that it may send.
    #[serde(default, deserialize_with = "config::bytes")]
    max_message: Option<u64>,
}

impl McpConfig {
    /// The server of the tool `name`; relative paths start at `base`.
    pub fn server(&self, name: &str, base: &Path) -> Result<McpServer> {
        let wrong = |message: &str| Failure::new(format!("`mcp` in `[tool.{name}]` {message}"));
        let mut server = match (&self.command, &self.url) {
            (Some(command), None) => {
                if !self.headers.is_empty() {
                    return Err(wrong("has `headers`, which a program is not sent")
                        .hint("pass it variables: `env = [\"NAME\"]` in the table of the tool"));
                }
                let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
                // As everywhere in the file: a name is looked for, a path starts where the file lies.
                let program = match Path::new(command).components().count() > 1 {
                    true => base.join(command).into_os_string(),
                    false => command.into(),
                };
                let directory =
                    self.directory.as_ref().map_or(base.clone(), |directory| base.join(directory));
                McpServer::command(program, &self.args).directory(directory)
            }
            (None, Some(url)) => {
                if !self.args.is_empty() || self.directory.is_some() {
                    return Err(wrong("has `args` or a `directory`, and a URL is not started")
                        .hint("remove them, or name a `command` in place of the `url`"));
                }
                let server = McpServer::url(url);
                self.headers.iter().fold(server, |server, (name, value)| server.header(name, value))
            }
            (Some(_), Some(_)) => {
                return Err(wrong("has both a `command` and a `url`").hint("keep one of them"));
            }
            (None, None) => {
                return Err(wrong("names no server").hint("write `mcp = { command = \"PROGRAM\", args = [] }`, or `{ url = \"https://HOST/PATH\" }`"));
            }
        };
        server = server.shared(self.shared);
        match self.start_timeout {
            None => {}
            Some(Timeout(Some(timeout))) => server = server.start_timeout(timeout),
            Some(Timeout(None)) => {
                return Err(
                    wrong("has no limit of its start").hint("give `start-timeout` a time, as in `\"5m\"`")
                );
            }
        }
        if let Some(bytes) = self.max_message {
            server = server.max_message_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        Ok(server)
    }
}

/// What a server is made of: its program where that is a path, its directory, and those of its arguments that are files.
pub fn paths(server: &McpServer) -> Vec<PathBuf> {
    let directory = server.working_directory();
    let at = |path: &OsStr| directory.map_or_else(|| PathBuf::from(path), |directory| directory.join(path));
    let program = server.program().filter(|program| Path::new(program).components().count() > 1).map(at);
    let arguments = server.arguments().map(at).filter(|path| path.is_file());
    directory.map(Path::to_path_buf).into_iter().chain(program).chain(arguments).collect()
}
