//! File name patterns, made regular expressions.

use regex::Regex;

/// A file name pattern such as `*.py` or `src/**/*.{c,h}`.
pub struct Glob {
    regex: Regex,
    /// Whether it is compared with the path, and not with the name alone.
    whole_path: bool,
}

impl Glob {
    /// # Errors
    ///
    /// What is wrong with the pattern.
    pub fn new(glob: &str) -> Result<Self, String> {
        let whole_path = glob.contains('/');
        let pattern = translate(glob.trim_start_matches("./").trim_start_matches('/'))
            .map_err(|why| format!("wrong glob `{glob}`: {why}"))?;
        let regex = Regex::new(&pattern).map_err(|_| format!("wrong glob `{glob}`: it is too long"))?;
        Ok(Glob { regex, whole_path })
    }

    /// Whether a file fits, given its path below the directory that is searched.
    pub fn fits(&self, path: &str) -> bool {
        let part = if self.whole_path { path } else { path.rsplit('/').next().unwrap_or(path) };
        self.regex.is_match(part)
    }
}

fn translate(glob: &str) -> Result<String, &'static str> {
    let mut pattern = String::from("^(?s:");
    let mut depth = 0;
    let mut letters = glob.chars().peekable();
    let mut at_start = true;
    while let Some(letter) = letters.next() {
        let starts = std::mem::replace(&mut at_start, letter == '/');
        match letter {
            '*' if letters.peek() == Some(&'*') => {
                letters.next();
                if starts && letters.peek() == Some(&'/') {
                    letters.next();
                    at_start = true;
                    pattern.push_str("(?:[^/]*/)*");
                } else {
                    pattern.push_str(".*");
                }
            }
            '*' => pattern.push_str("[^/]*"),
            '?' => pattern.push_str("[^/]"),
            '{' => {
                depth += 1;
                pattern.push_str("(?:");
            }
            ',' if depth > 0 => pattern.push('|'),
            '}' if depth > 0 => {
                depth -= 1;
                pattern.push(')');
            }
            '[' => class(&mut letters, &mut pattern)?,
            '\\' => {
                let letter = letters.next().ok_or("it ends in a backslash")?;
                pattern.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
            }
            letter => pattern.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    if depth > 0 {
        return Err("a `{` is not closed");
    }
    pattern.push_str(")$");
    Ok(pattern)
}

fn class(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    pattern: &mut String,
) -> Result<(), &'static str> {
    pattern.push('[');
    if letters.next_if(|letter| matches!(letter, '!' | '^')).is_some() {
        pattern.push('^');
    }
    let mut first = true;
    loop {
        match letters.next().ok_or("a `[` is not closed")? {
            ']' if !first => break,
            '-' => pattern.push('-'),
            letter => pattern.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4]))),
        }
        first = false;
    }
    pattern.push(']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_as_shells_have_it() {
        for (glob, fits, not) in [
            ("*.py", "a/b.py", "b.pyc"),
            ("*.{md,txt}", "x.txt", "x.rst"),
            ("src/**/*.rs", "src/a/b/c.rs", "lib/src/a.rs"),
            ("src/**/*.rs", "src/c.rs", "src/c.rsx"),
            ("src/*.rs", "src/c.rs", "src/a/c.rs"),
            ("**/test_?.py", "a/test_1.py", "a/test_10.py"),
            ("[!a-c]x", "dx", "bx"),
            ("a.b", "a.b", "aXb"),
            (r"\*", "*", "a"),
        ] {
            let compiled = Glob::new(glob).unwrap();
            assert!(compiled.fits(fits) && !compiled.fits(not), "{glob}");
        }
        assert!(Glob::new("[a").is_err() && Glob::new("{a").is_err() && Glob::new("a\\").is_err());
    }
}
