//! WIT as an MCP server would list it: a JSON schema for each function.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use wit_parser::{Docs, Function, Resolve, Type, TypeDefKind, TypeId};

/// The functions of an interface, of which this is what stands between its braces.
pub struct Interface {
    resolve: Resolve,
    functions: Vec<Function>,
}

impl Interface {
    /// Reads the WIT of the tool `name`.
    pub fn parse(name: &str, wit: &str) -> Result<Self> {
        let mut resolve = Resolve::default();
        let text = format!("package bench:catalogue;\ninterface {name} {{\n{wit}\n}}\n");
        let package = resolve.push_source(name, &text)?;
        let interface = *resolve.packages[package].interfaces.values().next().context("no interface")?;
        let functions = resolve.interfaces[interface].functions.values().cloned().collect();
        Ok(Interface { resolve, functions })
    }

    /// The names of its functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(|function| function.name.as_str())
    }

    /// What `tools/list` of a server named `tool` has for each function, with or without what it gives.
    pub fn listing(&self, tool: &str, with_output: bool) -> Result<Vec<Value>> {
        self.functions.iter().map(|function| self.entry(tool, function, with_output)).collect()
    }

    fn entry(&self, tool: &str, function: &Function, with_output: bool) -> Result<Value> {
        let mut input = Schema { resolve: &self.resolve, definitions: Map::new() };
        let parameters =
            function.params.iter().map(|parameter| (parameter.name.as_str(), &parameter.ty, None));
        let parameters = input.object(parameters)?;
        let mut entry = json!({
            "name": format!("{tool}_{}", function.name.replace('-', "_")),
            "description": text(&function.docs).unwrap_or_default(),
            "inputSchema": input.finish(parameters),
        });
        if let (true, Some(result)) = (with_output, &function.result) {
            let mut output = Schema { resolve: &self.resolve, definitions: Map::new() };
            // Errors are no part of an output schema, and that has to be an object.
            let result = output.object([("result", &output.value_of(result), None)].into_iter())?;
            entry["outputSchema"] = output.finish(result);
        }
        Ok(entry)
    }
}

/// A schema that is being made, with the records and enums it refers to.
struct Schema<'a> {
    resolve: &'a Resolve,
    definitions: Map<String, Value>,
}

impl Schema<'_> {
    /// An object with these members; those that are options may be left out.
    fn object<'m>(
        &mut self,
        members: impl Iterator<Item = (&'m str, &'m Type, Option<String>)>,
    ) -> Result<Value> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (name, ty, docs) in members {
            let name = name.replace('-', "_");
            let inner = self.optional(ty);
            let mut schema = self.of(&inner.unwrap_or(*ty))?;
            if let Some(docs) = docs {
                schema["description"] = docs.into();
            }
            if inner.is_none() {
                required.push(Value::from(name.as_str()));
            }
            properties.insert(name, schema);
        }
        let mut object = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            object["required"] = required.into();
        }
        Ok(object)
    }

    fn optional(&self, ty: &Type) -> Option<Type> {
        let Type::Id(id) = ty else { return None };
        match &self.resolve.types[*id].kind {
            TypeDefKind::Option(inner) => Some(*inner),
            _ => None,
        }
    }

    /// What a `result` has in it when all went well.
    fn value_of(&self, ty: &Type) -> Type {
        let Type::Id(id) = ty else { return *ty };
        match &self.resolve.types[*id].kind {
            TypeDefKind::Result(result) => result.ok.unwrap_or(Type::Bool),
            _ => *ty,
        }
    }

    fn of(&mut self, ty: &Type) -> Result<Value> {
        Ok(match ty {
            Type::Bool => json!({ "type": "boolean" }),
            Type::F32 | Type::F64 => json!({ "type": "number" }),
            Type::Char | Type::String => json!({ "type": "string" }),
            Type::ErrorContext => bail!("an error context is no JSON"),
            Type::Id(id) => self.defined(*id)?,
            _ => json!({ "type": "integer" }),
        })
    }

    fn defined(&mut self, id: TypeId) -> Result<Value> {
        let resolve = self.resolve;
        let definition = &resolve.types[id];
        if let Some(name) = &definition.name {
            let name = name.replace('-', "_");
            if !self.definitions.contains_key(&name) {
                // A place of its own, in case the type is in itself.
                self.definitions.insert(name.clone(), Value::Null);
                let mut schema = self.named(&definition.kind)?;
                if let Some(docs) = text(&definition.docs) {
                    schema["description"] = docs.into();
                }
                self.definitions.insert(name.clone(), schema);
            }
            return Ok(json!({ "$ref": format!("#/$defs/{name}") }));
        }
        Ok(match &definition.kind {
            TypeDefKind::List(Type::U8) => json!({ "type": "string", "contentEncoding": "base64" }),
            TypeDefKind::List(item) => json!({ "type": "array", "items": self.of(item)? }),
            TypeDefKind::Option(inner) => json!({ "anyOf": [self.of(inner)?, { "type": "null" }] }),
            TypeDefKind::Tuple(tuple) => {
                let items = tuple.types.iter().map(|ty| self.of(ty)).collect::<Result<Vec<_>>>()?;
                json!({ "type": "array", "prefixItems": items })
            }
            kind => bail!("a {} is not known here", kind.as_str()),
        })
    }

    fn named(&mut self, kind: &TypeDefKind) -> Result<Value> {
        Ok(match kind {
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                self.object(fields.map(|field| (field.name.as_str(), &field.ty, text(&field.docs))))?
            }
            TypeDefKind::Enum(cases) => {
                let names: Vec<&str> = cases.cases.iter().map(|case| case.name.as_str()).collect();
                json!({ "type": "string", "enum": names })
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::with_capacity(variant.cases.len());
                for case in &variant.cases {
                    let mut schema = match &case.ty {
                        Some(ty) => self.object([(case.name.as_str(), ty, None)].into_iter())?,
                        None => json!({ "const": case.name }),
                    };
                    if let Some(docs) = text(&case.docs) {
                        schema["description"] = docs.into();
                    }
                    cases.push(schema);
                }
                json!({ "oneOf": cases })
            }
            kind => bail!("a {} is not known here", kind.as_str()),
        })
    }

    fn finish(self, mut schema: Value) -> Value {
        if !self.definitions.is_empty() {
            schema["$defs"] = self.definitions.into();
        }
        schema
    }
}

fn text(docs: &Docs) -> Option<String> {
    docs.contents.as_ref().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_referred_to_and_options_not_required() {
        let wit = "
            /// Something.
            record item {
              /// How many.
              count: u32,
            }
            /// Buy it.
            buy-all: func(items: list<item>, note: option<string>) -> result<u64, string>;";
        let listing = Interface::parse("shop", wit).unwrap().listing("shop", true).unwrap();
        let expected = json!([{
            "name": "shop_buy_all",
            "description": "Buy it.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "items": { "type": "array", "items": { "$ref": "#/$defs/item" } },
                    "note": { "type": "string" },
                },
                "required": ["items"],
                "$defs": { "item": {
                    "type": "object",
                    "properties": { "count": { "type": "integer", "description": "How many." } },
                    "required": ["count"],
                    "description": "Something.",
                } },
            },
            "outputSchema": {
                "type": "object",
                "properties": { "result": { "type": "integer" } },
                "required": ["result"],
            },
        }]);
        assert_eq!(Value::from(listing), expected);
    }
}
