//! What fires while the alerter is behind.

use super::*;
use crate::catch_up::{CATCH_UP, Due, ENDED, KEPT};

const NAMES: [&str; 1] = ["r"];

/// The rule fires for a subject by what had lain in the queue for long, or ends.
fn past(ledger: &Ledger, file: &Connection, state: State, subject: &str, now: Timestamp) {
    let names = NAMES.map(Name::from);
    for event in crate::testing::happens(file, state, subject, now) {
        match &event.what {
            What::Opened(symptom) => {
                ledger.fired(file, &event, symptom, &names, Some(&Kept::Behind), now).unwrap();
            }
            What::Closed(ended) => ledger.resolved(file, &event, ended, false, now).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// What is due is told as it is now, of all that is open.
fn release(ledger: &Ledger, file: &Connection, muted: Option<&str>, due: Due, now: Timestamp) {
    let names = NAMES.map(Name::from);
    for (_, saved) in crate::incident::saved(file).unwrap() {
        let incident: Incident = serde_json::from_str(&saved).unwrap();
        let symptom = incident.symptoms[0].clone();
        let event = Event { incident, what: What::Joined(symptom.clone()), evidence: Vec::new() };
        let telling = Telling { symptom: &symptom, receivers: &names, muted: muted.map(str::to_owned) };
        ledger.release(file, &event, &[telling], due, now).unwrap();
    }
    ledger.release_ended(file, due, now).unwrap();
    ledger.make_digests(file, now).unwrap();
}

fn told(file: &Connection, to: &Destination, now: Timestamp) -> Vec<String> {
    accept_all(file, to, now).into_iter().map(|body| body.text).collect()
}

#[test]
fn what_began_and_ended_meanwhile_is_one_digest_and_what_still_burns_pages_once() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
    let to = &ledger.destinations()[0];
    past(&ledger, &file, State::Firing, "burns", at(0));
    for (second, subject) in [(1, "one"), (3, "two"), (5, "one")] {
        past(&ledger, &file, State::Firing, subject, at(second));
        past(&ledger, &file, State::Resolved, subject, at(second + 1));
    }
    release(&ledger, &file, None, Due::behind(KEPT, at(7)), at(7));
    assert_eq!(told(&file, to, at(7)), [""; 0], "there is more to read");
    assert_eq!(totals(&file).unwrap().held, 7);

    release(&ledger, &file, None, Due::ALL, at(8));
    assert_eq!(told(&file, to, at(8)), ["FIRING collector-blind burns: burns 3 of 3 lost (ping-failed)"]);
    assert_eq!(ledger.next_digest(&file, at(8)).unwrap(), Some(at(13)));
    release(&ledger, &file, None, Due::ALL, at(13));
    let digest = accept_all(&file, to, at(13));
    let [digest] = digest.as_slice() else { panic!("{digest:?}") };
    assert_eq!((&*digest.rule, &*digest.state, digest.value), (CATCH_UP, "resolved", Some(3.0)));
    assert_eq!(
        digest.text,
        "RESOLVED catch-up r: 3 began and ended while the alerter was behind: one collector-blind, two collector-blind, one collector-blind"
    );

    happens(&ledger, &file, State::Resolved, "burns", &NAMES.map(Name::from), at(20));
    assert_eq!(told(&file, to, at(20)).len(), 1, "and what was paged has its end");
    assert_eq!(totals(&file).unwrap(), Totals::default());
}

#[test]
fn a_queue_that_is_never_read_to_its_end_keeps_nothing_back_for_ever() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
    let to = &ledger.destinations()[0];
    past(&ledger, &file, State::Firing, "over", at(0));
    past(&ledger, &file, State::Firing, "burns", at(1));
    past(&ledger, &file, State::Resolved, "over", at(2));
    let all = |now: Timestamp| {
        release(&ledger, &file, None, Due::behind(now.since(at(0)), now), now);
        told(&file, to, now).len()
    };
    assert_eq!([all(at(0) + KEPT), all(at(1) + KEPT)], [0, 1], "each page a minute after it was kept back");
    let until = at(2) + ENDED;
    assert_eq!([all(at(500)), all(until), all(until + Duration::from_secs(5))], [0, 0, 1]);
    // A start says nothing of how long it was kept back.
    past(&ledger, &file, State::Firing, "later", at(1_000));
    release(&ledger, &file, None, Due::behind(Duration::from_secs(1), at(9_000)), at(9_000));
    assert_eq!(told(&file, to, at(9_000)), [""; 0]);
}

#[test]
fn a_rule_that_fires_in_the_present_pages_at_once_whatever_is_kept_back() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
    let to = &ledger.destinations()[0];
    past(&ledger, &file, State::Firing, "l", at(0));
    happens(&ledger, &file, State::Firing, "other", &NAMES.map(Name::from), at(1));
    assert_eq!(waiting(&file, to, at(1)), [("firing".to_owned(), "other".to_owned())]);
    // One that joins what is kept back.
    let (_, saved) = crate::incident::saved(&file).unwrap().remove(0);
    let incident: Incident = serde_json::from_str(&saved).unwrap();
    let symptom = incident.symptoms[0].clone();
    let joined = Event { incident, what: What::Joined(symptom.clone()), evidence: Vec::new() };
    ledger.fired(&file, &joined, &symptom, &NAMES.map(Name::from), None, at(2)).unwrap();
    assert_eq!(waiting(&file, to, at(2)).len(), 2);
}

#[test]
fn what_a_silence_covers_by_then_is_muted_and_not_told_by_a_digest() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
    let to = &ledger.destinations()[0];
    past(&ledger, &file, State::Firing, "l", at(0));
    release(&ledger, &file, Some("swap (1)"), Due::ALL, at(1));
    past(&ledger, &file, State::Resolved, "l", at(2));
    release(&ledger, &file, Some("swap (1)"), Due::ALL, at(10));
    assert_eq!(told(&file, to, at(10)), [""; 0]);
    assert_eq!((totals(&file).unwrap(), kept(&file).unwrap().len()), (Totals::default(), 0));
}

#[test]
fn what_the_limit_has_no_room_for_is_in_the_same_digest() {
    let limit = Rate { count: 1, per: Duration::from_secs(3600) };
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", Some(limit))]));
    let to = &ledger.destinations()[0];
    for subject in ["over", "first", "second"] {
        past(&ledger, &file, State::Firing, subject, at(0));
    }
    past(&ledger, &file, State::Resolved, "over", at(1));
    release(&ledger, &file, None, Due::ALL, at(2));
    release(&ledger, &file, None, Due::ALL, at(7));
    let told = accept_all(&file, to, at(7));
    let [page, digest] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&*page.rule, &*digest.rule, digest.value), ("ping-failed", AT_MOST, Some(2.0)));
    assert_eq!(digest.reason, "2 held back, 1 firing: second collector-blind, over collector-blind");
}

#[test]
fn a_page_of_before_ends_and_what_got_worse_meanwhile_is_told_once_it_is_known_to_be_so() {
    for ends in [false, true] {
        let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
        let to = &ledger.destinations()[0];
        happens(&ledger, &file, State::Firing, "l", &NAMES.map(Name::from), at(0));
        accept_all(&file, to, at(0));
        let (_, saved) = crate::incident::saved(&file).unwrap().remove(0);
        let mut incident: Incident = serde_json::from_str(&saved).unwrap();
        incident.verdict.kind = Kind::LinkLost;
        crate::incident::save(&file, &incident).unwrap();
        let worse = Event { incident, what: What::Worse, evidence: Vec::new() };
        ledger.worse(&file, &worse, Some(&Kept::Behind), at(1)).unwrap();
        assert_eq!(told(&file, to, at(1)), [""; 0]);
        if ends {
            past(&ledger, &file, State::Resolved, "l", at(2));
        }
        release(&ledger, &file, None, Due::ALL, at(3));
        let told = told(&file, to, at(3));
        assert!(told.len() == 1 && told[0].starts_with(if ends { "RESOLVED" } else { "WORSE" }), "{told:?}");
    }
}
