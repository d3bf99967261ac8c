//! WIT names as Python writes them.

/// Words that cannot be names, and those that stand for something in the modules we make.
const RESERVED: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield", "self",
    "cls",
];

fn free(name: String) -> String {
    if RESERVED.contains(&name.as_str()) { name + "_" } else { name }
}

/// A function, parameter, field or module: `find-all` is `find_all`.
pub(super) fn snake(kebab: &str) -> String {
    free(kebab.replace('-', "_").to_lowercase())
}

/// A type: `search-result` is `SearchResult`.
pub(super) fn pascal(kebab: &str) -> String {
    let words = kebab.split('-').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
            .unwrap_or_default()
    });
    free(words.collect())
}

/// A case of an enum, or a flag: `read-only` is `READ_ONLY`.
pub(super) fn upper(kebab: &str) -> String {
    kebab.replace('-', "_").to_uppercase()
}

/// Whether `name` can be a module that programs import.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && free(name.to_owned()) == name
}

/// A Python string literal.
pub(crate) fn literal(text: &str) -> String {
    use std::fmt::Write;
    let mut output = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            letter if letter.is_control() || ('\u{2028}'..='\u{202e}').contains(&letter) => {
                let _ = write!(output, "\\U{:08x}", letter as u32);
            }
            letter => output.push(letter),
        }
    }
    output + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_pythons() {
        assert_eq!(snake("find-all"), "find_all");
        assert_eq!(snake("from"), "from_");
        assert_eq!(snake("get-HTTP"), "get_http");
        assert_eq!(pascal("search-result"), "SearchResult");
        assert_eq!(pascal("none"), "None_");
        assert_eq!(upper("read-only"), "READ_ONLY");
        assert!(
            is_identifier("text2")
                && !is_identifier("2text")
                && !is_identifier("a-b")
                && !is_identifier("import")
        );
        assert_eq!(literal("a\"\\\n\u{7}"), r#""a\"\\\n\U00000007""#);
    }
}
