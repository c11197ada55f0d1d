//! Rules: a threshold on a metric, and how often it must breach.

use std::fmt;
use std::time::Duration;

use crosswatch_shared::observation::Name;
use serde::{Deserialize, Serialize};

/// A threshold with how often it must breach. Made by the alerter's config, which refuses what contradicts itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique among the rules.
    pub name: Name,
    /// What is judged.
    pub metric: Metric,
    /// Which side of the threshold breaches.
    pub side: Side,
    /// The threshold; a value that equals it does not breach.
    pub threshold: Threshold,
    /// The threshold while firing: a value on its far side does not breach, any other does. Without it, `threshold`. Of a
    /// rule whose threshold is of the baseline it is a factor, too.
    pub clear_threshold: Option<f64>,
    /// Fires when at least `breach.m` of the newest `breach.n` datapoints breach; 1 of 1 by default.
    pub breach: Breach,
    /// Resolves at the K-th datapoint in a row that does not breach; without it, when `breach` no longer holds.
    pub clear: Option<usize>,
    /// One datapoint a period; without it each observation is a datapoint.
    pub window: Option<Window>,
    /// How long without a datapoint makes the subject unknown; without it three times the longer of period and
    /// interval, plus 5 s.
    pub deadline: Option<Duration>,
    /// What missing data does besides making the subject unknown.
    pub missing: Missing,
    /// Globs over subjects (`*` any text, `?` one character); empty: every subject of the metric.
    pub subjects: Vec<String>,
}

/// The number that a value is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This one, in the metric's unit.
    Fixed(f64),
    /// So many times the subject's own baseline.
    OfBaseline {
        /// More than zero.
        factor: f64,
        /// What counts until there is a baseline; without it nothing breaches until then.
        fixed: Option<f64>,
    },
}

impl From<f64> for Threshold {
    fn from(fixed: f64) -> Self {
        Self::Fixed(fixed)
    }
}

impl Threshold {
    /// What is known of it without any history.
    #[must_use]
    pub const fn fixed(self) -> Option<f64> {
        match self {
            Self::Fixed(fixed) => Some(fixed),
            Self::OfBaseline { fixed, .. } => fixed,
        }
    }
}

impl fmt::Display for Threshold {
    /// As the config has it: `200`, `1.5 x baseline`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(fixed) => write!(f, "{fixed}"),
            Self::OfBaseline { factor, .. } => write!(f, "{factor} x baseline"),
        }
    }
}

/// A rule's thresholds in force, in the metric's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The threshold.
    pub threshold: f64,
    /// The threshold while firing, where it is another.
    pub clear: Option<f64>,
    /// Whether they are of the baseline.
    pub of_baseline: bool,
}

impl Rule {
    /// The thresholds where this is the subject's baseline; `None` where there is none yet, and nothing breaches.
    #[must_use]
    pub fn limits(&self, baseline: Option<f64>) -> Option<Limits> {
        let Threshold::OfBaseline { factor, fixed } = self.threshold else {
            let threshold = self.threshold.fixed()?;
            return Some(Limits { threshold, clear: self.clear_threshold, of_baseline: false });
        };
        // While there is no baseline, what the fixed threshold would be the factor of.
        let unit = baseline.or(fixed.map(|fixed| fixed / factor))?;
        let threshold = match baseline {
            Some(baseline) => factor * baseline,
            None => fixed?,
        };
        let clear = self.clear_threshold.map(|factor| factor * unit);
        Some(Limits { threshold, clear, of_baseline: baseline.is_some() })
    }
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// How many tunnels of a VPN connection are up.
    TunnelsUp,
    /// 1 for a reply, 0 for a loss.
    PingOk,
    /// Round-trip time of a reply, in milliseconds.
    LatencyMs,
    /// 100 · lost / (lost + replies) of a period.
    LossPercent,
    /// Mean difference of consecutive round-trip times of a period, in milliseconds.
    JitterMs,
    /// 1 for a collection round that succeeded, 0 for one that failed.
    CollectionOk,
    /// How long a collection round took, in milliseconds.
    CollectionMs,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 7] = [
        Self::TunnelsUp,
        Self::PingOk,
        Self::LatencyMs,
        Self::LossPercent,
        Self::JitterMs,
        Self::CollectionOk,
        Self::CollectionMs,
    ];

    /// Its name in the config.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TunnelsUp => "tunnels_up",
            Self::PingOk => "ping_ok",
            Self::LatencyMs => "latency_ms",
            Self::LossPercent => "loss_percent",
            Self::JitterMs => "jitter_ms",
            Self::CollectionOk => "collection_ok",
            Self::CollectionMs => "collection_ms",
        }
    }

    /// Whether any outcome of its probe, a loss too, restarts the deadline: a lost probe has no round-trip time, but it
    /// is not missing.
    #[must_use]
    pub(crate) const fn restarts_on_any_outcome(self) -> bool {
        matches!(self, Self::LatencyMs | Self::JitterMs)
    }

    /// Whether a subject has a baseline of it: each observation is a value by itself, of which a usual one can be told.
    #[must_use]
    pub const fn has_baseline(self) -> bool {
        matches!(self, Self::LatencyMs | Self::CollectionMs)
    }

    /// Whether it exists only for a period.
    #[must_use]
    pub const fn needs_period(self) -> bool {
        matches!(self, Self::LossPercent | Self::JitterMs)
    }
}

/// Which side of the threshold breaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A value below it.
    Below,
    /// A value above it.
    Above,
}

/// M of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// At least this many breach; 1 or more.
    pub m: usize,
    /// Of this many newest datapoints; `m` or more.
    pub n: usize,
}

/// One datapoint a UTC-aligned period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its length; more than zero.
    pub period: Duration,
    /// What is made of the observations; means nothing for `loss_percent` and `jitter_ms`.
    pub statistic: Statistic,
}

/// What a period's observations are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Their mean.
    Average,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
    /// A percentile by exact nearest rank: 50, 90, 95 or 99.
    Percentile(u8),
}

/// What missing data does besides making the subject unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing more.
    Hold,
    /// Adds datapoints that breach.
    Breach,
    /// Adds datapoints that do not.
    Ok,
}
