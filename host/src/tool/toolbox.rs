//! The tools of a kernel: loaded, compiled, checked and described once.

use std::sync::OnceLock;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{ComponentExportIndex, InstancePre, Linker};

use super::describe::{Description, Kind};
use super::instance::ToolState;
use super::{Tool, ToolGrants, ToolInfo, check_names, names, python};
use crate::engine::{Cache, Progress, ToolEngine};
use crate::{Error, ErrorKind, Result};

/// All tools, in the order in which they were given. Functions are numbered through.
pub(crate) struct Toolbox {
    pub engine: ToolEngine,
    pub tools: Vec<Loaded>,
}

pub(crate) struct Loaded {
    pub name: String,
    summary: String,
    pub description: Description,
    pub grants: ToolGrants,
    pub pre: InstancePre<ToolState>,
    /// Where the component exports its functions.
    pub exports: Vec<ComponentExportIndex>,
    /// The number of its first function; then come those that close resources.
    first_function: u32,
    modules: OnceLock<Vec<(String, String)>>,
}

/// What a number stands for.
pub(crate) enum Target {
    Function(usize),
    /// Closing a resource.
    Close,
}

/// Interfaces that every tool may import; what they give is decided by its grants.
const LINKED: &[&str] =
    &["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

impl Toolbox {
    pub fn load(tools: Vec<Tool>, cache: &Cache, progress: &dyn Fn(Progress)) -> Result<Self> {
        let engine = ToolEngine::new()?;
        let mut linker = Linker::new(engine.wasmtime());
        crate::wasi::add_to_linker::<ToolState>(&mut linker)
            .map_err(|error| Error::new(ErrorKind::System, "cannot link WASI for tools").source(error))?;
        check_names(&tools)?;
        let mut loaded = Vec::<Loaded>::with_capacity(tools.len());
        let mut next_function = 0;
        for tool in tools {
            let tool = Loaded::new(tool, &engine, &linker, cache, progress, next_function)?;
            next_function += tool.numbers();
            loaded.push(tool);
        }
        Ok(Toolbox { engine, tools: loaded })
    }

    /// The source of a module, and whether it has submodules.
    pub fn module(&self, name: &str) -> Option<(String, bool)> {
        match name {
            "tools" => {
                let tools: Vec<(&str, &str)> =
                    self.tools.iter().map(|tool| (tool.name.as_str(), tool.summary.as_str())).collect();
                return Some((python::package(&tools), true));
            }
            "tools._runtime" => return Some((python::RUNTIME.to_owned(), false)),
            _ => {}
        }
        let tool = name.strip_prefix("tools.")?.split('.').next()?;
        let modules = self.tools.iter().find(|loaded| loaded.name == tool)?.modules();
        let position = modules.iter().position(|(module, _)| module == name)?;
        Some((modules[position].1.clone(), position == 0 && modules.len() > 1))
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

    pub fn info(&self) -> Vec<ToolInfo> {
        let info = |tool: &Loaded| ToolInfo {
            name: tool.name.clone(),
            summary: tool.summary.clone(),
            modules: tool.modules().to_vec(),
        };
        self.tools.iter().map(info).collect()
    }
}

impl Loaded {
    fn new(
        tool: Tool,
        engine: &ToolEngine,
        linker: &Linker<ToolState>,
        cache: &Cache,
        progress: &dyn Fn(Progress),
        first_function: u32,
    ) -> Result<Self> {
        let Tool { name, component, summary, grants } = tool;
        let bytes = component.read(&name)?;
        let bad = |message: String| Error::new(ErrorKind::Tool, format!("the tool `{name}` {message}"));
        let (component, description): (_, Description) = engine.load(&bytes, cache, progress, || {
            let description = Description::read(&bytes, &name)?;
            serde_json::to_vec(&description).map_err(|error| bad("cannot be described".into()).source(error))
        })?;
        for (import, item) in component.component_type().imports(engine.wasmtime()) {
            let known = LINKED.iter().any(|prefix| import.starts_with(prefix));
            if matches!(item.ty, ComponentItem::ComponentInstance(_) | ComponentItem::ComponentFunc(_))
                && !known
            {
                return Err(bad(format!("imports `{import}`, which nothing provides"))
                    .hint("a tool may import WASI 0.2 without HTTP; compose other imports into it with `wasm-tools compose`"));
            }
        }
        let pre = linker.instantiate_pre(&component).map_err(|error| {
            bad("imports what this version of WASI does not have".into())
                .hint("build it for WASI 0.2 (`wasm32-wasip2`)")
                .source(error)
        })?;
        let mut exports = Vec::new();
        for interface in &description.interfaces {
            let instance = match interface.export.as_str() {
                "" => None,
                export => Some(
                    component
                        .get_export_index(None, export)
                        .ok_or_else(|| bad(format!("does not export `{export}`, as it says")))?,
                ),
            };
            for function in &interface.functions {
                exports.push(
                    component
                        .get_export_index(instance.as_ref(), &function.export)
                        .ok_or_else(|| bad(format!("does not export `{}`, as it says", function.export)))?,
                );
            }
        }
        let summary = summary.unwrap_or_else(|| description.summary());
        Ok(Loaded {
            name,
            summary,
            description,
            grants,
            pre,
            exports,
            first_function,
            modules: OnceLock::new(),
        })
    }

    /// How many numbers its functions take, with those that close resources.
    fn numbers(&self) -> u32 {
        self.description.function_count() + self.description.types.len() as u32
    }

    fn modules(&self) -> &[(String, String)] {
        self.modules.get_or_init(|| python::modules(&self.name, &self.description, self.first_function))
    }

    /// The name of a function as Python has it, for messages.
    pub fn function_name(&self, position: usize) -> String {
        let function =
            self.description.interfaces.iter().flat_map(|interface| &interface.functions).nth(position);
        let Some(function) = function else { return self.name.clone() };
        match function.kind {
            Kind::Free => format!("{}.{}", self.name, names::snake(&function.name)),
            Kind::Constructor(of) | Kind::Method(of) | Kind::Static(of) => {
                let class = names::pascal(&self.description.types[of].name);
                format!("{}.{class}.{}", self.name, names::snake(&function.name))
            }
        }
    }
}
