//! Servers that are reached over HTTP: one on loopback that answers as its mode says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel::{ErrorKind, Kernel, McpServer, Secret, Tool, ToolGrants};
use agentkernel_tests::{builder, repr};
use serde_json::{Value, json};

use super::{error, kernel, session};

/// How it answers calls.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// With JSON.
    Plain,
    /// With a stream of events.
    Events,
    /// With JSON that has no end.
    Endless,
    /// With an event that has no end.
    EndlessEvent,
    /// With a stream that stays open and says nothing.
    Silent,
    /// With a redirect to another server.
    Elsewhere,
    /// With an error of HTTP, which has the header that it was sent.
    Failing,
    /// As if it did not know the session, the first time.
    Forgetful,
    /// With an error of the code that stands for answers that are too long here.
    Borrowing,
    /// With requests of its own, of which it takes no answers.
    Asking,
}

type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// Starts one; gives its address, and the heads and bodies of requests as they come.
fn serve(mode: Mode) -> (SocketAddr, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || answer(stream, mode, &seen));
        }
    });
    (address, requests)
}

fn answer(stream: TcpStream, mode: Mode, seen: &Requests) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body)?;
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let calls = {
            let mut seen = seen.lock().unwrap();
            seen.push((head.clone(), message.clone()));
            seen.iter().filter(|(_, message)| message["method"] == "tools/call").count()
        };
        let secret = header("authorization").unwrap_or_default();
        let socket = stream.get_mut();
        let whole = |socket: &mut TcpStream, status: &str, headers: &str, body: &str| {
            let length = body.len();
            write!(socket, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
        };
        let json = "content-type: application/json\r\nmcp-session-id: s1\r\n";
        let id = message["id"].clone();
        let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
        match message["method"].as_str() {
            Some("initialize") => {
                let result = result(json!({
                    "protocolVersion": "2025-06-18",
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "h", "version": "1" },
                }));
                whole(socket, "200 OK", json, &result)?;
            }
            Some("tools/list") => {
                let tools = json!([{ "name": "hello", "description": format!("Says {secret}."), "inputSchema": { "type": "object", "properties": { "n": { "type": "integer" } } } },
                    { "name": "odd", "inputSchema": { "type": "object" }, "outputSchema": { "type": "object", "properties": { "n": { "type": "integer" } } } }]);
                whole(socket, "200 OK", json, &result(json!({ "tools": tools })))?;
            }
            Some("tools/call") if message["params"]["name"] == "odd" => {
                // The secret is across the place where a message is cut.
                let said = format!("{}{secret}", "x".repeat(45));
                let result = result(json!({ "content": [], "structuredContent": { "n": said } }));
                whole(socket, "200 OK", json, &result)?;
            }
            Some("tools/call") => {
                let said = format!("hello {} {secret}", message["params"]["arguments"]["n"]);
                let text = result(json!({ "content": [{ "type": "text", "text": said }] }));
                let events =
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                match mode {
                    Mode::Plain => whole(socket, "200 OK", json, &text)?,
                    Mode::Forgetful if calls == 1 => whole(socket, "404 Not Found", "", "")?,
                    Mode::Forgetful => whole(socket, "200 OK", json, &text)?,
                    Mode::Borrowing => {
                        let said = format!("{}{secret}\u{1b}[2J", "x".repeat(1985));
                        let error = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -31999, "message": said } });
                        whole(socket, "200 OK", json, &error.to_string())?;
                    }
                    Mode::Asking => {
                        write!(socket, "{events}")?;
                        for number in 0..100 {
                            let ping = json!({ "jsonrpc": "2.0", "id": number, "method": "ping" });
                            write!(socket, "data: {ping}\r\n\r\n")?;
                        }
                        let _ = stream.read(&mut [0]);
                        return Ok(());
                    }
                    Mode::Events => {
                        let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 0, "progress": 1 } });
                        write!(
                            socket,
                            "{events}: a remark\r\n\r\ndata: {progress}\r\n\r\nevent: message\r\ndata: {text}\r\n\r\n"
                        )?;
                        return Ok(());
                    }
                    Mode::Endless => {
                        write!(
                            socket,
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\""
                        )?;
                        loop {
                            socket.write_all(&[b'x'; 1 << 16])?;
                        }
                    }
                    Mode::EndlessEvent => {
                        write!(socket, "{events}data: ")?;
                        loop {
                            socket.write_all(&[b'x'; 1 << 16])?;
                        }
                    }
                    Mode::Silent => {
                        write!(socket, "{events}: wait\r\n\r\n")?;
                        let _ = stream.read(&mut [0]);
                        return Ok(());
                    }
                    Mode::Elsewhere => {
                        whole(socket, "307 Temporary Redirect", "location: http://127.0.0.1:9/mcp\r\n", "")?;
                    }
                    Mode::Failing => whole(
                        socket,
                        "500 Oops",
                        "content-type: text/plain\r\n",
                        &format!("no, {secret} \u{1b}[2J"),
                    )?,
                }
            }
            Some(_) => whole(socket, "202 Accepted", "", "")?,
            None if mode == Mode::Asking && message.get("id").is_some() => {
                let _ = stream.read(&mut [0]);
                return Ok(());
            }
            None if head.starts_with("GET") => whole(socket, "405 Method Not Allowed", "", "")?,
            None => whole(socket, "200 OK", "", "")?,
        }
    }
}

fn at(address: SocketAddr) -> McpServer {
    McpServer::url(format!("http://{address}/mcp")).max_message_bytes(1 << 20)
}

fn limited() -> ToolGrants {
    let mut grants = ToolGrants::default();
    grants.limits.timeout = Some(Duration::from_secs(8));
    grants
}

#[test]
fn answers_come_as_json_or_as_events() {
    for mode in [Mode::Plain, Mode::Events, Mode::Forgetful] {
        let (address, requests) = serve(mode);
        let mut session = session(&kernel(at(address), limited()));
        assert_eq!(repr(&mut session, "from tools.x import hello\nhello(n=3)"), "'hello 3 '");
        assert_eq!(
            repr(&mut session, "import asyncio\nfrom tools.x import aio\nasyncio.run(aio.hello(n=4))[:7]"),
            "'hello 4'"
        );
        let requests = requests.lock().unwrap();
        let call = requests.iter().find(|(_, message)| message["method"] == "tools/call").unwrap();
        assert!(
            call.0.starts_with("POST /mcp HTTP/1.1") && call.0.contains("mcp-session-id: s1"),
            "{}",
            call.0
        );
        assert!(call.0.contains("mcp-protocol-version: 2025-06-18"), "{}", call.0);
    }
}

#[test]
fn nothing_is_asked_before_it_is_needed() {
    let (address, requests) = serve(Mode::Plain);
    let kernel = kernel(at(address), limited());
    session(&kernel).run_blocking("import tools\ntools.describe()").unwrap();
    assert!(requests.lock().unwrap().is_empty());
    assert_eq!(kernel.tools()[0].summary, "functions of the MCP server at 127.0.0.1");
}

#[test]
fn answers_without_end_are_cut() {
    for mode in [Mode::Endless, Mode::EndlessEvent] {
        let (address, _) = serve(mode);
        let mut session = session(&kernel(at(address), limited()));
        session.run_blocking("from tools.x import hello").unwrap();
        let begun = Instant::now();
        let message = error(&mut session, "hello()");
        assert!(message.starts_with("tools.Tool"), "{message}");
        assert!(message.len() < 1000, "{message}");
        assert!(begun.elapsed() < Duration::from_secs(12));
        let plain = "tools.ToolMemoryError: x.hello gave too much; `max-message` of its server raises that";
        let ended = "tools.ToolTrapped: x.hello failed, as the connection to its server ended: ";
        assert!(
            if mode == Mode::Endless { message == plain } else { message.starts_with(ended) },
            "{message}"
        );
    }
}

#[test]
fn a_silent_stream_ends_with_the_time_limit() {
    let (address, requests) = serve(Mode::Silent);
    let mut grants = limited();
    grants.limits.timeout = Some(Duration::from_millis(400));
    let mut session = session(&kernel(at(address), grants));
    let message = error(&mut session, "from tools.x import hello\nhello()");
    assert_eq!(message, "tools.ToolTimeout: x.hello was stopped at its time limit of 0.4 s");
    super::until("the server is told", || {
        requests.lock().unwrap().iter().any(|(_, message)| message["method"] == "notifications/cancelled")
    });
}

#[test]
fn one_that_asks_and_takes_no_answers_is_left() {
    let (address, _) = serve(Mode::Asking);
    let message = error(&mut session(&kernel(at(address), limited())), "from tools.x import hello\nhello()");
    assert!(message.ends_with("ended: it makes requests and does not read the answers"), "{message}");
}

#[test]
fn no_message_has_a_part_of_a_secret() {
    let (address, _) = serve(Mode::Borrowing);
    let server = at(address).header("Authorization", "Bearer {{KEY}}");
    let mut session = session(&with_secret(server, &format!("http://{address}")).unwrap());
    let message = error(&mut session, "from tools.x import hello, odd\nodd()");
    assert!(message.contains("`result.n` must be int, not \"xxx"), "{message}");
    assert!(message.contains("Bearer *") && !message.contains("s3"), "{message}");
    let message = error(&mut session, "hello()");
    assert!(message.contains("gave too much: xxx") && !message.contains('\u{1b}'), "{message}");
    assert!(message.contains("Bearer *") && !message.contains("s3"), "{message}");
}

#[test]
fn redirects_are_not_followed() {
    let (address, _) = serve(Mode::Elsewhere);
    let message = error(&mut session(&kernel(at(address), limited())), "from tools.x import hello\nhello()");
    assert!(
        message.starts_with("tools.ToolTrapped: x.hello failed: ") && message.contains("307"),
        "{message}"
    );
}

#[test]
fn a_server_that_is_not_there_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let message = error(&mut session(&kernel(at(address), limited())), "from tools.x import hello");
    assert!(message.starts_with("tools.ToolTrapped: the MCP server `x` cannot be used: "), "{message}");
    assert!(message.contains("refused"), "{message}");
}

fn with_secret(server: McpServer, hosts: &str) -> Result<Kernel, agentkernel::Error> {
    let mut grants = limited();
    let secret = Secret::new("s3cr3t\"k\\ey", vec![hosts.parse().unwrap()]).unwrap();
    grants.secrets.insert("KEY".into(), secret);
    builder().tool(Tool::mcp("x", server).grants(grants)).build()
}

#[test]
fn secrets_are_sent_and_do_not_come_back() {
    for mode in [Mode::Plain, Mode::Events, Mode::Failing] {
        let (address, requests) = serve(mode);
        let server = at(address).header("Authorization", "Bearer {{KEY}}");
        let kernel = with_secret(server, &format!("http://{address}")).unwrap();
        let mut session = session(&kernel);
        let code = "from tools.x import hello\ntry: r = hello(n=1)\nexcept Exception as e: r = str(e)\nr, hello.__doc__";
        let found = repr(&mut session, code);
        assert!(!found.contains("s3cr3t") && !found.contains("k\\") && found.len() < 500, "{found}");
        assert!(mode == Mode::Failing || found.contains("Bearer ***********"), "{found}");
        assert!(!found.contains('\u{1b}') && found.contains("> Says Bearer ****"), "{found}");
        assert!(!format!("{:?}{:?}", kernel.tools(), kernel.tool_stubs()).contains("s3cr3t"));
        assert!(
            requests
                .lock()
                .unwrap()
                .iter()
                .all(|(head, _)| head.contains("uthorization: Bearer s3cr3t\"k\\ey"))
        );
    }
}

#[test]
fn secrets_go_to_their_hosts_alone() {
    let (address, requests) = serve(Mode::Plain);
    let refused = |server: McpServer, hosts: &str, message: &str| {
        let error = with_secret(server, hosts).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Grant);
        assert!(error.to_string().contains(message), "{error}");
    };
    let server = at(address).header("Authorization", "Bearer {{KEY}}");
    refused(server.clone(), "a.test", "the secret `KEY` may not be sent to its host");
    refused(
        server.header("Other", "{{OTHER}}"),
        &format!("http://{address}"),
        "has the secret `OTHER`, which is not granted",
    );
    refused(at(address), &format!("http://{address}"), "no header has `{{KEY}}`");
    assert!(requests.lock().unwrap().is_empty());
}
