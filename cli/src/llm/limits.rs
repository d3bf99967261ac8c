//! How much models may be asked: flags and `[llm]` put together.

use std::time::Duration;

use agentkernel::llm::{Dollars, LlmLimits, Price, Prices};

use super::config::{LlmConfig, PriceConfig};
use crate::arguments::Models;
use crate::failure::{Failure, Result};

/// What flags say, else the file, else the defaults.
pub fn limits(flags: &Models, table: &LlmConfig) -> Result<LlmLimits> {
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

pub fn at_least_one(name: &str, amount: u64) -> Result<u64> {
    if amount == 0 { Err(nothing(name, "0")) } else { Ok(amount) }
}

fn nothing(name: &str, value: &str) -> Failure {
    Failure::new(format!("`{name}` of `{value}` lets no model be asked"))
        .hint("give more, or name no model: then programs have none")
}

/// Refuses what would have an effect if a model were named. Limits that a variable or the file has
/// ready are no grants, and may wait for one.
pub fn without_effect(flags: &Models, table: &LlmConfig) -> Result<()> {
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

/// The prices of the table, over those that are known.
pub fn prices(table: &LlmConfig) -> Result<Prices> {
    let mut prices = Prices::default();
    for (model, PriceConfig { input, output }) in &table.prices {
        prices.set(model, Price { input: *input, output: *output })?;
    }
    Ok(prices)
}
