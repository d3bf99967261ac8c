//! What models cost.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::Tokens;
use crate::{Error, ErrorKind};

/// Prices of a model in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// For tokens that it reads.
    pub input: f64,
    /// For tokens that it writes, its reasoning included.
    pub output: f64,
}

impl Price {
    /// Whether both are finite and not negative.
    fn is_sound(&self) -> bool {
        [self.input, self.output].iter().all(|price| price.is_finite() && *price >= 0.0)
    }

    /// What `tokens` cost.
    pub fn of(&self, tokens: Tokens) -> Dollars {
        // A dollar for a million tokens is a thousand billionths for one.
        let billionths = tokens.input as f64 * self.input + tokens.output as f64 * self.output;
        Dollars((billionths * 1e3).ceil() as u64)
    }
}

/// An amount of US dollars, in whole billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(pub(crate) u64);

impl Dollars {
    /// An amount of at most nine billion dollars; what is less than nothing is nothing.
    pub fn new(dollars: f64) -> Self {
        Dollars((dollars * 1e9).clamp(0.0, 9e18) as u64)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Dollars(self.0.saturating_add(other.0))
    }

    /// The amount in dollars.
    pub fn get(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}

impl std::fmt::Display for Dollars {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.0 < 1_000_000_000 { 4 } else { 2 };
        write!(formatter, "${:.digits$}", self.get())
    }
}

/// Prices of models by name. A name with a date or `-latest` after it has the price of the name.
///
/// ```
/// use agentkernel::llm::{Price, Prices, Tokens};
///
/// let mut prices = Prices::default();
/// prices.set("house-model", Price { input: 0.5, output: 2.0 })?;
/// let tokens = Tokens { input: 2_000_000, output: 500_000 };
/// assert_eq!(prices.get("house-model").unwrap().of(tokens).get(), 2.0);
/// assert!(prices.get("gpt-4o-mini-2024-07-18").is_some());
/// assert!(prices.get("a-model-nobody-knows").is_none());
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Prices(BTreeMap<String, Price>);

/// List prices of the second half of 2025, without discounts for cached input or batches.
const LIST: &[(&str, f64, f64)] = &[
    ("claude-3-5-haiku", 0.8, 4.0),
    ("claude-3-5-sonnet", 3.0, 15.0),
    ("claude-3-7-sonnet", 3.0, 15.0),
    ("claude-haiku-4-5", 1.0, 5.0),
    ("claude-opus-4", 15.0, 75.0),
    ("claude-opus-4-1", 15.0, 75.0),
    ("claude-opus-4-5", 5.0, 25.0),
    ("claude-sonnet-4", 3.0, 15.0),
    ("claude-sonnet-4-5", 3.0, 15.0),
    ("gpt-4.1", 2.0, 8.0),
    ("gpt-4.1-mini", 0.4, 1.6),
    ("gpt-4.1-nano", 0.1, 0.4),
    ("gpt-4o", 2.5, 10.0),
    ("gpt-4o-mini", 0.15, 0.6),
    ("gpt-5", 1.25, 10.0),
    ("gpt-5-mini", 0.25, 2.0),
    ("gpt-5-nano", 0.05, 0.4),
    ("o3", 2.0, 8.0),
    ("o4-mini", 1.1, 4.4),
];

impl Default for Prices {
    fn default() -> Self {
        let price = |(name, input, output): &(&str, f64, f64)| {
            ((*name).to_owned(), Price { input: *input, output: *output })
        };
        Prices(LIST.iter().map(price).collect())
    }
}

impl Prices {
    /// Sets what a model costs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Model`] when a price is negative or no number.
    pub fn set(&mut self, model: impl Into<String>, price: Price) -> crate::Result<()> {
        let model = model.into();
        if !price.is_sound() {
            return Err(Error::new(
                ErrorKind::Model,
                format!("the price of `{model}` is no amount of money"),
            )
            .hint("give US dollars for a million tokens, 0 or more"));
        }
        self.0.insert(model, price);
        Ok(())
    }

    /// What a model costs, if that is known.
    pub fn get(&self, model: &str) -> Option<Price> {
        let exact = self.0.get(model);
        exact.or_else(|| self.0.get(undated(model)?)).copied()
    }

    /// All prices that are known, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Price)> {
        self.0.iter().map(|(name, price)| (name.as_str(), *price))
    }
}

/// The name before a date or `-latest`.
fn undated(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let is_date = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    ["-00000000", "-0000-00-00"].into_iter().find_map(|shape| {
        let (name, end) = model.split_at_checked(model.len().checked_sub(shape.len())?)?;
        is_date(end, shape).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dates_have_the_price_of_the_name() {
        let prices = Prices::default();
        for name in ["gpt-5", "gpt-5-2025-08-07", "gpt-5-latest"] {
            assert_eq!(prices.get(name), Some(Price { input: 1.25, output: 10.0 }), "{name}");
        }
        assert_eq!(prices.get("claude-sonnet-4-20250514").unwrap().input, 3.0);
        for name in ["gpt-5-pro", "gpt-5-2025-8-7", "", "é-latest", "ééééé"] {
            assert_eq!(prices.get(name), None, "{name}");
        }
    }

    #[test]
    fn costs_are_rounded_up() {
        let price = Price { input: 0.0001, output: 0.0 };
        assert_eq!(price.of(Tokens { input: 1, output: 5 }), Dollars(1));
        assert_eq!(Dollars::new(1.5).get(), 1.5);
        assert_eq!(Dollars::new(-1.0), Dollars(0));
    }
}
