//! Asking the model for its next step, or for its last answer.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::{Either, select};

use super::{RESERVE_OUTPUT, Setup, Steps, milliseconds, reply};
use crate::Result;
use crate::llm::{Answer, AskError, Budget, ModelRequest};
use crate::replay::{Asked, Given};
use crate::trajectory::{Event, Failure, Spent};

/// Bytes from which on a last request is not made shorter.
const SHORTEST: usize = 1000;

/// What comes of a request.
pub(super) enum Said {
    Answer(Answer),
    Error(AskError),
    /// It was given up, as nobody wants the answer any more.
    Interrupted,
}

impl Steps {
    /// One request to the model, recorded.
    pub(super) async fn ask(&mut self, iteration: u32) -> Result<Said> {
        let (name, history) = (self.name(), &mut self.history);
        self.setup.teller.record(|| Event::Prompt { node: name, iteration, messages: history.news() });
        let began = Instant::now();
        let request = self.history.request(&self.setup.model);
        let Some(result) = ask(&self.setup, &self.calls, &self.setup.work, request).await? else {
            return Ok(Said::Interrupted);
        };
        self.record_reply(&result, iteration, began);
        Ok(match result {
            Ok(answer) => Said::Answer(answer),
            Err(error) => Said::Error(error),
        })
    }

    fn record_reply(&self, result: &std::result::Result<Answer, AskError>, iteration: u32, began: Instant) {
        let ms = milliseconds(began.elapsed());
        self.record(|| match result {
            Ok(answer) => Event::Reply {
                node: self.name(),
                iteration,
                text: answer.text.clone(),
                model: answer.model.clone(),
                usage: spent(answer),
                cached: answer.cached,
                ms,
                error: None,
            },
            Err(error) => Event::Reply {
                node: self.name(),
                iteration,
                text: String::new(),
                model: self.setup.model.clone(),
                usage: Spent::default(),
                cached: false,
                ms,
                error: Some(failure(error)),
            },
        });
    }

    /// What the model makes of what it has seen, asked once; or else what it had last.
    pub(super) async fn last_answer(&mut self, reason: &str) -> Result<Option<String>> {
        let iteration = self.setup.at.iteration();
        self.record(|| Event::Note { node: self.name(), iteration, text: format!("limit: {reason}") });
        let left = self.setup.budget.left();
        // A token is a byte at the least, and some are for the answer.
        let tokens = [left.tokens, left.input_tokens].into_iter().flatten().min();
        let most =
            tokens.map_or(200_000, |tokens| tokens.saturating_sub(RESERVE_OUTPUT).min(200_000) as usize);
        let mut most = match self.decided(Asked::Room, || Given::Number(most as u64))? {
            Given::Number(recorded) => recorded as usize,
            _ => most,
        };
        let began = Instant::now();
        let result = loop {
            let request = self.history.last_request(&self.setup.model, reason, most);
            let request = ModelRequest { max_tokens: 0, ..request };
            let Some(result) = ask(&self.setup, &self.calls, &self.setup.budget, request).await? else {
                return Ok(self.best_known());
            };
            match &result {
                // Nothing was sent. How many tokens the money buys, the price alone knows.
                Err(AskError::Budget(exceeded)) if exceeded.what == "cost" && most > SHORTEST => most /= 4,
                _ => break result,
            }
        };
        self.record_reply(&result, iteration + 1, began);
        let last = result.ok().map(|answer| answer.text).filter(|text| !text.trim().is_empty());
        let plain = last.as_ref().and_then(|text| reply::read(text).into_text());
        // Code alone is better than nothing.
        Ok(plain.or_else(|| self.best_known()).or(last))
    }

    /// What is decided now, or was in the recording.
    fn decided(&self, asked: Asked, now: impl FnOnce() -> Given) -> Result<Given> {
        let Some(track) = &self.setup.track else { return Ok(now()) };
        if let Some(given) = track.decided(&asked)? {
            return Ok(given);
        }
        let given = now();
        track.decide(asked, given.clone());
        Ok(given)
    }
}

/// Asks the model; nothing if that is interrupted.
async fn ask(
    setup: &Setup,
    calls: &AtomicU64,
    budget: &Budget,
    request: ModelRequest,
) -> Result<Option<std::result::Result<Answer, AskError>>> {
    let asking = pin!(ask_within(setup, calls, budget, request));
    let Some(mut interrupted) = setup.interrupted.clone() else { return asking.await.map(Some) };
    let stopped = pin!(interrupted.wait_for(|interrupted| *interrupted));
    match select(asking, stopped).await {
        Either::Left((result, _)) => result.map(Some),
        Either::Right(_) => Ok(None),
    }
}

/// Asks the model, or gives what it answered in the recording.
async fn ask_within(
    setup: &Setup,
    calls: &AtomicU64,
    budget: &Budget,
    request: ModelRequest,
) -> Result<std::result::Result<Answer, AskError>> {
    let llm = &setup.llm;
    let mut streamed = false;
    let result = match &setup.track {
        None => match &setup.on_text {
            None => llm.ask(budget, request, None).await,
            Some(on_text) => {
                let mut pass = |piece: &str| {
                    streamed = true;
                    on_text(piece);
                };
                llm.ask(budget, request, Some(&mut pass)).await
            }
        },
        Some(track) => {
            let mut prepared = match llm.prepare(request) {
                Ok(prepared) => prepared,
                Err(error) => return Ok(Err(error)),
            };
            budget.count_hidden(&prepared);
            let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
            track.begin_own_ask(call, budget, prepared.request())?;
            let result = track.ask(call, llm, budget, &mut prepared).await;
            prepared.restore(result)
        }
    };
    // Not every provider streams.
    if let (Ok(answer), Some(on_text), false) = (&result, &setup.on_text, streamed) {
        on_text(&answer.text);
    }
    Ok(result)
}

pub(crate) fn spent(answer: &Answer) -> Spent {
    Spent {
        input_tokens: answer.tokens.input,
        output_tokens: answer.tokens.output,
        cost: answer.cost.map(crate::llm::Dollars::get),
        hidden: answer.hidden,
    }
}

/// An error by the name that programs know it by.
pub(crate) fn failure(error: &AskError) -> Failure {
    let kind = match error {
        AskError::Budget(_) => "BudgetExceeded",
        AskError::Provider(_) => "ProviderError",
        AskError::Refused(_) => "Refused",
        AskError::Request(_) => "ValueError",
    };
    Failure { kind: kind.into(), message: error.to_string() }
}
