//! Keys and tokens, by the forms that well-known services give them.

use std::sync::LazyLock;

use memchr::memmem;
use regex::Regex;

/// Expressions of a literal and characters after it, so that each takes linear time over all its matches.
/// With a group, the group is what is hidden.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // Stripe.
        r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{10,}",
        r"\bwhsec_[A-Za-z0-9+/=]{16,}",
        // Ids of AWS keys, and the keys where they are named.
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
        r#"(?i)\baws_?secret_?(?:access_?)?key["']?[ \t]*[=:][ \t]*["']?([A-Za-z0-9/+]{40})"#,
        // GitHub, GitLab, Slack, Google, Hugging Face, npm, PyPI, SendGrid.
        r"\bgh[opusr]_[A-Za-z0-9]{36,}",
        r"\bgithub_pat_[A-Za-z0-9_]{22,}",
        r"\bglpat-[A-Za-z0-9_-]{20,}",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"\bAIza[A-Za-z0-9_-]{35}",
        r"\bya29\.[A-Za-z0-9_-]{20,}",
        r"\bhf_[A-Za-z0-9]{30,}",
        r"\bnpm_[A-Za-z0-9]{36}",
        r"\bpypi-[A-Za-z0-9_-]{50,}",
        r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
        // JSON web tokens.
        r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",
    ]
    .into_iter()
    .map(|form| Regex::new(&form.replace(r"\b", r"(?-u:\b)")).expect("a form of ours"))
    .collect()
});

/// Forms that words have too: what is hidden has a digit. What stands in `Authorization`; OpenAI's, Anthropic's
/// and their like.
static WITH_DIGIT: LazyLock<[Regex; 2]> = LazyLock::new(|| {
    [r"(?i-u)\b(?:bearer|basic)[ \t]+([A-Z0-9._~+/-]{16,}=*)", r"(?-u:\b)(sk-[A-Za-z0-9_-]{16,})"]
        .map(|form| Regex::new(form).expect("a form of ours"))
});

/// How a private key begins, whatever kind it is.
static BEGIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----").expect("a form of ours")
});

/// Bytes in which a private key ends.
const BLOCK: usize = 64 << 10;

/// Tells where keys are.
pub(super) fn find(text: &str, found: &mut impl FnMut(usize, usize)) {
    for form in &*FORMS {
        match form.captures_len() {
            1 => form.find_iter(text).for_each(|part| found(part.start(), part.end())),
            _ => form
                .captures_iter(text)
                .filter_map(|captures| captures.get(1))
                .for_each(|part| found(part.start(), part.end())),
        }
    }
    for form in &*WITH_DIGIT {
        for part in form.captures_iter(text).filter_map(|captures| captures.get(1)) {
            if part.as_str().bytes().any(|byte| byte.is_ascii_digit()) {
                found(part.start(), part.end());
            }
        }
    }
    blocks(text, found);
}

/// Private keys with their lines around; where the end is missing, what looks like the key's lines.
fn blocks(text: &str, found: &mut impl FnMut(usize, usize)) {
    let ends = memmem::Finder::new("-----END ");
    // The next end, of which there is none before `at`.
    let mut next_end = Some(0);
    let mut at = 0;
    while let Some(begin) = BEGIN.find_at(text, at) {
        if let Some(known) = next_end
            && known < begin.end()
        {
            next_end = ends.find(&text.as_bytes()[begin.end()..]).map(|offset| begin.end() + offset);
        }
        let end = match next_end.filter(|end| end - begin.end() <= BLOCK) {
            Some(end) => {
                let line = &text[end + 9..];
                let rest = line.find(|letter: char| {
                    !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == ' ')
                });
                let close = end + 9 + rest.unwrap_or(line.len());
                close + text[close..].bytes().take(5).take_while(|byte| *byte == b'-').count()
            }
            None => lines(text, begin.end()),
        };
        found(begin.start(), end);
        at = end;
    }
}

/// Where lines of Base64 that begin at `start` end, and headers like `DEK-Info: …` before them.
fn lines(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let count = |from: usize, is: fn(&u8) -> bool| bytes[from..].iter().take_while(|byte| is(byte)).count();
    let mut end = start;
    loop {
        let between = end + gap(&bytes[end..]);
        let length =
            count(between, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        let name = count(between, |byte| byte.is_ascii_alphabetic() || *byte == b'-');
        if length >= 16 {
            end = between + length;
        } else if (1..=40).contains(&name) && bytes[between + name..].starts_with(b": ") {
            // To the end of its line.
            let line = &bytes[between..];
            let ends = |at: &usize| matches!(line[*at..], [b'\n' | b'\r', ..] | [b'\\', b'n' | b'r', ..]);
            end = between + (0..line.len()).find(ends).unwrap_or(line.len());
        } else {
            return end;
        }
    }
}

/// How many bytes at the beginning stand between lines, in JSON too: `\n`, `\\n`, `\\r\\n`.
fn gap(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += match bytes[at..] {
            [b'\\', b'n' | b'r', ..] => 2,
            [byte, ..] if byte.is_ascii_whitespace() || byte == b'\\' => 1,
            _ => return at,
        };
    }
}
