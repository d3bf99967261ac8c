//! A program, its tools and the interpreter as one component, which runs without AgentKernel.
//!
//! ```text
//!              wasi:cli/run
//!                   ▲
//!                 runner ──guest──► interpreter
//!                   │                    │ console, operations, modules
//!                   └───────program──────┴──► bridge ──► tools
//! ```
//!
//! The bridge stands in for the host. It is a module made once (`compose/bridge`), into which the
//! functions of the tools at hand are put ([`bridge`]), with their types ([`types`]) and the program
//! ([`data`]). The interpreter loses what only our host makes use of ([`interpreter`]). wac joins all
//! of them ([`join`]).

mod bridge;
mod data;
mod interpreter;
mod join;
mod package;
mod types;

use std::path::PathBuf;

use crate::engine::Source;
use crate::service;
use crate::tool::describe::Description;
use crate::tool::loaded::{self, Body, Loaded};
use crate::tool::toolbox;
use crate::tool::{Kind, Tool, ToolResources};
use crate::{Error, ErrorKind, Result};

/// A program to be made one component with its tools and the interpreter.
///
/// The component exports `wasi:cli/run` and imports WASI 0.2: any host of such commands runs it. There,
/// the limits and grants are that host's; those of the [`Tool`]s have no effect, what calls they allow included. All parts share what
/// the host grants the component, and a tool that fails ends the program.
///
/// ```no_run
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Composition, Tool};
///
/// let component = Composition::new("from tools.text import shout\nprint(shout('hi'))")
///     .tool(Tool::new("text", "tools/text.wasm"))
///     .build()?;
/// std::fs::write("shout.wasm", component).expect("a directory that can be written to");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Composition {
    code: String,
    file: String,
    modules: Vec<(String, String, bool)>,
    tools: Vec<Tool>,
    exit_codes: bool,
    interpreter: Source,
}

impl Composition {
    /// A program in Python.
    pub fn new(code: impl Into<String>) -> Self {
        Composition {
            code: code.into(),
            file: "<program>".to_owned(),
            modules: Vec::new(),
            tools: Vec::new(),
            exit_codes: false,
            interpreter: Source::BuiltIn,
        }
    }

    /// The program's name in tracebacks, and `__file__` when it is not in angle brackets. Default:
    /// `<program>`.
    pub fn file(mut self, name: impl Into<String>) -> Self {
        self.file = name.into();
        self
    }

    /// A module that the program can import, by its full name; `is_package` says whether it has
    /// submodules. Its frames are seen in tracebacks.
    pub fn module(mut self, name: impl Into<String>, source: impl Into<String>, is_package: bool) -> Self {
        self.modules.push((name.into(), source.into(), is_package));
        self
    }

    /// A tool that the program can import as `tools.NAME`: a component, which may import what another
    /// tool exports, or a Python package, of which the modules go in and no other files.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Whether the component ends with the exit code of the program itself, by
    /// `exit-with-code` of `wasi:cli/exit`, which hosts older than WASI 0.2.12 have behind a flag or not
    /// at all. Default: no, so that any code but 0 becomes 1.
    pub fn exit_codes(mut self, exact: bool) -> Self {
        self.exit_codes = exact;
        self
    }

    /// Another interpreter than the built-in one, made by `cargo xtask guest`.
    pub fn guest(mut self, file: impl Into<PathBuf>) -> Self {
        self.interpreter = Source::File(file.into());
        self
    }

    /// Makes the component.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tool`] when a tool cannot be read, is called like another or like no Python module,
    /// imports what nothing provides, has types that cannot be passed, or is functions of this program;
    /// [`ErrorKind::Grant`] when grants could have no effect in a session either; [`ErrorKind::Guest`]
    /// when the interpreter cannot be read.
    pub fn build(self) -> Result<Vec<u8>> {
        let interpreter = interpreter::portable(&self.interpreter.component()?)?;
        let tools = load(self.tools)?;
        let mut own_modules = self.modules;
        for (name, package) in toolbox::packages(&tools) {
            own_modules.extend(package::modules(name, package)?);
        }
        let mut program = data::Program::new(self.code, self.file);
        program.provide(service::PACKAGE, NO_HOST.to_owned(), true);
        if !own_modules.is_empty() {
            program.own_modules(&own_modules);
        }
        if !tools.is_empty() {
            program.provide(service::CALLS, service::CALLS_SOURCE.to_owned(), false);
            for name in toolbox::module_names(&tools) {
                let Some((source, is_package)) = toolbox::module(&tools, name) else { continue };
                program.provide(name, source, is_package);
            }
            program.provide(toolbox::INDEX, toolbox::index(&tools, data::public_modules), false);
        }
        let parts: Vec<Part> = tools.into_iter().filter_map(Part::of).collect();
        let bridge = bridge::make(&parts, program, self.exit_codes)?;
        join::join(interpreter, bridge, &parts)
    }
}

/// What `import agentkernel` finds.
const NO_HOST: &str = "def __getattr__(name):
    if name[:2] == '__':
        raise AttributeError(name)
    raise ImportError('`agentkernel` (`ask_llm` and what goes with it) is the host\\'s, and a '
                      'composed program has no host; run it with `agentkernel run`', name='agentkernel')
";

/// Reads the tools. Their grants are left aside.
fn load(tools: Vec<Tool>) -> Result<Vec<Loaded<Vec<u8>>>> {
    if let Some(tool) = tools.iter().find(|tool| matches!(tool.kind, Kind::Functions(..))) {
        return Err(Error::new(
            ErrorKind::Tool,
            format!("the tool `{}` is functions of this program, which cannot be composed", tool.name),
        )
        .hint("leave it out, or give a component that does the same"));
    }
    #[cfg(feature = "mcp")]
    if let Some(tool) = tools.iter().find(|tool| tool.server().is_some()) {
        return Err(Error::new(
            ErrorKind::Tool,
            format!("the tool `{}` is an MCP server, which cannot be composed", tool.name),
        )
        .hint("leave it out, or give a component that does the same"));
    }
    // Its state is never kept.
    let plain = |mut tool: Tool| {
        tool.grants.resources = ToolResources::default();
        tool
    };
    let tools = tools.into_iter().map(plain).collect();
    loaded::load(tools, |name, bytes, _| Ok((Description::read(&bytes, name)?, bytes)))
}

/// A component to be composed.
struct Part {
    name: String,
    bytes: Vec<u8>,
    description: Description,
}

impl Part {
    /// The component of a tool, if it is one. Only components have functions that are numbered.
    fn of(tool: Loaded<Vec<u8>>) -> Option<Self> {
        let Loaded { name, description, body: Body::Component(bytes), .. } = tool else { return None };
        Some(Part { name, bytes, description })
    }

    fn bad(&self, message: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Tool, format!("the tool `{}` {message}", self.name))
    }
}

/// What cannot go wrong with the parts that this crate brings along.
fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Guest, format!("the component cannot be put together: {error:#}"))
}
