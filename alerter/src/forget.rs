//! Forgetting: what is over for long leaves the alerter's file, so that it does not grow for ever.
//!
//! An incident goes with its symptoms and all that the ledger has of it, once nothing of it is to be told any more; a digest with the
//! last that it told of. Little at a time, so that no page waits for it.

use std::time::{Duration, Instant};

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

/// For how long it is known what was: more than a year, so that a year can be held against the one before.
pub(crate) const KEPT: Duration = Duration::from_secs(400 * 86_400);

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(3_600);

/// And where there was more than is forgotten at once: judging goes on between.
const SOON: Duration = Duration::from_secs(1);

/// So many incidents are forgotten at once.
const AT_ONCE: usize = 100;

/// When it is looked for next.
#[derive(Debug)]
pub(crate) struct Next(Instant);

impl Next {
    /// An hour from the start.
    pub(crate) fn new(start: Instant) -> Self {
        Self(start + EVERY)
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self, steady: Instant) -> bool {
        self.0 <= steady
    }

    /// It was looked for, and there may be more, or not.
    pub(crate) fn looked(&mut self, more: bool, steady: Instant) {
        self.0 = steady + if more { SOON } else { EVERY };
    }
}

/// Forgets some of what is over for long. Gives whether there may be more.
pub(crate) fn some(file: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let before = (now - KEPT).as_micros();
    let incidents: Vec<String> = file
        .prepare_cached(
            "SELECT id FROM incident WHERE resolved_at < ?1 AND NOT EXISTS (
                 SELECT 1 FROM notification AS its WHERE its.id = incident.id
                     AND (its.standing IN ('owed', 'held', 'muted', 'behind') OR EXISTS (
                         SELECT 1 FROM notification AS whole
                         WHERE whole.id = its.digest AND whole.standing IN ('owed', 'held'))))
             LIMIT ?2",
        )?
        .query_map(params![before, i64::try_from(AT_ONCE).unwrap_or(i64::MAX)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut digests = Vec::new();
    for id in &incidents {
        notifications(file, id, &mut digests)?;
        file.prepare_cached("DELETE FROM symptom WHERE incident = ?")?.execute([id])?;
        file.prepare_cached("DELETE FROM alias WHERE ours = ?")?.execute([id])?;
        file.prepare_cached("DELETE FROM incident WHERE id = ?")?.execute([id])?;
    }
    // The end of a digest may have been told by another.
    while let Some(digest) = digests.pop() {
        let tells = file
            .prepare_cached(
                "SELECT 1 FROM notification WHERE digest = ?1
                 UNION ALL SELECT 1 FROM notification WHERE id = ?1 AND standing IN ('owed', 'held')",
            )?
            .exists([&digest])?;
        if !tells {
            notifications(file, &digest, &mut digests)?;
        }
    }
    file.prepare_cached(
        "DELETE FROM notification WHERE id GLOB 'drill-*' AND created < ? AND standing NOT IN ('owed', 'held')",
    )?
    .execute([before])?;
    Ok(incidents.len() == AT_ONCE)
}

/// Forgets what was told of an incident or a digest; `digests` has those by which, then.
fn notifications(file: &Connection, id: &str, digests: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut told_by =
        file.prepare_cached("SELECT DISTINCT digest FROM notification WHERE id = ? AND digest IS NOT NULL")?;
    for digest in told_by.query_map([id], |row| row.get(0))? {
        digests.push(digest?);
    }
    file.prepare_cached("DELETE FROM notification WHERE id = ?")?.execute([id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crosswatch_judge::State;
    use crosswatch_shared::config::values::Rate;

    use super::*;
    use crate::config::{Receiver, Template, Texting};
    use crate::ledger::{self, Ledger};
    use crate::testing::{file, happens_to};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn ledger(at_most: Option<Rate>) -> Ledger {
        Ledger::new(&[Receiver {
            name: "r".into(),
            sms: Vec::new(),
            texting: Texting::default(),
            topic: None,
            webhook: None,
            template: Template::Plain,
            command: Vec::new(),
            console: true,
            at_most,
        }])
    }

    /// It begins or ends, and is accepted unless it is to wait.
    fn happens(
        ledger: &Ledger,
        file: &Connection,
        state: State,
        subject: &str,
        accepts: bool,
        now: Timestamp,
    ) {
        happens_to(ledger, file, state, subject, &["r".into()], now);
        if accepts {
            accept(ledger, file, now);
        }
    }

    fn accept(ledger: &Ledger, file: &Connection, now: Timestamp) {
        for due in ledger::due(file, &ledger.destinations()[0], now, 1_000).unwrap() {
            ledger.accepted(file, due.number, now).unwrap();
        }
    }

    fn column(file: &Connection, sql: &str) -> Vec<String> {
        let mut rows = file.prepare(sql).unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_is_over_for_more_than_a_year_and_told_is_forgotten_with_all_of_it_and_nothing_else_is() {
        let limit = Rate { count: 2, per: Duration::from_secs(60) };
        let (file, ledger) = (file(), ledger(Some(limit)));
        // Two by themselves, and two by a digest, of which one goes on.
        for subject in ["single", "other", "held", "on"] {
            happens(&ledger, &file, State::Firing, subject, true, at(0));
        }
        ledger.make_digests(&file, at(5)).unwrap();
        accept(&ledger, &file, at(5));
        for (subject, now) in [("single", 100), ("other", 101), ("held", 102)] {
            happens(&ledger, &file, State::Resolved, subject, true, at(now));
        }
        happens(&ledger, &file, State::Firing, "later", true, at(1_000));
        happens(&ledger, &file, State::Resolved, "later", true, at(1_001));
        happens(&ledger, &file, State::Firing, "untold", true, at(1_100));
        happens(&ledger, &file, State::Resolved, "untold", false, at(1_101));

        let places = "SELECT place FROM incident ORDER BY opened_at, place";
        assert!(!some(&file, at(100) + KEPT).unwrap());
        assert_eq!(column(&file, places).len(), 6, "a day too early");
        assert!(!some(&file, at(200) + KEPT).unwrap());
        assert_eq!(column(&file, places), ["on", "later", "untold"]);
        let told = "SELECT DISTINCT subject FROM symptom ORDER BY subject";
        assert_eq!(column(&file, told), ["later", "on", "untold"]);
        let digests = "SELECT id FROM notification WHERE is_digest";
        assert_eq!(column(&file, digests).len(), 1, "it tells of what goes on");

        // The rest but what is owed.
        happens(&ledger, &file, State::Resolved, "on", false, at(2_000));
        for due in ledger::due(&file, &ledger.destinations()[0], at(3_000), 9).unwrap() {
            if !due.body.contains("untold") {
                ledger.accepted(&file, due.number, at(3_000)).unwrap();
            }
        }
        assert!(!some(&file, at(4_000) + KEPT).unwrap());
        assert_eq!(column(&file, places), ["untold"]);
        let whose = "SELECT DISTINCT json_extract(body, '$.place') FROM notification";
        assert_eq!(column(&file, whose), ["untold"], "and the digest with the last of it");
    }

    #[test]
    fn of_very_much_some_is_forgotten_at_a_time() {
        let (file, ledger) = (file(), ledger(None));
        for number in 0..250 {
            for (state, now) in [(State::Firing, at(number)), (State::Resolved, at(number + 1))] {
                happens(&ledger, &file, state, &format!("l{number}"), true, now);
            }
        }
        let steps: Vec<bool> = (0..3).map(|_| some(&file, at(1_000) + KEPT).unwrap()).collect();
        assert_eq!(steps, [true, true, false]);
        let left = column(&file, "SELECT id FROM incident UNION ALL SELECT id FROM notification");
        assert_eq!(left, [""; 0]);
        let mut next = Next::new(Instant::now());
        let hour = next.0;
        next.looked(true, hour);
        assert!(!next.is_due(hour) && next.is_due(hour + SOON), "judging goes on before the rest");
        next.looked(false, hour);
        assert!(!next.is_due(hour) && next.is_due(hour + EVERY));
    }
}
