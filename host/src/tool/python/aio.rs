//! A tool's functions once more, as coroutines: calls that a program gathers run at the same time.

use std::fmt::Write;

use super::{Item, Writer};
use crate::tool::describe::{Function, Kind};
use crate::tool::names::{literal, snake};

const DOCS: &str = "The functions of the tool as coroutines. Calls that are gathered run at the same time, each in an instance of its own.";

impl Writer<'_> {
    /// Whether there are such functions, and nothing else has the name.
    pub fn has_aio(&self) -> bool {
        let mut functions = self.described.interfaces.iter().flat_map(|interface| &interface.functions);
        let taken = self.interfaces.iter().any(|name| name == "aio")
            || functions
                .clone()
                .any(|function| function.kind == Kind::Free && snake(&function.name) == "aio");
        !taken && functions.any(|function| self.overlaps(function))
    }

    fn overlaps(&self, function: &Function) -> bool {
        function.kind == Kind::Free && !self.described.passes_resources(function)
    }

    /// The functions of the interface at `position` that are there as coroutines.
    pub fn coroutines(&self, position: usize) -> impl Iterator<Item = &Function> {
        self.described.interfaces[position].functions.iter().filter(|function| self.overlaps(function))
    }

    /// The modules; `first` is the number of the tool's first function.
    pub fn aio(&mut self, first: u32) -> Vec<(String, String)> {
        if !self.has_aio() {
            return Vec::new();
        }
        let described = self.described;
        let name = format!("tools.{}.aio", self.tool);
        let mut own = String::new();
        let mut parts = Vec::new();
        let mut modules = Vec::new();
        let mut all = Vec::new();
        let mut number = first;
        for (position, interface) in described.interfaces.iter().enumerate() {
            let mut body = String::new();
            let mut names = Vec::new();
            for function in &interface.functions {
                if self.overlaps(function) {
                    let name = snake(&function.name);
                    self.function(function, number, &name, true, &mut body);
                    names.push(literal(&name));
                }
                number += 1;
            }
            let part = self.interfaces[position].clone();
            if !self.several() || part.is_empty() {
                own.push_str(&body);
                all.extend(names);
            } else if !names.is_empty() {
                let source = self.aio_source(&body, &names);
                modules.push((format!("{name}.{part}"), source));
                parts.push(literal(&part));
            }
        }
        let mut source = self.aio_source(&own, &all);
        if !parts.is_empty() {
            let _ = write!(source, "\n__getattr__ = _r._submodules(__name__, ({},))\n", parts.join(", "));
        }
        modules.insert(0, (name, source));
        modules
    }

    fn aio_source(&self, body: &str, names: &[String]) -> String {
        // What the bodies call is there under the same names.
        format!(
            "{}\n\nfrom tools import {} as _tool\nglobals().update((k, v) for k, v in vars(_tool).items() if k[:2] != '__')\n_start = _r._starter([0])\n{body}\n\n__all__ = [{}]\n",
            literal(DOCS),
            self.tool,
            names.join(", ")
        )
    }

    /// What discovery says of them.
    pub fn aio_item(&self) -> Option<Item> {
        let name = format!("{}.aio", self.tool);
        self.has_aio().then(|| Item {
            signature: name.clone(),
            name,
            docs: DOCS.to_owned(),
            stub: String::new(),
            uses: Vec::new(),
        })
    }
}
