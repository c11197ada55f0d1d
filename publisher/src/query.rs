//! Reading the embedded sink: the datapoints of `publisher.db`, with the parts of each joined.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_journal::JournalError;
use crosswatch_queue::QueueError;
use crosswatch_shared::time::Timestamp;
use crosswatch_window::Values;
use rusqlite::types::Type;
use rusqlite::{Connection, params};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};

use crate::run::SCHEMA;

/// Which datapoints are wanted; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this metric only, by its name such as `PingLatency`.
    pub metric: Option<String>,
    /// Only those that have each of these dimensions with this name.
    pub dimensions: Vec<(String, String)>,
    /// Of periods that start then or later.
    pub from: Option<Timestamp>,
    /// Of periods that start before.
    pub to: Option<Timestamp>,
}

/// One metric of one subject for one period.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// Of what, in the metric's own order.
    pub dimensions: Vec<(String, String)>,
    /// The start of the period.
    pub start: Timestamp,
    /// Its length.
    pub period: Duration,
    /// How many samples.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their mean.
    pub average: f64,
    /// The least.
    pub minimum: f64,
    /// The greatest.
    pub maximum: f64,
    /// The 50th percentile by nearest rank, within 1 %.
    pub p50: f64,
    /// The 90th, likewise.
    pub p90: f64,
    /// The 95th, likewise.
    pub p95: f64,
    /// The 99th, likewise.
    pub p99: f64,
}

impl Row {
    /// Of these samples.
    #[must_use]
    pub fn of(
        metric: &str,
        dimensions: Vec<(String, String)>,
        start: Timestamp,
        period: Duration,
        values: &Values,
    ) -> Self {
        Self {
            metric: metric.to_owned(),
            dimensions,
            start,
            period,
            count: values.count(),
            sum: values.sum(),
            average: values.average(),
            minimum: values.minimum(),
            maximum: values.maximum(),
            p50: values.percentile(50),
            p90: values.percentile(90),
            p95: values.percentile(95),
            p99: values.percentile(99),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no file. It is there once a publisher has begun it.
    #[error("{}: no publisher has run here yet; start one, or name the config whose queue.path it uses", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The file is foreign, newer or damaged, or cannot be read.
    #[error(transparent)]
    Open(#[from] QueueError),
    /// A row of the file is damaged.
    #[error("{}: {source}; keep a copy, then restore the file or move it away to begin anew", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Which datapoint.
        source: rusqlite::Error,
    },
}

/// The datapoints in a publisher's file, by metric, dimensions and time. A publisher may write it meanwhile.
///
/// # Errors
/// The file is absent, foreign, newer or damaged, or may not be read.
pub fn query(file: &Path, filter: &Filter) -> Result<Vec<Row>, QueryError> {
    let path = || file.to_owned();
    let db = SCHEMA.open_to_read(file)?.ok_or_else(|| QueryError::Absent { path: path() })?;
    rows(&db, filter).map_err(|source| match source {
        // What stands in a row is not for SQLite to judge.
        rusqlite::Error::FromSqlConversionFailure(..) => QueryError::Read { path: path(), source },
        source => QueryError::Open(JournalError::of(file, source).into()),
    })
}

pub(crate) fn rows(db: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut series = db.prepare(
        "SELECT id, metric, dimensions FROM series WHERE ?1 IS NULL OR metric = ?1 ORDER BY metric, dimensions",
    )?;
    let mut series = series.query([&filter.metric])?;
    while let Some(row) = series.next()? {
        let (id, metric, text): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let dimensions = dimensions(&text).ok_or_else(|| damaged(2, Type::Text, &metric, &text))?;
        if filter.dimensions.iter().all(|wanted| dimensions.contains(wanted)) {
            of_series(db, filter, id, &metric, &dimensions, &mut rows)?;
        }
    }
    Ok(rows)
}

fn of_series(
    db: &Connection,
    filter: &Filter,
    id: i64,
    metric: &str,
    dimensions: &[(String, String)],
    rows: &mut Vec<Row>,
) -> rusqlite::Result<()> {
    let mut parts = db.prepare_cached(
        "SELECT start, period, samples FROM datapoint WHERE series = ? AND start >= ? AND start < ?
         ORDER BY start, period, part",
    )?;
    let from = filter.from.unwrap_or(Timestamp::MIN).as_micros();
    let to = filter.to.map_or(i64::MAX, Timestamp::as_micros);
    let mut parts = parts.query(params![id, from, to])?;
    let mut joined: Option<((i64, i64), Values)> = None;
    let mut done = |joined: Option<((i64, i64), Values)>| {
        rows.extend(joined.map(|((start, period), values)| {
            let period = Duration::from_micros(period.unsigned_abs());
            Row::of(metric, dimensions.to_vec(), Timestamp::from_micros(start), period, &values)
        }));
    };
    while let Some(part) = parts.next()? {
        let period = (part.get(0)?, part.get(1)?);
        let values = Values::decode(part.get_ref(2)?.as_blob()?)
            .ok_or_else(|| damaged(2, Type::Blob, metric, &format!("{dimensions:?}")))?;
        joined = match joined {
            Some((same, before)) if same == period => Some((period, before.merge(values))),
            before => {
                done(before);
                Some((period, values))
            }
        };
    }
    done(joined);
    Ok(())
}

fn damaged(column: usize, of: Type, metric: &str, dimensions: &str) -> rusqlite::Error {
    let problem = format!("a datapoint of {metric} {dimensions} is damaged");
    rusqlite::Error::FromSqlConversionFailure(column, of, problem.into())
}

/// The dimensions in the order written, which a map would lose.
pub(crate) fn dimensions(text: &str) -> Option<Vec<(String, String)>> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("dimensions with their names")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Pairs).ok()
}
