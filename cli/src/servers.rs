//! Tools that are MCP servers, as the configuration writes them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use agentkernel::McpServer;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config;
use crate::failure::{Failure, Result};
use crate::schema;
use crate::units::Timeout;

/// A server of the Model Context Protocol: a program, or a URL (docs/mcp-tools.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct McpConfig {
    /// The program; a name without a slash is looked for in `PATH`. Default: none.
    #[schemars(example = &"npx")]
    command: Option<String>,
    /// Its arguments. Default: none.
    #[serde(default)]
    #[schemars(example = ["-y", "@modelcontextprotocol/server-memory"])]
    args: Vec<String>,
    /// The directory that the program works in. Default: where this file lies.
    #[schemars(with = "Option<schema::PathText>", example = &"servers")]
    directory: Option<PathBuf>,
    /// Where the server is, in place of a program: `https://`, or `http://` on this machine. Default: none.
    #[schemars(example = &"https://mcp.example/mcp")]
    url: Option<String>,
    /// Headers of each request; `{{NAME}}` is a secret. Default: none.
    #[serde(default)]
    #[schemars(example = &"Bearer {{TOKEN}}")]
    headers: BTreeMap<String, String>,
    /// Whether all sessions share one server. Default: `false`.
    #[serde(default)]
    shared: bool,
    /// How long it may take to start. Default: `60s`.
    #[serde(default, deserialize_with = "config::timeout")]
    #[schemars(with = "Option<schema::Time>")]
    start_timeout: Option<Timeout>,
    /// The longest message that it may send. Default: `8MiB`.
    #[serde(default, deserialize_with = "config::bytes")]
    #[schemars(with = "Option<schema::Size>")]
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
