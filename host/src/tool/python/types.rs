//! Python for types: annotations, what describes them in messages, classes, and how values of theirs are
//! encoded and decoded.

use std::fmt::Write;

use super::Writer;
use super::code::{Code, letter_of};
use crate::tool::describe::{NamedType, Shape, Type};
use crate::tool::names::{literal, pascal, snake, upper};

impl Writer<'_> {
    /// A type as an annotation.
    pub(super) fn annotation(&self, ty: &Type) -> String {
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
    pub(super) fn descriptor(&self, ty: &Type) -> String {
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

    pub(super) fn class(&self, index: usize, out: &mut String) {
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
                let (base, call) = match self.recreates {
                    true => ("_recreated.resource", "    _call = _staticmethod(_call_here)\n"),
                    false => ("_handle", ""),
                };
                let _ = write!(
                    out,
                    "\n\nclass {name}({base}):\n    {docs}\n    _drop = {drop}\n    _generation = _generation\n{call}"
                );
            }
        }
    }

    /// Functions that encode and decode values of a type, and what describes it in messages.
    pub(super) fn codec(&mut self, index: usize, out: &mut String) {
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
