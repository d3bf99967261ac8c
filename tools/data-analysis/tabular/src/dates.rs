//! Dates and times without zones: days or microseconds since 1970-01-01 in the Gregorian calendar.

pub const DAY: i64 = 86_400_000_000;

/// The day number of a date.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    // Counts from March, so that the leap day is the last of its year (Howard Hinnant, "chrono-compatible
    // low-level date algorithms").
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day number.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// Reads `2024-01-31`.
pub fn parse_date(text: &[u8]) -> Option<i64> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..])?);
    if !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (day <= last).then(|| days(year, month, day))
}

/// Reads `2024-01-31T12:30`, with seconds and up to six places of them, or a space for the `T`.
pub fn parse_datetime(text: &[u8]) -> Option<i64> {
    if text.len() < 16 || !matches!(text[10], b'T' | b' ') || text[13] != b':' {
        return None;
    }
    let day = parse_date(&text[..10])?;
    let (hour, minute) = (number(&text[11..13])?, number(&text[14..16])?);
    let mut micros = 0;
    let mut second = 0;
    if text.len() > 16 {
        if text.len() < 19 || text[16] != b':' {
            return None;
        }
        second = number(&text[17..19])?;
        if text.len() > 19 {
            let places = &text[20..];
            if text[19] != b'.' || places.is_empty() || places.len() > 6 {
                return None;
            }
            micros = number(places)? * 10i64.pow(6 - places.len() as u32);
        }
    }
    (hour < 24 && minute < 60 && second < 60)
        .then(|| day * DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// Reads a date as the midnight it starts with, or a date and a time.
pub fn parse_any(text: &[u8]) -> Option<i64> {
    parse_date(text).map(|days| days * DAY).or_else(|| parse_datetime(text))
}

fn two(value: i64, out: &mut String) {
    out.push(char::from(b'0' + (value / 10 % 10) as u8));
    out.push(char::from(b'0' + (value % 10) as u8));
}

pub fn write_date(days: i64, out: &mut String) {
    let (year, month, day) = civil(days);
    if (0..=9999).contains(&year) {
        two(year / 100, out);
        two(year % 100, out);
    } else {
        crate::column::write_int(year, out);
    }
    out.push('-');
    two(month, out);
    out.push('-');
    two(day, out);
}

pub fn write_datetime(micros: i64, out: &mut String) {
    write_date(micros.div_euclid(DAY), out);
    let rest = micros.rem_euclid(DAY);
    let seconds = rest / 1_000_000;
    out.push('T');
    two(seconds / 3600, out);
    out.push(':');
    two(seconds / 60 % 60, out);
    out.push(':');
    two(seconds % 60, out);
    let fraction = rest % 1_000_000;
    if fraction != 0 {
        out.push('.');
        let places = if fraction % 1000 == 0 { 3 } else { 6 };
        let fraction = if places == 3 { fraction / 1000 } else { fraction };
        for place in (0..places).rev() {
            out.push(char::from(b'0' + (fraction / 10i64.pow(place) % 10) as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        for day in (-800_000..800_000).step_by(37) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in [
            "2024-02-29T12:30:00",
            "1969-12-31T23:59:59.500",
            "0001-01-01T00:00:00.000001",
            "9999-12-31T23:59:00",
        ] {
            let mut out = String::new();
            write_datetime(parse_datetime(text.as_bytes()).unwrap(), &mut out);
            assert_eq!(out, text);
        }
        for text in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-1-1",
            "24-01-01",
            "2024-01-01T24:00",
            "2024-01-01T10:00Z",
        ] {
            assert_eq!(parse_any(text.as_bytes()), None, "{text}");
        }
    }
}
