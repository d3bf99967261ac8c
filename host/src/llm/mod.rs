//! Models: who answers, what it may cost, and what programs ask.

mod provider;

pub use provider::{
    Completing, Completion, Message, ModelRequest, OnText, Provider, ProviderError, Role, StopReason, Tokens,
};
