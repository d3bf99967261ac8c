//! The tools of a kernel: loaded, checked and described once.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::component::Component;
use super::constraints::Rules;
use super::describe::{self, Description, Function, Type};
use super::function::{self, Closure};
#[cfg(feature = "mcp")]
use super::mcp::{self, Act, Mcp};
use super::package::Package;
use super::python::{self, Item};
use super::told::{self, Ended};
use super::{
    Kind, Network, Tool, ToolGrants, ToolInfo, ToolItem, ToolKind, ToolResources, json, link, names,
};
use crate::engine::{Cache, Progress, ToolEngines, hex};
use crate::{Error, ErrorKind, Result};

/// Names in `tools` that are not tools'.
const RESERVED: &[&str] = &["describe", "search"];

/// Modules that are there whatever the tools.
#[cfg(feature = "compose")]
const SHARED: &[&str] = &["tools", "tools._runtime", "tools._discovery"];

/// The module that discovery reads.
pub(crate) const INDEX: &str = "tools._index";

/// All tools, in the order in which they were given. Functions are numbered through.
pub(crate) struct Toolbox {
    pub tools: Vec<Loaded>,
    pub network: Arc<Network>,
    /// Whether spans hold arguments and results.
    pub trace_content: bool,
    marks: OnceLock<Arc<[ToolMark]>>,
}

/// What modules of a tool depend on that a program has imported: equal marks, equal modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolMark {
    pub name: String,
    /// Its functions are called by number.
    first_function: u32,
    /// SHA-256 of its description.
    description: String,
}

/// A tool, whose component is compiled, or is what else is made of one.
pub(crate) struct Loaded<C = Component> {
    pub name: String,
    summary: String,
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

/// What a number stands for.
pub(crate) enum Target {
    Function(usize),
    /// Closing a resource.
    Close,
}

impl Toolbox {
    pub fn load(
        tools: Vec<Tool>,
        network: Network,
        cache: &Cache,
        progress: &dyn Fn(Progress),
    ) -> Result<Self> {
        let engines = ToolEngines::new()?;
        let mut tools = load(tools, |name, bytes, grants| {
            Component::load(name, &bytes, grants, &engines, cache, progress)
        })?;
        link::link(&mut tools)?;
        Ok(Toolbox { tools, network: Arc::new(network), trace_content: false, marks: OnceLock::new() })
    }

    /// Whether spans hold arguments and results. Default: no.
    pub fn trace_content(mut self, trace_content: bool) -> Self {
        self.trace_content = trace_content;
        self
    }

    /// A mark of each tool.
    pub fn marks(&self) -> Arc<[ToolMark]> {
        let mark = |tool: &Loaded| ToolMark {
            name: tool.name.clone(),
            first_function: tool.first_function,
            description: hex(&Sha256::digest(match &tool.body {
                // Their functions are called by their names, so it may offer others.
                #[cfg(feature = "mcp")]
                Body::Mcp(server) => server.mark().into_bytes(),
                // Their modules are others.
                _ if tool.recreates() => {
                    serde_json::to_vec(&("recreated", &tool.description)).unwrap_or_default()
                }
                _ => serde_json::to_vec(&tool.description).unwrap_or_default(),
            })),
        };
        Arc::clone(self.marks.get_or_init(|| self.tools.iter().map(mark).collect()))
    }

    /// The tools while of which a resource is open no state is kept.
    pub fn refusing(&self) -> impl Iterator<Item = &str> {
        let refusing = self.tools.iter().filter(|tool| tool.resources == ToolResources::Refused);
        refusing.map(|tool| tool.name.as_str())
    }

    /// Whether a tool may use the network.
    pub fn needs_network(&self) -> bool {
        self.tools.iter().any(|tool| match &tool.body {
            Body::Component(component) => !component.grants.http.is_empty(),
            // What they await may be of the network too.
            Body::Functions(closures) => closures.iter().any(|one| matches!(one, Closure::Async(_))),
            Body::Python(_) => false,
            // A process is talked to in the same way.
            #[cfg(feature = "mcp")]
            Body::Mcp(_) => true,
        })
    }

    /// Whether there are tools that are MCP servers.
    pub fn has_servers(&self) -> bool {
        !servers(&self.tools).is_empty()
    }

    /// The source of a module, and whether it has submodules.
    pub fn module(&self, name: &str) -> Option<(String, bool)> {
        module(&self.tools, name)
    }

    /// Tools that are Python packages.
    pub fn packages(&self) -> impl Iterator<Item = (&str, &Package)> {
        packages(&self.tools)
    }

    /// The tool that has function number `number`, and which of its functions that is.
    pub fn target(&self, number: u32) -> Option<(usize, Target)> {
        let position = self.tools.iter().rposition(|tool| tool.first_function <= number)?;
        let tool = &self.tools[position];
        let local = number - tool.first_function;
        let functions = tool.description.function_count();
        match local {
            local if local < functions => Some((position, Target::Function(local as usize))),
            local if local < tool.numbers() => Some((position, Target::Close)),
            _ => None,
        }
    }

    /// The tool whose instance a call of function number `number` names, if it does: where resources are recreated, one
    /// instance must not be taken for another.
    pub fn names_instance(&self, number: u32) -> Option<usize> {
        let (position, target) = self.target(number)?;
        let tool = &self.tools[position];
        let names = tool.recreates()
            && match target {
                Target::Function(function) => tool.description.passes_resources(tool.function(function)?),
                Target::Close => true,
            };
        names.then_some(position)
    }

    /// The number of the function that programs call `name` below `tools`.
    pub fn number(&self, name: &str) -> Option<u32> {
        let (tool, function) = name.split_once('.')?;
        let tool = self.tools.iter().find(|loaded| loaded.name == tool)?;
        let position = tool.function_names().iter().position(|known| known == function)?;
        Some(tool.first_function + position as u32)
    }

    /// Stub files of all tools but Python packages: paths and contents.
    pub fn stubs(&self) -> Vec<(String, String)> {
        let tools = self.tools.iter().filter(|tool| !matches!(tool.body, Body::Python(_)));
        let stubs = tools.flat_map(|tool| match &tool.body {
            #[cfg(feature = "mcp")]
            Body::Mcp(server) => {
                server.known().map(|listing| mcp::stubs(&tool.name, &listing)).unwrap_or_default()
            }
            _ => python::stubs(&tool.name, &tool.description),
        });
        let shared = [("__init__.pyi", python::PACKAGE_STUB), ("_runtime.pyi", python::RUNTIME_STUB)];
        let shared = shared.map(|(path, text)| (path.to_owned(), text.to_owned()));
        shared.into_iter().chain(stubs).map(|(path, text)| (format!("tools/{path}"), text)).collect()
    }

    pub fn info(&self) -> Vec<ToolInfo> {
        let info = |tool: &Loaded| ToolInfo {
            name: tool.name.clone(),
            summary: tool.summary.clone(),
            kind: match tool.body {
                Body::Component(_) => ToolKind::Component,
                Body::Functions(_) => ToolKind::Functions,
                Body::Python(_) => ToolKind::Python,
                #[cfg(feature = "mcp")]
                Body::Mcp(_) => ToolKind::Mcp,
            },
            items: tool
                .items()
                .into_iter()
                .chain(tool.listed_items())
                .map(|Item { name, signature, docs, .. }| ToolItem { name, signature, docs })
                .collect(),
            imports: match &tool.body {
                Body::Component(component) => component.imports.clone(),
                _ => Vec::new(),
            },
        };
        self.tools.iter().map(info).collect()
    }
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

/// The source of a module, and whether it has submodules.
pub(crate) fn module<C>(tools: &[Loaded<C>], name: &str) -> Option<(String, bool)> {
    match name {
        "tools" => {
            let tools: Vec<(&str, &str)> =
                tools.iter().map(|tool| (tool.name.as_str(), tool.summary.as_str())).collect();
            return Some((python::package(&tools), true));
        }
        "tools._runtime" => return Some((python::RUNTIME.to_owned(), false)),
        "tools._recreated" => return Some((python::RECREATED.to_owned(), false)),
        "tools._discovery" => return Some((python::DISCOVERY.to_owned(), false)),
        #[cfg(feature = "mcp")]
        "tools._mcp" => return Some((mcp::RUNTIME.to_owned(), false)),
        INDEX => return Some((index(tools, |name| names::literal(&Package::place(name))), false)),
        _ => {}
    }
    let tool = name.strip_prefix("tools.")?.split('.').next()?;
    let tool = tools.iter().find(|loaded| loaded.name == tool)?;
    if let Body::Python(package) = &tool.body {
        // Its submodules are found in its directory.
        return (name.len() == "tools.".len() + tool.name.len()).then(|| (package.module(&tool.name), true));
    }
    #[cfg(feature = "mcp")]
    if let Body::Mcp(server) = &tool.body {
        return server.module(name.strip_prefix("tools.")?.split_once('.').map(|(_, below)| below));
    }
    let modules = tool.modules();
    let position = modules.iter().position(|(module, _)| module == name)?;
    let inside = |module: &str| module.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    Some((modules[position].1.clone(), modules.iter().any(|(module, _)| inside(module))))
}

/// What discovery reads; `place` gives an expression for where a Python package is.
pub(crate) fn index<C>(tools: &[Loaded<C>], place: impl Fn(&str) -> String) -> String {
    let items: Vec<Item> = tools.iter().flat_map(Loaded::items).collect();
    let packages: Vec<(&str, String)> = packages(tools).map(|(name, _)| (name, place(name))).collect();
    python::index(&items, &packages, &servers(tools))
}

/// The names of MCP servers and the numbers of their first functions.
fn servers<C>(tools: &[Loaded<C>]) -> Vec<(&str, u32)> {
    let is_server = |tool: &&Loaded<C>| match tool.body {
        #[cfg(feature = "mcp")]
        Body::Mcp(_) => true,
        _ => false,
    };
    tools.iter().filter(is_server).map(|tool| (tool.name.as_str(), tool.first_function)).collect()
}

/// The names that [`module`] knows, but for [`INDEX`] and those of Python packages.
#[cfg(feature = "compose")]
pub(crate) fn module_names<C>(tools: &[Loaded<C>]) -> impl Iterator<Item = &str> {
    let made = tools.iter().filter(|tool| !matches!(tool.body, Body::Python(_)));
    let made = made.flat_map(|tool| tool.modules()).map(|(name, _)| name.as_str());
    SHARED.iter().copied().chain(made)
}

/// Tools that are Python packages.
pub(crate) fn packages<C>(tools: &[Loaded<C>]) -> impl Iterator<Item = (&str, &Package)> {
    tools.iter().filter_map(|tool| match &tool.body {
        Body::Python(package) => Some((tool.name.as_str(), package)),
        _ => None,
    })
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
    fn numbers(&self) -> u32 {
        #[cfg(feature = "mcp")]
        if let Body::Mcp(_) = self.body {
            return Act::COUNT;
        }
        self.description.function_count() + self.description.types.len() as u32
    }

    fn modules(&self) -> &[(String, String)] {
        self.modules.get_or_init(|| {
            python::modules(&self.name, &self.description, self.first_function, self.recreates())
        })
    }

    fn recreates(&self) -> bool {
        self.resources == ToolResources::Recreated
    }

    fn items(&self) -> Vec<Item> {
        python::items(&self.name, &self.description, &self.summary)
    }

    /// What an MCP server was known to offer when it was last asked.
    fn listed_items(&self) -> Vec<Item> {
        match &self.body {
            #[cfg(feature = "mcp")]
            Body::Mcp(server) => {
                server.known().map(|listing| mcp::items(&self.name, &listing)).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Its functions as programs call them, below the tool's name.
    fn function_names(&self) -> &[String] {
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
