//! What a tool was refused, to be told to the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Messages that one call can leave; the first are the ones to begin with.
const MOST: usize = 4;

/// What a tool was refused during a call, each with the line that would grant it.
#[derive(Clone)]
pub(crate) struct Denials(Arc<Inner>);

struct Inner {
    tool: String,
    any: AtomicBool,
    messages: Mutex<Vec<String>>,
}

impl Denials {
    pub fn new(tool: &str) -> Self {
        Denials(Arc::new(Inner {
            tool: tool.to_owned(),
            any: AtomicBool::new(false),
            messages: Mutex::default(),
        }))
    }

    /// `what` is not granted; `line` of the tool's table would grant it.
    pub fn deny(&self, what: &str, line: &str) {
        let tool = &self.0.tool;
        self.add(format!(
            "{what} is not granted to the tool `{tool}`; grant it in agentkernel.toml with:\n[tool.{tool}]\n{line}"
        ));
    }

    /// The tool has used up a limit, which `key` would raise.
    pub fn exhausted(&self, what: &str, key: &str) {
        let tool = &self.0.tool;
        self.add(format!("the tool `{tool}` {what}, which is its limit; `{key}` in [tool.{tool}] raises it"));
    }

    /// Something else that explains a failure.
    pub fn add(&self, message: String) {
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() < MOST && !messages.contains(&message) {
            messages.push(message);
        }
        self.0.any.store(true, Ordering::Release);
    }

    /// Takes all there is; `None` at next to no cost when there is nothing.
    pub fn take(&self) -> Option<String> {
        if !self.0.any.load(Ordering::Acquire) {
            return None;
        }
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.any.store(false, Ordering::Release);
        Some(std::mem::take(&mut *messages).join("\n"))
    }
}
