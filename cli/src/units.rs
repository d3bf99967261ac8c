//! Amounts as people write them: `30s`, `256MiB`.

use std::time::Duration;

/// A time, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// Parses a number and the unit after it; the factor is what the unit stands for.
fn amount(text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is not like `{example}`"))?;
    match units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, factor)) => Ok(number * factor),
        None => {
            let names: Vec<_> = units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            Err(format!("`{unit}` is not a unit; use one of {}, as in `{example}`", names.join(", ")))
        }
    }
}

/// Parses `300ms`, `30s`, `5m`, `2h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: &[(&str, f64)] =
        &[("", 1.0), ("ms", 0.001), ("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0)];
    let seconds = amount(text, UNITS, "30s")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is too long; use `none` for no limit"))
}

/// Parses a duration or `none`.
pub fn timeout(text: &str) -> Result<Timeout, String> {
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(Timeout(None));
    }
    duration(text).map(|duration| Timeout(Some(duration)))
}

/// Parses `4096`, `256KiB`, `256MiB`, `1.5GiB`, and the decimal `kB`, `MB`, `GB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: &[(&str, f64)] = &[
        ("", 1.0),
        ("B", 1.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
    ];
    let bytes = amount(text, UNITS, "256MiB")?;
    if bytes > 2f64.powi(53) {
        return Err(format!("`{text}` is more bytes than can be counted"));
    }
    Ok(bytes.round() as u64)
}

/// Parses an amount of US dollars: `5`, `0.25`, `$5`.
pub fn dollars(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_start_matches('$').parse().ok();
    number.filter(is_price).ok_or_else(|| format!("`{text}` is not an amount of US dollars, as in `0.50`"))
}

/// Whether a number can be an amount of money.
pub fn is_price(number: &f64) -> bool {
    number.is_finite() && *number >= 0.0
}

/// A number of things: `1 call`, `2,000 calls`.
pub fn show_number_of(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", show_count(number), if number == 1 { "" } else { "s" })
}

/// A whole number with commas.
pub fn show_count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people read them.
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// A time as people read it.
pub fn show_duration(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds.fract() == 0.0 => format!("{seconds} s"),
        seconds => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration(" 2 h "), Ok(Duration::from_secs(7200)));
        assert_eq!(timeout("none"), Ok(Timeout(None)));
        assert_eq!(bytes("256MiB"), Ok(256 << 20));
        assert_eq!(bytes("10 MB"), Ok(10_000_000));
        assert_eq!(bytes("7"), Ok(7));
    }

    #[test]
    fn counts_and_money() {
        assert_eq!([0, 999, 1000, 1_234_567].map(show_count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2000].map(|number| show_number_of(number, "call")), ["1 call", "2,000 calls"]);
        assert_eq!(dollars("$0.5"), Ok(0.5));
        for text in ["", "-1", "NaN", "inf", "5 €"] {
            assert!(dollars(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "-1s", "1e9s", "30 parsecs", "9999999999999999999999h", "1..2s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "MiB", "-1", "1 TB", "99999999999GiB", "0x10"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
