//! Names of a server's functions, parameters and types as Python has them.

use std::collections::{HashMap, HashSet};

use crate::tool::names::is_identifier;

/// Letters of a name; what is longer is cut, which no name that is meant to be called is.
const MOST_LETTERS: usize = 64;

/// Names that generated modules have already, or that their annotations use.
const TAKEN: &[&str] = &[
    "Any",
    "Error",
    "Literal",
    "NotRequired",
    "TypedDict",
    "aio",
    "bool",
    "dict",
    "float",
    "int",
    "list",
    "str",
];

/// Names that are given once.
pub struct Names {
    /// Those that nothing is given.
    reserved: &'static [&'static str],
    given: HashSet<String>,
    /// The next number for each name that was asked for again.
    next: HashMap<String, u32>,
    /// Names that more than one could have had: who has which depends on their order.
    contested: HashSet<String>,
}

impl Names {
    /// Of a module.
    pub fn of_module() -> Self {
        Names { reserved: TAKEN, ..Names::of_parameters() }
    }

    /// Of the parameters of one function.
    pub fn of_parameters() -> Self {
        Names { reserved: &[], given: HashSet::new(), next: HashMap::new(), contested: HashSet::new() }
    }

    /// A name for `given`: the same where that is possible, else one that is like it.
    pub fn give(&mut self, given: &str) -> String {
        let mut plain = identifier(given);
        if self.reserved.contains(&plain.as_str()) {
            plain.push_str("_2");
        }
        if self.given.insert(plain.clone()) {
            return plain;
        }
        self.contested.insert(plain.clone());
        let next = self.next.entry(plain.clone()).or_insert(2);
        loop {
            let name = format!("{plain}_{next}");
            *next += 1;
            self.contested.insert(name.clone());
            if self.given.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Whether `given` can be a name as it is.
    pub fn keeps(&self, given: &str) -> bool {
        !self.reserved.contains(&given) && identifier(given) == given
    }

    /// Whether more than one could have had a name.
    pub fn is_contested(&self, name: &str) -> bool {
        self.contested.contains(name)
    }

    /// A name for a type, made of words.
    pub fn give_type(&mut self, words: &str) -> String {
        let pascal = words.split(|letter: char| !letter.is_ascii_alphanumeric()).map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        });
        self.give(&pascal.collect::<String>())
    }
}

/// Whether a member of an object can be written as an attribute of a class.
pub fn is_plain(name: &str) -> bool {
    is_identifier(name)
}

/// The nearest name that Python can have: ASCII, not private, no word of its own.
fn identifier(given: &str) -> String {
    let letters = given.chars().take(MOST_LETTERS);
    let plain: String =
        letters.map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    let mut name = plain.trim_start_matches('_').to_owned();
    if !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        name.insert_str(0, "x_");
        name.truncate(name.trim_end_matches('_').len().max(1));
    }
    if !is_identifier(&name) {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pythons_and_no_two_are_the_same() {
        for (given, expected) in [
            ("read_file", "read_file"),
            ("readFile", "readFile"),
            ("get-tiny-image", "get_tiny_image"),
            ("fs/read.all", "fs_read_all"),
            ("import", "import_"),
            ("None", "None_"),
            ("2fa", "x_2fa"),
            ("__init__", "init__"),
            ("", "x"),
            ("é\"\n'", "x"),
            ("a\");import os#", "a___import_os_"),
        ] {
            let name = identifier(given);
            assert_eq!(name, expected, "{given:?}");
            assert!(is_identifier(&name), "{name}");
        }
        let mut names = Names::of_module();
        assert_eq!(names.give("a-b"), "a_b");
        assert_eq!(names.give("a_b"), "a_b_2");
        assert_eq!(names.give("a.b"), "a_b_3");
        assert_eq!(names.give("Error"), "Error_2");
        assert_eq!(names.give("list"), "list_2");
        assert_eq!(names.give_type("edit_file edits"), "EditFileEdits");
        assert_eq!(identifier(&"x".repeat(1000)).len(), MOST_LETTERS);
        assert!(names.keeps("plain") && !names.keeps("a-b") && !names.keeps("list"));
        for (name, contested) in [("a_b", true), ("a_b_2", true), ("list_2", false), ("EditFileEdits", false)]
        {
            assert_eq!(names.is_contested(name), contested, "{name}");
        }
    }

    #[test]
    fn many_of_one_name_are_numbered_at_once() {
        let mut names = Names::of_module();
        // One after the other, each from the beginning, they would take minutes.
        let last = (0..50_000).map(|_| names.give("a")).last();
        assert_eq!(last.as_deref(), Some("a_50000"));
    }
}
