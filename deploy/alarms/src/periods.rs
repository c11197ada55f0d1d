//! Which periods an alarm can have.

use std::time::Duration;

/// Periods below a minute, in seconds; such an alarm is billed as one of high resolution.
const HIGH: [u32; 3] = [10, 20, 30];

/// How long an alarm may look back, in seconds: with a period below an hour, and else.
const LONGEST_RANGE: (u32, u32) = (86_400, 604_800);

/// The shortest period that an alarm can have, in seconds, of at least `wanted` and made of whole windows: an alarm
/// looks back on the newest few periods only, so that one shorter than its windows would find them empty.
pub(crate) fn fit(wanted: Duration, window: Duration) -> u32 {
    let window_s = u32::try_from(window.as_secs()).unwrap_or(86_400).max(1);
    let wanted_s = u32::try_from(wanted.as_millis().div_ceil(1_000)).unwrap_or(86_400).max(1);
    let high = HIGH.into_iter().find(|&period| period >= wanted_s && period % window_s == 0);
    // A window is a divisor of a minute, or whole minutes.
    let step = window_s.max(60);
    high.unwrap_or_else(|| wanted_s.div_ceil(step) * step)
}

/// How late a datapoint may be at CloudWatch, beyond what an alarm makes up for.
const LATE: Duration = Duration::from_secs(30);

/// In how many periods so many observations are that are made so rarely; `None` where each period has one.
pub(crate) fn spanning(observations: usize, every: Duration, period: u32) -> Option<usize> {
    let period = Duration::from_secs(u64::from(period));
    let span = every.saturating_mul(u32::try_from(observations).unwrap_or(u32::MAX)).saturating_add(LATE);
    let periods = span.as_millis().div_ceil(period.as_millis());
    (every > period).then(|| usize::try_from(periods).unwrap_or(usize::MAX))
}

/// How many periods an alarm can look back on.
pub(crate) fn most_periods(period: u32) -> u32 {
    let (short, long) = LONGEST_RANGE;
    (if period < 3_600 { short } else { long } / period).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_those_of_cloudwatch_and_hold_whole_windows() {
        let cases = [
            // wanted in ms, window in s, period in s
            (60_000, 60, 60),
            (30_000, 60, 60),
            (30_000, 30, 30),
            (30_000, 10, 30),
            (10_000, 30, 30),
            (5_000, 5, 10),
            (5_000, 1, 10),
            (25_000, 5, 30),
            (20_000, 30, 30),
            (31_000, 1, 60),
            (90_000, 60, 120),
            (60_000, 300, 300),
            (600_000, 240, 720),
            (86_400_000, 86_400, 86_400),
            (1, 60, 60),
        ];
        for (wanted, window, period) in cases {
            let fitted = fit(Duration::from_millis(wanted), Duration::from_secs(window));
            assert_eq!(fitted, period, "{wanted} ms over windows of {window} s");
        }
        let second = Duration::from_secs(1);
        assert_eq!(spanning(1, 10 * second, 10), None);
        assert_eq!(spanning(1, 60 * second, 10), Some(9), "a minute and half of one");
        assert_eq!(spanning(3, 300 * second, 60), Some(16));
        assert_eq!((most_periods(10), most_periods(60), most_periods(3_600)), (8_640, 1_440, 168));
    }
}
