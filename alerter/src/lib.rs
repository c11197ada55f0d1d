//! The alerter: rules judged, incidents kept, notifications sent.
//!
//! ```text
//! queue ─► judge ─► transition ─► incident ─► ledger ══► notifier ─► receiver
//!          silence ─┘               (one transaction)    (after it)
//! ```

pub mod account;
pub mod again;
mod at_most;
mod catch_up;
pub mod config;
pub mod dead_man;
mod dispatch;
pub mod drill;
pub mod edit;
mod error;
mod forget;
pub mod heartbeat;
mod history;
mod http;
mod incident;
mod json;
pub mod judged;
mod ledger;
mod memory;
mod metrics;
mod notify;
pub mod peer;
mod reconcile;
mod record;
mod refused;
pub mod rehearsal;
mod run;
mod schema;
mod silence;
pub mod silences;
#[cfg(test)]
mod simulation;
pub mod status;
pub mod story;
#[cfg(test)]
mod testing;
mod text;

pub use error::Error;
pub use history::HISTORY;
pub use run::Alerter;
