//! Axes: where a number lies on one, and which ticks it has.

use crate::time;

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Linear,
    Log,
    Time,
}

pub struct Tick {
    pub value: f64,
    pub label: String,
}

pub struct Axis {
    pub kind: Kind,
    pub min: f64,
    pub max: f64,
    /// The pixels of `min` and `max`.
    pub from: f64,
    pub to: f64,
}

impl Axis {
    /// Where a number lies; far outside of the axis it stays near enough for what draws it.
    pub fn place(&self, value: f64) -> f64 {
        let share = match self.kind {
            Kind::Log => {
                (value.max(f64::MIN_POSITIVE).ln() - self.min.ln()) / (self.max.ln() - self.min.ln())
            }
            Kind::Linear | Kind::Time => (value - self.min) / (self.max - self.min),
        };
        self.from + share.clamp(-10.0, 11.0) * (self.to - self.from)
    }

    /// About as many ticks as are asked for.
    pub fn ticks(&self, count: usize) -> Vec<Tick> {
        match self.kind {
            Kind::Time => time::ticks(self.min, self.max, count),
            Kind::Log if self.max / self.min >= 10.0 => self.decades(count),
            _ => {
                let step = step((self.max - self.min) / count.max(1) as f64);
                multiples(self.min, self.max, step)
                    .map(|value| Tick {
                        value,
                        label: format(value, step, self.min.abs().max(self.max.abs())),
                    })
                    .collect()
            }
        }
    }

    fn decades(&self, count: usize) -> Vec<Tick> {
        let (low, high) = (self.min.log10() - 1e-9, self.max.log10() + 1e-9);
        let (first, last) = (low.ceil() as i32, high.floor() as i32);
        let every = (((last - first) as usize / count.max(1)) + 1) as i32;
        // Within few decades, 2 and 5 help.
        let parts: &[f64] = if (high - low) * 3.0 <= count as f64 + 0.1 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        (first - 1..=last)
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)))
            .filter(|value| (self.min * (1.0 - 1e-9)..=self.max * (1.0 + 1e-9)).contains(value))
            .map(|value| Tick { value, label: format(value, value, value) })
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
pub fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// The multiples of `step` from `min` to `max`, at most a hundred.
fn multiples(min: f64, max: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (min / step - 1e-9).ceil();
    (0..100)
        .map(move |index| (first + f64::from(index)) * step)
        .take_while(move |value| *value <= max + step * 1e-9)
}

/// A number as it stands at a tick, with the decimals that `step` needs and the unit that the largest
/// number of the axis has.
fn format(value: f64, step: f64, largest: f64) -> String {
    let size = value.abs();
    if size < step.abs() * 1e-6 {
        return "0".to_owned();
    }
    if largest >= 1e15 || (largest < 1e-4 && step.abs() < 1e-4) {
        let power = largest.max(step.abs()).log10().floor() as i32;
        let factor = decimals(value / 10f64.powi(power), step / 10f64.powi(power));
        let factor = if factor == "1" { String::new() } else { format!("{factor}·") };
        return format!("{factor}10{}", superscript(power));
    }
    for (unit, letter) in [(1e12, "T"), (1e9, "B"), (1e6, "M")] {
        if largest >= unit && step >= unit / 1e3 {
            return decimals(value / unit, step / unit) + letter;
        }
    }
    decimals(value, step)
}

/// With thousands apart, and the decimals that tell multiples of `step` from each other.
fn decimals(value: f64, step: f64) -> String {
    let needed = (0..12)
        .find(|count| {
            let scaled = step.abs() * 10f64.powi(*count);
            (scaled - scaled.round()).abs() < scaled * 1e-6 && scaled >= 0.999
        })
        .unwrap_or(12) as usize;
    let text = format!("{:.needed$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((&*text, ""), |(whole, fraction)| (whole, fraction));
    let mut output = if value < 0.0 { "−".to_owned() } else { String::new() };
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place) % 3 == 0 && whole.len() > 3 {
            output.push(',');
        }
        output.push(digit);
    }
    if !fraction.is_empty() {
        output.push('.');
        output.push_str(fraction);
    }
    output
}

fn superscript(power: i32) -> String {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    power
        .to_string()
        .chars()
        .map(|letter| letter.to_digit(10).map_or('⁻', |digit| digits[digit as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kind: Kind, min: f64, max: f64, count: usize) -> String {
        let axis = Axis { kind, min, max, from: 0.0, to: 1.0 };
        axis.ticks(count).into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Kind::Linear, 0.0, 1.0, 5), "0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(labels(Kind::Linear, -12.0, 31.0, 5), "−10 0 10 20 30");
        assert_eq!(labels(Kind::Linear, 0.0, 12_000.0, 5), "0 2,500 5,000 7,500 10,000");
        assert_eq!(labels(Kind::Linear, 0.0, 3.5e6, 4), "0 1M 2M 3M");
        assert_eq!(labels(Kind::Linear, -5e5, 1.5e6, 4), "−0.5M 0 0.5M 1.0M 1.5M");
        assert_eq!(labels(Kind::Linear, 0.0, 2e-6, 2), "0 10⁻⁶ 2·10⁻⁶");
        assert_eq!(labels(Kind::Log, 1.0, 1e6, 4), "1 100 10,000 1M");
        assert_eq!(labels(Kind::Log, 1.0, 100.0, 6), "1 2 5 10 20 50 100");
        assert_eq!(labels(Kind::Log, 2.0, 8.0, 3), "2 4 6 8");
        assert!(labels(Kind::Linear, 1e15, 1e15 + 1.0, 5).len() < 400);
    }
}
