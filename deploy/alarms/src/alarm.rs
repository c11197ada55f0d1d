//! An alarm as CloudWatch takes it, and which of its fields differ from another's.
//!
//! [`PutMetricAlarm`](https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html) and
//! [`PutCompositeAlarm`](https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html)
//! overwrite the whole of an alarm: what is not said is reset.

use std::fmt::Write as _;

/// An alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Unique in its region; up to 255 characters.
    pub name: String,
    /// What it is for; up to 1,024 characters.
    pub description: String,
    /// Topics told when it goes into ALARM, by ARN.
    pub alarm_actions: Vec<String>,
    /// Topics told when it goes back to OK, by ARN.
    pub ok_actions: Vec<String>,
    /// What it watches.
    pub watch: Watch,
}

/// What an alarm watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Watch {
    /// A metric.
    Metric(Measured),
    /// Other alarms.
    Composite(Composite),
}

/// A metric, and when it breaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The metric's namespace.
    pub namespace: String,
    /// The metric's name.
    pub metric: String,
    /// Its dimensions, name and value.
    pub dimensions: Vec<(String, String)>,
    /// `Average`, `Minimum`, `Maximum`, `SampleCount`, or a percentile such as `p95`.
    pub statistic: String,
    /// In seconds: 10, 20, 30 or a multiple of 60.
    pub period: u32,
    /// Whether values below the threshold breach; else those above. Strictly.
    pub below: bool,
    /// The threshold.
    pub threshold: f64,
    /// So many of [`Self::n`] periods must breach.
    pub m: u32,
    /// Of so many newest periods.
    pub n: u32,
    /// `ignore` or `breaching`.
    pub missing: String,
}

/// An expression over other alarms' states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composite {
    /// `ALARM("…") OR …`; up to 10,240 characters and 100 alarms.
    pub rule: String,
}

impl Alarm {
    /// Its fields as they are shown and compared, in a fixed order.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        match &self.watch {
            Watch::Metric(measured) => {
                let dimensions: Vec<_> =
                    measured.dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
                fields.push(("metric", format!("{} {}", measured.namespace, measured.metric)));
                fields.push(("dimensions", dimensions.join(" ")));
                fields.push(("statistic", measured.statistic.clone()));
                fields.push(("period", format!("{}s", measured.period)));
                let side = if measured.below { "below" } else { "above" };
                fields.push(("breaches", format!("{side} {}", measured.threshold)));
                fields.push(("breach", format!("{} of {}", measured.m, measured.n)));
                fields.push(("missing data", measured.missing.clone()));
            }
            Watch::Composite(composite) => fields.push(("rule", composite.rule.clone())),
        }
        fields.push(("description", self.description.clone()));
        fields.push(("tells at ALARM", told(&self.alarm_actions)));
        fields.push(("tells at OK", told(&self.ok_actions)));
        fields
    }

    /// What it watches, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = match &self.watch {
            Watch::Metric(measured) => format!(
                "{} of {} over {}s {} {}, {} of {}, missing data {}",
                measured.statistic,
                measured.metric,
                measured.period,
                if measured.below { "below" } else { "above" },
                measured.threshold,
                measured.m,
                measured.n,
                if measured.missing == "ignore" { "ignored" } else { "breaches" },
            ),
            Watch::Composite(composite) => composite.rule.clone(),
        };
        if !self.alarm_actions.is_empty() {
            let _ = write!(line, "; pages {}", told(&self.alarm_actions));
        }
        line
    }
}

fn told(topics: &[String]) -> String {
    if topics.is_empty() { "nobody".to_owned() } else { topics.join(" ") }
}
