//! Azure OpenAI: the same models at addresses of one's own.

use std::collections::BTreeMap;

use reqwest::Url;
use serde_json::Value;

use super::http::{self, Answer, Client, Failure, HttpOptions, Key, Protocol};
use super::openai::{Chat, TokensField, advice_on_tokens, read, read_event};
use super::{Completing, ModelRequest, OnText, Provider, ProviderError};
use crate::{Error, ErrorKind, Result};

/// The version of the API that is spoken: the newest that is stable.
const VERSION: &str = "2024-10-21";

/// Azure OpenAI, where models are deployments with names of their own.
///
/// ```no_run
/// use agentkernel::llm::AzureOpenAi;
///
/// let azure = AzureOpenAi::builder()
///     .key("…")
///     .endpoint("https://example.openai.azure.com")
///     .deployment("gpt-5-mini", "small")
///     .deployment("gpt-5", "big")
///     .build()?;
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Debug)]
pub struct AzureOpenAi {
    base: Url,
    version: String,
    deployments: BTreeMap<String, String>,
    default: Option<String>,
    chat: Chat,
    client: Client,
}

/// Configures [`AzureOpenAi`].
#[derive(Clone, Debug, Default)]
pub struct AzureOpenAiBuilder {
    key: Option<Key>,
    endpoint: Option<String>,
    version: Option<String>,
    deployments: BTreeMap<String, String>,
    default: Option<String>,
    tokens_field: Option<TokensField>,
    http: HttpOptions,
}

impl AzureOpenAi {
    /// Configures a provider; a key, an endpoint and a deployment must be given.
    pub fn builder() -> AzureOpenAiBuilder {
        AzureOpenAiBuilder::default()
    }
}

impl AzureOpenAiBuilder {
    /// The key, sent as `api-key`.
    #[must_use]
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Where the resource is: `https://example.openai.azure.com`.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The deployment of one model.
    #[must_use]
    pub fn deployment(mut self, model: impl Into<String>, deployment: impl Into<String>) -> Self {
        self.deployments.insert(model.into(), deployment.into());
        self
    }

    /// The deployment of all models that have none of their own. Without one, they cannot be asked.
    #[must_use]
    pub fn default_deployment(mut self, deployment: impl Into<String>) -> Self {
        self.default = Some(deployment.into());
        self
    }

    /// The version of the API: `2024-10-21`.
    #[must_use]
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// What the limit of tokens is called: `max_completion_tokens`.
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
    /// When the key, the endpoint or every deployment is missing, or one of them or a header cannot be used.
    pub fn build(self) -> Result<AzureOpenAi> {
        let missing = |what: &str, variable: &str| {
            Error::new(ErrorKind::Model, format!("Azure OpenAI wants {what}")).hint(format!("set {variable}"))
        };
        let key = self.key.ok_or_else(|| missing("a key", "AZURE_OPENAI_API_KEY"))?;
        let endpoint = self.endpoint.ok_or_else(|| missing("an endpoint", "AZURE_OPENAI_ENDPOINT"))?;
        if self.default.is_none() && self.deployments.is_empty() {
            return Err(missing("a deployment", "AZURE_OPENAI_DEPLOYMENT"));
        }
        let version = self.version.unwrap_or_else(|| VERSION.into());
        let names = self.deployments.values().chain(&self.default);
        for (name, what) in names.map(|name| (name, "deployment")).chain([(&version, "API version")]) {
            let fits = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
            if name.is_empty() || !name.bytes().all(fits) || name.bytes().all(|letter| letter == b'.') {
                let message = format!("`{}` cannot be an Azure {what}", name.escape_debug());
                return Err(Error::new(ErrorKind::Model, message)
                    .hint("it has letters, digits, hyphens, underscores and dots"));
            }
        }
        let base = http::base_url(&endpoint)?;
        let field = self.tokens_field.unwrap_or(TokensField::MaxCompletionTokens);
        let client = Client::new("Azure OpenAI".into(), &base, self.http, Some(("api-key", "", key)), &[])?;
        Ok(AzureOpenAi {
            base,
            version,
            deployments: self.deployments,
            default: self.default,
            chat: Chat { tokens_field: field, hosted: true },
            client,
        })
    }
}

impl Provider for AzureOpenAi {
    fn name(&self) -> &str {
        "azure"
    }

    fn identity(&self) -> String {
        format!("azure {} {} {:?} {:?}", self.base, self.version, self.deployments, self.default)
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, on_text: Option<OnText<'a>>) -> Completing<'a> {
        Box::pin(self.client.complete(self, request, self.input_tokens_at_most(request), on_text))
    }
}

impl Protocol for AzureOpenAi {
    fn url(&self, request: &ModelRequest) -> Result<Url, ProviderError> {
        let deployment = self.deployments.get(&request.model).or(self.default.as_ref()).ok_or_else(|| {
            let known: Vec<_> = self.deployments.keys().map(|model| format!("`{model}`")).collect();
            let model = request.model.escape_debug();
            let mut error = ProviderError::new(format!(
                "Azure OpenAI has no deployment for the model `{model}`; there are {}; AZURE_OPENAI_DEPLOYMENT names them",
                known.join(", ")
            ));
            error.attempts = 0;
            error
        })?;
        let mut url = http::below(&self.base, &format!("openai/deployments/{deployment}/chat/completions"));
        url.query_pairs_mut().append_pair("api-version", &self.version);
        Ok(url)
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
            401 => "check AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT, which belong together",
            403 => "check what the key of AZURE_OPENAI_API_KEY may be used for, and from where",
            404 => "check AZURE_OPENAI_DEPLOYMENT, AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_VERSION",
            _ => return advice_on_tokens(status, message),
        };
        Some(advice.into())
    }
}
