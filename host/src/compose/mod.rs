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
mod types;

use std::path::PathBuf;

use crate::engine::Source;
use crate::tool::describe::Description;
use crate::tool::{Tool, check_names, python};
use crate::{Error, ErrorKind, Result};

/// A program to be made one component with its tools and the interpreter.
///
/// The component exports `wasi:cli/run` and imports WASI 0.2: any host of such commands runs it. There,
/// the limits and grants are that host's; those of the [`Tool`]s have no effect. All parts share what
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

    /// A tool that the program can import as `tools.NAME`. What it imports may be exported by another
    /// tool.
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
    /// imports what nothing provides, or has types that cannot be passed; [`ErrorKind::Guest`] when the
    /// interpreter cannot be read.
    pub fn build(self) -> Result<Vec<u8>> {
        let interpreter = interpreter::portable(&self.interpreter.component()?)?;
        check_names(&self.tools)?;
        let mut parts = Vec::with_capacity(self.tools.len());
        let mut next_function = 0;
        for tool in self.tools {
            let part = Part::new(tool, next_function)?;
            next_function += part.numbers();
            parts.push(part);
        }
        let mut program = data::Program::new(self.code, self.file);
        program.provide("agentkernel", NO_HOST.to_owned(), false);
        if !self.modules.is_empty() {
            program.own_modules(&self.modules);
        }
        if !parts.is_empty() {
            let names: Vec<(&str, &str)> =
                parts.iter().map(|part| (part.name.as_str(), part.summary.as_str())).collect();
            program.provide("tools", python::package(&names), true);
            program.provide("tools._runtime", python::RUNTIME.to_owned(), false);
            for part in &parts {
                let modules = python::modules(&part.name, &part.description, part.first_function);
                let is_package = modules.len() > 1;
                for (position, (name, source)) in modules.into_iter().enumerate() {
                    program.provide(&name, source, is_package && position == 0);
                }
            }
        }
        let bridge = bridge::make(&parts, program, self.exit_codes)?;
        join::join(interpreter, bridge, &parts)
    }
}

/// What `import agentkernel` finds.
const NO_HOST: &str = "raise ImportError('`agentkernel` (`ask_llm` and what goes with it) is the host\\'s, and a \
                       composed program has no host; run it with `agentkernel run`', name='agentkernel')\n";

/// A tool to be composed.
struct Part {
    name: String,
    summary: String,
    bytes: Vec<u8>,
    description: Description,
    /// The number that Python calls its first function by; then come those that close resources.
    first_function: u32,
}

impl Part {
    fn new(tool: Tool, first_function: u32) -> Result<Self> {
        let Tool { name, component, summary, .. } = tool;
        let bytes = component.read(&name)?.into_owned();
        let description = Description::read(&bytes, &name)?;
        let summary = summary.unwrap_or_else(|| description.summary());
        Ok(Part { name, summary, bytes, description, first_function })
    }

    /// How many numbers its functions take, with those that close resources.
    fn numbers(&self) -> u32 {
        self.description.function_count() + self.description.types.len() as u32
    }

    fn bad(&self, message: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Tool, format!("the tool `{}` {message}", self.name))
    }
}

/// What cannot go wrong with the parts that this crate brings along.
fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Guest, format!("the component cannot be put together: {error:#}"))
}
