//! Numbers as they stand in files.

use crate::column::NO_INT;

/// What a field is read as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

/// Powers of ten that a float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Reads a number that is all of the field. One with leading zeros is none: it is an identifier.
#[inline]
pub fn parse(field: &[u8]) -> Option<Number> {
    let mut at = 0;
    let negative = match field.first()? {
        b'-' => {
            at = 1;
            true
        }
        b'+' => {
            at = 1;
            false
        }
        _ => false,
    };
    let start = at;
    let mut mantissa: u64 = 0;
    while at < field.len() {
        let digit = field[at].wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    let whole = at - start;
    if whole > 1 && field[start] == b'0' {
        return None;
    }
    if at == field.len() {
        // Up to 18 digits fit for certain.
        return match whole {
            0 => None,
            1..=18 => Some(Number::Int(if negative { -(mantissa as i64) } else { mantissa as i64 })),
            _ => long(field),
        };
    }
    if field[at] == b'.' {
        let point = at;
        at += 1;
        while at < field.len() {
            let digit = field[at].wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        let places = at - point - 1;
        let digits = whole + places;
        if digits == 0 {
            return None;
        }
        // Both are exact then, and the division rounds once.
        if at == field.len() && digits <= 19 && mantissa < 1 << 53 && places < POWERS.len() {
            let value = mantissa as f64 / POWERS[places];
            return Some(Number::Float(if negative { -value } else { value }));
        }
    }
    slow(field, whole)
}

#[inline(never)]
fn long(field: &[u8]) -> Option<Number> {
    let text = std::str::from_utf8(field).ok()?;
    match text.parse::<i64>() {
        Ok(value) if value != NO_INT => Some(Number::Int(value)),
        _ => Some(Number::Float(fast_float2::parse(field.strip_prefix(b"+").unwrap_or(field)).ok()?)),
    }
}

#[inline(never)]
fn slow(field: &[u8], whole: usize) -> Option<Number> {
    let unsigned = field.strip_prefix(b"-").or(field.strip_prefix(b"+")).unwrap_or(field);
    // `inf` is a number to Python too; `nan` is a missing value, which the caller looks for.
    let digits = whole > 0 || unsigned.first() == Some(&b'.');
    if !digits && !unsigned.eq_ignore_ascii_case(b"inf") && !unsigned.eq_ignore_ascii_case(b"infinity") {
        return None;
    }
    let value: f64 = fast_float2::parse(field.strip_prefix(b"+").unwrap_or(field)).ok()?;
    (!value.is_nan()).then_some(Number::Float(value))
}

/// A field without the spaces around it.
pub fn trim(mut field: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = field {
        field = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = field {
        field = rest;
    }
    field
}

/// Whether a field stands for a missing value where text is not expected.
pub fn is_missing(field: &[u8]) -> bool {
    matches!(
        field,
        b"" | b"NA" | b"N/A" | b"n/a" | b"NaN" | b"nan" | b"null" | b"NULL" | b"None" | b"#N/A" | b"<NA>"
    )
}

pub fn parse_bool(field: &[u8]) -> Option<bool> {
    match field {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_the_standard_library_reads() {
        for text in [
            "0",
            "-7",
            "+7",
            "123456789012345678",
            "9223372036854775807",
            "0.1",
            "-1.5e300",
            ".5",
            "5.",
            "1E5",
            "2.5e22",
            "0.30000000000000004",
            "17.000",
            "1e-320",
            "123456789012345678901234567890",
            "9007199254740993.0",
            "inf",
            "-Infinity",
        ] {
            let expected: f64 = text.parse().unwrap();
            let found = match parse(text.as_bytes()) {
                Some(Number::Int(value)) => value as f64,
                Some(Number::Float(value)) => value,
                None => panic!("{text}"),
            };
            assert_eq!(found.to_bits(), expected.to_bits(), "{text}");
        }
        assert_eq!(parse(b"-9223372036854775807"), Some(Number::Int(-i64::MAX)));
        assert_eq!(parse(b"-9223372036854775808"), Some(Number::Float(i64::MIN as f64)));
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "", "-", ".", "-.", "e5", "1e", "1e+", "007", "00", "0x10", "1_000", "1,5", "1.2.3", "--1",
            "nan", "infinit", "1 ",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
