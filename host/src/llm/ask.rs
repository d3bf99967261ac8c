//! One call of a model, metered.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing::Instrument;

use super::told::Told;
use super::{
    Amount, Budget, BudgetExceeded, Completion, Dollars, Llm, ModelRequest, OnText, Price, Provider,
    ProviderError, StopReason, Tokens,
};
use crate::privacy::{Prepared, Stream};

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
    /// Values that were replaced by tokens in the request ([`Privacy`](crate::Privacy)).
    pub hidden: u64,
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

/// How often an answer that is lost is asked for.
const LOST: u32 = 3;

/// For longer it is not waited in between.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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
        let mut prepared = self.prepare(request)?;
        budget.count_hidden(&prepared);
        let result = match (prepared.scope(), on_text) {
            (Some(scope), Some(on_text)) => {
                let mut stream = Stream::new(&scope, prepared.request().schema.is_some());
                let mut pass = |piece: &str| stream.push(piece, on_text);
                let result = self.ask_and_tell(budget, &mut prepared, Some(&mut pass), &mut None).await;
                stream.finish(on_text);
                result
            }
            (_, on_text) => self.ask_and_tell(budget, &mut prepared, on_text, &mut None).await,
        };
        prepared.restore(result)
    }

    /// Asks a model, and tells what was counted in the budget, if anything was. Nothing is put back into the
    /// answer.
    pub(crate) async fn ask_and_tell(
        &self,
        budget: &Budget,
        prepared: &mut Prepared,
        on_text: Option<OnText<'_>>,
        counted: &mut Option<Amount>,
    ) -> Result<Answer, AskError> {
        let mut told = Told::start(self, prepared);
        let asking = self.ask_metered(budget, prepared, on_text, counted);
        let result = asking.instrument(told.span().clone()).await;
        told.end(&result, counted.unwrap_or_default(), prepared.hidden());
        result
    }

    async fn ask_metered(
        &self,
        budget: &Budget,
        prepared: &mut Prepared,
        on_text: Option<OnText<'_>>,
        counted: &mut Option<Amount>,
    ) -> Result<Answer, AskError> {
        let request = prepared.request();
        let provider = self.provider(&request.model).ok_or_else(|| self.not_granted(&request.model))?.clone();
        check(request)?;
        let output = match request.max_tokens {
            0 => LEAST_OUTPUT.min(self.max_output)..=self.max_output,
            asked => asked..=asked,
        };
        #[cfg(feature = "cache")]
        let wanted = *output.end();
        #[cfg(feature = "cache")]
        let cache =
            self.cache.as_ref().map(|cache| (cache, super::cache::Key::new(&*provider, request, wanted)));
        #[cfg(feature = "cache")]
        if let Some((cache, key)) = &cache
            && let Some(completion) = cache.get(*key).await
        {
            budget.count_cached(&request.model);
            *counted = Some(Amount::default());
            if let Some(on_text) = on_text {
                on_text(&completion.text);
            }
            let answered = answer(completion, Some(Dollars::default()))?;
            return Ok(Answer { cached: true, ..answered });
        }
        let model = request.model.clone();
        // For as long as the request lives, no longer.
        let mut on_text = on_text.map(|on_text| on_text as OnText<'_>);
        for attempt in 1.. {
            let on_text = on_text.as_mut().map(|on_text| &mut **on_text as _);
            let asked = self.ask_once(&*provider, budget, &mut *prepared, on_text, output.clone(), counted);
            match asked.await {
                Ok(completion) => {
                    // One that is short because little was left is none for whoever has more.
                    #[cfg(feature = "cache")]
                    if let Some((cache, key)) = cache
                        && (completion.stop == StopReason::End || prepared.request().max_tokens == wanted)
                    {
                        cache.put(key, &model, &completion).await;
                    }
                    let cost = cost(self.prices.get(&model), completion.tokens);
                    return answer(completion, cost);
                }
                // What was lost may have been charged for, and was counted; it is asked again within the
                // budget as well.
                Err(AskError::Provider(ProviderError { charged: Some(_), retry: Some(wait), .. }))
                    if attempt < LOST && wait <= LONGEST_WAIT =>
                {
                    tokio::time::sleep(budget.time_left().map_or(wait, |left| left.min(wait))).await;
                }
                Err(AskError::Provider(mut error)) => {
                    error.attempts = error.attempts.saturating_add(attempt - 1);
                    return Err(AskError::Provider(error));
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the attempts end")
    }

    async fn ask_once<'a>(
        &self,
        provider: &'a dyn Provider,
        budget: &Budget,
        prepared: &'a mut Prepared,
        on_text: Option<OnText<'a>>,
        output: RangeInclusive<u64>,
        counted: &mut Option<Amount>,
    ) -> Result<Completion, AskError> {
        let request = prepared.request_mut();
        let price = self.prices.get(&request.model);
        let input = provider.input_tokens_at_most(request);
        let amount = |tokens| Amount { calls: 1, tokens, cost: cost(price, tokens).unwrap_or_default() };
        let most = |output| amount(Tokens { input, output });
        let set_aside = budget.set_aside(&request.model, price.is_some(), most, output).await;
        let set_aside = set_aside.map_err(AskError::Budget)?;
        request.max_tokens = set_aside.output_tokens();
        let before = counted.unwrap_or_default();
        *counted = Some(before.plus(&most(request.max_tokens)));
        let answering = provider.complete(request, on_text);
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
        let taken = match &result {
            Ok(completion) => amount(completion.tokens),
            Err(error) => amount(error.charged.unwrap_or_default()),
        };
        *counted = Some(before.plus(&taken));
        set_aside.taken(taken);
        result.map_err(|error| match error.refused {
            true => AskError::Refused(error.message),
            false => AskError::Provider(error),
        })
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
            Ok(Answer { text, model, tokens, cost, cached: false, stop, hidden: 0 })
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
