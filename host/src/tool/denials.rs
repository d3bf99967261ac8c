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

    /// What the tool missed of directories, as far as the host can know: that it looked for one where
    /// none is granted, or wrote in one that it may read. Whether that mattered to it, it alone knows.
    pub fn missed(&self, directory: Option<&str>) {
        let tool = &self.0.tool;
        match directory {
            None => self.deny("the use of files", "mounts = [\"{workspace}:/workspace\"]"),
            Some(path) => self.add(format!(
                "writing in `{path}` is not granted to the tool `{tool}`; grant it in agentkernel.toml by `:rw` at \
                 the end of this mount in [tool.{tool}]"
            )),
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.0.any.load(Ordering::Acquire)
    }

    /// Takes all there is; `None` at next to no cost when there is nothing.
    pub fn take(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.any.store(false, Ordering::Release);
        Some(std::mem::take(&mut *messages).join("\n"))
    }
}

/// Puts what a tool was refused behind the error that its answer is, if it is one: the first byte, which
/// says so, becomes 2, and the text and its length are appended.
pub(super) fn attach(answer: &mut Vec<u8>, told: &str) -> bool {
    match answer.first_mut() {
        Some(kind @ 1) => *kind = 2,
        _ => return false,
    }
    answer.extend_from_slice(told.as_bytes());
    answer.extend_from_slice(&(told.len() as u32).to_le_bytes());
    true
}

/// Undoes [`attach`], and gives what was attached.
pub(super) fn detach(answer: &mut Vec<u8>) -> Option<String> {
    if answer.first() != Some(&2) {
        return None;
    }
    let end = answer.len().checked_sub(4)?;
    let length = u32::from_le_bytes(answer[end..].try_into().ok()?) as usize;
    let told = String::from_utf8_lossy(&answer[end.checked_sub(length)?..end]).into_owned();
    answer.truncate(end - length);
    answer[0] = 1;
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_detached() {
        let mut answer = vec![1, 7, 8];
        assert!(attach(&mut answer, "é"));
        assert_eq!(answer, [2, 7, 8, 0xc3, 0xa9, 2, 0, 0, 0]);
        assert_eq!(detach(&mut answer).as_deref(), Some("é"));
        assert_eq!(answer, [1, 7, 8]);
        assert_eq!(detach(&mut answer), None);
        for plain in [vec![], vec![0], vec![0, 1]] {
            let mut answer = plain.clone();
            assert!(!attach(&mut answer, "x"));
            assert_eq!(answer, plain);
        }
    }
}
