//! The tokens of a session, and what they stand for.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use regex::Captures;

use super::{Kind, Privacy, TEXT};

/// Values of a session.
const MOST_VALUES: usize = 100_000;

/// Bytes of these values.
const MOST_BYTES: usize = 32 << 20;

/// What one session hides. It is in no log, and nothing of it is written anywhere.
pub(crate) struct Scope {
    pub(super) privacy: Privacy,
    values: Mutex<Values>,
}

#[derive(Default)]
struct Values {
    numbers: HashMap<(Kind, String), u32>,
    /// By kind, in the order of their numbers, which begin at 1.
    by_number: HashMap<Kind, Vec<String>>,
    bytes: usize,
}

/// There are more values than one session may hide.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Values {
    fn number(&mut self, kind: Kind, value: &str) -> Result<u32, TooMany> {
        let key = (kind, value.to_owned());
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        if self.numbers.len() >= MOST_VALUES || self.bytes + value.len() > MOST_BYTES {
            return Err(TooMany);
        }
        self.bytes += value.len();
        let values = self.by_number.entry(kind).or_default();
        values.push(value.to_owned());
        let number = values.len() as u32;
        self.numbers.insert(key, number);
        Ok(number)
    }
}

impl Scope {
    pub fn new(privacy: Privacy) -> Self {
        Scope { privacy, values: Mutex::default() }
    }

    /// The text with tokens in place of what is found, which are counted.
    pub fn hide(&self, text: &str, count: &mut u64) -> Result<String, TooMany> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hidden = String::with_capacity(text.len());
        let mut at = 0;
        for found in self.privacy.find(text) {
            self.keep(&text[at..found.start], &mut hidden, &mut values)?;
            self.write(found.kind, &text[found.start..found.end], &mut hidden, &mut values)?;
            *count += 1;
            at = found.end;
        }
        self.keep(&text[at..], &mut hidden, &mut values)?;
        Ok(hidden)
    }

    /// Text in which nothing is found: what looks like a token gets one, so that it comes back as it was.
    fn keep(&self, mut text: &str, hidden: &mut String, values: &mut Values) -> Result<(), TooMany> {
        // Each time from where it ends, as it stands beside tokens then.
        while let Some(token) = self.privacy.0.token.find(text) {
            *hidden += &text[..token.start()];
            self.write(TEXT, token.as_str(), hidden, values)?;
            text = &text[token.end()..];
        }
        *hidden += text;
        Ok(())
    }

    fn write(
        &self,
        kind: Kind,
        value: &str,
        hidden: &mut String,
        values: &mut Values,
    ) -> Result<(), TooMany> {
        let number = values.number(kind, value)?;
        let _ = write!(hidden, "<{}_{number}>", self.privacy.0.names[kind]);
        Ok(())
    }

    /// The text with values in place of their tokens. Within JSON they are written as it has them.
    pub fn restore(&self, text: &str, in_json: bool) -> String {
        let put_back = |captures: &Captures<'_>| match self.value(captures) {
            Some(value) if in_json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Some(value) => value,
            None => captures[0].to_owned(),
        };
        self.privacy.0.token.replace_all(text, put_back).into_owned()
    }

    /// What a token stands for.
    pub(super) fn value(&self, captures: &Captures<'_>) -> Option<String> {
        let group = |one, other| captures.get(one).or_else(|| captures.get(other));
        let name = group(1, 3)?.as_str();
        let kind = self.privacy.0.names.iter().position(|kind| kind.eq_ignore_ascii_case(name))?;
        let number: usize = group(2, 4)?.as_str().parse().ok()?;
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.by_number.get(&kind)?.get(number.checked_sub(1)?).cloned()
    }
}
