//! HTTP requests: see `wit/http.wit`.

mod exchange;
mod gzip;
mod url;

use std::fs::{self, File};
use std::io::{self, Write};

use exchange::{Answer, Deadline, Request, send};
use exports::agentkernel::http::http::{Guest, Response};
use url::{Url, shown};

wit_bindgen::generate!({ world: "tool", path: "wit" });

struct Tool;

export!(Tool);

type Headers = Vec<(String, String)>;

const MAX_REDIRECTS: usize = 10;
const TIMEOUT_MS: u32 = 30_000;
/// Bytes that a body may have that is handed to the program.
const BODY_BYTES: u64 = 32 << 20;
/// Bytes that a file may have.
const FILE_BYTES: u64 = 1 << 30;

/// Makes a request and those it is redirected to.
fn follow(mut request: Request, deadline: Deadline) -> Result<(Answer, Url), String> {
    for _ in 0..=MAX_REDIRECTS {
        let answer = send(&request, deadline)?;
        let location = match answer.status {
            301 | 302 | 303 | 307 | 308 => answer.header("location"),
            _ => None,
        };
        let Some(location) = location else { return Ok((answer, request.url)) };
        let next = request.url.join(location)?;
        let turned = match answer.status {
            303 => request.method != "HEAD",
            // What browsers do, and servers count on.
            301 | 302 => request.method == "POST",
            _ => false,
        };
        if turned {
            "GET".clone_into(&mut request.method);
            request.body = None;
            request.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("content-"));
        }
        if !next.same_origin(&request.url) {
            // Meant for the first host alone.
            let secret = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
            request
                .headers
                .retain(|(name, _)| !secret.iter().any(|secret| name.eq_ignore_ascii_case(secret)));
        }
        request.url = next;
    }
    Err(format!("`{}`: more than {MAX_REDIRECTS} redirects", shown(&request.url.to_string())))
}

fn request(
    url: &str,
    method: Option<String>,
    headers: Option<Headers>,
    body: Option<Vec<u8>>,
) -> Result<Request, String> {
    let method = method.unwrap_or_else(|| "GET".into()).to_ascii_uppercase();
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(format!("`{}` is not a method of HTTP, such as GET or POST", shown(&method)));
    }
    if body.is_some() && matches!(method.as_str(), "GET" | "HEAD") {
        return Err(format!("a {method} request has no body; give a method, such as \"POST\""));
    }
    let mut headers = headers.unwrap_or_default();
    if let Some(body) = &body {
        put(&mut headers, "content-length", &body.len().to_string());
    }
    put(&mut headers, "user-agent", concat!("agentkernel-http/", env!("CARGO_PKG_VERSION")));
    put(&mut headers, "accept", "*/*");
    Ok(Request { method, url: Url::parse(url)?, headers, body })
}

/// Adds a header if the caller gave none of this name.
fn put(headers: &mut Headers, name: &str, value: &str) {
    if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
        headers.push((name.into(), value.into()));
    }
}

/// Reads the body, and unpacks it.
fn body(answer: &mut Answer, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    answer.check_announced(max_bytes)?;
    answer.read(max_bytes, |more| {
        bytes
            .try_reserve(more.len())
            .map_err(|_| "the body is larger than there is memory for; use `download`")?;
        bytes.extend_from_slice(more);
        Ok(())
    })?;
    let packed = answer
        .header("content-encoding")
        .is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("gzip"));
    if packed && !bytes.is_empty() {
        let limit = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        bytes = gzip::unpack(&bytes, limit).map_err(|failed| match failed {
            gzip::Failed::Broken => "the body says it is gzip, and is broken".to_owned(),
            gzip::Failed::TooLarge => answer.too_large(max_bytes),
        })?;
        // They are about what was sent.
        answer.headers.retain(|(name, _)| name != "content-encoding" && name != "content-length");
    }
    Ok(bytes)
}

/// The text of a body, by the character set that its type names.
fn text(bytes: Vec<u8>, content_type: Option<&str>) -> String {
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    let charset = kind.split("charset=").nth(1).unwrap_or_default();
    let charset = charset.split([';', ' ']).next().unwrap_or_default().trim_matches(['"', '\'']);
    if matches!(charset, "iso-8859-1" | "latin1" | "latin-1" | "us-ascii") {
        return bytes.into_iter().map(char::from).collect();
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// An error for a status that is one, with the beginning of what the server says.
fn succeeded(answer: &Answer, url: &Url) -> Result<(), String> {
    if answer.status < 400 {
        return Ok(());
    }
    let mut said = Vec::new();
    // What cannot be read is not told.
    let _ = answer.read(64 << 10, |more| {
        said.extend_from_slice(more);
        Ok(())
    });
    let mut said = if answer.header("content-encoding").is_some() { String::new() } else { text(said, None) };
    said.retain(|c| !c.is_control() || c == ' ');
    let said: String = said.chars().take(200).collect();
    let colon = if said.is_empty() { "" } else { ": " };
    Err(format!("`{}` answered with status {}{colon}{said}", shown(&url.to_string()), answer.status))
}

impl Guest for Tool {
    fn fetch(
        url: String,
        method: Option<String>,
        headers: Option<Headers>,
        body: Option<Vec<u8>>,
        timeout_ms: Option<u32>,
        max_bytes: Option<u64>,
    ) -> Result<Response, String> {
        let mut request = request(&url, method, headers, body)?;
        put(&mut request.headers, "accept-encoding", "gzip");
        let (mut answer, url) = follow(request, Deadline::in_milliseconds(timeout_ms.unwrap_or(TIMEOUT_MS)))?;
        let body = self::body(&mut answer, max_bytes.unwrap_or(BODY_BYTES))?;
        Ok(Response { status: answer.status, url: url.to_string(), headers: answer.headers, body })
    }

    fn get_text(url: String, headers: Option<Headers>, timeout_ms: Option<u32>) -> Result<String, String> {
        let mut request = request(&url, None, headers, None)?;
        put(&mut request.headers, "accept-encoding", "gzip");
        let (mut answer, url) = follow(request, Deadline::in_milliseconds(timeout_ms.unwrap_or(TIMEOUT_MS)))?;
        succeeded(&answer, &url)?;
        let kind = answer.header("content-type").map(str::to_owned);
        Ok(text(body(&mut answer, BODY_BYTES)?, kind.as_deref()))
    }

    fn download(
        url: String,
        path: String,
        headers: Option<Headers>,
        timeout_ms: Option<u32>,
        max_bytes: Option<u64>,
    ) -> Result<u64, String> {
        let wrong = |error: io::Error| common::explain("write", &path, &error);
        let target = common::resolve(&path)?;
        if target.is_dir() {
            return Err(wrong(io::ErrorKind::IsADirectory.into()));
        }
        let mut request = request(&url, None, headers, None)?;
        put(&mut request.headers, "accept-encoding", "identity");
        let (answer, url) = follow(request, Deadline::in_milliseconds(timeout_ms.unwrap_or(TIMEOUT_MS)))?;
        succeeded(&answer, &url)?;
        let encoding = answer
            .header("content-encoding")
            .filter(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"));
        if let Some(encoding) = encoding {
            return Err(format!(
                "`{}` is sent as {encoding}, which was not asked for; use `fetch`",
                shown(&url.to_string())
            ));
        }
        let max_bytes = max_bytes.unwrap_or(FILE_BYTES);
        answer.check_announced(max_bytes)?;
        let beside = common::beside(&target);
        let mut file = File::create(&beside).map_err(wrong)?;
        let read = answer.read(max_bytes, |more| file.write_all(more).map_err(wrong));
        drop(file);
        let done = read.and_then(|total| fs::rename(&beside, &target).map_err(wrong).map(|()| total));
        done.inspect_err(|_| {
            let _ = fs::remove_file(&beside);
        })
    }
}
