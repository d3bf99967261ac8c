//! URLs of HTTP: taken apart, and resolved against another (RFC 3986).

use std::fmt;

/// An absolute URL of HTTP, without its fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub secure: bool,
    /// Host and port.
    pub authority: String,
    /// Path and query; the path begins with a slash.
    pub target: String,
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", if self.secure { "https" } else { "http" }, self.authority, self.target)
    }
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let wrong = |why: &str| Err(format!("`{}` cannot be fetched: {why}", shown(trimmed)));
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            return wrong("a URL begins with `https://` or `http://`");
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return wrong("only https and http are there"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return wrong("a name and password in a URL are not used; give an `authorization` header");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if authority.is_empty() || !authority.chars().all(plain) {
            return wrong(
                "its host is not a name or an address in ASCII (names of other letters are written as `xn--…`)",
            );
        }
        let mut url = Url { secure, authority: authority.to_ascii_lowercase(), target: escaped(target) };
        if !url.target.starts_with('/') {
            url.target.insert(0, '/');
        }
        Ok(url)
    }

    /// What `reference` means where this URL is the base.
    pub fn join(&self, reference: &str) -> Result<Url, String> {
        let reference = reference.trim();
        if reference.split(['/', '?', '#']).next().is_some_and(|start| start.contains(':')) {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            return Url::parse(&format!("{}:{reference}", if self.secure { "https" } else { "http" }));
        }
        let reference = reference.split('#').next().unwrap_or_default();
        let (path, _) = self.target.split_at(self.target.find('?').unwrap_or(self.target.len()));
        let target = if reference.is_empty() {
            self.target.clone()
        } else if reference.starts_with('?') {
            format!("{path}{}", escaped(reference))
        } else {
            let joined = match reference.strip_prefix('/') {
                Some(_) => reference.to_owned(),
                None => {
                    format!("{}/{reference}", path.rsplit_once('/').map_or("", |(directory, _)| directory))
                }
            };
            let (path, query) = joined.split_at(joined.find('?').unwrap_or(joined.len()));
            format!("{}{}", escaped(&without_dots(path)), escaped(query))
        };
        Ok(Url { target, ..self.clone() })
    }

    pub fn same_origin(&self, other: &Url) -> bool {
        self.secure == other.secure && self.authority == other.authority
    }
}

/// A path in which `.` and `..` are resolved.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let last = path.rsplit('/').next();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if matches!(last, Some("." | "..")) {
        parts.push("");
    }
    format!("/{}", parts.join("/"))
}

/// Escapes what may not stand in a URL: spaces, letters beyond ASCII, control characters.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A URL in a message.
pub fn shown(url: &str) -> String {
    let mut short: String =
        url.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if short.len() < url.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse(" HTTPS://Example.com:8443?q=a b#top").unwrap();
        assert_eq!(url.to_string(), "https://example.com:8443/?q=a%20b");
        assert_eq!(Url::parse("http://[::1]/é").unwrap().to_string(), "http://[::1]/%C3%A9");
        for wrong in
            ["", "example.com", "ftp://a/", "http://", "http:///x", "http://a@b/", "http://exämple.com/"]
        {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn references_are_resolved() {
        let base = Url::parse("http://a/b/c/d;p?q").unwrap();
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y#s", "http://a/b/c/g?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("https://x:1/y", "https://x:1/y"),
        ] {
            assert_eq!(base.join(reference).unwrap().to_string(), expected, "{reference}");
        }
        assert!(base.join("javascript:alert(1)").is_err());
    }
}
