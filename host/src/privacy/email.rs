//! Addresses of mail.

/// Tells where addresses are: a name, `@`, and a domain whose last label is of letters.
pub(super) fn find(text: &str, found: &mut impl FnMut(usize, usize)) {
    let mut done = 0;
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        if at < done {
            continue;
        }
        let name = text[done..at].char_indices().rev().take_while(|(_, letter)| is_of_name(*letter));
        let Some(start) = name.last().map(|(start, _)| done + start) else { continue };
        let start =
            start + text[start..at].find(|first| !matches!(first, '.' | '-' | '\'')).unwrap_or(at - start);
        let Some(length) = domain(&text[at + 1..]).filter(|_| start < at) else { continue };
        done = at + 1 + length;
        found(start, done);
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '.' | '_' | '%' | '+' | '-' | '\'')
}

/// The length of the domain that a text begins with.
fn domain(text: &str) -> Option<usize> {
    let is_of_domain = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '.' | '_');
    let length = text.find(|letter| !is_of_domain(letter)).unwrap_or(text.len());
    let (mut at, mut end) = (0, None);
    for (position, label) in text[..length].split('.').enumerate() {
        if label.is_empty() {
            break;
        }
        at += label.len() + usize::from(position > 0);
        let is_top = label.chars().count() >= 2 && label.starts_with(char::is_alphabetic);
        if position > 0 && is_top {
            end = Some(at);
        }
    }
    end
}
