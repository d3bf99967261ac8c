//! Which models a run is granted, who answers for them, and how much of them: flags, variables and the
//! table `[llm]` of the configuration put together. Keys come from the environment or a `.env` file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentkernel::llm::{
    Budget, Dollars, HttpOptions, Llm, LlmLimits, Price, Prices, Provider, ResponseCache,
    provider_from_environment,
};
use agentkernel::{Privacy, Replaying};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::arguments::Models;
use crate::config::{Config, timeout};
use crate::failure::{Failure, Result};
use crate::schema;
use crate::units::{self, Timeout, show_count, show_duration, show_number_of};

/// Models that programs may ask, and how much of them; nothing is granted without `model` (docs/llm.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LlmConfig {
    /// Who answers: `openai`, `azure`, `anthropic` or `script:FILE`. Default: whose variables are set.
    #[schemars(extend("x-flag" = "--provider"), example = &"openai")]
    provider: Option<String>,
    /// The model that may be asked. Default: none.
    #[schemars(extend("x-flag" = "--model"), example = &"gpt-5")]
    model: Option<String>,
    /// The model that programs ask where they name none. Default: the model.
    #[schemars(extend("x-flag" = "--sub-model"), example = &"gpt-5-mini")]
    sub_model: Option<String>,
    /// Further models that programs may name. Default: none.
    #[serde(default)]
    #[schemars(example = ["gpt-5-nano"])]
    models: Vec<String>,
    /// A server that speaks OpenAI's chat completions, unless OPENAI_BASE_URL is set. Default: OpenAI's.
    #[schemars(example = &"http://localhost:8000/v1")]
    base_url: Option<String>,
    /// Tokens of an answer where the program does not say how many. Default: `8192`.
    max_output: Option<u64>,
    /// Calls, those from the cache not counted. Default: `1000`.
    #[schemars(extend("x-flag" = "--max-calls"))]
    max_calls: Option<u64>,
    /// Tokens read and written. Default: `10000000`.
    #[schemars(extend("x-flag" = "--max-tokens"))]
    max_tokens: Option<u64>,
    /// Tokens read. Default: no limit of its own.
    #[schemars(example = 8_000_000)]
    max_input_tokens: Option<u64>,
    /// Tokens written. Default: no limit of its own.
    #[schemars(example = 2_000_000)]
    max_output_tokens: Option<u64>,
    /// US dollars. Named, it also refuses models of unknown price. Default: 10, of what has a price.
    #[serde(default, deserialize_with = "dollars")]
    #[schemars(extend("x-flag" = "--max-cost"), example = 2.5)]
    max_cost: Option<f64>,
    /// Levels of child sessions. Default: `1`.
    #[schemars(extend("x-flag" = "--max-depth"))]
    max_depth: Option<u32>,
    /// Calls at the same time. Default: `16`.
    #[schemars(extend("x-flag" = "--max-concurrency"))]
    max_concurrency: Option<u32>,
    /// Time in which models may be asked, from the start. Default: `none`.
    #[serde(default, deserialize_with = "timeout")]
    #[schemars(with = "Option<schema::TimeOrNone>", extend("x-flag" = "--max-time"))]
    max_time: Option<Timeout>,
    /// Time of one request. Default: `10m`.
    #[serde(default, deserialize_with = "duration")]
    #[schemars(with = "Option<schema::Time>")]
    timeout: Option<Duration>,
    /// How often a request is sent again that certainly was not worked on. Default: `4`.
    retries: Option<u32>,
    #[serde(default)]
    prices: BTreeMap<String, PriceConfig>,
    /// A database of answers: equal requests are asked and paid once. Default: none.
    #[schemars(with = "Option<schema::PathText>", extend("x-flag" = "--llm-cache", "x-made" = true), example = &"answers.db")]
    cache: Option<PathBuf>,
    /// Other providers, by model, which programs may then ask. Default: none.
    #[serde(default)]
    #[schemars(example = &"anthropic")]
    provider_of: BTreeMap<String, String>,
}

/// What a model costs, in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PriceConfig {
    /// For tokens that it reads. Default: none; it must be given.
    #[schemars(example = 0.5)]
    input: f64,
    /// For tokens that it writes. Default: none; it must be given.
    #[schemars(example = 2.0)]
    output: f64,
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

/// The variables that say how providers are reached.
pub const PROVIDER_VARIABLES: &[&str] = &[
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_DEPLOYMENT",
    "AZURE_OPENAI_API_VERSION",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
];

/// A `.env` file.
#[derive(Default)]
pub struct DotEnv {
    pub file: Option<PathBuf>,
    variables: BTreeMap<String, String>,
}

/// Values are secrets.
impl fmt::Debug for DotEnv {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DotEnv").field(&self.file).finish()
    }
}

impl DotEnv {
    /// The file beside the configuration, else in the working directory; `--no-config` has none.
    pub fn load(config: &Config, no_config: bool) -> Result<Self> {
        let beside = config.file.is_some().then(|| config.directory.join(".env"));
        let found = beside.into_iter().chain([PathBuf::from(".env")]).find(|path| path.is_file());
        match found {
            Some(path) if !no_config => Self::read(path),
            _ => Ok(DotEnv::default()),
        }
    }

    fn read(path: PathBuf) -> Result<Self> {
        let shown = path.display().to_string();
        let wrong = |error: dotenvy::Error| match error {
            dotenvy::Error::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                Failure::new(format!("cannot read `{shown}`: {error}"))
            }
            // The error has the line, which may be a key.
            _ => Failure::new(format!("`{shown}` has a line that is not `NAME=VALUE`"))
                .hint("put values with blanks or special characters in single quotes"),
        };
        let mut variables = BTreeMap::new();
        for variable in dotenvy::from_path_iter(&path).map_err(wrong)? {
            let (name, value) = variable.map_err(wrong)?;
            if name.starts_with("AGENTKERNEL_") {
                return Err(Failure::new(format!("`{name}` has no effect in `{shown}`"))
                    .hint("that file has the variables of providers; settings stand in agentkernel.toml"));
            }
            variables.insert(name, value);
        }
        Ok(DotEnv { file: Some(path), variables })
    }

    /// What is set to something in the file.
    pub fn has(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|value| !value.trim().is_empty())
    }

    /// Refuses a file that says to which server a key of this process is sent: a program may have
    /// written it.
    fn check_servers(&self) -> Result<()> {
        const SERVERS: [(&str, &str); 3] = [
            ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
            ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
            ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
        ];
        let Some(file) = &self.file else { return Ok(()) };
        let found = SERVERS.iter().find(|(server, key)| {
            self.variables.contains_key(*server) && own(server).is_none() && own(key).is_some()
        });
        match found {
            Some((server, key)) => Err(Failure::new(format!(
                "`{}` says by {server} to which server {key} of the environment is sent",
                file.display()
            ))
            .hint(format!("set {server} in the environment as well, or put the key into the file"))),
            None => Ok(()),
        }
    }

    /// A variable of this process, else of the file.
    pub fn get(&self, name: &str) -> Option<String> {
        own(name).or_else(|| self.variables.get(name).cloned())
    }
}

/// A variable of this process that is set to something.
pub fn own(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Models that may be asked.
pub struct Granted {
    pub llm: Llm,
    /// What all sessions of this process may ask together.
    pub budget: Budget,
    /// Who answers for the model; nobody in a replay.
    provider: Option<Arc<dyn Provider>>,
    limits: LlmLimits,
    prices: Prices,
    /// The `.env` file that was read.
    pub secrets: Option<PathBuf>,
    /// Whether personal data is hidden.
    hides: bool,
}

impl fmt::Debug for Granted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Granted").field(&self.llm).finish()
    }
}

impl Granted {
    /// How many hold the models, each session among them.
    pub fn holders(&self) -> usize {
        self.provider.as_ref().map_or(1, Arc::strong_count)
    }

    /// What a conversation may ask in all, and the time that each of its tasks has: people think in between.
    pub fn conversation(&self) -> (Budget, Option<Duration>) {
        let mut limits = self.limits;
        limits.time = None;
        (Budget::new(limits), self.limits.time)
    }

    /// The same models, which are not shown everything.
    pub fn hiding(mut self, privacy: Privacy) -> Self {
        self.llm = self.llm.privacy(privacy);
        self.hides = true;
        self
    }

    /// What is granted; nothing unless a model is named.
    pub fn resolve(flags: &Models, config: &Config, no_config: bool) -> Result<Option<Self>> {
        let none = LlmConfig::default();
        let table = config.llm.as_ref().unwrap_or(&none);
        let Some(model) = flags.model.as_ref().or(table.model.as_ref()) else {
            without_effect(flags, table)?;
            return Ok(None);
        };
        let limits = limits(flags, table)?;
        let dot_env = DotEnv::load(config, no_config)?;
        dot_env.check_servers()?;
        let sources = Sources { table, dot_env: &dot_env };
        let provider = match (&flags.provider, &table.provider) {
            (Some(named), _) => sources.provider(Some(named), model, Path::new(""))?,
            (None, Some(named)) => sources.provider(Some(named), model, &config.directory)?,
            // A server of one's own is meant where one is named.
            (None, None) => {
                sources.provider(table.base_url.as_ref().map(|_| "openai"), model, Path::new(""))?
            }
        };
        let prices = prices(table)?;
        let mut llm = Llm::with(model, Arc::clone(&provider)).limits(limits).prices(prices.clone());
        if let Some(sub_model) = flags.sub_model.as_ref().or(table.sub_model.as_ref()) {
            llm = llm.sub_model(sub_model);
        }
        for model in &table.models {
            llm = llm.allow(model);
        }
        for (model, named) in &table.provider_of {
            llm = llm.provider_of(model, sources.provider(Some(named), model, &config.directory)?);
        }
        if let Some(tokens) = table.max_output {
            llm = llm.max_output(at_least_one("max-output", tokens)?);
        }
        if let Some(file) = &flags.llm_cache {
            llm = llm.cache(ResponseCache::open(file)?);
        } else if let Some(file) = &table.cache {
            llm = llm.cache(ResponseCache::open(config.directory.join(file))?);
        }
        let (budget, provider) = (llm.budget(), Some(provider));
        let granted = Granted { llm, budget, provider, limits, prices, secrets: dot_env.file, hides: false };
        granted.check_prices()?;
        Ok(Some(granted))
    }

    /// The models of a recording, which nobody is asked for, within the limits that are given now.
    pub fn replayed(replaying: &Replaying, flags: &Models, config: &Config) -> Result<Option<Self>> {
        let none = LlmConfig::default();
        let table = config.llm.as_ref().unwrap_or(&none);
        let Some(llm) = replaying.llm() else { return Ok(None) };
        let (limits, prices) = (limits(flags, table)?, prices(table)?);
        let mut llm = llm.limits(limits).prices(prices.clone());
        if let Some(tokens) = table.max_output {
            llm = llm.max_output(at_least_one("max-output", tokens)?);
        }
        let budget = llm.budget();
        Ok(Some(Granted { llm, budget, provider: None, limits, prices, secrets: None, hides: false }))
    }

    /// Refuses a limit of cost under which the model could not be asked.
    fn check_prices(&self) -> Result<()> {
        let models = [self.llm.model(), self.llm.model_of_programs()];
        match models.into_iter().find(|model| self.prices.get(model).is_none()) {
            Some(model) if self.limits.cost.is_some() && !self.limits.unpriced => {
                Err(Failure::new(format!("cost is limited, and the price of `{model}` is not known")).hint(
                    format!("give it: `[llm.prices]` `\"{model}\" = {{ input = 0.5, output = 2.0 }}`, in dollars for a million tokens, or leave `--max-cost` out"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The model, who answers, and how much of it, in a line.
    pub fn summary(&self) -> String {
        let model = self.llm.model();
        let provider = self.provider.as_ref().map_or("a recording", |provider| provider.name());
        let mut text = format!("`{model}` of {provider}");
        if self.llm.model_of_programs() != model {
            text += &format!(", `{}` for programs", self.llm.model_of_programs());
        }
        let LlmLimits { calls, tokens, cost, depth, time, .. } = self.limits;
        text += "; at most ";
        text += &calls.map_or("any calls".into(), |calls| show_number_of(calls, "call"));
        text += ", ";
        text += &tokens.map_or("any tokens".into(), |tokens| show_number_of(tokens, "token"));
        if let Some(cost) = cost {
            text += &format!(", {cost}");
        }
        text += &format!(", {} of children", show_number_of(depth.unwrap_or_default().into(), "level"));
        if let Some(time) = time {
            text += &format!(", {}", show_duration(time));
        }
        if self.hides {
            text += "; personal data is hidden from it";
        }
        if self.prices.get(model).is_none() {
            text += "; its price is not known, so its cost is not counted";
        }
        text
    }
}

/// The prices of the table, over those that are known.
fn prices(table: &LlmConfig) -> Result<Prices> {
    let mut prices = Prices::default();
    for (model, PriceConfig { input, output }) in &table.prices {
        prices.set(model, Price { input: *input, output: *output })?;
    }
    Ok(prices)
}

/// Where providers are described.
struct Sources<'a> {
    table: &'a LlmConfig,
    dot_env: &'a DotEnv,
}

impl Sources<'_> {
    /// The provider of a model. The path of a script starts at `base`.
    fn provider(&self, named: Option<&str>, model: &str, base: &Path) -> Result<Arc<dyn Provider>> {
        let mut http = HttpOptions::new();
        if let Some(timeout) = self.table.timeout {
            http = http.timeout(timeout);
        }
        if let Some(retries) = self.table.retries {
            http = http.retries(retries);
        }
        let script = named.and_then(|named| named.strip_prefix("script:"));
        let named = match script {
            Some(file) => Some(format!("script:{}", base.join(file).display())),
            None => named.map(str::to_owned),
        };
        let lookup = |name: &str| {
            let configured = || self.table.base_url.clone().filter(|_| name == "OPENAI_BASE_URL");
            self.dot_env.get(name).or_else(configured)
        };
        Ok(provider_from_environment(named.as_deref(), Some(model), &http, lookup)?)
    }
}

/// What flags say, else the file, else the defaults.
fn limits(flags: &Models, table: &LlmConfig) -> Result<LlmLimits> {
    let mut limits = LlmLimits::default();
    let positive = |name, one: Option<u64>, other: Option<u64>| {
        one.or(other).map(|amount| at_least_one(name, amount)).transpose()
    };
    limits.calls = positive("max-calls", flags.max_calls, table.max_calls)?.or(limits.calls);
    limits.tokens = positive("max-tokens", flags.max_tokens, table.max_tokens)?.or(limits.tokens);
    limits.input_tokens = positive("max-input-tokens", None, table.max_input_tokens)?;
    limits.output_tokens = positive("max-output-tokens", None, table.max_output_tokens)?;
    if let Some(cost) = flags.max_cost.or(table.max_cost) {
        limits.cost = Some(Dollars::new(cost));
        // Who names a limit wants it to hold.
        limits.unpriced = false;
    }
    limits.depth = flags.max_depth.or(table.max_depth).or(limits.depth);
    let concurrency = flags.max_concurrency.or(table.max_concurrency);
    if let Some(calls) = concurrency {
        at_least_one("max-concurrency", calls.into())?;
        limits.concurrency = Some(calls);
    }
    limits.time = flags.max_time.or(table.max_time).and_then(|time| time.0);
    if limits.time == Some(Duration::ZERO) {
        return Err(nothing("max-time", "0s"));
    }
    Ok(limits)
}

fn at_least_one(name: &str, amount: u64) -> Result<u64> {
    if amount == 0 { Err(nothing(name, "0")) } else { Ok(amount) }
}

fn nothing(name: &str, value: &str) -> Failure {
    Failure::new(format!("`{name}` of `{value}` lets no model be asked"))
        .hint("give more, or name no model: then programs have none")
}

/// Refuses what would have an effect if a model were named. Limits that a variable or the file has
/// ready are no grants, and may wait for one.
fn without_effect(flags: &Models, table: &LlmConfig) -> Result<()> {
    let given = [
        ("--sub-model", flags.sub_model.is_some()),
        ("--provider", flags.provider.is_some()),
        ("--max-calls", flags.max_calls.is_some()),
        ("--max-tokens", flags.max_tokens.is_some()),
        ("--max-cost", flags.max_cost.is_some()),
        ("--max-depth", flags.max_depth.is_some()),
        ("--max-concurrency", flags.max_concurrency.is_some()),
        ("--max-time", flags.max_time.is_some()),
        ("--llm-cache", flags.llm_cache.is_some()),
    ];
    let ambient = |flag: &str| {
        let name = flag.trim_start_matches('-').trim_start_matches("llm-").replace('-', "_").to_uppercase();
        std::env::var_os(format!("AGENTKERNEL_LLM_{name}")).is_some()
    };
    let flag = given.iter().find(|(flag, given)| *given && !ambient(flag)).map(|(flag, _)| *flag);
    let keys = [
        ("[llm] sub-model", table.sub_model.is_some()),
        ("[llm] models", !table.models.is_empty()),
        ("[llm] provider-of", !table.provider_of.is_empty()),
    ];
    let key = keys.iter().find(|(_, given)| *given).map(|(key, _)| *key);
    match flag.or(key) {
        Some(name) => Err(Failure::new(format!("`{name}` has no effect: no model is named"))
            .hint("name one with `--model NAME`, or in agentkernel.toml: `[llm]` `model = \"NAME\"`")),
        None => Ok(()),
    }
}

/// What a run without a model is told where it needs one.
pub fn absent() -> Failure {
    Failure::new("no model is named").hint(
        "name one with `--model NAME`, or in agentkernel.toml: `[llm]` `model = \"NAME\"`; its provider's key is \
         taken from the environment or a `.env` file",
    )
}

/// What was asked of models, in words.
pub fn used(usage: &agentkernel::llm::LlmUsage) -> String {
    let total = usage.total();
    let mut text = format!(
        "{} of models ({} read, {} written",
        show_number_of(total.calls + total.cached, "call"),
        show_number_of(total.input_tokens, "token"),
        show_count(total.output_tokens)
    );
    if total.cached > 0 {
        text += &format!(", {} from the cache", show_count(total.cached));
    }
    if total.hidden > 0 {
        text += &format!(", {} hidden", show_number_of(total.hidden, "value"));
    }
    if let Some(cost) = total.cost {
        text += &format!(", {cost}");
    }
    if usage.models.values().any(|model| model.cost.is_none() && model.calls > 0) {
        text += ", cost not known";
    }
    text + ")"
}

#[cfg(test)]
impl LlmConfig {
    /// Compares what the documentation tells with what holds.
    pub fn check_defaults(&self) {
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
