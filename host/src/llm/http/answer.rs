//! An answer while it comes in.

use crate::llm::{Completion, ModelRequest, OnText, StopReason, Tokens};

/// What is known of an answer so far.
#[derive(Default)]
pub(in crate::llm) struct Answer<'a> {
    text: String,
    /// Bytes that the model wrote beside the text: its reasoning, where it is shown.
    pub aside: u64,
    pub model: Option<String>,
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub stop: Option<StopReason>,
    /// Whether the provider said that this is all.
    pub done: bool,
    on_text: Option<OnText<'a>>,
    shown: bool,
}

impl<'a> Answer<'a> {
    pub fn new(on_text: Option<OnText<'a>>) -> Self {
        Answer { on_text, ..Answer::default() }
    }

    /// More of the text.
    pub fn push(&mut self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        self.text.push_str(piece);
        if let Some(on_text) = &mut self.on_text {
            self.shown = true;
            on_text(piece);
        }
    }

    /// Whether somebody has seen some of it.
    pub fn was_shown(&self) -> bool {
        self.shown
    }

    /// The answer as it is. Tokens that the provider did not count are bounded from above: input by
    /// `most`, output by a token for each byte that the model wrote, or by `most` where it filled its limit.
    pub fn complete(self, request: &ModelRequest, most: Tokens) -> Completion {
        let stop = self.stop.unwrap_or(StopReason::End);
        let written = self.text.len() as u64 + self.aside + 1;
        let output = self.output.unwrap_or(match stop {
            StopReason::MaxTokens => most.output,
            _ => written.min(most.output),
        });
        let input = self.input.unwrap_or(most.input);
        let model = self.model.filter(|model| !model.is_empty()).unwrap_or_else(|| request.model.clone());
        let model = model.chars().filter(|letter| !letter.is_control()).take(200).collect();
        Completion { text: self.text, model, tokens: Tokens { input, output }, stop }
    }
}
