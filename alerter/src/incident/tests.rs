use crosswatch_judge::State;

use super::*;
use crate::testing::{file, happens};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn an_incident_lasts_from_firing_to_resolved_whatever_is_unknown_between() {
    let file = file();
    let opened = happens(&file, State::Firing, "l", at(10)).remove(0).incident;
    for (state, secs) in [(State::Unknown, 20), (State::Firing, 30), (State::Unknown, 40), (State::Ok, 41)] {
        assert_eq!(happens(&file, state, "l", at(secs)), [], "{state:?}");
    }
    assert_eq!(count_open(&file).unwrap(), 1);
    assert_eq!(firing_since(&file, "ping-failed", "l").unwrap(), Some(at(10)));
    let closed = happens(&file, State::Resolved, "l", at(50));
    assert!(
        matches!(&closed[..], [Event { incident, what: What::Closed(_), .. }] if incident.id == opened.id)
    );
    assert_eq!(happens(&file, State::Resolved, "l", at(51)), []);
    assert_eq!((count_open(&file).unwrap(), firing_since(&file, "ping-failed", "l").unwrap()), (0, None));
    assert_ne!(happens(&file, State::Firing, "l", at(60))[0].incident.id, opened.id);
}

#[test]
fn judging_the_same_data_again_names_nothing_new() {
    let (file, again) = (self::file(), self::file());
    let first = happens(&file, State::Firing, "l", at(10)).remove(0).incident;
    happens(&file, State::Resolved, "l", at(50));
    assert_eq!(happens(&file, State::Firing, "l", at(10)).remove(0).incident.id, first.id);
    assert_eq!(happens(&again, State::Firing, "l", at(10)).remove(0).incident.id, first.id);
}

#[test]
fn what_was_open_by_rule_and_subject_is_ended_and_told_to_be() {
    let file = Connection::open_in_memory().unwrap();
    file.execute_batch(crate::schema::TABLES).unwrap();
    file.execute_batch(
        r#"INSERT INTO incident (id, rule, subject, link, fired_at, reason) VALUES
               ('1', 'ping-failed', 'l/a/p', 'l', 1, '3 of 3 lost'), ('2', 'site-silent', 'a', '', 2, 'nothing');
           UPDATE incident SET resolved_at = 3, resolved_reason = 'heard again' WHERE id = '2';
           INSERT INTO notification (id, state, receiver, channel, body, is_digest, standing, created, next_try) VALUES
               ('1', 'firing', 'r', 'webhook', '{"id":"1","state":"firing","rule":"ping-failed","subject":"l/a/p"}', 0,
                'accepted', 1, 1),
               ('2', 'firing', 'r', 'webhook', '{}', 0, 'accepted', 1, 1);"#,
    )
    .unwrap();
    file.execute_batch(crate::schema::BY_LINK).unwrap();
    assert_eq!(count_open(&file).unwrap(), 0);
    let owed: String = file
        .query_row(
            "SELECT group_concat(id || state || body) FROM notification WHERE standing = 'owed'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(owed.starts_with("1resolved{") && owed.contains("the program was upgraded"), "{owed}");
}
