//! The queue between collectors and consumers: the contract ([`Queue`]), the backend that reads the journals of this
//! machine ([`Embedded`]), and the [`Consumer`], which makes at-least-once delivery count once.
//!
//! A consumer owns one `SQLite` file: its stage's state, how far it has come, which batches it has seen, and its dead
//! letters change together in one transaction.
//!
//! The backend of Amazon SQS is a crate of its own, `crosswatch-sqs`, so that this one brings no client of AWS along. [`put_back`] says
//! where lies what a replay put back on one machine.

mod consumer;
mod contract;
mod embedded;
mod inspect;
pub mod put_back;
mod schema;
mod seen;
mod watch;

use crosswatch_journal::JournalError;
use tokio::runtime::{Handle, RuntimeFlavor};

pub use consumer::{Consumer, Delivery, Received, Source};
pub use contract::{Backlog, Message, Page, Pending, Place, Queue, Receipt};
pub use embedded::Embedded;
pub use inspect::{DeadLetter, dead_letters, places, positions};
pub use schema::Schema;
pub use seen::REMEMBERED;

/// Why the queue could not be read, or what was received could not be settled. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A file, a journal or the consumer's own, could not be opened, read or written.
    #[error(transparent)]
    Store(#[from] JournalError),
    /// A statement on the consumer's own file failed.
    #[error("a statement on the consumer's own file: {0}")]
    Statement(rusqlite::Error),
    /// The queue cannot be reached or refuses; trying again can help.
    #[error("queue {queue}: {source}; it is tried again")]
    Unavailable {
        /// Which queue.
        queue: String,
        /// What its backend said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Statement(error)
    }
}

impl QueueError {
    /// Whether trying again can help: a full or failing disk, a queue out of reach.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Statement(error) => {
                // The path decides nothing about the kind.
                matches!(
                    error.sqlite_error_code(),
                    Some(
                        rusqlite::ErrorCode::DiskFull
                            | rusqlite::ErrorCode::SystemIoFailure
                            | rusqlite::ErrorCode::ReadOnly
                            | rusqlite::ErrorCode::DatabaseBusy
                            | rusqlite::ErrorCode::OutOfMemory
                    )
                )
            }
            Self::Unavailable { .. } => true,
        }
    }
}

/// Runs what blocks on the disk, for a consumer's own files, too. On a runtime with several threads the others are told to carry on without this one;
/// elsewhere nothing else could run meanwhile anyway.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
