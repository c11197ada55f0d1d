//! The account that the alerter's file gives of a subject, a link or an incident: what is judged of it, what was made of that,
//! and who was told. Read from outside while the alerter runs, and of a [`Rehearsal`] in the same way.
//!
//! [`Rehearsal`]: crate::rehearsal::Rehearsal

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crosswatch_journal::JournalError;
use crosswatch_judge::rule::{Metric, Rule};
use crosswatch_judge::{Engine, Saved};
use crosswatch_queue::QueueError;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::error::Error;
use crate::ledger::Body;
use crate::reconcile;
use crate::schema::SCHEMA;
use crate::status::{self, SiteTime, Subject};

/// Of how many incidents that are over an account tells at the most.
const OVER: i64 = 1;

/// Which incidents are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// One by its id, or by the beginning of it.
    Id(&'a str),
    /// Those of a link or site, and those that a subject is a symptom of: all that were open at a moment, and the newest that
    /// was over by then.
    Of {
        /// The link or site, or `alerter`.
        place: &'a str,
        /// Other places, of which only what was open is asked for: a link's sites, and `alerter`.
        beside: &'a [&'a str],
        /// The subject, where one is asked for.
        subject: Option<&'a str>,
        /// The moment.
        at: Timestamp,
    },
}

/// What the file holds, all of it of one moment.
#[derive(Debug)]
pub struct Account {
    /// The rules' state, as the alerter last wrote it.
    pub engine: Engine,
    /// Rules that the alerter last judged otherwise than the config says now, with what they meant.
    pub otherwise: BTreeMap<String, String>,
    /// What each rule said of each subject last, and why.
    pub subjects: Vec<Subject>,
    /// How far each site's data is known to be complete.
    pub sites: Vec<SiteTime>,
    /// Those asked for, the open ones first, then the newest first.
    pub incidents: Vec<Incident>,
}

/// An incident, with all that was told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// The link or site, or `alerter`.
    pub place: String,
    /// The verdict's word.
    pub verdict: String,
    /// What the verdict rests on.
    pub summary: String,
    /// The deciding datapoint's time.
    pub opened_at: Timestamp,
    /// When its last symptom ended, and why.
    pub resolved: Option<(Timestamp, String)>,
    /// What fired, in the order in which it began to.
    pub symptoms: Vec<Symptom>,
    /// The ledger's entries, in the order in which they were written; those of the digests that told of it are among them.
    pub told: Vec<Entry>,
    /// What was captured of probes that failed, as it was told last.
    pub evidence: Vec<String>,
}

/// A rule that fired for a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Symptom {
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// The deciding datapoint's time, and why.
    pub fired: (Timestamp, String),
    /// When it ended, and why.
    pub resolved: Option<(Timestamp, String)>,
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `firing` or `resolved`.
    pub state: String,
    /// 0 for the first that was told; more for what refined it, or told that it was worse.
    pub revision: u32,
    /// The receiver.
    pub receiver: String,
    /// By which of its ways.
    pub channel: String,
    /// `owed`, `held`, `digested`, `accepted`, `told-by-other`, `abandoned`, or another word of the ledger's.
    pub standing: String,
    /// Whether it is a digest, which tells of others as well.
    pub is_digest: bool,
    /// When it was written, by the alerter's clock.
    pub created: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, while it is owed.
    pub next_try: Timestamp,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When the receiver accepted it.
    pub accepted: Option<Timestamp>,
    /// What it says, in one line.
    pub text: String,
}

/// Reads the alerter's file; `None` while no alerter has begun one.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read; what it remembers cannot be understood.
pub fn read(
    path: &Path,
    rules: Vec<Rule>,
    topology: &Topology,
    which: Which<'_>,
) -> Result<Option<Account>, Error> {
    let Some(mut file) = SCHEMA.open_to_read(path)? else {
        return Ok(None);
    };
    let of = |source| QueueError::from(JournalError::of(path, source));
    // One short transaction, so that all of it is of one moment.
    let file = file.transaction().map_err(of)?;
    let saved = saved(&file).map_err(of)?;
    let otherwise = reconcile::otherwise(&file, &rules).map_err(of)?;
    let mut account = Account {
        engine: Engine::new(rules, topology),
        otherwise,
        subjects: status::subjects(&file).map_err(of)?,
        sites: status::sites(&file).map_err(of)?,
        incidents: incidents(&file, which).map_err(of)?,
    };
    drop(file);
    let unreadable = |problem: String| Error::State { path: path.to_owned(), problem };
    account.engine.restore(saved).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(account))
}

/// The engine's state.
fn saved(file: &Connection) -> rusqlite::Result<Vec<Saved>> {
    file.prepare("SELECT key, value FROM engine")?
        .query_map([], |row| Ok(Saved { key: row.get(0)?, value: row.get(1)? }))?
        .collect()
}

/// The incidents asked for, with all that was told of them.
pub(crate) fn incidents(file: &Connection, which: Which<'_>) -> rusqlite::Result<Vec<Incident>> {
    const COLUMNS: &str = "id, place, kind, words, opened_at, resolved_at, resolved_reason";
    let incident = |row: &Row<'_>| {
        let resolved: Option<i64> = row.get(5)?;
        let why: Option<String> = row.get(6)?;
        Ok(Incident {
            id: row.get(0)?,
            place: row.get(1)?,
            verdict: row.get(2)?,
            summary: row.get(3)?,
            opened_at: Timestamp::from_micros(row.get(4)?),
            resolved: resolved.map(|at| (Timestamp::from_micros(at), why.unwrap_or_default())),
            symptoms: Vec::new(),
            told: Vec::new(),
            evidence: Vec::new(),
        })
    };
    let mut found: Vec<Incident> = match which {
        Which::Id(id) => file
            .prepare(&format!("SELECT {COLUMNS} FROM incident WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2"))?
            .query_map([id], incident)?
            .collect::<rusqlite::Result<_>>()?,
        Which::Of { place, beside, subject, at } => {
            let its =
                "opened_at <= ?3 AND (place = ?1 OR id IN (SELECT incident FROM symptom WHERE subject = ?2))";
            let mut open = file.prepare(&format!(
                "SELECT {COLUMNS} FROM incident WHERE {its} AND (resolved_at IS NULL OR resolved_at > ?3)
                 ORDER BY opened_at DESC"
            ))?;
            let mut over = file.prepare(&format!(
                "SELECT {COLUMNS} FROM incident WHERE {its} AND resolved_at <= ?3
                 ORDER BY resolved_at DESC, opened_at DESC LIMIT {OVER}"
            ))?;
            let at = at.as_micros();
            let mut found: Vec<Incident> =
                open.query_map(params![place, subject, at], incident)?.collect::<rusqlite::Result<_>>()?;
            for place in beside {
                for row in open.query_map(params![place, None::<&str>, at], incident)? {
                    found.push(row?);
                }
            }
            for row in over.query_map(params![place, subject, at], incident)? {
                found.push(row?);
            }
            let mut ids = HashSet::new();
            found.retain(|of: &Incident| ids.insert(of.id.clone()));
            found
        }
    };
    for incident in &mut found {
        incident.symptoms = symptoms(file, &incident.id)?;
        (incident.told, incident.evidence) = told(file, &incident.id)?;
    }
    Ok(found)
}

fn symptoms(file: &Connection, incident: &str) -> rusqlite::Result<Vec<Symptom>> {
    let moment = |at: i64, why: Option<String>| (Timestamp::from_micros(at), why.unwrap_or_default());
    file.prepare_cached(
        "SELECT rule, subject, fired_at, reason, resolved_at, resolved_reason FROM symptom
         WHERE incident = ? ORDER BY number",
    )?
    .query_map([incident], |row| {
        let why = row.get(5)?;
        Ok(Symptom {
            rule: row.get(0)?,
            subject: row.get(1)?,
            fired: moment(row.get(2)?, row.get(3)?),
            resolved: row.get::<_, Option<i64>>(4)?.map(|at| moment(at, why)),
        })
    })?
    .collect()
}

/// The ledger's entries of an incident and of the digests that told of it, and the evidence that went with the newest of them.
fn told(file: &Connection, id: &str) -> rusqlite::Result<(Vec<Entry>, Vec<String>)> {
    let mut entries = Vec::new();
    let mut evidence = Vec::new();
    let mut rows = file.prepare_cached(
        "SELECT state, revision, receiver, channel,
                iif(told_as IS NOT NULL AND standing = 'accepted', 'told-by-other', standing), id != ?1, created, attempts, next_try, error, accepted_at, body
         FROM notification
         WHERE id = ?1 OR id IN (SELECT digest FROM notification WHERE id = ?1 AND digest IS NOT NULL)
         ORDER BY number",
    )?;
    let mut rows = rows.query([id])?;
    while let Some(row) = rows.next()? {
        let body: String = row.get(11)?;
        // What an older program wrote may lack something; the entry is told all the same.
        let body: Option<Body> = serde_json::from_str(&body).ok();
        let (text, captured) = body.map_or_else(Default::default, |body| (body.text, body.evidence));
        if !captured.is_empty() {
            evidence = captured;
        }
        entries.push(Entry {
            state: row.get(0)?,
            revision: row.get(1)?,
            receiver: row.get(2)?,
            channel: row.get(3)?,
            standing: row.get(4)?,
            is_digest: row.get(5)?,
            created: Timestamp::from_micros(row.get(6)?),
            attempts: row.get(7)?,
            next_try: Timestamp::from_micros(row.get(8)?),
            error: row.get(9)?,
            accepted: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_micros),
            text,
        });
    }
    Ok((entries, evidence))
}

/// What the ledger has of a drill, or of an incident, by its id; none while no alerter has begun a file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn entries(path: &Path, id: &str) -> Result<Vec<Entry>, Error> {
    let Some(file) = SCHEMA.open_to_read(path)? else {
        return Ok(Vec::new());
    };
    let (entries, _) = told(&file, id).map_err(|source| QueueError::from(JournalError::of(path, source)))?;
    Ok(entries)
}

/// What is usual of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Usual {
    /// The subject.
    pub subject: String,
    /// The metric that it is usual in.
    pub metric: Metric,
    /// The baseline, in the metric's unit; nothing while there is not enough history.
    pub value: Option<f64>,
    /// When its history begins.
    pub since: Option<Timestamp>,
}

/// Reads the baselines that the rules' thresholds are of, as of a moment; none while no alerter has begun a file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read; what it remembers cannot be understood.
pub fn baselines(
    path: &Path,
    rules: Vec<Rule>,
    topology: &Topology,
    at: Timestamp,
) -> Result<Vec<Usual>, Error> {
    let Some(file) = SCHEMA.open_to_read(path)? else {
        return Ok(Vec::new());
    };
    let of = |source| QueueError::from(JournalError::of(path, source));
    let mut saved = saved(&file).map_err(of)?;
    // The names of series tell which subjects exist only since they were seen.
    saved.retain(|of| ["usual/", "hours/", "series/"].iter().any(|start| of.key.starts_with(start)));
    let mut engine = Engine::new(rules, topology);
    let unreadable = |problem: String| Error::State { path: path.to_owned(), problem };
    engine.restore(saved).map_err(|error| unreadable(error.to_string()))?;
    let usual = engine.usual(at).map(|(subject, metric, usual)| Usual {
        subject: subject.to_string(),
        metric,
        value: usual.value,
        since: usual.since,
    });
    Ok(usual.collect())
}

/// The ids of the newest incidents, at most so many: for who has mistyped one.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn newest_ids(path: &Path, most: usize) -> Result<Vec<String>, Error> {
    let Some(file) = SCHEMA.open_to_read(path)? else {
        return Ok(Vec::new());
    };
    let read = || {
        file.prepare("SELECT id FROM incident ORDER BY opened_at DESC LIMIT ?")?
            .query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()
    };
    read().map_err(|source| QueueError::from(JournalError::of(path, source)).into())
}
