//! `wasi:http` of a tool: every request is checked against the rules it was granted, goes to an
//! address that was checked, and is counted.

mod address;
mod body;
mod connection;
mod rule;
mod secret;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, Uri};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

#[cfg(any(feature = "mcp", feature = "providers"))]
pub(crate) use connection::client_config;
pub(crate) use connection::{Network, Resolve};
pub use rule::HttpRule;
pub(super) use rule::Target;
pub use secret::Secret;
pub(super) use secret::{Mask, Withheld, is_name, put_in};

use super::denials::Denials;
use super::names::literal;
use super::{ToolGrants, ToolLimits};
use crate::ErrorKind;
use connection::{Lease, Pool};
use rule::Reach;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a connection that was used may take to be ready for another request.
const SETTLE: Duration = Duration::from_millis(50);

/// How long a tool without a time limit waits for a server.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a tool has used of its limits in one session, whatever became of its instances.
#[derive(Default)]
pub(crate) struct HttpUsage {
    requests: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What a store needs for `wasi:http`.
pub(super) struct HttpCtx {
    pub ctx: WasiHttpCtx,
    pub hooks: Hooks,
}

impl HttpCtx {
    pub fn new(
        grants: &Arc<ToolGrants>,
        network: &Arc<Network>,
        usage: &Arc<HttpUsage>,
        denials: &Denials,
    ) -> Self {
        let outgoing = Outgoing {
            grants: Arc::clone(grants),
            network: Arc::clone(network),
            usage: Arc::clone(usage),
            permits: Arc::new(Semaphore::new(grants.limits.concurrent_requests as usize)),
            pool: Pool::default(),
            denials: denials.clone(),
        };
        HttpCtx { ctx: WasiHttpCtx::new(), hooks: Hooks(Arc::new(outgoing)) }
    }
}

/// All that the requests of one instance share.
pub(super) struct Outgoing {
    grants: Arc<ToolGrants>,
    network: Arc<Network>,
    usage: Arc<HttpUsage>,
    permits: Arc<Semaphore>,
    pool: Pool,
    denials: Denials,
}

/// A request that may be sent.
struct Admitted {
    request: Request<WasiBody>,
    target: Target,
    reach: Reach,
    /// The secrets that are in it.
    secrets: Vec<Vec<u8>>,
}

impl Outgoing {
    fn limits(&self) -> &ToolLimits {
        &self.grants.limits
    }

    fn count_sent(&self, bytes: usize) -> bool {
        let limit = self.limits().sent_bytes;
        let more = |sent: u64| sent.checked_add(bytes as u64).filter(|sent| *sent <= limit);
        let holds = self.usage.sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !holds {
            self.denials.exhausted(&format!("would have sent more than {limit} bytes over HTTP"), "max-sent");
        }
        holds
    }

    fn count_received(&self, bytes: usize) -> bool {
        let before = self.usage.received.fetch_add(bytes as u64, Ordering::Relaxed);
        let limit = self.limits().received_bytes;
        let holds = before.saturating_add(bytes as u64) <= limit;
        if !holds {
            self.denials
                .exhausted(&format!("has received more than {limit} bytes over HTTP"), "max-received");
        }
        holds
    }

    /// Checks a request before anything of it leaves, and makes it what goes over the wire.
    fn admit(self: &Arc<Self>, mut request: Request<WasiBody>) -> Result<Admitted, Error> {
        let target = Target::of(request.uri()).map_err(|why| {
            self.denials.add(format!("a request was not sent: {why}"));
            Error::HttpRequestUriInvalid
        })?;
        let path = match request.uri().path() {
            "" => "/",
            path => path,
        };
        let method = request.method().as_str();
        let reach = rule::decide(&self.grants.http, method, &target, path).map_err(|missing| {
            match missing {
                Some(rule) => {
                    let what = format!(
                        "http {method} to {}://{}",
                        request.uri().scheme_str().unwrap_or_default(),
                        target.authority()
                    );
                    let path = if rule.contains(path) && path != "/" { path } else { "" };
                    self.denials
                        .deny(&format!("{what}{}", shown(path)), &format!("http = [{}]", literal(&rule)));
                }
                None => self.denials.add(format!("http {method} can be granted to no tool")),
            }
            Error::HttpRequestDenied
        })?;
        let limit = self.limits().requests;
        if self
            .usage
            .requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sent| (sent < limit).then_some(sent + 1))
            .is_err()
        {
            self.denials
                .exhausted(&format!("has sent {limit} HTTP requests in this session"), "max-requests");
            return Err(Error::HttpRequestDenied);
        }
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let uri: Uri = format!("{path}{query}").parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        *request.uri_mut() = uri;
        let host = HeaderValue::try_from(target.authority()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        let secrets = put_in(&self.grants.secrets, headers, &target).map_err(|withheld| match withheld {
            Withheld::Elsewhere(name) => {
                self.denials.add(format!(
                    "the secret `{name}` may not be sent to `{target}`; to send it there, name the host in `hosts` \
                     of `secrets.{name}` in agentkernel.toml"
                ));
                Error::HttpRequestDenied
            }
            Withheld::TooLong => Error::HttpRequestHeaderSize { field_name: None, field_size: None },
        })?;
        if !secrets.is_empty() {
            // What is compressed cannot be searched for them.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if !self.count_sent(head + path_length(request.uri())) {
            return Err(Error::HttpRequestDenied);
        }
        let (parts, inner) = request.into_parts();
        let body = match hyper::body::Body::is_end_stream(&inner) {
            true => inner,
            false => WasiBody::new(body::Sent { inner, outgoing: Arc::clone(self) }),
        };
        Ok(Admitted { request: Request::from_parts(parts, body), target, reach, secrets })
    }

    async fn send(
        self: Arc<Self>,
        admitted: Admitted,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let Admitted { mut request, target, reach, secrets } = admitted;
        let patience = self.limits().timeout.unwrap_or(PATIENCE).max(Duration::from_millis(1));
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::ConnectionLimitReached)?;
        let permit = Arc::new(permit);
        let key = (target, reach);
        let first_byte = options.first_byte_timeout.unwrap_or(patience).min(patience);
        let (connection, response) = loop {
            let kept = self.pool.take(&key);
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(mut connection) => {
                    // It may yet have to notice that it can be used again, or be held up by its last request.
                    match tokio::time::timeout(SETTLE, connection.sender.ready()).await {
                        Ok(Ok(())) => connection,
                        _ => continue,
                    }
                }
                None => {
                    let limit = options.connect_timeout.unwrap_or(CONNECT).min(patience);
                    let connected = connection::connect(&self.network, &key.0, reach, &permit, &self.denials);
                    tokio::time::timeout(limit, connected).await.map_err(|_| Error::ConnectionTimeout)??
                }
            };
            let again = is_kept.then(|| repeatable(&request)).flatten();
            match tokio::time::timeout(first_byte, connection.sender.try_send_request(request)).await {
                Ok(Ok(response)) => break (connection, response),
                // The server has closed the connection meanwhile, as it may at any time: before the request
                // was sent, or just then.
                Ok(Err(mut error)) => match (error.take_message().filter(|_| is_kept), again) {
                    (Some(unsent), _) => request = unsent,
                    (None, Some(same)) if !error.error().is_parse() => request = same,
                    _ => return Err(error.into_error().into()),
                },
                Err(_) => return Err(Error::ConnectionReadTimeout),
            }
        };
        let (mut parts, incoming) = response.into_parts();
        let head: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if !self.count_received(head) {
            return Err(Error::HttpResponseHeaderSectionSize(None));
        }
        let mask = Mask::new(secrets);
        if let Some(mask) = &mask {
            mask.headers(&mut parts.headers);
        }
        let between_bytes = options.between_bytes_timeout.unwrap_or(patience).min(patience);
        let lease = Lease { connection, key, _permit: permit };
        let body = body::Received::new(incoming, Arc::clone(&self), lease, mask, between_bytes);
        Ok(Response::from_parts(parts, WasiBody::new(body)))
    }
}

/// The same request once more, if sending it twice does what sending it once does.
fn repeatable(request: &Request<WasiBody>) -> Option<Request<WasiBody>> {
    if !request.method().is_safe() || !hyper::body::Body::is_end_stream(request.body()) {
        return None;
    }
    let mut same = Request::new(WasiBody::default());
    *same.method_mut() = request.method().clone();
    *same.uri_mut() = request.uri().clone();
    *same.headers_mut() = request.headers().clone();
    Some(same)
}

fn path_length(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |path| path.as_str().len())
}

/// A path for a message, in bounds.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

/// What `wasi:http` asks the host about.
pub(super) struct Hooks(Arc<Outgoing>);

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Worker,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Worker), Error>> + Send> {
        let outgoing = Arc::clone(&self.0);
        let admitted = outgoing.admit(request);
        Box::new(async move {
            let response = outgoing.send(admitted?, options.unwrap_or_default()).await?;
            Ok((response, Box::new(async { Ok(()) }) as Worker))
        })
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_incomplete_message() {
            ErrorCode::HttpResponseIncomplete
        } else if error.is_parse_too_large() {
            ErrorCode::HttpResponseHeaderSectionSize(None)
        } else if error.is_closed() || error.is_canceled() || is_io(error) {
            ErrorCode::ConnectionTerminated
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    fn p2_error_from_connect(&mut self, error: &std::io::Error) -> ErrorCode {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            std::io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                ErrorCode::DestinationUnavailable
            }
            _ => ErrorCode::ConnectionTerminated,
        }
    }

    fn p2_error_from_tls(&mut self, error: &std::io::Error) -> ErrorCode {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            Some(_) => ErrorCode::TlsProtocolError,
            None => ErrorCode::ConnectionTerminated,
        }
    }
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// Refuses secrets that could never be put in.
pub(super) fn check(grants: &ToolGrants) -> crate::Result<()> {
    let wrong = |message: String, hint: String| Err(crate::Error::new(ErrorKind::Grant, message).hint(hint));
    for (name, secret) in &grants.secrets {
        if !is_name(name) {
            return wrong(
                format!("`{name}` cannot be the name of a secret"),
                "name it with letters, digits and `_`; requests say `{{NAME}}`".into(),
            );
        }
        if let Some(host) =
            secret.hosts().iter().find(|host| !grants.http.iter().any(|rule| rule.covers(host)))
        {
            return wrong(
                format!("the secret `{name}` is for `{host}`, where no rule lets requests go"),
                format!("add a rule: `http = [\"{host}\"]`, or take the host away"),
            );
        }
    }
    Ok(())
}
