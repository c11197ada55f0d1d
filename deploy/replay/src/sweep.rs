//! Sweep: one number of one rule through a range of values, and what each would have paged.

use std::fmt::Write as _;
use std::time::Duration;

use crosswatch_judge::rule::{Rule, Side, Threshold};
use crosswatch_shared::time::Timestamp;
use serde::Serialize;

use crate::backtest::{Judged, Past, Rules, meet, span_of};
use crate::plot::{self, PlotError};
use crate::print::span;

/// How many values are tried where the range does not say.
const STEPS: usize = 10;

/// The most values: each is an engine of its own.
const MOST: usize = 100;

/// Which number is to take which values: `latency-high.above=120..300`, or with how many of them `=120..300/19`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The rule's name.
    pub rule: String,
    /// Its key.
    pub key: Key,
    /// The values, growing.
    pub values: Vec<f64>,
}

/// What of a rule can be swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The threshold of a rule that breaches above it.
    Above,
    /// The threshold of a rule that breaches below it.
    Below,
    /// The M of `breach = "M of N"`; N grows with it where it is less.
    Breach,
    /// How many datapoints in a row end it.
    Clear,
    /// The deadline in seconds.
    Deadline,
}

/// A sweep that means nothing. Trying again cannot help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// Not of the form.
    #[error(
        "--sweep {0}: write it as RULE.KEY=FROM..TO, such as latency-high.above=120..300, or =120..300/19 for 19 values"
    )]
    Form(String),
    /// Another key.
    #[error("--sweep: {0} cannot be swept; above, below, breach, clear and deadline can")]
    Key(String),
    /// No such rule.
    #[error("--sweep: there is no rule '{name}'; there are {}", known.join(", "))]
    Rule {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The rule has no such threshold.
    #[error("--sweep: rule '{rule}' has no '{key}'; it breaches on the other side")]
    Other {
        /// The rule.
        rule: String,
        /// The key.
        key: &'static str,
    },
}

impl Key {
    const ALL: [Self; 5] = [Self::Above, Self::Below, Self::Breach, Self::Clear, Self::Deadline];

    /// Its name in the config.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
            Self::Breach => "breach",
            Self::Clear => "clear",
            Self::Deadline => "deadline",
        }
    }
}

impl std::str::FromStr for Sweep {
    type Err = SweepError;

    fn from_str(text: &str) -> Result<Self, SweepError> {
        let form = || SweepError::Form(text.to_owned());
        let (name, range) = text.split_once('=').ok_or_else(form)?;
        let (rule, key) = name.rsplit_once('.').ok_or_else(form)?;
        let key = Key::ALL.into_iter().find(|known| known.word() == key);
        let key = key.ok_or_else(|| SweepError::Key(name.to_owned()))?;
        let (range, steps) = match range.split_once('/') {
            Some((range, steps)) => (range, steps.parse().map_err(|_| form())?),
            None => (range, STEPS),
        };
        let (from, to) = range.split_once("..").ok_or_else(form)?;
        let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(form);
        let (from, to) = (number(from)?, number(to)?);
        if from >= to || !(2..=MOST).contains(&steps) {
            return Err(form());
        }
        let step = (to - from) / (steps - 1) as f64;
        let mut values: Vec<f64> = (0..steps).map(|place| from + step * place as f64).collect();
        if !matches!(key, Key::Above | Key::Below) {
            values.iter_mut().for_each(|value| *value = value.round().max(1.0));
            values.dedup();
        }
        Ok(Self { rule: rule.to_owned(), key, values })
    }
}

impl Sweep {
    /// The rules with each of the values.
    ///
    /// # Errors
    /// There is no such rule, or it breaches on the other side.
    pub fn sets(&self, rules: &Rules) -> Result<Vec<Rules>, SweepError> {
        let place = rules.rules.iter().position(|rule| *rule.name == *self.rule).ok_or_else(|| {
            let known = rules.rules.iter().map(|rule| rule.name.to_string()).collect();
            SweepError::Rule { name: self.rule.clone(), known }
        })?;
        let set = |value: &f64| {
            let mut rules = rules.clone();
            if let Some(rule) = rules.rules.get_mut(place) {
                self.put(rule, *value)?;
            }
            Ok(rules)
        };
        self.values.iter().map(set).collect()
    }

    fn put(&self, rule: &mut Rule, value: f64) -> Result<(), SweepError> {
        let whole = value.round().max(1.0) as usize;
        match (self.key, rule.side) {
            (Key::Above, Side::Above) | (Key::Below, Side::Below) => {
                // The threshold while firing stays on its own side of this one.
                rule.clear_threshold = rule.clear_threshold.map(|clear| match rule.side {
                    Side::Above => clear.min(value),
                    Side::Below => clear.max(value),
                });
                rule.threshold = match rule.threshold {
                    Threshold::Fixed(_) => value.into(),
                    Threshold::OfBaseline { fixed, .. } => Threshold::OfBaseline { factor: value, fixed },
                };
            }
            (Key::Above | Key::Below, _) => {
                return Err(SweepError::Other { rule: self.rule.clone(), key: self.key.word() });
            }
            (Key::Breach, _) => {
                rule.breach.m = whole;
                rule.breach.n = rule.breach.n.max(whole);
            }
            (Key::Clear, _) => rule.clear = Some(whole),
            (Key::Deadline, _) => rule.deadline = Some(Duration::from_secs(whole as u64)),
        }
        Ok(())
    }

    /// What is swept, as it is written.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.rule, self.key.word())
    }
}

/// What one value comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The value.
    pub value: f64,
    /// Pages in all.
    pub pages: u64,
    /// Incidents that page.
    pub incidents: u64,
    /// Of what the swept rule is the first to page for by any value: for how much this one pages, too.
    pub found: usize,
    /// How much later than the quickest value it pages for that, on average, in seconds; `None` where it pages for none.
    pub later_s: Option<f64>,
}

/// What each value came to; `judged` in the order of the values.
#[must_use]
pub fn points(sweep: &Sweep, judged: &[Judged]) -> Vec<Point> {
    let troubles = troubles(&sweep.rule, judged);
    let point = |(place, (value, of)): (usize, (&f64, &Judged))| {
        let paging: Vec<&Past> = of.incidents.iter().filter(|past| past.paged.is_some()).collect();
        let later = troubles.iter().filter_map(|trouble| {
            let quickest = trouble.paged.iter().flatten().min()?;
            Some(trouble.paged.get(place).copied()??.millis_since(*quickest) / 1e3)
        });
        let later: Vec<f64> = later.collect();
        Point {
            value: *value,
            pages: paging.iter().flat_map(|past| past.pages.values()).sum(),
            incidents: paging.len() as u64,
            found: later.len(),
            later_s: (!later.is_empty()).then(|| later.iter().sum::<f64>() / later.len() as f64),
        }
    };
    sweep.values.iter().zip(judged).enumerate().map(point).collect()
}

/// Incidents of any values that are of one trouble, and when each value paged first for it.
struct Trouble {
    place: String,
    span: (Timestamp, Timestamp),
    paged: Vec<Option<Timestamp>>,
    /// Whether the swept rule was the first to page by any value.
    swept: bool,
}

/// Those that this rule pages for first, by any value.
fn troubles(rule: &str, judged: &[Judged]) -> Vec<Trouble> {
    let mut all: Vec<(usize, &Past)> = judged
        .iter()
        .enumerate()
        .flat_map(|(place, of)| of.incidents.iter().map(move |past| (place, past)))
        .filter(|(_, past)| past.paged.is_some())
        .collect();
    all.sort_by(|(_, one), (_, other)| (&one.place, one.opened).cmp(&(&other.place, other.opened)));
    let mut troubles: Vec<Trouble> = Vec::new();
    for (value, past) in all {
        let span = span_of(past);
        let known = troubles.last_mut().filter(|known| known.place == past.place && meet(known.span, span));
        let trouble = match known {
            Some(known) => {
                known.span.1 = known.span.1.max(span.1);
                known
            }
            None => troubles.push_mut(Trouble {
                place: past.place.clone(),
                span,
                paged: vec![None; judged.len()],
                swept: false,
            }),
        };
        trouble.swept |= past.rule == rule;
        if let Some(first) = trouble.paged.get_mut(value)
            && first.is_none_or(|first| past.paged < Some(first))
        {
            *first = past.paged;
        }
    }
    troubles.retain(|trouble| trouble.swept);
    troubles
}

/// How wide the bars of a table are.
const BAR: u64 = 30;

/// A table for the terminal, with a bar for the pages.
#[must_use]
pub fn table(sweep: &Sweep, points: &[Point]) -> String {
    let name = sweep.name();
    let width = name.len().max(8);
    let all = points.iter().map(|point| point.found).max().unwrap_or(0);
    let most = points.iter().map(|point| point.pages).max().unwrap_or(0).max(1);
    let mut table = format!("{name:>width$}   pages  incidents  found    later\n");
    for Point { value, pages, incidents, found, later_s } in points {
        let later = later_s.map_or_else(|| "never".to_owned(), span);
        let bar = "#".repeat(usize::try_from((pages * BAR).div_ceil(most)).unwrap_or(0));
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{value:>width$}  {pages:>6}  {incidents:>9}  {:>5}  {later:>7}  {bar}",
            format!("{found}/{all}")
        );
    }
    table
}

/// The same as a drawing: pages above, how much later below.
///
/// # Errors
/// It cannot be drawn.
pub fn svg(sweep: &Sweep, points: &[Point]) -> Result<String, PlotError> {
    let pages: Vec<(f64, f64)> = points.iter().map(|point| (point.value, point.pages as f64)).collect();
    let later: Vec<(f64, f64)> =
        points.iter().filter_map(|point| Some((point.value, point.later_s?))).collect();
    plot::two(&sweep.name(), ("pages", &pages), ("paged later by, in seconds", &later))
}
