//! Putting values back into an answer that comes in pieces.

use super::Scope;

/// Bytes of the longest token: `\u003c`, a name, a number, `\u003e`.
const LONGEST: usize = 80;

/// What tokens begin and end with, in capitals.
const OPENERS: [&str; 3] = ["<", "&LT;", "\\U003C"];
const CLOSERS: [&str; 3] = [">", "&GT;", "\\U003E"];

/// What has come of an answer and is not passed on yet, as a token may begin in it.
pub(crate) struct Stream<'a> {
    scope: &'a Scope,
    in_json: bool,
    held: String,
    /// How much of what is held is passed on already: it says whether a word begins after it.
    passed: usize,
}

impl<'a> Stream<'a> {
    pub fn new(scope: &'a Scope, in_json: bool) -> Self {
        Stream { scope, in_json, held: String::new(), passed: 0 }
    }

    /// Takes a piece, and passes on what no later piece can change.
    pub fn push(&mut self, piece: &str, on_text: &mut dyn FnMut(&str)) {
        self.held += piece;
        let until = self.open();
        self.pass(until, on_text);
    }

    /// Passes on the rest.
    pub fn finish(&mut self, on_text: &mut dyn FnMut(&str)) {
        self.pass(self.held.len(), on_text);
    }

    /// Where the first token begins that may not be complete.
    fn open(&self) -> usize {
        let mut from = self.held.len().saturating_sub(LONGEST).max(self.passed);
        while !self.held.is_char_boundary(from) {
            from += 1;
        }
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let mut after_word = self.held[..from].chars().next_back().is_some_and(is_word);
        let mut complete = from;
        for (offset, letter) in self.held[from..].char_indices() {
            let at = from + offset;
            let begins_word = is_word(letter) && !after_word;
            after_word = is_word(letter);
            if at < complete || !(matches!(letter, '<' | '&' | '\\') || begins_word) {
                continue;
            }
            match self.scope.privacy.0.token.find_at(&self.held, at).filter(|found| found.start() == at) {
                // A number may go on.
                Some(found) if found.end() < self.held.len() || !begins_word => complete = found.end(),
                _ if self.may_begin(&self.held[at..]) => return at,
                _ => {}
            }
        }
        self.held.len()
    }

    /// Whether more text can make a token of it.
    fn may_begin(&self, text: &str) -> bool {
        let text = text.to_ascii_uppercase();
        let opener = OPENERS.iter().find_map(|opener| text.strip_prefix(opener));
        if OPENERS.iter().any(|opener| opener.starts_with(&text)) {
            return true;
        }
        let rest = opener.map_or(text.as_str(), |rest| rest.strip_prefix(' ').unwrap_or(rest));
        self.scope.privacy.0.names.iter().any(|name| {
            name.starts_with(rest)
                || rest.strip_prefix(name.as_str()).is_some_and(|rest| {
                    let rest = rest.strip_prefix(['_', ' ', '-']).unwrap_or(rest);
                    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
                    let rest = rest.strip_prefix(' ').unwrap_or(rest);
                    CLOSERS.iter().any(|closer| closer.starts_with(rest))
                })
        })
    }

    /// Passes on what is held up to `until`, or to the end of a token that begins before it.
    fn pass(&mut self, until: usize, on_text: &mut dyn FnMut(&str)) {
        let token = &self.scope.privacy.0.token;
        let mut at = self.passed;
        let mut text = String::new();
        while let Some(found) = token.find_at(&self.held, at).filter(|found| found.start() < until) {
            text += &self.held[at..found.start()];
            text += &self.scope.restore(found.as_str(), self.in_json);
            at = found.end();
        }
        if at < until {
            text += &self.held[at..until];
            at = until;
        }
        if !text.is_empty() {
            on_text(&text);
        }
        // One character stays.
        let last = self.held[..at].chars().next_back().map_or(0, char::len_utf8);
        self.held.drain(..at - last);
        self.passed = last;
    }
}
