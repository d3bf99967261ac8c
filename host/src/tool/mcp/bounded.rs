//! How many requests of a server are under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;

use super::stdio::Closed;

/// Requests of the server that are not answered yet. One that makes more does not take the answers.
const MOST_REQUESTS: usize = 32;

/// A transport that ends when the server makes too many requests.
pub struct Bounded<T> {
    inner: T,
    unanswered: Arc<AtomicUsize>,
    closed: Arc<Closed>,
}

impl<T> Bounded<T> {
    /// `closed` is told when that has happened.
    pub fn new(inner: T, closed: Arc<Closed>) -> Self {
        Bounded { inner, unanswered: Arc::default(), closed }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Bounded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        let is_answer = matches!(message, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
        let (sending, unanswered) = (self.inner.send(message), Arc::clone(&self.unanswered));
        async move {
            let sent = sending.await;
            if is_answer {
                let _ = unanswered
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let message = self.inner.receive().await?;
        if matches!(message, JsonRpcMessage::Request(_))
            && self.unanswered.fetch_add(1, Ordering::Relaxed) >= MOST_REQUESTS
        {
            self.closed.set("it makes requests and does not read the answers");
            return None;
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}
