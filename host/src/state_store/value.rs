//! What may be kept: keys, and JSON that every session can read again.

use serde::de::IgnoredAny;

use super::StateLimits;

/// Levels of lists and objects in each other; Python reads no more than some hundreds.
const DEPTH: u32 = 100;

/// The key, or what is wrong with it.
pub fn key<'a>(bytes: &'a [u8], limits: &StateLimits) -> Result<&'a str, String> {
    let key = std::str::from_utf8(bytes).map_err(|_| "a key must be UTF-8".to_owned())?;
    if key.is_empty() {
        return Err("a key must not be empty".into());
    }
    if key.contains('\0') {
        return Err("a key must not have a NUL character".into());
    }
    match key.len() as u64 <= limits.key_bytes {
        true => Ok(key),
        false => Err(format!("a key of {} bytes is too long (at most {})", key.len(), limits.key_bytes)),
    }
}

/// The JSON text, or what is wrong with it.
pub fn json<'a>(bytes: &'a [u8], limits: &StateLimits) -> Result<&'a str, String> {
    if bytes.len() as u64 > limits.value_bytes {
        return Err(format!(
            "a value of {} bytes as JSON is too large to be kept (at most {}); keep it in parts, or in a file of the workspace",
            bytes.len(),
            limits.value_bytes
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "a value must be UTF-8".to_owned())?;
    if depth(bytes) > DEPTH {
        return Err(format!("a value may have {DEPTH} levels of lists and dictionaries in each other"));
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("this is not JSON: {error}"))?;
    Ok(text)
}

/// How deep brackets are in each other.
fn depth(json: &[u8]) -> u32 {
    let (mut depth, mut most, mut in_text, mut escaped) = (0u32, 0, false, false);
    for byte in json {
        match (in_text, byte) {
            _ if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                depth += 1;
                most = most.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_of_some_depth() {
        let limits = StateLimits { value_bytes: 1000, ..StateLimits::default() };
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for good in [
            "1",
            "null",
            r#""[[\"[[""#,
            r#""\ud800""#,
            "[[1,2],{\"a\":[]}]",
            "123456789012345678901",
            &nested(100),
        ] {
            assert_eq!(json(good.as_bytes(), &limits), Ok(good));
        }
        for bad in ["", "nan", "NaN", "1 2", "[", "'a'", "{1:2}", &nested(101), &"1".repeat(1001)] {
            assert!(json(bad.as_bytes(), &limits).is_err(), "{bad}");
        }
        assert!(json(b"\"\xff\"", &limits).is_err());
    }

    #[test]
    fn keys_are_short_texts() {
        let limits = StateLimits { key_bytes: 4, ..StateLimits::default() };
        for good in ["a", "äö", "a b"] {
            assert_eq!(key(good.as_bytes(), &limits), Ok(good));
        }
        for bad in ["", "abcde", "äöü", "a\0"] {
            assert!(key(bad.as_bytes(), &limits).is_err(), "{bad}");
        }
    }
}
