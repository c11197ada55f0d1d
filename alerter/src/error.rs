//! What stops the alerter, or keeps it from starting.

use std::path::PathBuf;

use crosswatch_queue::QueueError;
use crosswatch_shared::observation::Name;

/// Why the alerter cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue or the alerter's own file cannot be read or written.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The history of what came over SQS cannot be opened or appended to.
    #[error(transparent)]
    History(#[from] crosswatch_journal::JournalError),
    /// The alerter's own file cannot be opened a second time.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// What the file remembers cannot be understood.
    #[error(
        "{}: {problem}; a newer program wrote it or the disk changed it. Nothing was changed: restore the file from a \
         copy, or move it away (with its -wal and -shm files) to judge anew, which forgets what is owed and open",
        .path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// Which part of it, and why.
        problem: String,
    },
    /// A receiver's webhook cannot be posted to.
    #[error(
        "notify.{receiver}: the webhook cannot be used: {problem}; correct its URL or its key, or the file it is in"
    )]
    Webhook {
        /// The receiver.
        receiver: Name,
        /// What is wrong.
        problem: String,
    },
    /// The outside service cannot be told.
    #[error("[heartbeat]: the URL cannot be used: {problem}; correct it, or the file it is in")]
    Heartbeat {
        /// What is wrong.
        problem: String,
    },
    /// The task that notifies ended by itself: a defect. What is owed stays owed and is sent after a restart.
    #[error("the task that notifies ended: {0}; what is owed is sent after a restart")]
    Dispatcher(String),
}

impl Error {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_temporary(),
            Self::History(error) => error.is_full(),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Queue(error.into())
    }
}
