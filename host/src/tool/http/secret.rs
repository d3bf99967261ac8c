//! Secrets that the host puts into requests, and takes out of what comes back.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::rule::{HttpRule, Target};
use crate::{Error, ErrorKind, Result};

/// What the placeholder `{{NAME}}` in the header of a request stands for, and the hosts that may be sent it.
///
/// Neither the tool nor the program ever holds it. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    hosts: Vec<HttpRule>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// The shortest secret: a shorter one would be found by chance in what comes back.
const LEAST: usize = 8;

impl Secret {
    /// A secret for `hosts`: places as rules name them, without methods and paths.
    ///
    /// # Errors
    ///
    /// When the value cannot stand in a header or is shorter than eight characters; when there is no
    /// host, or one that is not fit: `*`, or plain `http` to anything but this machine.
    pub fn new(value: impl Into<String>, hosts: Vec<HttpRule>) -> Result<Self> {
        let value = value.into();
        let wrong = |message: String, hint: &str| Err(Error::new(ErrorKind::Grant, message).hint(hint));
        if value.len() < LEAST {
            return wrong(
                format!("a secret has fewer than {LEAST} characters"),
                "check the variable that it comes from",
            );
        }
        if !value.bytes().all(|letter| (0x20..0x7f).contains(&letter)) || value.trim() != value {
            return wrong(
                "a secret has characters that cannot stand in a header, or white space around it".into(),
                "check the variable for a line break at its end",
            );
        }
        if hosts.is_empty() {
            return wrong(
                "a secret has no host".into(),
                "name the hosts that it may be sent to: `hosts = [\"api.example.com\"]`",
            );
        }
        for host in &hosts {
            if !host.is_place() || host.is_every_host() {
                return wrong(
                    format!("`{host}` is not a host for a secret"),
                    "name hosts alone, as in `hosts = [\"api.example.com\"]`",
                );
            }
            if !host.is_fit_for_secrets() {
                return wrong(
                    format!("a secret would go to `{host}` in plain text"),
                    "name a host that speaks https, or this machine by its address",
                );
            }
        }
        Ok(Secret { value, hosts })
    }

    /// The hosts that it may be sent to.
    pub fn hosts(&self) -> &[HttpRule] {
        &self.hosts
    }
}

/// Whether `name` can be the name of a secret.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

/// A header with a secret in it cannot be longer.
const HEADER_BYTES: usize = 64 << 10;

/// Why a secret was not put in.
pub(in crate::tool) enum Withheld {
    /// This secret may not be sent there.
    Elsewhere(String),
    TooLong,
}

/// Puts secrets where headers have their placeholders. Gives those that were.
pub(in crate::tool) fn put_in(
    secrets: &BTreeMap<String, Secret>,
    headers: &mut HeaderMap,
    target: &Target,
) -> std::result::Result<Vec<Vec<u8>>, Withheld> {
    let mut used = Vec::new();
    if secrets.is_empty() {
        return Ok(used);
    }
    let longest = secrets.keys().map(String::len).max().unwrap_or_default();
    for header in headers.values_mut() {
        let text = header.as_bytes();
        let mut filled = Vec::new();
        // What of `text` is in `filled`.
        let mut done = 0;
        let mut from = 0;
        while let Some(start) = find(&text[from..], b"{{").map(|at| from + at) {
            // No further than the longest name reaches, so that many of these take no more time than bytes.
            let near = &text[start..text.len().min(start + longest + 4)];
            let name = find(near, b"}}").map(|length| &text[start + 2..start + length]);
            let known = name
                .and_then(|name| std::str::from_utf8(name).ok())
                .and_then(|name| secrets.get_key_value(name));
            let Some((name, secret)) = known else {
                from = start + 1;
                continue;
            };
            if !secret.hosts.iter().any(|host| host.is_for(target)) {
                return Err(Withheld::Elsewhere(name.clone()));
            }
            filled.extend_from_slice(&text[done..start]);
            filled.extend_from_slice(secret.value.as_bytes());
            if filled.len() > HEADER_BYTES {
                return Err(Withheld::TooLong);
            }
            done = start + name.len() + 4;
            from = done;
            if !used.iter().any(|other| other == secret.value.as_bytes()) {
                used.push(secret.value.clone().into_bytes());
            }
        }
        if done > 0 {
            filled.extend_from_slice(&text[done..]);
            let Ok(mut value) = HeaderValue::from_bytes(&filled) else { return Err(Withheld::TooLong) };
            value.set_sensitive(true);
            *header = value;
        }
    }
    Ok(used)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Replaces secrets in what passes through by as many asterisks.
pub(in crate::tool) struct Mask {
    secrets: Vec<Vec<u8>>,
    /// The end of what came, if a secret may begin in it.
    held: Vec<u8>,
}

impl Mask {
    /// `None` if there is nothing to be masked.
    pub fn new(secrets: Vec<Vec<u8>>) -> Option<Self> {
        (!secrets.is_empty()).then_some(Mask { secrets, held: Vec::new() })
    }

    pub fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut text = value.as_bytes().to_vec();
            if self.cover(&mut text)
                && let Ok(covered) = HeaderValue::from_bytes(&text)
            {
                *value = covered;
            }
        }
    }

    /// Covers the secrets in bytes that are whole.
    #[cfg(feature = "mcp")]
    pub fn hide_bytes(&self, text: &mut [u8]) {
        self.cover(text);
    }

    /// Covers the secrets in a text that is whole.
    #[cfg(feature = "mcp")]
    pub fn hide(&self, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.cover(&mut bytes);
        // Secrets are ASCII, so what is left is as whole as before.
        *text = String::from_utf8(bytes).unwrap_or_default();
    }

    /// Covers the secrets in `text`; says whether there were any.
    fn cover(&self, text: &mut [u8]) -> bool {
        let mut places = Vec::new();
        for secret in &self.secrets {
            let mut from = 0;
            while from + secret.len() <= text.len() {
                // The first byte sorts most places out.
                let Some(at) = text[from..].iter().position(|byte| *byte == secret[0]) else { break };
                if text[from + at..].starts_with(secret) {
                    places.push(from + at..from + at + secret.len());
                }
                from += at + 1;
            }
        }
        for place in &places {
            text[place.clone()].fill(b'*');
        }
        !places.is_empty()
    }

    /// What can be passed on now that `data` has come.
    pub fn feed(&mut self, data: &[u8]) -> Bytes {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(data);
        let longest = self.secrets.iter().map(Vec::len).max().unwrap_or(0);
        let begun = (1..longest.min(text.len() + 1)).rev().find(|length| {
            let end = &text[text.len() - length..];
            self.secrets.iter().any(|secret| secret.len() > *length && secret.starts_with(end))
        });
        let kept = text.len() - begun.unwrap_or(0);
        // Before the end is cut off: a secret may end in what could be the beginning of another.
        let tail = text[kept..].to_vec();
        self.cover(&mut text);
        if text[kept..] == tail[..] {
            text.truncate(kept);
            self.held = tail;
        }
        text.into()
    }

    /// What was held back, at the end.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> BTreeMap<String, Secret> {
        let secret = |value: &str, host: &str| Secret::new(value, vec![host.parse().unwrap()]).unwrap();
        [("KEY".into(), secret("s3cr3t-key", "a.test")), ("OTHER".into(), secret("{{KEY}}-x", "*.test"))]
            .into()
    }

    fn filled(value: &str, uri: &str) -> Option<String> {
        let target = Target::of(&uri.parse().unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x", value.parse().unwrap());
        put_in(&secrets(), &mut headers, &target).ok()?;
        Some(headers["x"].to_str().unwrap().to_owned())
    }

    #[test]
    fn placeholders_are_filled_once_and_only_for_their_hosts() {
        let here = "https://a.test/";
        for (value, expected) in [
            ("Bearer {{KEY}}", "Bearer s3cr3t-key"),
            ("{{KEY}}{{KEY}}", "s3cr3t-keys3cr3t-key"),
            ("{{OTHER}}", "{{KEY}}-x"),
            ("{{ KEY }} {{UNKNOWN}} {{", "{{ KEY }} {{UNKNOWN}} {{"),
            ("{{{KEY}}}", "{s3cr3t-key}"),
            ("{{x{{KEY}}", "{{xs3cr3t-key"),
        ] {
            assert_eq!(filled(value, here).as_deref(), Some(expected), "{value}");
        }
        for elsewhere in ["https://b.test/", "http://a.test/", "https://a.test:8443/", "https://x.a.test/"] {
            assert_eq!(filled("Bearer {{KEY}}", elsewhere), None, "{elsewhere}");
            assert_eq!(filled("Bearer", elsewhere).as_deref(), Some("Bearer"));
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let new = |value: &str, host: &str| Secret::new(value, vec![host.parse().unwrap()]).is_ok();
        assert!(
            new("12345678", "a.test") && new("12345678", "http://127.0.0.1:1") && new("12345678", "*.a.test")
        );
        assert!(!new("1234567", "a.test") && !new("12345678\n", "a.test") && !new(" 12345678", "a.test"));
        assert!(
            !new("12345678", "http://a.test") && !new("12345678", "*") && !new("12345678", "POST a.test")
        );
        assert!(!new("12345678", "a.test/x") && !new("12345678", "private a.test"));
        assert!(!format!("{:?}", secrets()).contains("s3cr3t"));
    }

    #[test]
    fn secrets_are_covered_however_they_are_cut() {
        let secrets = vec![b"abcabcd1".to_vec(), b"cd1xyzzy".to_vec()];
        let text = b"abcabcabcd1 abcabcd abcabcd1xyzzy cd1xyzz";
        let expected = b"abc******** abcabcd ************* cd1xyzz";
        for size in 1..=text.len() {
            let mut mask = Mask::new(secrets.clone()).unwrap();
            let mut out = Vec::new();
            for chunk in text.chunks(size) {
                out.extend_from_slice(&mask.feed(chunk));
            }
            out.extend_from_slice(&mask.finish());
            let shown = String::from_utf8_lossy(&out).into_owned();
            for secret in &secrets {
                assert!(!shown.contains(std::str::from_utf8(secret).unwrap()), "{size}: {shown}");
            }
            assert_eq!(out.len(), text.len(), "{size}");
            if size == text.len() {
                assert_eq!(out, expected);
            }
        }
    }
}
