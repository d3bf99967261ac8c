//! Ticks of dates and times, in UTC.

use crate::axis::{Tick, step};

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days from 1970-01-01, counting years from March, so that the leap day is the last one.
fn days(year: i64, month: i64) -> i64 {
    let counted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    counted * 365 + counted.div_euclid(4) - counted.div_euclid(100) + counted.div_euclid(400) + day_of_year
        - 719_468
}

/// Year, month and day.
fn date(day: i64) -> (i64, i64, i64) {
    let mut year = 1970 + day.div_euclid(365) - day.div_euclid(146_097) * 97 / 365;
    while days(year + 1, 1) <= day {
        year += 1;
    }
    while days(year, 1) > day {
        year -= 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month) <= day).unwrap_or(1);
    (year, month, day - days(year, month) + 1)
}

pub fn ticks(min: f64, max: f64, count: usize) -> Vec<Tick> {
    let least = (max - min) / count.max(1) as f64;
    let steps = [
        1.0,
        2.0,
        5.0,
        10.0,
        15.0,
        30.0,
        MINUTE,
        2.0 * MINUTE,
        5.0 * MINUTE,
        10.0 * MINUTE,
        15.0 * MINUTE,
        30.0 * MINUTE,
        HOUR,
        2.0 * HOUR,
        3.0 * HOUR,
        6.0 * HOUR,
        12.0 * HOUR,
        DAY,
        2.0 * DAY,
        7.0 * DAY,
        14.0 * DAY,
    ];
    if least < 1.0 {
        let step = step(least);
        return multiples(min, max, step)
            .map(|value| {
                let second = value.rem_euclid(MINUTE);
                Tick { value, label: format!("{}:{second:06.3}", clock(value)) }
            })
            .collect();
    }
    if let Some(step) = steps.into_iter().find(|step| *step >= least) {
        // Weeks begin on Monday, and 1970 on a Thursday.
        let shift = if step >= 7.0 * DAY { 4.0 * DAY } else { 0.0 };
        return multiples(min - shift, max - shift, step)
            .map(|value| value + shift)
            .map(|value| Tick { value, label: label(value, step) })
            .collect();
    }
    let months = [1.0, 2.0, 3.0, 6.0].into_iter().find(|months| months * 30.5 * DAY >= least);
    let months =
        months.map_or_else(|| (step(least / (372.0 * DAY)).ceil() * 12.0) as i64, |months| months as i64);
    let (first, _, _) = date((min / DAY).floor() as i64);
    let start = first.div_euclid((months / 12).max(1)) * (months / 12).max(1);
    (0..400)
        .map(|index| {
            let month = index * months;
            let (year, month) = (start + month.div_euclid(12), month.rem_euclid(12) + 1);
            let value = days(year, month) as f64 * DAY;
            let label = match months {
                ..12 if month == 1 => format!("{year}"),
                ..12 => MONTHS[month as usize - 1].to_owned(),
                _ => format!("{year}"),
            };
            Tick { value, label }
        })
        .skip_while(|tick| tick.value < min - 1.0)
        .take_while(|tick| tick.value <= max + 1.0)
        .collect()
}

fn multiples(min: f64, max: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (min / step - 1e-9).ceil();
    (0..100)
        .map(move |index| (first + f64::from(index)) * step)
        .take_while(move |value| *value <= max + step * 1e-9)
}

fn clock(value: f64) -> String {
    let minutes = (value.rem_euclid(DAY) / MINUTE) as i64;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn label(value: f64, step: f64) -> String {
    let (_, month, day) = date((value / DAY).floor() as i64);
    let date = format!("{day} {}", MONTHS[month as usize - 1]);
    if step >= DAY || value.rem_euclid(DAY) < 0.5 {
        date
    } else if step >= MINUTE {
        clock(value)
    } else {
        format!("{}:{:02}", clock(value), value.rem_euclid(MINUTE) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(min: f64, max: f64, count: usize) -> String {
        ticks(min, max, count).into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(-1), (1969, 12, 31));
        assert_eq!(date(-719_528), (0, 1, 1));
    }

    #[test]
    fn ticks_are_round_dates() {
        let start = 1_704_067_200.0; // 2024-01-01
        assert_eq!(labels(start, start + 5.0 * HOUR, 5), "1 Jan 01:00 02:00 03:00 04:00 05:00");
        assert_eq!(labels(start, start + 366.0 * DAY, 6), "2024 Mar May Jul Sep Nov 2025");
        assert_eq!(labels(start, start + 20.0 * DAY, 4), "1 Jan 8 Jan 15 Jan");
        assert_eq!(labels(start, start + 3653.0 * DAY, 5), "2024 2026 2028 2030 2032 2034");
        assert_eq!(labels(start, start + 3.0, 3), "1 Jan 00:00:01 00:00:02 00:00:03");
    }
}
