//! Connections: to addresses that were checked, kept for the next request to the same place.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Builder, SendRequest};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsConnector;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, WasiBody};

use super::rule::{Host, Reach, Target};
use crate::tool::denials::Denials;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Connections of an instance that wait.
const MOST_IDLE: usize = 16;

/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// What a connection reads ahead, and the longest head of a response.
const BUFFER_BYTES: usize = 256 << 10;

/// Finds the addresses of a host.
pub(crate) type Resolve = dyn Fn(&str) -> std::io::Result<Vec<IpAddr>> + Send + Sync;

/// What the tools of all sessions share to reach the network.
pub(crate) struct Network {
    resolve: Arc<Resolve>,
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Network {
    /// With the system's resolver, or another.
    pub fn new(resolve: Option<Arc<Resolve>>) -> Self {
        let system = |name: &str| {
            use std::net::ToSocketAddrs;
            Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        };
        Network { resolve: resolve.unwrap_or_else(|| Arc::new(system)), tls: Arc::default() }
    }

    async fn tls(&self, denials: &Denials) -> Result<Arc<ClientConfig>, Error> {
        let made = match self.tls.get() {
            Some(made) => made.clone(),
            None => {
                // Reads files; when two ask at once, one of the results serves.
                let tls = Arc::clone(&self.tls);
                let task = tokio::task::spawn_blocking(move || tls.get_or_init(client_config).clone());
                task.await.map_err(|_| Error::ConfigurationError)?
            }
        };
        made.map_err(|message| {
            denials.add(message);
            Error::TlsCertificateError
        })
    }
}

/// TLS with the roots that this machine trusts.
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this machine has no certificates of authorities, so no https server can be trusted; \
                    install `ca-certificates`, or name a file of them in `SSL_CERT_FILE`"
            .into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// An open connection.
pub(super) struct Connection {
    pub sender: SendRequest<WasiBody>,
    _driver: AbortOnDropJoinHandle<()>,
}

/// A connection in use, and the permission to use one.
pub(super) struct Lease {
    pub connection: Connection,
    pub key: (Target, Reach),
    pub _permit: Arc<OwnedSemaphorePermit>,
}

/// Connections of one instance that wait for another request. No other instance gets them.
#[derive(Default)]
pub(super) struct Pool(Mutex<Idle>);

/// Connections by the place they lead to, each with the time since when it waits.
type Idle = HashMap<(Target, Reach), Vec<(Connection, Instant)>>;

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take(&self, key: &(Target, Reach)) -> Option<Connection> {
        let mut idle = self.lock();
        let waiting = idle.get_mut(key)?;
        while let Some((connection, since)) = waiting.pop() {
            if since.elapsed() < IDLE && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        idle.remove(key);
        None
    }

    pub fn give_back(&self, lease: Lease) {
        let Lease { connection, key, .. } = lease;
        if !connection.sender.is_closed() {
            let mut idle = self.lock();
            idle.retain(|_, waiting| {
                waiting
                    .retain(|(connection, since)| since.elapsed() < IDLE && !connection.sender.is_closed());
                !waiting.is_empty()
            });
            if idle.values().map(Vec::len).sum::<usize>() < MOST_IDLE {
                idle.entry(key).or_default().push((connection, Instant::now()));
            }
        }
    }
}

/// Makes a connection to one of the addresses of a host that may be reached.
pub(super) async fn connect(
    network: &Network,
    target: &Target,
    reach: Reach,
    permit: &Arc<OwnedSemaphorePermit>,
    denials: &Denials,
) -> Result<Connection, Error> {
    let addresses = match &target.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let (resolve, name, permit) = (Arc::clone(&network.resolve), name.clone(), Arc::clone(permit));
            // A lookup cannot be stopped: it counts as a request as long as it takes.
            let lookup = tokio::task::spawn_blocking(move || {
                let found = resolve(&name);
                drop(permit);
                found
            });
            let failed = || Error::DnsError { rcode: None, info_code: None };
            lookup.await.map_err(|_| failed())?.map_err(|_| failed())?
        }
    };
    if addresses.is_empty() {
        return Err(Error::DestinationNotFound);
    }
    let allowed: Vec<IpAddr> = addresses
        .into_iter()
        .map(|address| address.to_canonical())
        .filter(|address| reach.permits(*address))
        .take(MOST_ADDRESSES)
        .collect();
    if allowed.is_empty() {
        let name = &target.host;
        denials.deny(
            &format!("http to `{name}`, which leads to an address that is not public,"),
            &format!("http = [\"private {target}\"]"),
        );
        return Err(Error::DestinationIpProhibited);
    }
    let mut last = Error::DestinationUnavailable;
    for (position, address) in allowed.iter().enumerate() {
        // The others are to have their turn before the time for connecting is over.
        let share = match allowed.len() - position {
            1 => Duration::MAX,
            _ => Duration::from_secs(3),
        };
        match tokio::time::timeout(share, TcpStream::connect(SocketAddr::new(*address, target.port))).await {
            Ok(Ok(stream)) => return open(network, target, stream, denials).await,
            Ok(Err(error)) => last = Error::Connect(error),
            Err(_) => last = Error::ConnectionTimeout,
        }
    }
    Err(last)
}

async fn open(
    network: &Network,
    target: &Target,
    stream: TcpStream,
    denials: &Denials,
) -> Result<Connection, Error> {
    // Requests are written whole.
    let _ = stream.set_nodelay(true);
    if !target.secure {
        return shake_hands(stream).await;
    }
    let name = match &target.host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
        Host::Address(address) => ServerName::from(*address),
    };
    let connector = TlsConnector::from(network.tls(denials).await?);
    shake_hands(connector.connect(name, stream).await.map_err(Error::Tls)?).await
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Connection, Error> {
    let (sender, connection) =
        Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
    let driver = spawn(async move {
        // Whoever uses the connection is told of its end.
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: driver })
}
