//! Anthropic's messages.

use reqwest::Url;
use serde_json::{Value, json};

use super::http::{self, Answer, Client, Failure, HttpOptions, Key, Protocol, is_strict};
use super::{Completing, ModelRequest, OnText, Provider, ProviderError, Role, StopReason};
use crate::{Error, ErrorKind, Result};

/// Where Anthropic's models are.
const ANTHROPIC: &str = "https://api.anthropic.com";

/// The version of the API that is spoken.
const VERSION: &str = "2023-06-01";

/// What a schema adds to the input where it is enforced: the provider explains it to the model. Its
/// documentation says that it does, not how long it is; this is a generous bound.
const SCHEMA_TOKENS: u64 = 1000;

/// Anthropic, or a gateway that speaks its messages.
///
/// ```no_run
/// use agentkernel::llm::Anthropic;
///
/// let anthropic = Anthropic::builder().key("sk-ant-…").build()?;
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Debug)]
pub struct Anthropic {
    url: Url,
    enforce_schema: bool,
    client: Client,
}

/// Configures [`Anthropic`].
#[derive(Clone, Debug, Default)]
pub struct AnthropicBuilder {
    key: Option<Key>,
    base_url: Option<String>,
    enforce_schema: bool,
    http: HttpOptions,
}

impl Anthropic {
    /// Configures a provider; a key must be given.
    pub fn builder() -> AnthropicBuilder {
        AnthropicBuilder::default()
    }
}

impl AnthropicBuilder {
    /// The key, sent as `x-api-key`.
    #[must_use]
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The URL that `/v1/messages` is below: `https://api.anthropic.com` if it is not given. A `/v1` at its
    /// end may be there or not.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Whether schemas are sent for the provider to enforce (`output_config.format`), as Claude 4.5 and
    /// later can: no, since earlier models and most gateways refuse such requests. Schemas that the
    /// provider could not enforce are never sent.
    #[must_use]
    pub fn enforce_schema(mut self, enforce: bool) -> Self {
        self.enforce_schema = enforce;
        self
    }

    /// How it is reached.
    #[must_use]
    pub fn http(mut self, options: HttpOptions) -> Self {
        self.http = options;
        self
    }

    /// The provider. Nothing is sent before the first request.
    ///
    /// # Errors
    ///
    /// When there is no key, the base URL is none, or the key or a header cannot be sent.
    pub fn build(self) -> Result<Anthropic> {
        let key = self.key.ok_or_else(|| {
            Error::new(ErrorKind::Model, "Anthropic wants a key").hint("set ANTHROPIC_API_KEY")
        })?;
        let base = http::base_url(self.base_url.as_deref().unwrap_or(ANTHROPIC))?;
        let path = if base.path().ends_with("/v1") { "messages" } else { "v1/messages" };
        let host = base.host_str().unwrap_or_default();
        let called = match host == "anthropic.com" || host.ends_with(".anthropic.com") {
            true => "Anthropic".into(),
            false => http::place(&base),
        };
        let version = [("anthropic-version", VERSION)];
        let client = Client::new(called, &base, self.http, Some(("x-api-key", "", key)), &version)?;
        Ok(Anthropic { url: http::below(&base, path), enforce_schema: self.enforce_schema, client })
    }
}

impl Anthropic {
    /// The schema that is sent along with `request`.
    fn enforced<'a>(&self, request: &'a ModelRequest) -> Option<&'a Value> {
        request.schema.as_ref().filter(|schema| self.enforce_schema && is_strict(schema))
    }
}

impl Provider for Anthropic {
    fn name(&self) -> &str {
        "anthropic"
    }

    fn identity(&self) -> String {
        format!("anthropic {} {VERSION} {}", self.url, self.enforce_schema)
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, on_text: Option<OnText<'a>>) -> Completing<'a> {
        Box::pin(self.client.complete(self, request, self.input_tokens_at_most(request), on_text))
    }

    fn input_tokens_at_most(&self, request: &ModelRequest) -> u64 {
        let system = request.system.as_ref().map_or(0, String::len);
        let messages: usize = request.messages.iter().map(|message| message.content.len() + 16).sum();
        let schema =
            self.enforced(request).map_or(0, |schema| SCHEMA_TOKENS + schema.to_string().len() as u64);
        (system + messages + 64) as u64 + schema
    }
}

impl Protocol for Anthropic {
    fn url(&self, _: &ModelRequest) -> Result<Url, ProviderError> {
        Ok(self.url.clone())
    }

    fn body(&self, request: &ModelRequest, stream: bool) -> Value {
        let messages = request.messages.iter().map(|message| {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            json!({"role": role, "content": message.content})
        });
        let mut body = json!({
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": messages.collect::<Vec<_>>(),
        });
        if let Some(system) = &request.system {
            body["system"] = system.as_str().into();
        }
        if let Some(temperature) = request.temperature {
            body["temperature"] = temperature.into();
        }
        if !request.stop.is_empty() {
            body["stop_sequences"] = json!(request.stop);
        }
        if let Some(schema) = self.enforced(request) {
            body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
        }
        if stream {
            body["stream"] = true.into();
        }
        body
    }

    fn read(&self, body: &Value, answer: &mut Answer) -> Result<(), Failure> {
        let Some(Value::Array(blocks)) = body.get("content") else {
            return Err(Failure::nonsense("gave an answer without `content`; is the base URL right?".into()));
        };
        blocks.iter().for_each(|block| take_block(block, answer));
        take_model(body, answer);
        take_usage(body.get("usage"), answer);
        take_stop(body.get("stop_reason"), answer);
        Ok(())
    }

    fn event(&self, event: &Value, answer: &mut Answer) -> Result<(), Failure> {
        let Some(kind) = event.get("type").and_then(Value::as_str) else {
            return Err(Failure::nonsense("gave a streamed answer with an event without a `type`".into()));
        };
        match kind {
            "message_start" => {
                let message = event.get("message").unwrap_or(&Value::Null);
                take_model(message, answer);
                take_usage(message.get("usage"), answer);
                // What is written so far; the end is counted in `message_delta`.
                answer.output = None;
            }
            "content_block_start" => {
                event.get("content_block").into_iter().for_each(|block| take_block(block, answer))
            }
            "content_block_delta" => {
                event.get("delta").into_iter().for_each(|delta| take_block(delta, answer));
            }
            "message_delta" => {
                take_usage(event.get("usage"), answer);
                take_stop(event.pointer("/delta/stop_reason"), answer);
            }
            "message_stop" => answer.done = true,
            // Newer versions have more kinds, which are to be passed over.
            _ => {}
        }
        Ok(())
    }

    fn advice(&self, status: u16, _: &str) -> Option<String> {
        let advice = match status {
            401 => "check ANTHROPIC_API_KEY",
            403 => "check what the key of ANTHROPIC_API_KEY may be used for",
            404 => "check the model's name and ANTHROPIC_BASE_URL",
            413 => "send less at once",
            _ => return None,
        };
        Some(advice.into())
    }
}

/// Takes a block of content, or a piece of one.
fn take_block(block: &Value, answer: &mut Answer) {
    if let Some(text) = block.get("text").and_then(Value::as_str) {
        answer.push(text);
    }
    answer.aside += block.get("thinking").and_then(Value::as_str).map_or(0, str::len) as u64;
}

fn take_model(message: &Value, answer: &mut Answer) {
    if let Some(model) = message.get("model").and_then(Value::as_str) {
        answer.model = Some(model.to_owned());
    }
}

/// Takes the tokens. Those that a cache was filled with or that came from it were input as well.
fn take_usage(usage: Option<&Value>, answer: &mut Answer) {
    let count = |name: &str| usage.and_then(|usage| usage.get(name)?.as_u64());
    if let Some(input) = count("input_tokens") {
        let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"].map(count);
        let input = cached.into_iter().flatten().fold(input, u64::saturating_add);
        // The end of a stream counts again, and not always what was cached.
        answer.input = answer.input.max(Some(input));
    }
    answer.output = count("output_tokens").or(answer.output);
}

fn take_stop(reason: Option<&Value>, answer: &mut Answer) {
    answer.stop = match reason.and_then(Value::as_str) {
        None => return,
        Some("max_tokens" | "model_context_window_exceeded") => Some(StopReason::MaxTokens),
        Some("refusal") => Some(StopReason::Refusal),
        Some(_) => Some(StopReason::End),
    };
}
