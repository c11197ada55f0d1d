//! What the file remembers is made to agree with a config that has changed: since the alerter last ran, or while it runs.
//!
//! A rule that is gone or judges something else loses its state, and its open incidents are resolved with that reason,
//! as are incidents of subjects that nobody watches any more: an all-clear is owed, even if it is for want of a judge.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crosswatch_judge::edit::{self, Edit, Meaning};
use crosswatch_judge::incident::Event;
use crosswatch_judge::rule::Rule;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::catch_up::Past;
use crate::error::Error;
use crate::memory::{Change, Memory};
use crate::record::Recorder;
use crate::{incident, json, run};

/// A subject of a rule, as what was loaded has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) rule: Name,
    pub(crate) subject: Name,
    /// Whether an incident is open.
    pub(crate) firing: bool,
}

/// What an alerter begins or goes on with, once its file agrees with the config.
pub(crate) struct Agreed {
    pub(crate) memory: Memory,
    /// What the edit itself decided; it is written.
    pub(crate) change: Change,
    /// What was owed to receivers that are no more: to whom, by which channel, how many.
    pub(crate) abandoned: Vec<(String, String, i64)>,
    /// How many incidents are open.
    pub(crate) open: i64,
}

/// Makes the file agree with these rules and receivers, at the start as with each edit, in the caller's transaction. A rule
/// that judges the same datapoints otherwise judges them anew; one that is gone or judges others loses its state, and what
/// fires of it is resolved. `former` is what an alerter knows that runs; when the transaction fails it is spent.
pub(crate) fn agree(
    file: &Connection,
    path: &Path,
    (rules, topology): (&[Rule], &Topology),
    recorder: &Recorder,
    former: Option<&mut Memory>,
    now: Timestamp,
) -> Result<Agreed, Error> {
    let edits = self::rules(file, rules)?;
    let mut memory = run::load(file, path, rules, topology)?;
    if let Some(former) = former {
        memory.carry(former);
    }
    let reasons = edits.iter().filter_map(|(rule, edit)| match edit {
        Edit::Removed => Some((rule.to_string(), "rule removed")),
        Edit::Replaced(_) => Some((rule.to_string(), "rule changed")),
        Edit::Added | Edit::Rejudged(_) => None,
    });
    incidents(file, &mut memory, &reasons.collect(), recorder, now)?;
    let rejudged = edits.into_iter().filter(|(_, edit)| matches!(edit, Edit::Rejudged(_)));
    let change = memory.rejudge(&rejudged.map(|(rule, _)| rule).collect(), now);
    recorder.write(file, &change, now)?;
    let abandoned = recorder.ledger.abandon(file)?;
    Ok(Agreed { memory, change, abandoned, open: incident::count_open(file)? })
}

/// Remembers what the rules mean now, and drops the state of those that judge other datapoints. Gives what became of each
/// that is not as before.
fn rules(file: &Connection, rules: &[Rule]) -> rusqlite::Result<Vec<(Name, Edit)>> {
    let before = meanings(file)?;
    let edits = edit::edits(&before, rules);
    for (rule, edit) in &edits {
        if !before.is_empty() {
            tracing::info!(%rule, "the rule was {edit}");
        }
        if matches!(edit, Edit::Removed | Edit::Replaced(_)) {
            let prefix = format!("series/{rule}/");
            file.execute("DELETE FROM engine WHERE substr(key, 1, length(?1)) = ?1", [prefix])?;
            file.execute("DELETE FROM subject_state WHERE rule = ?", [rule])?;
        }
    }
    file.execute("DELETE FROM rule", [])?;
    for rule in rules {
        let meaning = json::write(&Meaning::of(rule))?;
        file.execute("INSERT INTO rule (name, meaning) VALUES (?, ?)", params![rule.name, meaning])?;
    }
    Ok(edits)
}

/// Rules that were last judged otherwise than they would be now, or not at all any more, with what has changed.
pub(crate) fn otherwise(file: &Connection, rules: &[Rule]) -> rusqlite::Result<BTreeMap<String, String>> {
    let edits = edit::edits(&meanings(file)?, rules);
    let edits = edits.into_iter().filter(|(_, edit)| *edit != Edit::Added);
    Ok(edits.map(|(rule, edit)| (rule.to_string(), edit.to_string())).collect())
}

/// What each rule meant when it last judged.
fn meanings(file: &Connection) -> rusqlite::Result<BTreeMap<String, Meaning>> {
    let mut meanings = file.prepare("SELECT name, meaning FROM rule")?;
    let meanings = meanings.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    meanings
        .map(|row| row.map(|(name, meaning)| (name, serde_json::from_str(&meaning).unwrap_or_default())))
        .collect()
}

/// Resolves what nothing loaded says to fire, and keeps a row for each present subject.
fn incidents(
    file: &Connection,
    memory: &mut Memory,
    gone: &BTreeMap<String, &'static str>,
    recorder: &Recorder,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let why = |rule: &str| gone.get(rule).copied().unwrap_or("no longer watched").to_owned();
    let ended = memory.end_others(now, why);
    for Event { incident, what, .. } in &ended {
        tracing::info!(id = incident.id, place = incident.place.name(), ?what, "a symptom is resolved");
    }
    memory.changed_incidents().iter().try_for_each(|open| incident::save(file, open))?;
    recorder.events(file, &ended, &Past::default(), now)?;

    // What is judged no more must not speak again if a later edit has it judged once more.
    let keys = memory.keys();
    let mut kept = file.prepare("SELECT key FROM engine WHERE key LIKE 'series/%'")?;
    let kept: Vec<String> = kept.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for key in kept.iter().filter(|key| !keys.contains(*key)) {
        file.prepare_cached("DELETE FROM engine WHERE key = ?")?.execute([key])?;
    }
    let judged = memory.subjects();
    let known: HashSet<(&str, &str)> = judged.iter().map(|of| (&*of.rule, &*of.subject)).collect();
    let mut rows = file.prepare("SELECT rule, subject FROM subject_state")?;
    let rows: Vec<(String, String)> =
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (rule, subject) in rows {
        if !known.contains(&(&*rule, &*subject)) {
            file.prepare_cached("DELETE FROM subject_state WHERE rule = ? AND subject = ?")?
                .execute([rule, subject])?;
        }
    }
    for of in &judged {
        file.prepare_cached(
            "INSERT OR IGNORE INTO subject_state (rule, subject, state) VALUES (?, ?, 'ok')",
        )?
        .execute(params![of.rule, of.subject])?;
    }
    Ok(())
}
