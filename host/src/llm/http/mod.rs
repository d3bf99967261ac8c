//! What the providers that are reached over HTTP share: one client, with limits, times and retries.

mod answer;
mod events;
mod failure;
mod key;
mod options;
mod retry;
mod schema;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use serde_json::Value;
use tokio::time::{sleep, timeout};

pub(super) use answer::Answer;
pub(super) use failure::Failure;
pub use key::Key;
pub use options::HttpOptions;
pub(super) use schema::{is_object, is_strict};

use self::events::Events;
use super::{Completion, ModelRequest, OnText, ProviderError, Tokens};
use crate::{Error, ErrorKind, Result};

/// How much of an error's body is read.
const ERROR_BYTES: usize = 64 << 10;

/// How long a connection that nobody uses is kept.
const KEEP: Duration = Duration::from_secs(30);

/// What one provider's API is like.
pub(super) trait Protocol: Send + Sync {
    /// Where a request goes.
    fn url(&self, request: &ModelRequest) -> std::result::Result<Url, ProviderError>;

    /// The body of a request.
    fn body(&self, request: &ModelRequest, stream: bool) -> Value;

    /// Reads a whole answer.
    fn read(&self, body: &Value, answer: &mut Answer) -> std::result::Result<(), Failure>;

    /// Reads one event of a streamed answer. What it adds to the text is passed on.
    fn event(&self, event: &Value, answer: &mut Answer) -> std::result::Result<(), Failure>;

    /// What to do about an answer of this status.
    fn advice(&self, status: u16, message: &str) -> Option<String>;
}

/// A client of one provider.
pub(super) struct Client {
    /// What the provider is called in messages.
    called: String,
    options: HttpOptions,
    headers: HeaderMap,
    /// All that must not be seen in what comes back.
    secrets: Vec<Key>,
    base: Url,
    http: OnceLock<std::result::Result<reqwest::Client, String>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that sends `key` in the header `auth` after `prefix`.
    pub fn new(
        called: String,
        base: &Url,
        options: HttpOptions,
        key: Option<(&'static str, &str, Key)>,
        extra: &[(&'static str, &'static str)],
    ) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in extra {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let mut secrets: Vec<Key> = options.headers.iter().map(|(_, value)| value.clone()).collect();
        if let Some((header, prefix, key)) = key {
            headers.insert(header, key.header(prefix, &format!("the key of {called}"))?);
            secrets.push(key);
        }
        options.add_headers(&mut headers)?;
        Ok(Client { called, options, headers, secrets, base: base.clone(), http: OnceLock::new() })
    }

    /// Made with the first request: reading the certificates of authorities takes its time, and most
    /// programs never ask a model.
    async fn http(&self) -> std::result::Result<&reqwest::Client, Failure> {
        if self.http.get().is_none() {
            let (base, connect) = (self.base.clone(), self.options.connect_timeout);
            let made = tokio::task::spawn_blocking(move || make(&base, connect))
                .await
                .unwrap_or_else(|_| Err("the HTTP client cannot be made".into()));
            // When two ask at once, one of the results serves.
            let _ = self.http.set(made);
        }
        match self.http.get() {
            Some(Ok(http)) => Ok(http),
            Some(Err(message)) => Err(Failure::setup(message.clone())),
            None => Err(Failure::setup("the HTTP client cannot be made".into())),
        }
    }

    /// Asks until there is an answer, or no use in asking.
    pub async fn complete(
        &self,
        protocol: &dyn Protocol,
        request: &ModelRequest,
        most_input: u64,
        mut on_text: Option<OnText<'_>>,
    ) -> std::result::Result<Completion, ProviderError> {
        let url = protocol.url(request)?;
        let body = Bytes::from(protocol.body(request, on_text.is_some()).to_string());
        let most = Tokens { input: most_input, output: request.max_tokens };
        for attempt in 1.. {
            let mut answer = Answer::new(on_text.as_mut().map(|on_text| &mut **on_text as _));
            let asked = self.attempt(protocol, &url, body.clone(), &mut answer);
            let failure = match timeout(self.options.timeout, asked).await {
                Ok(Ok(())) => {
                    let mut completion = answer.complete(request, most);
                    self.redact(&mut completion.text);
                    self.redact(&mut completion.model);
                    return Ok(completion);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::late(format!(
                    "gave no whole answer within {:?}; a longer `timeout` or a smaller `max_tokens` may help",
                    self.options.timeout
                )),
            };
            // What was shown cannot be taken back, so a second answer must not follow the first.
            let useful = failure.again && !answer.was_shown();
            // An answer that was lost may have been charged for: whoever counts must set aside more first.
            let again = useful && !failure.open && attempt <= self.options.retries;
            let backoff = retry::backoff(attempt, self.options.backoff, self.options.longest_backoff);
            let wait = failure.wait.unwrap_or_default().max(backoff);
            let too_long = failure.wait.is_some_and(|wait| wait > self.options.longest_wait);
            if again && !too_long {
                tracing::debug!(provider = %self.called, attempt, ?wait, status = failure.status, "asking again");
                sleep(wait).await;
                continue;
            }
            return Err(self.error(
                protocol,
                failure,
                Given { attempt, most, wait, useful, too_long: again && too_long },
            ));
        }
        unreachable!("the attempts end in an answer or an error")
    }

    async fn attempt(
        &self,
        protocol: &dyn Protocol,
        url: &Url,
        body: Bytes,
        answer: &mut Answer<'_>,
    ) -> std::result::Result<(), Failure> {
        let request = self.http().await?.post(url.clone()).headers(self.headers.clone()).body(body);
        let response = request.send().await.map_err(|error| Failure::of_sending(&error, url))?;
        let status = response.status();
        if status.is_redirection() {
            let message = "wants to send the request elsewhere, which is not followed since the key would go \
                           along; name the right base URL";
            return Err(Failure::answered(status.as_u16(), message.into()));
        }
        if !status.is_success() {
            let wait = retry::wanted_wait(response.headers(), SystemTime::now());
            let body = self.error_body(response).await;
            return Err(Failure::of_status(status.as_u16(), &body, wait));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        match kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream") {
            true => self.stream(protocol, response, answer).await,
            false => self.whole(protocol, response, answer).await,
        }
    }

    async fn whole(
        &self,
        protocol: &dyn Protocol,
        mut response: Response,
        answer: &mut Answer<'_>,
    ) -> std::result::Result<(), Failure> {
        let mut body = Vec::new();
        if response.content_length().is_some_and(|length| length > self.options.response_bytes as u64) {
            return Err(self.too_long());
        }
        while let Some(chunk) = self.chunk(&mut response, body.is_empty()).await? {
            if chunk.len() > self.options.response_bytes - body.len() {
                return Err(self.too_long());
            }
            body.extend_from_slice(&chunk);
        }
        let value = serde_json::from_slice(&body).map_err(|error| {
            Failure::nonsense(format!("gave an answer that is no JSON ({error}); is the base URL right?"))
        })?;
        if let Some(failure) = Failure::within(&value) {
            return Err(failure);
        }
        protocol.read(&value, answer)
    }

    async fn stream(
        &self,
        protocol: &dyn Protocol,
        mut response: Response,
        answer: &mut Answer<'_>,
    ) -> std::result::Result<(), Failure> {
        let mut events = Events::default();
        let mut length = 0;
        let mut on_data = |data: &str| {
            if data.trim() == "[DONE]" {
                answer.done = true;
            }
            if answer.done {
                return Ok(());
            }
            let value = serde_json::from_str(data).map_err(|error| {
                Failure::nonsense(format!("gave a streamed answer with an event that is no JSON ({error})"))
            })?;
            if let Some(failure) = Failure::within(&value) {
                return Err(failure);
            }
            protocol.event(&value, answer)
        };
        while let Some(chunk) = self.chunk(&mut response, length == 0).await? {
            length += chunk.len();
            if length > self.options.response_bytes {
                return Err(self.too_long());
            }
            events.feed(&chunk, &mut on_data)?;
        }
        events.finish(&mut on_data)?;
        match answer.done || answer.stop.is_some() {
            true => Ok(()),
            false => Err(Failure::lost("ended its streamed answer in the middle".into())),
        }
    }

    async fn chunk(
        &self,
        response: &mut Response,
        first: bool,
    ) -> std::result::Result<Option<Bytes>, Failure> {
        let came = match first {
            true => response.chunk().await,
            false => timeout(self.options.idle_timeout, response.chunk()).await.map_err(|_| {
                Failure::lost(format!(
                    "stopped for {:?} in the middle of its answer",
                    self.options.idle_timeout
                ))
            })?,
        };
        came.map_err(|error| {
            Failure::lost(format!("broke the connection in its answer: {}", failure::cause(&error)))
        })
    }

    /// The beginning of an error's body, as much of it as comes in time.
    async fn error_body(&self, mut response: Response) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < ERROR_BYTES {
            match timeout(self.options.idle_timeout, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                _ => break,
            }
        }
        body.truncate(ERROR_BYTES);
        body
    }

    fn too_long(&self) -> Failure {
        Failure::nonsense(format!("gave an answer of more than {} bytes", self.options.response_bytes))
    }

    fn redact(&self, text: &mut String) {
        self.secrets.iter().for_each(|secret| secret.redact(text));
    }

    fn error(&self, protocol: &dyn Protocol, failure: Failure, given: Given) -> ProviderError {
        let mut said = failure.message;
        // Before it is cut: half a key is a secret as well.
        self.redact(&mut said);
        let mut message = format!("{} {}", self.called, failure::tidy(&said));
        if let Some(advice) = failure.status.and_then(|status| protocol.advice(status, &said)) {
            message = format!("{message}; {advice}");
        }
        if given.too_long {
            message = format!(
                "{message}; it asks to be left alone for {:?}, longer than the {:?} that are waited at most",
                given.wait, self.options.longest_wait
            );
        }
        if given.attempt > 1 {
            message = format!("{message} (after {} attempts)", given.attempt);
        }
        let mut error = ProviderError::new(message);
        error.status = failure.status;
        error.attempts = given.attempt;
        error.charged = failure.open.then_some(given.most);
        error.retry = given.useful.then_some(given.wait);
        error.refused = failure.refused;
        error
    }
}

/// What is known when it is given up.
struct Given {
    attempt: u32,
    most: Tokens,
    wait: Duration,
    /// Whether another attempt may end better.
    useful: bool,
    too_long: bool,
}

fn make(base: &Url, connect_timeout: Duration) -> std::result::Result<reqwest::Client, String> {
    let config = match base.scheme() {
        "https" => rustls::ClientConfig::clone(&*crate::tool::client_config()?),
        // For a server in plain text, no certificates are read. A proxy that speaks TLS is refused then.
        _ => rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    };
    let builder = reqwest::Client::builder();
    // This machine is never on the other side of a proxy.
    let builder = if is_here(base) { builder.no_proxy() } else { builder };
    builder
        .tls_backend_preconfigured(config)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(KEEP)
        .redirect(Policy::none())
        .referer(false)
        .http1_only()
        .user_agent(concat!("agentkernel/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the HTTP client cannot be made: {}", failure::cause(&error)))
}

/// Whether a URL leads to this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A base URL, without the slashes at its end.
pub(super) fn base_url(text: &str) -> Result<Url> {
    let wrong = |problem: &str, hint: &str| {
        Err(Error::new(ErrorKind::Model, format!("the base URL {problem}")).hint(hint))
    };
    let example = "write it as in `https://api.example.com/v1`";
    let Ok(mut url) = Url::parse(text.trim()) else { return wrong("is not a URL", example) };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return wrong("is not one of http or https", example);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a user or a password in it", "give the key as a key");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a query or a fragment", example);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// `base` with `path` after its own.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// What a server is called by where it is.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("the server at {host}:{port}"),
        None => format!("the server at {host}"),
    }
}
