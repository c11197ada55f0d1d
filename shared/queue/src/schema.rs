//! The tables of a consumer's own file: the stage's, and the queue's beside them.

use std::path::Path;

use crosswatch_journal::{JournalError, Kind, open_to_read, open_to_write};
use rusqlite::Connection;

use crate::QueueError;

/// What a stage keeps in its consumer's file.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The file's name in errors, such as `publisher's file`.
    pub what: &'static str,
    /// `PRAGMA application_id`; tells one stage's file from another's.
    pub application_id: i32,
    /// SQL that makes the stage's tables, a step a version, the oldest first. A released step is never changed.
    /// The names `position`, `seen`, `seen_boot` and `dead` are taken.
    pub migrations: &'static [&'static str],
}

/// The queue's own tables, a step a version.
const TABLES: &[&str] = &["
    CREATE TABLE position (journal TEXT PRIMARY KEY, identity TEXT NOT NULL, id INTEGER NOT NULL) STRICT;
    CREATE TABLE seen (
        collector TEXT NOT NULL, boot TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (collector, boot, first)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead (
        id INTEGER PRIMARY KEY AUTOINCREMENT, received_at INTEGER NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
", "
    CREATE TABLE seen_boot (
        collector TEXT NOT NULL, boot TEXT NOT NULL, heard INTEGER NOT NULL,
        PRIMARY KEY (collector, boot)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO seen_boot SELECT DISTINCT collector, boot, unixepoch() * 1000000 FROM seen;
"];

/// `user_version` holds both versions: the queue's above this many bits, the stage's below.
const STAGE_BITS: u32 = 16;

impl Schema {
    /// Opens the file to read what the stage keeps there; `None` while no consumer has begun it.
    ///
    /// # Errors
    /// The file is foreign, newer or damaged, or may not be read.
    pub fn open_to_read(&self, path: &Path) -> Result<Option<Connection>, QueueError> {
        Ok(open_to_read(path, self.kind())?)
    }

    /// Opens the file, or begins it, and brings its tables to the newest version.
    pub(crate) fn open(&self, path: &Path) -> Result<Connection, JournalError> {
        open_to_write(path, self.kind(), |step, found| {
            let had = |version: i32| usize::try_from(version).unwrap_or(0);
            let own = TABLES.iter().skip(had(found >> STAGE_BITS));
            let stage = self.migrations.iter().skip(had(found & ((1 << STAGE_BITS) - 1)));
            own.chain(stage).try_for_each(|sql| step.execute_batch(sql))
        })
    }

    fn kind(&self) -> Kind {
        let count = |steps: &[&str]| i32::try_from(steps.len()).unwrap_or(i32::MAX >> STAGE_BITS);
        Kind {
            what: self.what,
            application_id: self.application_id,
            version: (count(TABLES) << STAGE_BITS) | count(self.migrations),
        }
    }
}
