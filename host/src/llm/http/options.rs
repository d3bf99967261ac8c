//! How providers are reached: times, retries, headers.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};

use super::Key;
use crate::{Error, ErrorKind, Result};

/// How a provider is reached over HTTP: how long is waited, how often is tried, what is sent along.
///
/// ```
/// use std::time::Duration;
/// use agentkernel::llm::{HttpOptions, OpenAi};
///
/// let http = HttpOptions::new().timeout(Duration::from_secs(120)).retries(2).header("x-team", "search");
/// let provider = OpenAi::builder().base_url("http://localhost:8000/v1").http(http).build()?;
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpOptions {
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) longest_backoff: Duration,
    pub(super) longest_wait: Duration,
    pub(super) response_bytes: usize,
    pub(super) headers: Vec<(String, Key)>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(60),
            retries: 4,
            backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(8),
            longest_wait: Duration::from_secs(60),
            response_bytes: 64 << 20,
            headers: Vec::new(),
        }
    }
}

/// Headers that the client sets itself, and that would break requests if they were set otherwise.
const OWN: [&str; 5] = ["connection", "content-length", "content-type", "host", "transfer-encoding"];

impl HttpOptions {
    /// The defaults, which each method names.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long one attempt to connect may take: 10 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one attempt may take from its beginning to the end of the answer: 10 minutes. What
    /// took so long is not tried again.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long an answer that has begun may pause: 60 seconds. Before its first byte only
    /// [`timeout`](Self::timeout) counts, since models think before they speak.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How many attempts follow one that failed: 4.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Between which times retries wait. The wait before retry *n* is chosen at random between zero and
    /// the smaller of `longest` and `base` times two to the power *n* - 1: 500 milliseconds and 8 seconds.
    #[must_use]
    pub fn backoff(mut self, base: Duration, longest: Duration) -> Self {
        self.backoff = base;
        self.longest_backoff = longest;
        self
    }

    /// How long is waited at most where the provider says how long: 60 seconds. If it asks for
    /// more, the request fails at once.
    #[must_use]
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// How long an answer may be: 64 MiB.
    #[must_use]
    pub fn response_bytes(mut self, bytes: usize) -> Self {
        self.response_bytes = bytes;
        self
    }

    /// One more header of each request, as gateways want them. Its value is treated as a secret. It takes
    /// the place of a header that the provider sends itself.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Key>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Puts the extra headers over `headers`.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) -> Result<()> {
        for (name, value) in &self.headers {
            let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                return Err(Error::new(ErrorKind::Model, format!("`{}` is no header", name.escape_debug())));
            };
            if OWN.contains(&header.as_str()) {
                return Err(Error::new(ErrorKind::Model, format!("the header `{header}` cannot be set")));
            }
            let value = value.header("", &format!("the value of the header `{header}`"))?;
            headers.insert(header, value);
        }
        Ok(())
    }
}
