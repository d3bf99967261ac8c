//! Streamable HTTP: on this machine for whoever can connect, elsewhere for who has the token.

mod connections;
mod guard;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::routing::get;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;

pub use self::token::Token;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::server::Server;
use crate::sessions::Place;
use crate::tasks::LONGEST_WAIT;
use connections::Bounded;
use guard::Guard;

/// The form in which metrics are written.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long connections may take to end after the server was told to.
const LAST: Duration = Duration::from_secs(3);

/// How long an answer is kept for a client whose connection broke.
const CACHED: Duration = Duration::from_secs(10);

/// What a client is kept for beyond the longest turn or wait, in which nothing may be heard of it.
const SPARE: Duration = Duration::from_secs(60);

/// The longest turn, and the time that nobody uses a session, where these have no limit: who has gone without a word must
/// not have a seat for ever.
const UNLIMITED: Duration = Duration::from_secs(3600);

/// Where a server listens, and whom it lets in.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    address: SocketAddr,
    token: Option<Token>,
    hosts: Vec<String>,
    origins: Vec<String>,
    connections: usize,
}

impl HttpSettings {
    /// Listens on `address`; with port 0 the system picks one.
    pub fn new(address: SocketAddr) -> Self {
        HttpSettings { address, token: None, hosts: Vec::new(), origins: Vec::new(), connections: 256 }
    }

    /// What clients have to show as `Authorization: Bearer TOKEN`. Needed for an address that is not this machine's
    /// own. Default: none.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// A further name of this server that clients may use. Requests to other names are refused, so that no page can
    /// reach it by a name of its own. Default: `localhost` and the addresses of this machine alone, and the address that is
    /// listened on.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// An origin whose pages may use the server, as browsers write it: `https://app.example`. Default: none.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Connections at the same time; more wait. Default: 256.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Refuses what would let in others than it should.
    fn check(&self) -> Result<()> {
        let ip = self.address.ip();
        if !ip.is_loopback() && self.token.is_none() {
            return Err(Error::setting(
                format!("`{}` can be reached from other machines, and no token is set", self.address),
                "name a file with `--token-file`, or listen on 127.0.0.1",
            ));
        }
        if ip.is_unspecified() && self.hosts.is_empty() {
            return Err(Error::setting(
                format!("`{}` does not say by which name clients reach the server", self.address),
                "name it with `--allow-host`, or listen on one address",
            ));
        }
        for host in &self.hosts {
            if host.is_empty()
                || host.contains(['/', ' ', '@'])
                || guard::host_of(host) != Some(host.as_str())
            {
                return Err(Error::setting(
                    format!("`{host}` is not the name of a host"),
                    "give the name alone, without scheme and port",
                ));
            }
        }
        for origin in &self.origins {
            let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', ' ', '*'])) {
                return Err(Error::setting(
                    format!("`{origin}` is not an origin"),
                    "write it as browsers do: `https://app.example`, with the port if it is not the usual one",
                ));
            }
        }
        if self.connections == 0 {
            return Err(Error::setting("no connections let nobody in", "give at least 1"));
        }
        Ok(())
    }
}

/// A server that listens.
pub struct HttpServer {
    server: Server,
    settings: HttpSettings,
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpServer {
    pub(crate) async fn bind(server: Server, settings: HttpSettings) -> Result<Self> {
        settings.check()?;
        let cannot = || format!("cannot listen on `{}`", settings.address);
        let listener = TcpListener::bind(settings.address).await.map_err(Error::system(cannot()))?;
        let address = listener.local_addr().map_err(Error::system(cannot()))?;
        Ok(HttpServer { server, settings, listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find it, on this machine.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Serves clients until `shutdown` is ready. Turns that run then are stopped.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when no connection can be accepted any more.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let _watch = self.server.look_after();
        let shared = &self.server.0;
        let mut config = StreamableHttpServerConfig::default()
            .with_max_request_body_bytes(shared.limits.message_bytes)
            // All routes are guarded, by `Guard`.
            .disable_allowed_hosts();
        config.sse_keep_alive = Some(connections::SIGN_OF_LIFE);
        let stop = config.cancellation_token.clone();
        let mut manager = LocalSessionManager::default();
        let kept = keep_alive(shared.limits.idle, shared.grants.limits.timeout);
        manager.session_config.keep_alive = Some(kept);
        // Answers can be fetched again for so long, and are kept for that.
        manager.session_config.completed_cache_ttl = CACHED;
        let (clients, seats) = (shared.limits.clients, Arc::new(AtomicUsize::new(0)));
        let kernel = shared.kernel.clone();
        let shared = Arc::clone(shared);
        let client = move || match Place::take(&seats, clients) {
            Some(seat) => Ok(Client::over_http(&shared, seat)),
            None => Err(io::Error::other(format!("there are {clients} clients, which is all there may be"))),
        };
        let service = StreamableHttpService::new(client, Arc::new(manager), config);
        let guard = Arc::new(Guard::new(&self.settings, self.address));
        let router = Router::new()
            .route_service("/mcp", service)
            .route("/healthz", get(async || "ok\n"))
            .route(
                "/metrics",
                get(async move || ([(CONTENT_TYPE, PROMETHEUS)], kernel.metrics().prometheus())),
            )
            .layer(middleware::from_fn_with_state(guard, guard::check));
        let listener = Bounded::new(self.listener, self.settings.connections);
        let mut shutdown = std::pin::pin!(shutdown);
        let ending = stop.clone();
        let serving = axum::serve(listener, router)
            .with_graceful_shutdown(async move { ending.cancelled().await })
            .into_future();
        let mut serving = std::pin::pin!(serving);
        let served = tokio::select! {
            biased;
            () = &mut shutdown => {
                stop.cancel();
                tokio::time::timeout(LAST, &mut serving).await.unwrap_or(Ok(()))
            }
            served = &mut serving => served,
        };
        stop.cancel();
        served.map_err(Error::system("cannot accept connections"))
    }
}

/// How long a client is kept of which nothing is heard.
fn keep_alive(idle: Option<Duration>, timeout: Option<Duration>) -> Duration {
    let longest = idle.unwrap_or(UNLIMITED).max(timeout.unwrap_or(UNLIMITED)).max(LONGEST_WAIT);
    longest.saturating_add(SPARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_kept_longer_than_it_may_be_silent_and_not_for_ever() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (idle, timeout, kept) in [
            (None, None, 3660),
            (seconds(1), None, 3660),
            (seconds(1), seconds(1), 3660),
            (seconds(7200), seconds(1), 7260),
            (None, seconds(9000), 9060),
        ] {
            assert_eq!(keep_alive(idle, timeout), Duration::from_secs(kept), "{idle:?} {timeout:?}");
        }
    }
}
