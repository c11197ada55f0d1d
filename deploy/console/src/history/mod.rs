//! The history: what the graphs are drawn from. Minutes for 35 days, hours for 400, as percentiles that add up.
//!
//! It is a consumer like the publisher and the alerter, with a file and a position of its own, which reads the same journals
//! in short transactions: the way to a page waits for nothing here.

mod cell;
mod histogram;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use crosswatch_queue::QueueError;

pub use cell::Cell;
pub use histogram::{ACCURACY, Histogram};
pub use store::{Captured, FILE, Grain, HOURS, History, Key, MINUTES, Since, TunnelSpan};
pub(crate) use writer::Writer;

/// The history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or the journals it is made of; says whether trying again can help.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A statement on the file failed.
    #[error("the history of the graphs: {0}")]
    Statement(#[from] rusqlite::Error),
    /// The file holds what this program did not write; trying again does not help.
    #[error(
        "the history of the graphs holds {what} that cannot be understood; move the file away to begin it anew"
    )]
    Odd {
        /// What.
        what: &'static str,
    },
}

impl Error {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Queue(error) if error.is_temporary())
    }
}
