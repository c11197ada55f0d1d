//! Edits: what a rule means in the config's own words, and what a changed one does with what the former had judged. Pure.
//!
//! A rule whose datapoints are made as before keeps them: they are judged anew by what it means now. One that measures
//! something else begins anew.

use std::collections::BTreeMap;
use std::fmt;

use crosswatch_shared::observation::Name;
use serde::{Deserialize, Serialize};

use crate::rule::{Missing, Rule, Side, Statistic, Threshold};

/// The keys that decide what a datapoint is.
const OF_DATAPOINTS: [&str; 3] = ["metric", "period", "statistic"];

/// What a rule means, by the keys of the config; the same as long as it judges the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Meaning(BTreeMap<String, String>);

/// A key that says something else now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    key: String,
    before: Option<String>,
    now: Option<String>,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It is new: it begins with what is observed from now on.
    Added,
    /// It is gone: what fires of it is over.
    Removed,
    /// It judges the same datapoints otherwise.
    Rejudged(Vec<Difference>),
    /// It judges other datapoints: what fired is over, and it begins anew.
    Replaced(Vec<Difference>),
}

impl Meaning {
    /// Of a rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        let Rule {
            metric, side, threshold, clear_threshold, breach, clear, window, deadline, missing, ..
        } = rule;
        let (limit, clear_limit) = match side {
            Side::Below => ("below", "clear_above"),
            Side::Above => ("above", "clear_below"),
        };
        let fixed = match threshold {
            Threshold::OfBaseline { fixed, .. } => *fixed,
            Threshold::Fixed(_) => None,
        };
        let missing = match missing {
            Missing::Hold => "hold",
            Missing::Breach => "breach",
            Missing::Ok => "ok",
        };
        let statistic = window.map(|window| match window.statistic {
            Statistic::Average => "average".to_owned(),
            Statistic::Minimum => "minimum".to_owned(),
            Statistic::Maximum => "maximum".to_owned(),
            Statistic::Percentile(of) => format!("p{of}"),
        });
        let keys = [
            ("metric", Some(metric.word().to_owned())),
            (limit, Some(threshold.to_string())),
            ("fixed", fixed.map(|of| of.to_string())),
            (clear_limit, clear_threshold.map(|of| of.to_string())),
            ("breach", Some(format!("{} of {}", breach.m, breach.n))),
            ("clear", clear.map(|of| of.to_string())),
            ("period", window.map(|window| format!("{:?}", window.period))),
            ("statistic", statistic),
            ("deadline", deadline.map(|of| format!("{of:?}"))),
            ("missing", Some(missing.to_owned())),
            ("subjects", (!rule.subjects.is_empty()).then(|| format!("{:?}", rule.subjects))),
        ];
        Self(keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }

    /// What is otherwise in `now`, by the keys' names.
    fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut keys: Vec<&String> = self.0.keys().chain(now.0.keys()).collect();
        keys.sort();
        keys.dedup();
        let differ = keys.into_iter().filter(|key| self.0.get(*key) != now.0.get(*key));
        let difference = |key: &String| Difference {
            key: key.clone(),
            before: self.0.get(key).cloned(),
            now: now.0.get(key).cloned(),
        };
        differ.map(difference).collect()
    }
}

/// What became of each rule that is not as before: those that are gone by name, then the others in the order of the config.
#[must_use]
pub fn edits(before: &BTreeMap<String, Meaning>, now: &[Rule]) -> Vec<(Name, Edit)> {
    let gone = before.keys().filter(|name| !now.iter().any(|rule| *rule.name == ***name));
    let gone = gone.map(|name| (Name::from(name.as_str()), Edit::Removed));
    let others = now.iter().filter_map(|rule| {
        let edit = match before.get(&*rule.name) {
            None => Edit::Added,
            Some(before) => match before.differences(&Meaning::of(rule)) {
                none if none.is_empty() => return None,
                some if some.iter().any(|of| OF_DATAPOINTS.contains(&&*of.key)) => Edit::Replaced(some),
                some => Edit::Rejudged(some),
            },
        };
        Some((rule.name.clone(), edit))
    });
    gone.chain(others).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(out, "{} {} -> {}", self.key, or_none(&self.before), or_none(&self.now))
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |of: &[Difference]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Added => out.write_str("added"),
            Self::Removed => out.write_str("removed"),
            Self::Rejudged(differences) => write!(out, "changed: {}", all(differences)),
            Self::Replaced(differences) => write!(out, "changed, begins anew: {}", all(differences)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rule::{Breach, Metric, Window};

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.into(),
            metric: Metric::LatencyMs,
            side: Side::Above,
            threshold: 200.0.into(),
            clear_threshold: None,
            breach: Breach { m: 2, n: 3 },
            clear: None,
            window: None,
            deadline: None,
            missing: Missing::Hold,
            subjects: Vec::new(),
        }
    }

    fn told(before: &[Rule], now: &[Rule]) -> Vec<String> {
        let before = before.iter().map(|rule| (rule.name.to_string(), Meaning::of(rule))).collect();
        edits(&before, now).into_iter().map(|(rule, edit)| format!("{rule} {edit}")).collect()
    }

    #[test]
    fn each_rule_that_changed_is_told_with_what_of_it() {
        let before = [rule("same"), rule("slow"), rule("gone"), rule("windowed")];
        let mut slow = rule("slow");
        (slow.threshold, slow.clear, slow.clear_threshold) = (150.5.into(), Some(30), Some(120.0));
        let mut windowed = rule("windowed");
        let period = Duration::from_secs(30);
        windowed.window = Some(Window { period, statistic: Statistic::Percentile(95) });
        let now = [rule("new"), windowed, slow, rule("same")];
        let wanted = [
            "gone removed",
            "new added",
            "windowed changed, begins anew: period none -> 30s, statistic none -> p95",
            "slow changed: above 200 -> 150.5, clear none -> 30, clear_below none -> 120",
        ];
        assert_eq!(told(&before, &now), wanted);
    }

    #[test]
    fn the_other_side_of_a_threshold_judges_the_same_datapoints() {
        let mut below = rule("slow");
        below.side = Side::Below;
        assert_eq!(told(&[rule("slow")], &[below]), ["slow changed: above 200 -> none, below none -> 200"]);
    }
}
