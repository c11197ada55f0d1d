//! The end of what a digest told, and a page of its own after that.

use super::pair::{Word, accepted_by, words};
use super::*;

const NAMES: [&str; 1] = ["r"];

/// The incident of this place, with this verdict by now.
fn event(file: &Connection, place: &str, kind: Kind) -> Event {
    let saved = crate::incident::saved(file).unwrap().into_iter();
    let incidents = saved.map(|(_, saved)| serde_json::from_str::<Incident>(&saved).unwrap());
    let mut incident = incidents.into_iter().find(|of| of.place.name() == place).unwrap();
    incident.verdict.kind = kind;
    Event { incident, what: What::Refined, evidence: Vec::new() }
}

/// Four fire; the limit lets two be told, and a digest tells of `a` and `b`. A minute after there is room for two more.
fn held(ledger: &Ledger, file: &Connection) {
    for subject in ["single", "other", "a", "b"] {
        happens(ledger, file, State::Firing, subject, &NAMES.map(Name::from), at(0));
    }
    accepted_by(ledger, file, at(0));
    ledger.make_digests(file, at(5)).unwrap();
    accepted_by(ledger, file, at(5));
}

fn ends(ledger: &Ledger, file: &Connection, subject: &str, now: Timestamp) {
    happens(ledger, file, State::Resolved, subject, &[], now);
}

fn limited() -> Receiver {
    receiver("r", Some(Rate { count: 2, per: Duration::from_secs(60) }))
}

#[test]
fn what_a_digest_told_and_a_page_of_its_own_then_has_the_end_of_each() {
    let (file, ledger) = (file(), Ledger::new(&[limited()]));
    let to = &ledger.destinations()[0];
    held(&ledger, &file);
    // A webhook is told no more of it by itself, of which it was told nothing by itself.
    ledger.refined(&file, &event(&file, "a", Kind::Lossy), at(100)).unwrap();
    assert_eq!(accept_all(&file, to, at(100)), []);
    let worse = event(&file, "a", Kind::LinkLost);
    ledger.worse(&file, &worse, None, at(101)).unwrap();
    let page = accept_all(&file, to, at(101)).remove(0);
    assert!(page.text.starts_with("WORSE link-lost a: "), "{page:?}");
    ends(&ledger, &file, "a", at(200));
    let told = accept_all(&file, to, at(200));
    let [end] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&*end.id, &*end.state), (&*page.id, "resolved"), "though b fires on");
    ends(&ledger, &file, "b", at(300));
    let told = accept_all(&file, to, at(300));
    let [end] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&*end.rule, &*end.state), (AT_MOST, "resolved"), "b was told by the digest alone");
}

#[test]
fn the_end_of_the_others_digest_is_not_that_of_the_page_which_it_told_afterwards() {
    // Which of the words comes last.
    for last in ["the digest's end", "the digest"] {
        let (first, one) = (Ledger::new(&[limited()]).beside(Rank::First), file());
        let (second, other) = (Ledger::new(&[receiver("r", None)]).beside(Rank::Second), file());
        held(&first, &one);
        for subject in ["a", "b"] {
            happens(&second, &other, State::Firing, subject, &NAMES.map(Name::from), at(0));
        }
        for (ledger, file) in [(&first, &one), (&second, &other)] {
            ledger.worse(file, &event(file, "a", Kind::LinkLost), None, at(101)).unwrap();
        }
        accepted_by(&first, &one, at(101));
        for subject in ["a", "b"] {
            ends(&first, &one, subject, at(200));
        }
        // It dies when it has told the end of the digest.
        for due in due(&one, &first.destinations()[0], at(200), 9).unwrap() {
            if serde_json::from_str::<Body>(&due.body).unwrap().rule == AT_MOST {
                first.accepted(&one, due.number, at(200)).unwrap();
            }
        }
        let is_last =
            |word: &&Word| if last == "the digest" { word.held.is_some() } else { word.state == "resolved" };
        let words = words(&one);
        let (late, soon): (Vec<&Word>, Vec<&Word>) = words.iter().partition(is_last);
        assert_eq!(
            (late.len(), words.iter().filter(|of| of.state == "resolved").count()),
            (1, 1),
            "{words:#?}"
        );
        soon.into_iter().for_each(|word| assert!(second.heard(&other, word, at(150)).unwrap()));
        ends(&second, &other, "a", at(200));
        late.into_iter().for_each(|word| assert!(second.heard(&other, word, at(201)).unwrap()));
        let told = accept_all(&other, &second.destinations()[0], at(400));
        let ends: Vec<(&str, &str)> = told.iter().map(|of| (&*of.place, &*of.state)).collect();
        assert!(ends.contains(&("a", "resolved")), "{last}: {ends:?}");
    }
}
