//! Whom requests must come from, checked for every route before anything is read of a body.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, ORIGIN, VARY,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{HttpSettings, Token};

/// What needs no token: that the server is there is no secret.
const OPEN: &str = "/healthz";

pub(super) struct Guard {
    token: Option<Token>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub fn new(settings: &HttpSettings, address: SocketAddr) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let listened = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let hosts = own.into_iter().chain([listened]).chain(settings.hosts.iter().cloned());
        Guard {
            token: settings.token.clone(),
            hosts: hosts.map(|host| host.to_ascii_lowercase()).collect(),
            origins: settings.origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
        }
    }

    fn knows_host(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => host.to_str().ok(),
            (None, None) => request.uri().authority().map(|authority| authority.as_str()),
            _ => None,
        };
        let host = host.and_then(host_of).map(str::to_ascii_lowercase);
        host.is_some_and(|host| self.hosts.contains(&host))
    }

    /// The origin of a page that asks, or nothing if none does; an error if it may not.
    fn origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, ()> {
        let mut named = headers.get_all(ORIGIN).iter();
        let Some(origin) = named.next() else { return Ok(None) };
        let text = origin.to_str().map_err(|_| ())?.to_ascii_lowercase();
        match named.next().is_none() && self.origins.contains(&text) {
            true => Ok(Some(origin.clone())),
            false => Err(()),
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer ") && token.is(given)
    }
}

/// The host in `HOST` or `HOST:PORT`.
pub(super) fn host_of(authority: &str) -> Option<&str> {
    if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let rest = &authority[end..];
        return (rest.is_empty() || is_port(rest)).then(|| &authority[..end]);
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let rest = &authority[end..];
    (end > 0 && (rest.is_empty() || is_port(rest))).then(|| &authority[..end])
}

fn is_port(rest: &str) -> bool {
    rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Lets a request through to the routes, or refuses it.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let refuse = |status: StatusCode, why: &'static str| (status, why).into_response();
    if !guard.knows_host(&request) {
        return refuse(StatusCode::FORBIDDEN, "this server does not go by that name; see --allow-host\n");
    }
    let Ok(origin) = guard.origin(request.headers()) else {
        return refuse(
            StatusCode::FORBIDDEN,
            "pages of that origin may not use this server; see --allow-origin\n",
        );
    };
    let mut response = if origin.is_some() && request.method() == Method::OPTIONS {
        preflight()
    } else if request.uri().path() != OPEN && !guard.has_token(request.headers()) {
        let mut refused =
            refuse(StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        refused
    } else {
        next.run(request).await
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(VARY, HeaderValue::from_static("origin"));
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("mcp-session-id, mcp-protocol-version"),
        );
    }
    response
}

/// What browsers ask before a page may ask.
fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "accept, authorization, content-type, last-event-id, mcp-protocol-version, mcp-session-id",
        ),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_ports() {
        for (authority, host) in [
            ("localhost", Some("localhost")),
            ("localhost:80", Some("localhost")),
            ("127.0.0.1:65535", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[::1]:8080", Some("[::1]")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:80:80", None),
            ("a:99999", None),
            ("[::1", None),
            ("[::1]x", None),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }
}
