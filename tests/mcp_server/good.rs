//! One that does what it says.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Server, send};

#[derive(Default)]
pub struct Good {
    counter: AtomicU64,
    /// Whether it has one more function.
    more: AtomicBool,
    /// Numbers of calls that were given up.
    cancelled: Mutex<Vec<Value>>,
    /// Answers to what it asked.
    answers: Mutex<Vec<Value>>,
    came: Condvar,
}

/// A picture of one point.
const IMAGE: &str = "iVBORw0KGgo=";

fn tool(name: &str, description: &str, properties: Value, required: &[&str]) -> Value {
    json!({
        "name": name,
        "description": description,
        "inputSchema": { "type": "object", "properties": properties, "required": required },
    })
}

fn with_output(mut tool: Value, schema: Value) -> Value {
    tool["outputSchema"] = schema;
    tool
}

fn text(text: impl Into<String>) -> Value {
    json!({ "content": [{ "type": "text", "text": text.into() }] })
}

impl Server for Good {
    fn instructions(&self) -> &str {
        "Adds numbers.\n\u{1b}[2JAnd more."
    }

    fn tools(&self, cursor: Option<&str>) -> (Value, Option<String>) {
        let none = json!({});
        if cursor.is_none() {
            let sum = json!({
                "type": "object",
                "properties": { "sum": { "type": "integer" }, "parts": { "type": "array", "items": { "type": "integer" } } },
                "required": ["sum"],
            });
            let add = json!({ "a": { "type": "integer", "description": "One number." }, "b": { "type": "integer" } });
            let greet = json!({
                "first-name": { "type": "string" },
                "import": { "type": "string" },
                "kind": { "enum": ["warm", "cold", 3, null] },
                "times": { "type": "integer", "default": 2 },
                "loud": { "type": ["boolean", "null"] },
            });
            let order = json!({
                "lines": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "item": { "type": "string" }, "unit-price": { "type": "number" } },
                    "required": ["item"],
                    "additionalProperties": false,
                } },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                "to": { "anyOf": [{ "type": "string" }, { "type": "null" }], "default": null },
            });
            let first = json!([
                with_output(tool("add", "Adds two numbers.\n\nAll of them.", add, &["a", "b"]), sum),
                tool("say", "Gives text back.", json!({ "text": { "type": "string" } }), &["text"]),
                tool("greet", "Greets.", greet, &["first-name", "import"]),
                tool("order-all", "Orders.", order, &["lines"]),
            ]);
            return (first, Some("2".into()));
        }
        let number = json!({ "type": "object", "properties": { "result": { "type": "number" } }, "required": ["result"] });
        let count = json!({ "n": { "type": "integer" } });
        let mut second = vec![
            with_output(tool("half", "", count.clone(), &["n"]), number.clone()),
            with_output(tool("broken", "", none.clone(), &[]), number),
            tool("parts", "", none.clone(), &[]),
            tool("nothing", "", none.clone(), &[]),
            tool("fail", "", none.clone(), &[]),
            tool("refuse", "", none.clone(), &[]),
            tool("loose", "", none.clone(), &[]),
            tool("sleep", "", json!({ "ms": { "type": "integer" } }), &["ms"]),
            tool("cancelled", "", none.clone(), &[]),
            tool("environment", "", none.clone(), &[]),
            tool("count", "", none.clone(), &[]),
            tool("number", "", none.clone(), &[]),
            tool("crash", "", none.clone(), &[]),
            tool("large", "", count, &["n"]),
            tool("child", "", none.clone(), &[]),
            tool("ask", "", none.clone(), &[]),
            tool("grow", "", none.clone(), &[]),
            json!({ "name": "any", "inputSchema": { "type": "object", "additionalProperties": true } }),
        ];
        if self.more.load(Ordering::Relaxed) {
            second.push(tool("grown", "", none, &[]));
        }
        (second.into(), None)
    }

    fn call(&self, id: &Value, name: &str, arguments: &Value) -> Result<Value, Value> {
        let number = |key: &str| arguments[key].as_i64().unwrap_or_default();
        Ok(match name {
            "add" => {
                let (a, b) = (number("a"), number("b"));
                let value = json!({ "sum": a + b, "parts": [a, b] });
                json!({ "content": [{ "type": "text", "text": value.to_string() }], "structuredContent": value })
            }
            "say" => text(arguments["text"].as_str().unwrap_or_default()),
            "greet" | "order-all" | "any" => text(arguments.to_string()),
            "half" => {
                json!({ "content": [], "structuredContent": { "result": number("n") as f64 / 2.0 } })
            }
            "broken" => json!({ "content": [], "structuredContent": { "result": "no number" } }),
            "loose" => json!({ "content": [], "structuredContent": [1, { "a": null }] }),
            "parts" => json!({ "content": [
                { "type": "text", "text": "one" },
                { "type": "image", "data": IMAGE, "mimeType": "image/png" },
                { "type": "audio", "data": "AAEC", "mimeType": "audio/wav" },
                { "type": "resource", "resource": { "uri": "a://b", "mimeType": "text/plain", "text": "two" } },
                { "type": "resource", "resource": { "uri": "a://c", "blob": "AAEC" } },
                { "type": "resource_link", "uri": "a://d", "name": "d" },
                { "type": "image", "data": "no base64!", "mimeType": "image/png" },
            ] }),
            "nothing" => json!({ "content": [] }),
            "fail" => {
                json!({ "content": [{ "type": "text", "text": "it \u{1b}[31mfailed" }], "isError": true })
            }
            "refuse" => return Err(json!({ "code": -32602, "message": "never" })),
            "sleep" => {
                std::thread::sleep(Duration::from_millis(number("ms") as u64));
                text("slept")
            }
            "cancelled" => {
                let cancelled = self.cancelled.lock().unwrap();
                let (cancelled, _) = self
                    .came
                    .wait_timeout_while(cancelled, Duration::from_secs(10), |cancelled| cancelled.is_empty())
                    .unwrap();
                text(cancelled.len().to_string())
            }
            "environment" => {
                let mut names: Vec<String> =
                    std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                names.sort();
                text(names.join("\n"))
            }
            "count" => text((self.counter.fetch_add(1, Ordering::Relaxed) + 1).to_string()),
            "number" => text(std::process::id().to_string()),
            "crash" => {
                eprintln!("the \u{1b}[31mlast\u{1b}[0m words");
                std::process::exit(3);
            }
            "large" => text("x".repeat(number("n") as usize)),
            "child" => {
                let child =
                    Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
                text(child.unwrap().id().to_string())
            }
            "ask" => {
                for (number, method) in
                    ["sampling/createMessage", "roots/list", "elicitation/create"].into_iter().enumerate()
                {
                    let params = match method {
                        "sampling/createMessage" => json!({
                            "messages": [{ "role": "user", "content": { "type": "text", "text": "what is the key?" } }],
                            "maxTokens": 9,
                        }),
                        "elicitation/create" => json!({
                            "message": "your password?",
                            "requestedSchema": { "type": "object", "properties": { "p": { "type": "string" } } },
                        }),
                        _ => json!({}),
                    };
                    let id = format!("q{number}");
                    send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
                }
                let answers = self.answers.lock().unwrap();
                let (answers, _) = self
                    .came
                    .wait_timeout_while(answers, Duration::from_secs(10), |answers| answers.len() < 3)
                    .unwrap();
                text(Value::Array(answers.clone()).to_string())
            }
            "grow" => {
                self.more.store(true, Ordering::Relaxed);
                send(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
                text("grown")
            }
            "grown" => text("here"),
            _ => return Err(json!({ "code": -32602, "message": format!("no {name} for {id}") })),
        })
    }

    fn other(&self, message: &Value) {
        if message["method"] == "notifications/cancelled" {
            self.cancelled.lock().unwrap().push(message["params"]["requestId"].clone());
        } else if message.get("method").is_none() {
            self.answers.lock().unwrap().push(message.clone());
        }
        self.came.notify_all();
    }
}
