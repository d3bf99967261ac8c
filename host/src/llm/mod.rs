//! Models: who answers, what it may cost, and what programs ask.

#[cfg(feature = "providers")]
mod anthropic;
#[cfg(feature = "providers")]
mod azure;
#[cfg(feature = "providers")]
mod env;
#[cfg(feature = "providers")]
mod http;
#[cfg(feature = "providers")]
mod openai;
mod provider;
mod script;

#[cfg(feature = "providers")]
pub use anthropic::{Anthropic, AnthropicBuilder};
#[cfg(feature = "providers")]
pub use azure::{AzureOpenAi, AzureOpenAiBuilder};
#[cfg(feature = "providers")]
pub use env::provider_from_environment;
#[cfg(feature = "providers")]
pub use http::{HttpOptions, Key};
#[cfg(feature = "providers")]
pub use openai::{OpenAi, OpenAiBuilder, TokensField};
pub use script::{Reply, Script};

pub use provider::{
    Completing, Completion, Message, ModelRequest, OnText, Provider, ProviderError, Role, StopReason, Tokens,
};

#[cfg(all(doctest, feature = "providers"))]
#[doc = include_str!("../../../docs/llm-providers.md")]
struct Providers;
