//! Bytes that no client of good will sends, over the streams that it has.

use std::time::Duration;

use agentkernel_mcp::{Server, ServerLimits};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};

use super::{LONG, builder};

/// The other end of a server's streams.
struct Raw {
    write: WriteHalf<DuplexStream>,
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    serving: tokio::task::JoinHandle<agentkernel_mcp::Result<()>>,
}

impl Raw {
    async fn new(server: &Server) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(theirs);
        let server = server.clone();
        let serving = tokio::spawn(async move { server.serve(read, write, std::future::pending()).await });
        let (read, write) = tokio::io::split(ours);
        Raw { write, lines: BufReader::new(read).lines(), serving }
    }

    async fn begun(server: &Server) -> Self {
        let mut raw = Raw::new(server).await;
        raw.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } }))
            .await;
        assert_eq!(raw.answer(0).await["result"]["protocolVersion"], "2025-06-18");
        raw.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        raw
    }

    async fn bytes(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, message: &Value) {
        self.bytes(format!("{message}\n").as_bytes()).await;
    }

    async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(LONG, self.lines.next_line()).await.unwrap().unwrap()?;
        Some(serde_json::from_str(&line).expect("each line is a message"))
    }

    /// The answer to a request; what else comes is left out.
    async fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.next().await.expect("the server answers");
            if message["id"] == id {
                return message;
            }
        }
    }

    async fn execute(&mut self, id: u64, code: &str) -> Value {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "execute", "arguments": { "code": code } } }))
            .await;
        self.answer(id).await["result"]["structuredContent"].clone()
    }
}

#[tokio::test]
async fn what_is_no_message_is_answered_or_left_out_and_the_connection_lives_on() {
    let server = builder().build().unwrap();
    let mut raw = Raw::begun(&server).await;
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bytes in [
        &b"\n"[..],
        b"\n\n  \n",
        b"{\n",
        b"nonsense\n",
        b"\xff\xfe\x00\n",
        b"null\n",
        b"[]\n",
        b"[1, 2]\n",
        b"{}\n",
        b"{\"jsonrpc\": \"1.0\", \"id\": 1, \"method\": \"tools/list\"}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": {}, \"method\": \"tools/list\"}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": 7}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\"}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\", \"params\": []}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\", \"params\": {\"name\": 1}}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\", \"params\": {\"name\": \"execute\", \"arguments\": \"code\"}}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"resources/read\", \"params\": {\"uri\": 5}}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"no/such/method\", \"params\": {}}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"result\": {}}\n",
        b"{\"jsonrpc\": \"2.0\", \"method\": \"notifications/cancelled\", \"params\": {\"requestId\": 99}}\n",
        b"{\"jsonrpc\": \"2.0\", \"method\": \"notifications/cancelled\", \"params\": {}}\n",
        b"{\"jsonrpc\": \"2.0\", \"method\": \"notifications/unknown\"}\n",
        nested.as_bytes(),
        b"\n",
    ] {
        raw.bytes(bytes).await;
    }
    let outcome = raw.execute(1000, "40 + 2").await;
    assert_eq!(outcome["value"], 42);
}

#[tokio::test]
async fn messages_with_wrong_bytes_end_nothing() {
    let server = builder().build().unwrap();
    let mut raw = Raw::begun(&server).await;
    let call = |tool: &str, arguments: Value| json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments, "_meta": { "progressToken": 1 } } });
    let messages = [
        call("execute", json!({ "code": "1", "session": "default" })),
        call("session_create", json!({ "name": "a", "timeout_seconds": 1, "memory_bytes": 100_000_000 })),
        call("session_fork", json!({ "session": "default", "name": "b" })),
        call("session_reset", json!({ "session": "a" })),
        call("session_close", json!({ "session": "a" })),
        json!({ "jsonrpc": "2.0", "id": 8, "method": "resources/read", "params": { "uri": "workspace:///a%20b" } }),
        json!({ "jsonrpc": "2.0", "id": 9, "method": "resources/list", "params": { "cursor": "workspace:///a" } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7, "reason": "r" } }),
    ]
    .map(|message| message.to_string().into_bytes());
    let mut random = super::machine::Random(7);
    for round in 0..40u64 {
        for message in &messages {
            let mut message = message.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(message.len());
                match random.below(4) {
                    0 => message[at] = random.below(256) as u8,
                    1 => drop(message.remove(at)),
                    2 => message.insert(at, b"\"{}[]:,0e-\\"[random.below(11)]),
                    _ => message.truncate(at.max(1)),
                }
            }
            message.push(b'\n');
            raw.bytes(&message).await;
        }
        assert_eq!(raw.execute(1000 + round, "40 + 2").await["value"], 42);
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_told_and_left_out() {
    let mut limits = ServerLimits::default();
    limits.message_bytes = 10_000;
    let server = builder().limits(limits).build().unwrap();
    let mut raw = Raw::begun(&server).await;
    let fits = format!("len('{}')", "x".repeat(9000));
    assert_eq!(raw.execute(1, &fits).await["value"], 9000);
    let long = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "execute", "arguments": { "code": format!("x = '{}'", "x".repeat(1 << 20)) } } });
    raw.send(&long).await;
    let told = raw.answer(2).await;
    assert!(told["error"]["message"].as_str().unwrap().contains("at most 10000 bytes"), "{told}");
    assert_eq!(raw.execute(3, "'x' in globals()").await["value"], false);
    // Nor does one without an end take memory.
    for _ in 0..64 {
        raw.bytes(&[b'y'; 1 << 16]).await;
    }
    raw.bytes(b"\n").await;
    assert_eq!(raw.execute(4, "1").await["value"], 1);
}

#[tokio::test]
async fn requests_before_the_beginning_are_refused() {
    let server = builder().build().unwrap();
    let mut raw = Raw::new(&server).await;
    raw.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "execute", "arguments": { "code": "1" } } }))
        .await;
    assert!(raw.answer(1).await["error"].is_object());
    let mut raw = Raw::new(&server).await;
    raw.bytes(b"{\"jsonrpc\": \"2.0\", \"method\": \"notifications/initialized\"}\n").await;
    assert_eq!(raw.next().await, None);
    assert!(raw.serving.await.unwrap().is_err());
}

#[tokio::test]
async fn the_end_of_the_input_ends_the_server_and_what_runs() {
    let server = builder().build().unwrap();
    let mut raw = Raw::begun(&server).await;
    raw.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "execute", "arguments": { "code": "1 + 1" } } }))
        .await;
    raw.write.shutdown().await.unwrap();
    // What was asked for is answered still.
    assert_eq!(raw.answer(1).await["result"]["structuredContent"]["value"], 2);
    tokio::time::timeout(LONG, raw.serving).await.unwrap().unwrap().unwrap();
    // Who says nothing is served nothing.
    let mut silent = Raw::new(&server).await;
    silent.write.shutdown().await.unwrap();
    tokio::time::timeout(LONG, silent.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_else() {
    let server = builder().build().unwrap();
    let mut deaf = Raw::begun(&server).await;
    for id in 1..20 {
        deaf.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "execute", "arguments": { "code": "print('x' * 1_000_000)" }, "_meta": { "progressToken": id } } }))
            .await;
    }
    let mut other = Raw::begun(&server).await;
    assert_eq!(other.execute(1, "1 + 1").await["value"], 2);
    drop(deaf);
    assert_eq!(other.execute(2, "2 + 1").await["value"], 3);
}

#[tokio::test]
async fn ids_and_progress_tokens_may_be_strings_and_the_same_id_twice_is_no_harm() {
    let server = builder().build().unwrap();
    let mut raw = Raw::begun(&server).await;
    raw.send(&json!({ "jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": { "name": "execute",
        "arguments": { "code": "import time\nprint('told')\ntime.sleep(0.4)" }, "_meta": { "progressToken": "token" } } }))
        .await;
    let told = raw.next().await.unwrap();
    assert_eq!(told["method"], "notifications/progress");
    assert_eq!(
        (&told["params"]["progressToken"], &told["params"]["message"]),
        (&json!("token"), &json!("told\n"))
    );
    while raw.next().await.unwrap()["id"] != "a" {}
    for _ in 0..2 {
        raw.send(&json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": "execute", "arguments": { "code": "1" } } }))
            .await;
    }
    raw.answer(7).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(raw.execute(8, "3").await["value"], 3);
}
