//! The judge: rules applied to observations in event time, giving transitions. Pure: it reads no clock, so that live,
//! late, replayed and simulated data are judged by the same code with the same result.
//!
//! ```text
//! observation ─► engine ─┬► series (one rule, one subject) ─► transition ─► incident (one link)
//!                        │    ├ period: observations into a datapoint          ▲
//!                        │    └ newest datapoints, deadline, state             │
//!                        └► facts: the newest of everything ─────────────► verdict
//! ```
//!
//! Beside that way stand [`baseline`], what is usual of a subject, which a threshold may be of; [`edit`], what becomes of the state
//! when rules are changed; and [`mute`], which silence a page falls into.

pub mod baseline;
mod boots;
pub mod crontab;
pub mod edit;
pub mod engine;
pub mod facts;
pub mod incident;
pub mod mute;
mod period;
mod reason;
pub mod rule;
mod series;
pub mod transition;
pub mod verdict;

pub use engine::{Engine, RestoreError, Saved, SubjectState, Taken};
pub use series::GRACE;
pub use series::judgement::{Datapoint, Judgement};
pub use transition::{State, Transition};
