//! The Python modules of a tool, made from its description: real functions and classes whose bodies
//! encode their arguments, call the host, and decode what comes back (`engine::dynamic` says how).

mod aio;
mod code;
mod decode;
mod encode;
mod functions;
mod modules;
mod stubs;
mod types;

#[cfg(feature = "mcp")]
pub(crate) use stubs::docstring;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::describe::{Description, Type};
use super::names::{literal, pascal, snake};

/// What all generated modules share.
pub(crate) const RUNTIME: &str = include_str!("runtime.py");

/// What is wrong with arguments, which is asked for where something is.
pub(crate) const ARGUMENTS: &str = include_str!("arguments.py");

/// `tools.search` and `tools.describe`.
pub(crate) const DISCOVERY: &str = include_str!("discovery.py");

/// What modules of tools share whose resources are made anew.
pub(crate) const RECREATED: &str = include_str!("recreated.py");

/// The module `tools` itself: `tools` are their names, with a line about each.
pub(crate) fn package(tools: &[(&str, &str)]) -> String {
    let lines: Vec<String> =
        tools.iter().map(|(name, line)| format!("    {}: {},\n", literal(name), literal(line))).collect();
    format!("{}\n_TOOLS = {{\n{}}}\n", include_str!("package.py"), lines.concat())
}

/// The stub of the module `tools`.
pub(crate) const PACKAGE_STUB: &str = include_str!("package.pyi");

/// The stub of what all generated modules share.
pub(crate) const RUNTIME_STUB: &str = include_str!("runtime.pyi");

/// Something that discovery finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its name below `tools`.
    pub name: String,
    /// What stands for it in one line.
    pub signature: String,
    pub docs: String,
    /// Its stub; empty for modules.
    pub stub: String,
    /// The names of the classes that it needs.
    pub uses: Vec<String>,
}

/// What programs may find of a tool, itself first.
pub(crate) fn items(tool: &str, described: &Description, summary: &str) -> Vec<Item> {
    Writer::new(tool, described, 0).items(summary)
}

/// The stub files of a tool: paths below `tools`, and contents.
pub(crate) fn stubs(tool: &str, described: &Description) -> Vec<(String, String)> {
    Writer::new(tool, described, 0).stubs()
}

/// Functions as programs call them below the tool's name, in the order of their numbers.
pub(crate) fn function_names(tool: &str, described: &Description) -> Vec<String> {
    Writer::new(tool, described, 0).function_names()
}

/// The module that discovery reads: all items of all tools, and for the Python packages where they are,
/// as an expression. MCP servers are named with their first numbers: what they offer is asked for when it is needed.
pub(crate) fn index(items: &[Item], packages: &[(&str, String)], servers: &[(&str, u32)]) -> String {
    let mut source = "from tools._discovery import Item as _Item\n\nITEMS = (\n".to_owned();
    for item in items {
        let uses: String = item.uses.iter().map(|name| literal(name) + ", ").collect();
        let texts = [&item.name, &item.signature, &item.docs, &item.stub].map(|text| literal(text));
        let _ = writeln!(source, "    _Item({}, ({uses})),", texts.join(", "));
    }
    source.push_str(")\nPACKAGES = {\n");
    for (name, place) in packages {
        let _ = writeln!(source, "    {}: {place},", literal(name));
    }
    source.push_str("}\nSERVERS = {\n");
    for (name, first) in servers {
        let _ = writeln!(source, "    {}: {first},", literal(name));
    }
    source + "}\n"
}

/// Classes as programs find them below `tools`, in the order of the types.
pub(crate) fn class_names(tool: &str, described: &Description) -> Vec<String> {
    let writer = Writer::new(tool, described, 0);
    (0..described.types.len()).map(|index| writer.class_name(index)).collect()
}

/// The source of a tool's modules by their full names; the first is the tool's own. `recreates` says whether its resources are
/// made anew where they are gone.
pub(crate) fn modules(
    tool: &str,
    described: &Description,
    first_function: u32,
    recreates: bool,
) -> Vec<(String, String)> {
    Writer { recreates, ..Writer::new(tool, described, first_function) }.modules()
}

struct Writer<'a> {
    tool: &'a str,
    described: &'a Description,
    /// Python names of the interfaces, empty for what is exported without one.
    interfaces: Vec<String>,
    /// Python names of the types.
    classes: Vec<String>,
    /// Names of the exceptions that functions raise, by the type of what they carry.
    exceptions: BTreeMap<usize, String>,
    next_function: u32,
    /// The number that closes the first type, if that is a resource; the others follow.
    first_drop: u32,
    /// `struct` formats that are used; their position is in their names.
    formats: Vec<String>,
    /// Whether resources are made anew where they are gone.
    recreates: bool,
}

impl<'a> Writer<'a> {
    fn new(tool: &'a str, described: &'a Description, first_function: u32) -> Self {
        let mut taken: HashSet<String> = ["Error".to_owned()].into();
        let classes = described.types.iter().map(|ty| {
            let plain = pascal(&ty.name);
            let interface =
                ty.interface.map(|index| pascal(&described.interfaces[index].name)).unwrap_or_default();
            let mut name = plain.clone();
            for number in 1.. {
                if taken.insert(name.clone()) {
                    break;
                }
                name = if number == 1 {
                    format!("{interface}{plain}")
                } else {
                    format!("{interface}{plain}{number}")
                };
            }
            name
        });
        let classes: Vec<String> = classes.collect();
        let mut exceptions = BTreeMap::new();
        for function in described.interfaces.iter().flat_map(|interface| &interface.functions) {
            if let Some(Type::Result(_, Some(error))) = &function.result
                && let Type::Named(index) = **error
            {
                let base = classes[index].strip_suffix("Error").unwrap_or(&classes[index]);
                let mut name = format!("{base}Exception");
                while exceptions.get(&index) != Some(&name) && !taken.insert(name.clone()) {
                    name.push('_');
                }
                exceptions.insert(index, name);
            }
        }
        let mut taken = HashSet::new();
        let interfaces = described.interfaces.iter().map(|interface| {
            let plain = match interface.export.is_empty() {
                true => return String::new(),
                false => snake(&interface.name),
            };
            // Two versions of one interface for instance.
            let mut names =
                (1..).map(|number| if number == 1 { plain.clone() } else { format!("{plain}_{number}") });
            names.find(|name| taken.insert(name.clone())).unwrap_or_default()
        });
        let interfaces = interfaces.collect();
        Writer {
            tool,
            described,
            interfaces,
            classes,
            exceptions,
            next_function: first_function,
            first_drop: first_function + described.function_count(),
            formats: Vec::new(),
            recreates: false,
        }
    }

    /// Whether interfaces are modules of their own.
    fn several(&self) -> bool {
        self.interfaces.len() > 1
    }

    fn format(&mut self, format: &str) -> usize {
        self.formats.iter().position(|known| known == format).unwrap_or_else(|| {
            self.formats.push(format.to_owned());
            self.formats.len() - 1
        })
    }
}
