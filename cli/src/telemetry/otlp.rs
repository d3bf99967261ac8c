//! `--otlp URL`: spans for an OpenTelemetry collector, over HTTP with protocol buffers.
//!
//! The SDK's thread sends them, by a client of ours that drives its requests on that thread: nothing else runs
//! for it. A collector that cannot be reached is told at the end.

use std::env;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use reqwest::Url;
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::failure::{Failure, Result};

/// The time for one request, and for all that is left when the process ends.
const REQUEST: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(3);

/// Spans that wait to be sent; more are dropped.
const WAITING: usize = 16_384;

/// Bytes of a collector's answer that are read.
const ANSWER_BYTES: usize = 64 << 10;

/// Where the variables of OpenTelemetry say that spans go.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const DEFAULT: &str = "http://localhost:4318";

/// What ends the sending.
pub struct Collector {
    provider: SdkTracerProvider,
    problem: Problem,
    shown: String,
}

/// What went wrong last.
type Problem = Arc<Mutex<Option<String>>>;

/// Where spans are sent for `named`, a URL or `env`.
///
/// # Errors
///
/// When it is none, or may not be where headers of the environment go.
pub(super) fn endpoint(named: &str, of_file: bool) -> Result<Url> {
    let given = |name: &&str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let url = match named {
        "env" => match (given(&ENDPOINTS[0]), given(&ENDPOINTS[1])) {
            (Some(whole), _) => url(&whole)?,
            (None, base) => traces(url(&base.unwrap_or(DEFAULT.to_owned()))?),
        },
        named => traces(url(named)?),
    };
    // They may be keys, and a file in a directory of somebody else's must not say where they go.
    if of_file
        && named != "env"
        && let Some(headers) = HEADERS.iter().find(|name| given(name).is_some())
    {
        return Err(Failure::new(format!(
            "the configuration says by `otlp` to which server {headers} of the environment is sent"
        ))
        .hint("name the server by `--otlp`, or write `otlp = \"env\"` and set OTEL_EXPORTER_OTLP_ENDPOINT"));
    }
    Ok(url)
}

/// A layer that sends spans to `named`, a URL or `env`.
pub fn start<S>(named: &str, of_file: bool) -> Result<(impl Layer<S> + Send + Sync + 'static, Collector)>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let url = endpoint(named, of_file)?;
    let problem = Problem::default();
    let setup = |error: &dyn fmt::Display| Failure::new(format!("`--otlp` cannot be set up: {error}"));
    let shown = shown(&url);
    let client = Client::new(&url, &shown, &problem).map_err(|error| setup(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_retry_policy(RetryPolicy::disabled())
        .with_timeout(REQUEST)
        .with_endpoint(url.as_str())
        .build()
        .map_err(|error| setup(&error))?;
    let batches = BatchConfigBuilder::default().with_max_queue_size(WAITING).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("agentkernel"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false);
    Ok((layer, Collector { provider, problem, shown }))
}

impl Collector {
    /// Sends what waits; says what was not sent.
    pub fn finish(self) -> Result<(), String> {
        let ended = self.provider.shutdown_with_timeout(FAREWELL);
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (problem, ended) {
            (None, Ok(())) => Ok(()),
            (Some(problem), _) => Err(format!("spans were lost: {problem}")),
            (None, Err(_)) => {
                Err(format!("spans were lost: `{}` took longer than {} s", self.shown, FAREWELL.as_secs()))
            }
        }
    }
}

/// What spans are of.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    match env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty()) {
        true => builder.build(),
        false => builder.with_service_name("agentkernel").build(),
    }
}

fn url(text: &str) -> Result<Url> {
    let url = Url::parse(text.trim()).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        Failure::new("`--otlp` is not given a URL of http or https")
            .hint("write it as in `http://localhost:4318`, or `env` for OTEL_EXPORTER_OTLP_ENDPOINT")
    })
}

/// Where a collector takes spans.
fn traces(mut base: Url) -> Url {
    let path = base.path().trim_end_matches('/').to_owned();
    if !path.ends_with("/v1/traces") {
        base.set_path(&format!("{path}/v1/traces"));
    }
    base
}

/// A URL as messages have it, without what may be a secret.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    let _ = (shown.set_username(""), shown.set_password(None));
    shown.to_string()
}

/// Sends on the thread that asks, which is the SDK's own.
struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    problem: Problem,
    shown: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    fn new(url: &Url, shown: &str, problem: &Problem) -> Result<Self, String> {
        // Another may have been installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let builder = reqwest::Client::builder()
            .timeout(REQUEST)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("agentkernel/", env!("CARGO_PKG_VERSION")));
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        // This machine is never on the other side of a proxy.
        let builder = if is_here { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| error.to_string())?;
        Ok(Client { http, runtime, problem: Arc::clone(problem), shown: shown.to_owned() })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut response = self.http.execute(request.try_into()?).await?;
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES
            && let Some(chunk) = response.chunk().await?
        {
            body.extend_from_slice(&chunk);
        }
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = response.status();
        Ok(answer)
    }
}

impl HttpClient for Client {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let sent = self.runtime.block_on(self.send(request));
            let problem = match &sent {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(format!("`{}` answered {}", self.shown, answer.status())),
                Err(error) => Some(format!("`{}` cannot be reached: {}", self.shown, cause(&**error))),
            };
            if problem.is_some() {
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            }
            sent
        })
    }
}

/// The last of an error's causes, which says the most.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_not_shown() {
        let url = url("https://me:word@example.com/otlp?key=hush").unwrap();
        assert_eq!(shown(&url), "https://example.com/otlp");
    }

    #[test]
    fn urls_are_read() {
        let read = |text: &str| url(text).ok().map(|url| traces(url).to_string());
        for (text, expected) in [
            ("http://localhost:4318", Some("http://localhost:4318/v1/traces")),
            ("https://example.com/otlp/", Some("https://example.com/otlp/v1/traces")),
            ("http://localhost:4318/v1/traces", Some("http://localhost:4318/v1/traces")),
            ("localhost:4318", None),
            ("ftp://example.com", None),
            ("", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
