//! Incidents: one rule's breach for one subject, from firing to resolved.
//!
//! `unknown` and `ok` open and close nothing: a subject that fires again when its data returns is still in the
//! incident it was in before.

use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

/// The namespace of the ids made here (RFC 9562, section 5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_2c0e_8a57_5b0c_9e64_43d1_5c0f_7a21);

/// An incident, as far as a notification tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incident {
    /// The same for the same breach, however often it is judged.
    pub(crate) id: String,
    /// The rule.
    pub(crate) rule: Name,
    /// Whom it was judged for.
    pub(crate) subject: Name,
    /// The subject's link; empty for a subject that belongs to none.
    pub(crate) link: Name,
}

/// Applies a transition. Gives the incident it opened (`firing`) or closed (`resolved`), if it did.
pub(crate) fn apply(file: &Connection, transition: &Transition) -> rusqlite::Result<Option<Incident>> {
    match transition.state {
        State::Firing => open(file, transition),
        State::Resolved => close(
            file,
            &transition.rule,
            &transition.subject,
            transition.at,
            transition.value,
            &transition.reason,
        ),
        State::Unknown | State::Ok => Ok(None),
    }
}

fn open(file: &Connection, transition: &Transition) -> rusqlite::Result<Option<Incident>> {
    let Transition { at, rule, subject, .. } = transition;
    let incident = Incident {
        id: id(&[rule, subject, &at.to_string()]),
        rule: rule.clone(),
        subject: subject.clone(),
        link: transition.link.clone().unwrap_or_else(|| "".into()),
    };
    // What is open already stays so, and what was judged before is not opened again.
    let opened = file
        .prepare_cached(
            "INSERT OR IGNORE INTO incident (id, rule, subject, link, fired_at, value, reason)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            incident.id,
            incident.rule,
            incident.subject,
            incident.link,
            at.as_micros(),
            transition.value,
            transition.reason
        ])?;
    Ok((opened == 1).then_some(incident))
}

/// Closes the open incident of a rule's subject, if there is one.
pub(crate) fn close(
    file: &Connection,
    rule: &str,
    subject: &str,
    at: Timestamp,
    value: Option<f64>,
    reason: &str,
) -> rusqlite::Result<Option<Incident>> {
    file.prepare_cached(
        "UPDATE incident SET resolved_at = ?3, resolved_value = ?4, resolved_reason = ?5
         WHERE rule = ?1 AND subject = ?2 AND resolved_at IS NULL
         RETURNING id, rule, subject, link",
    )?
    .query_row(params![rule, subject, at.as_micros(), value, reason], read)
    .optional()
}

/// Every incident that is open, oldest first.
pub(crate) fn all_open(file: &Connection) -> rusqlite::Result<Vec<Incident>> {
    file.prepare_cached(
        "SELECT id, rule, subject, link FROM incident WHERE resolved_at IS NULL ORDER BY fired_at",
    )?
    .query_map([], read)?
    .collect()
}

/// How many incidents are open.
pub(crate) fn count_open(file: &Connection) -> rusqlite::Result<i64> {
    file.prepare_cached("SELECT count(*) FROM incident WHERE resolved_at IS NULL")?
        .query_row([], |row| row.get(0))
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Incident> {
    Ok(Incident { id: row.get(0)?, rule: row.get(1)?, subject: row.get(2)?, link: row.get(3)? })
}

/// A name-based id (UUID version 5) of these parts.
pub(crate) fn id(parts: &[&str]) -> String {
    Uuid::new_v5(&NAMESPACE, parts.join("\0").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Connection {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(crate::schema::TABLES).unwrap();
        file
    }

    fn transition(state: State, secs: i64) -> Transition {
        Transition {
            at: Timestamp::from_secs(secs),
            state,
            rule: "ping-failed".into(),
            rule_index: 0,
            subject: "l/a/icmp:10.0.0.1".into(),
            link: Some("l".into()),
            value: Some(0.0),
            reason: "3 of 3 lost".into(),
        }
    }

    #[test]
    fn an_incident_lasts_from_firing_to_resolved_whatever_is_unknown_between() {
        let file = file();
        let opened = apply(&file, &transition(State::Firing, 10)).unwrap().unwrap();
        for (state, secs) in
            [(State::Unknown, 20), (State::Firing, 30), (State::Unknown, 40), (State::Ok, 41)]
        {
            assert_eq!(apply(&file, &transition(state, secs)).unwrap(), None, "{state:?}");
        }
        assert_eq!(all_open(&file).unwrap(), std::slice::from_ref(&opened));
        assert_eq!(apply(&file, &transition(State::Resolved, 50)).unwrap(), Some(opened.clone()));
        assert_eq!(apply(&file, &transition(State::Resolved, 51)).unwrap(), None);
        let next = apply(&file, &transition(State::Firing, 60)).unwrap().unwrap();
        assert_ne!(next.id, opened.id);
    }

    #[test]
    fn judging_the_same_data_again_names_and_opens_nothing_new() {
        let (file, again) = (self::file(), self::file());
        let first = apply(&file, &transition(State::Firing, 10)).unwrap().unwrap();
        apply(&file, &transition(State::Resolved, 50)).unwrap();
        assert_eq!(apply(&file, &transition(State::Firing, 10)).unwrap(), None);
        assert_eq!(all_open(&file).unwrap(), []);
        assert_eq!(apply(&again, &transition(State::Firing, 10)).unwrap(), Some(first));
    }
}
