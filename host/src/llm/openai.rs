//! OpenAI's chat completions, and the many servers that speak them as well.

use reqwest::Url;
use serde_json::{Value, json};

use super::http::{self, Answer, Client, Failure, HttpOptions, Key, Protocol, is_object, is_strict};
use super::{Completing, ModelRequest, OnText, Provider, ProviderError, Role, StopReason};
use crate::{Error, ErrorKind, Result};

/// Where OpenAI's own models are.
const OPENAI: &str = "https://api.openai.com/v1";

/// OpenAI, or a server that speaks its chat completions: vLLM, Ollama, llama.cpp, LM Studio, a gateway.
///
/// ```no_run
/// use agentkernel::llm::OpenAi;
///
/// let openai = OpenAi::builder().key("sk-…").build()?;
/// let ollama = OpenAi::builder().base_url("http://localhost:11434/v1").build()?;
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Debug)]
pub struct OpenAi {
    url: Url,
    chat: Chat,
    client: Client,
}

/// Configures [`OpenAi`].
#[derive(Clone, Debug, Default)]
pub struct OpenAiBuilder {
    key: Option<Key>,
    base_url: Option<String>,
    tokens_field: Option<TokensField>,
    http: HttpOptions,
}

/// What the limit of an answer's tokens is called in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensField {
    /// `max_completion_tokens`: what OpenAI's newer models insist on.
    MaxCompletionTokens,
    /// `max_tokens`: what most other servers know.
    MaxTokens,
}

impl OpenAi {
    /// Configures a provider; a key, or a base URL other than OpenAI's, must be given.
    pub fn builder() -> OpenAiBuilder {
        OpenAiBuilder::default()
    }
}

impl OpenAiBuilder {
    /// The key, sent as `Authorization: Bearer`. OpenAI wants one, servers on one's own machine seldom do.
    #[must_use]
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The URL that `/chat/completions` is below: `https://api.openai.com/v1` if it is not given.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// What the limit of tokens is called: `max_completion_tokens` at OpenAI and Azure, `max_tokens` elsewhere.
    #[must_use]
    pub fn tokens_field(mut self, field: TokensField) -> Self {
        self.tokens_field = Some(field);
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
    /// When the base URL is none, a header or the key cannot be sent, or OpenAI itself is to be asked
    /// without a key.
    pub fn build(self) -> Result<OpenAi> {
        let base = http::base_url(self.base_url.as_deref().unwrap_or(OPENAI))?;
        let host = base.host_str().unwrap_or_default();
        let openai = host == "openai.com" || host.ends_with(".openai.com");
        let azure = host.ends_with(".openai.azure.com");
        if openai && self.key.is_none() {
            return Err(Error::new(ErrorKind::Model, "OpenAI wants a key")
                .hint("set OPENAI_API_KEY, or OPENAI_BASE_URL for another server"));
        }
        let hosted = openai || azure;
        let field = if hosted { TokensField::MaxCompletionTokens } else { TokensField::MaxTokens };
        let chat = Chat { tokens_field: self.tokens_field.unwrap_or(field), hosted };
        let called = if openai { "OpenAI".into() } else { http::place(&base) };
        let key = self.key.map(|key| ("authorization", "Bearer ", key));
        let client = Client::new(called, &base, self.http, key, &[])?;
        Ok(OpenAi { url: http::below(&base, "chat/completions"), chat, client })
    }
}

impl Provider for OpenAi {
    fn name(&self) -> &str {
        "openai"
    }

    fn identity(&self) -> String {
        format!("openai {}", self.url)
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, on_text: Option<OnText<'a>>) -> Completing<'a> {
        Box::pin(self.client.complete(self, request, self.input_tokens_at_most(request), on_text))
    }
}

impl Protocol for OpenAi {
    fn url(&self, _: &ModelRequest) -> Result<Url, ProviderError> {
        Ok(self.url.clone())
    }

    fn body(&self, request: &ModelRequest, stream: bool) -> Value {
        self.chat.body(request, stream)
    }

    fn read(&self, body: &Value, answer: &mut Answer) -> Result<(), Failure> {
        read(body, answer)
    }

    fn event(&self, event: &Value, answer: &mut Answer) -> Result<(), Failure> {
        read_event(event, answer)
    }

    fn advice(&self, status: u16, message: &str) -> Option<String> {
        let advice = match status {
            401 => "check OPENAI_API_KEY",
            403 => "check what the key of OPENAI_API_KEY may be used for",
            404 => "check the model's name and OPENAI_BASE_URL",
            429 if message.contains("quota") => "check the plan and the billing of the account",
            _ => return advice_on_tokens(status, message),
        };
        Some(advice.into())
    }
}

/// What to do if a server wants the limit of tokens under the other name.
pub(super) fn advice_on_tokens(status: u16, message: &str) -> Option<String> {
    (status == 400 && (message.contains("max_tokens") || message.contains("max_completion_tokens")))
        .then(|| "if the name of the token limit is the trouble, set the provider's `tokens_field`".into())
}

/// How chat completions are asked for.
#[derive(Debug)]
pub(super) struct Chat {
    pub tokens_field: TokensField,
    /// Whether the models are OpenAI's, which enforce schemas of objects alone.
    pub hosted: bool,
}

impl Chat {
    pub fn body(&self, request: &ModelRequest, stream: bool) -> Value {
        let system = request.system.iter().map(|system| json!({"role": "system", "content": system}));
        let messages = request.messages.iter().map(|message| {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            json!({"role": role, "content": message.content})
        });
        let mut body = json!({
            "model": request.model,
            "messages": system.chain(messages).collect::<Vec<_>>(),
        });
        let field = match self.tokens_field {
            TokensField::MaxCompletionTokens => "max_completion_tokens",
            TokensField::MaxTokens => "max_tokens",
        };
        body[field] = request.max_tokens.into();
        if let Some(temperature) = request.temperature {
            body["temperature"] = temperature.into();
        }
        if !request.stop.is_empty() {
            body["stop"] = json!(request.stop);
        }
        if let Some(schema) = request.schema.as_ref().filter(|schema| !self.hosted || is_object(schema)) {
            // Strictness is refused for schemas outside its subset; without it the schema still guides.
            let format = json!({"name": "answer", "strict": is_strict(schema), "schema": schema});
            body["response_format"] = json!({"type": "json_schema", "json_schema": format});
        }
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }
}

/// Reads a whole chat completion.
pub(super) fn read(body: &Value, answer: &mut Answer) -> Result<(), Failure> {
    let wrong =
        |what: &str| Failure::nonsense(format!("gave an answer without {what}; is the base URL right?"));
    let choice = body.pointer("/choices/0").ok_or_else(|| wrong("`choices`"))?;
    let message = choice.get("message").filter(|message| message.is_object());
    take(message.ok_or_else(|| wrong("a `message`"))?, answer)?;
    take_frame(body, choice, answer);
    Ok(())
}

/// Reads a chunk of a streamed chat completion.
pub(super) fn read_event(event: &Value, answer: &mut Answer) -> Result<(), Failure> {
    if !event.is_object() {
        return Err(Failure::nonsense("gave a streamed answer with an event that is no object".into()));
    }
    let choice = event.pointer("/choices/0").unwrap_or(&Value::Null);
    if let Some(delta) = choice.get("delta").filter(|delta| delta.is_object()) {
        take(delta, answer)?;
    }
    take_frame(event, choice, answer);
    Ok(())
}

/// Takes a message, or a piece of one.
fn take(message: &Value, answer: &mut Answer) -> Result<(), Failure> {
    for name in ["reasoning_content", "reasoning"] {
        answer.aside += message.get(name).and_then(Value::as_str).map_or(0, str::len) as u64;
    }
    match message.get("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => answer.push(text),
        // Some servers give a list of parts, as requests may have.
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).for_each(|text| answer.push(text));
        }
        Some(_) => return Err(Failure::nonsense("gave an answer whose `content` is no text".into())),
    }
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        answer.push(refusal);
        answer.stop = Some(StopReason::Refusal);
    }
    Ok(())
}

/// Takes what is around a message.
fn take_frame(body: &Value, choice: &Value, answer: &mut Answer) {
    if let Some(model) = body.get("model").and_then(Value::as_str) {
        answer.model = Some(model.to_owned());
    }
    if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
        let stop = match reason {
            "length" => StopReason::MaxTokens,
            "content_filter" => StopReason::Refusal,
            _ => StopReason::End,
        };
        // A refusal ends with `stop`.
        if answer.stop != Some(StopReason::Refusal) {
            answer.stop = Some(stop);
        }
    }
    let count = |name: &str| body.get("usage").and_then(|usage| usage.get(name)?.as_u64());
    let (input, output, total) = (count("prompt_tokens"), count("completion_tokens"), count("total_tokens"));
    answer.input = input.or(answer.input);
    // Some servers count reasoning in the total alone.
    let rest = total.zip(input).map(|(total, input)| total.saturating_sub(input));
    answer.output = output.max(rest).or(answer.output);
}
