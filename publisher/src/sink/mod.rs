//! The sink: where closed windows go.

pub(crate) mod cloudwatch;
mod embedded;

use crosswatch_shared::time::Timestamp;
use crosswatch_window::Datapoint;
use rusqlite::Transaction;

pub(crate) use embedded::{Embedded, Keep, SCHEMA, tell};

/// Takes closed windows.
///
/// `put` is called in the transaction that also commits the publisher's position and the state the windows came from,
/// and writes to nothing but that transaction. So what was put is there exactly once if the transaction commits, and
/// not at all if it does not. A sink that sends elsewhere keeps in the transaction what it owes, and sends it after.
pub(crate) trait Sink: Send {
    /// Puts datapoints; several for the same metric, dimensions and period are parts of one. `now` is the wall clock,
    /// which decides only what is old enough to be forgotten.
    fn put(&self, tx: &Transaction<'_>, datapoints: &[Datapoint], now: Timestamp) -> rusqlite::Result<()>;
}
