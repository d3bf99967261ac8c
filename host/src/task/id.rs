//! Names of tasks that sort by the time they were made.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::milliseconds_now;
use crate::{Error, ErrorKind, Result};

/// Letters that nobody confuses, in the order of their codes.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Letters for the time, and for what tells tasks of one millisecond apart.
const TIME: u32 = 9;
const RANDOM: u32 = 8;

/// Bytes of a name that somebody else gave.
const LONGEST: usize = 64;

/// The name of a task in its store: letters, digits, `-` and `_`. Those that are made here have 17
/// characters and sort by the time they were made.
///
/// ```
/// use agentkernel::task::TaskId;
///
/// let (one, other) = (TaskId::new(), TaskId::new());
/// assert!(one < other);
/// assert_eq!(one.as_str().parse::<TaskId>()?, one);
/// assert!("../etc".parse::<TaskId>().is_err());
/// # Ok::<(), agentkernel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

impl TaskId {
    /// A new name.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        static LAST: Mutex<u128> = Mutex::new(0);
        let random = u128::from(fastrand::u64(..1 << (5 * RANDOM)));
        let mut number = (u128::from(milliseconds_now().unsigned_abs()) << (5 * RANDOM)) | random;
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        // Of one millisecond, or after a clock was put back.
        if number <= *last {
            number = *last + 1;
        }
        *last = number;
        let letter = |place: u32| LETTERS[(number >> (5 * place)) as usize % LETTERS.len()] as char;
        TaskId((0..TIME + RANDOM).rev().map(letter).collect())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        match !text.is_empty() && text.len() <= LONGEST && text.bytes().all(fits) {
            true => Ok(TaskId(text.to_owned())),
            false => Err(Error::new(
                ErrorKind::Tasks,
                format!("`{}` cannot be the name of a task", text.escape_debug()),
            )
            .hint(format!("it has 1 to {LONGEST} letters, digits, `-` and `_`"))),
        }
    }
}

impl TryFrom<String> for TaskId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> String {
        id.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_are_never_given_twice() {
        let names: Vec<TaskId> = (0..10_000).map(|_| TaskId::new()).collect();
        assert!(names.is_sorted_by(|one, other| one < other));
        assert!(names.iter().all(|name| name.as_str().len() == 17));
    }

    #[test]
    fn other_names_are_safe_in_paths_and_addresses() {
        for text in ["", "a b", "a/b", "..", "ä", "a\n", "a\u{1b}[31m", &"a".repeat(65)] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
        assert!("nightly-2026_01".parse::<TaskId>().is_ok());
    }
}
