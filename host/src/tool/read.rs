//! Reads what a tool offers: a component's own WIT, or WIT as text.

use std::collections::HashMap;
use std::path::Path;

use wasmparser::{Parser, Payload};
use wit_component::DecodedWasm;
use wit_parser::{
    FunctionKind, Handle, InterfaceId, PackageId, PackageMetadata, Resolve, Type as WitType, TypeDefKind,
    TypeId, WorldItem, WorldKey,
};

use super::describe::{Description, Function, Interface, Kind, Member, NamedType, Shape, Type};
use super::{circles, lifts};
use crate::{Error, ErrorKind, Result};

impl Description {
    /// Reads a component's exports.
    ///
    /// # Errors
    ///
    /// When the bytes are not a component, or it uses types that cannot be passed.
    pub fn read(component: &[u8], name: &str) -> Result<Self> {
        let bad = |message: String| Error::new(ErrorKind::Tool, format!("the tool `{name}` {message}"));
        let (without_docs, docs) = split_docs(component).map_err(|message| {
            bad(message).hint("give a WebAssembly component, built for `wasm32-wasip2` for instance")
        })?;
        let package =
            || bad("is a WIT package, not a component".into()).hint("give the component that implements it");
        if !circles::check(&without_docs).map_err(&bad)? {
            return Err(package());
        }
        let decoded = wit_component::decode(&without_docs)
            .map_err(|error| bad(format!("is not a valid component: {error:#}")))?;
        let DecodedWasm::Component(resolve, world) = decoded else { return Err(package()) };
        let concurrent = lifts::is_concurrent(component);
        let plainly = concurrent && lifts::plainly(component).map_err(&bad)?;
        let mut reader = Reader::new(&resolve, docs);
        reader.lifted = Some(if plainly { Resolve::MAX_FLAT_RESULTS } else { Resolve::MAX_FLAT_PARAMS });
        for (key, item) in &resolve.worlds[world].exports {
            reader.export(key, item).map_err(&bad)?;
        }
        let described = Description { concurrent, ..reader.out };
        if described.interfaces.iter().all(|interface| interface.functions.is_empty()) {
            return Err(bad("exports no function".into())
                .hint("a tool exports functions, by themselves or in interfaces; a program (`wasi:cli/run`) is none"));
        }
        Ok(described)
    }

    /// Reads the items of one interface, written in WIT.
    ///
    /// # Errors
    ///
    /// When it is not WIT, or uses types that cannot be passed.
    pub fn of_interface(items: &str, name: &str) -> Result<Self> {
        let bad = |message: String| {
            Error::new(ErrorKind::Tool, format!("the functions of `{name}` {message}"))
                .hint("write them as in WIT: `find: func(name: string) -> list<string>;`")
        };
        let text = format!("package host:functions;\ninterface functions {{\n{items}\n}}\n");
        let (resolve, package) = parse(&text).map_err(|message| bad(format!("are not WIT: {message}")))?;
        let docs = documentation_of(&resolve, package);
        let mut reader = Reader::new(&resolve, docs);
        for (name, interface) in &resolve.packages[package].interfaces {
            reader.interface(*interface, name.clone(), name.clone()).map_err(&bad)?;
        }
        Ok(reader.out)
    }
}

/// The component with the documentation of the WIT it was built from, a file or a directory.
///
/// # Errors
///
/// When the WIT cannot be read, or `component` is none.
pub(super) fn document(component: &[u8], wit: &Path) -> Result<Vec<u8>> {
    let bad = |message: String| Error::new(ErrorKind::Tool, message);
    let (mut output, _) = split_docs(component).map_err(|message| bad(format!("the file {message}")))?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .map_err(|error| bad(format!("cannot read the WIT `{}`: {error:#}", wit.display())))?;
    let data = PackageMetadata::extract(&resolve, package)
        .encode()
        .map_err(|error| bad(format!("the documentation cannot be encoded: {error:#}")))?;
    let section =
        wasm_encoder::CustomSection { name: PackageMetadata::SECTION_NAME.into(), data: data.into() };
    wasm_encoder::ComponentSection::append_to_component(&section, &mut output);
    Ok(output)
}

/// Parses a WIT package.
fn parse(text: &str) -> Result<(Resolve, PackageId), String> {
    let mut resolve = Resolve::default();
    // The error shows the place in the text.
    let package = resolve.push_source("tool.wit", text).map_err(|error| format!("{error:#}"))?;
    Ok((resolve, package))
}

/// The documentation of a package, in the form of the section `package-docs`.
fn documentation_of(resolve: &Resolve, package: PackageId) -> serde_json::Value {
    serde_json::to_value(PackageMetadata::extract(resolve, package)).unwrap_or_default()
}

/// The component without its documentation, which its decoder takes for that of a WIT package.
#[cfg(feature = "compose")]
pub(crate) fn without_docs(component: &[u8]) -> Vec<u8> {
    split_docs(component).map_or_else(|_| component.to_vec(), |(bytes, _)| bytes)
}

/// The component without the custom section that holds its documentation, and that documentation.
///
/// Binary components do not keep the comments of their WIT. The section `package-docs` is that of a
/// binary WIT package, put into the component by whoever built it.
fn split_docs(component: &[u8]) -> Result<(Vec<u8>, serde_json::Value), String> {
    if !component.starts_with(b"\0asm") {
        return Err("is not WebAssembly".into());
    }
    let mut docs = serde_json::Value::Null;
    let mut output = Vec::new();
    let mut copied = 0;
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| format!("is not WebAssembly: {error}"))?;
        match &payload {
            Payload::Version { encoding: wasmparser::Encoding::Module, .. } if depth == 0 => {
                return Err("is a core module, not a component".into());
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::CustomSection(section) if depth == 1 && section.name() == "package-docs" => {
                // A version byte, then JSON.
                docs = section
                    .data()
                    .split_first()
                    .and_then(|(_, json)| serde_json::from_slice(json).ok())
                    .unwrap_or_default();
                let range = payload.as_section().map(|(_, range)| range).unwrap_or_default();
                // The section's own header lies before its content: its id and its length.
                let header = 1 + leb128_length(range.len());
                output.extend_from_slice(&component[copied..range.start - header]);
                copied = range.end;
            }
            _ => {}
        }
    }
    output.extend_from_slice(&component[copied..]);
    Ok((output, docs))
}

/// Bytes that a length takes in the binary format, as encoders write it.
fn leb128_length(length: usize) -> usize {
    (usize::BITS - length.leading_zeros()).div_ceil(7).max(1) as usize
}

/// How many types a description may have, each counted as often as it would be written out. Names can
/// make of a page of WIT more than any memory holds: `type b = tuple<a, a>; type c = tuple<b, b>; …`
const MAX_TYPES: usize = 1 << 18;

/// How deep types may lie in each other. wasmtime allows no more.
const MAX_DEPTH: usize = 100;

struct Reader<'a> {
    resolve: &'a Resolve,
    docs: serde_json::Value,
    known: HashMap<TypeId, Known>,
    /// How many more types there may be.
    left: usize,
    /// How deep the reader is in a type, and has been.
    depth: usize,
    deepest: usize,
    /// Whether there are streams or futures in the type that is read.
    flows: bool,
    /// In how many registers an `async func` may give its result, if this is a component.
    lifted: Option<usize>,
    out: Description,
}

/// A type with a name that is described already.
struct Known {
    position: usize,
    types: usize,
    depth: usize,
    flows: bool,
}

type Read<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn new(resolve: &'a Resolve, docs: serde_json::Value) -> Self {
        let (known, out) = (HashMap::new(), Description::default());
        Reader {
            resolve,
            docs,
            known,
            left: MAX_TYPES,
            depth: 0,
            deepest: 0,
            flows: false,
            lifted: None,
            out,
        }
    }

    /// Counts types that lie so deep in the one that is read.
    fn count(&mut self, types: usize, depth: usize) -> Read<()> {
        self.left = self
            .left
            .checked_sub(types)
            .ok_or_else(|| format!("has more than {MAX_TYPES} types, each counted as often as it is used"))?;
        self.deepest = self.deepest.max(self.depth + depth);
        match self.deepest > MAX_DEPTH {
            true => Err(format!("has types that lie more than {MAX_DEPTH} deep in each other")),
            false => Ok(()),
        }
    }

    fn export(&mut self, key: &WorldKey, item: &WorldItem) -> Read<()> {
        match item {
            WorldItem::Interface { id, .. } => {
                let name = match key {
                    WorldKey::Name(name) => name.clone(),
                    WorldKey::Interface(id) => self.resolve.interfaces[*id].name.clone().unwrap_or_default(),
                };
                self.interface(*id, self.resolve.name_world_key(key), name)
            }
            WorldItem::Function(function) => {
                let position = self.out.interfaces.iter().position(|interface| interface.export.is_empty());
                let position = position.unwrap_or_else(|| {
                    self.out.interfaces.push(Interface {
                        export: String::new(),
                        name: String::new(),
                        docs: String::new(),
                        functions: Vec::new(),
                    });
                    self.out.interfaces.len() - 1
                });
                let docs = self.doc(&["worlds", "root", "func_exports", &function.name]);
                let function = self.function(function, docs)?;
                self.out.interfaces[position].functions.push(function);
                Ok(())
            }
            WorldItem::Type { .. } => Ok(()),
        }
    }

    fn interface(&mut self, id: InterfaceId, export: String, name: String) -> Read<()> {
        let interface = &self.resolve.interfaces[id];
        let docs = self.doc(&["interfaces", &name]);
        if self.out.docs.is_empty() {
            self.out.docs = self.doc(&[]);
        }
        let position = self.out.interfaces.len();
        self.out.interfaces.push(Interface { export, name: name.clone(), docs, functions: Vec::new() });
        for ty in interface.types.values() {
            if matches!(self.resolve.types[*ty].kind, TypeDefKind::Resource) {
                self.named(*ty)?;
            }
        }
        for function in interface.functions.values() {
            let docs = self.doc(&["interfaces", &name, "funcs", &function.name]);
            let function = self.function(function, docs)?;
            self.out.interfaces[position].functions.push(function);
        }
        for (ty, known) in &self.known {
            let inside = self.resolve.types[*ty].owner == wit_parser::TypeOwner::Interface(id);
            if inside {
                self.out.types[known.position].interface = Some(position);
            }
        }
        Ok(())
    }

    /// The documentation of an item: the text itself, or the `docs` of an object.
    fn doc(&self, path: &[&str]) -> String {
        let item = path.iter().try_fold(&self.docs, |value, key| value.get(key));
        let text = item.and_then(|item| item.as_str().or_else(|| item.get("docs")?.as_str()));
        text.unwrap_or_default().trim().to_owned()
    }

    fn function(&mut self, function: &wit_parser::Function, docs: String) -> Read<Function> {
        let in_function = |message: String| format!("cannot be used: `{}` {message}", function.name);
        self.flows = false;
        let mut parameters = Vec::new();
        for parameter in &function.params {
            let ty = self.ty(&parameter.ty).map_err(in_function)?;
            parameters.push((parameter.name.clone(), ty));
        }
        let kind = match function.kind {
            FunctionKind::Freestanding | FunctionKind::AsyncFreestanding => Kind::Free,
            FunctionKind::Constructor(id) => Kind::Constructor(self.named(id)?),
            FunctionKind::Static(id) | FunctionKind::AsyncStatic(id) => Kind::Static(self.named(id)?),
            FunctionKind::Method(id) | FunctionKind::AsyncMethod(id) => {
                parameters.remove(0);
                Kind::Method(self.named(id)?)
            }
        };
        let result = function.result.as_ref().map(|ty| self.ty(ty)).transpose().map_err(in_function)?;
        if self.flows && matches!(kind, Kind::Constructor(_)) {
            return Err(in_function("is a constructor that takes a stream or a future".into()));
        }
        let is_async = function.kind.is_async() || self.flows;
        let most = match function.kind.is_async() {
            true => self.lifted,
            false => self.lifted.map(|_| Resolve::MAX_FLAT_RESULTS),
        };
        let registers = most.filter(|_| is_async);
        Ok(Function {
            export: function.name.clone(),
            name: match kind {
                Kind::Constructor(_) => "constructor".to_owned(),
                _ => function.item_name().to_owned(),
            },
            docs,
            kind,
            is_async,
            registers: registers.map(|most| lifts::registers(self.resolve, function.result.as_ref(), most)),
            result,
            parameters,
        })
    }

    fn ty(&mut self, ty: &WitType) -> Read<Type> {
        self.count(1, 1)?;
        self.depth += 1;
        let read = self.plain_or_defined(ty);
        self.depth -= 1;
        read
    }

    fn plain_or_defined(&mut self, ty: &WitType) -> Read<Type> {
        Ok(match ty {
            WitType::Bool => Type::Bool,
            WitType::U8 => Type::U8,
            WitType::U16 => Type::U16,
            WitType::U32 => Type::U32,
            WitType::U64 => Type::U64,
            WitType::S8 => Type::S8,
            WitType::S16 => Type::S16,
            WitType::S32 => Type::S32,
            WitType::S64 => Type::S64,
            WitType::F32 => Type::F32,
            WitType::F64 => Type::F64,
            WitType::Char => Type::Char,
            WitType::String => Type::String,
            WitType::ErrorContext => return Err("takes or gives an error context".into()),
            WitType::Id(id) => return self.defined(*id),
        })
    }

    fn boxed(&mut self, ty: &WitType) -> Read<Box<Type>> {
        Ok(Box::new(self.ty(ty)?))
    }

    fn defined(&mut self, id: TypeId) -> Read<Type> {
        let resolve = self.resolve;
        Ok(match &resolve.types[id].kind {
            TypeDefKind::Type(WitType::String) if resolve.types[id].name.as_deref() == Some("json") => {
                Type::Json
            }
            TypeDefKind::Type(ty) => self.ty(ty)?,
            TypeDefKind::List(ty) => Type::List(self.boxed(ty)?),
            TypeDefKind::FixedLengthList(ty, length) => Type::Array(self.boxed(ty)?, *length),
            TypeDefKind::Map(key, value) => Type::Map(self.boxed(key)?, self.boxed(value)?),
            TypeDefKind::Option(ty) => Type::Option(self.boxed(ty)?),
            TypeDefKind::Result(result) => {
                let ok = result.ok.as_ref().map(|ty| self.boxed(ty)).transpose()?;
                let err = result.err.as_ref().map(|ty| self.boxed(ty)).transpose()?;
                Type::Result(ok, err)
            }
            TypeDefKind::Tuple(tuple) => {
                Type::Tuple(tuple.types.iter().map(|ty| self.ty(ty)).collect::<Read<_>>()?)
            }
            TypeDefKind::Handle(Handle::Own(id)) => Type::Own(self.named(*id)?),
            TypeDefKind::Handle(Handle::Borrow(id)) => Type::Borrow(self.named(*id)?),
            TypeDefKind::Future(ty) | TypeDefKind::Stream(ty) => {
                self.flows = true;
                let item = ty.as_ref().map(|ty| self.ty(ty)).transpose()?;
                match (item, self.lifted, &resolve.types[id].kind) {
                    (_, None, _) => return Err("takes or gives a stream or a future".into()),
                    (Some(item), _, kind) if item.is_simple() => match kind {
                        TypeDefKind::Stream(_) => Type::List(Box::new(item)),
                        _ => item,
                    },
                    _ => {
                        return Err("takes or gives a stream or a future of something else than numbers, \
                            `bool`, `char` or `string`"
                            .into());
                    }
                }
            }
            TypeDefKind::Record(_)
            | TypeDefKind::Variant(_)
            | TypeDefKind::Enum(_)
            | TypeDefKind::Flags(_) => Type::Named(self.named(id)?),
            TypeDefKind::Resource => return Err("passes a resource without a handle".into()),
            TypeDefKind::Unknown => return Err("has a type of unknown structure".into()),
        })
    }

    /// The position of a type with a name, which is described when it is first met.
    fn named(&mut self, id: TypeId) -> Read<usize> {
        let resolve = self.resolve;
        // An interface that uses a type of another one names it anew.
        let mut id = id;
        while let TypeDefKind::Type(WitType::Id(inner)) = resolve.types[id].kind {
            id = inner;
        }
        if let Some(&Known { position, types, depth, flows }) = self.known.get(&id) {
            self.flows |= flows;
            return self.count(types, depth).map(|()| position);
        }
        let (left, deepest) = (self.left, std::mem::replace(&mut self.deepest, self.depth));
        let flows = std::mem::take(&mut self.flows);
        let definition = &resolve.types[id];
        let name = definition.name.clone().ok_or("has a type without a name")?;
        let owner = match definition.owner {
            wit_parser::TypeOwner::Interface(id) => resolve.interfaces[id].name.clone().unwrap_or_default(),
            _ => String::new(),
        };
        let place = ["interfaces", &owner, "types", &name];
        let docs = self.doc(&place);
        let member_docs = |member: &str| {
            let mut place = place.to_vec();
            place.extend(["items", member]);
            self.doc(&place)
        };
        // Members are described after the type has its place: none can contain itself, but the
        // types that they need get theirs behind it.
        let mut shape = match &definition.kind {
            TypeDefKind::Record(record) => Shape::Record(
                record
                    .fields
                    .iter()
                    .map(|field| Member {
                        name: field.name.clone(),
                        docs: member_docs(&field.name),
                        ty: Type::Bool,
                    })
                    .collect(),
            ),
            TypeDefKind::Variant(variant) => Shape::Variant(
                variant
                    .cases
                    .iter()
                    .map(|case| Member { name: case.name.clone(), docs: member_docs(&case.name), ty: None })
                    .collect(),
            ),
            TypeDefKind::Enum(of) => Shape::Enum(
                of.cases
                    .iter()
                    .map(|case| Member { name: case.name.clone(), docs: member_docs(&case.name), ty: () })
                    .collect(),
            ),
            TypeDefKind::Flags(flags) => Shape::Flags(
                flags
                    .flags
                    .iter()
                    .map(|flag| Member { name: flag.name.clone(), docs: member_docs(&flag.name), ty: () })
                    .collect(),
            ),
            TypeDefKind::Resource => Shape::Resource,
            _ => return Err("has a type without a name".into()),
        };
        match (&mut shape, &definition.kind) {
            (Shape::Record(members), TypeDefKind::Record(record)) => {
                for (member, field) in members.iter_mut().zip(&record.fields) {
                    member.ty = self.ty(&field.ty)?;
                }
            }
            (Shape::Variant(members), TypeDefKind::Variant(variant)) => {
                for (member, case) in members.iter_mut().zip(&variant.cases) {
                    member.ty = case.ty.as_ref().map(|ty| self.ty(ty)).transpose()?;
                }
            }
            _ => {}
        }
        let position = self.out.types.len();
        self.out.types.push(NamedType { name, docs, interface: None, shape });
        let (types, depth) = (left - self.left, self.deepest - self.depth);
        self.known.insert(id, Known { position, types, depth, flows: self.flows });
        self.deepest = self.deepest.max(deepest);
        self.flows |= flows;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_would_be_too_many_or_too_deep_are_refused() {
        let refused = |items: String, message: &str| {
            let error = Description::of_interface(&items, "test").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        let chain = |count: usize, next: &dyn Fn(String) -> String| {
            let names =
                (1..count).map(|number| next(format!("t{}", number - 1)).replace('$', &number.to_string()));
            names.collect::<String>()
        };
        let pairs = chain(40, &|before| format!("type t$ = tuple<{before}, {before}>;\n"));
        refused(format!("type t0 = u8;\n{pairs}f: func(a: t39);"), "more than 262144 types");
        let records = chain(40, &|before| format!("record t$ {{ a: {before}, b: {before} }}\n"));
        refused(format!("record t0 {{ a: u8 }}\n{records}f: func(a: t39);"), "more than 262144 types");
        let lists = chain(200, &|before| format!("type t$ = list<{before}>;\n"));
        refused(format!("type t0 = u8;\n{lists}f: func(a: t199);"), "more than 100 deep");
        // In whichever order they are described.
        let nested = chain(200, &|before| format!("record t$ {{ a: {before} }}\n"));
        let each: String = (0..200).map(|number| format!("use{number}: func(a: t{number});\n")).collect();
        refused(format!("record t0 {{ a: u8 }}\n{nested}{each}"), "more than 100 deep");
    }
}
