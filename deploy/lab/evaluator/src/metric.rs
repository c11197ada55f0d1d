//! Alarms on a metric: M of N, missing data, and no alarm too early.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::State;
use crate::statistic::{Datum, Statistic};

/// What comes later than this after its time shows up too late for any alarm.
const SEEN: Duration = Duration::from_secs(3 * 3600);

/// Alarms of whole minutes are evaluated each minute, the others each period.
const MINUTE: Duration = Duration::from_secs(60);

/// So many periods more than N are looked at, to make up for missing ones. AWS gives the number by example alone: five for
/// an N of three.
const SPARE: u32 = 2;

/// An alarm on one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricAlarm {
    /// How long a datapoint's period is: 10, 20 or 30 s, or whole minutes.
    pub period: Duration,
    /// N: how many datapoints are judged.
    pub evaluation_periods: u32,
    /// M: how many of them must breach. The API's default is N.
    pub datapoints_to_alarm: u32,
    /// What is made of a period's values.
    pub statistic: Statistic,
    /// How a datapoint is compared with the threshold.
    pub comparison: Comparison,
    /// The threshold.
    pub threshold: f64,
    /// What a period without data counts as.
    pub missing: Missing,
}

/// When a datapoint breaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `GreaterThanThreshold`
    Greater,
    /// `GreaterThanOrEqualToThreshold`
    GreaterOrEqual,
    /// `LessThanThreshold`
    Less,
    /// `LessThanOrEqualToThreshold`
    LessOrEqual,
}

/// `TreatMissingData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Missing {
    /// `missing`: without any data the state is `INSUFFICIENT_DATA`.
    #[default]
    Missing,
    /// `ignore`: the state stays.
    Ignore,
    /// `breaching`: a missing datapoint breaches.
    Breaching,
    /// `notBreaching`: it does not.
    NotBreaching,
}

/// What an evaluation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The state from now on.
    pub state: State,
    /// Why.
    pub reason: String,
}

impl Comparison {
    /// From its word in the API, such as `LessThanThreshold`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "GreaterThanThreshold" => Self::Greater,
            "GreaterThanOrEqualToThreshold" => Self::GreaterOrEqual,
            "LessThanThreshold" => Self::Less,
            "LessThanOrEqualToThreshold" => Self::LessOrEqual,
            _ => return None,
        })
    }

    /// Whether this value breaches this threshold.
    #[must_use]
    pub fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Greater => value > threshold,
            Self::GreaterOrEqual => value >= threshold,
            Self::Less => value < threshold,
            Self::LessOrEqual => value <= threshold,
        }
    }
}

impl Missing {
    /// From its word in the API: `missing`, `ignore`, `breaching`, `notBreaching`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "missing" => Self::Missing,
            "ignore" => Self::Ignore,
            "breaching" => Self::Breaching,
            "notBreaching" => Self::NotBreaching,
            _ => return None,
        })
    }
}

/// Evaluates an alarm that is in the `present` state, on what is stored at `now`. The newest period is the last one that is
/// over: a period's data are complete then. Data older than three hours are not seen, so an alarm that looks
/// further back has missing periods there.
#[must_use]
pub fn evaluate(alarm: &MetricAlarm, data: &[Datum], now: Timestamp, present: State) -> Evaluation {
    let range = datapoints(alarm, data, now);
    let needed = usize::try_from(alarm.evaluation_periods.max(1)).unwrap_or(usize::MAX);
    let wanted = usize::try_from(alarm.datapoints_to_alarm.max(1)).unwrap_or(usize::MAX).min(needed);
    let breaches = |value: f64| alarm.comparison.breaches(value, alarm.threshold);

    // The newest N that exist; older ones stand in for missing ones.
    let known: Vec<f64> = range.iter().rev().flatten().take(needed).copied().collect();
    let breaching = known.iter().filter(|value| breaches(**value)).count();
    let filled = needed - known.len();
    let told = format!(
        "{breaching} of {} datapoints breach {}, {wanted} of {needed} are needed",
        known.len(),
        alarm.threshold
    );
    let judged = |count: usize, told: String| Evaluation {
        state: if count >= wanted { State::Alarm } else { State::Ok },
        reason: told,
    };
    if filled == 0 {
        return judged(breaching, told);
    }
    match alarm.missing {
        Missing::Breaching => judged(breaching + filled, format!("{told}; {filled} missing breach")),
        Missing::NotBreaching => judged(breaching, format!("{told}; {filled} missing do not breach")),
        Missing::Missing if known.is_empty() => Evaluation {
            state: State::InsufficientData,
            reason: format!("no datapoint in {} periods", range.len()),
        },
        Missing::Ignore if known.is_empty() => {
            retained(present, format!("no datapoint in {} periods", range.len()))
        }
        Missing::Missing | Missing::Ignore if breaching >= wanted => judged(breaching, told),
        Missing::Missing | Missing::Ignore if breaching < known.len() => judged(breaching, told),
        // All that is known breaches, and is too little. It is an alarm once the oldest of it is as old as M periods, so
        // that what comes intermittently has had its time.
        Missing::Missing if oldest(&range) >= wanted => {
            judged(wanted, format!("{told}; nothing else came since"))
        }
        // The page says of the younger ones only that they are no alarm yet.
        Missing::Missing | Missing::Ignore => retained(present, told),
    }
}

fn retained(present: State, why: String) -> Evaluation {
    Evaluation { state: present, reason: format!("{why}; the state stays {}", present.word()) }
}

/// The datapoints of the evaluation range, the oldest first.
fn datapoints(alarm: &MetricAlarm, data: &[Datum], now: Timestamp) -> Vec<Option<f64>> {
    let period = alarm.period.max(Duration::from_secs(1));
    let end = now.floor(period.min(MINUTE));
    let periods = alarm.evaluation_periods.max(1).saturating_add(SPARE);
    let seen = |datum: &&Datum| now.since(datum.at) <= SEEN;
    let one = |back: u32| {
        let to = end - period.saturating_mul(back);
        let from = end - period.saturating_mul(back.saturating_add(1));
        let of = data.iter().filter(seen).filter(|datum| from <= datum.at && datum.at < to);
        alarm.statistic.of(of.flat_map(|datum| &datum.values))
    };
    (0..periods).rev().map(one).collect()
}

/// How many periods ago the oldest known datapoint's began; 0 where there is none.
fn oldest(range: &[Option<f64>]) -> usize {
    range.iter().position(Option::is_some).map_or(0, |place| range.len() - place)
}
