//! Connections: so many at the same time, and none on which nothing happens.
//!
//! A connection ends when nothing was written to it for a time. A request that is answered is, and streams of events
//! have a sign of life now and then; so this ends who is idle, who sends a request byte by byte, and who does not
//! read what it asked for.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// How often a stream of events has a sign of life.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How long nothing may be written.
const SILENCE: Duration = Duration::from_secs(60);

/// The pause after a connection could not be accepted, for want of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener that accepts no more than so many connections at once.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence: Duration,
}

impl Bounded {
    pub fn new(listener: TcpListener, connections: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Bounded { listener, places, silence: SILENCE }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // Nobody closes the semaphore.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Answers are small and waited for.
                    let _ = stream.set_nodelay(true);
                    return (Connection::new(stream, place, self.silence), address);
                }
                Err(error) => {
                    tracing::debug!("a connection was not accepted: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing happens on it.
pub(super) struct Connection {
    stream: TcpStream,
    silence: Duration,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, silence: Duration) -> Self {
        Connection { stream, silence, end: Box::pin(sleep(silence)), _place: place }
    }

    /// An error once nothing was written for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_silence(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_silence(context)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let end = Instant::now() + self.silence;
        self.end.as_mut().reset(end);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    async fn pair() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut bounded = Bounded { silence: SHORT, ..Bounded::new(listener, 1) };
        let (connection, _) = bounded.accept().await;
        (client, connection)
    }

    #[tokio::test]
    async fn who_sends_byte_by_byte_is_not_waited_for() {
        let (mut client, mut connection) = pair().await;
        let sending = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(SHORT / 10).await;
            }
        });
        let mut received = Vec::new();
        let ended = connection.read_to_end(&mut received).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!received.is_empty());
        drop(connection);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for_and_who_is_written_to_is() {
        let (client, mut connection) = pair().await;
        for _ in 0..6 {
            connection.write_all(b"sign of life").await.unwrap();
            sleep(SHORT / 3).await;
        }
        let much = vec![0; 64 << 20];
        assert_eq!(connection.write_all(&much).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
