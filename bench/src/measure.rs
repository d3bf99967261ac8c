//! Times and what is made of them.

use std::time::{Duration, Instant};

use serde::Serialize;

/// The times of one thing that was done again and again.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

/// The least and the median of some times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub rounds: usize,
    pub min_seconds: f64,
    pub median_seconds: f64,
}

impl Times {
    /// Adds a time.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    /// Adds a time in seconds.
    pub fn push_seconds(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// Does something and adds the time it took.
    pub fn time<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = action();
        self.push(start.elapsed());
        result
    }

    /// The least and the median. There must be a time.
    pub fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Summary { rounds: sorted.len(), min_seconds: sorted[0], median_seconds: median }
    }
}

impl Summary {
    /// How many times the other's median this one's is.
    pub fn ratio(&self, other: &Summary) -> f64 {
        self.median_seconds / other.median_seconds
    }
}

/// The geometric mean of numbers greater than zero.
pub fn geometric_mean(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut logarithms) = (0.0, 0.0);
    for number in numbers {
        count += 1.0;
        logarithms += number.ln();
    }
    f64::exp(logarithms / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        let mut times = Times::default();
        for seconds in [4.0, 1.0, 2.0] {
            times.push_seconds(seconds);
        }
        assert_eq!(times.summary(), Summary { rounds: 3, min_seconds: 1.0, median_seconds: 2.0 });
        times.push_seconds(3.0);
        assert_eq!(times.summary(), Summary { rounds: 4, min_seconds: 1.0, median_seconds: 2.5 });
    }

    #[test]
    fn the_geometric_mean_treats_half_and_double_alike() {
        assert!((geometric_mean([0.5, 2.0]) - 1.0).abs() < 1e-12);
    }
}
