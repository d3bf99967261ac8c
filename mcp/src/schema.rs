//! Schemas of arguments and results, as clients of all kinds take them.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema of what a tool takes.
pub(crate) fn taken<T: JsonSchema>() -> Arc<JsonObject> {
    of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The schema of what a tool gives: all of its fields are there.
pub(crate) fn given<T: JsonSchema>() -> Arc<JsonObject> {
    of::<T>(SchemaSettings::draft2020_12().for_serialize())
}

/// The schema of a type, in one piece and without words that only some validators know.
fn of<T: JsonSchema>(settings: SchemaSettings) -> Arc<JsonObject> {
    let settings = settings.with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema, true);
    match schema {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

/// A schema whose definitions stand where they are referred to.
pub(crate) fn in_one_piece(mut schema: Value) -> JsonObject {
    let definitions = schema["$defs"].take();
    inline(&mut schema, &definitions);
    let Value::Object(mut schema) = schema else { return JsonObject::new() };
    for key in ["$schema", "$defs", "title"] {
        schema.shift_remove(key);
    }
    schema
}

fn inline(schema: &mut Value, definitions: &Value) {
    let referred = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/$defs/"));
    if let Some(name) = referred {
        *schema = definitions[name].clone();
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(|inner| inline(inner, definitions)),
        Value::Array(items) => items.iter_mut().for_each(|item| inline(item, definitions)),
        _ => {}
    }
}

/// Takes out `format`, which is `uint64` and the like here, and the titles made of Rust's names.
fn simplify(schema: &mut Value, is_schema: bool) {
    match schema {
        Value::Object(object) => {
            if is_schema {
                object.shift_remove("format");
                object.shift_remove("title");
            }
            for (key, inner) in object {
                // The keys below these are the program's own.
                simplify(inner, !(is_schema && (key == "properties" || key == "$defs")));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| simplify(item, is_schema)),
        _ => {}
    }
}
