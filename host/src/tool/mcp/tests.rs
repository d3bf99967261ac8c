//! Schemas as types, and values against them.

use std::sync::Arc;

use proptest::prelude::*;
use rmcp::model::Tool;
use serde_json::{Value, json};

use super::model::Listing;
use super::schema::Reading;
use super::{check, python};
use crate::tool::names::is_identifier;

/// A listing with one function, whose parameter `v` has a schema.
fn listing(of: Value) -> Listing {
    listing_of(json!({ "type": "object", "properties": { "v": of }, "required": ["v"] }))
}

fn listing_of(input: Value) -> Listing {
    let Value::Object(input) = input else { panic!("{input} is no object") };
    read(Tool::new_with_raw("f", None, Arc::new(input)))
}

fn read(tool: Tool) -> Listing {
    let mut reading = Reading::new("");
    reading.add(&[tool]);
    reading.end(false)
}

/// What is wrong with a value of the parameter.
fn wrong(listing: &Listing, value: Value) -> Option<String> {
    let given = json!({ "v": value });
    check::arguments(listing, &listing.functions[0], given.as_object().unwrap()).err()
}

#[test]
fn schemas_are_types() {
    for (of, expected) in [
        (json!({ "type": "string" }), "str"),
        (json!({ "type": "integer" }), "int"),
        (json!({ "type": "number", "minimum": 3 }), "float"),
        (json!({ "type": ["string", "null"] }), "str | None"),
        (json!({ "type": "string", "nullable": true }), "str | None"),
        (json!({ "type": "string", "enum": ["a", "b\""] }), r#"Literal["a", "b\""]"#),
        (json!({ "const": false }), "Literal[False]"),
        (json!({ "type": "array", "items": { "type": "integer" } }), "list[int]"),
        (json!({ "type": "array" }), "list[Any]"),
        (json!({ "type": "array", "prefixItems": [{ "type": "integer" }] }), "list[Any]"),
        (json!({ "type": "object" }), "dict[str, Any]"),
        (json!({ "type": "object", "additionalProperties": { "type": "boolean" } }), "dict[str, bool]"),
        (
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }, { "type": "string" }] }),
            "str | int",
        ),
        (json!({ "oneOf": [{ "type": "string" }, {}] }), "Any"),
        (json!({ "allOf": [{ "type": "string" }] }), "str"),
        (json!({ "allOf": [{ "type": "string" }, { "minLength": 1 }] }), "Any"),
        (json!({ "type": "object", "properties": { "a": {} } }), "FV"),
        (json!({ "properties": { "a": {} } }), "FV"),
        (json!({ "$ref": "#/properties/v" }), "Any"),
        (json!({ "$ref": "#" }), "FV"),
        (json!({ "$ref": "other.json" }), "Any"),
        (json!({ "enum": [[1]] }), "Any"),
        (json!({ "not": {} }), "Any"),
        (json!(true), "Any"),
        (json!("string"), "Any"),
    ] {
        let listing = listing(of.clone());
        assert_eq!(listing.annotation(&listing.functions[0].parameters[0].ty), expected, "{of}");
    }
}

#[test]
fn values_are_checked_as_far_as_types_tell() {
    for (of, good, bad) in [
        (
            json!({ "type": "integer" }),
            vec![json!(1), json!(-1), json!(1.0), json!(u64::MAX)],
            vec![json!(1.5), json!(1e30), json!("1"), json!(true), json!(null)],
        ),
        (json!({ "type": "number" }), vec![json!(1), json!(1.5)], vec![json!("1"), json!(false)]),
        (json!({ "type": "boolean" }), vec![json!(true)], vec![json!(0), json!("true")]),
        (
            json!({ "enum": [1, "a", null] }),
            vec![json!(1.0), json!("a"), json!(null)],
            vec![json!(2), json!("1"), json!(false)],
        ),
        (
            json!({ "type": "array", "items": { "type": "string" } }),
            vec![json!([]), json!(["a"])],
            vec![json!("a"), json!([1]), json!({})],
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] }),
            vec![json!({ "a": 1 }), json!({ "a": 1, "b": 2 })],
            vec![json!({}), json!({ "a": "1" }), json!([]), json!(null)],
        ),
        (
            json!({ "type": "object", "properties": { "a": {} }, "additionalProperties": false }),
            vec![json!({}), json!({ "a": [1] })],
            vec![json!({ "b": 1 })],
        ),
        (json!({ "type": ["string", "array"] }), vec![json!("a"), json!([1])], vec![json!(1)]),
        (json!({ "not": {} }), vec![json!(1), json!(null), json!({})], vec![]),
    ] {
        let listing = listing(of.clone());
        for value in good {
            assert_eq!(wrong(&listing, value.clone()), None, "{of} {value}");
        }
        for value in bad {
            assert!(wrong(&listing, value.clone()).is_some(), "{of} {value}");
        }
    }
    let listing = listing(json!({ "type": "array", "items": { "anyOf": [
        { "type": "null" }, { "type": "object", "properties": { "x\ny": { "type": "integer" } } }] } }));
    assert_eq!(wrong(&listing, json!([null, { "x\ny": "z" }])).unwrap(), "`v[1].x y` must be int, not \"z\"");
}

/// Texts of each member of each union, and unions in unions, would take an hour.
#[test]
fn large_values_are_checked_in_a_limited_number_of_steps() {
    let texts = |seed: usize| (0..128).map(move |at| Value::from(format!("{seed}-{at}-{}", "x".repeat(150))));
    let lists = |inner: Vec<Value>| {
        let all = inner.into_iter().map(|inner| json!({ "type": "array", "items": inner }));
        json!({ "anyOf": all.collect::<Vec<_>>() })
    };
    let enums = || (0..7).map(|seed| json!({ "enum": texts(seed).collect::<Vec<_>>() }));
    let listing = listing(lists(enums().collect()));
    let large = Value::Array(vec![texts(0).next_back().unwrap(); 1_000_000]);
    let message = wrong(&listing, large).unwrap();
    assert!(message.starts_with("`v` is too large for its schema"), "{message}");
    let message = wrong(&listing, json!(vec![texts(6).next_back().unwrap(); 1000])).unwrap_or_default();
    assert_eq!(message, "");
    // What is wrong is told in a message of a limited length.
    let message = wrong(&listing, json!(["other"])).unwrap();
    assert!(
        message.starts_with("`v[0]` must be Literal[") && message.ends_with("not \"other\""),
        "{message}"
    );
    assert!(message.len() < 1000, "{message}");
    // Numbers as many as a message can hold are no trouble.
    let listing = self::listing(json!({ "type": "array", "items": { "type": ["integer", "null"] } }));
    assert_eq!(wrong(&listing, json!(vec![1; 4_000_000])), None);
}

#[test]
fn names_do_not_depend_on_the_order_of_a_list() {
    let tool = |name: &'static str| Tool::new_with_raw(name, None, Arc::default());
    for names in [["a-b", "a_b", "c"], ["c", "a_b", "a-b"]] {
        let mut reading = Reading::new("");
        reading.add(&names.map(tool));
        let listing = reading.end(false);
        let of = |name: &str| {
            let function = listing.function(name).unwrap();
            (function.python.clone(), function.contested)
        };
        assert_eq!(of("a_b"), ("a_b".into(), true));
        assert_eq!(of("a-b"), ("a_b_2".into(), true));
        assert_eq!(of("c"), ("c".into(), false));
    }
}

#[test]
fn what_is_not_named_is_taken_only_where_a_schema_says_so() {
    let given = json!({ "stray": 1 });
    for (input, taken) in [
        (json!({}), false),
        (json!({ "type": "object", "properties": {} }), false),
        (json!({ "type": "object", "properties": { "a": {} } }), false),
        (json!({ "type": "object", "additionalProperties": false }), false),
        (json!({ "type": "object", "additionalProperties": true }), true),
        (json!({ "type": "object", "additionalProperties": { "type": "string" } }), true),
        (json!({ "anyOf": [{ "properties": { "stray": {} } }] }), true),
        (json!({ "type": "object", "patternProperties": { ".*": {} } }), true),
    ] {
        let listing = listing_of(input.clone());
        let function = &listing.functions[0];
        let checked = check::arguments(&listing, function, given.as_object().unwrap());
        assert_eq!((function.open, checked.is_ok()), (taken, taken), "{input}");
    }
}

/// JSON that looks like a schema here and there.
fn schemas() -> impl Strategy<Value = Value> {
    let keys = "type|properties|items|anyOf|oneOf|allOf|enum|const|required|additionalProperties|nullable|default|\\$ref|description|[a-z\"\n]{0,3}";
    let leaf = prop_oneof![
        "string|integer|object|array|null|number|#|#/properties|#/properties/type|[\"\\\\\n\u{2028}']{0,4}"
            .prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_schema_is_read(input in schemas(), output in schemas(), value in schemas()) {
        let object = |value: Value| Arc::new(value.as_object().cloned().unwrap_or_default());
        let tool = Tool::new_with_raw("f", None, object(json!({ "type": "object", "properties": { "v": input, "w": output.clone() } })))
            .with_raw_output_schema(object(output));
        let listing = read(tool);
        let function = &listing.functions[0];
        prop_assert!(function.parameters.iter().all(|field| is_identifier(&field.python)));
        let _ = wrong(&listing, value);
        // Nothing of it stands in a line of its own: each begins as ours do.
        let ours = ["\"", "from ", "_call", "__", "def ", "async def ", "    ", "class ", "F"];
        for is_async in [false, true] {
            let source = python::source("x", &listing, 1, is_async);
            for line in source.lines().filter(|line| !line.is_empty()) {
                prop_assert!(ours.iter().any(|begin| line.starts_with(begin)), "{line:?}");
            }
        }
    }
}
