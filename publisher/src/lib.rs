//! The publisher: observations from the queue, aggregated into metrics.
//!
//! Batches are counted in windows of their site's event time; a window that is over goes into the sink. State, position
//! and what was put share one transaction of the publisher's own file, so each observation is published exactly once,
//! whenever the process is stopped.

mod aggregate;
pub mod config;
mod had;
pub mod query;
mod run;
mod sink;
mod telemetry;
#[cfg(test)]
mod tests;
mod watched;

use crosswatch_queue::QueueError;
use crosswatch_window::RestoreError;

pub use run::Publisher;

/// The publisher's own file, in the folder of the queue.
pub const FILE: &str = "publisher.db";

/// Why the publisher cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue, or the publisher's file, could not be opened, read or written.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Windows kept from the last run are damaged. Trying again cannot help.
    #[error("{FILE}: {0}; keep a copy, then move it away to begin anew")]
    Windows(#[from] RestoreError),
    /// A site's event time kept from the last run is damaged. Trying again cannot help.
    #[error(
        "{FILE}: the event time of site '{site}' is not understood: {source}; keep a copy, then move it away to begin anew"
    )]
    EventTime {
        /// The site.
        site: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Queue(error.into())
    }
}

impl Error {
    /// Whether trying again can help: a full or failing disk, a queue out of reach.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Queue(error) if error.is_temporary())
    }
}
