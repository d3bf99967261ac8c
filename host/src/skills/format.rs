//! The file of a skill: two lines about it, and its code.
//!
//! ```text
//! # skill: Parses dates as Germans write them
//! # version: 3
//!
//! def parse(text): ...
//! ```
//!
//! A file that a person wrote needs no such lines: its docstring says what it does.

use super::{MAX_CODE, MAX_DESCRIPTION, Skill, wrong};
use crate::Result;

const SKILL: &str = "# skill: ";
const VERSION: &str = "# version: ";

/// Bytes of the longest file.
pub(super) const MAX_FILE: usize = MAX_CODE + 4096;

/// The text of a file. The description is one line.
pub(super) fn write(description: &str, version: u64, code: &str) -> String {
    let end = if code.ends_with('\n') { "" } else { "\n" };
    format!("{SKILL}{description}\n{VERSION}{version}\n\n{code}{end}")
}

/// What a file says.
pub(super) fn read(name: &str, text: &str) -> (Skill, String) {
    let name = name.to_owned();
    let head = text.strip_prefix(SKILL).and_then(|rest| {
        let (description, rest) = rest.split_once('\n')?;
        let (version, code) = rest.strip_prefix(VERSION)?.split_once('\n')?;
        Some((description, version.trim().parse().ok()?, code.strip_prefix('\n').unwrap_or(code)))
    });
    let (description, version, code) = head.unwrap_or_else(|| (docstring(text), 1, text));
    (Skill { name, description: cut(&plain(description.trim())), version }, code.to_owned())
}

/// The first line of the text that a module begins with.
fn docstring(text: &str) -> &str {
    let begins = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let line = text.lines().find(begins).unwrap_or_default().trim();
    let quoted = ["\"\"\"", "'''", "\"", "'"].into_iter().find_map(|quote| {
        let rest = line.strip_prefix(quote)?;
        Some(rest.strip_suffix(quote).unwrap_or(rest))
    });
    quoted.unwrap_or_default()
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_DESCRIPTION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Refuses what a file cannot have.
pub(super) fn check(code: &str, description: &str) -> Result<()> {
    if code.trim().is_empty() {
        return Err(wrong("a skill needs code"));
    }
    if code.len() > MAX_CODE {
        return Err(wrong(format!("the code has {} bytes (at most {MAX_CODE})", code.len()))
            .hint("keep data in the workspace, and code alone in a skill"));
    }
    if code.contains('\0') {
        return Err(wrong("the code has a NUL character, so it is not Python"));
    }
    if description.trim().is_empty() || description.len() > MAX_DESCRIPTION {
        return Err(wrong(format!("a description is a line of 1 to {MAX_DESCRIPTION} bytes")));
    }
    match description.chars().find(|letter| is_obeyed(*letter)) {
        None => Ok(()),
        Some(letter) => Err(wrong(format!("a description is one line of text, without {letter:?}"))),
    }
}

/// The text with characters shown that a terminal would obey, or that change the direction of text.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_obeyed(letter) {
            true => plain.extend(letter.escape_unicode()),
            false => plain.push(letter),
        }
    }
    plain
}

fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_were_written() {
        for code in
            ["x = 1\n", "# version: 9\nx = 1\n", "\n\nx = 1\n", "# skill: other\n# version: 2\n\nx = 1\n"]
        {
            let (skill, read) = read("n", &write("does it", 7, code));
            assert_eq!((skill.description.as_str(), skill.version, read.as_str()), ("does it", 7, code));
        }
        assert_eq!(read("n", &write("d", 1, "x")).1, "x\n");
    }

    #[test]
    fn files_of_people_have_docstrings() {
        for (text, description) in [
            ("\"\"\"Parses dates.\"\"\"\n", "Parses dates."),
            ("#!/usr/bin/python\n\n'''Parses dates,\nand more.'''", "Parses dates,"),
            ("x = 1", ""),
            ("", ""),
            ("# skill: half a head\nx = 1", ""),
            ("\"\"\"\u{1b}[2J\"\"\"", "\\u{1b}[2J"),
        ] {
            let (skill, code) = read("n", text);
            assert_eq!((skill.description.as_str(), skill.version, code.as_str()), (description, 1, text));
        }
        assert_eq!(read("n", &format!("'{}'", "ä".repeat(500))).0.description.len(), MAX_DESCRIPTION);
    }
}
