//! `[llm]` of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::config::timeout;
use crate::schema;
use crate::units::{self, Timeout};

/// Models that programs may ask, and how much of them; nothing is granted without `model` (docs/llm.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LlmConfig {
    /// Who answers: `openai`, `azure`, `anthropic` or `script:FILE`. Default: whose variables are set.
    #[schemars(extend("x-flag" = "--provider"), example = &"openai")]
    pub(super) provider: Option<String>,
    /// The model that may be asked. Default: none.
    #[schemars(extend("x-flag" = "--model"), example = &"gpt-5")]
    pub(super) model: Option<String>,
    /// The model that programs ask where they name none. Default: the model.
    #[schemars(extend("x-flag" = "--sub-model"), example = &"gpt-5-mini")]
    pub(super) sub_model: Option<String>,
    /// Further models that programs may name. Default: none.
    #[serde(default)]
    #[schemars(example = ["gpt-5-nano"])]
    pub(super) models: Vec<String>,
    /// A server that speaks OpenAI's chat completions, unless OPENAI_BASE_URL is set. Default: OpenAI's.
    #[schemars(example = &"http://localhost:8000/v1")]
    pub(super) base_url: Option<String>,
    /// Tokens of an answer where the program does not say how many. Default: `8192`.
    pub(super) max_output: Option<u64>,
    /// Calls, those from the cache not counted. Default: `1000`.
    #[schemars(extend("x-flag" = "--max-calls"))]
    pub(super) max_calls: Option<u64>,
    /// Tokens read and written. Default: `10000000`.
    #[schemars(extend("x-flag" = "--max-tokens"))]
    pub(super) max_tokens: Option<u64>,
    /// Tokens read. Default: no limit of its own.
    #[schemars(example = 8_000_000)]
    pub(super) max_input_tokens: Option<u64>,
    /// Tokens written. Default: no limit of its own.
    #[schemars(example = 2_000_000)]
    pub(super) max_output_tokens: Option<u64>,
    /// US dollars. Named, it also refuses models of unknown price. Default: 10, of what has a price.
    #[serde(default, deserialize_with = "dollars")]
    #[schemars(extend("x-flag" = "--max-cost"), example = 2.5)]
    pub(super) max_cost: Option<f64>,
    /// Levels of child sessions. Default: `1`.
    #[schemars(extend("x-flag" = "--max-depth"))]
    pub(super) max_depth: Option<u32>,
    /// Calls at the same time. Default: `16`.
    #[schemars(extend("x-flag" = "--max-concurrency"))]
    pub(super) max_concurrency: Option<u32>,
    /// Time in which models may be asked, from the start. Default: `none`.
    #[serde(default, deserialize_with = "timeout")]
    #[schemars(with = "Option<schema::TimeOrNone>", extend("x-flag" = "--max-time"))]
    pub(super) max_time: Option<Timeout>,
    /// Time of one request. Default: `10m`.
    #[serde(default, deserialize_with = "duration")]
    #[schemars(with = "Option<schema::Time>")]
    pub(super) timeout: Option<Duration>,
    /// How often a request is sent again that certainly was not worked on. Default: `4`.
    pub(super) retries: Option<u32>,
    #[serde(default)]
    pub(super) prices: BTreeMap<String, PriceConfig>,
    /// A database of answers: equal requests are asked and paid once. Default: none.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--llm-cache", "x-made" = true), example = &"answers.db")]
    pub(super) cache: Option<PathBuf>,
    /// Other providers, by model, which programs may then ask. Default: none.
    #[serde(default)]
    #[schemars(example = &"anthropic")]
    pub(super) provider_of: BTreeMap<String, String>,
}

/// What a model costs, in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceConfig {
    /// For tokens that it reads. Default: none; it must be given.
    #[schemars(example = 0.5)]
    pub(super) input: f64,
    /// For tokens that it writes. Default: none; it must be given.
    #[schemars(example = 2.0)]
    pub(super) output: f64,
}

fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let amount = f64::deserialize(deserializer)?;
    let wrong = || de::Error::custom("`max-cost` is an amount of US dollars, as in `0.50`");
    Some(amount).filter(units::is_price).map(Some).ok_or_else(wrong)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::duration(&text).map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
impl LlmConfig {
    /// Compares what the documentation tells with what holds.
    pub fn check_defaults(&self) {
        use agentkernel::llm::{Dollars, HttpOptions, LlmLimits};
        let limits = LlmLimits::default();
        assert_eq!(self.max_calls, limits.calls);
        assert_eq!(self.max_tokens, limits.tokens);
        assert_eq!(self.max_depth, limits.depth);
        assert_eq!(self.max_concurrency, limits.concurrency);
        assert_eq!(self.max_time.and_then(|time| time.0), limits.time);
        assert_eq!(limits.cost, Some(Dollars::new(10.0)));
        let http = HttpOptions::new().timeout(self.timeout.unwrap_or_default());
        let http = http.retries(self.retries.unwrap_or_default());
        assert_eq!(format!("{http:?}"), format!("{:?}", HttpOptions::new()));
    }
}
