//! What the alerter's file says was judged: every symptom and every incident, from beginning to end.

use std::collections::BTreeSet;
use std::path::Path;

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OpenFlags};

/// A rule that fired for a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Symptom {
    /// The incident it belongs to.
    pub incident: String,
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// When, in the words of the wire.
    pub fired_at: String,
    /// The deciding value and why.
    pub fired: (Option<f64>, String),
    /// When it ended, if it has.
    pub resolved_at: Option<String>,
    /// The deciding value and why.
    pub resolved: (Option<f64>, Option<String>),
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// The link or site, or `alerter`.
    pub place: String,
    /// Its link, or nothing.
    pub link: String,
    /// The verdict, as it was last.
    pub kind: String,
    /// Whether it is open.
    pub open: bool,
}

/// Every symptom, in the order in which they were judged.
#[must_use]
pub fn symptoms(alerter: &Path) -> Vec<Symptom> {
    let at = |micros: i64| Timestamp::from_micros(micros).to_string();
    rows(
        alerter,
        "SELECT incident, rule, subject, fired_at, value, reason, resolved_at, resolved_value, resolved_reason
         FROM symptom ORDER BY number",
        |row| {
            Ok(Symptom {
                incident: row.get(0)?,
                rule: row.get(1)?,
                subject: row.get(2)?,
                fired_at: at(row.get(3)?),
                fired: (row.get(4)?, row.get(5)?),
                resolved_at: row.get::<_, Option<i64>>(6)?.map(at),
                resolved: (row.get(7)?, row.get(8)?),
            })
        },
    )
}

/// Every incident, oldest first.
#[must_use]
pub fn incidents(alerter: &Path) -> Vec<Incident> {
    let sql = "SELECT id, place, link, kind, resolved_at IS NULL FROM incident ORDER BY opened_at, id";
    rows(alerter, sql, |row| {
        Ok(Incident {
            id: row.get(0)?,
            place: row.get(1)?,
            link: row.get(2)?,
            kind: row.get(3)?,
            open: row.get(4)?,
        })
    })
}

/// What fired and what resolved by the rules of the config: time, rule, subject and state, as a replay prints them.
#[must_use]
pub fn transitions(alerter: &Path) -> BTreeSet<[String; 4]> {
    let built_in = |rule: &str| rule == "site-silent" || rule == "alerter-blind";
    let mut transitions = BTreeSet::new();
    for symptom in symptoms(alerter).into_iter().filter(|symptom| !built_in(&symptom.rule)) {
        let Symptom { rule, subject, fired_at, resolved_at, .. } = symptom;
        transitions.extend(resolved_at.map(|at| [at, rule.clone(), subject.clone(), "resolved".to_owned()]));
        transitions.insert([fired_at, rule, subject, "firing".to_owned()]);
    }
    transitions
}

fn rows<T>(alerter: &Path, sql: &str, read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let file = Connection::open_with_flags(alerter, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the file");
    file.busy_timeout(crate::deployment::BOUND).expect("a patient connection");
    let mut statement = file.prepare(sql).expect("its tables");
    let rows = statement.query_map([], read).expect("its rows");
    rows.collect::<rusqlite::Result<_>>().expect("each row")
}
