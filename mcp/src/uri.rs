//! Addresses of workspace files: `workspace:///PATH` of the default session, `workspace://SESSION/PATH` of
//! another one.

use crate::refusal::Refusal;

const SCHEME: &str = "workspace://";

/// The address of a file; `session` is empty for the default one.
pub(crate) fn of(session: &str, path: &str) -> String {
    let mut uri = format!("{SCHEME}{session}/");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte as char)
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// The session and the path that an address names.
pub(crate) fn parse(uri: &str) -> Result<(String, String), Refusal> {
    let wrong = |why: &str| {
        Refusal::new(format!("`{}` is not the address of a workspace file: {why}", shortened(uri)))
            .hint("write `workspace:///PATH`, with the path as the program sees it below /workspace")
    };
    let rest = uri.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with `workspace://`"))?;
    let (session, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut letters = path.bytes();
    while let Some(letter) = letters.next() {
        bytes.push(match letter {
            b'%' => {
                let mut digit = || letters.next().and_then(|digit| (digit as char).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(wrong("a `%` is not followed by two hexadecimal digits")),
                }
            }
            b'?' | b'#' => return Err(wrong("it has a query or a fragment")),
            _ => letter,
        });
    }
    let path = String::from_utf8(bytes).map_err(|_| wrong("the path is not UTF-8"))?;
    if path.is_empty() || path.contains('\0') {
        return Err(wrong("it has no path"));
    }
    Ok((session.to_owned(), path))
}

fn shortened(uri: &str) -> &str {
    &uri[..uri.floor_char_boundary(200)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for path in ["a.txt", "a b/ü%.csv", "a/#1?x", "..%2f"] {
            assert_eq!(parse(&of("", path)).unwrap(), (String::new(), path.to_owned()));
            assert_eq!(parse(&of("work", path)).unwrap(), ("work".to_owned(), path.to_owned()));
        }
        assert_eq!(of("", "a b/ü"), "workspace:///a%20b/%C3%BC");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "",
            "file:///etc/passwd",
            "workspace://",
            "workspace:///",
            "workspace:///%",
            "workspace:///%g0",
            "workspace:///%ff",
            "workspace:///a%00b",
            "workspace:///a?b",
            "workspace:///a#b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
