//! Periods: the observations of a UTC-aligned stretch of time, made into one datapoint.

use std::collections::BTreeMap;

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rule::{Metric, Statistic, Window};
use crate::series::{GRACE, Order};

/// The open periods of a series, by their start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Periods(BTreeMap<Timestamp, Vec<(Order, f64)>>);

impl Periods {
    /// Takes a value; `false` if its period has been closed.
    pub(crate) fn add(
        &mut self,
        window: Window,
        order: Order,
        value: f64,
        event_time: Option<Timestamp>,
    ) -> bool {
        let start = order.at.floor(window.period);
        if Self::closed(window, order, event_time) {
            return false;
        }
        self.0.entry(start).or_default().push((order, value));
        true
    }

    /// The places of all that is in open periods.
    pub(crate) fn orders(&mut self) -> impl Iterator<Item = &mut Order> {
        self.0.values_mut().flatten().map(|(order, _)| order)
    }

    /// Whether the period of what stands there has been closed.
    pub(crate) fn closed(window: Window, order: Order, event_time: Option<Timestamp>) -> bool {
        event_time.is_some_and(|now| order.at.floor(window.period) + window.period + GRACE <= now)
    }

    /// When the oldest open period closes.
    pub(crate) fn closes(&self, window: Window) -> Option<Timestamp> {
        self.0.first_key_value().map(|(start, _)| *start + window.period + GRACE)
    }

    /// Closes the oldest open period: the datapoint's place and value, if there is enough for one.
    pub(crate) fn close(&mut self, metric: Metric, window: Window) -> Option<(Order, f64)> {
        let (start, mut samples) = self.0.pop_first()?;
        // In the order of sending, so that the order of arrival leaves no trace, not even in a sum's last digit.
        samples.sort_by_key(|sample| sample.0);
        let newest = samples.last()?.0;
        let values: Vec<f64> = samples.into_iter().map(|(_, value)| value).collect();
        let value = match metric {
            Metric::LossPercent => 100.0 * values.iter().sum::<f64>() / count(values.len()),
            Metric::JitterMs => mean_difference(&values)?,
            _ => statistic(window.statistic, values),
        };
        Some((Order { at: start + window.period, ..newest }, value))
    }
}

/// Mean |ΔRTT| of consecutive replies; two at least.
fn mean_difference(values: &[f64]) -> Option<f64> {
    let pairs = values.len().checked_sub(1).filter(|pairs| *pairs > 0)?;
    let sum: f64 = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    Some(sum / count(pairs))
}

/// Of at least one value.
fn statistic(statistic: Statistic, mut values: Vec<f64>) -> f64 {
    match statistic {
        Statistic::Average => values.iter().sum::<f64>() / count(values.len()),
        Statistic::Minimum => values.into_iter().fold(f64::INFINITY, f64::min),
        Statistic::Maximum => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
        Statistic::Percentile(percent) => {
            values.sort_by(f64::total_cmp);
            // Nearest rank: the smallest value with at least that share of all at or below it.
            let rank = (usize::from(percent) * values.len()).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(f64::INFINITY)
        }
    }
}

fn count(number: usize) -> f64 {
    // Exact: no period holds 2^53 observations.
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        for (percent, wanted) in [(50, 10.0), (90, 18.0), (95, 19.0), (99, 20.0)] {
            assert_eq!(statistic(Statistic::Percentile(percent), values.clone()), wanted, "p{percent}");
        }
        assert_eq!(statistic(Statistic::Percentile(50), vec![7.0]), 7.0);
    }

    #[test]
    fn jitter_needs_two_replies() {
        assert_eq!(mean_difference(&[5.0]), None);
        assert_eq!(mean_difference(&[5.0, 8.0, 7.0]), Some(2.0));
    }
}
