//! The HTTP server on loopback that `http.py` talks to: it answers as servers do, and as they should not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Starts a server that lives as long as the process, and says where it is.
pub fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that the client gives up is no failure of the server.
            std::thread::spawn(move || serve(&stream).ok());
        }
    });
    address
}

/// Serves one connection, until either side closes it.
fn serve(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        if !answer(stream, &request)? {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    target: String,
    /// The headers as they came, their names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// The next request, unless there is none.
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
        reader.read_exact(&mut body)?;
        Ok(Some(Request { method, target, headers, body }))
    }

    /// What the server saw, in JSON.
    fn echo(&self) -> Vec<u8> {
        let own = self.headers.iter().filter(|(name, _)| name == "x-own");
        let seen = serde_json::json!({
            "method": self.method,
            "path": self.target,
            "length": self.body.len(),
            "own": own.map(|(_, value)| value).collect::<Vec<_>>(),
            "headers": self.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
        });
        seen.to_string().into_bytes()
    }
}

/// Answers a request, and says whether the connection serves another.
fn answer(mut stream: &TcpStream, request: &Request) -> std::io::Result<bool> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let path = path.trim_start_matches('/');
    let (name, argument) = path.split_once('/').unwrap_or((path, ""));
    let number = || argument.parse::<usize>().unwrap();
    let respond = |status: u16, headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} \r\ncontent-length: {length}\r\n{headers}\r\n");
        let body = if request.method == "HEAD" { b"" } else { body };
        (&*stream).write_all(&[head.as_bytes(), body].concat())
    };
    let redirect = |status: u16, to: &str| respond(status, &format!("location: {to}\r\n"), b"");
    match name {
        "echo" => respond(200, "content-type: application/json\r\n", &request.echo())?,
        "status" => respond(argument.parse().unwrap(), "content-type: text/plain\r\n", b"not here")?,
        "bytes" => respond(200, "", &vec![b'x'; number()])?,
        "gzip" => respond(200, "content-encoding: gzip\r\n", &gzip(number()))?,
        "broken-gzip" => {
            let whole = gzip(1000);
            respond(200, "content-encoding: gzip\r\n", &whole[..whole.len() - 3])?;
        }
        "latin" => respond(200, "content-type: text/plain; charset=ISO-8859-1\r\n", b"caf\xe9")?,
        "utf8" => respond(200, "content-type: text/plain\r\n", "\u{feff}café".as_bytes())?,
        "redirect" if number() == 1 => redirect(302, "/echo")?,
        "redirect" => redirect(302, &format!("/redirect/{}", number() - 1))?,
        "to" => redirect(301, "echo?moved#part")?,
        "see-other" => redirect(303, "/echo")?,
        "keep" => redirect(307, "/echo")?,
        "loop" => redirect(302, "/loop")?,
        "redirect-to" => redirect(302, query)?,
        "chunked" => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
            for part in [head, "4\r\none \r\n", "9\r\ntwo three\r\n", "0\r\n\r\n"] {
                stream.write_all(part.as_bytes())?;
                std::thread::sleep(Duration::from_millis(10));
            }
            return Ok(false);
        }
        "cut" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this")?;
            return Ok(false);
        }
        "slow" => {
            std::thread::sleep(Duration::from_secs(3));
            respond(200, "", b"")?;
        }
        "trickle" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
            for _ in 0..30 {
                stream.write_all(b"x")?;
                std::thread::sleep(Duration::from_millis(100));
            }
            return Ok(false);
        }
        _ => respond(404, "", b"")?,
    }
    Ok(true)
}

/// That many times the letter `x`, as small as gzip gets it (RFC 1951 and 1952).
fn gzip(count: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut filled) = (0u32, 0);
    let mut put = |value: u32, width: u32| {
        bits |= value << filled;
        filled += width;
        while filled >= 8 {
            bytes.push(bits as u8);
            bits >>= 8;
            filled -= 8;
        }
    };
    // The last block, with the fixed codes. Codes have their highest bit first, all else its lowest.
    put(1, 1);
    put(1, 2);
    let literal = u32::from((0x30 + b'x').reverse_bits());
    let copies = count.saturating_sub(1) / 258;
    for _ in 0..count - 258 * copies {
        put(literal, 8);
    }
    for _ in 0..copies {
        // Symbol 285: the 258 bytes that begin one back, the distance of symbol 0.
        put(u32::from(0xc5_u8.reverse_bits()), 8);
        put(0, 5);
    }
    // The end of the block, and of its last byte.
    put(0, 7);
    put(0, 7);
    bytes.extend_from_slice(&checksum(count).to_le_bytes());
    bytes.extend_from_slice(&(count as u32).to_le_bytes());
    bytes
}

/// The CRC-32 of that many times the letter `x`.
fn checksum(count: usize) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !(0..count).fold(!0, |crc, _| (0..8).fold(crc ^ u32::from(b'x'), step))
}
