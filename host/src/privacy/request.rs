//! Requests as they are sent, and the answers to them.

use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::scope::TooMany;
use super::{Privacy, Scope};
use crate::llm::{Answer, AskError, ModelRequest};

/// A request in which nothing is left that is to be hidden. Providers get no other.
pub(crate) struct Prepared {
    request: ModelRequest,
    scope: Option<Arc<Scope>>,
    hidden: u64,
}

impl Prepared {
    pub fn new(mut request: ModelRequest, scope: Option<Arc<Scope>>) -> Result<Self, AskError> {
        let mut hidden = 0;
        if let Some(scope) = &scope {
            hide(scope, &mut request, &mut hidden).map_err(|TooMany| {
                AskError::Request(
                    "the session has more personal data than it can hide, so the request was not sent; start a new session"
                        .into(),
                )
            })?;
        }
        Ok(Prepared { request, scope, hidden })
    }

    pub fn request(&self) -> &ModelRequest {
        &self.request
    }

    pub fn request_mut(&mut self) -> &mut ModelRequest {
        &mut self.request
    }

    /// Values that are hidden in it, each as often as it stands there.
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// The answer as whoever asked gets it.
    pub fn restore(&self, result: Result<Answer, AskError>) -> Result<Answer, AskError> {
        let Some(scope) = &self.scope else { return result };
        match result {
            Ok(answer) => {
                let in_json = self.request.schema.is_some() || is_json(&answer.text);
                let text = scope.restore(&answer.text, in_json);
                Ok(Answer { text, hidden: self.hidden, ..answer })
            }
            Err(AskError::Refused(text)) => Err(AskError::Refused(scope.restore(&text, false))),
            Err(error) => Err(error),
        }
    }

    /// What its tokens stand for.
    pub fn scope(&self) -> Option<Arc<Scope>> {
        self.scope.clone()
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '"']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn hide(scope: &Scope, request: &mut ModelRequest, count: &mut u64) -> Result<(), TooMany> {
    if let Some(system) = &mut request.system {
        *system = scope.hide(system, count)?;
    }
    for message in &mut request.messages {
        message.content = scope.hide(&message.content, count)?;
    }
    for stop in &mut request.stop {
        *stop = scope.hide(stop, count)?;
    }
    match &mut request.schema {
        Some(schema) => hide_in(scope, schema, count),
        None => Ok(()),
    }
}

/// Hides in all texts of a value, names included.
fn hide_in(scope: &Scope, value: &mut Value, count: &mut u64) -> Result<(), TooMany> {
    match value {
        Value::String(text) => *text = scope.hide(text, count)?,
        Value::Array(items) => {
            for item in items {
                hide_in(scope, item, count)?;
            }
        }
        Value::Object(entries) => {
            for (name, mut item) in std::mem::take(entries) {
                hide_in(scope, &mut item, count)?;
                entries.insert(scope.hide(&name, count)?, item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

impl Privacy {
    /// A session's own tokens.
    pub(crate) fn scope(&self) -> Arc<Scope> {
        Arc::new(Scope::new(self.clone()))
    }
}
