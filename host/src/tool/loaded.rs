//! One tool of a kernel: loaded, checked and described once.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use serde_json::{Map, Value};

use super::component::Component;
use super::constraints::Rules;
use super::describe::{self, Description, Function, Type};
use super::function::{self, Closure};
#[cfg(feature = "mcp")]
use super::mcp::{self, Act, Mcp};
use super::package::Package;
use super::python::{self, Item};
use super::told::{self, Ended};
use super::{Kind, Tool, ToolGrants, ToolResources, json, names};
use crate::{Error, ErrorKind, Result};

/// Names in `tools` that are not tools'.
const RESERVED: &[&str] = &["describe", "search"];

/// A tool, whose component is compiled, or is what else is made of one.
pub(crate) struct Loaded<C = Component> {
    pub name: String,
    pub summary: String,
    pub description: Description,
    pub body: Body<C>,
    pub resources: ToolResources,
    /// What calls of a function must be like, by its position.
    rules: Vec<Option<Rules>>,
    /// The number of its first function; then come those that close resources.
    pub(super) first_function: u32,
    modules: OnceLock<Vec<(String, String)>>,
    function_names: OnceLock<Vec<String>>,
    /// How its calls ended.
    pub ended: Ended,
    /// How often it was refused what it asked for, in calls that ended all the same.
    pub denied: AtomicU64,
}

/// What does the work of a tool.
pub(crate) enum Body<C = Component> {
    Component(C),
    /// A closure for each function.
    Functions(Vec<Closure>),
    Python(Package),
    #[cfg(feature = "mcp")]
    Mcp(Box<Mcp>),
}

/// Loads tools and numbers their functions; `component` reads a component by its name, bytes and grants.
pub(crate) fn load<C>(
    tools: Vec<Tool>,
    component: impl Fn(&str, Vec<u8>, ToolGrants) -> Result<(Description, C)>,
) -> Result<Vec<Loaded<C>>> {
    let mut loaded = Vec::<Loaded<C>>::with_capacity(tools.len());
    let mut next_function = 0;
    for tool in tools {
        let bad = |message: String| Error::new(ErrorKind::Tool, message);
        if !names::is_identifier(&tool.name) {
            return Err(bad(format!("`{}` cannot be the name of a Python module", tool.name))
                .hint("name the tool with letters, digits and `_`"));
        }
        if RESERVED.contains(&tool.name.as_str()) {
            return Err(bad(format!("a tool cannot be called `{0}`: `tools.{0}` is a function", tool.name))
                .hint("give it another name in agentkernel.toml"));
        }
        if loaded.iter().any(|other| other.name == tool.name) {
            return Err(bad(format!("two tools are called `{}`", tool.name))
                .hint("give one of them another name in agentkernel.toml"));
        }
        let tool = Loaded::new(tool, &component, next_function)?;
        next_function += tool.numbers();
        loaded.push(tool);
    }
    Ok(loaded)
}

impl<C> Loaded<C> {
    fn new(
        tool: Tool,
        component: impl Fn(&str, Vec<u8>, ToolGrants) -> Result<(Description, C)>,
        first_function: u32,
    ) -> Result<Self> {
        let Tool { name, kind, summary, grants } = tool;
        let (allow, resources) = (grants.allow.clone(), grants.resources);
        #[cfg(feature = "mcp")]
        if let Kind::Mcp(server) = kind {
            let server = Box::new(Mcp::new(&name, server, grants, first_function)?);
            let summary = summary.unwrap_or_else(|| server.summary());
            return Ok(Loaded::of(name, summary, Description::default(), Body::Mcp(server), first_function));
        }
        let plain = ToolGrants { allow: allow.clone(), ..Default::default() };
        let has_grants = grants != plain;
        let ungranted = || match has_grants {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Grant,
                format!("grants of `{name}` have no effect: it is not a component"),
            )
            .hint("grant the program what it needs, and remove the tool's grants and limits")),
        };
        let load = |bytes| {
            let (description, component) = component(&name, bytes, grants)?;
            Ok((description, Body::Component(component)))
        };
        let (description, body) = match kind {
            Kind::File(file) => {
                let bytes = std::fs::read(&file).map_err(|error| {
                    Error::new(
                        ErrorKind::Tool,
                        format!("cannot read the tool `{name}` from `{}`", file.display()),
                    )
                    .hint("name a WebAssembly component")
                    .source(error)
                })?;
                load(bytes)?
            }
            Kind::Bytes(bytes) => load(bytes)?,
            Kind::Functions(wit, closures) => {
                if wit.is_empty() {
                    return Err(Error::new(
                        ErrorKind::Tool,
                        format!("the tool `{name}` is a component or a package, and was given functions"),
                    )
                    .hint("functions go to a tool that is made by `Tool::functions`"));
                }
                ungranted()?;
                let description = Description::of_interface(&wit, &name)?;
                let closures = function::matched(&description, closures, &name)?;
                (description, Body::Functions(closures))
            }
            Kind::Python(directory) => {
                ungranted()?;
                (Description::default(), Body::Python(Package::open(&name, &directory)?))
            }
            #[cfg(feature = "mcp")]
            Kind::Mcp(_) => unreachable!("it was read before"),
        };
        let summary = summary.unwrap_or_else(|| match &body {
            Body::Python(package) => package.summary.clone(),
            _ => description.summary(),
        });
        let mut loaded = Loaded::of(name, summary, description, body, first_function);
        loaded.resources = resources;
        loaded.constrain(&allow)?;
        Ok(loaded)
    }

    fn of(
        name: String,
        summary: String,
        description: Description,
        body: Body<C>,
        first_function: u32,
    ) -> Self {
        Loaded {
            name,
            summary,
            description,
            body,
            resources: ToolResources::default(),
            rules: Vec::new(),
            first_function,
            modules: OnceLock::new(),
            function_names: OnceLock::new(),
            ended: told::ended(),
            denied: AtomicU64::new(0),
        }
    }

    /// Compiles what the arguments of its functions must be like.
    fn constrain(&mut self, allow: &std::collections::BTreeMap<String, super::Constraints>) -> Result<()> {
        if allow.is_empty() {
            return Ok(());
        }
        self.rules.resize_with(self.description.function_count() as usize, || None);
        for (function, constraints) in allow {
            let names = self.function_names();
            let Some(position) = names.iter().position(|name| name == function) else {
                return Err(Error::new(
                    ErrorKind::Grant,
                    format!(
                        "the tool `{}` has no function `{function}` that could be constrained",
                        self.name
                    ),
                )
                .hint(format!("there are {}", names.join(", "))));
            };
            let Some(described) = self.function(position) else { continue };
            let name = format!("{}.{function}", self.name);
            self.rules[position] = Some(Rules::compile(&self.description, described, &name, constraints)?);
        }
        Ok(())
    }

    /// How many numbers its functions take, with those that close resources.
    pub(super) fn numbers(&self) -> u32 {
        #[cfg(feature = "mcp")]
        if let Body::Mcp(_) = self.body {
            return Act::COUNT;
        }
        self.description.function_count() + self.description.types.len() as u32
    }

    pub(super) fn modules(&self) -> &[(String, String)] {
        self.modules.get_or_init(|| {
            python::modules(&self.name, &self.description, self.first_function, self.recreates())
        })
    }

    pub(super) fn recreates(&self) -> bool {
        self.resources == ToolResources::Recreated
    }

    pub(super) fn items(&self) -> Vec<Item> {
        python::items(&self.name, &self.description, &self.summary)
    }

    /// What an MCP server was known to offer when it was last asked.
    pub(super) fn listed_items(&self) -> Vec<Item> {
        match &self.body {
            #[cfg(feature = "mcp")]
            Body::Mcp(server) => {
                server.known().map(|listing| mcp::items(&self.name, &listing)).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Its functions as programs call them, below the tool's name.
    pub(super) fn function_names(&self) -> &[String] {
        self.function_names.get_or_init(|| python::function_names(&self.name, &self.description))
    }

    /// Its classes as programs find them, in the order of its types.
    pub fn class_names(&self) -> Vec<String> {
        python::class_names(&self.name, &self.description)
    }

    pub fn function(&self, position: usize) -> Option<&Function> {
        self.description.interfaces.iter().flat_map(|interface| &interface.functions).nth(position)
    }

    /// For each function, whether it is called of a resource.
    pub fn methods(&self) -> Vec<bool> {
        let functions = self.description.interfaces.iter().flat_map(|interface| &interface.functions);
        functions.map(|function| matches!(function.kind, describe::Kind::Method(_))).collect()
    }

    /// Whether a function returns a `result`.
    pub fn may_fail(&self, position: usize) -> bool {
        self.function(position).is_some_and(|function| matches!(function.result, Some(Type::Result(..))))
    }

    /// The name of a function as programs call it below `tools`, for messages.
    pub fn function_name(&self, position: usize) -> String {
        let name = self.function_names().get(position).map(String::as_str).unwrap_or_default();
        format!("{}.{name}", self.name)
    }

    /// Why a call with these arguments is not allowed, if it is not.
    pub fn refusal(&self, position: usize, head: &[u8], tail: &[u8]) -> Option<String> {
        self.rules.get(position)?.as_ref()?;
        match json::arguments_to_check(&self.description, self.function(position)?, head, tail) {
            Ok(arguments) => self.refusal_of(position, || arguments),
            Err(message) => {
                let name = self.function_name(position);
                Some(format!("a call of {name} is not allowed: its arguments cannot be checked: {message}"))
            }
        }
    }

    /// As [`Loaded::refusal`], for arguments in JSON, which are asked for when they are needed.
    pub fn refusal_of(
        &self,
        position: usize,
        arguments: impl FnOnce() -> Map<String, Value>,
    ) -> Option<String> {
        let rules = self.rules.get(position)?.as_ref()?;
        let message = rules.check(&arguments()).err()?;
        Some(format!("a call of {} is not allowed: {message}", self.function_name(position)))
    }
}
