//! What ends the command line without an outcome: misuse, or a machine that lacks something.

use std::fmt;

use crate::terminal;

/// A message, a remedy, and nothing of how it came about.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Acts on each of several things, whatever becomes of the others; what went wrong is told, the last of it by the caller.
pub fn each<T>(things: impl IntoIterator<Item = T>, mut act: impl FnMut(T) -> Result<()>) -> Result<()> {
    let mut failed: Option<Failure> = None;
    for thing in things {
        if let Err(failure) = act(thing)
            && let Some(before) = failed.replace(failure)
        {
            terminal::error(&before.message, before.hint.as_deref());
        }
    }
    failed.map_or(Ok(()), Err)
}

impl From<agentkernel::Error> for Failure {
    fn from(error: agentkernel::Error) -> Self {
        Failure { message: error.to_string(), hint: error.remedy().map(str::to_owned) }
    }
}

impl From<agentkernel_mcp::Error> for Failure {
    fn from(error: agentkernel_mcp::Error) -> Self {
        Failure { message: error.to_string(), hint: error.remedy().map(str::to_owned) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
