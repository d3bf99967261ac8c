//! One request and its response, within a deadline.

use wasip2::clocks::monotonic_clock::{Instant, now, subscribe_instant};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, StreamError};

use crate::url::{Url, shown};

/// Bytes that are read at once.
const BLOCK: u64 = 256 << 10;

/// A point in time at which everything has to be done.
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Instant,
    milliseconds: u32,
}

impl Deadline {
    pub fn in_milliseconds(milliseconds: u32) -> Self {
        Deadline { at: now().saturating_add(u64::from(milliseconds) * 1_000_000), milliseconds }
    }

    fn passed(self, url: &Url) -> String {
        format!(
            "`{}` took longer than {} ms; give more with `timeout_ms`",
            shown(&url.to_string()),
            self.milliseconds
        )
    }

    /// Waits for something.
    fn wait(self, ready: &Pollable, url: &Url) -> Result<(), String> {
        if now() < self.at && ready.ready() {
            return Ok(());
        }
        let timer = subscribe_instant(self.at);
        let done = poll(&[ready, &timer]);
        if done.contains(&0) { Ok(()) } else { Err(self.passed(url)) }
    }
}

/// A request that can be made again elsewhere.
#[derive(Clone)]
pub struct Request {
    pub method: String,
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

/// A response whose body is still to be read.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Whether its length is announced and nothing comes.
    head: bool,
    body: IncomingBody,
    url: Url,
    deadline: Deadline,
    // Its headers and body are parts of it.
    _response: IncomingResponse,
}

/// Makes a request, and waits for the head of its response.
pub fn send(request: &Request, deadline: Deadline) -> Result<Answer, String> {
    let url = &request.url;
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields.append(name, value.as_bytes()).map_err(|_| {
            format!("the header `{}` cannot be sent; the host sets it, or it is not well formed", shown(name))
        })?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let scheme = if url.secure { Scheme::Https } else { Scheme::Http };
    let set = outgoing
        .set_method(&method(&request.method))
        .map_err(|()| "method")
        .and_then(|()| outgoing.set_scheme(Some(&scheme)).map_err(|()| "scheme"))
        .and_then(|()| outgoing.set_authority(Some(&url.authority)).map_err(|()| "host"))
        .and_then(|()| outgoing.set_path_with_query(Some(&url.target)).map_err(|()| "path"));
    set.map_err(|part| {
        format!("`{} {}` has a {part} that cannot be sent", request.method, shown(&url.to_string()))
    })?;
    let sent = match &request.body {
        Some(_) => Some(outgoing.body().map_err(|()| "the request has no body")?),
        None => None,
    };
    let future = handle(outgoing, None).map_err(|error| failed(url, &error))?;
    if let (Some(sent), Some(bytes)) = (sent, &request.body) {
        write(sent, bytes, url, deadline)?;
    }
    deadline.wait(&future.subscribe(), url)?;
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Err(failed(url, &error)),
        _ => return Err(format!("`{}` gave no response", shown(&url.to_string()))),
    };
    let headers = response.headers().entries();
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let body = response.consume().map_err(|()| "the response has no body")?;
    let head = request.method == "HEAD";
    Ok(Answer {
        status: response.status(),
        headers,
        head,
        body,
        url: url.clone(),
        deadline,
        _response: response,
    })
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn write(body: OutgoingBody, bytes: &[u8], url: &Url, deadline: Deadline) -> Result<(), String> {
    let stream = body.write().map_err(|()| "the request has no body")?;
    let ready = stream.subscribe();
    let mut rest = bytes;
    while !rest.is_empty() {
        deadline.wait(&ready, url)?;
        let written = stream.check_write().and_then(|room| {
            let (now, later) = rest.split_at(rest.len().min(room as usize));
            rest = later;
            if now.is_empty() { Ok(()) } else { stream.write(now) }
        });
        match written {
            Ok(()) => {}
            // The response, if there is one, says why.
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(format!(
                    "`{}`: the body was not sent: {}",
                    shown(&url.to_string()),
                    error.to_debug_string()
                ));
            }
        }
    }
    match stream.flush() {
        Ok(()) => deadline.wait(&ready, url)?,
        Err(_) => return Ok(()),
    }
    drop(ready);
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| failed(url, &error))
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads the body to its end, block by block.
    pub fn read(
        &self,
        max_bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<u64, String> {
        let stream: InputStream = self.body.stream().map_err(|()| "the body was read already")?;
        let ready = stream.subscribe();
        let mut total = 0u64;
        loop {
            self.deadline.wait(&ready, &self.url)?;
            match stream.read(BLOCK) {
                Ok(bytes) => {
                    total += bytes.len() as u64;
                    if total > max_bytes {
                        return Err(self.too_large(max_bytes));
                    }
                    take(&bytes)?;
                }
                Err(StreamError::Closed) => return Ok(total),
                Err(StreamError::LastOperationFailed(error)) => {
                    let reason = error.to_debug_string();
                    return Err(format!(
                        "`{}`: the response broke off after {total} bytes: {reason}",
                        shown(&self.url.to_string())
                    ));
                }
            }
        }
    }

    pub fn too_large(&self, max_bytes: u64) -> String {
        format!(
            "the body of `{}` has more than {max_bytes} bytes; allow more with `max_bytes`, or use `download`",
            shown(&self.url.to_string())
        )
    }

    /// An error if a body that is announced would be too large.
    pub fn check_announced(&self, max_bytes: u64) -> Result<(), String> {
        let announced = self.header("content-length").and_then(|length| length.trim().parse::<u64>().ok());
        if !self.head && announced.is_some_and(|length| length > max_bytes) {
            Err(self.too_large(max_bytes))
        } else {
            Ok(())
        }
    }
}

/// What a request failed with.
fn failed(url: &Url, error: &ErrorCode) -> String {
    let url = shown(&url.to_string());
    let why = match error {
        ErrorCode::HttpRequestDenied => "the host does not allow this request".to_owned(),
        ErrorCode::DnsTimeout | ErrorCode::DnsError(_) => "the name of the host is not known".to_owned(),
        ErrorCode::DestinationNotFound | ErrorCode::DestinationUnavailable => {
            "the host is not there".to_owned()
        }
        ErrorCode::DestinationIpProhibited => "the host does not allow requests to this address".to_owned(),
        ErrorCode::DestinationIpUnroutable => "there is no way to this address".to_owned(),
        ErrorCode::ConnectionRefused => "the connection was refused".to_owned(),
        ErrorCode::ConnectionTerminated => "the connection was closed".to_owned(),
        ErrorCode::ConnectionTimeout | ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            "the server took too long".to_owned()
        }
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            format!("no safe connection could be made: {error:?}")
        }
        other => format!("{other:?}"),
    };
    format!("`{url}`: {why}")
}
