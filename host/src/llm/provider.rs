//! What a model provider is asked and what it answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a provider is asked: everything that shapes the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelRequest {
    /// The model's name, as the provider knows it.
    pub model: String,
    /// What the model is told before the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation; the last message is the user's.
    pub messages: Vec<Message>,
    /// The most tokens that the answer may have, reasoning included.
    pub max_tokens: u64,
    /// How freely the answer is chosen; the provider's default where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Texts at which the answer ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The JSON schema that the answer is to follow. A provider that cannot enforce one ignores it: the
    /// answer is checked, and the schema is in the prompt as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

impl ModelRequest {
    /// A request of one message.
    pub fn new(model: impl Into<String>, prompt: impl Into<String>, max_tokens: u64) -> Self {
        ModelRequest {
            model: model.into(),
            system: None,
            messages: vec![Message { role: Role::User, content: prompt.into() }],
            max_tokens,
            temperature: None,
            stop: Vec::new(),
            schema: None,
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who says something in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// A model's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// What the provider counted.
    pub tokens: Tokens,
    /// Why the answer ended.
    pub stop: StopReason,
}

/// Tokens of a call or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Tokens the model read.
    pub input: u64,
    /// Tokens the model wrote, its reasoning included.
    pub output: u64,
}

/// Why a model's answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// It was complete, or came to a stop text.
    End,
    /// It had as many tokens as it may have.
    MaxTokens,
    /// The provider or the model declined to answer; the text, if any, says why.
    Refusal,
}

/// Why a provider did not answer. It never holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderError {
    /// The HTTP status, if the provider gave one.
    pub status: Option<u16>,
    /// What went wrong, in a sentence, with what to do about it where that is known.
    pub message: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// What the provider has charged for all the same, as far as it is known. Absent when the request
    /// was certainly not worked on; the budget then gets all back that was set aside.
    pub charged: Option<Tokens>,
    /// Whether another attempt may end better, and after which time at the earliest.
    pub retry: Option<Duration>,
    /// Whether the provider declined the content.
    pub refused: bool,
}

impl ProviderError {
    /// An error after one attempt that nothing was charged for, and that another attempt would meet
    /// again.
    pub fn new(message: impl Into<String>) -> Self {
        ProviderError {
            status: None,
            message: message.into(),
            attempts: 1,
            charged: None,
            retry: None,
            refused: false,
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ProviderError {}

/// What a provider is working on.
pub type Completing<'a> = Pin<Box<dyn Future<Output = Result<Completion, ProviderError>> + Send + 'a>>;

/// Called with each piece of an answer as it arrives.
pub type OnText<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Who answers requests to a model. The kernel meters what it is asked; it only has to ask.
pub trait Provider: Send + Sync + 'static {
    /// Its name in records: `openai`, `anthropic`.
    fn name(&self) -> &str;

    /// What shapes its answers beside the request: where it is asked. Answers are cached by it. The
    /// default is the name.
    fn identity(&self) -> String {
        self.name().to_owned()
    }

    /// Answers one request, with retries of its own if it wants. `on_text` is given where somebody
    /// watches the answer come in; a provider that cannot stream need not call it. Dropping the
    /// future gives the request up.
    fn complete<'a>(&'a self, request: &'a ModelRequest, on_text: Option<OnText<'a>>) -> Completing<'a>;

    /// The most tokens that `request` can be as input. The default counts a token for each byte,
    /// which no byte-level tokenizer exceeds, and some for each message around it.
    fn input_tokens_at_most(&self, request: &ModelRequest) -> u64 {
        let system = request.system.as_ref().map_or(0, String::len);
        let schema = request.schema.as_ref().map_or(0, |schema| schema.to_string().len());
        let messages: usize = request.messages.iter().map(|message| message.content.len() + 16).sum();
        (system + schema + messages + 64) as u64
    }
}
