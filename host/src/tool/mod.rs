//! Tools: WebAssembly components that programs import as typed Python modules.
//!
//! A tool need not know AgentKernel: any component that exports functions is one. Its own WIT is
//! read ([`read`]) into a description ([`describe`]), Python modules are made of that ([`python`]), and
//! each session that calls it gets an instance in a store of its own, with its own directories,
//! environment and limits ([`instance`]). Functions of the embedding program ([`function`]), Python
//! packages ([`package`]) and servers of the Model Context Protocol ([`mcp`]) are tools as well.

mod ambient;
mod circles;
mod component;
mod constraints;
mod denials;
pub(crate) mod describe;
mod effect;
mod function;
mod grants;
mod http;
mod instance;
pub(crate) mod json;
mod lifts;
mod link;
mod live;
pub(crate) mod loaded;
#[cfg(feature = "mcp")]
mod mcp;
pub(crate) mod names;
mod package;
mod pool;
pub(crate) mod python;
mod read;
mod resources;
mod state;
mod told;
pub(crate) mod toolbox;

use std::future::Future;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use ambient::{ClockSource, RandomSource};
pub use constraints::{Constraint, Constraints};
use function::Closure;
pub use grants::{ToolGrants, ToolLimits};
#[cfg(any(feature = "mcp", feature = "providers"))]
pub(crate) use http::client_config;
pub use http::{HttpRule, Secret};
pub(crate) use http::{Network, Resolve};
pub(crate) use instance::{Caller, Instances, Numbers};
pub(crate) use live::Host;
#[cfg(feature = "mcp")]
pub(crate) use mcp::ask_servers;
#[cfg(feature = "mcp")]
pub use mcp::{McpServer, end_servers};
pub(crate) use package::Package;
#[cfg(feature = "compose")]
pub(crate) use read::without_docs;
pub use resources::ToolResources;
pub(crate) use state::ToolState;
pub(crate) use toolbox::{ToolMark, Toolbox};

use crate::{Error, ErrorKind, Result};

/// A component that programs import as `tools.NAME`; see [`KernelBuilder::tool`](crate::KernelBuilder::tool).
///
/// ```no_run
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, Tool};
///
/// let kernel = Kernel::builder().tool(Tool::new("text", "tools/text.wasm")).build()?;
/// let mut session = kernel.session().start()?;
/// session.run_blocking("from tools.text import search\nsearch('a+', 'caat')")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tool {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) summary: Option<String>,
    pub(crate) grants: ToolGrants,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    File(PathBuf),
    Bytes(Vec<u8>),
    /// WIT, and a closure for each of its functions.
    Functions(String, Vec<(String, Closure)>),
    Python(PathBuf),
    #[cfg(feature = "mcp")]
    Mcp(McpServer),
}

impl Tool {
    fn of(name: impl Into<String>, kind: Kind) -> Self {
        Tool { name: name.into(), kind, summary: None, grants: ToolGrants::default() }
    }

    /// The component in a file. `name` is what programs import it as.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self::of(name, Kind::File(file.into()))
    }

    /// A component in memory.
    pub fn from_bytes(name: impl Into<String>, component: impl Into<Vec<u8>>) -> Self {
        Self::of(name, Kind::Bytes(component.into()))
    }

    /// A Python package, or a directory of modules. Sessions see it read-only in `/tools/NAME`; it
    /// runs in the interpreter, with the rights of the program, so grants have no effect on it.
    pub fn python(name: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        Self::of(name, Kind::Python(directory.into()))
    }

    /// The functions of a server that speaks the Model Context Protocol. It is started, or reached, when a program first
    /// imports the tool, looks for functions with `tools.search`, or calls one.
    #[cfg(feature = "mcp")]
    pub fn mcp(name: impl Into<String>, server: McpServer) -> Self {
        Self::of(name, Kind::Mcp(server))
    }

    /// Functions of this program. `wit` says what they take and give, as an interface of WIT does
    /// between its braces; each gets its closure by [`Tool::function`] or [`Tool::async_function`].
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// use agentkernel::{Kernel, Tool};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Customer {
    ///     id: u32,
    ///     name: String,
    /// }
    ///
    /// let crm = Tool::functions(
    ///     "crm",
    ///     "
    ///     record customer { id: u32, name: string }
    ///     /// Find customers by the beginning of their name.
    ///     find: func(name: string, limit: option<u32>) -> result<list<customer>, string>;
    ///     ",
    /// )
    /// .function("find", |(name, limit): (String, Option<u32>)| match name.as_str() {
    ///     "" => Err("give a name"),
    ///     name => Ok(vec![Customer { id: limit.unwrap_or(7), name: format!("{name} Ltd") }]),
    /// });
    /// let kernel = Kernel::builder().tool(crm).build()?;
    /// let mut session = kernel.session().start()?;
    /// let outcome = session.run_blocking("from tools.crm import find\nprint(find('Ada')[0].name)")?;
    /// assert_eq!(outcome.stdout, b"Ada Ltd\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn functions(name: impl Into<String>, wit: impl Into<String>) -> Self {
        Self::of(name, Kind::Functions(wit.into(), Vec::new()))
    }

    /// What a `func` of [`Tool::functions`] does, called `name` in WIT. It takes the arguments as a
    /// tuple (of one too: `(String,)`) or as a struct with a field for each, in their order, or `()`;
    /// it gives what serde writes in the JSON form of the WIT type, a `Result` for a `result`. It runs
    /// on the turn's thread and cannot be stopped: keep it short.
    pub fn function<A, R>(
        self,
        name: impl Into<String>,
        function: impl Fn(A) -> R + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        self.closure(name, Closure::plain(function))
    }

    /// What an `async func` of [`Tool::functions`] does. Its calls may overlap, and end with the turn.
    pub fn async_function<A, F>(
        self,
        name: impl Into<String>,
        function: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        F: Future<Output: Serialize> + Send + 'static,
    {
        self.closure(name, Closure::asynchronous(function))
    }

    fn closure(mut self, name: impl Into<String>, closure: Closure) -> Self {
        let added = (name.into(), closure);
        match &mut self.kind {
            Kind::Functions(_, closures) => closures.push(added),
            // Found when the kernel is built: a component has no closures.
            _ => self.kind = Kind::Functions(String::new(), vec![added]),
        }
        self
    }

    /// The component with the documentation that the WIT in `wit`, a file or a directory, has in its
    /// comments. Compilers leave it out; programs see it as docstrings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tool`] when the WIT cannot be read, or `component` is none.
    pub fn document(component: &[u8], wit: &Path) -> Result<Vec<u8>> {
        read::document(component, wit)
    }

    /// The tools in a file or directory: `text.wasm` is the tool `text`, `data-analysis.wasm` is
    /// `data_analysis`. Of a directory these are the files that end in `.wasm`, in order of their names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tool`] when it cannot be read, or a name cannot be a Python module's.
    pub fn discover(path: &Path) -> Result<Vec<Self>> {
        let unreadable = |error| {
            Error::new(ErrorKind::Tool, format!("cannot read the tools in `{}`", path.display()))
                .hint("name a component, or a directory with components that end in `.wasm`")
                .source(error)
        };
        if std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Ok(vec![Self::new(Self::name_of(path)?, path)]);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.extension().is_some_and(|extension| extension == "wasm") && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(Error::new(ErrorKind::Tool, format!("there is no tool in `{}`", path.display()))
                .hint("tools are files that end in `.wasm`"));
        }
        files.into_iter().map(|file| Ok(Self::new(Self::name_of(&file)?, file))).collect()
    }

    fn name_of(file: &Path) -> Result<String> {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = names::snake(&stem);
        if names::is_identifier(&name) {
            return Ok(name);
        }
        Err(Error::new(ErrorKind::Tool, format!("`{name}` cannot be the name of a Python module"))
            .hint(format!("rename `{}`, or name the tool in agentkernel.toml", file.display())))
    }

    /// What programs import it as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that the component is read from, if it is.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    /// The server that it is, if it is one.
    #[cfg(feature = "mcp")]
    pub fn server(&self) -> Option<&McpServer> {
        match &self.kind {
            Kind::Mcp(server) => Some(server),
            _ => None,
        }
    }

    /// What it was given by [`Tool::grants`].
    pub fn granted(&self) -> &ToolGrants {
        &self.grants
    }

    /// One line about what it is for. Default: the first line of its own documentation.
    pub fn summary(mut self, line: impl Into<String>) -> Self {
        self.summary = Some(line.into());
        self
    }

    /// Whether it was granted anything but the default.
    pub fn has_own_grants(&self) -> bool {
        self.grants != ToolGrants::default()
    }

    /// What the tool may touch and use. Default: [`ToolGrants::default`].
    pub fn grants(mut self, grants: ToolGrants) -> Self {
        self.grants = grants;
        self
    }
}

/// What a tool is called and for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolInfo {
    /// The name that programs import it by, below `tools`.
    pub name: String,
    /// One line about what it is for; it may be empty.
    pub summary: String,
    /// What kind of tool it is.
    pub kind: ToolKind,
    /// What it offers, itself first; of a Python package that is only the package, and of an MCP server too until it was asked
    /// ([`Kernel::ask_servers`](crate::Kernel::ask_servers)).
    pub items: Vec<ToolItem>,
    /// The interfaces that a component imports.
    pub imports: Vec<String>,
}

/// What kind a tool is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolKind {
    /// A WebAssembly component.
    Component,
    /// Functions of the embedding program.
    Functions,
    /// A Python package.
    Python,
    /// A server that speaks the Model Context Protocol.
    Mcp,
}

/// A function, class or module of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolItem {
    /// Its name below `tools`: `text.search`.
    pub name: String,
    /// What stands for it in one line: `text.search(pattern: str, text: str) -> list[Match]`.
    pub signature: String,
    /// Its documentation; it may be empty.
    pub docs: String,
}
