//! A tool for tests: see `wit/fetch.wit`.

use exports::test::fetch::machine::Guest as Machine;
use exports::test::fetch::requests::{Guest as Requests, Headers, Response};
use wasi::http::outgoing_handler::handle;
use wasi::http::types::{Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasi::io::streams::StreamError;

wit_bindgen::generate!({ world: "fetch", path: "wit" });

struct Fetch;

export!(Fetch);

struct Place<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

fn place(url: &str) -> Result<Place<'_>, String> {
    let (scheme, rest) = url.split_once("://").ok_or("not a URL")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Ok(Place { scheme, authority, path })
}

fn start(method: &str, place: &Place, headers: &Headers, body: Option<&[u8]>) -> Result<FutureIncomingResponse, String> {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).map_err(|error| format!("header {name}: {error}"))?;
    }
    let request = OutgoingRequest::new(fields);
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "TRACE" => Method::Trace,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match place.scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "invalid method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "invalid scheme")?;
    request.set_authority(Some(place.authority)).map_err(|()| "invalid authority")?;
    request.set_path_with_query(Some(place.path)).map_err(|()| "invalid path")?;
    let outgoing = body.map(|_| request.body().expect("the body is taken once"));
    let response = handle(request, None).map_err(|error| format!("{error:?}"))?;
    if let (Some(outgoing), Some(body)) = (outgoing, body) {
        write(outgoing, body)?;
    }
    Ok(response)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), String> {
    let stream = body.write().expect("the stream is taken once");
    for chunk in bytes.chunks(4096) {
        match stream.blocking_write_and_flush(chunk) {
            Ok(()) => {}
            // The response says why.
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| format!("{error:?}"))
}

fn read(response: FutureIncomingResponse, mut keep: impl FnMut(&[u8])) -> Result<(u16, Headers), String> {
    response.subscribe().block();
    let response = response.get().expect("it is ready").expect("it is taken once").map_err(|error| format!("{error:?}"))?;
    let headers = response.headers().entries();
    let headers =
        headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let status = response.status();
    let body = response.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    loop {
        match stream.blocking_read(1 << 20) {
            Ok(bytes) => keep(&bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    Ok((status, headers))
}

fn exchange(method: &str, place: &Place, headers: &Headers, body: Option<&[u8]>) -> Result<Response, String> {
    let response = start(method, place, headers, body)?;
    let mut body = Vec::new();
    let (status, headers) = read(response, |bytes| body.extend_from_slice(bytes))?;
    Ok(Response { status, headers, body })
}

impl Requests for Fetch {
    fn fetch(method: String, url: String, headers: Headers, body: Option<Vec<u8>>) -> Result<Response, String> {
        exchange(&method, &place(&url)?, &headers, body.as_deref())
    }

    fn follow(url: String, headers: Headers) -> Result<Response, String> {
        let mut url = url;
        loop {
            let response = exchange("GET", &place(&url)?, &headers, None)?;
            match response.headers.iter().find(|(name, _)| name == "location") {
                Some((_, to)) if (300..400).contains(&response.status) => url = to.clone(),
                _ => return Ok(response),
            }
        }
    }

    fn raw(scheme: String, authority: String, path: String) -> Result<Response, String> {
        exchange("GET", &Place { scheme: &scheme, authority: &authority, path: &path }, &Vec::new(), None)
    }

    fn many(url: String, count: u32) -> Result<u32, String> {
        let place = place(&url)?;
        let started: Result<Vec<_>, _> = (0..count).map(|_| start("GET", &place, &Vec::new(), None)).collect();
        let read = started?.into_iter().map(|response| read(response, |_| {}));
        Ok(read.filter(|response| response.is_ok()).count() as u32)
    }

    fn drain(url: String) -> Result<u64, String> {
        let mut length = 0;
        read(start("GET", &place(&url)?, &Vec::new(), None)?, |bytes| length += bytes.len() as u64)?;
        Ok(length)
    }

    fn send(url: String, bytes: u64) -> Result<u16, String> {
        Ok(exchange("POST", &place(&url)?, &Vec::new(), Some(&vec![b'x'; bytes as usize]))?.status)
    }

    fn status(url: String) -> u16 {
        place(&url).and_then(|place| exchange("GET", &place, &Vec::new(), None)).map_or(0, |response| response.status)
    }

    fn must(url: String) -> u16 {
        place(&url).and_then(|place| exchange("GET", &place, &Vec::new(), None)).unwrap().status
    }
}

impl Machine for Fetch {
    fn seconds() -> u64 {
        wasi::clocks::wall_clock::now().seconds
    }

    fn wait(milliseconds: u64) -> bool {
        let before = wasi::clocks::monotonic_clock::now();
        wasi::clocks::monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
        wasi::clocks::monotonic_clock::now() - before >= milliseconds * 1_000_000
    }

    fn random(count: u64) -> Vec<u8> {
        wasi::random::random::get_random_bytes(count)
    }

    fn insecure() -> (u64, u64, u64) {
        let (one, other) = wasi::random::insecure_seed::insecure_seed();
        (wasi::random::insecure::get_insecure_random_u64(), one, other)
    }

    fn connect(address: String) -> Result<(), String> {
        std::net::TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
    }

    fn datagram() -> Result<(), String> {
        std::net::UdpSocket::bind("0.0.0.0:0").map(drop).map_err(|error| error.to_string())
    }

    fn write(path: String, text: String) -> Result<(), String> {
        std::fs::write(path, text).map_err(|error| error.to_string())
    }
}
