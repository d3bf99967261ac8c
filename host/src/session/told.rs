//! What is told and counted of a session and its turns.

use std::sync::Arc;

use tracing::Span;

use super::Live;
use super::keep::After;
use crate::Result;
use crate::engine::Interrupt;
use crate::kernel::Inner;
use crate::outcome::Outcome;
use crate::telemetry::{Counters, Start, spans};
use crate::turn::Turn;

/// A session's span. While it lives, the session is counted as one that does.
pub(super) struct Told {
    counters: Arc<Counters>,
    span: Span,
    turns: u64,
    content: bool,
}

impl Told {
    pub fn new(kernel: &Inner, span: Span, from: Start) -> Self {
        kernel.counters.session_started(from);
        Told { counters: Arc::clone(&kernel.counters), span, turns: 0, content: kernel.trace_content }
    }

    /// The span of its next turn. It is made where the turn is asked for, and entered where it runs.
    pub fn turn(&mut self, turn: &Turn) -> Span {
        self.turns += 1;
        let span = spans::turn(&self.span, self.turns);
        if self.content && !span.is_disabled() {
            span.record("agentkernel.turn.code", spans::cut(&turn.code));
        }
        span
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.counters.session_dropped();
        self.span.record("agentkernel.session.turns", spans::whole(self.turns));
    }
}

/// Runs a turn within its span.
pub(super) fn turn(
    live: Box<Live>,
    kernel: &Inner,
    interrupt: &Arc<Interrupt>,
    turn: Turn,
    span: &Span,
) -> Result<(Result<Outcome>, After)> {
    let result = span.in_scope(|| live.turn(kernel, interrupt, turn));
    match &result {
        Ok((Ok(outcome), _)) => {
            kernel.counters.turn(outcome.ending.name(), outcome.usage.wall, outcome.rolled_back);
            spans::turn_ended(span, outcome, kernel.trace_content);
        }
        Ok((Err(_), _)) | Err(_) => spans::failed(span, "host"),
    }
    result
}
