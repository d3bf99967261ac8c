//! All parts put together.

use wac_graph::types::{ItemKind, Package, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeError, EncodeOptions, NodeId, PackageId};
use wasmtime::anyhow;

use super::bridge::{self, import_name};
use super::{Part, broken};
use crate::{Error, ErrorKind, Result};

/// A component in the graph, and its one instance.
#[derive(Clone, Copy)]
struct Node {
    package: PackageId,
    instance: NodeId,
}

struct Joint {
    graph: CompositionGraph,
    tools: Vec<Node>,
}

pub(super) fn join(interpreter: Vec<u8>, bridge: Vec<u8>, parts: &[Part]) -> Result<Vec<u8>> {
    let mut joint = Joint { graph: CompositionGraph::new(), tools: Vec::with_capacity(parts.len()) };
    for (number, part) in parts.iter().enumerate() {
        let node = joint.add(&format!("tool:t{number}"), part.bytes.clone());
        joint.tools.push(node.map_err(|error| part.bad(format!("cannot be composed: {error:#}")))?);
    }
    for (number, part) in parts.iter().enumerate() {
        joint.link(number, part)?;
    }
    let bridge = joint.add("agentkernel:bridge", bridge).map_err(broken)?;
    let python = joint.add("agentkernel:python", interpreter).map_err(broken)?;
    let runner = joint.add("agentkernel:runner", bridge::runner()?).map_err(broken)?;
    joint.give_tools(bridge, parts)?;
    for (from, to) in [(bridge, python), (bridge, runner), (python, runner)] {
        let wanted = joint.imports(to);
        for name in joint.exports(from).into_iter().filter(|name| wanted.contains(name)) {
            joint.connect(from, &name, to, &name).map_err(broken)?;
        }
    }
    let Joint { mut graph, .. } = joint;
    let run = graph.types()[graph[runner.package].ty()].exports.keys().next().cloned();
    let run = run.ok_or_else(|| broken("nothing runs"))?;
    let alias = graph.alias_instance_export(runner.instance, &run).map_err(broken)?;
    graph.export(alias, &run).map_err(broken)?;
    graph.encode(EncodeOptions::default()).map_err(|error| refused(error, parts))
}

/// What wac says when it cannot make one component of all.
fn refused(error: EncodeError, parts: &[Part]) -> Error {
    if let EncodeError::GraphContainsCycle { .. } = error {
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        return Error::new(
            ErrorKind::Tool,
            format!("some of the tools {} import each other in a circle", names.join(", ")),
        );
    }
    Error::new(ErrorKind::Tool, "the tools do not fit together").source(anyhow::Error::from(error))
}

impl Joint {
    fn add(&mut self, name: &str, bytes: Vec<u8>) -> anyhow::Result<Node> {
        let package = Package::from_bytes(name, None, bytes, self.graph.types_mut())?;
        let package = self.graph.register_package(package)?;
        Ok(Node { package, instance: self.graph.instantiate(package) })
    }

    fn exports(&self, node: Node) -> Vec<String> {
        self.graph.types()[self.graph[node.package].ty()].exports.keys().cloned().collect()
    }

    fn imports(&self, node: Node) -> Vec<String> {
        self.graph.types()[self.graph[node.package].ty()].imports.keys().cloned().collect()
    }

    fn connect(&mut self, from: Node, export: &str, to: Node, import: &str) -> anyhow::Result<()> {
        let alias = self.graph.alias_instance_export(from.instance, export)?;
        self.graph.set_instantiation_argument(to.instance, import, alias)?;
        Ok(())
    }

    /// The tool other than number `but` that exports what is imported as `import`, and its name there.
    fn exporter(&self, but: Option<usize>, import: &str) -> Option<(Node, String)> {
        let others = self.tools.iter().enumerate().filter(|(number, _)| Some(*number) != but);
        others.map(|(_, tool)| *tool).find_map(|tool| {
            let mut names = self.exports(tool).into_iter();
            Some((tool, names.find(|name| name == import || are_semver_compatible(name, import))?))
        })
    }

    /// Gives a tool what it imports of others. WASI is left to whoever runs the component.
    fn link(&mut self, number: usize, part: &Part) -> Result<()> {
        let tool = self.tools[number];
        for import in self.imports(tool) {
            if import.starts_with("wasi:") {
                continue;
            }
            // Another tool may have another type of this name, and the bridge could import only one.
            let kinds = &self.graph.types()[self.graph[tool.package].ty()].imports;
            if let Some(ItemKind::Type(_)) = kinds.get(&import) {
                return Err(part
                    .bad(format!(
                        "has the type `{import}` outside of any interface, which cannot be composed"
                    ))
                    .hint("move the type and the functions that use it into an interface"));
            }
            let (from, export) = self.exporter(Some(number), &import).ok_or_else(|| {
                part.bad(format!("imports `{import}`, which nothing provides"))
                    .hint("give a tool that exports it as well, or put it in with `wac plug`")
            })?;
            self.connect(from, &export, tool, &import).map_err(|error| {
                part.bad(format!("imports another `{import}` than is there")).source(error)
            })?;
        }
        Ok(())
    }

    /// Gives the bridge what it imports of the tools.
    fn give_tools(&mut self, bridge: Node, parts: &[Part]) -> Result<()> {
        let mut missing = self.imports(bridge);
        for (number, part) in parts.iter().enumerate() {
            let tool = self.tools[number];
            let exports = self.exports(tool);
            let prefix = import_name(number, "");
            for import in missing.extract_if(.., |import| import.starts_with(&prefix)).collect::<Vec<_>>() {
                let name = &import[prefix.len()..];
                let (from, export) = match exports.iter().any(|export| export == name) {
                    true => (tool, name.to_owned()),
                    // Types of what the tool itself imports.
                    false => {
                        self.exporter(Some(number), name).ok_or_else(|| broken(format!("no `{name}`")))?
                    }
                };
                self.connect(from, &export, bridge, &import)
                    .map_err(|error| part.bad("cannot be called by another component").source(error))?;
            }
        }
        for import in missing.into_iter().filter(|import| !import.starts_with("wasi:")) {
            let (from, export) =
                self.exporter(None, &import).ok_or_else(|| broken(format!("no `{import}`")))?;
            self.connect(from, &export, bridge, &import).map_err(broken)?;
        }
        Ok(())
    }
}
