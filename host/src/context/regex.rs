//! Regular expressions of programs, compiled by ripgrep's library within limits.

use std::sync::{Arc, Mutex, PoisonError};

use grep_regex::{ErrorKind, RegexMatcher, RegexMatcherBuilder};
use regex_syntax::hir::{Hir, HirKind};

use super::Result;
use crate::service::failure;

/// Bytes that a program's expression may have.
const PATTERN_BYTES: usize = 64 << 10;

/// Memory of a compiled expression. One takes time in proportion to it for each byte at worst.
const COMPILED_BYTES: usize = 4 << 20;

/// Memory of the automaton that is built while it is used, on each thread.
const AUTOMATON_BYTES: usize = 8 << 20;

/// Groups in groups.
const DEPTH: u32 = 100;

/// Compiled expressions that are kept.
const KEPT: usize = 8;

/// Steps of one match at worst: a tenth of a second's work, as one cannot be stopped.
const STEPS: usize = 32 << 20;

/// Bytes that are searched at once, however large the expression is.
const LEAST_WINDOW: usize = 1 << 10;

pub const IGNORE_CASE: u8 = 1;
pub const VERBOSE: u8 = 2;

/// A compiled expression.
pub struct Regex {
    pub matcher: RegexMatcher,
    /// Bytes that it may see at once. Lines that are longer are cut.
    pub window: usize,
}

/// Expressions of one session; the latest are kept.
#[derive(Default)]
pub struct Regexes(Mutex<Vec<(String, u8, Arc<Regex>)>>);

impl Regexes {
    pub fn get(&self, pattern: &str, flags: u8) -> Result<Arc<Regex>> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            kept().iter().find(|(of, with, _)| of == pattern && *with == flags).map(|(.., it)| it.clone());
        if let Some(regex) = found {
            return Ok(regex);
        }
        let regex = Arc::new(compile(pattern, flags)?);
        let mut kept = kept();
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((pattern.to_owned(), flags, Arc::clone(&regex)));
        Ok(regex)
    }
}

fn compile(pattern: &str, flags: u8) -> Result<Regex> {
    if pattern.len() > PATTERN_BYTES {
        let message =
            format!("a regular expression may have {PATTERN_BYTES} bytes, this has {}", pattern.len());
        return Err(failure("value", message));
    }
    let built = RegexMatcherBuilder::new()
        .multi_line(true)
        .crlf(true)
        .line_terminator(Some(b'\n'))
        .case_insensitive(flags & IGNORE_CASE != 0)
        .ignore_whitespace(flags & VERBOSE != 0)
        .size_limit(COMPILED_BYTES)
        .dfa_size_limit(AUTOMATON_BYTES)
        .nest_limit(DEPTH)
        .build(pattern);
    let matcher = built.map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotAllowed(_) => {
                "a match lies within a line, so the expression cannot have a line break; find(), count() and `in` take plain text with line breaks".to_owned()
            }
            ErrorKind::Regex(message) if message.contains("size limit") => {
                "the expression is too large when it is compiled; use fewer or smaller repetitions".to_owned()
            }
            ErrorKind::Regex(message) if message.contains("look-around") => {
                format!("{message}\n(search for more, and filter the matches in Python)")
            }
            _ => error.to_string(),
        };
        failure("value", message)
    })?;
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .nest_limit(DEPTH)
        .ignore_whitespace(flags & VERBOSE != 0)
        .build()
        .parse(pattern);
    let window = parsed.map_or(LEAST_WINDOW, |parsed| {
        (STEPS / states(&parsed).max(1)).clamp(LEAST_WINDOW, super::search::MARGIN as usize)
    });
    Ok(Regex { matcher, window })
}

/// How many states an expression can be in at once, nearly: each byte takes a step for each at worst.
fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(text) => text.0.len(),
        HirKind::Capture(capture) => states(&capture.sub).saturating_add(2),
        HirKind::Repetition(repeated) => {
            let times = repeated.max.unwrap_or_else(|| repeated.min.saturating_add(1)).max(1);
            states(&repeated.sub).saturating_add(1).saturating_mul(times as usize)
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(states).fold(1, usize::saturating_add)
        }
    }
}

/// The text that the expression stands for, if it is plain.
pub fn literal(pattern: &str, flags: u8) -> Option<String> {
    if flags != 0 {
        return None;
    }
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        text.push(match char {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                escaped if escaped.is_ascii_punctuation() && !"<>".contains(escaped) => escaped,
                ' ' => ' ',
                '\n' => '\n',
                _ => return None,
            },
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            plain => plain,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_known() {
        assert_eq!(literal(r"a\.b\n é", 0).as_deref(), Some("a.b\n é"));
        assert_eq!(literal("a.b", 0), None);
        assert_eq!(literal(r"\d", 0), None);
        assert_eq!(literal("a", IGNORE_CASE), None);
        assert_eq!(literal("\\", 0), None);
    }

    #[test]
    fn large_expressions_see_less_at_once() {
        let window = |pattern: &str| compile(pattern, 0).ok().unwrap().window;
        assert_eq!(window(r"(\w+)@(\w+)\.com"), 1 << 20);
        assert_eq!(window(r".*[\x00\x01]|."), 1 << 20);
        assert!((4 << 10..16 << 10).contains(&window("(a?){1000}b")));
        assert_eq!(window("(?:(?:a?){100}){200}b"), LEAST_WINDOW);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |pattern: &str| compile(pattern, 0).err().unwrap().message;
        assert!(message("a(b").contains("unclosed group"), "{}", message("a(b"));
        assert!(message(r"(?<=a)b").contains("filter the matches"), "{}", message(r"(?<=a)b"));
        assert!(message(r"a\nb+").contains("within a line"));
        assert!(message("((a{1000}){1000}){1000}").contains("too large"));
        assert!(message(&"(".repeat(1000)).len() < 10_000);
        assert!(message(&"a".repeat(100_000)).contains("65536"));
        assert!(compile(r"\w{20} [^a]\s", 0).is_ok());
    }
}
