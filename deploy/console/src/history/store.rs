//! The history's file. A row holds an hour's minutes or a day's hours of one probe: rows of some hundred bytes, of which a
//! graph of a month reads thirty.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use crosswatch_journal::JournalError;
use crosswatch_queue::{QueueError, Schema};
use crosswatch_shared::evidence::Evidence;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Error;
use super::cell::{Cell, Row};

/// The file's name in the folder of the queue.
pub const FILE: &str = "graphs.db";

/// How long minutes are kept.
pub const MINUTES: Duration = Duration::from_secs(35 * 86_400);
/// How long hours are kept, and the states of tunnels.
pub const HOURS: Duration = Duration::from_secs(400 * 86_400);

/// How many bundles of evidence are kept at most, a few kilobytes each, and no longer than minutes are.
const BUNDLES: i64 = 20_000;

/// A tunnel of which nothing was heard for so long was not known in between.
const TUNNEL_GAP: Duration = Duration::from_secs(300);

pub(super) const SCHEMA: Schema =
    Schema { what: "history of the graphs", application_id: 0x4357_4731, migrations: &[TABLES, EVIDENCE] };

const TABLES: &str = "
-- A probe of a site on a link. Since when its outcomes are replies or losses without a break.
CREATE TABLE series (
    id    INTEGER PRIMARY KEY,
    link  TEXT NOT NULL,
    site  TEXT NOT NULL,
    probe TEXT NOT NULL,
    up    INTEGER,
    since INTEGER,
    UNIQUE (link, site, probe)
) STRICT;

-- An hour's minutes: the id is the series', shifted by 24 bits, and the number of the hour since the Unix epoch.
CREATE TABLE minutes (id INTEGER PRIMARY KEY, cells BLOB NOT NULL) STRICT;
-- A day's hours, likewise, by the number of the day.
CREATE TABLE hours (id INTEGER PRIMARY KEY, cells BLOB NOT NULL) STRICT;

-- How a tunnel was from one poll to another, as long as all polls between said the same. Microseconds.
CREATE TABLE tunnel (
    id         INTEGER PRIMARY KEY,
    link       TEXT NOT NULL,
    vpn        TEXT NOT NULL,
    outside_ip TEXT NOT NULL,
    up         INTEGER NOT NULL,
    message    TEXT NOT NULL,
    since      INTEGER NOT NULL,
    until      INTEGER NOT NULL
) STRICT;
CREATE INDEX tunnel_of ON tunnel (link, vpn, outside_ip, until);
";

/// What was captured once a probe was lost.
const EVIDENCE: &str = "
CREATE TABLE evidence (
    series INTEGER NOT NULL,
    -- When looking began, in microseconds.
    at     INTEGER NOT NULL,
    -- As JSON, in the form of an observation.
    body   TEXT NOT NULL,
    PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_at ON evidence (at);
";

const ROW_BITS: u32 = 24;
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// A probe, as (link, site, probe).
pub type Key = (Name, Name, Name);

/// How fine a graph's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A minute each.
    Minutes,
    /// An hour each.
    Hours,
}

impl Grain {
    const ALL: [Self; 2] = [Self::Minutes, Self::Hours];

    const fn table(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }

    /// The seconds of a cell, and of a row.
    const fn seconds(self) -> (i64, i64) {
        match self {
            Self::Minutes => (MINUTE, HOUR),
            Self::Hours => (HOUR, DAY),
        }
    }

    const fn keep(self) -> Duration {
        match self {
            Self::Minutes => MINUTES,
            Self::Hours => HOURS,
        }
    }

    /// The length of a cell.
    #[must_use]
    pub const fn cell(self) -> Duration {
        Duration::from_secs(self.seconds().0.unsigned_abs())
    }
}

/// How a tunnel was for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSpan {
    /// The VPN connection.
    pub vpn: String,
    /// The tunnel's outside address.
    pub outside_ip: String,
    /// Whether it was up.
    pub up: bool,
    /// What was said of it last.
    pub message: String,
    /// The first poll that said so.
    pub since: Timestamp,
    /// The last.
    pub until: Timestamp,
}

/// What was captured of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The site that captured it.
    pub site: String,
    /// The probe.
    pub probe: String,
    /// What was seen.
    pub evidence: Evidence,
}

/// Since when a probe is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Whether it is answered.
    pub up: bool,
    /// Since the first outcome like it.
    pub since: Timestamp,
}

/// What was seen and is not in the file yet. It adds up with what the file has, so that it may be written in any parts, each
/// once.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    /// By series and the number of the minute since the epoch.
    cells: HashMap<Key, BTreeMap<i64, Cell>>,
    tunnels: Vec<(Name, TunnelSpan)>,
    evidence: Vec<(Key, Evidence)>,
    since: HashMap<Key, Since>,
}

impl Deltas {
    /// The cell of the minute that holds this time.
    pub(crate) fn cell(&mut self, key: &Key, at: Timestamp) -> &mut Cell {
        let minute = at.as_micros().div_euclid(1_000_000 * MINUTE);
        self.cells.entry(key.clone()).or_default().entry(minute).or_default()
    }

    /// A probe has changed from up to down, or back.
    pub(crate) fn since(&mut self, key: &Key, since: Since) {
        self.since.insert(key.clone(), since);
    }

    /// What a poll said of a tunnel.
    pub(crate) fn tunnel(&mut self, link: &Name, span: TunnelSpan) {
        self.tunnels.push((link.clone(), span));
    }

    /// What was captured of a probe that was lost.
    pub(crate) fn evidence(&mut self, key: &Key, evidence: &Evidence) {
        self.evidence.push((key.clone(), evidence.clone()));
    }

    /// How many minutes of probes it holds.
    pub(crate) fn len(&self) -> usize {
        self.cells.values().map(BTreeMap::len).sum()
    }

    /// Adds it to what the file has.
    pub(super) fn write(&self, file: &Transaction<'_>, ids: &mut Ids) -> Result<(), Error> {
        for (key, minutes) in &self.cells {
            let series = ids.of(file, key)?;
            for grain in Grain::ALL {
                let (cell, row) = grain.seconds();
                let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
                for (minute, delta) in minutes {
                    let at = minute * MINUTE;
                    let place = u8::try_from(at.rem_euclid(row) / cell).unwrap_or(0);
                    rows.entry(at.div_euclid(row)).or_default().add(place, delta);
                }
                for (number, delta) in rows {
                    add(file, grain, row_id(series, number), &delta)?;
                }
            }
        }
        for (key, of) in &self.since {
            let series = ids.of(file, key)?;
            file.prepare_cached("UPDATE series SET up = ?2, since = ?3 WHERE id = ?1")?.execute(params![
                series,
                of.up,
                of.since.as_micros()
            ])?;
        }
        for (key, evidence) in &self.evidence {
            let Ok(body) = serde_json::to_string(evidence) else { continue };
            let series = ids.of(file, key)?;
            file.prepare_cached("INSERT OR IGNORE INTO evidence (series, at, body) VALUES (?, ?, ?)")?
                .execute(params![series, evidence.at.as_micros(), body])?;
        }
        self.tunnels.iter().try_for_each(|(link, span)| add_tunnel(file, link, span))
    }
}

/// The numbers of the series.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<Key, i64>);

impl Ids {
    fn of(&mut self, file: &Connection, key: &Key) -> Result<i64, Error> {
        if let Some(id) = self.0.get(key) {
            return Ok(*id);
        }
        let (link, site, probe) = key;
        file.prepare_cached("INSERT OR IGNORE INTO series (link, site, probe) VALUES (?, ?, ?)")?
            .execute(params![link, site, probe])?;
        let id = series(file, key)?.ok_or(Error::Odd { what: "a series that was written" })?;
        self.0.insert(key.clone(), id);
        Ok(id)
    }

    /// The transaction that they were read in was undone, and may have made some of them.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

fn series(file: &Connection, (link, site, probe): &Key) -> Result<Option<i64>, Error> {
    Ok(file
        .prepare_cached("SELECT id FROM series WHERE link = ? AND site = ? AND probe = ?")?
        .query_row(params![link, site, probe], |row| row.get(0))
        .optional()?)
}

const fn row_id(series: i64, number: i64) -> i64 {
    (series << ROW_BITS) | (number & ((1 << ROW_BITS) - 1))
}

fn add(file: &Connection, grain: Grain, id: i64, delta: &Row) -> Result<(), Error> {
    let table = grain.table();
    let had: Option<Vec<u8>> = file
        .prepare_cached(&format!("SELECT cells FROM {table} WHERE id = ?"))?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let row = match had {
        None => delta.encode(),
        Some(bytes) => {
            let mut row = Row::decode(&bytes).ok_or(Error::Odd { what: "a row of percentiles" })?;
            delta.0.iter().for_each(|(place, cell)| row.add(*place, cell));
            row.encode()
        }
    };
    file.prepare_cached(&format!(
        "INSERT INTO {table} (id, cells) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET cells = excluded.cells"
    ))?
    .execute(params![id, row])?;
    Ok(())
}

/// Makes the newest span longer where this says the same, and begins another where it does not. What is older than the newest
/// was overtaken and tells nothing new.
fn add_tunnel(file: &Connection, link: &Name, span: &TunnelSpan) -> Result<(), Error> {
    let newest: Option<(i64, bool, i64)> = file
        .prepare_cached(
            "SELECT id, up, until FROM tunnel WHERE link = ? AND vpn = ? AND outside_ip = ? ORDER BY until DESC LIMIT 1",
        )?
        .query_row(params![link, span.vpn, span.outside_ip], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let at = span.until.as_micros();
    match newest {
        Some((_, _, until)) if until >= at => {}
        Some((id, up, until))
            if up == span.up && span.until.since(Timestamp::from_micros(until)) <= TUNNEL_GAP =>
        {
            file.prepare_cached("UPDATE tunnel SET until = ?2, message = ?3 WHERE id = ?1")?
                .execute(params![id, at, span.message])?;
        }
        _ => {
            file.prepare_cached(
                "INSERT INTO tunnel (link, vpn, outside_ip, up, message, since, until) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                link,
                span.vpn,
                span.outside_ip,
                span.up,
                span.message,
                span.since.as_micros(),
                at
            ])?;
        }
    }
    Ok(())
}

/// Removes what is older than it is kept.
pub(super) fn prune(file: &Connection, now: Timestamp) -> Result<(), Error> {
    let ids: Vec<i64> = file
        .prepare_cached("SELECT id FROM series")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for grain in Grain::ALL {
        let (_, row) = grain.seconds();
        let first = (now - grain.keep()).as_micros().div_euclid(1_000_000 * row);
        let mut delete =
            file.prepare_cached(&format!("DELETE FROM {} WHERE id >= ? AND id < ?", grain.table()))?;
        for series in &ids {
            delete.execute([row_id(*series, 0), row_id(*series, first)])?;
        }
    }
    file.execute("DELETE FROM tunnel WHERE until < ?", [(now - HOURS).as_micros()])?;
    let newest = "SELECT at FROM evidence ORDER BY at DESC LIMIT 1 OFFSET ?2";
    file.execute(
        &format!("DELETE FROM evidence WHERE at < max(?1, ifnull(({newest}), ?1))"),
        [(now - MINUTES).as_micros(), BUNDLES - 1],
    )?;
    Ok(())
}

/// The history as the page reads it, beside its writer, in short transactions.
pub struct History {
    file: Connection,
}

impl History {
    /// Opens the file; `None` while nobody has begun it.
    ///
    /// # Errors
    /// It is foreign, newer or damaged, or may not be read.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        Ok(SCHEMA.open_to_read(path)?.map(|file| Self { file }))
    }

    /// Every probe of which there is anything, with since when it is as it is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn series(&self) -> Result<Vec<(Key, Option<Since>)>, Error> {
        read_series(&self.file)
    }

    /// The cells of a probe from `from` up to but not including `to`, by their beginnings, those in which nothing was seen
    /// left out.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn cells(
        &self,
        key: &Key,
        grain: Grain,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Timestamp, Cell)>, Error> {
        let Some(series) = series(&self.file, key)? else {
            return Ok(Vec::new());
        };
        let (cell, row) = grain.seconds();
        let number = |at: Timestamp| at.as_micros().div_euclid(1_000_000 * row).max(0);
        let ids = [row_id(series, number(from)), row_id(series, number(to))];
        let sql = format!("SELECT id, cells FROM {} WHERE id BETWEEN ? AND ? ORDER BY id", grain.table());
        let mut query = self.file.prepare_cached(&sql)?;
        let mut rows = query.query(ids)?;
        let mut cells = Vec::new();
        while let Some(of) = rows.next()? {
            let begins = (of.get::<_, i64>(0)? & ((1 << ROW_BITS) - 1)) * row;
            let bytes: Vec<u8> = of.get(1)?;
            let decoded = Row::decode(&bytes).ok_or(Error::Odd { what: "a row of percentiles" })?;
            let timed = decoded
                .0
                .into_iter()
                .map(|(place, value)| (Timestamp::from_secs(begins + i64::from(place) * cell), value));
            cells.extend(timed.filter(|(at, _)| *at + grain.cell() > from && *at < to));
        }
        Ok(cells)
    }

    /// How the tunnels of a link were within a span of time, by tunnel and time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tunnels(&self, link: &str, from: Timestamp, to: Timestamp) -> Result<Vec<TunnelSpan>, Error> {
        let mut query = self.file.prepare_cached(
            "SELECT vpn, outside_ip, up, message, since, until FROM tunnel
             WHERE link = ? AND until >= ? AND since < ? ORDER BY vpn, outside_ip, since",
        )?;
        let spans = query.query_map(params![link, from.as_micros(), to.as_micros()], |row| {
            Ok(TunnelSpan {
                vpn: row.get(0)?,
                outside_ip: row.get(1)?,
                up: row.get(2)?,
                message: row.get(3)?,
                since: Timestamp::from_micros(row.get(4)?),
                until: Timestamp::from_micros(row.get(5)?),
            })
        })?;
        Ok(spans.collect::<rusqlite::Result<_>>()?)
    }

    /// What was captured of a link's probes within a span of time, the newest first, at most `limit`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn evidence(
        &self,
        link: &str,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<Captured>, Error> {
        let mut query = self.file.prepare_cached(
            "SELECT series.site, series.probe, body FROM evidence JOIN series ON series.id = evidence.series
             WHERE series.link = ? AND at >= ? AND at < ? ORDER BY at DESC LIMIT ?",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![link, from.as_micros(), to.as_micros(), limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
        })?;
        let captured = rows.map(|row| {
            let (site, probe, body) = row?;
            let evidence = serde_json::from_str(&body).map_err(|_| Error::Odd { what: "evidence" })?;
            Ok(Captured { site, probe, evidence })
        });
        captured.collect()
    }

    /// The median round-trip time of the week before `now`, in milliseconds: what a probe's latency is held against.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn baseline(&self, key: &Key, now: Timestamp) -> Result<Option<f64>, Error> {
        let week = Duration::from_secs(7 * 86_400);
        let mut all = Cell::default();
        for (_, cell) in self.cells(key, Grain::Hours, now - week, now)? {
            all.merge(&cell);
        }
        Ok(all.replies.quantile(0.5))
    }
}

pub(super) fn read_series(file: &Connection) -> Result<Vec<(Key, Option<Since>)>, Error> {
    let mut query = file.prepare("SELECT link, site, probe, up, since FROM series ORDER BY id")?;
    let series = query.query_map([], |row| {
        let text = |place| Ok::<_, rusqlite::Error>(Name::from(row.get::<_, String>(place)?));
        let (up, since): (Option<bool>, Option<i64>) = (row.get(3)?, row.get(4)?);
        let since = up.zip(since.map(Timestamp::from_micros)).map(|(up, since)| Since { up, since });
        Ok(((text(0)?, text(1)?, text(2)?), since))
    })?;
    Ok(series.collect::<rusqlite::Result<_>>()?)
}

/// What a statement's failure is, with the file that it is about.
pub(super) fn told(path: &Path, error: Error) -> Error {
    match error {
        Error::Statement(source) => QueueError::from(JournalError::of(path, source)).into(),
        other => other,
    }
}

/// How many bytes the rows of minutes and of hours take that are made of this.
#[cfg(test)]
pub(super) fn row_of_test(deltas: &Deltas) -> [usize; 2] {
    let mut file = Connection::open_in_memory().unwrap();
    SCHEMA.migrations.iter().for_each(|sql| file.execute_batch(sql).unwrap());
    let step = file.transaction().unwrap();
    deltas.write(&step, &mut Ids::default()).unwrap();
    step.commit().unwrap();
    Grain::ALL.map(|grain| {
        let sql = format!("SELECT sum(length(cells)) FROM {}", grain.table());
        file.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs() as usize
    })
}
