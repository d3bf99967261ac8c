//! Schemas of arguments and results, as clients of all kinds take them.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema of a type, in one piece and without words that only some validators know.
pub(crate) fn of<T: JsonSchema>() -> Arc<JsonObject> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
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
