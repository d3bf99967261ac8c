//! A model that a function is, for tests of what is around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agentkernel::llm::{
    Completing, Completion, ModelRequest, OnText, Provider, ProviderError, StopReason, Tokens,
};

type Reply = Box<dyn Fn(&ModelRequest) -> Result<String, ProviderError> + Send + Sync>;

/// A provider that answers by a function, after a while. A token is a byte.
pub struct Answering {
    reply: Reply,
    /// How long an answer takes.
    pub delay: Duration,
    in_flight: AtomicU32,
    /// The most calls that it has had at the same time.
    pub most_in_flight: Arc<AtomicU32>,
}

impl Answering {
    /// Answers at once.
    pub fn new(
        reply: impl Fn(&ModelRequest) -> Result<String, ProviderError> + Send + Sync + 'static,
    ) -> Self {
        Answering {
            reply: Box::new(reply),
            delay: Duration::ZERO,
            in_flight: AtomicU32::new(0),
            most_in_flight: Arc::default(),
        }
    }
}

impl Provider for Answering {
    fn name(&self) -> &str {
        "answering"
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, _: Option<OnText<'a>>) -> Completing<'a> {
        Box::pin(async {
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(now, Ordering::SeqCst);
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let text = (self.reply)(request)?;
            let input = request.messages.iter().map(|message| message.content.len() as u64).sum();
            let tokens = Tokens { input, output: text.len() as u64 };
            Ok(Completion { text, model: request.model.clone(), tokens, stop: StopReason::End })
        })
    }
}
