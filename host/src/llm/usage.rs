//! What models were asked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Dollars;

/// What models were asked, by model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LlmUsage {
    /// What each model was asked.
    pub models: BTreeMap<String, ModelUsage>,
}

/// What one model was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelUsage {
    /// Calls that were sent.
    pub calls: u64,
    /// Answers that came from a cache and cost nothing.
    pub cached: u64,
    /// Tokens it read.
    pub input_tokens: u64,
    /// Tokens it wrote.
    pub output_tokens: u64,
    /// Values that were replaced by tokens in what it was asked ([`Privacy`](crate::Privacy)).
    #[serde(skip_serializing_if = "is_zero")]
    pub hidden: u64,
    /// US dollars; nothing where its price is unknown.
    pub cost: Option<Dollars>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl LlmUsage {
    /// The sum over all models. Its cost is that of the models whose price is known.
    pub fn total(&self) -> ModelUsage {
        self.models.values().fold(ModelUsage::default(), |sum, one| ModelUsage {
            calls: sum.calls + one.calls,
            cached: sum.cached + one.cached,
            input_tokens: sum.input_tokens.saturating_add(one.input_tokens),
            output_tokens: sum.output_tokens.saturating_add(one.output_tokens),
            hidden: sum.hidden.saturating_add(one.hidden),
            cost: match (sum.cost, one.cost) {
                (None, cost) | (cost, None) => cost,
                (Some(sum), Some(one)) => Some(sum.plus(one)),
            },
        })
    }
}
