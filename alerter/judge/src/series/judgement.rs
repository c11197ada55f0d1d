//! Judgements: what a rule makes of a subject just now, with all that it rests on, for whoever asks why.

use std::time::Duration;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use super::{Kept, Series, Value, breaches};
use crate::baseline::Usual;
use crate::rule::{Limits, Rule};
use crate::transition::State;

/// What a rule makes of a subject, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The rule, as it is judged.
    pub rule: Rule,
    /// The subject.
    pub subject: Name,
    /// The site whose collector observes it.
    pub site: Name,
    /// `Unknown` also while an incident fires on; never `Resolved`.
    pub state: State,
    /// Whether it fires.
    pub firing: bool,
    /// When its newest transition was; `None` before the first.
    pub since: Option<Timestamp>,
    /// The value that decided that, in the metric's unit.
    pub value: Option<f64>,
    /// The newest datapoints that the rule looks at, oldest first. None from before a `resolved` by `clear`.
    pub datapoints: Vec<Datapoint>,
    /// How many of the newest N breach.
    pub breaching: usize,
    /// How many in a row, up to the newest, do not.
    pub good: usize,
    /// What the deadline counts from: the newest datapoint, or when its site was first seen.
    pub last: Option<Timestamp>,
    /// How long without a datapoint makes it unknown.
    pub deadline: Duration,
    /// The thresholds that the newest datapoint is judged by; `None` while there is no baseline to have them of.
    pub limits: Option<Limits>,
    /// What is usual of the subject, where the rule's threshold is of that.
    pub usual: Option<Usual>,
    /// When the deadline is reached, in event time, or the next datapoint for missing data is due; `None` while there is
    /// nothing to wait for.
    pub due: Option<Timestamp>,
}

/// A number that a rule judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Datapoint {
    /// When it was measured; the end of its period, where the rule has one.
    pub at: Timestamp,
    /// The value, in the metric's unit; `None` for one that stands for missing data.
    pub value: Option<f64>,
    /// Whether it breaches, by the threshold of the present state.
    pub breaches: bool,
}

impl Series {
    pub(crate) fn judgement(&self, rule: &Rule, site: &Name) -> Judgement {
        let Kept { firing, unknown, since, value, last, due, newest, .. } = &self.kept;
        let datapoint = |(order, value): &(super::Order, Value)| Datapoint {
            at: order.at,
            value: match value {
                Value::Measured(value) => Some(*value),
                Value::Missing => None,
            },
            breaches: breaches(rule, self.limits, *firing, *value),
        };
        let at = self.newest_at().unwrap_or(Timestamp::MIN);
        Judgement {
            rule: rule.clone(),
            subject: self.subject.clone(),
            site: site.clone(),
            state: match (unknown, firing) {
                (true, _) => State::Unknown,
                (false, true) => State::Firing,
                (false, false) => State::Ok,
            },
            firing: *firing,
            since: *since,
            value: *value,
            datapoints: newest.iter().map(datapoint).collect(),
            breaching: self.count.breaching,
            good: self.count.good,
            last: *last,
            deadline: self.deadline,
            limits: self.limits,
            usual: self.baseline.as_ref().map(|baseline| baseline.usual(at)),
            due: *due,
        }
    }
}
