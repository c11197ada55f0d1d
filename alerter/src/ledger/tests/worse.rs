//! What only worked less well and is down now: each receiver is paged for it, once.

use super::pair::{accepted_by, two, words};
use super::*;
use crate::catch_up::Due as DueNow;

const NAME: &str = "r";

/// The one incident that is open, with this verdict by now.
fn event(file: &Connection, kind: Kind, what: What) -> Event {
    let (_, saved) = crate::incident::saved(file).unwrap().remove(0);
    let mut incident: Incident = serde_json::from_str(&saved).unwrap();
    incident.verdict.kind = kind;
    Event { incident, what, evidence: Vec::new() }
}

fn worse(ledger: &Ledger, file: &Connection, kept: Option<&Kept>, now: Timestamp) {
    ledger.worse(file, &event(file, Kind::LinkLost, What::Worse), kept, now).unwrap();
}

/// A symptom of it tells these receivers, kept back or not.
fn fires(ledger: &Ledger, file: &Connection, kind: Kind, to: &[&str], kept: Option<&Kept>, now: Timestamp) {
    let event = event(file, kind, What::Refined);
    let names: Vec<Name> = to.iter().map(|&name| name.into()).collect();
    ledger.fired(file, &event, &event.incident.symptoms[0], &names, kept, now).unwrap();
}

/// What was kept back is due, of an incident of this kind by now.
fn release(ledger: &Ledger, file: &Connection, kind: Kind, now: Timestamp) {
    let event = event(file, kind, What::Refined);
    let telling = Telling { symptom: &event.incident.symptoms[0], receivers: &[NAME.into()], muted: None };
    ledger.release(file, &event, &[telling], DueNow::ALL, now).unwrap();
}

/// An incident of which nobody was told is open.
fn begun(file: &Connection) {
    crate::testing::happens(file, State::Firing, "l", at(0));
}

fn ends(ledger: &Ledger, file: &Connection, now: Timestamp) {
    happens(ledger, file, State::Resolved, "l", &[], now);
}

/// The first words of what is accepted.
fn told(file: &Connection, to: &Destination, now: Timestamp) -> Vec<String> {
    let words = |body: Body| body.text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    accept_all(file, to, now).into_iter().map(words).collect()
}

fn by_phone() -> Ledger {
    let mut receiver = receiver(NAME, None);
    (receiver.webhook, receiver.console) = (None, true);
    Ledger::new(&[receiver])
}

#[test]
fn an_outage_after_a_silence_or_a_catch_up_pages_though_it_was_down_within_it() {
    for kept in [Kept::Muted("swap (1)".to_owned()), Kept::Behind] {
        let (file, ledger) = (file(), by_phone());
        let to = &ledger.destinations()[0];
        begun(&file);
        fires(&ledger, &file, Kind::LinkLost, &[NAME], Some(&kept), at(0));
        release(&ledger, &file, Kind::Slow, at(10));
        assert_eq!(told(&file, to, at(10)), ["FIRING slow"], "{kept:?}");
        worse(&ledger, &file, None, at(20));
        assert_eq!(told(&file, to, at(20)), ["WORSE link-lost"]);
        worse(&ledger, &file, None, at(30));
        assert_eq!(told(&file, to, at(30)), [""; 0], "once an incident");
        ends(&ledger, &file, at(40));
        assert_eq!(told(&file, to, at(40)).len(), 1);
    }
}

#[test]
fn an_outage_that_was_told_as_such_from_the_first_is_no_worse() {
    // A receiver that only the rule names which takes it down, one for whom the page is not accepted yet, and one for
    // whom a silence was over by that.
    let muted = Kept::Muted("swap (1)".to_owned());
    for kept in [None, Some(&muted)] {
        let (file, ledger) = (file(), by_phone());
        let to = &ledger.destinations()[0];
        begun(&file);
        if kept.is_some() {
            fires(&ledger, &file, Kind::Slow, &[NAME], kept, at(0));
        }
        fires(&ledger, &file, Kind::LinkLost, &[NAME], None, at(1));
        worse(&ledger, &file, None, at(1));
        assert_eq!(told(&file, to, at(1)), ["FIRING link-lost"], "{kept:?}");
        worse(&ledger, &file, None, at(9));
        assert_eq!(told(&file, to, at(9)), [""; 0], "{kept:?}");
    }
}

#[test]
fn what_was_worse_within_a_silence_and_is_not_at_its_end_is_told_once_it_is_again() {
    for kept in [Kept::Muted("swap (1)".to_owned()), Kept::Behind] {
        for again in [false, true] {
            let (file, ledger) = (file(), by_phone());
            let to = &ledger.destinations()[0];
            begun(&file);
            fires(&ledger, &file, Kind::Slow, &[NAME], None, at(0));
            assert_eq!(told(&file, to, at(0)), ["FIRING slow"]);
            // Twice within it is once, too.
            worse(&ledger, &file, Some(&kept), at(1));
            worse(&ledger, &file, Some(&kept), at(2));
            release(&ledger, &file, Kind::Slow, at(3));
            assert_eq!(told(&file, to, at(3)), [""; 0], "nothing that is not so any more");
            assert_eq!(super::super::kept(&file).unwrap().len(), 0);
            if again {
                worse(&ledger, &file, None, at(4));
                assert_eq!(told(&file, to, at(4)), ["WORSE link-lost"], "{kept:?}");
            }
            ends(&ledger, &file, at(5));
            assert_eq!(told(&file, to, at(5)).len(), 1, "the end of what was told before");
            assert_eq!(totals(&file).unwrap(), Totals::default());
        }
    }
}

#[test]
fn what_is_worse_when_nobody_mutes_it_any_more_is_told_in_place_of_what_was_kept_back() {
    let (file, ledger) = (file(), by_phone());
    let to = &ledger.destinations()[0];
    begun(&file);
    fires(&ledger, &file, Kind::Slow, &[NAME], None, at(0));
    assert_eq!(told(&file, to, at(0)).len(), 1);
    worse(&ledger, &file, Some(&Kept::Muted("swap (1)".to_owned())), at(1));
    worse(&ledger, &file, None, at(2));
    assert_eq!(told(&file, to, at(2)), ["WORSE link-lost"]);
    release(&ledger, &file, Kind::LinkLost, at(3));
    assert_eq!((told(&file, to, at(3)), super::super::kept(&file).unwrap().len()), (Vec::new(), 0));
}

#[test]
fn that_it_is_worse_is_not_given_up_for_what_is_known_a_little_later() {
    let (file, ledger) = (file(), Ledger::new(&[receiver(NAME, None)]));
    let to = &ledger.destinations()[0];
    begun(&file);
    fires(&ledger, &file, Kind::Slow, &[NAME], None, at(0));
    assert_eq!(told(&file, to, at(0)), ["FIRING slow"]);
    worse(&ledger, &file, None, at(1));
    ledger.refined(&file, &event(&file, Kind::TunnelsDown, What::Refined), at(2)).unwrap();
    ledger.refined(&file, &event(&file, Kind::BlackHole, What::Refined), at(9)).unwrap();
    let told = accept_all(&file, to, at(10));
    let said: Vec<(&str, bool)> = told.iter().map(|of| (&of.text[..7], of.worse)).collect();
    assert_eq!(said, [("WORSE l", true), ("FIRING ", true)], "which belongs to it");
    assert_eq!(told[1].verdict, Some(Kind::BlackHole));
}

#[test]
fn whom_the_limit_kept_from_being_told_anything_is_told_that_it_is_down() {
    for room in [false, true] {
        let limit = Rate { count: 1, per: Duration::from_secs(60) };
        let (file, ledger) = (file(), Ledger::new(&[receiver(NAME, Some(limit))]));
        let to = &ledger.destinations()[0];
        happens(&ledger, &file, State::Firing, "other", &[NAME.into()], at(0));
        happens(&ledger, &file, State::Resolved, "other", &[], at(0));
        assert_eq!(told(&file, to, at(0)).len(), 1);
        begun(&file);
        fires(&ledger, &file, Kind::Slow, &[NAME], None, at(1));
        let now = if room { at(61) } else { at(2) };
        worse(&ledger, &file, None, now);
        if room {
            assert_eq!(told(&file, to, now), ["FIRING link-lost"], "by itself, and not worse than nothing");
            ends(&ledger, &file, at(122));
            assert_eq!(told(&file, to, at(122)), ["RESOLVED collector-blind"]);
        } else {
            assert_eq!(told(&file, to, now), [""; 0]);
            ledger.make_digests(&file, at(6)).unwrap();
            let told = accept_all(&file, to, at(6));
            let held = told[0].held.as_ref().unwrap().iter().find(|of| of.place == "l").unwrap();
            assert_eq!((&*held.state, held.verdict), ("firing", Some(Kind::LinkLost)));
            worse(&ledger, &file, None, at(100));
            assert_eq!(accept_all(&file, to, at(100)), []);
        }
    }
}

#[test]
fn that_it_is_worse_is_told_by_one_of_two_and_by_the_second_where_only_that_is_not_said_to_be_told() {
    // Whether the first says so, or dies before it can; and a page of before that is accepted only when it is worse already.
    for says in [false, true] {
        let [(first, one), (second, other)] = two();
        let to = &second.destinations()[0];
        for (ledger, file) in [(&first, &one), (&second, &other)] {
            begun(file);
            fires(ledger, file, Kind::Slow, &[NAME], None, at(0));
            worse(ledger, file, None, at(2));
        }
        let number = due(&one, &first.destinations()[0], at(3), 1).unwrap()[0].number;
        first.accepted(&one, number, at(3)).unwrap();
        if says {
            accepted_by(&first, &one, at(4));
        }
        words(&one).iter().for_each(|word| assert!(second.heard(&other, word, at(5)).unwrap()));
        let expected: &[&str] = if says { &[] } else { &["WORSE link-lost"] };
        assert_eq!(told(&other, to, at(60)), expected);
        worse(&second, &other, None, at(70));
        assert_eq!(told(&other, to, at(200)), [""; 0], "not again by either");
    }
}

#[test]
fn what_only_refines_at_the_first_is_not_that_it_is_worse() {
    for heard_before in [false, true] {
        let [(first, one), (second, other)] = two();
        for (ledger, file) in [(&first, &one), (&second, &other)] {
            begun(file);
            fires(ledger, file, Kind::Slow, &[NAME], None, at(0));
        }
        first.refined(&one, &event(&one, Kind::Lossy, What::Refined), at(1)).unwrap();
        accepted_by(&first, &one, at(2));
        accepted_by(&first, &one, at(2));
        let hear = || words(&one).iter().for_each(|word| assert!(second.heard(&other, word, at(4)).unwrap()));
        if heard_before {
            hear();
        }
        worse(&second, &other, None, at(3));
        if !heard_before {
            hear();
        }
        assert_eq!(told(&other, &second.destinations()[0], at(100)), ["WORSE link-lost"], "{heard_before}");
    }
}
