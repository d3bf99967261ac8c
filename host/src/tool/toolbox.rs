//! The tools of a kernel: numbered, described, and found by number and by name.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::component::Component;
use super::function::Closure;
use super::loaded::{self, Body, Loaded};
#[cfg(feature = "mcp")]
use super::mcp;
use super::package::Package;
use super::python::{self, Item};
use super::{Network, Tool, ToolInfo, ToolItem, ToolKind, ToolResources, link, names};
use crate::Result;
use crate::engine::{Cache, Progress, ToolEngines, hex};

/// Modules that are there whatever the tools.
#[cfg(feature = "compose")]
const SHARED: &[&str] = &["tools", "tools._runtime", "tools._arguments", "tools._discovery"];

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
    /// Whether its resources are made anew: its modules are others then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recreated: bool,
}

impl ToolMark {
    /// Whether the two differ in nothing but what becomes of resources.
    pub fn is_but_for_resources(&self, other: &Self) -> bool {
        *self == ToolMark { recreated: self.recreated, ..other.clone() }
    }
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
        let mut tools = loaded::load(tools, |name, bytes, grants| {
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
                _ => serde_json::to_vec(&tool.description).unwrap_or_default(),
            })),
            recreated: tool.recreates(),
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

/// The source of a module, and whether it has submodules.
pub(crate) fn module<C>(tools: &[Loaded<C>], name: &str) -> Option<(String, bool)> {
    match name {
        "tools" => {
            let tools: Vec<(&str, &str)> =
                tools.iter().map(|tool| (tool.name.as_str(), tool.summary.as_str())).collect();
            return Some((python::package(&tools), true));
        }
        "tools._runtime" => return Some((python::RUNTIME.to_owned(), false)),
        "tools._arguments" => return Some((python::ARGUMENTS.to_owned(), false)),
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
