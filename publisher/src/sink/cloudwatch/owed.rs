//! What is owed to CloudWatch: a row a window, naming the parts in the table `datapoint` that were not put yet.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use crosswatch_window::Values;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::query;
use crate::sink::embedded::Put;

/// Its tables. Times and lengths are in microseconds; `first` and `last` are parts of the datapoint; before `after` it is not
/// tried. `refused` remembers what will not be tried again, for 90 days.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE owed (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        series INTEGER NOT NULL REFERENCES series,
        start INTEGER NOT NULL,
        period INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        after INTEGER NOT NULL DEFAULT 0,
        UNIQUE (series, start, period)
    ) STRICT;
    CREATE INDEX owed_start ON owed (start, id);
    CREATE TABLE refused (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        series INTEGER NOT NULL REFERENCES series,
        start INTEGER NOT NULL,
        period INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE INDEX refused_at ON refused (at);
";

/// How long it is remembered what was refused.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3600);

/// A window that is owed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) key: Key,
    pub(super) metric: String,
    pub(super) dimensions: Vec<(String, String)>,
    pub(super) start: Timestamp,
    pub(super) period: Duration,
    /// All its samples that are owed; `None` when the file does not have them any more, or they are damaged.
    pub(super) values: Option<Values>,
}

/// An owed window as it was when it was read: parts that come later are owed still when it has been put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: i64,
    pub(super) last: i64,
}

/// What is owed, as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// How many windows.
    pub(super) count: usize,
    /// When the oldest of them begins.
    pub(super) oldest: Option<Timestamp>,
    /// How many may be tried now.
    pub(super) ready: usize,
    /// When the newest of those ends.
    pub(super) newest_end: Option<Timestamp>,
}

/// Records that a datapoint is owed. A remainder joins its window where that is owed still: they are put as one.
pub(super) fn add(tx: &Transaction<'_>, put: Put) -> rusqlite::Result<()> {
    let Put { series, start, period, first, last } = put;
    tx.prepare_cached(
        "INSERT INTO owed (series, start, period, first, last) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (series, start, period) DO UPDATE SET last = excluded.last",
    )?
    .execute(params![series, start, period, first, last])?;
    Ok(())
}

pub(super) fn summary(db: &Connection, now: Timestamp) -> rusqlite::Result<Summary> {
    db.prepare_cached(
        "SELECT count(*), min(start), count(*) FILTER (WHERE after <= ?1),
             max(start + period) FILTER (WHERE after <= ?1) FROM owed",
    )?
    .query_row([now.as_micros()], |row| {
        let time =
            |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
        let count =
            |column| Ok::<_, rusqlite::Error>(usize::try_from(row.get::<_, i64>(column)?).unwrap_or(0));
        Ok(Summary { count: count(0)?, oldest: time(1)?, ready: count(2)?, newest_end: time(3)? })
    })
}

/// The oldest that may be tried now, at most so many.
pub(super) fn oldest(db: &Connection, now: Timestamp, most: usize) -> rusqlite::Result<Vec<Window>> {
    let mut select = db.prepare_cached(concat!(
        "SELECT owed.id, owed.series, start, period, first, last, metric, dimensions FROM owed ",
        "JOIN series ON series.id = owed.series WHERE after <= ? ORDER BY start, owed.id LIMIT ?"
    ))?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let windows = select.query_map(params![now.as_micros(), most], |row| window(db, row))?;
    windows.collect()
}

/// These, as far as they are owed still.
pub(super) fn of(db: &Connection, keys: &[Key]) -> rusqlite::Result<Vec<Window>> {
    let mut select = db.prepare_cached(concat!(
        "SELECT owed.id, owed.series, start, period, first, last, metric, dimensions FROM owed ",
        "JOIN series ON series.id = owed.series WHERE owed.id = ?"
    ))?;
    let mut windows = Vec::with_capacity(keys.len());
    for key in keys {
        windows.extend(select.query_row([key.id], |row| window(db, row)).optional()?);
    }
    Ok(windows)
}

fn window(db: &Connection, row: &Row<'_>) -> rusqlite::Result<Window> {
    let (series, start, period): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (first, last): (i64, i64) = (row.get(4)?, row.get(5)?);
    let mut parts = db.prepare_cached(
        "SELECT samples FROM datapoint
         WHERE series = ? AND start = ? AND period = ? AND part BETWEEN ? AND ? ORDER BY part",
    )?;
    let parts = parts.query_map(params![series, start, period, first, last], |row| {
        Ok(row.get_ref(0)?.as_blob().ok().and_then(Values::decode))
    })?;
    let parts: Vec<Option<Values>> = parts.collect::<rusqlite::Result<_>>()?;
    let whole = i64::try_from(parts.len()).is_ok_and(|count| count == last - first + 1);
    let values = parts.into_iter().reduce(|a, b| Some(a?.merge(b?))).flatten();
    let dimensions = query::dimensions(row.get_ref(7)?.as_str()?);
    Ok(Window {
        key: Key { id: row.get(0)?, last },
        metric: row.get(6)?,
        start: Timestamp::from_micros(start),
        period: Duration::from_micros(period.unsigned_abs()),
        values: values.filter(|_| whole && dimensions.is_some()),
        dimensions: dimensions.unwrap_or_default(),
    })
}

/// They are done with, up to the parts that were read.
pub(super) fn remove<'a>(
    tx: &Transaction<'_>,
    keys: impl IntoIterator<Item = &'a Key>,
) -> rusqlite::Result<()> {
    let mut whole = tx.prepare_cached("DELETE FROM owed WHERE id = ? AND last <= ?")?;
    let mut grown = tx.prepare_cached("UPDATE owed SET first = ?2 + 1 WHERE id = ?1")?;
    for Key { id, last } in keys {
        if whole.execute([id, last])? == 0 {
            grown.execute([id, last])?;
        }
    }
    Ok(())
}

/// It is not tried again, for this reason.
pub(super) fn refuse(tx: &Transaction<'_>, key: Key, reason: &str, now: Timestamp) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO refused (at, series, start, period, first, last, reason)
         SELECT ?1, series, start, period, first, ?2, ?3 FROM owed WHERE id = ?4",
    )?
    .execute(params![now.as_micros(), key.last, reason, key.id])?;
    tx.prepare_cached("DELETE FROM refused WHERE at < ?")?.execute([(now - REMEMBERED).as_micros()])?;
    remove(tx, [&key])
}

/// It is not tried before then.
pub(super) fn set_aside(tx: &Transaction<'_>, key: Key, after: Timestamp) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE owed SET after = ? WHERE id = ?")?.execute([after.as_micros(), key.id])?;
    Ok(())
}
