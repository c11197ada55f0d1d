//! One rule followed for one subject.

use std::collections::BTreeSet;
use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side, Statistic, Threshold};
use crosswatch_shared::observation::{Body, Lost, Observation, Outcome};
use crosswatch_shared::time::Timestamp;

use super::{Accepted, Subject};

/// How long a period stays open after its end.
const GRACE: Duration = Duration::from_secs(2);

/// Where a datapoint stands among the others: by its boot, its time, and its number plus one; zero for missing data.
type Place = (usize, Timestamp, u64);

#[derive(Clone, Copy)]
struct Datapoint {
    place: Place,
    at: Timestamp,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Value(f64),
    /// Added because data is missing.
    Missing {
        breaches: bool,
    },
}

/// One rule for one subject.
struct Series<'a> {
    rule: &'a Rule,
    interval: Duration,
    /// The newest boot of the site.
    boot: usize,
    /// Where the deadline starts while nothing has been seen that would start it.
    start: Option<Timestamp>,
    /// What came in time to be counted in a period.
    observed: Vec<(Place, f64)>,
    /// The periods closed, by their start.
    closed: BTreeSet<Timestamp>,
    /// Every datapoint that was not late, by place.
    known: Vec<Datapoint>,
    /// When something that is no datapoint restarted the deadline.
    restarted: Vec<Timestamp>,
    /// The datapoints up to this one do not count any more.
    anew: Option<Place>,
    firing: bool,
    unknown: bool,
    lines: Vec<(Timestamp, &'static str, Option<f64>)>,
}

/// What the rule says of the subject: when, the state's word, the deciding datapoint's value.
pub(super) fn follow(
    rule: &Rule,
    subject: &Subject,
    rows: &[Accepted<'_>],
) -> Vec<(Timestamp, &'static str, Option<f64>)> {
    let mut series = Series {
        rule,
        interval: subject.interval,
        boot: 0,
        start: None,
        observed: Vec::new(),
        closed: BTreeSet::new(),
        known: Vec::new(),
        restarted: Vec::new(),
        anew: None,
        firing: false,
        unknown: false,
        lines: Vec::new(),
    };
    let mut event_time = Timestamp::MIN;
    for row in rows.iter().filter(|row| *row.site == *subject.site) {
        series.boot = series.boot.max(row.boot);
        if row.observation.at > event_time {
            event_time = row.observation.at;
            series.reach(event_time);
        }
        if series.start.is_none() && (subject.configured || subject.is_of(row)) {
            series.start = Some(row.observation.at);
        }
        if subject.is_of(row) {
            series.apply(row, event_time);
        }
    }
    series.lines
}

impl Series<'_> {
    /// Everything that is due by this event time, in the order of its moments.
    fn reach(&mut self, event_time: Timestamp) {
        loop {
            let close = self.open_periods().into_iter().min().map(|start| (self.end(start) + GRACE, start));
            let missing = self.next_missing();
            match (close, missing) {
                (Some((moment, start)), missing)
                    if moment <= event_time && missing.is_none_or(|missing| moment <= missing) =>
                {
                    self.close(start);
                }
                (_, Some(moment)) if moment <= event_time => self.miss(moment),
                _ => return,
            }
        }
    }

    fn apply(&mut self, row: &Accepted<'_>, event_time: Timestamp) {
        let Observation { at, seq, body } = row.observation;
        let place = (row.boot, *at, seq + 1);
        if let Some(window) = self.rule.window {
            let start = at.floor(window.period);
            if self.end(start) + GRACE <= event_time {
                return; // late
            }
            self.restart(place, body);
            for value in in_period(self.rule.metric, body) {
                self.observed.push((place, value));
            }
        } else if let Some(value) = value(self.rule.metric, body) {
            self.datapoint(Datapoint { place, at: *at, what: What::Value(value) });
        } else {
            self.restart(place, body);
        }
    }

    fn restart(&mut self, place: Place, body: &Body) {
        if restarts(self.rule.metric, body) && !self.is_over(place) {
            self.restarted.push(place.1);
        }
    }

    // Periods

    fn end(&self, start: Timestamp) -> Timestamp {
        start + self.rule.window.map_or(Duration::ZERO, |window| window.period)
    }

    fn open_periods(&self) -> BTreeSet<Timestamp> {
        let Some(window) = self.rule.window else {
            return BTreeSet::new();
        };
        let starts = self.observed.iter().map(|((_, at, _), _)| at.floor(window.period));
        starts.filter(|start| !self.closed.contains(start)).collect()
    }

    fn close(&mut self, start: Timestamp) {
        self.closed.insert(start);
        let Some(window) = self.rule.window else {
            return;
        };
        let mut counted: Vec<_> = self
            .observed
            .iter()
            .filter(|((_, at, _), _)| at.floor(window.period) == start)
            .copied()
            .collect();
        counted.sort_by_key(|(place, _)| *place);
        let Some(&((boot, _, seq), _)) = counted.last() else {
            return;
        };
        let values: Vec<f64> = counted.into_iter().map(|(_, value)| value).collect();
        if let Some(value) = of_period(self.rule.metric, window.statistic, &values) {
            let at = self.end(start);
            self.datapoint(Datapoint { place: (boot, at, seq), at, what: What::Value(value) });
        }
    }

    // Missing data

    /// When the subject becomes unknown, or the next datapoint for missing data is added.
    fn next_missing(&self) -> Option<Timestamp> {
        let step = self.rule.window.map_or(self.interval, |window| window.period.max(self.interval));
        let deadline = self.rule.deadline.unwrap_or(3 * step + Duration::from_secs(5));
        let mut moment = self.last()? + deadline;
        if !self.unknown {
            return Some(moment);
        }
        if self.rule.missing == Missing::Hold {
            return None;
        }
        while self.newest_missing().is_some_and(|newest| moment <= newest.at) {
            moment = moment + step;
        }
        Some(moment)
    }

    /// What the deadline counts from.
    fn last(&self) -> Option<Timestamp> {
        let real = self.known.iter().filter(|known| matches!(known.what, What::Value(_)));
        let restarted = self.restarted.iter().copied();
        real.map(|known| known.at).chain(restarted).chain(self.start).max()
    }

    fn miss(&mut self, moment: Timestamp) {
        if !self.unknown {
            self.unknown = true;
            self.lines.push((moment, "unknown", None));
        }
        let breaches = match self.rule.missing {
            Missing::Hold => return,
            Missing::Breach => true,
            Missing::Ok => false,
        };
        self.datapoint(Datapoint {
            place: (self.boot, moment, 0),
            at: moment,
            what: What::Missing { breaches },
        });
    }

    fn newest_missing(&self) -> Option<&Datapoint> {
        self.known.iter().rfind(|datapoint| matches!(datapoint.what, What::Missing { .. }))
    }

    // Judging

    fn datapoint(&mut self, datapoint: Datapoint) {
        let Breach { m, n } = self.rule.breach;
        let real = matches!(datapoint.what, What::Value(_));
        let newer = self.known.iter().filter(|known| known.place > datapoint.place).count();
        if newer >= n.max(self.rule.clear.unwrap_or(0)) || self.is_over(datapoint.place) {
            return; // late
        }
        // What belongs before the newest datapoint, and is no newer than what the deadline counts from, was only slow.
        let returned = real && (newer == 0 || self.last().is_none_or(|last| datapoint.at > last));
        self.known.push(datapoint);
        self.known.sort_by_key(|known| known.place);

        let was_firing = self.firing;
        let after = |known: &&Datapoint| self.anew.is_none_or(|anew| known.place > anew);
        let counted: Vec<Datapoint> = self.known.iter().filter(after).copied().collect();
        let newest = |count: usize| &counted[counted.len().saturating_sub(count)..];
        let breaching = newest(n).iter().filter(|known| self.breaches(known)).count();
        match (self.firing, self.rule.clear) {
            (false, _) | (true, None) => self.firing = breaching >= m,
            (true, Some(k)) => {
                let row = newest(k);
                let clear = row.len() == k && !row.iter().any(|known| self.breaches(known));
                // It is the datapoint itself that makes the row long enough.
                if clear && row.iter().any(|known| known.place == datapoint.place) {
                    self.firing = false;
                    self.anew = counted.last().map(|known| known.place);
                }
            }
        }

        let returned = returned && std::mem::take(&mut self.unknown);
        let value = match datapoint.what {
            What::Value(value) => Some(value),
            What::Missing { .. } => None,
        };
        let word = match (was_firing, self.firing) {
            (true, true) | (false, false) if !returned => return,
            (_, true) => "firing",
            (true, false) => "resolved",
            (false, false) => "ok",
        };
        self.lines.push((datapoint.at, word, value));
    }

    /// Whether what would stand here is late, since it belongs to the span of missing data, or to what was counted
    /// before a clear.
    fn is_over(&self, place: Place) -> bool {
        self.newest_missing().is_some_and(|newest| place < newest.place)
            || self.anew.is_some_and(|anew| place <= anew)
    }

    /// Judged by the threshold of the present state.
    fn breaches(&self, datapoint: &Datapoint) -> bool {
        let value = match datapoint.what {
            What::Value(value) => value,
            What::Missing { breaches } => return breaches,
        };
        let Threshold::Fixed(threshold) = self.rule.threshold else {
            unreachable!("the model knows no baselines")
        };
        match (self.rule.side, self.rule.clear_threshold.filter(|_| self.firing)) {
            (Side::Below, None) => value < threshold,
            (Side::Above, None) => value > threshold,
            (Side::Below, Some(clear)) => value <= clear,
            (Side::Above, Some(clear)) => value >= clear,
        }
    }
}

/// What an observation counts for in its metric; for `loss_percent` 1 for a loss and 0 for a reply.
fn value(metric: Metric, body: &Body) -> Option<f64> {
    match (metric, body) {
        (Metric::TunnelsUp, Body::Tunnels { tunnels, .. }) if tunnels.is_empty() => None,
        (Metric::TunnelsUp, Body::Tunnels { tunnels, .. }) => {
            Some(tunnels.iter().filter(|tunnel| tunnel.up).count() as f64)
        }
        (_, Body::Probe { outcome: Outcome::Lost(Lost::Local), .. }) => None,
        (Metric::PingOk, Body::Probe { outcome, .. }) => {
            Some(if matches!(outcome, Outcome::Reply { .. }) { 1.0 } else { 0.0 })
        }
        (Metric::LossPercent, Body::Probe { outcome, .. }) => {
            Some(if matches!(outcome, Outcome::Reply { .. }) { 0.0 } else { 1.0 })
        }
        (Metric::LatencyMs | Metric::JitterMs, Body::Probe { outcome: Outcome::Reply { rtt_ms }, .. }) => {
            Some(*rtt_ms)
        }
        (Metric::CollectionOk, Body::Collection { ok, .. }) => Some(if *ok { 1.0 } else { 0.0 }),
        (Metric::CollectionMs, Body::Collection { took_ms, .. }) => Some(*took_ms),
        _ => None,
    }
}

/// In a period each packet of a burst counts, unless this machine is to blame for all of them.
fn in_period(metric: Metric, body: &Body) -> Vec<f64> {
    let detail = match body {
        Body::Probe { outcome, detail: Some(detail), .. } if *outcome != Outcome::Lost(Lost::Local) => detail,
        _ => return value(metric, body).into_iter().collect(),
    };
    let packets = detail.burst.iter();
    match metric {
        Metric::PingOk => packets.map(|packet| if packet.is_some() { 1.0 } else { 0.0 }).collect(),
        Metric::LossPercent => packets.map(|packet| if packet.is_some() { 0.0 } else { 1.0 }).collect(),
        _ => packets.flatten().copied().collect(),
    }
}

/// Whether an observation restarts the deadline although it may be no datapoint.
fn restarts(metric: Metric, body: &Body) -> bool {
    matches!(metric, Metric::LatencyMs | Metric::JitterMs)
        && matches!(body, Body::Probe { outcome, .. } if *outcome != Outcome::Lost(Lost::Local))
}

/// The one number of a period. `values` are in the order of their observations.
fn of_period(metric: Metric, statistic: Statistic, values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    if metric == Metric::LossPercent {
        return Some(100.0 * values.iter().sum::<f64>() / count);
    }
    if metric == Metric::JitterMs {
        let steps: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        return (!steps.is_empty()).then(|| steps.iter().sum::<f64>() / steps.len() as f64);
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(match statistic {
        Statistic::Average => values.iter().sum::<f64>() / count,
        Statistic::Minimum => sorted[0],
        Statistic::Maximum => sorted[sorted.len() - 1],
        Statistic::Percentile(p) => sorted[(usize::from(p) * sorted.len()).div_ceil(100).max(1) - 1],
    })
}
