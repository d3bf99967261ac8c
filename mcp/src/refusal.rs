//! Why a tool did nothing.

use rmcp::model::{CallToolResult, ContentBlock};

/// What is wrong with a call and what to do about it, for a model to read. It is a result of the tool, not an
/// error of the protocol: a client shows those to nobody.
#[derive(Debug)]
pub(crate) struct Refusal {
    message: String,
    hint: Option<String>,
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Refusal { message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The request was cancelled before anything was done; nobody reads this.
    pub fn cancelled() -> Self {
        Refusal::new("the request was cancelled")
    }

    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("error: {}\nhint: {hint}", self.message),
            None => format!("error: {}", self.message),
        }
    }
}

impl From<agentkernel::Error> for Refusal {
    fn from(error: agentkernel::Error) -> Self {
        Refusal { message: error.to_string(), hint: error.remedy().map(str::to_owned) }
    }
}

impl From<Refusal> for CallToolResult {
    fn from(refusal: Refusal) -> Self {
        CallToolResult::error(vec![ContentBlock::text(refusal.text())])
    }
}

/// Does what may block where that holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::new(format!("a thread of the server failed: {error}")))
}
