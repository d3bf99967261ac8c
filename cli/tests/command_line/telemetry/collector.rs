//! A server that takes spans, and as much of protocol buffers as they need.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

pub struct Collector {
    pub url: String,
    seen: Receiver<Request>,
}

pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

/// A span as it came.
#[derive(Debug, Default)]
pub struct Span {
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub name: String,
    pub kind: u64,
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Answers every request with `status`.
    pub fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Some(request) = read(&mut stream) {
                    let _ = sender.send(request);
                    let _ = write!(stream, "HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n");
                }
            }
        });
        Collector { url, seen }
    }

    /// What came so far: the process that sent it has ended.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.try_iter().collect()
    }
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = bytes.split_off(end);
    while body.len() < length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => body.extend_from_slice(&buffer[..length]),
        }
    }
    Some(Request { head, body })
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(number(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Number(u64::from_le_bytes(value.try_into().unwrap()))
            }
            2 => {
                let length = number(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(value)
            }
            5 => {
                bytes = &bytes[4..];
                continue;
            }
            kind => panic!("a field of kind {kind}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// The messages in one field of another.
fn below(bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    let bytes = fields(bytes).into_iter().filter(|(number, _)| *number == wanted);
    bytes.filter_map(|(_, field)| if let Field::Bytes(bytes) = field { Some(bytes) } else { None }).collect()
}

/// `KeyValue`s: a key, and a value that is a text, a truth, a number (with `#` before it) or a fraction.
fn attributes(values: &[&[u8]]) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for value in values {
        let key = String::from_utf8(below(value, 1)[0].to_vec()).unwrap();
        let shown = match fields(below(value, 2)[0]).into_iter().next() {
            Some((1, Field::Bytes(text))) => String::from_utf8_lossy(text).into_owned(),
            Some((2, Field::Number(value))) => (value != 0).to_string(),
            // A number, and no text of one.
            Some((3, Field::Number(value))) => format!("#{value}"),
            Some((4, Field::Number(value))) => f64::from_bits(value).to_string(),
            _ => String::new(),
        };
        read.insert(key, shown);
    }
    read
}

impl Request {
    /// What its spans are of.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let resource = below(below(&self.body, 1)[0], 1)[0];
        attributes(&below(resource, 1))
    }
}

/// The spans of a request.
pub fn spans(request: &Request) -> Vec<Span> {
    let mut spans = Vec::new();
    for scope in below(&request.body, 1).into_iter().flat_map(|resource| below(resource, 2)) {
        for bytes in below(scope, 2) {
            let mut span = Span { attributes: attributes(&below(bytes, 9)), ..Span::default() };
            for field in fields(bytes) {
                match field {
                    (1, Field::Bytes(bytes)) => span.trace = bytes.to_vec(),
                    (2, Field::Bytes(bytes)) => span.id = bytes.to_vec(),
                    (4, Field::Bytes(bytes)) => span.parent = bytes.to_vec(),
                    (5, Field::Bytes(bytes)) => span.name = String::from_utf8(bytes.to_vec()).unwrap(),
                    (6, Field::Number(kind)) => span.kind = kind,
                    _ => {}
                }
            }
            spans.push(span);
        }
    }
    spans
}
