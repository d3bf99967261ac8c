//! A tool that is a WebAssembly component: compiled, and checked against what it may import.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{ComponentExportIndex, Instance, InstancePre, ResourceType};

use super::ToolGrants;
use super::describe::{Description, Shape};
use super::effect;
use super::state::ToolState;
use crate::engine::{Cache, Progress, ToolEngines};
use crate::{Error, ErrorKind, Result};

/// A compiled component and what it is granted.
pub(crate) struct Component {
    pub grants: Arc<ToolGrants>,
    pub compiled: wasmtime::component::Component,
    /// What instances are made of, once it is linked.
    pub pre: Option<InstancePre<ToolState>>,
    /// The tools whose exports it imports, by their positions.
    pub needs: Vec<usize>,
    /// Where it exports its functions.
    pub exports: Vec<ComponentExportIndex>,
    /// Of its asynchronous functions, by their positions: in how many registers their results come.
    pub registers: Vec<Option<usize>>,
    /// The names of what it imports.
    pub imports: Vec<String>,
}

/// Interfaces that every tool may import; what they give is decided by its grants.
const LINKED: &[&str] = &[
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

impl Component {
    /// Whether an import is one that every tool may have.
    pub fn is_linked(import: &str) -> bool {
        LINKED.iter().any(|prefix| import.starts_with(prefix))
    }

    pub fn load(
        name: &str,
        bytes: &[u8],
        grants: ToolGrants,
        engines: &ToolEngines,
        cache: &Cache,
        progress: &dyn Fn(Progress),
    ) -> Result<(Description, Self)> {
        let bad = |message: String| Error::new(ErrorKind::Tool, format!("the tool `{name}` {message}"));
        let describe = || Description::read(bytes, name);
        let (component, description) =
            engines.load(bytes, cache, progress, describe, |description| description.concurrent)?;
        grants.resources.check(name, &description)?;
        let has_resources = description.types.iter().any(|ty| matches!(ty.shape, Shape::Resource));
        if grants.per_call && has_resources {
            return Err(Error::new(
                ErrorKind::Grant,
                format!("the tool `{name}` has resources, which would be gone after the call that made them"),
            )
            .hint("leave `per-call` out for it"));
        }
        let mut imports = Vec::new();
        for (import, item) in component.component_type().imports(component.engine()) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    return Err(bad(format!("imports the function `{import}`, which nothing provides"))
                        .hint("import it in an interface that another tool exports, or compose it in"));
                }
                _ => imports.push(import.to_owned()),
            }
        }
        effect::check(name, &grants, &imports)?;
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
        let registers = description.functions().map(|function| function.registers.map(usize::from)).collect();
        Ok((
            description,
            Component {
                grants: Arc::new(grants),
                compiled: component,
                pre: None,
                needs: Vec::new(),
                exports,
                registers,
                imports,
            },
        ))
    }

    /// The types of the resources of an instance, with the positions of their descriptions.
    pub fn resource_types(
        &self,
        description: &Description,
        instance: Instance,
        store: &mut Store<ToolState>,
    ) -> Vec<(usize, ResourceType)> {
        let resources = description.types.iter().enumerate();
        let resources = resources.filter(|(_, ty)| matches!(ty.shape, Shape::Resource));
        let found = resources.filter_map(|(index, ty)| {
            let export = &description.interfaces[ty.interface?].export;
            let inside = match export.as_str() {
                "" => None,
                export => Some(self.compiled.get_export_index(None, export)?),
            };
            let export = self.compiled.get_export_index(inside.as_ref(), &ty.name)?;
            Some((index, instance.get_resource(&mut *store, export)?))
        });
        found.collect()
    }
}
