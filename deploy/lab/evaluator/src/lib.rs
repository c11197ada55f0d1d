//! CloudWatch alarms, evaluated by the rules that AWS documents, since no emulator does.
//!
//! [`evaluate`] is for alarms on a metric, [`composite`] for alarms on alarms, [`acts`] says when actions are due. Nothing
//! here stores, waits or calls: data, time and the present state are arguments.
//!
//! The rules are those of [Alarm evaluation] and of [Configuring how CloudWatch alarms treat missing data], whose tables are
//! the tests. Where the pages are silent, this holds to what surprises least, and says so.
//!
//! [Alarm evaluation]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
//! [Configuring how CloudWatch alarms treat missing data]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html

pub mod composite;
mod metric;
mod statistic;

pub use metric::{Comparison, Evaluation, MetricAlarm, Missing, evaluate};
pub use statistic::{Datum, Statistic};

/// The state of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Within the threshold, or a composite's rule is false.
    Ok,
    /// Beyond the threshold, or a composite's rule is true.
    Alarm,
    /// Not known yet, or no more. A new alarm begins so.
    InsufficientData,
}

impl State {
    /// Its word in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

/// Whether the actions for `after` are due: only when the state has changed, and only with `ActionsEnabled`.
#[must_use]
pub fn acts(before: State, after: State, actions_enabled: bool) -> bool {
    actions_enabled && before != after
}
