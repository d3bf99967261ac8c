//! A server that is reached over HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use crate::tool::Secret;
use crate::tool::http::{Mask, Target, Withheld, client_config, is_name, put_in};
use crate::{Error, ErrorKind};

/// Bytes of an error's body that are read.
const ERROR_BYTES: usize = 4 << 10;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);

/// How often a stream of events that breaks off is asked for again.
const RETRIES: usize = 3;

/// A client of the server at `url`, and what covers the secrets that it is sent.
pub fn transport(
    url: &str,
    headers: &[(String, String)],
    secrets: &BTreeMap<String, Secret>,
    most_bytes: usize,
    most_calls: usize,
) -> Result<(StreamableHttpClientTransport<reqwest::Client>, Option<Mask>), String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let (headers, used) = with_secrets(url, headers, secrets)?;
    let client = client(&parsed)?;
    let mut retry = ExponentialBackoff::default();
    retry.max_times = Some(RETRIES);
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(headers)
        .max_sse_event_size(most_bytes)
        .max_json_response_size(most_bytes)
        .max_error_response_size(ERROR_BYTES)
        .max_concurrent_requests(most_calls);
    config.retry_config = Arc::new(retry);
    // In JSON some are written in another way.
    let written = used.iter().map(|secret| {
        let text = serde_json::Value::from(String::from_utf8_lossy(secret)).to_string();
        text.as_bytes()[1..text.len() - 1].to_vec()
    });
    let covered = written.chain(used.clone()).collect();
    Ok((StreamableHttpClientTransport::with_client(client, config), Mask::new(covered)))
}

type Filled = (HashMap<HeaderName, HeaderValue>, Vec<Vec<u8>>);

/// The headers with secrets in the place of their names; and those that are.
pub fn with_secrets(
    url: &str,
    headers: &[(String, String)],
    secrets: &BTreeMap<String, Secret>,
) -> Result<Filled, String> {
    let uri = url.parse().map_err(|error| format!("its URL is none: {error}"))?;
    let target = Target::of(&uri)?;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header"))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| format!("the header `{name}` cannot be sent"))?;
        map.insert(name, value);
    }
    let used = put_in(secrets, &mut map, &target).map_err(|withheld| match withheld {
        Withheld::Elsewhere(name) => {
            format!("the secret `{name}` may not be sent to its host; add the host to `hosts` of the secret")
        }
        Withheld::TooLong => "a header with a secret in it is too long".to_owned(),
    })?;
    let headers = map.into_iter().filter_map(|(name, value)| Some((name?, value)));
    Ok((headers.collect(), used))
}

/// Whether a URL leads to this machine.
pub fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A client that goes where it is sent, and nowhere else: it follows no redirect and asks no proxy.
fn client(url: &Url) -> Result<reqwest::Client, String> {
    let tls = match url.scheme() {
        "https" => rustls::ClientConfig::clone(&*client_config()?),
        // In plain text no certificates are read.
        _ => rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .user_agent(concat!("agentkernel/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the HTTP client cannot be made: {error}"))
}

/// Refuses secrets that are never sent, and headers that lack theirs.
pub fn check_secrets(
    tool: &str,
    url: &str,
    headers: &[(String, String)],
    secrets: &BTreeMap<String, Secret>,
) -> crate::Result<()> {
    let wrong = |message: String, hint: String| Err(Error::new(ErrorKind::Grant, message).hint(hint));
    for name in secrets.keys() {
        if !is_name(name) {
            return wrong(
                format!("`{name}` cannot be the name of a secret"),
                "name it with letters, digits and `_`".into(),
            );
        }
        let placeholder = format!("{{{{{name}}}}}");
        if !headers.iter().any(|(_, value)| value.contains(&placeholder)) {
            return wrong(
                format!(
                    "the secret `{name}` of the tool `{tool}` has no effect: no header has `{placeholder}`"
                ),
                format!(
                    "send it: `headers = {{ Authorization = \"Bearer {placeholder}\" }}`, or take it away"
                ),
            );
        }
    }
    for (header, value) in headers {
        let named = value.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
        if let Some((name, _)) =
            named.into_iter().find(|(name, _)| is_name(name) && !secrets.contains_key(*name))
        {
            return wrong(
                format!(
                    "the header `{header}` of the tool `{tool}` has the secret `{name}`, which is not granted"
                ),
                format!("grant it: `secrets.{name} = {{ env = \"{name}\", hosts = [\"HOST\"] }}`"),
            );
        }
    }
    with_secrets(url, headers, secrets).map(drop).map_err(|message| {
        Error::new(ErrorKind::Grant, format!("the tool `{tool}` cannot be sent its secrets: {message}"))
            .hint("name the host of the server in `hosts` of the secret")
    })
}
