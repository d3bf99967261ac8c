//! Which JSON schemas providers enforce.

use serde_json::Value;

/// What may stand in a schema that is enforced, by every provider that enforces any.
const KNOWN: [&str; 12] = [
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "items",
    "properties",
    "required",
    "title",
    "type",
];

/// Whether a schema is in the subset that providers enforce strictly: every object says what all its
/// properties are and requires each of them, and nothing else is asked for.
pub(in crate::llm) fn is_strict(schema: &Value) -> bool {
    let Value::Object(object) = schema else { return false };
    if !object.keys().all(|key| KNOWN.contains(&key.as_str())) {
        return false;
    }
    if is_object(schema) {
        let closed = object.get("additionalProperties") == Some(&Value::Bool(false));
        let properties = object.get("properties").and_then(Value::as_object);
        let required = object.get("required").and_then(Value::as_array);
        let complete = match (properties, required) {
            (Some(properties), Some(required)) => {
                properties.keys().all(|name| required.iter().any(|other| other == name))
            }
            _ => false,
        };
        if !closed || !complete {
            return false;
        }
    }
    let all = |name: &str| match object.get(name) {
        None => true,
        Some(Value::Object(schemas)) => schemas.values().all(is_strict),
        Some(Value::Array(schemas)) => schemas.iter().all(is_strict),
        Some(_) => false,
    };
    all("properties") && all("$defs") && all("anyOf") && object.get("items").is_none_or(is_strict)
}

/// Whether a schema describes objects, as far as it says so itself.
pub(in crate::llm) fn is_object(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => schema.get("properties").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strict_schemas_are_closed_all_the_way_down() {
        let inner = json!({"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"],
            "additionalProperties": false});
        let outer = |inner: &Value| {
            json!({"type": "object", "properties": {"a": {"type": "array", "items": inner}},
                "required": ["a"], "additionalProperties": false})
        };
        assert!(is_strict(&outer(&inner)));
        let mut open = inner.clone();
        open.as_object_mut().unwrap().remove("additionalProperties");
        assert!(!is_strict(&outer(&open)));
        let mut optional = inner.clone();
        optional["required"] = json!([]);
        assert!(!is_strict(&outer(&optional)));
        let mut more = inner;
        more["properties"]["b"]["default"] = json!("x");
        assert!(!is_strict(&outer(&more)));
        assert!(is_object(&json!({"type": ["object", "null"]})) && !is_object(&json!({"type": "array"})));
        assert!(!is_strict(&json!(true)));
    }
}
