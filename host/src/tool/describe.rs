//! What a tool offers, as WIT says it: pure data, from which everything else is made.

use serde::{Deserialize, Serialize};

/// Everything that a tool exports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// What the tool is for: the documentation of its package.
    pub docs: String,
    pub interfaces: Vec<Interface>,
    /// Types with names of their own; a [`Type::Named`] is a position here.
    pub types: Vec<NamedType>,
    /// Whether the component uses what asynchronous functions need.
    pub concurrent: bool,
}

/// The functions of one exported interface, or those that the component exports by themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interface {
    /// The full name (`example:text/search@1.0.0`), empty for functions exported by themselves.
    pub export: String,
    /// The interface's own name (`search`).
    pub name: String,
    pub docs: String,
    pub functions: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Function {
    /// The name as the component exports it (`[method]table.filter`).
    pub export: String,
    /// The name without the resource (`filter`).
    pub name: String,
    pub docs: String,
    pub kind: Kind,
    /// Whether it is awaited: an `async func`, or one that passes streams or futures.
    pub is_async: bool,
    /// Of one that is, in a component: in how many registers its result comes.
    pub registers: Option<u8>,
    /// Names and types; a method's `self` is not among them.
    pub parameters: Vec<(String, Type)>,
    pub result: Option<Type>,
}

impl Function {
    /// The function as a coroutine.
    pub fn as_async(&self) -> Self {
        Function { is_async: true, ..self.clone() }
    }

    /// Whether the parameter may be left out: it and all behind it are options.
    pub fn is_optional(&self, position: usize) -> bool {
        self.parameters[position..].iter().all(|(_, ty)| matches!(ty, Type::Option(_)))
    }
}

/// Whether a function belongs to a resource, whose position in [`Description::types`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Free,
    Constructor(usize),
    Method(usize),
    Static(usize),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamedType {
    pub name: String,
    pub docs: String,
    /// The position of its interface in [`Description::interfaces`], if that is exported.
    pub interface: Option<usize>,
    pub shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Shape {
    Record(Vec<Member<Type>>),
    Variant(Vec<Member<Option<Type>>>),
    Enum(Vec<Member<()>>),
    Flags(Vec<Member<()>>),
    Resource,
}

/// A field, a case or a flag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member<T> {
    pub name: String,
    pub docs: String,
    pub ty: T,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    /// A string that is JSON: an alias of `string` called `json`.
    Json,
    List(Box<Type>),
    Array(Box<Type>, u32),
    Map(Box<Type>, Box<Type>),
    Tuple(Vec<Type>),
    Option(Box<Type>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Named(usize),
    Own(usize),
    Borrow(usize),
}

impl Type {
    /// Whether it is a number, a character, a truth value or a string.
    pub fn is_simple(&self) -> bool {
        use Type::{Bool, Char, F32, F64, Json, S8, S16, S32, S64, String, U8, U16, U32, U64};
        matches!(self, Bool | Char | F32 | F64 | Json | S8 | S16 | S32 | S64 | String | U8 | U16 | U32 | U64)
    }
}

impl Description {
    /// The first line of what the tool says about itself, empty if it says nothing.
    pub fn summary(&self) -> String {
        let docs = std::iter::once(&self.docs).chain(self.interfaces.iter().map(|interface| &interface.docs));
        let docs = docs.into_iter().find(|docs| !docs.is_empty());
        docs.and_then(|docs| docs.lines().next()).unwrap_or_default().to_owned()
    }

    /// All functions, in the order of their numbers.
    pub fn functions(&self) -> impl Iterator<Item = &Function> + Clone {
        self.interfaces.iter().flat_map(|interface| &interface.functions)
    }

    /// How many functions there are; closing a resource is not among them.
    pub fn function_count(&self) -> u32 {
        self.interfaces.iter().map(|interface| interface.functions.len() as u32).sum()
    }

    /// Whether a call of `function` passes resources: then it belongs to the instance that has them.
    pub fn passes_resources(&self, function: &Function) -> bool {
        let types = function.parameters.iter().map(|(_, ty)| ty).chain(&function.result);
        function.kind != Kind::Free || types.into_iter().any(|ty| self.holds_resources(ty))
    }

    /// Whether a call of `function` may give resources.
    pub fn gives_resources(&self, function: &Function) -> bool {
        matches!(function.kind, Kind::Constructor(_))
            || function.result.as_ref().is_some_and(|ty| self.holds_resources(ty))
    }

    /// Whether a value of the type holds resources.
    pub fn holds_resources(&self, ty: &Type) -> bool {
        let inside = |ty: &Type| self.holds_resources(ty);
        match ty {
            Type::Own(_) | Type::Borrow(_) => true,
            Type::List(of) | Type::Array(of, _) | Type::Option(of) => inside(of),
            Type::Map(key, value) => inside(key) || inside(value),
            Type::Tuple(types) => types.iter().any(inside),
            Type::Result(ok, error) => ok.iter().chain(error).any(|ty| inside(ty)),
            Type::Named(index) => match &self.types[*index].shape {
                Shape::Record(fields) => fields.iter().any(|field| inside(&field.ty)),
                Shape::Variant(cases) => cases.iter().flat_map(|case| &case.ty).any(inside),
                Shape::Enum(_) | Shape::Flags(_) => false,
                Shape::Resource => true,
            },
            _ => false,
        }
    }

    /// The functions of a resource.
    pub fn methods(&self, resource: usize) -> impl Iterator<Item = &Function> {
        let of = [Kind::Constructor(resource), Kind::Method(resource), Kind::Static(resource)];
        let functions = self.interfaces.iter().flat_map(|interface| &interface.functions);
        functions.filter(move |function| of.contains(&function.kind))
    }
}
