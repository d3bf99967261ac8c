//! An HTTP server on loopback that does by hand what a server should do, and what it should not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Heads of requests, as they came.
    heads: Mutex<Vec<String>>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                seen.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = serve(&stream, &seen);
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

    pub fn most_at_once(&self) -> usize {
        self.seen.most_at_once.load(Ordering::SeqCst)
    }

    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.heads().len()
    }
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let mut response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    stream.write_all(&response)
}

/// Serves one connection, until it is closed.
fn serve(mut stream: &TcpStream, seen: &Seen) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        seen.heads.lock().unwrap().push(head.clone());
        let header = |name: &str| {
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let mut body = Vec::new();
        if let Some(length) = header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            reader.read_exact(&mut body)?;
        } else if header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return Ok(()) };
                let start = body.len();
                body.resize(start + size + 2, 0);
                reader.read_exact(&mut body[start..])?;
                body.truncate(start + size);
                if size == 0 {
                    break;
                }
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/echo" => {
                respond(stream, "200 OK", "content-type: text/plain\r\n", &[head.as_bytes(), &body].concat())?
            }
            "/mirror" => {
                // As services do that say which key was wrong.
                let key = header("authorization").unwrap_or_default();
                let headers = format!("x-key: {key}\r\n");
                respond(stream, "401 Unauthorized", &headers, format!("wrong key: {key}!").as_bytes())?;
            }
            "/length" => respond(stream, "200 OK", "", body.len().to_string().as_bytes())?,
            "/redirect" => respond(stream, "302 Found", &format!("location: {query}\r\n"), b"")?,
            "/wait" => {
                let now = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
                seen.most_at_once.fetch_max(now, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(query.parse().unwrap()));
                seen.at_once.fetch_sub(1, Ordering::SeqCst);
                respond(stream, "200 OK", "", b"waited")?;
            }
            "/never" => std::thread::sleep(Duration::from_secs(60)),
            "/drip" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
                loop {
                    stream.write_all(b".")?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            "/huge" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")?;
                let block = vec![b'x'; 1 << 20];
                loop {
                    stream.write_all(&block)?;
                }
            }
            "/bytes" => {
                let block = vec![b'x'; query.parse().unwrap()];
                respond(stream, "200 OK", "", &block)?;
            }
            "/headers" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                loop {
                    stream.write_all(b"x-more: and more and more and more and more\r\n")?;
                }
            }
            "/continue" => loop {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            },
            "/garbage" => stream.write_all(b"\x00\xff not http at all\r\n\r\n")?,
            "/close" => return Ok(()),
            "/once" => {
                respond(stream, "200 OK", "", b"once")?;
                // Closes without having said that it would.
                return Ok(());
            }
            // A body where none belongs: what follows it on the connection cannot be trusted.
            _ if head.starts_with("HEAD /spoilt") => {
                respond(stream, "200 OK", "", b"HTTP/1.1 200 OK\r\n\r\n")?
            }
            _ if head.starts_with("HEAD") => respond(stream, "200 OK", "", b"")?,
            _ => respond(stream, "200 OK", "", b"hello")?,
        }
    }
}
