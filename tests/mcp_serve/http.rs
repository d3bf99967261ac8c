//! Streamable HTTP: several clients, and whom the server does not let in.

use std::net::SocketAddr;
use std::time::Duration;

use agentkernel_mcp::{HttpSettings, Server, ServerLimits, Token};
use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::{Client, LONG, Listener, builder, until};

const TOKEN: &str = "a-token-of-the-test";

/// A server that listens, until it is dropped.
struct Serving {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<agentkernel_mcp::Result<()>>,
}

fn local() -> HttpSettings {
    HttpSettings::new(SocketAddr::from(([127, 0, 0, 1], 0)))
}

async fn serve(server: &Server, settings: HttpSettings) -> Serving {
    let http = server.bind(settings).await.unwrap();
    let (end, ended) = oneshot::channel();
    let address = http.address();
    let task = tokio::spawn(http.serve(async move {
        let _ = ended.await;
    }));
    Serving { address, end: Some(end), task }
}

impl Serving {
    async fn connect(&self, token: Option<&str>) -> Result<Client, String> {
        install_tls();
        let mut config =
            StreamableHttpClientTransportConfig::with_uri(format!("http://{}/mcp", self.address));
        config.auth_header = token.map(str::to_owned);
        let transport = StreamableHttpClientTransport::from_config(config);
        let listener = Listener::default();
        let running = listener.clone().serve(transport).await.map_err(|error| error.to_string())?;
        Ok(Client { running, listener })
    }

    /// Sends a request as it is written and gives the answer up to its end, or to the end of its first part.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), async {
            let mut buffer = [0; 4096];
            while let Ok(length) = stream.read(&mut buffer).await
                && length > 0
            {
                answer.extend_from_slice(&buffer[..length]);
            }
        })
        .await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn status(&self, headers: &str, body: &str) -> u16 {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nConnection: close\r\nAccept: application/json, text/event-stream\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        let answer = self.raw(&request).await;
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
    }

    async fn end(mut self) {
        let _ = self.end.take().unwrap().send(());
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// The client's library wants one, though nothing here is encrypted.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn initialize() -> String {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_runs_turns_hears_of_them_and_cancels_them() {
    let serving = serve(&builder().build().unwrap(), local()).await;
    let client = serving.connect(None).await.unwrap();
    client.execute("x = 41").await;
    assert_eq!(client.execute("x + 1").await["value"], 42);
    let handle = client.begin("execute", json!({ "code": "print('begun')\nx = 0\nwhile True: pass" })).await;
    until(async || !client.listener.heard().is_empty()).await;
    handle.cancel(None).await.unwrap();
    assert_eq!(client.execute("x").await["value"], 41);
    client.execute("open('f', 'w').write('file')").await;
    let read = rmcp::model::ReadResourceRequestParams::new("workspace:///f");
    assert_eq!(client.running.read_resource(read).await.unwrap().contents.len(), 1);
    client.running.cancel().await.unwrap();
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_have_no_part_in_each_other() {
    let mut limits = ServerLimits::default();
    limits.clients = 2;
    let serving = serve(&builder().limits(limits).build().unwrap(), local()).await;
    let (one, other) = (serving.connect(None).await.unwrap(), serving.connect(None).await.unwrap());
    one.execute("secret = 1\nopen('f', 'w').write('secret')").await;
    one.ok("session_create", json!({ "name": "private" })).await;
    assert_eq!(other.execute("'secret' in globals()").await["value"], false);
    let said = other.refused("execute", json!({ "code": "1", "session": "private" })).await;
    assert!(said.contains("there is no session"), "{said}");
    assert!(other.running.list_all_resources().await.unwrap().is_empty());
    // There are no more clients than there may be, until one has gone.
    assert!(serving.connect(None).await.is_err());
    other.running.cancel().await.unwrap();
    until(async || serving.connect(None).await.is_ok()).await;
    assert_eq!(one.execute("secret").await["value"], 1);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_is_not_let_in() {
    let settings = local().token(Token::new(TOKEN).unwrap());
    let serving = serve(&builder().build().unwrap(), settings).await;
    let client = serving.connect(Some(TOKEN)).await.unwrap();
    assert_eq!(client.execute("1").await["value"], 1);
    for wrong in [None, Some("a-token-of-the-tesT"), Some("a-token-of-the-test2"), Some("")] {
        assert!(serving.connect(wrong).await.is_err(), "{wrong:?}");
    }
    for headers in [
        "",
        "Authorization: Basic a-token-of-the-test\r\n",
        "Authorization: a-token-of-the-test\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer  a-token-of-the-test\r\n",
    ] {
        assert_eq!(
            serving.status(&format!("Host: localhost\r\n{headers}"), &initialize()).await,
            401,
            "{headers}"
        );
    }
    let right = format!("Host: localhost\r\nAuthorization: bearer {TOKEN}\r\n");
    assert_eq!(serving.status(&right, &initialize()).await, 200);
    let health = serving.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
    // A session's id is not enough.
    let given = serving.raw(&format!("POST /mcp HTTP/1.1\r\n{right}Connection: close\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", initialize().len(), initialize())).await;
    let id = given.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap().trim().to_owned();
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    assert_eq!(serving.status(&format!("Host: localhost\r\nMcp-Session-Id: {id}\r\n"), &list).await, 401);
    assert_eq!(serving.status(&format!("{right}Mcp-Session-Id: {id}\r\n"), &list).await, 200);
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_names_of_others_are_refused() {
    let settings = local().allow_host("kernel.example").allow_origin("https://app.example");
    let serving = serve(&builder().build().unwrap(), settings).await;
    for host in ["localhost", "localhost:8642", "127.0.0.1:1", "[::1]", "LOCALHOST", "kernel.example:443"] {
        assert_eq!(serving.status(&format!("Host: {host}\r\n"), &initialize()).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost@evil.example",
        "[::1",
        "localhost:80:80",
    ] {
        let status = serving.status(&format!("Host: {host}\r\n"), &initialize()).await;
        assert!([400, 403].contains(&status), "{host}: {status}");
    }
    assert!(
        [400, 403]
            .contains(&serving.status("Host: localhost\r\nHost: evil.example\r\n", &initialize()).await)
    );
    assert!([400, 403].contains(&serving.status("", &initialize()).await));
    for origin in [
        "https://evil.example",
        "http://localhost",
        "null",
        "https://app.example.evil.example",
        "http://app.example",
        "",
    ] {
        let headers = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        assert_eq!(serving.status(&headers, &initialize()).await, 403, "{origin}");
    }
    let allowed = "Host: localhost\r\nOrigin: https://app.example\r\n";
    assert_eq!(serving.status(allowed, &initialize()).await, 200);
    let preflight =
        serving.raw(&format!("OPTIONS /mcp HTTP/1.1\r\n{allowed}Connection: close\r\n\r\n")).await;
    assert!(preflight.starts_with("HTTP/1.1 204"), "{preflight}");
    assert!(preflight.contains("access-control-allow-origin: https://app.example"), "{preflight}");
    // A page of others may not even ask how the server is.
    let health = serving.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 403"), "{health}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_or_nothing_at_all_is_refused() {
    let mut limits = ServerLimits::default();
    limits.message_bytes = 10_000;
    let serving = serve(&builder().limits(limits).build().unwrap(), local()).await;
    let host = "Host: localhost\r\n";
    assert_eq!(serving.status(host, &"x".repeat(10_001)).await, 413);
    for body in ["", "{", "null", "[]", "{\"jsonrpc\":\"2.0\"}", "\u{0}"] {
        let status = serving.status(host, body).await;
        assert!((400..500).contains(&status), "{body}: {status}");
    }
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    for headers in [
        "",
        "Mcp-Session-Id: x\r\n",
        "Mcp-Session-Id: 00000000-0000-0000-0000-000000000000\r\n",
        "MCP-Protocol-Version: 1999-01-01\r\n",
    ] {
        let status = serving.status(&format!("{host}{headers}"), &list).await;
        assert!((400..500).contains(&status), "{headers}: {status}");
    }
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let unknown = serving.raw(&get("/nothing")).await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    assert_eq!(serving.connect(None).await.unwrap().execute("1").await["value"], 1);
    let metrics = serving.raw(&get("/metrics")).await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    // The kernel is that of other tests too.
    let completed = "\nagentkernel_turns_total{ending=\"completed\"} ";
    assert!(metrics.contains(completed) && !metrics.contains(&format!("{completed}0\n")), "{metrics}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_may_be_wait() {
    let serving = serve(&builder().build().unwrap(), local().connections(2)).await;
    let idle = (
        TcpStream::connect(serving.address).await.unwrap(),
        TcpStream::connect(serving.address).await.unwrap(),
    );
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut third = TcpStream::connect(serving.address).await.unwrap();
    third.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let early = tokio::time::timeout(Duration::from_millis(300), third.read_to_string(&mut answer)).await;
    assert!(early.is_err() && answer.is_empty(), "{answer}");
    drop(idle);
    tokio::time::timeout(LONG, third.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_stops_what_runs() {
    let serving = serve(&builder().build().unwrap(), local()).await;
    let client = serving.connect(None).await.unwrap();
    let _runs = client.begin("execute", json!({ "code": "print('begun')\nwhile True: pass" })).await;
    until(async || !client.listener.heard().is_empty()).await;
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_would_let_anybody_in_are_errors() {
    let server = builder().build().unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let token = || Token::new(TOKEN).unwrap();
    for (settings, said) in [
        (HttpSettings::new(any), "no token"),
        (HttpSettings::new("[::]:0".parse().unwrap()), "no token"),
        (HttpSettings::new("192.0.2.1:0".parse().unwrap()), "no token"),
        (HttpSettings::new(any).token(token()), "by which name"),
        (local().allow_host("http://x"), "not the name of a host"),
        (local().allow_host("x:80"), "not the name of a host"),
        (local().allow_host(""), "not the name of a host"),
        (local().allow_origin("app.example"), "not an origin"),
        (local().allow_origin("*"), "not an origin"),
        (local().allow_origin("https://app.example/"), "not an origin"),
        (local().connections(0), "nobody"),
    ] {
        let error = server.bind(settings.clone()).await.err().unwrap_or_else(|| panic!("{settings:?}"));
        assert!(error.to_string().contains(said) && error.remedy().is_some(), "{error}");
    }
    let serving = serve(&server, HttpSettings::new(any).token(token()).allow_host("kernel.example")).await;
    let health = |host: &str| format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert!(serving.raw(&health("kernel.example")).await.starts_with("HTTP/1.1 200"));
    assert!(serving.raw(&health("other.example")).await.starts_with("HTTP/1.1 403"));
    serving.end().await;
}

/// A call in the newest protocol, which has no connections.
async fn connectionless(serving: &Serving, code: &str) -> String {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "execute", "arguments": { "code": code }, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {} } } })
    .to_string();
    serving
        .raw(&format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json, text/event-stream\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: tools/call\r\nMcp-Name: execute\r\n\r\n{call}",
            call.len()
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_connections_a_client_is_told_which_protocols_have_them() {
    let serving = serve(&builder().build().unwrap(), local()).await;
    let answer = connectionless(&serving, "1").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let error: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert!(error["error"]["data"].to_string().contains("2025-11-25"), "{error}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_clients_have_the_same_sessions_no_connection_is_needed() {
    if !agentkernel_tests::kernel().info().host_owned_memory {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let serving = serve(&builder().keep_sessions(directory.path()).build().unwrap(), local()).await;
    let first = connectionless(&serving, "x = 41").await;
    assert!(first.starts_with("HTTP/1.1 200") && first.contains("\"saved\":true"), "{first}");
    let second = connectionless(&serving, "x + 1").await;
    assert!(second.contains("\"value\":42"), "{second}");
    let client = serving.connect(None).await.unwrap();
    assert_eq!(client.execute("x").await["value"], 41);
    serving.end().await;
}
