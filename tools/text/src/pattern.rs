//! Regular expressions: compiled once, places counted in characters, replacements as `re.sub` has them.

use std::cell::RefCell;

use regex::{Captures, Regex, RegexBuilder};

use crate::exports::agentkernel::text::text::Match;

/// Programs call with the same few patterns in a loop, and compiling takes longer than most searches.
const KEPT: usize = 16;

#[derive(Clone, PartialEq)]
struct Key {
    pattern: String,
    ignore_case: bool,
    multi_line: bool,
}

thread_local! {
    static COMPILED: RefCell<Vec<(Key, Regex)>> = const { RefCell::new(Vec::new()) };
}

/// The compiled form of `pattern`; that of the last few is kept.
///
/// # Errors
///
/// What is wrong with the pattern, and what to write in its place.
pub fn compile(pattern: &str, ignore_case: Option<bool>, multi_line: bool) -> Result<Regex, String> {
    let key = Key { pattern: pattern.to_owned(), ignore_case: ignore_case.unwrap_or(false), multi_line };
    COMPILED.with_borrow_mut(|kept| {
        if let Some(place) = kept.iter().position(|(other, _)| *other == key) {
            kept[..=place].rotate_right(1);
            return Ok(kept[0].1.clone());
        }
        let regex = RegexBuilder::new(pattern)
            .case_insensitive(key.ignore_case)
            .multi_line(multi_line)
            .build()
            .map_err(|error| explain(pattern, &error))?;
        kept.truncate(KEPT - 1);
        kept.insert(0, (key, regex.clone()));
        Ok(regex)
    })
}

fn explain(pattern: &str, error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("the pattern needs more than {limit} bytes when compiled: use smaller repetitions");
    }
    let message = error.to_string();
    let hint = if message.contains("look-around") {
        "\nhint: match what stands around as well and put what you want into a group"
    } else if message.contains("backreferences") {
        "\nhint: match both parts as groups and compare them in Python"
    } else if message.contains("unrecognized escape") && pattern.contains(r"\Z") {
        "\nhint: write `\\z` for the end of the text"
    } else {
        ""
    };
    format!("wrong pattern: {message}{hint}")
}

/// Counts lines and characters up to byte offsets that only grow.
pub struct Places<'a> {
    text: &'a str,
    offset: usize,
    index: usize,
    line: usize,
    line_start: usize,
    /// One byte is one character: nothing needs counting.
    ascii: bool,
}

impl<'a> Places<'a> {
    pub fn new(text: &'a str) -> Self {
        Places { text, offset: 0, index: 0, line: 1, line_start: 0, ascii: text.is_ascii() }
    }

    /// The character index of a byte offset that is not before the last one.
    pub fn index(&mut self, offset: usize) -> usize {
        let between = &self.text[self.offset..offset];
        let bytes = between.as_bytes();
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.line += bytes.iter().filter(|byte| **byte == b'\n').count();
            self.line_start = self.index + self.count(&between[..=last]);
        }
        self.index += self.count(between);
        self.offset = offset;
        self.index
    }

    /// The line and the column of the last offset asked for, from 1.
    pub fn line_and_column(&self) -> (u32, u32) {
        (self.line as u32, (self.index - self.line_start + 1) as u32)
    }

    fn count(&self, part: &str) -> usize {
        if self.ascii { part.len() } else { part.chars().count() }
    }
}

/// What the groups of a match hold, from group 1.
pub fn groups(captures: &Captures<'_>) -> Vec<Option<String>> {
    captures.iter().skip(1).map(|group| group.map(|group| group.as_str().to_owned())).collect()
}

fn most(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit as usize)
}

pub fn search(regex: &Regex, text: &str, limit: Option<u32>) -> Vec<Match> {
    let mut places = Places::new(text);
    let names: Vec<Option<&str>> = regex.capture_names().collect();
    let mut found = |whole: regex::Match<'_>, captures: Option<&Captures<'_>>| {
        let start = places.index(whole.start());
        let (line, column) = places.line_and_column();
        // The end does not move the places on: the next match may be empty and start there, and a
        // line that ends within this match counts for the next one.
        let end = start + places.count(whole.as_str());
        let named = captures.map_or_else(Vec::new, |captures| {
            names
                .iter()
                .flatten()
                .map(|name| ((*name).to_owned(), captures.name(name).map(|group| group.as_str().to_owned())))
                .collect()
        });
        Match {
            text: whole.as_str().to_owned(),
            start: start as u32,
            end: end as u32,
            line,
            column,
            groups: captures.map_or_else(Vec::new, groups),
            named,
        }
    };
    if regex.captures_len() == 1 {
        return regex.find_iter(text).take(most(limit)).map(|whole| found(whole, None)).collect();
    }
    let captures = regex.captures_iter(text).take(most(limit));
    captures.filter_map(|captures| Some(found(captures.get(0)?, Some(&captures)))).collect()
}

pub fn split(regex: &Regex, text: &str, limit: Option<u32>) -> Vec<String> {
    regex.splitn(text, most(limit).saturating_add(1)).map(str::to_owned).collect()
}

enum Piece {
    Literal(String),
    Group(usize),
}

/// # Errors
///
/// That the replacement names a group which the pattern has not, or has an unknown escape.
pub fn replace(regex: &Regex, replacement: &str, text: String, limit: Option<u32>) -> Result<String, String> {
    let pieces = parse_replacement(regex, replacement)?;
    let mut output = String::new();
    let mut copied = 0;
    let append = |output: &mut String, whole: regex::Match<'_>, captures: Option<&Captures<'_>>| {
        for piece in &pieces {
            match piece {
                Piece::Literal(literal) => output.push_str(literal),
                Piece::Group(0) => output.push_str(whole.as_str()),
                Piece::Group(group) => {
                    let group = captures.and_then(|captures| captures.get(*group));
                    output.push_str(group.map_or("", |group| group.as_str()));
                }
            }
        }
    };
    if pieces.iter().all(|piece| matches!(piece, Piece::Literal(_) | Piece::Group(0))) {
        for whole in regex.find_iter(&text).take(most(limit)) {
            output.push_str(&text[copied..whole.start()]);
            append(&mut output, whole, None);
            copied = whole.end();
        }
    } else {
        for captures in regex.captures_iter(&text).take(most(limit)) {
            let Some(whole) = captures.get(0) else { continue };
            output.push_str(&text[copied..whole.start()]);
            append(&mut output, whole, Some(&captures));
            copied = whole.end();
        }
    }
    if copied == 0 && output.is_empty() {
        return Ok(text);
    }
    output.push_str(&text[copied..]);
    Ok(output)
}

fn parse_replacement(regex: &Regex, replacement: &str) -> Result<Vec<Piece>, String> {
    let groups = regex.captures_len();
    let numbered = |number: &str| match number.parse::<usize>() {
        Ok(number) if number < groups => Ok(Piece::Group(number)),
        _ => Err(format!(
            "the replacement names group {number}, and the pattern has {} (from 1, besides 0, the match)",
            groups - 1
        )),
    };
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = replacement;
    while let Some(place) = rest.find('\\') {
        literal.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        let Some(letter) = rest.chars().next() else {
            return Err(r"the replacement ends in a single backslash: write `\\` for one".to_owned());
        };
        let group = match letter {
            '0'..='9' => {
                let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
                let number = &rest[..digits];
                rest = &rest[digits..];
                numbered(number)?
            }
            'g' => {
                let name = rest.strip_prefix("g<").and_then(|name| name.split_once('>'));
                let Some((name, after)) = name else {
                    return Err(r"`\g` in the replacement wants a group: `\g<1>` or `\g<name>`".to_owned());
                };
                rest = after;
                match regex.capture_names().position(|other| other == Some(name)) {
                    Some(group) => Piece::Group(group),
                    None if name.starts_with(|letter: char| letter.is_ascii_digit()) => numbered(name)?,
                    None => {
                        return Err(format!(
                            "the replacement names group `{name}`, which the pattern has not"
                        ));
                    }
                }
            }
            _ => {
                match letter {
                    'n' => literal.push('\n'),
                    't' => literal.push('\t'),
                    'r' => literal.push('\r'),
                    '\\' => literal.push('\\'),
                    letter if letter.is_ascii_alphanumeric() => {
                        return Err(format!(
                            "unknown escape `\\{letter}` in the replacement: write `\\\\` for a backslash"
                        ));
                    }
                    // As `re.sub` does, which keeps a backslash that means nothing.
                    letter => literal.extend(['\\', letter]),
                }
                rest = &rest[letter.len_utf8()..];
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(group);
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(pattern: &str, replacement: &str, text: &str) -> Result<String, String> {
        replace(&compile(pattern, None, false)?, replacement, text.to_owned(), None)
    }

    #[test]
    fn places_are_in_characters() {
        let regex = compile("ü|$", None, true).unwrap();
        let places: Vec<_> = search(&regex, "aü\nüb", None)
            .into_iter()
            .map(|found| (found.text, found.start, found.end, found.line, found.column))
            .collect();
        let expected = [("ü", 1, 2, 1, 2), ("ü", 3, 4, 2, 1), ("", 5, 5, 2, 3)];
        assert_eq!(places, expected.map(|(text, s, e, l, c)| (text.to_owned(), s, e, l, c)));
    }

    #[test]
    fn replacements_are_those_of_python() {
        assert_eq!(replaced(r"(\w+) (?P<b>\w+)", r"\g<b> \1\n\\\.$1", "a b!").unwrap(), "b a\n\\\\.$1!");
        assert_eq!(replaced("(a)|(b)", r"[\1\2\g<0>]", "ab").unwrap(), "[aa][bb]");
        assert_eq!(replaced("", "-", "ab").unwrap(), "-a-b-");
        assert_eq!(replaced("a", "", "aaa").unwrap(), "");
        assert_eq!(replaced("z", "y", "abc").unwrap(), "abc");
        for wrong in [r"\2", r"\g<c>", r"\g", r"\q", "\\"] {
            assert!(replaced("(a)", wrong, "a").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_linear_is_refused_with_a_way_out() {
        for (pattern, hint) in [
            (r"(?=a)", "into a group"),
            (r"(a)\1", "compare them"),
            (r"a\Z", r"`\z`"),
            ("a{1000}{1000}", "smaller"),
        ] {
            let error = compile(pattern, None, false).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }
}
