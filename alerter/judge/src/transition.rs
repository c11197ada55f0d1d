//! Transitions: what the judge says.

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

/// A change of one rule's state for one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The deciding datapoint's time; for [`State::Unknown`] when the deadline was reached.
    pub at: Timestamp,
    /// The state from then on.
    pub state: State,
    /// The rule's name.
    pub rule: Name,
    /// The rule's place in the config, from 0.
    pub rule_index: usize,
    /// What it was judged for.
    pub subject: Name,
    /// The link the subject belongs to, if any.
    pub link: Option<Name>,
    /// The deciding datapoint's value, in the metric's unit; `None` where there was none.
    pub value: Option<f64>,
    /// Why, in a few words.
    pub reason: String,
}

/// The state of a rule for a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It breaches often enough.
    Firing,
    /// It fired, and no longer does.
    Resolved,
    /// No data for the deadline.
    Unknown,
    /// Data, and nothing fires.
    Ok,
}

impl State {
    /// Its name on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
        }
    }
}
