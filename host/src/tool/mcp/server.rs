//! Which server a tool is, and how it is reached.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use reqwest::Url;

use super::http::is_here;
use crate::tool::ToolGrants;
use crate::{Error, ErrorKind, Result};

/// A server that speaks the Model Context Protocol: a program that is started, or one that is reached over HTTP. It becomes a
/// tool by [`Tool::mcp`](crate::Tool::mcp).
///
/// A program is a process with the rights of this one. It is no component: nothing keeps it from files and networks but what the
/// operating system does. It sees of the environment only `PATH` and what the tool's grants name.
///
/// ```no_run
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, McpServer, Tool};
///
/// let server = McpServer::command("npx", ["-y", "@modelcontextprotocol/server-filesystem", "data"]);
/// let kernel = Kernel::builder().tool(Tool::mcp("files", server)).build()?;
/// let mut session = kernel.session().start()?;
/// session.run_blocking("from tools.files import read_text_file\nread_text_file('data/a.txt')")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct McpServer {
    pub(super) place: Place,
    pub(super) shared: bool,
    pub(super) start_timeout: Duration,
    pub(super) message_bytes: usize,
    /// What was given and has no effect.
    misplaced: Option<&'static str>,
}

#[derive(Clone)]
pub(super) enum Place {
    Program(Program),
    Url { url: String, headers: Vec<(String, String)> },
}

/// A program that is a server.
#[derive(Clone)]
pub struct Program {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    pub environment: BTreeMap<String, String>,
    pub directory: Option<PathBuf>,
}

/// Arguments and headers may be secrets.
impl fmt::Debug for McpServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("McpServer").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl McpServer {
    fn of(place: Place) -> Self {
        McpServer {
            place,
            shared: false,
            start_timeout: Duration::from_secs(60),
            message_bytes: 8 << 20,
            misplaced: None,
        }
    }

    /// A program that speaks the protocol on its standard streams. A name without a slash is looked for in `PATH`.
    pub fn command(
        program: impl Into<OsString>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self::of(Place::Program(Program {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            directory: None,
        }))
    }

    /// A server at a URL that speaks the protocol's streamable HTTP: `https`, or `http` to this machine.
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(Place::Url { url: url.into(), headers: Vec::new() })
    }

    /// A variable of the environment of a program, beside those that the tool's grants name.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        match &mut self.place {
            Place::Program(program) => drop(program.environment.insert(name.into(), value.into())),
            Place::Url { .. } => self.misplaced = Some("variables, and is not started here"),
        }
        self
    }

    /// The directory that a program works in. Default: that of this process.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        match &mut self.place {
            Place::Program(program) => program.directory = Some(directory.into()),
            Place::Url { .. } => self.misplaced = Some("a directory, and is not started here"),
        }
        self
    }

    /// A header of each request to a URL. `{{NAME}}` in its value stands for the secret of that name among the tool's grants.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        match &mut self.place {
            Place::Url { headers, .. } => headers.push((name.into(), value.into())),
            Place::Program(_) => self.misplaced = Some("a header, and is not sent requests"),
        }
        self
    }

    /// Whether all sessions of a kernel share one server. What one session tells it another may then be told. Default: no; each
    /// session that calls it has a process, or a connection, of its own.
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// How long it may take to start and to say what it offers. Default: 60 seconds, as some are downloaded first.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// The longest message that it may send, in bytes: of an answer, or of a page of what it offers. Default: 8 MiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = bytes;
        self
    }

    /// The program, where it is one.
    pub fn program(&self) -> Option<&OsStr> {
        self.started().map(|program| program.program.as_os_str())
    }

    /// What a program is given as arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        self.started().into_iter().flat_map(|program| &program.arguments).map(OsString::as_os_str)
    }

    /// The directory that a program works in, if it was named.
    pub fn working_directory(&self) -> Option<&Path> {
        self.started()?.directory.as_deref()
    }

    fn started(&self) -> Option<&Program> {
        match &self.place {
            Place::Program(program) => Some(program),
            Place::Url { .. } => None,
        }
    }

    /// What is said of the tool before the server was asked.
    pub(super) fn summary(&self) -> String {
        match &self.place {
            Place::Program(_) => "functions of an MCP server".to_owned(),
            Place::Url { url, .. } => match Url::parse(url).ok().as_ref().and_then(Url::host_str) {
                Some(host) => format!("functions of the MCP server at {}", super::text::line(host, 80)),
                None => "functions of an MCP server".to_owned(),
            },
        }
    }

    /// Which it is, without what may be secret.
    pub(super) fn mark(&self) -> String {
        match &self.place {
            Place::Program(program) => format!("mcp program {}", program.program.to_string_lossy()),
            Place::Url { url, .. } => format!("mcp url {}", url.split(['?', '#']).next().unwrap_or_default()),
        }
    }

    /// Refuses what could not work, and grants without effect.
    pub(super) fn check(&self, tool: &str, grants: &ToolGrants) -> Result<()> {
        let bad = |message: String| {
            Error::new(ErrorKind::Tool, format!("the MCP server of the tool `{tool}` {message}"))
        };
        if let Some(what) = self.misplaced {
            return Err(bad(format!("has {what}")).hint("take it away; it has no effect"));
        }
        match &self.place {
            Place::Program(program) => {
                if program.program.is_empty() {
                    return Err(bad("has no program".into()).hint("name the program that is to be started"));
                }
                let names = program.environment.keys().chain(grants.environment.keys());
                let values = program.environment.values().chain(grants.environment.values());
                let is_bad = |name: &String| name.is_empty() || name.contains(['=', '\0']);
                if names.into_iter().any(is_bad) || values.into_iter().any(|value| value.contains('\0')) {
                    return Err(bad("has a variable that cannot be one".into())
                        .hint("name variables without `=`, and without null characters in them"));
                }
            }
            Place::Url { url, headers } => {
                let parsed = Url::parse(url)
                    .map_err(|error| bad(format!("has no URL: {error}")).hint("write `https://HOST/PATH`"))?;
                let fits = parsed.scheme() == "https" || parsed.scheme() == "http" && is_here(&parsed);
                if !fits || !parsed.has_host() {
                    return Err(bad("is not at `https`, nor on this machine".into()).hint(
                        "write `https://HOST/PATH`; `http` is for `localhost` and loopback addresses",
                    ));
                }
                if !parsed.username().is_empty() || parsed.password().is_some() {
                    return Err(bad("has a user or a password in its URL".into())
                        .hint("send a header with a secret: `Authorization = \"Bearer {{KEY}}\"`"));
                }
                for (name, value) in headers {
                    let is_sound = name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok();
                    if !is_sound {
                        return Err(bad(format!("has a header `{name}` that cannot be one"))
                            .hint("check its name, and its value for line breaks"));
                    }
                }
            }
        }
        if self.start_timeout.is_zero() || self.message_bytes == 0 {
            return Err(bad("has a limit of 0, within which it can do nothing".into())
                .hint("give it more, or leave the limit out"));
        }
        self.check_effect(tool, grants)
    }

    fn check_effect(&self, tool: &str, grants: &ToolGrants) -> Result<()> {
        let none = ToolGrants::default();
        let (limits, plain) = (&grants.limits, &none.limits);
        let is_url = matches!(self.place, Place::Url { .. });
        let given = [
            (!grants.mounts.is_empty(), "mounts", "it has the files that its user has"),
            (is_url && !grants.environment.is_empty(), "env", "it is not started here"),
            (!grants.http.is_empty(), "http", "its network is not the host's to rule"),
            (!is_url && !grants.secrets.is_empty(), "secrets", "pass variables to a program by `env`"),
            (grants.random != none.random, "random", "its chance is its own"),
            (grants.clock != none.clock, "clock", "its clocks are its own"),
            (grants.per_call, "per-call", "each session has a server of its own unless it is `shared`"),
            (grants.resources != none.resources, "resources", "it has none"),
            (limits.memory_bytes != plain.memory_bytes, "memory", "limit it by the operating system's means"),
            (
                limits.instances != plain.instances,
                "max-instances",
                "`max-concurrent-requests` limits calls at once",
            ),
            (limits.open_files != plain.open_files, "max-open-files", "its files are its own"),
            (limits.write_bytes != plain.write_bytes, "max-written", "its files are its own"),
            (limits.new_entries != plain.new_entries, "max-entries", "its files are its own"),
            (limits.path_bytes != plain.path_bytes, "max-path", "its files are its own"),
        ];
        if let Some((_, key, why)) = given.iter().find(|(given, ..)| *given) {
            return Err(Error::new(
                ErrorKind::Grant,
                format!("`{key}` has no effect on the tool `{tool}`, which is an MCP server: {why}"),
            )
            .hint(format!("take `{key}` out of its grants")));
        }
        if limits.concurrent_requests == 0 || limits.requests == 0 {
            return Err(Error::new(ErrorKind::Grant, format!("no calls of the tool `{tool}` are allowed"))
                .hint("give at least 1, or leave the tool out"));
        }
        Ok(())
    }
}
