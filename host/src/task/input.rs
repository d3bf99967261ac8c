//! Inputs of tasks as JSON texts.

use serde_json::Value;

use super::spec::shortened;
use crate::{Error, ErrorKind, Result};

/// The value of a JSON text, in which nothing is rounded silently: an integer that 64 bits do not hold is refused.
pub(super) fn parse(text: &[u8]) -> Result<Value> {
    let value = serde_json::from_slice(text).map_err(|error| {
        Error::new(ErrorKind::Tasks, format!("the input is not JSON: {error}")).hint("quote text: `\"text\"`")
    })?;
    match too_large(text) {
        None => Ok(value),
        Some(integer) => {
            let shown = String::from_utf8_lossy(integer);
            let message =
                format!("the integer `{}` in the input does not fit into 64 bits", shortened(&shown));
            Err(Error::new(ErrorKind::Tasks, message)
                .hint("send it as a string, and make a number of it in the task"))
        }
    }
}

/// The first integer of a JSON text that 64 bits do not hold.
fn too_large(text: &[u8]) -> Option<&[u8]> {
    let is_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let mut left = text;
    while let Some(first) = left.first() {
        let length = match first {
            b'"' => string(left),
            b'-' | b'0'..=b'9' => left.iter().take_while(|byte| is_of_number(byte)).count(),
            _ => 1,
        };
        let (token, rest) = left.split_at(length);
        if matches!(first, b'-' | b'0'..=b'9') && !fits(token) {
            return Some(token);
        }
        left = rest;
    }
    None
}

/// The length of the string that a text begins with.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

/// Whether a number is no integer, or one of 64 bits.
fn fits(number: &[u8]) -> bool {
    let text = str::from_utf8(number).unwrap_or_default();
    text.contains(['.', 'e', 'E']) || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_what_they_were_or_refused() {
        for text in [
            "18446744073709551615",
            "-9223372036854775808",
            "[1, -0, 0.5, 1e300, 123456789012345678901234567890.0, 1E5]",
            "{\"99999999999999999999\": \"\\\"99999999999999999999\", \"é\": []}",
            "\"\\\\\"",
        ] {
            let value = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        }
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "{\"a\": [1, 36893488147419103232]}",
            "[\"\\\\\", 99999999999999999999]",
        ] {
            let told = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains("does not fit into 64 bits"), "{text}: {told}");
        }
        let long = parse("9".repeat(300).as_bytes()).unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
        for text in ["", "\"", "[1", "1e999", "nan"] {
            assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("is not JSON"), "{text}");
        }
    }
}
