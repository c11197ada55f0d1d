//! Opening a `SQLite` file of ours: what it must be, and that nothing else is ever changed.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::JournalError;

/// How a kind of file is told apart, by what `SQLite` keeps in its header.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name in errors.
    pub what: &'static str,
    /// `PRAGMA application_id`.
    pub application_id: i32,
    /// The newest `PRAGMA user_version` that is known; from 1.
    pub version: i32,
}

/// How long another connection's commit or checkpoint is waited for.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// Opens a file to write, or begins it, in WAL mode with `synchronous=FULL`. `migrate` is called in the transaction
/// that creates the file or brings it to the newest version, with the version found, 0 for a new one.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be opened: it has not been changed.
pub fn open_to_write(
    path: &Path,
    kind: Kind,
    migrate: impl FnOnce(&Transaction<'_>, i32) -> rusqlite::Result<()>,
) -> Result<Connection, JournalError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    // SQLite says only 'unable to open', whatever is wrong with the folder.
    let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    if let Err(source) = folder.metadata() {
        return Err(JournalError::Folder {
            path: folder.to_owned(),
            source,
            advice: "create the folder, or name another",
        });
    }
    let mut db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, kind)?;
    let of = |error| JournalError::of(path, error);
    let found = identify(&db, path, kind)?.unwrap_or(0);
    let mode: String =
        db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(of)?;
    if mode != "wal" {
        return Err(JournalError::Folder {
            path: path.to_owned(),
            source: std::io::ErrorKind::Unsupported.into(),
            advice: "SQLite's WAL needs a local file system with shared memory: name a folder on one",
        });
    }
    db.pragma_update(None, "synchronous", "full").map_err(of)?;
    if found < kind.version {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(of)?;
        migrate(&step, found).map_err(of)?;
        step.pragma_update(None, "application_id", kind.application_id).map_err(of)?;
        step.pragma_update(None, "user_version", kind.version).map_err(of)?;
        step.commit().map_err(of)?;
    }
    Ok(db)
}

/// Opens a file to read; `None` while nobody has begun it.
///
/// # Errors
/// As [`open_to_write`].
pub fn open_to_read(path: &Path, kind: Kind) -> Result<Option<Connection>, JournalError> {
    // Any other problem than absence is for SQLite to name.
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, kind)?;
    Ok(identify(&db, path, kind)?.map(|_| db))
}

fn connect(path: &Path, access: OpenFlags, kind: Kind) -> Result<Connection, JournalError> {
    let db = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| refine(path, kind, error))?;
    db.busy_timeout(BUSY).map_err(|error| JournalError::of(path, error))?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// The file's version; `None` for one that is empty still.
fn identify(db: &Connection, path: &Path, kind: Kind) -> Result<Option<i32>, JournalError> {
    let of = |error| refine(path, kind, error);
    // All of it of one moment: another process may be about to begin the file.
    let step = db.unchecked_transaction().map_err(of)?;
    let number = |sql| step.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(of);
    // The schema first: reading it is what tells a database from any other file.
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let application_id = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    if application_id == 0 && version == 0 && tables == 0 {
        return Ok(None);
    }
    if application_id != kind.application_id || version < 1 {
        return Err(JournalError::Foreign { path: path.to_owned(), what: kind.what });
    }
    if version > kind.version {
        return Err(JournalError::Newer {
            path: path.to_owned(),
            what: kind.what,
            found: version,
            known: kind.version,
        });
    }
    Ok(Some(version))
}

fn refine(path: &Path, kind: Kind, error: rusqlite::Error) -> JournalError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => {
            JournalError::Foreign { path: path.to_owned(), what: kind.what }
        }
        _ => JournalError::of(path, error),
    }
}
