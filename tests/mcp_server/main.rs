//! A server of the Model Context Protocol for the tests, on its standard streams: a good one, or one that is hostile in the way
//! that its first argument names.

mod good;
mod hostile;

use std::io::{BufRead, Write};
use std::sync::Arc;

use serde_json::{Value, json};

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    match mode.as_str() {
        "good" => serve(good::Good::default()),
        "early" => early(),
        mode => hostile::run(mode),
    }
}

/// What a server does when it is asked.
pub trait Server: Send + Sync + 'static {
    /// The tools on the page that `cursor` names, and the name of the next.
    fn tools(&self, cursor: Option<&str>) -> (Value, Option<String>);

    /// The result of a call, or an error.
    fn call(&self, id: &Value, name: &str, arguments: &Value) -> Result<Value, Value>;

    /// What else comes: answers to what it asks, and notifications.
    fn other(&self, message: &Value) {
        let _ = message;
    }

    fn instructions(&self) -> &str {
        ""
    }
}

/// Writes a message in a line of its own, and ends when nobody reads it.
pub fn send(message: &Value) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{message}").and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Answers until nothing comes any more. Calls are answered by threads of their own.
pub fn serve(server: impl Server) {
    let server = Arc::new(server);
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let (id, params) = (message["id"].clone(), message["params"].clone());
        let answer = |result: Value| send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
        match (message["method"].as_str(), &id) {
            (Some("initialize"), _) => answer(json!({
                "protocolVersion": params["protocolVersion"],
                "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "test", "version": "1" },
                "instructions": server.instructions(),
            })),
            (Some("ping"), _) => answer(json!({})),
            (Some("tools/list"), _) => {
                let (tools, next) = server.tools(params["cursor"].as_str());
                let mut result = json!({ "tools": tools });
                if let Some(next) = next {
                    result["nextCursor"] = next.into();
                }
                answer(result);
            }
            (Some("tools/call"), _) => {
                let (server, id) = (Arc::clone(&server), id.clone());
                std::thread::spawn(move || {
                    let name = params["name"].as_str().unwrap_or_default();
                    let given = server.call(&id, name, &params["arguments"]);
                    let (key, value) = match given {
                        Ok(result) => ("result", result),
                        Err(error) => ("error", error),
                    };
                    send(&json!({ "jsonrpc": "2.0", "id": id, key: value }));
                });
            }
            (Some(_), Value::Null) | (None, _) => server.other(&message),
            (Some(method), _) => {
                let error = json!({ "code": -32601, "message": format!("no {method}") });
                send(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
            }
        }
    }
}

/// One of the protocol's later version, which has no greeting.
fn early() {
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.unwrap_or_default()) else { continue };
        let id = message["id"].clone();
        let result = match message["method"].as_str() {
            Some("server/discover") => json!({
                "resultType": "complete",
                "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": {} },
                "ttlMs": 0,
                "cacheScope": "private",
            }),
            Some("tools/list") => json!({
                "resultType": "complete",
                "tools": [{ "name": "hello", "inputSchema": { "type": "object" } }],
            }),
            Some("tools/call") => {
                json!({ "resultType": "complete", "content": [{ "type": "text", "text": "later" }] })
            }
            Some(method) if !id.is_null() => {
                let error = json!({ "code": -32601, "message": format!("no {method}") });
                send(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
                continue;
            }
            _ => continue,
        };
        send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }
}
