//! What a tool offers as Python's stub files have it: for type checkers, and for discovery in steps.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::code::letter_of;
use super::{Item, Writer};
use crate::tool::describe::{Function, Kind, Member, Shape, Type};
use crate::tool::names::{pascal, snake, upper};

/// What stubs of tools' modules may name.
const IMPORTS: &str = "\
import builtins
import enum
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools import Err, Ok, Some, ToolError
from tools._runtime import _handle
";

impl Writer<'_> {
    /// The stub files of the tool: paths below `tools` and contents.
    pub fn stubs(&self) -> Vec<(String, String)> {
        let described = self.described;
        let parts: Vec<&String> = self.interfaces.iter().filter(|name| !name.is_empty()).collect();
        let apart = self.several() && !parts.is_empty();
        let mut text = docstring(&self.docs(), 0) + "\n" + IMPORTS;
        if apart {
            text.push('\n');
            for part in &parts {
                let _ = writeln!(text, "from . import {part} as {part}");
            }
        }
        let _ = write!(text, "\n\nclass Error(ToolError):\n    \"\"\"A call ended in an error.\"\"\"\n");
        for index in 0..described.types.len() {
            let _ = write!(text, "\n\n{}", self.class_stub(index));
        }
        let mut files = Vec::new();
        for (position, interface) in described.interfaces.iter().enumerate() {
            let module = &self.interfaces[position];
            let functions: Vec<String> = interface
                .functions
                .iter()
                .filter(|function| function.kind == Kind::Free)
                .map(|function| self.function_stub(function, 0))
                .collect();
            if !apart || module.is_empty() {
                for function in functions {
                    let _ = write!(text, "\n\n{function}");
                }
                continue;
            }
            let mut part = docstring(&interface.docs, 0) + "\n" + IMPORTS + "\n";
            let classes = self.classes.iter().chain(self.exceptions.values()).map(String::as_str);
            for class in classes.chain(["Error"]) {
                let _ = writeln!(part, "from . import {class} as {class}");
            }
            for function in functions {
                let _ = write!(part, "\n\n{function}");
            }
            files.push((format!("{}/{module}.pyi", self.tool), part));
        }
        if !self.has_aio() && !apart {
            return vec![(format!("{}.pyi", self.tool), text)];
        }
        files.insert(0, (format!("{}/__init__.pyi", self.tool), text));
        files.extend(self.aio_stubs());
        files
    }

    fn aio_stubs(&self) -> Vec<(String, String)> {
        let classes = self.classes.iter().chain(self.exceptions.values()).map(String::as_str);
        let classes: Vec<String> = classes
            .chain(["Error"])
            .map(|class| format!("from tools.{} import {class} as {class}\n", self.tool))
            .collect();
        let mut files = Vec::new();
        let mut own = format!("{IMPORTS}\n{}", classes.concat());
        for position in 0..self.interfaces.len() {
            let part = &self.interfaces[position];
            let stubs: Vec<String> = self
                .coroutines(position)
                .map(|function| format!("\n\n{}", self.function_stub(&function.as_async(), 0)))
                .collect();
            if !self.several() || part.is_empty() {
                own.push_str(&stubs.concat());
            } else if !stubs.is_empty() {
                let _ = writeln!(own, "from . import {part} as {part}");
                let text = format!("{IMPORTS}\n{}{}", classes.concat(), stubs.concat());
                files.push((format!("{}/aio/{part}.pyi", self.tool), text));
            }
        }
        if !self.has_aio() {
            return Vec::new();
        }
        let name = if files.is_empty() { "aio.pyi" } else { "aio/__init__.pyi" };
        files.push((format!("{}/{name}", self.tool), own));
        files
    }

    /// What discovery finds: the tool itself, its interfaces where they are modules, functions and
    /// classes.
    pub fn items(&self, summary: &str) -> Vec<Item> {
        let described = self.described;
        let module = |name: String, docs: String| Item {
            signature: name.clone(),
            name,
            docs,
            stub: String::new(),
            uses: Vec::new(),
        };
        let docs = self.docs();
        let docs = if docs.lines().next() == Some(summary) { docs } else { format!("{summary}\n\n{docs}") };
        let mut items = vec![module(self.tool.to_owned(), docs.trim().to_owned())];
        for (position, interface) in described.interfaces.iter().enumerate() {
            let part = &self.interfaces[position];
            let place = match self.several() && !part.is_empty() {
                true => format!("{}.{part}", self.tool),
                false => self.tool.to_owned(),
            };
            if place != self.tool {
                items.push(module(place.clone(), interface.docs.clone()));
            }
            for function in interface.functions.iter().filter(|function| function.kind == Kind::Free) {
                let mut uses = BTreeSet::new();
                self.used_by(function, &mut uses);
                items.push(Item {
                    name: format!("{place}.{}", snake(&function.name)),
                    signature: format!(
                        "{place}.{}",
                        self.signature(function).trim_start_matches("async def ").trim_start_matches("def ")
                    ),
                    docs: function.docs.clone(),
                    stub: self.function_stub(function, 0),
                    uses: uses.into_iter().map(|index| self.class_name(index)).collect(),
                });
            }
        }
        items.extend(self.aio_item());
        for (index, ty) in described.types.iter().enumerate() {
            let mut uses = BTreeSet::new();
            self.used_in_class(index, &mut uses);
            uses.remove(&index);
            items.push(Item {
                name: self.class_name(index),
                signature: format!("class {}", self.class_name(index)),
                docs: ty.docs.clone(),
                stub: self.class_stub(index),
                uses: uses.into_iter().map(|index| self.class_name(index)).collect(),
            });
        }
        items
    }

    /// Functions as programs call them below the tool's name, in the order of their numbers.
    pub fn function_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (position, interface) in self.described.interfaces.iter().enumerate() {
            let part = &self.interfaces[position];
            let prefix = if self.several() && !part.is_empty() { format!("{part}.") } else { String::new() };
            for function in &interface.functions {
                let name = python_name(function);
                names.push(match function.kind {
                    Kind::Free => format!("{prefix}{name}"),
                    Kind::Constructor(of) => format!("{prefix}{}", self.classes[of]),
                    Kind::Method(of) | Kind::Static(of) => format!("{prefix}{}.{name}", self.classes[of]),
                });
            }
        }
        names
    }

    /// Where programs find a class.
    pub(super) fn class_name(&self, index: usize) -> String {
        let part = self.described.types[index].interface.map(|position| self.interfaces[position].as_str());
        match part {
            Some(part) if self.several() && !part.is_empty() => {
                format!("{}.{part}.{}", self.tool, self.classes[index])
            }
            _ => format!("{}.{}", self.tool, self.classes[index]),
        }
    }

    /// The tool's own documentation, and that of its only interface.
    pub fn docs(&self) -> String {
        let described = self.described;
        let only = match described.interfaces.as_slice() {
            [interface] => interface.docs.as_str(),
            _ => "",
        };
        format!("{}\n\n{only}", described.docs).trim().to_owned()
    }

    /// `def name(parameters) -> result`.
    fn signature(&self, function: &Function) -> String {
        let mut parameters = Vec::new();
        if matches!(function.kind, Kind::Method(_) | Kind::Constructor(_)) {
            parameters.push("self".to_owned());
        }
        for (position, (name, ty)) in function.parameters.iter().enumerate() {
            let default = if function.is_optional(position) { " = None" } else { "" };
            parameters.push(format!("{}: {}{default}", snake(name), self.annotation(ty)));
        }
        let name = python_name(function);
        let word = if function.is_async { "async def" } else { "def" };
        format!("{word} {name}({}) -> {}", parameters.join(", "), self.returned(function))
    }

    /// The type of what a function returns, as an annotation.
    pub fn returned(&self, function: &Function) -> String {
        match (&function.kind, &function.result) {
            (Kind::Constructor(_), _) | (_, None) => "None".to_owned(),
            (_, Some(Type::Result(ok, _))) => ok.as_ref().map_or("None".to_owned(), |ty| self.given_back(ty)),
            (_, Some(ty)) => self.given_back(ty),
        }
    }

    /// Lists of numbers are taken as any sequence and come back as arrays.
    fn given_back(&self, ty: &Type) -> String {
        match ty {
            Type::List(element) if letter_of(element).is_some_and(|letter| letter != "B") => {
                format!("array[{}]", self.annotation(element))
            }
            ty => self.annotation(ty),
        }
    }

    fn function_stub(&self, function: &Function, depth: usize) -> String {
        let indent = "    ".repeat(depth);
        let mut text = String::new();
        if let Kind::Static(_) = function.kind {
            let _ = writeln!(text, "{indent}@staticmethod");
        }
        let _ = write!(text, "{indent}{}:", self.signature(function));
        let mut docs = function.docs.clone();
        if let Some(Type::Result(_, Some(error))) = &function.result
            && let Type::Named(index) = **error
        {
            let raises =
                format!("Raises {}: `payload` is a `{}`.", self.exceptions[&index], self.classes[index]);
            docs = if docs.is_empty() { raises } else { format!("{docs}\n\n{raises}") };
        }
        match docs.is_empty() {
            true => text.push_str(" ...\n"),
            false => {
                let _ = write!(text, "\n{}", docstring(&docs, depth + 1));
            }
        }
        text
    }

    /// The stub of a class, and of the exception that carries it, if one does.
    fn class_stub(&self, index: usize) -> String {
        let ty = &self.described.types[index];
        let name = &self.classes[index];
        let docs = match ty.docs.is_empty() {
            true => String::new(),
            false => docstring(&ty.docs, 1),
        };
        let documented = |docs: &str| match docs.is_empty() {
            true => String::new(),
            false => docstring(docs, 1),
        };
        let mut text = String::new();
        match &ty.shape {
            Shape::Record(fields) => {
                let _ = write!(text, "@dataclass\nclass {name}:\n{docs}");
                for (position, field) in fields.iter().enumerate() {
                    let default = if trailing_options(&fields[position..]) { " = None" } else { "" };
                    let _ = write!(
                        text,
                        "    {}: {}{default}\n{}",
                        snake(&field.name),
                        self.given_back(&field.ty),
                        documented(&field.docs)
                    );
                }
            }
            Shape::Enum(cases) => {
                let _ = write!(text, "class {name}(enum.Enum):\n{docs}");
                for (position, case) in cases.iter().enumerate() {
                    let _ =
                        write!(text, "    {} = {position}\n{}", upper(&case.name), documented(&case.docs));
                }
            }
            Shape::Flags(flags) => {
                let _ = write!(text, "class {name}(enum.Flag):\n{docs}    NONE = 0\n");
                for (position, flag) in flags.iter().enumerate() {
                    let _ = write!(
                        text,
                        "    {} = {}\n{}",
                        upper(&flag.name),
                        1u128 << position,
                        documented(&flag.docs)
                    );
                }
            }
            Shape::Variant(cases) => {
                let _ = write!(text, "class {name}:\n{docs}");
                for case in cases {
                    let _ = writeln!(text, "    class {}({name}):", pascal(&case.name));
                    if !case.docs.is_empty() {
                        text.push_str(&docstring(&case.docs, 2));
                    }
                    match &case.ty {
                        None => text.push_str("        def __init__(self) -> None: ...\n"),
                        Some(ty) => {
                            let ty = self.annotation(ty);
                            let _ = write!(
                                text,
                                "        __match_args__ = (\"value\",)\n        value: {ty}\n        def __init__(self, value: {ty}) -> None: ...\n"
                            );
                        }
                    }
                }
            }
            Shape::Resource => {
                let _ = write!(text, "class {name}(_handle):\n{docs}");
                for method in self.described.methods(index) {
                    text.push_str(&self.function_stub(method, 1));
                }
            }
        }
        if text.ends_with(":\n") {
            text.push_str("    ...\n");
        }
        if let Some(exception) = self.exceptions.get(&index) {
            let _ = write!(
                text,
                "\n\nclass {exception}(Error):\n    \"\"\"A call ended in an error; `payload` is a `{name}`.\"\"\"\n    payload: {name}\n"
            );
        }
        text
    }

    fn used_by(&self, function: &Function, used: &mut BTreeSet<usize>) {
        for ty in function.parameters.iter().map(|(_, ty)| ty).chain(&function.result) {
            self.used(ty, used);
        }
    }

    fn used_in_class(&self, index: usize, used: &mut BTreeSet<usize>) {
        match &self.described.types[index].shape {
            Shape::Record(fields) => fields.iter().for_each(|field| self.used(&field.ty, used)),
            Shape::Variant(cases) => {
                cases.iter().flat_map(|case| &case.ty).for_each(|ty| self.used(ty, used))
            }
            Shape::Resource => self.described.methods(index).for_each(|method| self.used_by(method, used)),
            Shape::Enum(_) | Shape::Flags(_) => {}
        }
    }

    /// Adds the types that `ty` names, and those that they name.
    fn used(&self, ty: &Type, used: &mut BTreeSet<usize>) {
        match ty {
            Type::List(inner) | Type::Array(inner, _) | Type::Option(inner) => self.used(inner, used),
            Type::Map(key, value) => [key, value].into_iter().for_each(|ty| self.used(ty, used)),
            Type::Tuple(types) => types.iter().for_each(|ty| self.used(ty, used)),
            Type::Result(ok, error) => ok.iter().chain(error).for_each(|ty| self.used(ty, used)),
            Type::Named(index) | Type::Own(index) | Type::Borrow(index) if used.insert(*index) => {
                self.used_in_class(*index, used);
            }
            _ => {}
        }
    }
}

/// A function's own name.
pub(super) fn python_name(function: &Function) -> String {
    match function.kind {
        Kind::Constructor(_) => "__init__".to_owned(),
        // A resource has that already.
        Kind::Method(_) | Kind::Static(_) if snake(&function.name) == "close" => "close_".to_owned(),
        _ => snake(&function.name),
    }
}

fn trailing_options(fields: &[Member<Type>]) -> bool {
    fields.iter().all(|field| matches!(field.ty, Type::Option(_)))
}

/// A docstring on lines of its own, indented.
pub(crate) fn docstring(docs: &str, depth: usize) -> String {
    let indent = "    ".repeat(depth);
    // What a tool says of itself cannot end its docstring.
    let safe = docs.trim().replace('\\', "\\\\").replace("\"\"\"", "\\\"\\\"\\\"");
    let safe: String = safe.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect();
    let safe = if safe.ends_with('"') { safe + " " } else { safe };
    let lines: Vec<String> = safe
        .lines()
        .enumerate()
        .map(
            |(number, line)| {
                if number == 0 || line.is_empty() { line.to_owned() } else { format!("{indent}{line}") }
            },
        )
        .collect();
    match lines.len() {
        0 | 1 => format!("{indent}\"\"\"{}\"\"\"\n", lines.concat()),
        _ => format!("{indent}\"\"\"{}\n{indent}\"\"\"\n", lines.join("\n")),
    }
}
