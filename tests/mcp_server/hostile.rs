//! Those that do harm, each in its way.

use std::io::{BufRead, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Server, send, serve};

pub fn run(mode: &str) {
    match mode {
        // Nothing comes, ever.
        "mute" => loop {
            std::thread::sleep(Duration::from_secs(1000));
        },
        "stillborn" => {
            eprintln!("no \u{1b}]0;title\u{7}such database");
            std::process::exit(1);
        }
        "babble" => {
            let mut out = std::io::stdout().lock();
            while out.write_all(&[b'x'; 1 << 16]).is_ok() {}
        }
        "noise" => serve(Noise),
        "schemas" => serve(Schemas),
        "many" => serve(Many),
        "pages" => serve(Pages),
        "flood" => serve(Flood),
        "pings" => serve(Pings),
        "deaf" => deaf(),
        "huge" => serve(Huge),
        mode => panic!("there is no {mode}"),
    }
}

fn simple(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

/// Writes what is no message between those that are.
struct Noise;

impl Server for Noise {
    fn tools(&self, _: Option<&str>) -> (Value, Option<String>) {
        println!("starting up\n\n{{\"jsonrpc\": \"1.0\"}}\n[1, 2]\n{{\"id\": 1}}\nnull\n{{");
        (json!([simple("hello")]), None)
    }

    fn call(&self, id: &Value, _: &str, _: &Value) -> Result<Value, Value> {
        println!(
            "\u{0}\u{fffd}debug\n{}",
            json!({ "jsonrpc": "2.0", "id": 999_999, "result": text("not asked for") })
        );
        send(
            &json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 1, "progress": 1 } }),
        );
        send(&json!({ "jsonrpc": "2.0", "method": "notifications/unheard", "params": [1] }));
        send(&json!({ "jsonrpc": "2.0", "id": id, "result": text("first") }));
        // An answer for the second time.
        Ok(text("second"))
    }
}

/// Names, texts and schemas that want to be code, or have no end.
struct Schemas;

const CODE: &str = "x\"\"\"\n'''\nimport os\nraise SystemExit(66)\n\\";

impl Server for Schemas {
    fn instructions(&self) -> &str {
        CODE
    }

    fn tools(&self, _: Option<&str>) -> (Value, Option<String>) {
        let mut deep = json!({ "type": "string" });
        for _ in 0..40 {
            deep = json!({ "type": "array", "items": { "type": "object", "properties": { "x": deep } } });
        }
        let mut bombs = serde_json::Map::new();
        bombs.insert("b0".into(), json!({ "type": "string" }));
        for level in 1..64 {
            let below = format!("#/$defs/b{}", level - 1);
            let both = json!({ "anyOf": [
                { "type": "array", "items": { "$ref": below } },
                { "type": "object", "additionalProperties": { "$ref": below } },
            ] });
            bombs.insert(format!("b{level}"), both);
        }
        let bomb_parameters: serde_json::Map<_, _> = (0..64)
            .map(|level| (format!("p{level}"), json!({ "$ref": format!("#/$defs/b{level}") })))
            .collect();
        let wide: serde_json::Map<_, _> =
            (0..5000).map(|number| (format!("p{number}"), json!({ "type": "string" }))).collect();
        let tools = json!([
            {
                "name": CODE,
                "title": CODE,
                "description": CODE,
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        CODE: { "type": "string", "description": CODE, "default": CODE },
                        "enum": { "enum": [CODE, "a\u{2028}b", true, 1e300] },
                        "nested": { "type": "object", "properties": { CODE: { "type": CODE }, "a b": { "const": CODE } } },
                        "": { "type": "string" },
                        "self": { "type": "integer" },
                        "_call": { "type": "integer" },
                        "others": { "type": "integer" },
                    },
                    "required": [CODE, 7, null, { "a": 1 }],
                    "additionalProperties": { "type": "string" },
                },
                "outputSchema": { "type": "object", "properties": { CODE: { "title": CODE } } },
            },
            { "name": "a-b", "inputSchema": { "type": "object", "properties": { "c": {} } } },
            { "name": "a_b", "inputSchema": { "type": "object", "properties": { "c": {} } } },
            { "name": "__getattr__", "inputSchema": {} },
            { "name": "__all__", "inputSchema": {} },
            { "name": "_m", "inputSchema": {} },
            { "name": "Error", "inputSchema": {} },
            { "name": "aio", "inputSchema": {} },
            { "name": "print", "inputSchema": {} },
            { "name": "TypedDict", "inputSchema": {} },
            { "name": "x".repeat(100_000), "inputSchema": {} },
            { "name": "", "inputSchema": {} },
            { "name": "twice", "inputSchema": {} },
            { "name": "twice", "inputSchema": {} },
            { "name": "hidden", "description": "a\u{e0041}\u{e0042}\u{202e}b\u{200b}\u{1b}[2Jc", "inputSchema": {} },
            { "name": "long", "description": "d".repeat(1_000_000), "inputSchema": {} },
            { "name": "deep", "inputSchema": { "type": "object", "properties": { "deep": deep } } },
            { "name": "bomb", "inputSchema": { "type": "object", "properties": bomb_parameters, "$defs": bombs } },
            { "name": "wide", "inputSchema": { "type": "object", "properties": wide } },
            {
                "name": "endless",
                "inputSchema": {
                    "type": "object",
                    "properties": { "a": { "$ref": "#/$defs/a" }, "root": { "$ref": "#" }, "out": { "$ref": "https://example.com/x" },
                        "odd": { "$ref": "#/no/such" }, "ring": { "$ref": "#/$defs/one" } },
                    "$defs": {
                        "a": { "type": "object", "properties": { "a": { "$ref": "#/$defs/a" } } },
                        "one": { "$ref": "#/$defs/two" },
                        "two": { "$ref": "#/$defs/one" },
                    },
                },
            },
            {
                "name": "odd",
                "inputSchema": {
                    "type": ["object", 3, null],
                    "properties": { "a": true, "b": false, "c": 7, "d": null, "e": [], "f": { "type": 7 }, "g": { "enum": [] },
                        "h": { "enum": [[1], {}] }, "i": { "anyOf": [] }, "j": { "allOf": [{}, {}] }, "k": { "type": [] },
                        "l": { "items": 3, "type": "array" }, "m": { "type": "object", "properties": 3 },
                        "n": { "type": "string", "default": 7 }, "o": { "type": "object", "additionalProperties": 3 } },
                    "required": "a",
                },
            },
            { "name": "reference", "inputSchema": { "$ref": "#/$defs/all", "$defs": { "all": {
                "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] } } } },
        ]);
        (tools, None)
    }

    fn call(&self, _: &Value, name: &str, arguments: &Value) -> Result<Value, Value> {
        let result = json!({ "name": name, "arguments": arguments });
        Ok(json!({ "content": [], "structuredContent": result }))
    }
}

/// More functions than anybody calls, all in one message.
struct Many;

impl Server for Many {
    fn tools(&self, _: Option<&str>) -> (Value, Option<String>) {
        let tools = (0..10_000).map(|number| {
            json!({ "name": format!("tool-{number}"), "description": "d".repeat(500), "inputSchema": { "type": "object" } })
        });
        (tools.collect(), None)
    }

    fn call(&self, _: &Value, name: &str, _: &Value) -> Result<Value, Value> {
        Ok(text(name))
    }
}

/// Pages without end.
struct Pages;

impl Server for Pages {
    fn tools(&self, cursor: Option<&str>) -> (Value, Option<String>) {
        let page: u64 = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        (json!([simple(&format!("page{page}"))]), Some((page + 1).to_string()))
    }

    fn call(&self, _: &Value, name: &str, _: &Value) -> Result<Value, Value> {
        Ok(text(name))
    }
}

/// Tells what nobody has asked for, for as long as somebody reads it.
struct Flood;

impl Server for Flood {
    fn tools(&self, _: Option<&str>) -> (Value, Option<String>) {
        (json!([simple("flood")]), None)
    }

    fn call(&self, _: &Value, _: &str, _: &Value) -> Result<Value, Value> {
        loop {
            let params = json!({ "level": "info", "data": "x".repeat(10_000) });
            send(&json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params }));
        }
    }
}

/// Asks without end, and reads no answers.
struct Pings;

impl Server for Pings {
    fn tools(&self, _: Option<&str>) -> (Value, Option<String>) {
        (json!([simple("pings")]), None)
    }

    fn call(&self, _: &Value, _: &str, _: &Value) -> Result<Value, Value> {
        // Nobody reads standard input meanwhile.
        let _hold = std::io::stdout().lock();
        drop(_hold);
        for number in 0.. {
            send(&json!({ "jsonrpc": "2.0", "id": format!("p{number}"), "method": "ping" }));
        }
        Ok(text("never"))
    }
}

/// Greets, and neither reads nor says anything after that.
fn deaf() {
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.unwrap_or_default()) else { continue };
        let id = &message["id"];
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "d", "version": "1" },
            }),
            Some("tools/list") => json!({ "tools": [simple("hello"), simple("number")] }),
            Some("tools/call") if message["params"]["name"] == "number" => {
                text(&std::process::id().to_string())
            }
            Some("tools/call") => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
            _ => continue,
        };
        send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }
}

/// Gives an answer without end.
struct Huge;

impl Server for Huge {
    fn tools(&self, _: Option<&str>) -> (Value, Option<String>) {
        (json!([simple("huge"), simple("number")]), None)
    }

    fn call(&self, id: &Value, name: &str, _: &Value) -> Result<Value, Value> {
        if name == "number" {
            return Ok(text(&std::process::id().to_string()));
        }
        let mut out = std::io::stdout().lock();
        let _ = write!(
            out,
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\""
        );
        while out.write_all(&[b'x'; 1 << 16]).is_ok() {}
        std::process::exit(0);
    }
}
