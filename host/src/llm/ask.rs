//! One call of a model, metered.

use std::fmt;

use super::{
    Budget, BudgetExceeded, Completion, Dollars, Llm, ModelRequest, OnText, Price, ProviderError, StopReason,
    Tokens, meter,
};

/// An answer and what it took.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The model, as the provider names it.
    pub model: String,
    /// What the provider counted; what it counted when a cached answer was new.
    pub tokens: Tokens,
    /// What it cost, if the price is known. A cached answer costs nothing.
    pub cost: Option<Dollars>,
    /// Whether it came from a cache.
    pub cached: bool,
    /// Why it ended.
    pub stop: StopReason,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AskError {
    /// The budget does not have what the call may take.
    Budget(BudgetExceeded),
    /// The provider gave no answer.
    Provider(ProviderError),
    /// The provider or the model declined to answer; the text says why, if it does.
    Refused(String),
    /// The request makes no sense, or names a model that may not be asked.
    Request(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Budget(error) => error.fmt(formatter),
            AskError::Provider(error) => error.fmt(formatter),
            AskError::Refused(text) if text.is_empty() => {
                formatter.write_str("the model declined to answer, and gave no reason")
            }
            AskError::Refused(text) => write!(formatter, "the model declined to answer: {text}"),
            AskError::Request(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for AskError {}

/// An answer shorter than this is of no use; where less is left, the call is refused.
const LEAST_OUTPUT: u64 = 256;

impl Llm {
    /// Asks a model within `budget`. A request for at most 0 tokens gets as many as the default says,
    /// or as are left. An answer that the [cache](Llm::cache) has takes nothing of the budget.
    ///
    /// # Errors
    ///
    /// See [`AskError`]. Nothing is sent unless the budget has the most that it can take.
    pub async fn ask(
        &self,
        budget: &Budget,
        request: ModelRequest,
        on_text: Option<OnText<'_>>,
    ) -> Result<Answer, AskError> {
        self.ask_and_tell(budget, request, on_text, &mut None).await
    }

    /// Asks a model, and tells what was counted in the budget, if anything was.
    pub(crate) async fn ask_and_tell(
        &self,
        budget: &Budget,
        mut request: ModelRequest,
        on_text: Option<OnText<'_>>,
        counted: &mut Option<meter::Amount>,
    ) -> Result<Answer, AskError> {
        let provider = self.provider(&request.model).ok_or_else(|| self.not_granted(&request.model))?.clone();
        check(&request)?;
        let output = match request.max_tokens {
            0 => LEAST_OUTPUT.min(self.max_output)..=self.max_output,
            asked => asked..=asked,
        };
        #[cfg(feature = "cache")]
        let wanted = *output.end();
        #[cfg(feature = "cache")]
        let cache =
            self.cache.as_ref().map(|cache| (cache, super::cache::Key::new(&*provider, &request, wanted)));
        #[cfg(feature = "cache")]
        if let Some((cache, key)) = &cache
            && let Some(completion) = cache.get(*key).await
        {
            budget.count_cached(&request.model);
            *counted = Some(meter::Amount::default());
            if let Some(on_text) = on_text {
                on_text(&completion.text);
            }
            let answered = answer(completion, Some(Dollars::default()))?;
            return Ok(Answer { cached: true, ..answered });
        }
        let price = self.prices.get(&request.model);
        let input = provider.input_tokens_at_most(&request);
        let amount = |output| {
            let tokens = Tokens { input, output };
            meter::Amount { calls: 1, tokens, cost: cost(price, tokens).unwrap_or_default() }
        };
        let set_aside = budget.set_aside(&request.model, price.is_some(), amount, output).await;
        let set_aside = set_aside.map_err(AskError::Budget)?;
        request.max_tokens = set_aside.output_tokens();
        *counted = Some(amount(request.max_tokens));

        // For as long as the request lives, no longer.
        let on_text: Option<OnText<'_>> = match on_text {
            Some(on_text) => Some(on_text),
            None => None,
        };
        let answering = provider.complete(&request, on_text);
        let result = match budget.time_left() {
            Some(left) => tokio::time::timeout(left, answering).await.map_err(|_| {
                // Dropping what was set aside counts all of it.
                AskError::Budget(BudgetExceeded {
                    what: "time",
                    message: "the time for calls of models ran out before the answer came (`max-time`)"
                        .into(),
                })
            })?,
            None => answering.await,
        };
        let taken = |tokens| {
            let taken = meter::Amount { calls: 1, tokens, cost: cost(price, tokens).unwrap_or_default() };
            *counted = Some(taken);
            set_aside.taken(taken);
        };
        match result {
            Ok(completion) => {
                taken(completion.tokens);
                // One that is short because little was left is none for whoever has more.
                #[cfg(feature = "cache")]
                if let Some((cache, key)) = cache
                    && (completion.stop == StopReason::End || request.max_tokens == wanted)
                {
                    cache.put(key, &request.model, &completion).await;
                }
                let cost = cost(price, completion.tokens);
                answer(completion, cost)
            }
            Err(error) => {
                taken(error.charged.unwrap_or_default());
                Err(if error.refused { AskError::Refused(error.message) } else { AskError::Provider(error) })
            }
        }
    }

    fn not_granted(&self, model: &str) -> AskError {
        let models: Vec<&str> = self.models().collect();
        AskError::Request(format!(
            "the model `{model}` is not granted to this program, which may ask {}; grant it with: [llm] models = [\"{model}\"]",
            models.join(", ")
        ))
    }
}

fn cost(price: Option<Price>, tokens: Tokens) -> Option<Dollars> {
    price.map(|price| price.of(tokens))
}

fn answer(completion: Completion, cost: Option<Dollars>) -> Result<Answer, AskError> {
    let Completion { text, model, tokens, stop } = completion;
    match stop {
        StopReason::Refusal => Err(AskError::Refused(text)),
        StopReason::End | StopReason::MaxTokens => {
            Ok(Answer { text, model, tokens, cost, cached: false, stop })
        }
    }
}

fn check(request: &ModelRequest) -> Result<(), AskError> {
    let wrong = |message: &str| Err(AskError::Request(message.to_owned()));
    if request.messages.last().is_none_or(|message| message.content.is_empty()) {
        return wrong("the prompt is empty");
    }
    if request.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return wrong("`temperature` must be between 0 and 2");
    }
    if request.stop.len() > 16 || request.stop.iter().any(String::is_empty) {
        return wrong("`stop` must be at most 16 texts, none of them empty");
    }
    Ok(())
}
