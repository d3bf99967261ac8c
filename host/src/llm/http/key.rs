//! Keys: held to be sent, and shown nowhere.

use std::fmt;

use reqwest::header::HeaderValue;

use crate::{Error, ErrorKind, Result};

/// A provider's key. Neither `Debug` nor an error shows it, and its memory is cleared when it goes.
///
/// ```
/// let key = agentkernel::llm::Key::new("sk-0123456789");
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// A shorter value is no secret, and would be found by chance in what is to be kept free of it.
const LEAST: usize = 8;

impl Key {
    /// A key; whether it can be sent is checked when a provider is built with it.
    pub fn new(key: impl Into<String>) -> Self {
        Key(key.into())
    }

    /// The value of a header: `prefix`, then the key. `what` names it in the error.
    pub(super) fn header(&self, prefix: &str, what: &str) -> Result<HeaderValue> {
        let wrong = |problem: &str| {
            Err(Error::new(ErrorKind::Model, format!("{what} {problem}"))
                .hint("check for quotes, blanks or a line break around it where it is set"))
        };
        if self.0.is_empty() {
            return wrong("is empty");
        }
        if self.0.trim() != self.0 {
            return wrong("has white space around it");
        }
        if !self.0.bytes().all(|letter| (0x20..0x7f).contains(&letter)) {
            return wrong("has characters that cannot stand in a header");
        }
        let Ok(mut value) = HeaderValue::from_str(&format!("{prefix}{}", self.0)) else {
            return wrong("cannot stand in a header");
        };
        value.set_sensitive(true);
        Ok(value)
    }

    /// `text` without the key, whole or with stars in its middle as some providers show it.
    pub(super) fn redact(&self, text: &mut String) {
        if self.0.len() < LEAST {
            return;
        }
        if text.contains(&self.0) {
            *text = text.replace(&self.0, "[key]");
        }
        if !text.contains("**") {
            return;
        }
        let (Some(start), Some(end)) = (self.0.get(..3), self.0.get(self.0.len() - 3..)) else { return };
        let words = text.split_inclusive(char::is_whitespace).map(|word| {
            let bare = word.trim_end();
            match bare.contains("**") && (bare.contains(start) || bare.contains(end)) {
                true => format!("[key]{}", &word[bare.len()..]),
                false => word.to_owned(),
            }
        });
        *text = words.collect();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        // Otherwise the compiler sees that nobody reads the zeros.
        std::hint::black_box(&bytes);
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Key(key)
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Key(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out_whole_and_starred() {
        let key = Key::new("sk-proj-0123456789wxyz");
        for (said, expected) in [
            ("bad key sk-proj-0123456789wxyz.", "bad key [key]."),
            ("provided: sk-proj-*******wxyz. See", "provided: [key] See"),
            ("**bold** stays", "**bold** stays"),
        ] {
            let mut text = said.to_owned();
            key.redact(&mut text);
            assert_eq!(text, expected);
        }
        let mut text = "EMPTY is short".to_owned();
        Key::new("EMPTY").redact(&mut text);
        assert_eq!(text, "EMPTY is short");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_shown() {
        for wrong in ["", " secret-value", "secret-value\n", "secret\u{7f}-value", "s\u{e9}cret-value"] {
            let error = Key::new(wrong).header("Bearer ", "the key").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(!format!("{error:?} {error}").contains("cret"), "{error:?}");
        }
        assert!(Key::new("x").header("Bearer ", "the key").unwrap().is_sensitive());
    }
}
