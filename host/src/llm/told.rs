//! What is told and counted of a call of a model.

use std::time::Instant;

use serde_json::json;
use tracing::Span;

use super::{Amount, Answer, AskError, Llm, Message, ModelRequest, Role, StopReason};
use crate::privacy::Prepared;
use crate::telemetry::{Called, spans};

/// A call, whatever ends it.
pub(super) struct Told<'a> {
    llm: &'a Llm,
    span: Span,
    /// The model, if it is granted: what a program names without a grant is told nobody.
    model: Option<String>,
    since: Option<Instant>,
}

impl<'a> Told<'a> {
    pub fn start(llm: &'a Llm, prepared: &Prepared) -> Self {
        let request = prepared.request();
        let provider = llm.provider(&request.model);
        let model = provider.map(|_| request.model.clone());
        let span = spans::chat(&spans::Chat {
            provider: provider.map_or("", |provider| provider.name()),
            model: model.as_deref(),
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            is_json: request.schema.is_some(),
        });
        if llm.trace_content && !span.is_disabled() {
            record_request(&span, request);
        }
        Told { llm, span, model, since: Some(Instant::now()) }
    }

    pub fn span(&self) -> &Span {
        &self.span
    }

    /// It is over, and `counted` is what it took.
    pub fn end(&mut self, result: &Result<Answer, AskError>, counted: Amount, hidden: u64) {
        let outcome = match result {
            Ok(answer) if answer.cached => "cached",
            Ok(_) => "answered",
            Err(AskError::Budget(_)) => "budget",
            Err(AskError::Provider(_)) => "failed",
            Err(AskError::Refused(_)) => "refused",
            Err(AskError::Request(_)) if self.model.is_none() => "denied",
            Err(AskError::Request(_)) => "invalid",
        };
        self.count(outcome, counted, hidden);
        if self.span.is_disabled() {
            return;
        }
        let span = &self.span;
        span.record("agentkernel.llm.hidden", spans::whole(hidden));
        match result {
            Ok(answer) => {
                span.record("gen_ai.response.model", answer.model.as_str());
                span.record("gen_ai.response.finish_reasons", reason(answer.stop));
                span.record("gen_ai.usage.input_tokens", spans::whole(answer.tokens.input));
                span.record("gen_ai.usage.output_tokens", spans::whole(answer.tokens.output));
                span.record("agentkernel.llm.cached", answer.cached);
                if let Some(cost) = answer.cost {
                    span.record("agentkernel.llm.cost", cost.get());
                }
                if self.llm.trace_content {
                    let parts = json!([{"type": "text", "content": spans::cut(&answer.text)}]);
                    let said =
                        json!([{"role": "assistant", "parts": parts, "finish_reason": reason(answer.stop)}]);
                    span.record("gen_ai.output.messages", said.to_string());
                }
            }
            Err(AskError::Provider(error)) if error.status.is_some() => {
                spans::failed(span, &error.status.unwrap_or_default().to_string());
            }
            Err(_) => spans::failed(span, outcome),
        }
    }

    fn count(&mut self, outcome: &'static str, counted: Amount, hidden: u64) {
        let Some(since) = self.since.take() else { return };
        self.span.record("agentkernel.llm.outcome", outcome);
        self.llm.counts.add(&Called {
            model: self.model.as_deref(),
            outcome,
            took: since.elapsed(),
            input_tokens: counted.tokens.input,
            output_tokens: counted.tokens.output,
            hidden,
            cost: counted.cost.get(),
            may_be_cached: self.llm.has_cache(),
        });
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.count("cancelled", Amount::default(), 0);
            spans::failed(&self.span, "cancelled");
        }
    }
}

/// What the conventions call the end of an answer.
fn reason(stop: StopReason) -> &'static str {
    match stop {
        StopReason::End => "stop",
        StopReason::MaxTokens => "length",
        StopReason::Refusal => "content_filter",
    }
}

/// The texts of a request, as the conventions write them.
fn record_request(span: &Span, request: &ModelRequest) {
    if let Some(system) = &request.system {
        let parts = json!([{"type": "text", "content": spans::cut(system)}]);
        span.record("gen_ai.system_instructions", parts.to_string());
    }
    let message = |Message { role, content }: &Message| {
        let role = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        json!({"role": role, "parts": [{"type": "text", "content": spans::cut(content)}]})
    };
    let messages: serde_json::Value = request.messages.iter().map(message).collect();
    span.record("gen_ai.input.messages", messages.to_string());
}
