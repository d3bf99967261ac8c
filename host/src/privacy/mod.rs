//! Personal data and secrets that models are not shown: found, replaced by tokens, and put back into what
//! models answer.

mod email;
mod find;
mod iban;
mod numbers;
mod request;
mod scope;
mod secret;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::{Error, ErrorKind, Result};
pub(crate) use request::Prepared;
pub(crate) use scope::Scope;
pub(crate) use stream::Stream;

/// What is found in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hidden {
    /// Addresses such as `ada@example.com`.
    Email,
    /// Phone numbers in the international form, or in national forms with separators.
    Phone,
    /// Numbers of payment cards, whose check digit is right.
    Card,
    /// International bank account numbers, whose check digits are right.
    Iban,
    /// Keys and tokens in the forms of well-known services, AWS key ids, bearer tokens, private key blocks.
    Key,
}

impl Hidden {
    /// All of them.
    pub const ALL: [Hidden; 5] = [Hidden::Email, Hidden::Phone, Hidden::Card, Hidden::Iban, Hidden::Key];

    /// Its name in configuration files: `email`.
    pub fn name(self) -> &'static str {
        match self {
            Hidden::Email => "email",
            Hidden::Phone => "phone",
            Hidden::Card => "card",
            Hidden::Iban => "iban",
            Hidden::Key => "key",
        }
    }
}

/// What models are not shown. Cheap to clone.
///
/// What is found in a request is replaced by tokens such as `<EMAIL_1>` before anybody counts, caches,
/// records or sends it; tokens in the answer are replaced by what they stand for. A value has the same token
/// for as long as a session lives. See `docs/privacy.md` for what is found, and what is not.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Hidden, Privacy};
///
/// let privacy = Privacy::new().pattern("employee", r"\bE-\d{6}\b")?.without(Hidden::Phone);
/// let shown = privacy.cover("ada@example.com is E-123456, call +49 30 1234567");
/// assert_eq!(shown, "<EMAIL> is <EMPLOYEE>, call +49 30 1234567");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Privacy(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    finds: Vec<Hidden>,
    patterns: Vec<(String, Regex)>,
    /// Kinds as tokens name them; those of patterns come last.
    names: Vec<String>,
    /// Tokens in all forms that are taken for one.
    token: Regex,
}

/// A kind: an index of names.
type Kind = usize;

/// Text that only looks like one of our tokens.
const TEXT: Kind = 5;

const NAMES: [&str; 6] = ["EMAIL", "PHONE", "CARD", "IBAN", "KEY", "TEXT"];

/// Bytes of a compiled expression, and of its cache.
const EXPRESSION: usize = 1 << 20;

impl Default for Privacy {
    fn default() -> Self {
        Self::new()
    }
}

impl Privacy {
    /// Hides all that is in [`Hidden::ALL`].
    pub fn new() -> Self {
        let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        let token = token(&names);
        Privacy(Arc::new(Inner { finds: Hidden::ALL.to_vec(), patterns: Vec::new(), names, token }))
    }

    /// Shows what is of one kind.
    pub fn without(mut self, hidden: Hidden) -> Self {
        Arc::make_mut(&mut self.0).finds.retain(|found| *found != hidden);
        self
    }

    /// Hides all matches of a regular expression as well, which takes linear time. With a group that is
    /// named `hide`, only what the group matches. Tokens have the name in capitals.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Model`] when the name is taken or is not made of letters, digits, `-` and `_`, when the
    /// expression is wrong, too large, or matches nothing at all (the empty text).
    pub fn pattern(mut self, name: &str, expression: &str) -> Result<Self> {
        let wrong = |message: String| Error::new(ErrorKind::Model, message);
        let upper = name.to_ascii_uppercase().replace('-', "_");
        let good = upper.starts_with(|first: char| first.is_ascii_alphabetic())
            && upper.ends_with(|last: char| last.is_ascii_alphanumeric())
            && upper.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && upper.len() <= 40;
        if !good {
            return Err(wrong(format!("`{name}` cannot name a pattern")).hint(
                "a name is at most 40 letters, digits, `-` and `_`, and begins with a letter: `employee-id`",
            ));
        }
        if self.0.names.contains(&upper) {
            return Err(
                wrong(format!("the pattern `{name}` has the name of another")).hint("give it another name")
            );
        }
        let regex = RegexBuilder::new(expression).size_limit(EXPRESSION).dfa_size_limit(EXPRESSION).build();
        let regex = regex
            .map_err(|error| wrong(format!("the pattern `{name}` is no regular expression")).source(error))?;
        if regex.is_match("") {
            return Err(
                wrong(format!("the pattern `{name}` matches the empty text")).hint("let it need a character")
            );
        }
        let inner = Arc::make_mut(&mut self.0);
        inner.patterns.push((upper.clone(), regex));
        inner.names.push(upper);
        inner.token = token(&inner.names);
        Ok(self)
    }

    /// What it finds in a text, replaced by the name of its kind: `<EMAIL>`. For logs.
    pub fn cover(&self, text: &str) -> String {
        let mut covered = String::with_capacity(text.len());
        let mut at = 0;
        for found in self.find(text) {
            covered += &text[at..found.start];
            covered += "<";
            covered += &self.0.names[found.kind];
            covered += ">";
            at = found.end;
        }
        covered + &text[at..]
    }
}

impl fmt::Debug for Privacy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Privacy");
        shown.field("finds", &self.0.finds).field("names", &self.0.names).finish_non_exhaustive()
    }
}

/// Tokens as models give them back: in another case, in other brackets, written for HTML or JSON.
fn token(names: &[String]) -> Regex {
    // The longer ones first, where one is the beginning of another.
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let names = names.join("|");
    let open = r"(?:<|&lt;|\\u003c)";
    let close = r"(?:>|&gt;|\\u003e)";
    Regex::new(&format!(
        r"(?i-u){open} ?({names})[ _-]?([0-9]{{1,9}}) ?{close}|(?-iu)\b({names})_([0-9]{{1,9}})\b"
    ))
    .expect("the names are letters, digits and underscores")
}
