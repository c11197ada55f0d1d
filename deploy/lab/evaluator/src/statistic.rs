//! What a period's data come to: one number.

use crosswatch_shared::time::Timestamp;

/// A datum as it was put, of the metric, dimensions and unit that the alarm is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Its timestamp.
    pub at: Timestamp,
    /// Each value and how often it occurred.
    pub values: Vec<(f64, f64)>,
}

/// What is made of the values of a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// Sum by count.
    Average,
    /// The least value.
    Minimum,
    /// The greatest value.
    Maximum,
    /// The sum of the values, each as often as it occurred.
    Sum,
    /// How many values there were.
    SampleCount,
    /// The value below which so many of a hundred lie: 99.9 for `p99.9`. By the nearest rank.
    Percentile(f64),
}

impl Statistic {
    /// From its word in the API: `Average`, …, or `p` and a number from 0 to 100.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "Average" => Self::Average,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            "Sum" => Self::Sum,
            "SampleCount" => Self::SampleCount,
            _ => {
                let of = word.strip_prefix('p')?;
                if !of.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                    return None;
                }
                Self::Percentile(of.parse().ok().filter(|of| (0.0..=100.0).contains(of))?)
            }
        })
    }

    /// Of these values with their counts; `None` when there is nothing to count.
    pub(crate) fn of<'a>(self, values: impl Iterator<Item = &'a (f64, f64)>) -> Option<f64> {
        let mut values: Vec<(f64, f64)> = values.copied().filter(|(_, count)| *count > 0.0).collect();
        values.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (&(least, _), &(greatest, _)) = (values.first()?, values.last()?);
        let count: f64 = values.iter().map(|(_, count)| count).sum();
        let sum: f64 = values.iter().map(|(value, count)| value * count).sum();
        Some(match self {
            Self::Average => sum / count,
            Self::Minimum => least,
            Self::Maximum => greatest,
            Self::Sum => sum,
            Self::SampleCount => count,
            Self::Percentile(of) => {
                let rank = (of / 100.0 * count).ceil();
                let mut passed = 0.0;
                let reaches = |(_, count): &&(f64, f64)| {
                    passed += count;
                    passed >= rank
                };
                values.iter().find(reaches).map_or(greatest, |(value, _)| *value)
            }
        })
    }
}
