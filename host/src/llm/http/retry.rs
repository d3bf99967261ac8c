//! When is tried again.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Whether an answer of this status may be another one later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// Whether a request that was answered with this status may have been worked on, and charged for: who
/// answers is a gateway that does not know what became of it behind.
pub(super) fn may_be_charged(status: u16) -> bool {
    matches!(status, 502 | 504 | 520..=527)
}

/// How long the provider wants to be left alone.
pub(super) fn wanted_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number >= 0.0);
    if let Some(wait) = text("retry-after-ms").and_then(number) {
        return Some(Duration::try_from_secs_f64(wait / 1000.0).unwrap_or(Duration::MAX));
    }
    let after = text(RETRY_AFTER.as_str())?;
    if let Some(wait) = number(after) {
        return Some(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX));
    }
    let date = httpdate::parse_http_date(after).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// A random wait before retry `number` (from one): exponential backoff with full jitter.
pub(super) fn backoff(number: u32, base: Duration, longest: Duration) -> Duration {
    let factor = 2u32.saturating_pow(number.saturating_sub(1));
    base.saturating_mul(factor).min(longest).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        wanted_wait(&headers.collect(), now)
    }

    #[test]
    fn waits_are_read_in_all_three_forms() {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("retry-after", "7")]), seconds(7.0));
        assert_eq!(wait(&[("retry-after", "0.5")]), seconds(0.5));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "30")]), seconds(0.03));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT")]), seconds(20.0));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT")]), seconds(0.0));
        assert_eq!(wait(&[("retry-after", "1e300")]), Some(Duration::MAX));
        for nonsense in ["soon", "-1", "NaN", ""] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn backoff_grows_to_its_longest() {
        let base = Duration::from_millis(100);
        let longest = Duration::from_secs(1);
        for number in 1..=100 {
            let most = longest.min(base * 2u32.pow(number.min(10) - 1));
            assert!(backoff(number, base, longest) <= most, "{number}");
        }
    }
}
