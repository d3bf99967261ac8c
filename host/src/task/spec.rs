//! What a task is, as it is dispatched.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TaskId, TaskLimits, grants, input};
use crate::{Error, ErrorKind, Grants, Result};

/// Bytes of a task's name.
const LONGEST_NAME: usize = 200;

/// Tasks that one can wait for.
const MOST_NEEDED: usize = 1000;

/// Priorities that there are, on either side of 0.
pub const PRIORITIES: i32 = 100;

/// The longest time between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// A program to be run in the background, in a session of its own: code, and what it may touch.
///
/// ```
/// use std::time::Duration;
/// use agentkernel::task::Task;
///
/// let task = Task::new("from agentkernel import task\nsum(task.input)")
///     .name("sum")
///     .input(serde_json::json!([1, 2, 3]))
///     .timeout(Duration::from_secs(5))
///     .retries(2);
/// # let _ = task;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    #[serde(skip)]
    pub(super) id: Option<TaskId>,
    pub(super) name: String,
    pub(super) code: String,
    pub(super) file: String,
    pub(super) arguments: Vec<String>,
    pub(super) input: Value,
    #[serde(with = "grants")]
    pub(super) grants: Grants,
    pub(super) image: Option<String>,
    pub(super) priority: i32,
    pub(super) after: Vec<TaskId>,
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) levels: u32,
}

impl Task {
    /// A task that runs `code`; the value of its last expression is the result.
    pub fn new(code: impl Into<String>) -> Self {
        Task {
            id: None,
            name: String::new(),
            code: code.into(),
            file: "<task>".into(),
            arguments: Vec::new(),
            input: Value::Null,
            grants: Grants::default(),
            image: None,
            priority: 0,
            after: Vec::new(),
            retries: 0,
            backoff: Duration::from_secs(1),
            levels: 0,
        }
    }

    /// Its name in the store. A store that has a task of this name already gets no second one. Default:
    /// a new name.
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// What people call it: one line of at most 200 bytes. Several may have the same. Default: nothing.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The name of its source in tracebacks. Default: `<task>`.
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// `sys.argv`, the program's name first. Default: nothing.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// What the program reads as `agentkernel.task.input`. Default: null.
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// As [`Task::input`], of a JSON text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tasks`] when it is not JSON, or has an integer that 64 bits do not hold.
    pub fn input_json(self, text: &str) -> Result<Self> {
        Ok(self.input(input::parse(text.as_bytes())?))
    }

    /// What it may touch and use. Directories are found when it is dispatched. Default:
    /// [`Grants::default`].
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// The time that an attempt may take, in place of the limit in its grants.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.grants.limits.timeout = timeout.into();
        self
    }

    /// The image that it starts from. It is kept, and nothing is done with it yet. Default: none.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// Of tasks that are ready the one with the higher priority runs first, and of equal ones the one that was
    /// dispatched first. From −100 to 100. Default: 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Tasks that must have succeeded first. It fails if one of them does not succeed. Default: none.
    pub fn after(mut self, needed: impl IntoIterator<Item = TaskId>) -> Self {
        self.after.extend(needed);
        self
    }

    /// How often it is tried again when it fails. Default: 0.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The time before it is tried again, twice as much each time, up to an hour. Default: 1 s.
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many levels of tasks it may dispatch: with 1 its tasks may dispatch none. Default: 0.
    pub fn levels(mut self, levels: u32) -> Self {
        self.levels = levels;
        self
    }

    /// The time to wait after as many failed attempts.
    pub(super) fn delay(&self, failed: u32) -> Duration {
        let factor = 1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(factor).min(LONGEST_BACKOFF)
    }

    /// Refuses what could never run, or is more than may be kept.
    pub(super) fn check(&self, limits: &TaskLimits) -> Result<()> {
        let refuse = |message: String, hint: String| Err(Error::new(ErrorKind::Tasks, message).hint(hint));
        if self.name.len() > LONGEST_NAME || self.name.contains(char::is_control) {
            return refuse(
                format!("a task cannot be named `{}`", shortened(&self.name).escape_debug()),
                format!("a name is one line of at most {LONGEST_NAME} bytes without control characters"),
            );
        }
        let texts = [&self.code, &self.file].into_iter().chain(&self.arguments);
        if texts.clone().any(|text| text.contains('\0')) {
            return refuse("the code of a task has a NUL byte".into(), "Python source has none".into());
        }
        let code = texts.map(|text| text.len() as u64).sum::<u64>();
        if code > limits.code_bytes {
            return refuse(
                format!("a task of {code} bytes of code is too large"),
                format!("at most {} bytes are kept; put the rest in a file that it reads", limits.code_bytes),
            );
        }
        let input = length(&self.input);
        if input > limits.input_bytes {
            return refuse(
                format!("an input of {input} bytes is too large for a task"),
                format!("at most {} bytes are kept; put it in a file that it reads", limits.input_bytes),
            );
        }
        if self.priority.abs() > PRIORITIES {
            return refuse(
                format!("a task cannot have the priority {}", self.priority),
                format!("priorities are from -{PRIORITIES} to {PRIORITIES}"),
            );
        }
        if self.after.len() > MOST_NEEDED {
            return refuse(
                format!("a task cannot wait for {} others", self.after.len()),
                format!("at most {MOST_NEEDED} can be named; let one wait for some of them"),
            );
        }
        if self.grants.limits.timeout == Some(Duration::ZERO) {
            return refuse("a time limit of `0s` lets nothing run".into(), "give at least `1ms`".into());
        }
        Ok(())
    }
}

/// The bytes of a value as JSON.
pub(super) fn length(value: &Value) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and a value has its JSON form.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// The beginning of a text, for messages.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_attempts_doubles() {
        let task = Task::new("").backoff(Duration::from_millis(100));
        let delays: Vec<u128> = (1..=4).map(|failed| task.delay(failed).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800]);
        assert_eq!(task.delay(u32::MAX), LONGEST_BACKOFF);
    }

    #[test]
    fn tasks_that_cannot_be_kept_are_refused() {
        let limits = TaskLimits { code_bytes: 100, input_bytes: 10, ..TaskLimits::default() };
        let refused = |task: Task| task.check(&limits).unwrap_err().to_string();
        assert!(Task::new("1").check(&limits).is_ok());
        assert!(refused(Task::new("1".repeat(101))).contains("too large"));
        assert!(refused(Task::new("\0")).contains("NUL"));
        assert!(refused(Task::new("").input("x".repeat(9).into())).contains("11 bytes"));
        assert!(refused(Task::new("").name("a\u{1b}[31m")).contains("\\u{1b}"));
        assert!(refused(Task::new("").name("x".repeat(201))).contains("cannot be named"));
        assert!(refused(Task::new("").priority(101)).contains("101"));
        assert!(refused(Task::new("").timeout(Duration::ZERO)).contains("0s"));
    }
}
