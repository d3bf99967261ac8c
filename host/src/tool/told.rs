//! What is told and counted of calls of tools.

use std::sync::Arc;

use serde_json::{Map, Value};
use tracing::Span;

use super::describe::Function;
use super::json;
use super::loaded::{Body, Loaded};
use super::toolbox::Toolbox;
use crate::engine::Stopped;
use crate::operations::Answer;
use crate::telemetry::{Counts, Metrics, spans};

/// How calls of a tool ended.
pub(super) type Ended = Counts<5>;

pub(super) fn ended() -> Ended {
    Counts::new(["ok", "error", "failed", "denied", "cancelled"])
}

/// What the conventions call what a tool is.
fn kind<C>(tool: &Loaded<C>) -> &'static str {
    match tool.body {
        Body::Functions(_) | Body::Python(_) => "function",
        _ => "extension",
    }
}

impl Toolbox {
    /// The span of a call.
    pub(super) fn span(&self, position: usize, function: usize, head: &[u8], tail: &[u8]) -> Span {
        let tool = &self.tools[position];
        let span = spans::tool(|| tool.function_name(function), kind(tool));
        if self.trace_content
            && !span.is_disabled()
            && let Some(described) = tool.function(function)
            && let Ok(arguments) = json::arguments(&tool.description, described, head, tail)
        {
            let arguments = Value::Object(arguments.into_iter().collect::<Map<_, _>>());
            span.record("gen_ai.tool.call.arguments", spans::cut(&arguments.to_string()));
        }
        span
    }

    /// What came of a call.
    pub(super) fn ended(
        &self,
        span: &Span,
        position: usize,
        function: usize,
        result: &Result<Answer, Stopped>,
    ) {
        let tool = &self.tools[position];
        let outcome = match result {
            Ok(Ok(bytes)) if matches!(bytes.first(), Some(1 | 2)) && tool.may_fail(function) => "error",
            Ok(Ok(_)) => "ok",
            Ok(Err(failure)) => match failure.kind.as_str() {
                "refused" | "denied" => "denied",
                "cancelled" => "cancelled",
                _ => "failed",
            },
            Err(Stopped) => "cancelled",
        };
        tool.ended.add(outcome);
        spans::tool_ended(span, outcome);
        if self.trace_content
            && !span.is_disabled()
            && let Some(described) = tool.function(function)
            && let Ok(Ok(bytes)) = result
        {
            record_result(span, tool, described, bytes);
        }
    }

    /// Adds what its tools did.
    pub fn tell(&self, metrics: &mut Metrics) {
        let calls = self.tools.iter().filter(|tool| !matches!(tool.body, Body::Python(_)));
        metrics.tool_calls = calls.map(|tool| (tool.name.clone(), tool.ended.get())).collect();
        let denied = self.tools.iter().map(|tool| {
            let [refused, told] =
                [tool.ended.get()["denied"], tool.denied.load(std::sync::atomic::Ordering::Relaxed)];
            refused + told
        });
        metrics.denials.insert("tool", denied.sum());
    }
}

fn record_result(span: &Span, tool: &Loaded, described: &Function, bytes: &[u8]) {
    // What was refused on the way stands behind an error.
    let given = match bytes.first() {
        Some(2) => return,
        _ => json::result(&tool.description, described, bytes),
    };
    if let Ok(Ok(value) | Err(value)) = given {
        span.record("gen_ai.tool.call.result", spans::cut(&value.to_string()));
    }
}

/// A call that goes on by itself, whatever ends it.
pub(super) struct Overlapped {
    pub toolbox: Arc<Toolbox>,
    pub position: usize,
    pub function: usize,
    pub span: Span,
    is_over: bool,
}

impl Overlapped {
    pub fn start(toolbox: &Arc<Toolbox>, position: usize, function: usize, [head, tail]: [&[u8]; 2]) -> Self {
        let span = toolbox.span(position, function, head, tail);
        Overlapped { toolbox: Arc::clone(toolbox), position, function, span, is_over: false }
    }

    pub fn end(mut self, answer: Answer) -> Answer {
        self.is_over = true;
        let result = Ok(answer);
        self.toolbox.ended(&self.span, self.position, self.function, &result);
        match result {
            Ok(answer) => answer,
            Err(Stopped) => unreachable!("it was made above"),
        }
    }
}

impl Drop for Overlapped {
    fn drop(&mut self) {
        if !self.is_over {
            self.toolbox.ended(&self.span, self.position, self.function, &Err(Stopped));
        }
    }
}
