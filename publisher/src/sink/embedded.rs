//! The embedded sink: datapoints in the publisher's own SQLite file, for as long as they are kept.

use std::cell::Cell;
use std::time::Duration;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use crosswatch_window::{Datapoint, MOST_VALUES};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::Sink;

/// Its tables. Times and lengths are in microseconds; `dimensions` is a JSON object, its keys in the order of
/// `Datapoint::dimensions`; `samples` holds the values with their counts as `Values::encode` writes them.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        metric TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        UNIQUE (metric, dimensions)
    ) STRICT;
    CREATE TABLE datapoint (
        series INTEGER NOT NULL REFERENCES series,
        start INTEGER NOT NULL,
        period INTEGER NOT NULL,
        part INTEGER NOT NULL,
        count INTEGER NOT NULL,
        sum REAL NOT NULL,
        minimum REAL NOT NULL,
        maximum REAL NOT NULL,
        samples BLOB NOT NULL,
        PRIMARY KEY (series, start, period, part)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX datapoint_start ON datapoint (start);
";

/// The least that may be forgotten in one step, so that a pile of old datapoints goes in time without a long transaction.
const STEP: usize = 1_000;

const DAY: Duration = Duration::from_hours(24);

/// How long datapoints are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// After their period.
    pub(crate) time: Duration,
    /// As long as the file uses no more bytes than this.
    pub(crate) max_bytes: Option<u64>,
}

pub(crate) struct Embedded {
    keep: Keep,
    /// It was told that the file cannot be held to its size.
    told: Cell<bool>,
}

impl Embedded {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, told: Cell::new(false) }
    }
}

impl Sink for Embedded {
    fn put(&self, tx: &Transaction<'_>, datapoints: &[Datapoint], now: Timestamp) -> rusqlite::Result<()> {
        for datapoint in datapoints {
            put(tx, datapoint)?;
        }
        self.forget(tx, now, datapoints.len())
    }
}

/// Where a datapoint was put: rows of the table `datapoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) series: i64,
    pub(super) start: i64,
    pub(super) period: i64,
    /// Its parts, from this one to the last.
    pub(super) first: i64,
    pub(super) last: i64,
}

pub(super) fn put(tx: &Transaction<'_>, datapoint: &Datapoint) -> rusqlite::Result<Put> {
    let series = series(tx, datapoint)?;
    let start = datapoint.start.as_micros();
    let period = i64::try_from(datapoint.period.as_micros()).unwrap_or(i64::MAX);
    // A remainder, or another site's observations of the same subject, join what is there.
    let first: i64 = tx
        .prepare_cached(
            "SELECT coalesce(max(part) + 1, 0) FROM datapoint WHERE series = ? AND start = ? AND period = ?",
        )?
        .query_row(params![series, start, period], |row| row.get(0))?;
    let mut insert = tx.prepare_cached("INSERT INTO datapoint VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    let mut last = first;
    for (part, values) in (first..).zip(datapoint.values.parts(MOST_VALUES)) {
        last = part;
        insert.execute(params![
            series,
            start,
            period,
            part,
            i64::try_from(values.count()).unwrap_or(i64::MAX),
            values.sum(),
            values.minimum(),
            values.maximum(),
            values.encode(),
        ])?;
    }
    Ok(Put { series, start, period, first, last })
}

fn series(tx: &Transaction<'_>, datapoint: &Datapoint) -> rusqlite::Result<i64> {
    let metric = datapoint.metric.word();
    let dimensions = dimensions(&datapoint.dimensions);
    let known = tx
        .prepare_cached("SELECT id FROM series WHERE metric = ? AND dimensions = ?")?
        .query_row(params![metric, dimensions], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => tx
            .prepare_cached("INSERT INTO series (metric, dimensions) VALUES (?, ?)")?
            .insert(params![metric, dimensions]),
    }
}

/// A JSON object with its keys in the order given, so that equal dimensions are equal texts.
fn dimensions(dimensions: &[(&'static str, Name)]) -> String {
    let pairs: Vec<String> =
        dimensions.iter().map(|(dimension, name)| format!("{}:{}", json(dimension), json(name))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn json(text: &str) -> String {
    // A string cannot fail to be written.
    serde_json::to_string(text).unwrap_or_default()
}

impl Embedded {
    /// Forgets what is too old or too much, several times as much as was put. For want of room nothing goes that is owed to
    /// CloudWatch, which is put what is here, or that is as new as what alarms and people look at.
    pub(super) fn forget(&self, tx: &Transaction<'_>, now: Timestamp, put: usize) -> rusqlite::Result<()> {
        let old = now - self.keep.time;
        let bound = self.keep.max_bytes;
        let over = match bound {
            Some(bound) => Some(used(tx)?).filter(|used| *used > bound),
            None => None,
        };
        let forgotten = tx
            .prepare_cached(
                "DELETE FROM datapoint WHERE (series, start, period, part) IN (
                     SELECT series, start, period, part FROM
                         (SELECT series, start, period, part FROM datapoint WHERE start < ?1 ORDER BY start LIMIT ?2) oldest
                     WHERE start < ?3 OR (start + 2 * period < ?4 AND NOT EXISTS (
                         SELECT 1 FROM owed WHERE owed.series = oldest.series AND owed.start = oldest.start
                             AND owed.period = oldest.period)))",
            )?
            .execute(params![
                if over.is_some() { now } else { old }.as_micros(),
                i64::try_from(STEP.max(10 * put)).unwrap_or(i64::MAX),
                old.as_micros(),
                now.as_micros(),
            ])?;
        if let Some(used) = over
            && forgotten == 0
            && !self.told.replace(true)
        {
            tracing::warn!(
                used,
                max_size = bound,
                "publisher.db grows beyond its max_size: what it holds is owed to CloudWatch, or newer than two periods"
            );
        }
        if over.is_none() {
            self.told.set(false);
        }
        Ok(())
    }
}

/// Says at the start when much will go with the next puts.
pub(crate) fn tell(db: &Connection, keep: Keep, now: Timestamp) -> rusqlite::Result<()> {
    let oldest: Option<i64> = db.query_row("SELECT min(start) FROM datapoint", [], |row| row.get(0))?;
    // What became too old since the last put goes every time.
    let oldest = oldest.map(Timestamp::from_micros).filter(|oldest| *oldest + DAY < now - keep.time);
    if let Some(oldest) = oldest {
        tracing::info!(%oldest, keep = ?keep.time, "datapoints older than `keep` go from publisher.db, some with each put");
    }
    let used = used(db)?;
    if let Some(bound) = keep.max_bytes.filter(|bound| used > bound + bound / 10) {
        tracing::info!(
            used,
            max_size = bound,
            "publisher.db is larger than its max_size: the oldest datapoints go, some with each put"
        );
    }
    Ok(())
}

/// The bytes of the file that hold something; its free pages are used again.
fn used(db: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(u64::try_from(pages * pragma("page_size")?).unwrap_or(0))
}
