//! What is limited, and amounts of it.

use std::time::Duration;

use super::{Dollars, Tokens};

/// What may be asked of models. Without a limit of its own a budget is held by those above it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LlmLimits {
    /// Calls, those from a cache not counted. Default: 1,000.
    pub calls: Option<u64>,
    /// Tokens read and written. Default: 10,000,000.
    pub tokens: Option<u64>,
    /// Tokens read. Default: no limit of its own.
    pub input_tokens: Option<u64>,
    /// Tokens written. Default: no limit of its own.
    pub output_tokens: Option<u64>,
    /// Cost. Default: 10 dollars.
    pub cost: Option<Dollars>,
    /// Whether models of unknown price may be asked although cost is limited. Default: yes, as that
    /// limit was named by nobody.
    pub unpriced: bool,
    /// Levels of child sessions below this one. Default: 1.
    pub depth: Option<u32>,
    /// Calls at the same time. Default: 16.
    pub concurrency: Option<u32>,
    /// Time from the making of the budget. Default: no limit of its own.
    pub time: Option<Duration>,
}

impl Default for LlmLimits {
    fn default() -> Self {
        LlmLimits {
            calls: Some(1000),
            tokens: Some(10_000_000),
            input_tokens: None,
            output_tokens: None,
            cost: Some(Dollars::new(10.0)),
            unpriced: true,
            depth: Some(1),
            concurrency: Some(16),
            time: None,
        }
    }
}

impl LlmLimits {
    /// No limit.
    pub fn none() -> Self {
        LlmLimits {
            calls: None,
            tokens: None,
            input_tokens: None,
            output_tokens: None,
            cost: None,
            unpriced: true,
            depth: None,
            concurrency: None,
            time: None,
        }
    }

    pub(super) fn of(&self, what: Quantity) -> Option<u64> {
        match what {
            Quantity::Calls => self.calls,
            Quantity::Tokens => self.tokens,
            Quantity::InputTokens => self.input_tokens,
            Quantity::OutputTokens => self.output_tokens,
            Quantity::Cost => self.cost.map(|cost| cost.0),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quantity {
    Calls,
    Tokens,
    InputTokens,
    OutputTokens,
    Cost,
}

pub(super) const QUANTITIES: [Quantity; 5] =
    [Quantity::Calls, Quantity::Tokens, Quantity::InputTokens, Quantity::OutputTokens, Quantity::Cost];

impl Quantity {
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Calls => "calls",
            Quantity::Tokens => "tokens",
            Quantity::InputTokens => "input_tokens",
            Quantity::OutputTokens => "output_tokens",
            Quantity::Cost => "cost",
        }
    }

    pub fn shown(self, amount: u64) -> String {
        match self {
            Quantity::Cost => Dollars(amount).to_string(),
            Quantity::Calls => format!("{amount} calls"),
            Quantity::Tokens => format!("{amount} tokens"),
            Quantity::InputTokens => format!("{amount} input tokens"),
            Quantity::OutputTokens => format!("{amount} output tokens"),
        }
    }
}

/// An amount of all that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub calls: u64,
    pub tokens: Tokens,
    pub cost: Dollars,
}

impl Amount {
    pub fn of(&self, what: Quantity) -> u64 {
        match what {
            Quantity::Calls => self.calls,
            Quantity::Tokens => self.tokens.input.saturating_add(self.tokens.output),
            Quantity::InputTokens => self.tokens.input,
            Quantity::OutputTokens => self.tokens.output,
            Quantity::Cost => self.cost.0,
        }
    }

    pub fn plus(mut self, other: &Amount) -> Self {
        self.add(other);
        self
    }

    pub fn add(&mut self, other: &Amount) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens.input = self.tokens.input.saturating_add(other.tokens.input);
        self.tokens.output = self.tokens.output.saturating_add(other.tokens.output);
        self.cost = self.cost.plus(other.cost);
    }

    pub fn subtract(&mut self, other: &Amount) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.tokens.input = self.tokens.input.saturating_sub(other.tokens.input);
        self.tokens.output = self.tokens.output.saturating_sub(other.tokens.output);
        self.cost.0 = self.cost.0.saturating_sub(other.cost.0);
    }
}
