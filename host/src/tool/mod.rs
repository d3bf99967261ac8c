//! Tools: WebAssembly components that programs import as typed Python modules.
//!
//! A tool need not know AgentKernel: any component that exports functions is one. Its own WIT is
//! read ([`describe`]), Python modules are made of that ([`python`]), and each session that calls it
//! gets an instance in a store of its own, with its own directories, environment and limits
//! ([`instance`]).

pub(crate) mod describe;
mod grants;
mod instance;
pub(crate) mod names;
pub(crate) mod python;
mod toolbox;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub use grants::{ToolGrants, ToolLimits};
pub(crate) use instance::{Caller, Instances, ToolState};
pub(crate) use toolbox::Toolbox;

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
    pub(crate) component: Component,
    pub(crate) summary: Option<String>,
    pub(crate) grants: ToolGrants,
}

#[derive(Clone, Debug)]
pub(crate) enum Component {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Component {
    /// The bytes of the tool `name`.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        match self {
            Component::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Component::File(file) => std::fs::read(file).map(Cow::Owned).map_err(|error| {
                Error::new(
                    ErrorKind::Tool,
                    format!("cannot read the tool `{name}` from `{}`", file.display()),
                )
                .hint("name a WebAssembly component")
                .source(error)
            }),
        }
    }
}

/// Refuses tools that cannot be modules of their own.
pub(crate) fn check_names(tools: &[Tool]) -> Result<()> {
    for (position, tool) in tools.iter().enumerate() {
        if !names::is_identifier(&tool.name) {
            return Err(Error::new(
                ErrorKind::Tool,
                format!("`{}` cannot be the name of a Python module", tool.name),
            )
            .hint("name the tool with letters, digits and `_`"));
        }
        if tools[..position].iter().any(|other| other.name == tool.name) {
            return Err(Error::new(ErrorKind::Tool, format!("two tools are called `{}`", tool.name))
                .hint("give one of them another name in agentkernel.toml"));
        }
    }
    Ok(())
}

impl Tool {
    /// The component in a file. `name` is what programs import it as.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        let component = Component::File(file.into());
        Tool { name: name.into(), component, summary: None, grants: ToolGrants::default() }
    }

    /// A component in memory.
    pub fn from_bytes(name: impl Into<String>, component: impl Into<Vec<u8>>) -> Self {
        let component = Component::Bytes(component.into());
        Tool { name: name.into(), component, summary: None, grants: ToolGrants::default() }
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

    /// The file it is read from, if it is.
    pub fn file(&self) -> Option<&Path> {
        match &self.component {
            Component::File(file) => Some(file),
            Component::Bytes(_) => None,
        }
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
    /// The full names of its Python modules and their sources.
    pub modules: Vec<(String, String)>,
}
