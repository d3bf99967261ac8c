//! Which models a run is granted, who answers for them, and how much of them: flags, variables and the
//! table `[llm]` of the configuration put together. Keys come from the environment or a `.env` file.

mod config;
mod environment;
mod limits;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentkernel::llm::{
    Budget, HttpOptions, Llm, LlmLimits, Prices, Provider, ResponseCache, provider_from_environment,
};
use agentkernel::{Privacy, Replaying};

pub use self::config::LlmConfig;
pub use self::environment::{DotEnv, PROVIDER_VARIABLES, own};
use self::limits::{at_least_one, limits, prices, without_effect};
use crate::arguments::Models;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::units::{show_count, show_duration, show_number_of};

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
