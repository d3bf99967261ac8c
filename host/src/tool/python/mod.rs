//! The Python modules of a tool, made from its description: real functions and classes whose bodies
//! encode their arguments, call the host, and decode what comes back (`engine::dynamic` says how).

mod aio;
mod code;
mod decode;
mod encode;
mod stubs;

#[cfg(feature = "mcp")]
pub(crate) use stubs::docstring;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use code::{Code, letter_of};

use super::describe::{Description, Function, Interface, Kind, NamedType, Shape, Type};
use super::names::{literal, pascal, snake, upper};

/// What all generated modules share.
pub(crate) const RUNTIME: &str = include_str!("runtime.py");

/// `tools.search` and `tools.describe`.
pub(crate) const DISCOVERY: &str = include_str!("discovery.py");

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

/// The source of a tool's modules by their full names; the first is the tool's own.
pub(crate) fn modules(tool: &str, described: &Description, first_function: u32) -> Vec<(String, String)> {
    Writer::new(tool, described, first_function).modules()
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
        }
    }

    /// Whether interfaces are modules of their own.
    fn several(&self) -> bool {
        self.interfaces.len() > 1
    }

    fn modules(mut self) -> Vec<(String, String)> {
        let described = self.described;
        let first = self.next_function;
        let several = self.several();
        let mut body = String::new();
        for index in 0..described.types.len() {
            self.class(index, &mut body);
        }
        for (index, name) in &self.exceptions {
            let _ = write!(
                body,
                "\n\nclass {name}(Error):\n    \"\"\"A call ended in an error; `payload` is a `{}`.\"\"\"\n",
                self.classes[*index]
            );
        }
        for index in 0..described.types.len() {
            self.codec(index, &mut body);
        }
        let mut public = Vec::new();
        let mut submodules = Vec::new();
        for (position, interface) in described.interfaces.iter().enumerate() {
            // What the component exports by itself is the tool's own.
            let module = &self.interfaces[position];
            let apart = several && !module.is_empty();
            let prefix = if apart { format!("_{module}__") } else { String::new() };
            let mut names = Vec::new();
            for function in &interface.functions {
                let number = self.next_function;
                self.next_function += 1;
                if function.kind == Kind::Free {
                    let name = snake(&function.name);
                    self.function(function, number, &format!("{prefix}{name}"), function.is_async, &mut body);
                    names.push(name);
                } else {
                    self.method(function, number, &mut body);
                }
            }
            let classes: Vec<String> = (0..described.types.len())
                .filter(|index| described.types[*index].interface == Some(position))
                .flat_map(|index| {
                    std::iter::once(self.classes[index].clone()).chain(self.exceptions.get(&index).cloned())
                })
                .collect();
            if apart {
                submodules.push(self.submodule(interface, position, &names, &classes));
            } else {
                public.extend(names);
            }
        }
        public.extend(self.classes.iter().cloned());
        public.extend(self.exceptions.values().cloned());
        public.push("Error".to_owned());
        let mut parts: Vec<String> = match several {
            true => self.interfaces.iter().filter(|name| !name.is_empty()).cloned().collect(),
            false => Vec::new(),
        };
        public.extend(parts.iter().cloned());
        let aio = self.aio(first);
        parts.extend(aio.first().map(|_| "aio".to_owned()));
        let mut source = format!("{}\n\n", literal(&self.docs()));
        source.push_str("from tools import *\nfrom tools import _runtime as _r\n");
        source.push_str("from tools._runtime import _array, _bool, _char, _explain, _flags, _give, _handle, _items, _numbers, _result, _some, _variant\n");
        source.push_str(
            "import dataclasses as _dataclasses\nimport enum as _enum\nimport struct as _struct\n\n",
        );
        // A tool may call its own things by such names.
        source.push_str("from builtins import chr as _chr, int as _int, len as _len, range as _range\n");
        source
            .push_str("from builtins import staticmethod as _staticmethod, tuple as _tuple, type as _type\n");
        source.push_str(
            "_generation = [0]\n_call, _start, _start_here = _r._caller(_generation), _r._starter([0]), _r._starter(_generation)\n",
        );
        for (position, format) in self.formats.iter().enumerate() {
            let _ = writeln!(source, "_s{position} = _struct.Struct({})", literal(&format!("<{format}")));
            let _ =
                writeln!(source, "_p{position}, _u{position} = _s{position}.pack, _s{position}.unpack_from");
        }
        let _ = write!(
            source,
            "\n\nclass Error(_r.ToolError):\n    \"\"\"A call of the tool `{}` ended in an error; `payload` is what the tool says.\"\"\"\n",
            self.tool
        );
        source.push_str(&body);
        let _ = write!(
            source,
            "\n\n__all__ = [{}]\n",
            public.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
        );
        if !parts.is_empty() {
            let names: Vec<String> = parts.iter().map(|name| literal(name)).collect();
            let _ = write!(source, "\n__getattr__ = _r._submodules(__name__, ({},))\n", names.join(", "));
        }
        let mut modules = vec![(format!("tools.{}", self.tool), source)];
        modules.extend(submodules);
        modules.extend(aio);
        modules
    }

    fn submodule(
        &self,
        interface: &Interface,
        position: usize,
        names: &[String],
        classes: &[String],
    ) -> (String, String) {
        let module = &self.interfaces[position];
        let prefix = format!("_{module}__");
        let mut source = format!("{}\n\n", literal(&interface.docs));
        let tool = format!("tools.{}", self.tool);
        for name in names {
            let _ = writeln!(source, "from {tool} import {prefix}{name} as {name}");
        }
        for name in classes.iter().map(String::as_str).chain(["Error"]) {
            let _ = writeln!(source, "from {tool} import {name}");
        }
        let all = names.iter().chain(classes).map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let _ = write!(source, "\n__all__ = [{all}, \"Error\"]\n");
        for name in names {
            let _ = writeln!(source, "{name}.__name__, {name}.__module__ = {}, __name__", literal(name));
        }
        (format!("{tool}.{module}"), source)
    }

    fn format(&mut self, format: &str) -> usize {
        self.formats.iter().position(|known| known == format).unwrap_or_else(|| {
            self.formats.push(format.to_owned());
            self.formats.len() - 1
        })
    }

    /// A type as an annotation.
    fn annotation(&self, ty: &Type) -> String {
        match ty {
            Type::Bool => self.builtin("bool"),
            Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
                self.builtin("int")
            }
            Type::F32 | Type::F64 => self.builtin("float"),
            Type::Char | Type::String => self.builtin("str"),
            Type::Json => "Any".into(),
            Type::List(element) | Type::Array(element, _) => match letter_of(element) {
                Some("B") => self.builtin("bytes"),
                Some(_) => format!("Sequence[{}]", self.annotation(element)),
                None => format!("{}[{}]", self.builtin("list"), self.annotation(element)),
            },
            Type::Map(key, value) => {
                format!("{}[{}, {}]", self.builtin("dict"), self.annotation(key), self.annotation(value))
            }
            Type::Tuple(types) => {
                format!(
                    "{}[{}]",
                    self.builtin("tuple"),
                    types.iter().map(|ty| self.annotation(ty)).collect::<Vec<_>>().join(", ")
                )
            }
            Type::Option(inner) => match **inner {
                Type::Option(_) => format!("Some[{}] | None", self.annotation(inner)),
                _ => format!("{} | None", self.annotation(inner)),
            },
            Type::Result(ok, error) => {
                let side = |side: &Option<Box<Type>>| {
                    side.as_ref().map_or("None".to_owned(), |ty| self.annotation(ty))
                };
                format!("Ok[{}] | Err[{}]", side(ok), side(error))
            }
            Type::Named(index) | Type::Own(index) | Type::Borrow(index) => self.classes[*index].clone(),
        }
    }

    /// A type of Python's own, which a function of the tool may have taken the name of.
    fn builtin(&self, name: &str) -> String {
        let mut functions = self.described.interfaces.iter().flat_map(|interface| &interface.functions);
        match functions.any(|function| snake(&function.name) == name) {
            true => format!("builtins.{name}"),
            false => name.to_owned(),
        }
    }

    /// A type as WIT writes it, for messages: a Python expression, evaluated only when something is wrong.
    fn descriptor(&self, ty: &Type) -> String {
        let side =
            |side: &Option<Box<Type>>| side.as_ref().map_or("None".to_owned(), |ty| self.descriptor(ty));
        match ty {
            Type::List(element) => format!("(\"list\", {})", self.descriptor(element)),
            Type::Array(element, length) => format!("(\"array\", {}, {length})", self.descriptor(element)),
            Type::Map(key, value) => {
                format!("(\"map\", {}, {})", self.descriptor(key), self.descriptor(value))
            }
            Type::Tuple(types) => {
                format!(
                    "(\"tuple\", {})",
                    types.iter().map(|ty| self.descriptor(ty)).collect::<Vec<_>>().join(", ")
                )
            }
            Type::Option(inner) => format!("(\"option\", {})", self.descriptor(inner)),
            Type::Result(ok, error) => format!("(\"result\", {}, {})", side(ok), side(error)),
            Type::Named(index) | Type::Own(index) | Type::Borrow(index) => {
                format!("(\"named\", {}, _k{index})", self.classes[*index])
            }
            plain => format!("\"{}\"", wit_name(plain)),
        }
    }

    fn class(&self, index: usize, out: &mut String) {
        let NamedType { docs, shape, .. } = &self.described.types[index];
        let name = &self.classes[index];
        let docs = literal(docs);
        match shape {
            Shape::Record(fields) => {
                let _ = write!(out, "\n\n@_dataclasses.dataclass\nclass {name}:\n    {docs}\n");
                for (position, field) in fields.iter().enumerate() {
                    let optional = fields[position..].iter().all(|field| matches!(field.ty, Type::Option(_)));
                    let default = if optional { " = None" } else { "" };
                    let _ = writeln!(
                        out,
                        "    {}: {}{default}",
                        snake(&field.name),
                        literal(&self.annotation(&field.ty))
                    );
                }
            }
            Shape::Enum(cases) => {
                let _ = write!(out, "\n\nclass {name}(_enum.Enum):\n    {docs}\n");
                for (position, case) in cases.iter().enumerate() {
                    let _ = writeln!(out, "    {} = {position}", upper(&case.name));
                }
                let _ = writeln!(out, "_m{index} = _tuple({name})");
            }
            Shape::Flags(flags) => {
                let _ = write!(out, "\n\nclass {name}(_enum.Flag):\n    {docs}\n");
                if flags.iter().all(|flag| upper(&flag.name) != "NONE") {
                    out.push_str("    NONE = 0\n");
                }
                for (position, flag) in flags.iter().enumerate() {
                    let _ = writeln!(out, "    {} = 1 << {position}", upper(&flag.name));
                }
            }
            Shape::Variant(cases) => {
                let _ = write!(
                    out,
                    "\n\nclass {name}:\n    {docs}\n    __slots__ = ()\n\n_m{index} = _variant({name}"
                );
                for case in cases {
                    let carries = if case.ty.is_some() { "True" } else { "False" };
                    let (case_name, docs) = (literal(&pascal(&case.name)), literal(&case.docs));
                    let _ = write!(out, ", ({case_name}, {carries}, {docs})");
                }
                out.push_str(")\n");
            }
            Shape::Resource => {
                let drop = self.first_drop + index as u32;
                let _ = write!(
                    out,
                    "\n\nclass {name}(_handle):\n    {docs}\n    _drop = {drop}\n    _generation = _generation\n"
                );
            }
        }
    }

    /// Functions that encode and decode values of a type, and what describes it in messages.
    fn codec(&mut self, index: usize, out: &mut String) {
        let described = self.described;
        match &described.types[index].shape {
            Shape::Record(fields) => {
                let described_fields: Vec<String> = fields
                    .iter()
                    .map(|field| {
                        format!("({}, {})", literal(&snake(&field.name)), self.descriptor(&field.ty))
                    })
                    .collect();
                let _ = write!(out, "\n_k{index} = lambda: ({},)\n", described_fields.join(", "));
                let mut code = Code::default();
                for field in fields {
                    self.encode(&mut code, &field.ty, &format!("v.{}", snake(&field.name)));
                }
                self.flush(&mut code);
                let _ = write!(out, "\ndef _e{index}(_a, v, _g):\n{}", code.indented(1));
                let mut code = Code::default();
                let values: Vec<String> =
                    fields.iter().map(|field| self.decode(&mut code, &field.ty)).collect();
                code.line(format!("return {}({}), _q", self.classes[index], values.join(", ")));
                let _ = write!(out, "\ndef _d{index}(_b, _q):\n{}", code.indented(1));
            }
            Shape::Variant(cases) => {
                let cases_described: Vec<String> = cases
                    .iter()
                    .map(|case| case.ty.as_ref().map_or("None".to_owned(), |ty| self.descriptor(ty)))
                    .collect();
                let _ = write!(out, "\n_k{index} = lambda: ({},)\n", cases_described.join(", "));
                let mut code = Code::default();
                let mut decoding = Code::default();
                let tag = self.format("I");
                code.line(format!("_n = _m{index}[_type(v)]"));
                code.line(format!("_a(_p{tag}(_n))"));
                decoding.line(format!("_n, = _u{tag}(_b, _q)"));
                decoding.line("_q += 4".into());
                for (position, case) in cases.iter().enumerate() {
                    let class = format!("{}.{}", self.classes[index], pascal(&case.name));
                    decoding.line(format!("if _n == {position}:"));
                    decoding.deeper();
                    match &case.ty {
                        Some(ty) => {
                            code.line(format!("if _n == {position}:"));
                            code.deeper();
                            code.line("v = v.value".into());
                            self.encode(&mut code, ty, "v");
                            self.flush(&mut code);
                            code.line("return".into());
                            code.shallower();
                            let value = self.decode(&mut decoding, ty);
                            decoding.line(format!("return {class}({value}), _q"));
                        }
                        None => decoding.line(format!("return {class}(), _q")),
                    }
                    decoding.shallower();
                }
                let _ = write!(out, "\ndef _e{index}(_a, v, _g):\n{}", code.indented(1));
                let _ = write!(out, "\ndef _d{index}(_b, _q):\n{}", decoding.indented(1));
            }
            Shape::Enum(_) | Shape::Flags(_) | Shape::Resource => {
                let _ = write!(out, "\n_k{index} = None\n");
            }
        }
    }

    fn method(&mut self, function: &Function, number: u32, out: &mut String) {
        let (Kind::Constructor(index) | Kind::Method(index) | Kind::Static(index)) = function.kind else {
            return;
        };
        let class = self.classes[index].clone();
        let name = stubs::python_name(function);
        let private = format!("_{class}_{name}");
        self.function(function, number, &private, function.is_async, out);
        let bound = match function.kind {
            Kind::Static(_) => format!("_staticmethod({private})"),
            _ => private.clone(),
        };
        let _ = write!(
            out,
            "{private}.__name__, {private}.__qualname__ = {}, {}\n{class}.{name} = {bound}\n",
            literal(&name),
            literal(&format!("{class}.{name}")),
        );
    }

    /// A function with its signature, documentation and body.
    fn function(&mut self, function: &Function, number: u32, name: &str, is_async: bool, out: &mut String) {
        let mut signature = Vec::new();
        let mut encoded: Vec<(String, Type)> = Vec::new();
        if let Kind::Method(index) = function.kind {
            signature.push("self".to_owned());
            encoded.push(("self".into(), Type::Borrow(index)));
        } else if let Kind::Constructor(_) = function.kind {
            signature.push("self".to_owned());
        }
        for (position, (parameter, ty)) in function.parameters.iter().enumerate() {
            let python = snake(parameter);
            let default = if function.is_optional(position) { " = None" } else { "" };
            signature.push(format!("{python}: {}{default}", literal(&self.annotation(ty))));
            encoded.push((python, ty.clone()));
        }
        let returns = self.returned(function);
        let mut code = Code::default();
        let (head, tail) = self.arguments(&mut code, &encoded);
        let mut text = Code::default();
        let call = match is_async {
            // Which ends no resource but in the instance that has it.
            true if self.described.passes_resources(function) => "await _start_here",
            true => "await _start",
            false => "_call",
        };
        if code.text.is_empty() && head == "b\"\"" {
            text.line(format!("_b = {call}({number}, b\"\", b\"\")"));
        } else {
            let gives = code.text.contains(", _g)") || head.contains(", _g)");
            text.line("try:".into());
            text.deeper();
            if gives {
                text.line("_g = []".into());
            }
            text.text.push_str(&code.indented(1));
            text.line(format!("_h = {head}"));
            text.shallower();
            text.line("except _r._WRONG as _x:".into());
            let arguments: Vec<&str> = encoded.iter().map(|(name, _)| name.as_str()).collect();
            let described: Vec<String> = encoded
                .iter()
                .map(|(name, ty)| format!("({}, {})", literal(name), self.descriptor(ty)))
                .collect();
            text.deeper();
            text.line(format!(
                "raise _explain(_x, ({},), ({},)) from None",
                described.join(", "),
                arguments.join(", ")
            ));
            text.shallower();
            if gives {
                text.line("for _x in _g: _x._given()".into());
            }
            text.line(format!("_b = {call}({number}, _h, {tail})"));
        }
        self.results(&mut text, function);
        let word = if is_async { "async def" } else { "def" };
        let _ = write!(
            out,
            "\n\n{word} {name}({}) -> {}:\n    {}\n{}",
            signature.join(", "),
            literal(&returns),
            literal(&function.docs),
            text.indented(1)
        );
    }
}

fn wit_name(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::Json => "json",
        _ => "value",
    }
}
