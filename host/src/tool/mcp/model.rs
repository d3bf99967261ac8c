//! What a server offers, as plain data that is checked: everything else is made of it.

use serde_json::Value;

use crate::tool::names::literal;

/// The functions of a server.
#[derive(Debug, Default)]
pub struct Listing {
    /// The server's name for itself and its instructions, cleaned.
    pub instructions: String,
    pub functions: Vec<Function>,
    /// What [`Type::Class`] is a position in.
    pub classes: Vec<Class>,
    /// How many functions there were beyond the limits.
    pub left_out: usize,
}

/// What a program calls.
#[derive(Debug)]
pub struct Function {
    /// The server's name for it.
    pub name: String,
    /// Python's.
    pub python: String,
    /// Whether others could have had Python's name as well.
    pub contested: bool,
    /// The server's words, quoted.
    pub docs: String,
    /// Those that must be given come first.
    pub parameters: Vec<Field>,
    /// Whether arguments of other names are taken as well.
    pub open: bool,
    pub result: Type,
    /// Whether the server promises structured output of this type.
    pub structured: bool,
    /// Whether what is given stands in an object as its only member, `result`.
    pub wrapped: bool,
}

/// A parameter, or a member of an object.
#[derive(Debug)]
pub struct Field {
    /// The server's name for it.
    pub name: String,
    /// Python's; of a member of an object the same as the server's.
    pub python: String,
    /// Whether others could have had Python's name as well.
    pub contested: bool,
    pub ty: Type,
    pub required: bool,
    /// What stands in the signature and is sent where a program gives nothing.
    pub default: Option<Value>,
    /// The server's words, in one line.
    pub docs: String,
}

/// An object whose members are known.
#[derive(Debug)]
pub struct Class {
    pub name: String,
    pub fields: Vec<Field>,
    /// Whether there may be other members.
    pub open: bool,
}

/// What values there may be. It says less than the schema that it is of, and never more.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Any,
    Null,
    Bool,
    Int,
    Number,
    Str,
    /// One of these: strings, numbers, truth values, null.
    Literal(Vec<Value>),
    List(Box<Type>),
    /// An object of any members, all of one type.
    Dict(Box<Type>),
    Class(usize),
    Union(Vec<Type>),
}

impl Listing {
    /// The function that the server calls `name`.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// A type as an annotation.
    pub fn annotation(&self, ty: &Type) -> String {
        match ty {
            Type::Any => "Any".into(),
            Type::Null => "None".into(),
            Type::Bool => "bool".into(),
            Type::Int => "int".into(),
            Type::Number => "float".into(),
            Type::Str => "str".into(),
            Type::Literal(values) => {
                format!("Literal[{}]", values.iter().map(constant).collect::<Vec<_>>().join(", "))
            }
            Type::List(element) => format!("list[{}]", self.annotation(element)),
            Type::Dict(value) => format!("dict[str, {}]", self.annotation(value)),
            Type::Class(index) => self.classes[*index].name.clone(),
            Type::Union(types) => types.iter().map(|ty| self.annotation(ty)).collect::<Vec<_>>().join(" | "),
        }
    }

    /// Adds the positions of the classes that a type needs, and of those that they need.
    pub fn used(&self, ty: &Type, used: &mut std::collections::BTreeSet<usize>) {
        match ty {
            Type::List(inner) | Type::Dict(inner) => self.used(inner, used),
            Type::Union(types) => types.iter().for_each(|ty| self.used(ty, used)),
            Type::Class(index) if used.insert(*index) => {
                self.classes[*index].fields.iter().for_each(|field| self.used(&field.ty, used));
            }
            _ => {}
        }
    }
}

impl Field {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        64 + self.name.len() + self.docs.len() + self.ty.size()
    }
}

impl Type {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        16 + match self {
            Type::Literal(values) => values.iter().map(|value| 16 + value.as_str().map_or(0, str::len)).sum(),
            Type::List(inner) | Type::Dict(inner) => inner.size(),
            Type::Union(types) => types.iter().map(Type::size).sum(),
            _ => 0,
        }
    }

    /// One of several types; the same twice is once.
    pub fn union(types: impl IntoIterator<Item = Type>) -> Self {
        let mut members = Vec::new();
        for ty in types {
            match ty {
                Type::Any => return Type::Any,
                Type::Union(inner) => inner.into_iter().for_each(|ty| add(&mut members, ty)),
                ty => add(&mut members, ty),
            }
        }
        match members.len() {
            0 => Type::Any,
            1 => members.remove(0),
            _ => Type::Union(members),
        }
    }

    /// Whether `None` is one of its values.
    pub fn has_null(&self) -> bool {
        match self {
            Type::Any | Type::Null => true,
            Type::Literal(values) => values.contains(&Value::Null),
            Type::Union(types) => types.iter().any(Type::has_null),
            _ => false,
        }
    }
}

fn add(members: &mut Vec<Type>, ty: Type) {
    if !members.contains(&ty) {
        members.push(ty);
    }
}

/// A scalar as Python writes it.
pub fn constant(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::String(text) => literal(text),
        Value::Number(number) => number.to_string(),
        // There are none.
        Value::Array(_) | Value::Object(_) => "...".into(),
    }
}
