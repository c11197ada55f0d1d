//! Tests of a user's own rules: cases out of a file, each played through the real alerter in virtual time.
//!
//! ```text
//! file ─► case ─► series ─► batches ─► rehearsal (the alerter's own) ─► transitions, notifications ─► compared
//! ```
//!
//! [`read`] reads a file against a config, [`play`] plays a case, and [`Case::differs`] compares what came of it with what
//! was expected. No clock is read, and nobody is told.

mod compare;
mod expected;
mod file;
mod play;
mod series;
mod subject;

use std::time::Duration;

use crosswatch_alerter::rehearsal::Told;
use crosswatch_judge::Transition;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

pub use file::{config_of, read};
pub use play::play;

use expected::{Notification, Verdict};
use series::Series;

/// One case: what is seen, and what is to come of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Unique in its file.
    pub name: String,
    start: Timestamp,
    /// How long it lasts: as its longest series.
    lasts: Duration,
    series: Vec<Series>,
    /// Only these rules are compared; `None`: all.
    rules: Option<Vec<Name>>,
    /// `None`: they are not compared.
    transitions: Option<Vec<Verdict>>,
    /// `None`: they are not compared.
    notifications: Option<Vec<Notification>>,
}

/// What came of a case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Played {
    /// By time, then the rule's place in the config, then subject.
    pub transitions: Vec<Transition>,
    /// By time.
    pub told: Vec<Told>,
}
