//! Models: who answers, what it may cost, and what programs ask.
//!
//! A [`Provider`] answers requests. [`Llm`] says which models there are and what they cost, a
//! [`Budget`] what may be asked of them. A kernel with a model gives its programs `ask_llm`:
//!
//! ```
//! # fn main() -> agentkernel::Result<()> {
//! use agentkernel::Kernel;
//! use agentkernel::llm::{Completing, Completion, Llm, ModelRequest, OnText, Provider, StopReason, Tokens};
//!
//! /// Answers with the length of the prompt.
//! struct Length;
//!
//! impl Provider for Length {
//!     fn name(&self) -> &str {
//!         "length"
//!     }
//!
//!     fn complete<'a>(&'a self, request: &'a ModelRequest, _: Option<OnText<'a>>) -> Completing<'a> {
//!         Box::pin(async {
//!             let length = request.messages[0].content.len();
//!             Ok(Completion {
//!                 text: length.to_string(),
//!                 model: request.model.clone(),
//!                 tokens: Tokens { input: length as u64 / 4, output: 1 },
//!                 stop: StopReason::End,
//!             })
//!         })
//!     }
//! }
//!
//! let kernel = Kernel::builder().llm(Llm::new("ruler", Length)).build()?;
//! let mut session = kernel.session().start()?;
//! let outcome = session.run_blocking("from agentkernel import ask_llm\nprint(ask_llm('How long?'))")?;
//! assert_eq!(outcome.stdout, b"9\n");
//! assert_eq!(outcome.usage.llm.models["ruler"].input_tokens, 2);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "providers")]
mod anthropic;
mod ask;
#[cfg(feature = "providers")]
mod azure;
#[cfg(feature = "cache")]
mod cache;
#[cfg(feature = "providers")]
mod env;
#[cfg(feature = "providers")]
mod http;
mod limits;
mod meter;
#[cfg(feature = "providers")]
mod openai;
mod price;
mod provider;
mod script;
mod service;
mod told;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "providers")]
pub use anthropic::{Anthropic, AnthropicBuilder};
pub use ask::{Answer, AskError};
#[cfg(feature = "providers")]
pub use azure::{AzureOpenAi, AzureOpenAiBuilder};
#[cfg(feature = "cache")]
pub use cache::ResponseCache;
#[cfg(feature = "providers")]
pub use env::provider_from_environment;
#[cfg(feature = "providers")]
pub use http::{HttpOptions, Key};
pub(crate) use limits::Amount;
pub use limits::LlmLimits;
pub use meter::{Budget, BudgetExceeded, Left};
#[cfg(feature = "providers")]
pub use openai::{OpenAi, OpenAiBuilder, TokensField};
pub use price::{Dollars, Price, Prices};
pub use provider::{
    Completing, Completion, Message, ModelRequest, OnText, Provider, ProviderError, Role, StopReason, Tokens,
};
pub use script::{Reply, Script};
pub(crate) use service::LlmService;
pub use service::{CallEnd, CallStart, Watch};
pub use usage::{LlmUsage, ModelUsage};

use crate::privacy::{Prepared, Privacy, Scope};
use crate::telemetry::{Metrics, ModelCounts};

/// The most tokens of an answer where nobody says how many.
const MAX_OUTPUT: u64 = 8192;

/// The models that programs may ask, and who answers for them. Cheap to clone.
#[derive(Clone)]
pub struct Llm {
    provider: Arc<dyn Provider>,
    model: String,
    sub_model: Option<String>,
    others: BTreeMap<String, Option<Arc<dyn Provider>>>,
    prices: Prices,
    limits: LlmLimits,
    max_output: u64,
    privacy: Option<Privacy>,
    /// The tokens of a session; those of the kernel's models begin with each.
    scope: Option<Arc<Scope>>,
    #[cfg(feature = "cache")]
    cache: Option<ResponseCache>,
    /// What a kernel's models were asked; clones have the same.
    counts: Arc<ModelCounts>,
    trace_content: bool,
}

impl fmt::Debug for Llm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Llm");
        shown.field("provider", &self.provider.name()).field("models", &self.models().collect::<Vec<_>>());
        shown.field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Llm {
    /// One model and who answers for it.
    pub fn new(model: impl Into<String>, provider: impl Provider) -> Self {
        Self::with(model, Arc::new(provider))
    }

    /// One model and who answers for it.
    pub fn with(model: impl Into<String>, provider: Arc<dyn Provider>) -> Self {
        Llm {
            provider,
            model: model.into(),
            sub_model: None,
            others: BTreeMap::new(),
            prices: Prices::default(),
            limits: LlmLimits::default(),
            max_output: MAX_OUTPUT,
            privacy: None,
            scope: None,
            #[cfg(feature = "cache")]
            cache: None,
            counts: Arc::default(),
            trace_content: false,
        }
    }

    /// The model that programs ask where they name none. Default: the model.
    pub fn sub_model(mut self, model: impl Into<String>) -> Self {
        self.sub_model = Some(model.into());
        self
    }

    /// Lets programs ask this model as well, by its name. Default: they may ask the model and the
    /// sub-model.
    pub fn allow(mut self, model: impl Into<String>) -> Self {
        self.others.entry(model.into()).or_default();
        self
    }

    /// Another provider for one of the models. It makes the model one that programs may ask.
    pub fn provider_of(mut self, model: impl Into<String>, provider: Arc<dyn Provider>) -> Self {
        self.others.insert(model.into(), Some(provider));
        self
    }

    /// What models cost. Default: [`Prices::default`].
    pub fn prices(mut self, prices: Prices) -> Self {
        self.prices = prices;
        self
    }

    /// What each session may ask where it is given no [`Budget`]. Default: [`LlmLimits::default`].
    pub fn limits(mut self, limits: LlmLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The most tokens of an answer where the program does not say; less where less is left. Default:
    /// 8,192.
    pub fn max_output(mut self, tokens: u64) -> Self {
        self.max_output = tokens.max(1);
        self
    }

    /// What the models are not shown. Default: they are shown all.
    pub fn privacy(mut self, privacy: Privacy) -> Self {
        (self.privacy, self.scope) = (Some(privacy), None);
        self
    }

    /// The same models with the tokens of one session.
    pub(crate) fn scoped(mut self) -> Self {
        if self.scope.is_none() {
            self.scope = self.privacy.as_ref().map(Privacy::scope);
        }
        self
    }

    /// The same models, counted by themselves: those of one kernel.
    pub(crate) fn counted(self, trace_content: bool) -> Self {
        Llm { counts: Arc::default(), trace_content, ..self }
    }

    /// Adds what they were asked.
    pub(crate) fn tell(&self, metrics: &mut Metrics) {
        self.counts.tell(metrics);
    }

    /// What is hidden from the models.
    pub(crate) fn hides(&self) -> Option<&Privacy> {
        self.privacy.as_ref()
    }

    /// The request as it is sent. All that is counted, kept, recorded or sent is of it.
    ///
    /// # Errors
    ///
    /// [`AskError::Request`] when there is more to hide than a session may.
    pub(crate) fn prepare(&self, request: ModelRequest) -> Result<Prepared, AskError> {
        let own = || self.privacy.as_ref().map(Privacy::scope);
        Prepared::new(request, self.scope.clone().or_else(own))
    }

    /// Where answers are kept, so that equal requests are sent, and paid for, once. Default: nowhere.
    #[cfg(feature = "cache")]
    pub fn cache(mut self, cache: ResponseCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// The model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The model that programs ask where they name none.
    pub fn model_of_programs(&self) -> &str {
        self.sub_model.as_deref().unwrap_or(&self.model)
    }

    /// All models that programs may ask.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        let own = [Some(self.model.as_str()), self.sub_model.as_deref()].into_iter().flatten();
        let own = own.filter(|model| !self.others.contains_key(*model));
        own.chain(self.others.keys().map(String::as_str))
    }

    /// A budget with the limits of a session.
    pub fn budget(&self) -> Budget {
        Budget::new(self.limits)
    }

    /// Whether answers are kept.
    fn has_cache(&self) -> bool {
        #[cfg(feature = "cache")]
        return self.cache.is_some();
        #[cfg(not(feature = "cache"))]
        false
    }

    pub(crate) fn has_price(&self, model: &str) -> bool {
        self.prices.get(model).is_some()
    }

    fn provider(&self, model: &str) -> Option<&Arc<dyn Provider>> {
        if let Some(Some(other)) = self.others.get(model) {
            return Some(other);
        }
        self.models().any(|known| known == model).then_some(&self.provider)
    }
}

#[cfg(all(doctest, feature = "providers"))]
#[doc = include_str!("../../../docs/llm-providers.md")]
struct Providers;
