//! JSON Schemas of a server's functions, read into types. A schema may be hostile: what is too deep, too large, recursive or
//! not understood is a type of which nothing is known.

use std::collections::HashMap;

use rmcp::model::Tool;
use serde_json::{Map, Value};

use super::model::{Class, Field, Function, Listing, Type};
use super::names::Names;
use super::text;

/// Functions of one server that programs can call.
pub const MOST_FUNCTIONS: usize = 512;

/// Letters of names that the server gives; what has a longer one is left out, as it could not be shown.
const NAME_LETTERS: usize = 256;

/// Letters of what is said about a function, and about a parameter of it.
const DOCS_LETTERS: usize = 4000;
const PARAMETER_LETTERS: usize = 400;

/// Letters of the instructions for the whole server.
const INSTRUCTIONS_LETTERS: usize = 4000;

/// Schemas within schemas that are read, of one function and of all.
const FUNCTION_NODES: usize = 1000;
const LISTING_NODES: usize = 20_000;
const DEPTH: usize = 12;

/// Parameters of a function, members of an object, and values of an enumeration.
const MOST_MEMBERS: usize = 128;

/// Letters of a string that is a value of an enumeration, or a default.
const CONSTANT_LETTERS: usize = 200;

/// Bytes of names, words and values of one server, all together.
const LISTING_BYTES: usize = 1 << 20;

/// What a server says that it offers, read page by page.
pub struct Reading {
    listing: Listing,
    names: Names,
    /// Schemas, and bytes, that may still be read.
    nodes: usize,
    bytes: usize,
}

impl Reading {
    pub fn new(instructions: &str) -> Self {
        Reading {
            listing: Listing {
                instructions: text::quoted(instructions, INSTRUCTIONS_LETTERS),
                ..Listing::default()
            },
            names: Names::of_module(),
            nodes: LISTING_NODES,
            bytes: LISTING_BYTES,
        }
    }

    /// Whether no more functions have room.
    pub fn is_full(&self) -> bool {
        self.listing.functions.len() == MOST_FUNCTIONS || self.bytes == 0
    }

    pub fn add(&mut self, tools: &[Tool]) {
        // Who can have its own name has it, wherever in the list it is.
        let mut kept = HashMap::new();
        for tool in tools {
            let name = &*tool.name;
            if self.names.keeps(name) && self.listing.function(name).is_none() && !kept.contains_key(name) {
                kept.insert(name, self.names.give(name));
            }
        }
        for tool in tools {
            let is_double = self.listing.function(&tool.name).is_some();
            let is_named = !tool.name.is_empty() && !is_long(&tool.name);
            if !is_named || is_double || self.is_full() {
                self.listing.left_out += 1;
                continue;
            }
            let allowed = self.nodes.min(FUNCTION_NODES);
            let classes = self.listing.classes.len();
            let python = kept.remove(&*tool.name).unwrap_or_else(|| self.names.give(&tool.name));
            let (function, left) =
                function(tool, python, &mut self.listing.classes, &mut self.names, allowed);
            self.nodes -= allowed - left;
            let fields = self.listing.classes[classes..].iter().flat_map(|class| &class.fields);
            let fields = fields.chain(&function.parameters).map(Field::size).sum::<usize>();
            let size = function.name.len() + function.docs.len() + function.result.size() + fields;
            self.bytes = self.bytes.saturating_sub(size);
            self.listing.functions.push(function);
        }
    }

    /// What was read; `is_cut` says that there is more.
    pub fn end(mut self, is_cut: bool) -> Listing {
        self.listing.left_out += usize::from(is_cut);
        for function in &mut self.listing.functions {
            function.contested = self.names.is_contested(&function.python);
        }
        self.listing
    }
}

/// A function, and how many nodes are left.
fn function(
    tool: &Tool,
    python: String,
    classes: &mut Vec<Class>,
    names: &mut Names,
    nodes: usize,
) -> (Function, usize) {
    let input = Value::Object(tool.input_schema.as_ref().clone());
    let mut reader = Reader::new(&input, classes, names, nodes);
    let (parameters, open) = reader.parameters(&python);
    let mut left = reader.nodes;
    let (mut result, mut structured, mut wrapped) = (Type::Any, false, false);
    if let Some(schema) = &tool.output_schema {
        let output = Value::Object(schema.as_ref().clone());
        let mut reader = Reader::new(&output, classes, names, left);
        structured = true;
        (result, wrapped) = match only_result(schema) {
            Some(inner) => (reader.read(inner, &format!("{python} result"), 1), true),
            None => (reader.read(&output, &format!("{python} result"), 0), false),
        };
        left = reader.nodes;
    }
    let said = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
    let function = Function {
        name: tool.name.to_string(),
        python,
        contested: false,
        docs: text::quoted(said, DOCS_LETTERS),
        parameters,
        open,
        result,
        structured,
        wrapped,
    };
    (function, left)
}

/// The schema of the member `result`, if an object has nothing else: servers wrap what is no object.
fn only_result(schema: &Map<String, Value>) -> Option<&Value> {
    let members = schema.get("properties")?.as_object()?;
    let required = schema.get("required")?.as_array()?;
    let is_only = members.len() == 1 && required.len() == 1 && required[0] == "result";
    members.get("result").filter(|_| is_only)
}

struct Reader<'a> {
    root: &'a Value,
    classes: &'a mut Vec<Class>,
    names: &'a mut Names,
    nodes: usize,
    /// References that are being followed: one within itself has no end.
    open: Vec<&'a str>,
    /// Classes that references have led to. What else they lead to is read again, as a type that holds others twice at
    /// each level would grow without end.
    known: HashMap<&'a str, usize>,
}

impl<'a> Reader<'a> {
    fn new(root: &'a Value, classes: &'a mut Vec<Class>, names: &'a mut Names, nodes: usize) -> Self {
        Reader { root, classes, names, nodes, open: Vec::new(), known: HashMap::new() }
    }

    /// The parameters that the root describes, and whether others are taken.
    fn parameters(&mut self, function: &str) -> (Vec<Field>, bool) {
        let mut root = self.root;
        // Some give all of it by reference.
        for _ in 0..DEPTH {
            match root.get("$ref").and_then(|to| self.target(to.as_str()?)) {
                Some((_, next)) => root = next,
                None => break,
            }
        }
        let Some(members) = root.get("properties").and_then(Value::as_object) else {
            let composed = ["anyOf", "oneOf", "allOf", "patternProperties", "$ref"];
            let open = composed.iter().any(|key| root.get(key).is_some()) || is_open(root).unwrap_or(false);
            return (Vec::new(), open);
        };
        let mut names = Names::of_parameters();
        // What takes all others has a name as well.
        names.give("others");
        let mut fields = self.fields(root, members, function, &mut |name| names.give(name));
        fields.iter_mut().for_each(|field| field.contested = names.is_contested(&field.python));
        let open = is_open(root).unwrap_or(false) || fields.len() < members.len();
        fields.sort_by_key(|field| !field.required);
        (fields, open)
    }

    fn fields(
        &mut self,
        schema: &'a Value,
        members: &'a Map<String, Value>,
        words: &str,
        python: &mut dyn FnMut(&str) -> String,
    ) -> Vec<Field> {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
        let members =
            members.iter().filter(|(name, _)| !name.is_empty() && !is_long(name)).take(MOST_MEMBERS);
        let fields = members.map(|(name, schema)| {
            let ty = self.read(schema, &format!("{words} {name}"), 1);
            let said = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let default = schema.get("default").filter(|value| is_scalar(value) && could_be(&ty, value));
            Field {
                python: python(name),
                contested: false,
                name: name.clone(),
                required: is_required(name),
                default: default.cloned(),
                docs: text::line(said, PARAMETER_LETTERS),
                ty,
            }
        });
        fields.collect()
    }

    /// What a reference within this schema leads to.
    fn target(&self, reference: &'a str) -> Option<(&'a str, &'a Value)> {
        let pointer = reference.strip_prefix('#')?;
        Some((reference, self.root.pointer(pointer)?))
    }

    /// A schema as a type; `words` are what a class is named of.
    fn read(&mut self, schema: &'a Value, words: &str, depth: usize) -> Type {
        let Some(left) = self.nodes.checked_sub(1) else { return Type::Any };
        self.nodes = left;
        let Value::Object(map) = schema else { return Type::Any };
        if depth > DEPTH {
            return Type::Any;
        }
        let list = |key: &str| map.get(key).and_then(Value::as_array);
        if let Some(Value::String(reference)) = map.get("$ref") {
            return self.follow(reference, words, depth);
        }
        let ty = if let Some(value) = map.get("const").filter(|value| is_scalar(value)) {
            Type::Literal(vec![value.clone()])
        } else if let Some(values) = list("enum") {
            match !values.is_empty() && values.len() <= MOST_MEMBERS && values.iter().all(is_scalar) {
                // Each takes room, as a schema does.
                true if values.len() <= self.nodes => {
                    self.nodes -= values.len();
                    Type::Literal(values.clone())
                }
                _ => Type::Any,
            }
        } else {
            match map.get("type") {
                Some(Value::String(name)) => self.named(name, schema, words, depth),
                Some(Value::Array(names)) if names.len() <= 8 => {
                    let types: Vec<Type> = names
                        .iter()
                        .map(|name| self.named(name.as_str().unwrap_or_default(), schema, words, depth))
                        .collect();
                    Type::union(types)
                }
                Some(_) => Type::Any,
                None => match (list("anyOf").or(list("oneOf")), list("allOf").map(Vec::as_slice)) {
                    (Some(members), _) if members.len() <= MOST_MEMBERS => {
                        let types: Vec<Type> =
                            members.iter().map(|member| self.read(member, words, depth + 1)).collect();
                        Type::union(types)
                    }
                    (None, Some([only])) => self.read(only, words, depth + 1),
                    (None, None) if map.contains_key("properties") => {
                        self.named("object", schema, words, depth)
                    }
                    _ => Type::Any,
                },
            }
        };
        match map.get("nullable") {
            Some(Value::Bool(true)) => Type::union([ty, Type::Null]),
            _ => ty,
        }
    }

    fn follow(&mut self, reference: &'a str, words: &str, depth: usize) -> Type {
        if let Some(class) = self.known.get(reference) {
            return Type::Class(*class);
        }
        if self.open.contains(&reference) {
            return Type::Any;
        }
        let Some((_, target)) = self.target(reference) else { return Type::Any };
        self.open.push(reference);
        let ty = self.read(target, words, depth + 1);
        self.open.pop();
        if let Type::Class(class) = ty {
            self.known.insert(reference, class);
        }
        ty
    }

    fn named(&mut self, name: &str, schema: &'a Value, words: &str, depth: usize) -> Type {
        match name {
            "string" => Type::Str,
            "integer" => Type::Int,
            "number" => Type::Number,
            "boolean" => Type::Bool,
            "null" => Type::Null,
            "array" => Type::List(Box::new(match schema.get("items") {
                Some(items) => self.read(items, words, depth + 1),
                None => Type::Any,
            })),
            "object" => self.object(schema, words, depth),
            _ => Type::Any,
        }
    }

    fn object(&mut self, schema: &'a Value, words: &str, depth: usize) -> Type {
        let members = schema.get("properties").and_then(Value::as_object);
        let Some(members) = members.filter(|members| !members.is_empty() && members.len() <= MOST_MEMBERS)
        else {
            let value = match schema.get("additionalProperties") {
                Some(value) if members.is_none() && schema.get("patternProperties").is_none() => {
                    self.read(value, words, depth + 1)
                }
                _ => Type::Any,
            };
            return Type::Dict(Box::new(value));
        };
        if depth >= DEPTH || members.keys().any(|name| is_long(name)) {
            return Type::Dict(Box::new(Type::Any));
        }
        // The name of the outer type before those of the inner ones.
        let name = self.names.give_type(words);
        let mut fields = Vec::new();
        let required = schema.get("required").and_then(Value::as_array);
        for (member, inner) in members {
            let ty = self.read(inner, &format!("{words} {member}"), depth + 1);
            let said = inner.get("description").and_then(Value::as_str).unwrap_or_default();
            fields.push(Field {
                name: member.clone(),
                python: member.clone(),
                contested: false,
                required: required.is_some_and(|names| names.iter().any(|one| one == member)),
                default: None,
                docs: text::line(said, PARAMETER_LETTERS),
                ty,
            });
        }
        self.classes.push(Class { name, fields, open: is_open(schema).unwrap_or(true) });
        Type::Class(self.classes.len() - 1)
    }
}

/// Whether a name is too long to be shown.
fn is_long(name: &str) -> bool {
    name.chars().nth(NAME_LETTERS).is_some()
}

/// Whether a schema says that objects have other members than those that it names, if it says so.
fn is_open(schema: &Value) -> Option<bool> {
    match schema.get("additionalProperties")? {
        Value::Bool(open) => Some(*open),
        Value::Object(_) => Some(true),
        _ => None,
    }
}

/// Whether a value is one that can be written in a signature.
fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.chars().count() <= CONSTANT_LETTERS,
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// Whether a scalar is of a type, as far as that can be told without its classes.
fn could_be(ty: &Type, value: &Value) -> bool {
    match ty {
        Type::Any => true,
        Type::Null => value.is_null(),
        Type::Bool => value.is_boolean(),
        Type::Int => value.is_i64() || value.is_u64(),
        Type::Number => value.is_number(),
        Type::Str => value.is_string(),
        Type::Literal(values) => values.contains(value),
        Type::Union(types) => types.iter().any(|ty| could_be(ty, value)),
        Type::List(_) | Type::Dict(_) | Type::Class(_) => false,
    }
}
