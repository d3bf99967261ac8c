//! Providers of models, against servers on loopback that speak their protocols.

use std::time::Duration;

use agentkernel::llm::{Completion, HttpOptions, ModelRequest, Provider, ProviderError};

#[path = "llm_providers/anthropic.rs"]
mod anthropic;
#[path = "llm_providers/azure.rs"]
mod azure;
#[path = "llm_providers/env.rs"]
mod env;
#[path = "llm_providers/failures.rs"]
mod failures;
#[path = "llm_providers/openai.rs"]
mod openai;
#[path = "llm_providers/retries.rs"]
mod retries;
#[path = "llm_providers/script.rs"]
mod script;
#[path = "llm_providers/server.rs"]
mod server;
#[path = "llm_providers/tls.rs"]
mod tls;

const KEY: &str = "sk-test-0123456789abcdef";

/// Options under which a test that fails ends soon.
fn quick() -> HttpOptions {
    HttpOptions::new()
        .timeout(Duration::from_secs(20))
        .backoff(Duration::from_millis(2), Duration::from_millis(5))
        .retries(2)
}

fn request(prompt: &str) -> ModelRequest {
    ModelRequest::new("some-model", prompt, 100)
}

async fn ask(provider: &dyn Provider, request: &ModelRequest) -> Result<Completion, ProviderError> {
    provider.complete(request, None).await
}

/// An answer, and the pieces in which it came.
async fn stream(
    provider: &dyn Provider,
    request: &ModelRequest,
) -> (Result<Completion, ProviderError>, Vec<String>) {
    let mut pieces = Vec::new();
    let mut on_text = |piece: &str| pieces.push(piece.to_owned());
    let result = provider.complete(request, Some(&mut on_text)).await;
    (result, pieces)
}
