//! The journal: an append-only log of batches in `SQLite`, one file a site.
//!
//! One mechanism with three uses: the collector's spool, the queue of the one-machine mode, and the archive that the
//! tools read. The site's collector alone writes it ([`Writer`]), anyone may read it ([`Reader`]), at the same time.
//! An entry's payload is the batch's wire form, byte for byte the message that goes over a queue. Old entries are sealed
//! ([`Sealing`]): they become files of columns beside the database, and are read as before.
//!
//! It knows nothing of consumers but how far each has come ([`Position`]), so as not to prune what one still needs.

mod database;
mod lock;
mod prune;
mod reader;
mod seal;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

pub use crosswatch_segment::Content;
pub use database::{Kind, open_to_read, open_to_write};
pub use lock::Lock;
pub use prune::{Dropped, Position, Pruned};
pub use reader::{Backlog, Entry, Reader, Stored};
pub use seal::{Policy, Prepared, Sealed, Sealing, Step, prepare, segments};
pub use writer::Writer;

/// The journal's file, as it is told apart from other `SQLite` files.
pub const KIND: Kind = Kind { what: "journal", application_id: 0x4357_4A31, version: 2 };

/// The file of a site's journal in the folder of the journals.
#[must_use]
pub fn file(folder: &Path, site: &str) -> PathBuf {
    folder.join(format!("{site}.db"))
}

/// The file that the writer of a site's journal holds locked, and writes to after each commit. Who waits for news
/// watches it: the database itself changes before a commit can be seen, this one after.
#[must_use]
pub fn bell(folder: &Path, site: &str) -> PathBuf {
    folder.join(format!("{site}.lock"))
}

/// Why a file of ours, the journal or a consumer's own, could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The site's name cannot be part of a file's name.
    #[error(
        "site '{site}': a journal's file cannot have this name; use letters, digits, '-', '_' and '.' inside"
    )]
    SiteName {
        /// The name.
        site: String,
    },
    /// Another process, or another part of this one, writes the file.
    #[error(
        "{}: {what} is being written by {}; stop that first, one writer at a time",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// What is held, such as `the journal of site 'a'`.
        what: String,
        /// The lock's file.
        path: PathBuf,
        /// Who holds it, where that is known.
        pid: Option<u32>,
    },
    /// The folder is absent or may not be used.
    #[error("{}: {source}; {advice}", path.display())]
    Folder {
        /// The folder, or the file in it that could not be opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The file is something else.
    #[error("{}: this is no {what} of Crosswatch; it is left as it is: move it away, or name another folder", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// A newer program wrote it.
    #[error(
        "{}: this {what} has version {found}, this program knows up to {known}; it is left as it is: upgrade the program",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// Its version.
        found: i32,
        /// The newest version this program knows.
        known: i32,
    },
    /// The file is damaged.
    #[error(
        "{}: {source}; the file is damaged and is left as it is: keep a copy, then restore it or move it away \
         (with its -wal and -shm files) to begin anew",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
    /// The disk is full or fails, the quota is used up, the file system is read-only: it can work later.
    #[error("{}: {source}; nothing of it was written: free the disk or make it writable, then it goes on", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
    /// A sealed segment cannot be read, or is not there.
    #[error("{}: {source}; entries {first} to {last} of the journal are in it: restore the file if there is a copy", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// The first entry in it.
        first: i64,
        /// The last one.
        last: i64,
        /// What is wrong with it.
        source: SegmentProblem,
    },
    /// Anything else that `SQLite` refuses; trying again does not help.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
}

/// What is wrong with a segment's file.
#[derive(Debug, thiserror::Error)]
pub enum SegmentProblem {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It is not what was written.
    #[error(transparent)]
    Content(#[from] crosswatch_segment::SegmentError),
}

impl JournalError {
    /// Whether trying again can help: the disk is full or fails, the file system is read-only, another process is in
    /// the way for the moment. Nothing was half done.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            // A file that is missing does not come back by itself.
            Self::Segment { source: SegmentProblem::File(error), .. } => {
                error.kind() != io::ErrorKind::NotFound
            }
            _ => false,
        }
    }

    /// What an error of `SQLite` on this file means.
    #[must_use]
    pub fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => Self::Full { path, source },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, source },
            _ => Self::Sqlite { path, source },
        }
    }
}
