//! An HTTP server on loopback that answers as it is told, one reply after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a request is answered with.
#[derive(Clone)]
pub enum Reply {
    /// These bytes, after which the connection serves the next request.
    Whole(Vec<u8>),
    /// These bytes, each after its wait; then the connection is closed.
    Pieces(Vec<(Duration, Vec<u8>)>),
    /// These bytes, and then nothing for as long as the client waits.
    Stall(Vec<u8>),
}

impl Reply {
    pub fn json(value: &Value) -> Self {
        Self::status(200, &[], value)
    }

    pub fn status(status: u16, headers: &[(&str, &str)], value: &Value) -> Self {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        Self::body(status, &all, value.to_string().as_bytes())
    }

    pub fn body(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (bytes + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Reply::Whole(bytes)
    }

    /// A stream of events, each in a chunk of its own.
    pub fn events(events: &[Value], end: &str) -> Self {
        let mut bytes = EVENTS_HEAD.as_bytes().to_vec();
        for event in events {
            bytes.extend_from_slice(&chunk(&format!("data: {event}\n\n")));
        }
        bytes.extend_from_slice(&chunk(end));
        bytes.extend_from_slice(b"0\r\n\r\n");
        Reply::Whole(bytes)
    }
}

/// The head of a stream of events.
pub const EVENTS_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

pub fn chunk(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// A request as it came.
#[derive(Clone)]
pub struct Request {
    pub line: String,
    pub head: String,
    pub body: Value,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

impl Server {
    /// Answers with `replies` in their order, and from then on with the last.
    pub fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Arc<Vec<Reply>> = Arc::new(replies.into_iter().collect());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, replies) = (Arc::clone(&shared), Arc::clone(&replies));
                std::thread::spawn(move || {
                    let _ = serve(stream, &seen, &replies);
                });
            }
        });
        Server { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The one request that was made.
    pub fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }
}

fn serve(stream: TcpStream, seen: &Seen, replies: &[Reply]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut head) = (String::new(), String::new());
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        while !head.ends_with("\r\n\r\n") && head != "\r\n" {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut request = Request { line: line.trim().into(), head, body: Value::Null, at: Instant::now() };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        request.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request);
            requests.len()
        };
        let socket = stream.get_mut();
        match &replies[number.min(replies.len()) - 1] {
            Reply::Whole(bytes) => socket.write_all(bytes)?,
            Reply::Pieces(pieces) => {
                for (wait, bytes) in pieces {
                    std::thread::sleep(*wait);
                    socket.write_all(bytes)?;
                }
                return Ok(());
            }
            Reply::Stall(bytes) => {
                socket.write_all(bytes)?;
                let _ = stream.read(&mut [0]);
                return Ok(());
            }
        }
    }
}
