//! Incidents in the alerter's file: each with what it was last, and each of its symptoms from firing to its end.

use crosswatch_judge::incident::{Ended, Event, Incident, What};
use crosswatch_judge::verdict::Symptom;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::json;

/// Writes what became of an incident.
pub(crate) fn write(file: &Connection, event: &Event) -> rusqlite::Result<()> {
    let Event { incident, what, .. } = event;
    match what {
        What::Opened(symptom) => {
            save(file, incident)?;
            begin(file, incident, symptom)
        }
        What::Joined(symptom) => begin(file, incident, symptom),
        What::Left(ended) => end(file, incident, ended),
        What::Closed(ended) => {
            end(file, incident, ended)?;
            let Ended { at, reason, .. } = ended;
            file.prepare_cached(
                "UPDATE incident SET kind = ?2, words = ?3, state = NULL, resolved_at = ?4, resolved_reason = ?5
                 WHERE id = ?1",
            )?
            .execute(params![
                incident.id,
                incident.verdict.kind.word(),
                incident.verdict.words,
                at.as_micros(),
                reason
            ])?;
            Ok(())
        }
        What::Refined | What::Worse => Ok(()),
    }
}

/// Writes what an open incident is now.
pub(crate) fn save(file: &Connection, incident: &Incident) -> rusqlite::Result<()> {
    // One that was judged before and is judged again is the same one, open again.
    file.prepare_cached(
        "INSERT INTO incident (id, place, link, kind, words, opened_at, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE
         SET kind = excluded.kind, words = excluded.words, state = excluded.state, resolved_at = NULL,
             resolved_reason = NULL",
    )?
    .execute(params![
        incident.id,
        incident.place.name(),
        incident.place.link(),
        incident.verdict.kind.word(),
        incident.verdict.words,
        incident.opened.as_micros(),
        json::write(incident)?
    ])?;
    Ok(())
}

fn begin(file: &Connection, incident: &Incident, symptom: &Symptom) -> rusqlite::Result<()> {
    file.prepare_cached(
        "INSERT INTO symptom (incident, rule, subject, fired_at, value, reason) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        incident.id,
        symptom.rule,
        symptom.subject,
        symptom.at.as_micros(),
        symptom.value,
        symptom.reason
    ])?;
    Ok(())
}

fn end(file: &Connection, incident: &Incident, ended: &Ended) -> rusqlite::Result<()> {
    file.prepare_cached(
        "UPDATE symptom SET resolved_at = ?4, resolved_value = ?5, resolved_reason = ?6
         WHERE incident = ?1 AND rule = ?2 AND subject = ?3 AND resolved_at IS NULL",
    )?
    .execute(params![
        incident.id,
        ended.symptom.rule,
        ended.symptom.subject,
        ended.at.as_micros(),
        ended.value,
        ended.reason
    ])?;
    Ok(())
}

/// Every incident that is open, as it was saved: the id, and its JSON.
pub(crate) fn saved(file: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    file.prepare_cached("SELECT id, state FROM incident WHERE state IS NOT NULL ORDER BY opened_at, id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Since when a rule fires for a subject, as long as it does.
pub(crate) fn firing_since(
    file: &Connection,
    rule: &str,
    subject: &str,
) -> rusqlite::Result<Option<Timestamp>> {
    let since: Option<i64> = file
        .prepare_cached(
            "SELECT min(fired_at) FROM symptom WHERE rule = ? AND subject = ? AND resolved_at IS NULL",
        )?
        .query_row([rule, subject], |row| row.get(0))?;
    Ok(since.map(Timestamp::from_micros))
}

/// How many incidents are open.
pub(crate) fn count_open(file: &Connection) -> rusqlite::Result<i64> {
    file.prepare_cached("SELECT count(*) FROM incident WHERE resolved_at IS NULL")?
        .query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests;
