//! Relative references of links, resolved as RFC 3986 says (section 5.2).

struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

fn split(url: &str) -> Parts<'_> {
    let (rest, fragment) = cut(url, '#');
    let (rest, query) = cut(rest, '?');
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, rest),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    Parts { scheme, authority, path, query, fragment }
}

fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether an address says by itself where it goes.
pub fn is_absolute(url: &str) -> bool {
    let parts = split(url);
    parts.scheme.is_some() && (parts.authority.is_some() || parts.path.starts_with('/'))
}

/// Whether following an address runs code or is the content itself.
pub fn is_inert(url: &str) -> bool {
    let start: String =
        url.chars().filter(|letter| !letter.is_whitespace()).take(11).collect::<String>().to_lowercase();
    !(start.starts_with("javascript:") || start.starts_with("vbscript:") || start.starts_with("data:"))
}

/// Where `reference`, on a page at `base`, goes.
pub fn resolve(base: Option<&str>, reference: &str) -> String {
    let reference: String =
        reference.trim().chars().filter(|letter| !matches!(letter, '\t' | '\n' | '\r')).collect();
    let Some(base) = base else { return reference };
    let (from, to) = (split(base), split(&reference));
    if to.scheme.is_some() {
        return reference;
    }
    let mut result = format!("{}:", from.scheme.unwrap_or_default());
    let (authority, path, query) = if to.authority.is_some() {
        (to.authority, without_dots(to.path), to.query)
    } else if to.path.is_empty() {
        (from.authority, from.path.to_owned(), to.query.or(from.query))
    } else if to.path.starts_with('/') {
        (from.authority, without_dots(to.path), to.query)
    } else {
        let directory = from.path.rfind('/').map_or("/", |slash| &from.path[..=slash]);
        (from.authority, without_dots(&format!("{directory}{}", to.path)), to.query)
    };
    for (mark, part) in [("//", authority), ("", Some(path.as_str())), ("?", query), ("#", to.fragment)] {
        if let Some(part) = part {
            result.push_str(mark);
            result.push_str(part);
        }
    }
    result
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(usize::from(path.starts_with('/'))) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut result: String = kept.iter().flat_map(|segment| ["/", segment]).collect();
    if path.ends_with("/.") || path.ends_with("/..") || result.is_empty() {
        result.push('/');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_the_standard_has_it() {
        let base = Some("http://a/b/c/d;p?q");
        for (reference, url) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../../../g", "http://a/g"),
            ("g?y/./x#s/../x", "http://a/b/c/g?y/./x#s/../x"),
        ] {
            assert_eq!(resolve(base, reference), url, "{reference}");
        }
        assert_eq!(resolve(Some("https://x.org"), "a b"), "https://x.org/a b");
        assert!(is_absolute("https://x") && !is_absolute("x/y") && !is_absolute("//x"));
        assert!(!is_inert(" JavaScript:alert(1)") && is_inert("https://data:x"));
    }
}
