//! At the start: what the file remembers is made to agree with a config that may have changed since.
//!
//! A rule that is gone or means something else loses its state, and its open incidents are resolved with that reason,
//! as are incidents of subjects that nobody watches any more: an all-clear is owed, even if it is for want of a judge.

use std::collections::{BTreeMap, HashSet};

use crosswatch_judge::incident::Event;
use crosswatch_judge::rule::{Missing, Rule, Side, Statistic, Threshold};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::incident;
use crate::memory::Memory;
use crate::record::Recorder;

/// A subject of a rule, as what was loaded has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) rule: Name,
    pub(crate) subject: Name,
    /// Whether an incident is open.
    pub(crate) firing: bool,
}

/// Drops the state of rules that are gone or changed, and remembers the present ones. Gives why, by the rule's name.
pub(crate) fn rules<'a>(
    file: &Connection,
    rules: impl Iterator<Item = &'a Rule>,
) -> rusqlite::Result<BTreeMap<String, &'static str>> {
    let now: BTreeMap<String, String> = rules.map(|rule| (rule.name.to_string(), meaning(rule))).collect();
    let mut before = file.prepare("SELECT name, meaning FROM rule")?;
    let before: Vec<(String, String)> =
        before.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut gone = BTreeMap::new();
    for (rule, before) in before {
        let reason = match now.get(&rule) {
            Some(now) if *now == before => continue,
            Some(now) => {
                tracing::info!(rule, before, now, "the rule has changed: it is judged anew");
                "rule changed"
            }
            None => {
                tracing::info!(rule, "the rule was removed");
                "rule removed"
            }
        };
        let prefix = format!("series/{rule}/");
        file.execute("DELETE FROM engine WHERE substr(key, 1, length(?1)) = ?1", [prefix])?;
        file.execute("DELETE FROM subject_state WHERE rule = ?", [&rule])?;
        file.execute("DELETE FROM rule WHERE name = ?", [&rule])?;
        gone.insert(rule, reason);
    }
    for (rule, meaning) in now {
        file.execute("INSERT OR IGNORE INTO rule (name, meaning) VALUES (?, ?)", [rule, meaning])?;
    }
    Ok(gone)
}

/// Rules that were last judged otherwise than they would be now, or not at all any more, with what they meant.
pub(crate) fn otherwise(file: &Connection, rules: &[Rule]) -> rusqlite::Result<BTreeMap<String, String>> {
    let now: BTreeMap<&str, String> = rules.iter().map(|rule| (&*rule.name, meaning(rule))).collect();
    let mut before = file.prepare("SELECT name, meaning FROM rule")?;
    let before = before.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let same = |of: &rusqlite::Result<(String, String)>| {
        of.as_ref().is_ok_and(|(name, meaning)| now.get(&**name) == Some(meaning))
    };
    before.filter(|of| !same(of)).collect()
}

/// Resolves what nothing loaded says to fire, and keeps a row for each present subject.
pub(crate) fn incidents(
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
    recorder.events(file, &ended, now)?;

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

/// What a rule means, in words that are the same as long as it judges the same.
fn meaning(rule: &Rule) -> String {
    let side = match rule.side {
        Side::Below => "below",
        Side::Above => "above",
    };
    let mut meaning =
        format!("{} {side} {} in {} of {}", rule.metric.word(), rule.threshold, rule.breach.m, rule.breach.n);
    if let Threshold::OfBaseline { fixed: Some(fixed), .. } = rule.threshold {
        meaning += &format!(", {fixed} until there is one");
    }
    if let Some(threshold) = rule.clear_threshold {
        meaning += &format!(", while firing {threshold}");
    }
    if let Some(count) = rule.clear {
        meaning += &format!(", clear after {count}");
    }
    if let Some(window) = rule.window {
        let statistic = match window.statistic {
            Statistic::Average => "average".to_owned(),
            Statistic::Minimum => "minimum".to_owned(),
            Statistic::Maximum => "maximum".to_owned(),
            Statistic::Percentile(of) => format!("p{of}"),
        };
        meaning += &format!(", {statistic} of {:?}", window.period);
    }
    if let Some(deadline) = rule.deadline {
        meaning += &format!(", deadline {deadline:?}");
    }
    let missing = match rule.missing {
        Missing::Hold => "hold",
        Missing::Breach => "breach",
        Missing::Ok => "ok",
    };
    meaning + &format!(", missing {missing}, of {:?}", rule.subjects)
}
