//! Every span, and what it says. Names of attributes are those of OpenTelemetry's conventions for generative AI, where
//! there are some; the others begin with `agentkernel.`.
//!
//! No text of a program, a prompt or an answer is in them, nor what programs name: it is recorded where
//! [`KernelBuilder::trace_content`](crate::KernelBuilder::trace_content) asks for it, and nowhere else. Where nobody listens, a span
//! is the reading of an atomic, and its values are not made.

use tracing::field::Empty;
use tracing::{Span, info_span};

use super::Start;
use crate::{Ending, Outcome};

/// What subscribers select spans by.
const TARGET: &str = "agentkernel";

/// Bytes of a text that a span holds where texts are asked for.
const TEXT_BYTES: usize = 64 << 10;

/// The building of a kernel.
pub fn kernel() -> Span {
    info_span!(target: TARGET, "kernel build")
}

/// What the compilation cache did not have.
pub fn artefact(key: &str) -> Span {
    info_span!(target: TARGET, "compile", agentkernel.artefact = key)
}

/// The making of an image.
pub fn image() -> Span {
    info_span!(target: TARGET, "image build")
}

/// A session, from its start until it is dropped.
pub fn session(from: Start) -> Span {
    info_span!(
        target: TARGET,
        "session",
        agentkernel.session.start = from.name(),
        agentkernel.session.turns = Empty,
    )
}

/// The start of a session.
pub fn start(session: &Span) -> Span {
    info_span!(target: TARGET, parent: session, "session start")
}

/// A turn of a session, whoever asks for it.
pub fn turn(session: &Span, number: u64) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: session,
        "turn",
        otel.status_code = Empty,
        agentkernel.turn.number = whole(number),
        agentkernel.turn.ending = Empty,
        agentkernel.turn.rolled_back = Empty,
        agentkernel.turn.wall_us = Empty,
        agentkernel.turn.cpu_us = Empty,
        agentkernel.turn.fuel = Empty,
        agentkernel.turn.host_calls = Empty,
        agentkernel.turn.output_bytes = Empty,
        agentkernel.session.peak_memory_bytes = Empty,
        agentkernel.turn.code = Empty,
        agentkernel.turn.output = Empty,
        agentkernel.turn.exception = Empty,
        "error.type" = Empty,
    );
    if !span.is_disabled() {
        let asking = Span::current();
        if asking.id() != session.id() {
            // The request of an embedder's, which is not where the session began.
            span.follows_from(&asking);
        }
    }
    span
}

/// What came of a turn.
pub fn turn_ended(span: &Span, outcome: &Outcome, content: bool) {
    if span.is_disabled() {
        return;
    }
    let (name, usage) = (outcome.ending.name(), &outcome.usage);
    span.record("agentkernel.turn.ending", name);
    span.record("agentkernel.turn.rolled_back", outcome.rolled_back);
    span.record("agentkernel.turn.wall_us", whole(usage.wall.as_micros()));
    span.record("agentkernel.turn.cpu_us", whole(usage.cpu.as_micros()));
    if let Some(fuel) = usage.fuel {
        span.record("agentkernel.turn.fuel", whole(fuel));
    }
    span.record("agentkernel.turn.host_calls", whole(usage.host_calls));
    span.record("agentkernel.turn.output_bytes", whole(usage.output_bytes));
    span.record("agentkernel.session.peak_memory_bytes", whole(usage.peak_memory_bytes));
    if !matches!(outcome.ending, Ending::Completed(_) | Ending::Exited(0)) {
        failed(span, name);
    }
    if content {
        let output = String::from_utf8_lossy(&outcome.stdout);
        span.record("agentkernel.turn.output", cut(&output));
        if let Ending::Raised(exception) = &outcome.ending {
            span.record("agentkernel.turn.exception", cut(&exception.traceback));
        }
    }
}

/// A call of a tool's function; `name` is `tool.function`.
pub fn tool(name: impl Fn() -> String, kind: &'static str) -> Span {
    info_span!(
        target: TARGET,
        "execute_tool",
        otel.name = format!("execute_tool {}", name()),
        otel.status_code = Empty,
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = name(),
        "gen_ai.tool.type" = kind,
        gen_ai.tool.call.arguments = Empty,
        gen_ai.tool.call.result = Empty,
        agentkernel.tool.outcome = Empty,
        "error.type" = Empty,
    )
}

/// How a call of a tool ended: `ok` or another of the outcomes that are counted.
pub fn tool_ended(span: &Span, outcome: &'static str) {
    if span.is_disabled() {
        return;
    }
    span.record("agentkernel.tool.outcome", outcome);
    if outcome != "ok" {
        failed(span, outcome);
    }
}

/// A call of a model. What it says of the request is known before it is sent.
pub struct Chat<'a> {
    pub provider: &'a str,
    /// The model, if it is granted.
    pub model: Option<&'a str>,
    pub max_tokens: u64,
    pub temperature: Option<f64>,
    /// Whether an answer with a schema is asked for.
    pub is_json: bool,
}

pub fn chat(call: &Chat<'_>) -> Span {
    let span = info_span!(
        target: TARGET,
        "chat",
        otel.name = format!("chat {}", call.model.unwrap_or("other")),
        otel.kind = "client",
        otel.status_code = Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = provider(call.provider),
        gen_ai.request.model = call.model,
        gen_ai.request.max_tokens = Empty,
        gen_ai.request.temperature = call.temperature,
        "gen_ai.output.type" = if call.is_json { "json" } else { "text" },
        gen_ai.response.model = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.system_instructions = Empty,
        gen_ai.input.messages = Empty,
        gen_ai.output.messages = Empty,
        agentkernel.llm.outcome = Empty,
        agentkernel.llm.cached = Empty,
        agentkernel.llm.cost = Empty,
        agentkernel.llm.hidden = Empty,
        "error.type" = Empty,
    );
    if call.max_tokens > 0 {
        span.record("gen_ai.request.max_tokens", whole(call.max_tokens));
    }
    span
}

/// What the conventions call a provider.
fn provider(name: &str) -> &str {
    match name {
        "azure" => "azure.ai.openai",
        name => name,
    }
}

/// A session of a run that a model writes the programs of; `place` is where it is in the run.
pub fn agent(name: &'static str, model: &str, place: &str, depth: u32) -> Span {
    info_span!(
        target: TARGET,
        "invoke_agent",
        otel.name = format!("invoke_agent {name}"),
        otel.status_code = Empty,
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = name,
        gen_ai.request.model = model,
        agentkernel.run.node = place,
        agentkernel.run.depth = whole(depth),
        agentkernel.run.steps = Empty,
        agentkernel.run.ending = Empty,
        "error.type" = Empty,
    )
}

/// How it ended; all but `answered` is a failure.
pub fn agent_ended(span: &Span, ending: &'static str, steps: u32) {
    span.record("agentkernel.run.ending", ending);
    span.record("agentkernel.run.steps", whole(steps));
    if ending != "answered" {
        failed(span, ending);
    }
}

/// An attempt of a task.
#[cfg(feature = "tasks")]
pub fn task(id: &dyn std::fmt::Display, attempt: u32) -> Span {
    info_span!(
        target: TARGET,
        "task",
        otel.status_code = Empty,
        agentkernel.task.id = %id,
        agentkernel.task.attempt = whole(attempt),
        agentkernel.task.outcome = Empty,
        "error.type" = Empty,
    )
}

/// What came of it.
#[cfg(feature = "tasks")]
pub fn task_ended(span: &Span, outcome: &'static str) {
    span.record("agentkernel.task.outcome", outcome);
    if outcome != "succeeded" {
        failed(span, outcome);
    }
}

/// Says that what a span stands for did not go well.
pub fn failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// A number as collectors know numbers: with a sign. Others would reach them as texts.
pub fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// As much of a text as a span holds.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}
