use std::collections::HashMap;
use std::time::Duration;

use crosswatch_judge::State;
use crosswatch_judge::incident::{Incident, What};
use crosswatch_judge::verdict::Kind;
use crosswatch_shared::config::values::Rate;
use proptest::prelude::*;

use super::tries::Totals;
use super::*;
use crate::config::{Secret, Template};
use crate::testing::{file, happens_to as happens};

mod behind;
mod ends;
mod lives;
mod pair;
mod worse;

const LIMIT: Rate = Rate { count: 10, per: Duration::from_secs(3600) };

fn receiver(name: &str, at_most: Option<Rate>) -> Receiver {
    Receiver {
        name: name.into(),
        sms: Vec::new(),
        texting: crate::config::Texting::default(),
        topic: None,
        webhook: Some(Secret::Value("http://127.0.0.1:1/".to_owned())),
        template: Template::Plain,
        command: Vec::new(),
        console: false,
        at_most,
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn waiting(file: &Connection, to: &Destination, now: Timestamp) -> Vec<(String, String)> {
    due(file, to, now, 5_000)
        .unwrap()
        .into_iter()
        .map(|due| (due.state, serde_json::from_str::<Body>(&due.body).unwrap().subject))
        .collect()
}

fn accept_all(file: &Connection, to: &Destination, now: Timestamp) -> Vec<Body> {
    let mut bodies = Vec::new();
    loop {
        let due = due(file, to, now, 5_000).unwrap();
        if due.is_empty() {
            return bodies;
        }
        for due in due {
            accepted(file, due.number, now).unwrap();
            bodies.push(serde_json::from_str(&due.body).unwrap());
        }
    }
}

#[test]
fn the_body_is_the_documented_json() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
    happens(&ledger, &file, State::Firing, "l/a/p", &["r".into()], at(0));
    let due = due(&file, &ledger.destinations()[0], at(0), 1).unwrap();
    let id = &due[0].id;
    let at = "1970-01-01T00:00:00.000000Z";
    assert_eq!(
        due[0].body,
        format!(
            r#"{{"id":"{id}","state":"firing","rule":"ping-failed","subject":"l/a/p","link":"l/a/p","at":"{at}","value":0.0,"reason":"3 of 3 lost","text":"FIRING collector-blind l/a/p: a/p 3 of 3 lost (ping-failed)","place":"l/a/p","verdict":"collector-blind","summary":"a/p 3 of 3 lost","since":"{at}","symptoms":[{{"rule":"ping-failed","subject":"l/a/p","at":"{at}","reason":"3 of 3 lost"}}]}}"#
        )
    );
}

#[test]
fn what_is_known_later_is_told_to_webhooks_alone_and_what_is_worse_to_all() {
    let mut both = receiver("r", None);
    both.command = vec!["true".to_owned()];
    let (file, ledger) = (file(), Ledger::new(&[both]));
    let [webhook, command] = ledger.destinations() else { panic!() };
    happens(&ledger, &file, State::Firing, "l", &["r".into()], at(0));
    let known = |kind: Kind| {
        let (_, saved) = crate::incident::saved(&file).unwrap().remove(0);
        let mut incident: Incident = serde_json::from_str(&saved).unwrap();
        incident.verdict.kind = kind;
        Event { incident, what: What::Refined, evidence: Vec::new() }
    };
    ledger.refined(&file, &known(Kind::BlackHole), at(1)).unwrap();
    let kinds = |to: &Destination, now| {
        let bodies = accept_all(&file, to, now);
        bodies.into_iter().map(|body| (body.verdict.unwrap(), body.revision)).collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(webhook, at(1)),
        [(Kind::CollectorBlind, 0), (Kind::BlackHole, 1)],
        "as it was known, in order"
    );
    assert_eq!(kinds(command, at(1)), [(Kind::CollectorBlind, 0)]);
    ledger.refined(&file, &known(Kind::OneWay), at(2)).unwrap();
    ledger.refined(&file, &known(Kind::TunnelsDown), at(3)).unwrap();
    assert_eq!(kinds(webhook, at(3)), [(Kind::TunnelsDown, 3)], "the last that is known, once");
    assert_eq!(kinds(command, at(3)), []);
    ledger.worse(&file, &known(Kind::LinkLost), None, at(4)).unwrap();
    assert_eq!(kinds(command, at(4)), [(Kind::LinkLost, 1)]);
    ledger.refined(&file, &known(Kind::OneWay), at(5)).unwrap();
    happens(&ledger, &file, State::Resolved, "l", &["r".into()], at(6));
    for to in [webhook, command] {
        let states: Vec<String> = accept_all(&file, to, at(6)).into_iter().map(|body| body.state).collect();
        assert_eq!(states, ["resolved"], "what refines is not told after the end");
    }
}

#[test]
fn what_becomes_worse_within_a_silence_is_told_once_it_is_over_unless_it_ends_before() {
    let standing = |file: &Connection| -> Vec<(u32, String)> {
        let mut rows = file.prepare("SELECT revision, standing FROM notification ORDER BY number").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    for ends in [false, true] {
        let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
        let to = &ledger.destinations()[0];
        happens(&ledger, &file, State::Firing, "l", &["r".into()], at(0));
        accept_all(&file, to, at(0));
        let (_, saved) = crate::incident::saved(&file).unwrap().remove(0);
        let mut incident: Incident = serde_json::from_str(&saved).unwrap();
        incident.verdict.kind = Kind::LinkLost;
        let symptom = incident.symptoms[0].clone();
        let worse = Event { incident, what: What::Worse, evidence: Vec::new() };
        ledger.worse(&file, &worse, Some(&Kept::Muted("swap (1)".to_owned())), at(1)).unwrap();
        assert_eq!(accept_all(&file, to, at(1)), []);
        if ends {
            happens(&ledger, &file, State::Resolved, "l", &["r".into()], at(2));
            let told: Vec<String> = accept_all(&file, to, at(2)).into_iter().map(|of| of.state).collect();
            assert_eq!(told, ["resolved"], "it was told of before");
            assert_eq!(standing(&file)[1], (1, "abandoned".to_owned()));
        } else {
            let telling = Telling { symptom: &symptom, receivers: &["r".into()], muted: None };
            ledger.release(&file, &worse, &[telling], catch_up::Due::ALL, at(2)).unwrap();
            let told = accept_all(&file, to, at(2));
            assert!(told.len() == 1 && told[0].text.starts_with("WORSE"), "{told:?}");
            assert_eq!(kept(&file).unwrap().len(), 0);
        }
    }
}

#[test]
fn what_only_refines_is_never_held_back() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", Some(Rate { count: 1, ..LIMIT }))]));
    let to = &ledger.destinations()[0];
    happens(&ledger, &file, State::Firing, "l", &["r".into()], at(0));
    accept_all(&file, to, at(0));
    let (_, saved) = crate::incident::saved(&file).unwrap().remove(0);
    let incident: Incident = serde_json::from_str(&saved).unwrap();
    let refined = Event { incident, what: What::Refined, evidence: Vec::new() };
    ledger.refined(&file, &refined, at(1)).unwrap();
    assert_eq!(totals(&file).unwrap(), Totals::default());
    ledger.refined(&file, &refined, at(3600)).unwrap();
    assert_eq!(accept_all(&file, to, at(3600)).len(), 1, "there is room again");
}

#[test]
fn each_channel_is_owed_a_firing_and_then_a_resolved() {
    let mut both = receiver("r", None);
    both.command = vec!["true".to_owned()];
    let (file, ledger) = (file(), Ledger::new(&[both, receiver("other", None)]));
    let [webhook, command, other] = ledger.destinations() else { panic!() };
    let names = ["r".into()];
    happens(&ledger, &file, State::Firing, "s", &names, at(0));
    assert_eq!(waiting(&file, webhook, at(0)), [("firing".to_owned(), "s".to_owned())]);
    assert_eq!(waiting(&file, other, at(0)), []);
    accept_all(&file, command, at(0));
    happens(&ledger, &file, State::Resolved, "s", &names, at(1));
    let resolved = [("resolved".to_owned(), "s".to_owned())];
    assert_eq!(waiting(&file, command, at(1)), resolved);
    let first = due(&file, webhook, at(1), 9).unwrap();
    assert_eq!(first.len(), 1, "the resolved waits until the firing was accepted");
    failed(&file, &first[0], "500", Duration::ZERO, at(1)).unwrap();
    assert_eq!(waiting(&file, webhook, at(1)), [], "also while the firing pauses");
    accepted(&file, first[0].number, at(2)).unwrap();
    assert_eq!(waiting(&file, webhook, at(2)), resolved);
    assert_eq!(waiting(&file, other, at(9)), []);
}

#[test]
fn tries_grow_rarer_up_to_a_minute_and_never_end() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", None)]));
    happens(&ledger, &file, State::Firing, "s", &["r".into()], at(0));
    let to = &ledger.destinations()[0];
    let mut now = at(0);
    for most in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let due = due(&file, to, now, 1).unwrap();
        failed(&file, &due[0], "refused", Duration::ZERO, now).unwrap();
        let next = next_try(&file, to, now).unwrap().unwrap();
        let pause = next.since(now);
        assert!(pause <= Duration::from_secs(most), "{pause:?} is more than {most} s");
        assert!(pause >= Duration::from_secs(most) * 3 / 4, "{pause:?} is far less than {most} s");
        now = next;
    }
}

#[test]
fn a_clock_set_back_by_a_year_does_not_keep_anything_waiting_for_one() {
    let limited = receiver("r", Some(Rate { count: 1, ..LIMIT }));
    let (file, ledger) = (file(), Ledger::new(&[limited]));
    let to = &ledger.destinations()[0];
    let year = 31_536_000;
    let names = ["r".into()];
    happens(&ledger, &file, State::Firing, "sent", &names, at(year));
    accept_all(&file, to, at(year));
    happens(&ledger, &file, State::Firing, "held", &names, at(year));
    clock_set_back(&file, at(0)).unwrap();
    assert_eq!(ledger.next_digest(&file, at(0)).unwrap(), Some(at(5)));
    ledger.make_digests(&file, at(5)).unwrap();
    assert_eq!(waiting(&file, to, at(5)).len(), 1);
    happens(&ledger, &file, State::Firing, "later", &names, at(3600));
    assert_eq!(waiting(&file, to, at(3600)).len(), 2);
}

#[test]
fn what_is_owed_to_nobody_any_more_is_abandoned() {
    let (file, before) = (file(), Ledger::new(&[receiver("r", None), receiver("gone", None)]));
    happens(&before, &file, State::Firing, "s", &["r".into(), "gone".into()], at(0));
    let after = Ledger::new(&[receiver("r", None)]);
    assert_eq!(after.abandon(&file).unwrap(), [("gone".to_owned(), "webhook".to_owned(), 1)]);
    assert_eq!(after.abandon(&file).unwrap(), []);
    assert_eq!(totals(&file).unwrap().owed, 1);
}

#[test]
fn a_thousand_at_once_are_ten_and_one_digest_each_way() {
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", Some(LIMIT))]));
    let to = &ledger.destinations()[0];
    let names = ["r".into()];
    let subjects: Vec<String> = (0..1_000).map(|number| format!("l/a/{number}")).collect();
    for subject in &subjects {
        happens(&ledger, &file, State::Firing, subject, &names, at(0));
    }
    assert_eq!(accept_all(&file, to, at(0)).len(), 10);
    assert_eq!(ledger.next_digest(&file, at(0)).unwrap(), Some(at(5)));
    ledger.make_digests(&file, at(5)).unwrap();
    let sent = accept_all(&file, to, at(5));
    let [digest] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((&*digest.rule, &*digest.subject, &*digest.link), (AT_MOST, "r", ""));
    assert_eq!((&*digest.state, digest.value), ("firing", Some(990.0)));
    assert_eq!(
        digest.text,
        "FIRING at-most r: 990 held back, 990 firing: l/a/10 collector-blind, l/a/11 collector-blind, l/a/12 collector-blind, l/a/13 collector-blind, l/a/14 collector-.."
    );
    assert_eq!(digest.held.as_ref().unwrap().len(), 990);

    // All resolve within the hour: ten resolved and the digest's own are owed, and all are held back.
    for subject in &subjects {
        happens(&ledger, &file, State::Resolved, subject, &names, at(600));
    }
    assert_eq!(accept_all(&file, to, at(600)), []);
    assert_eq!(ledger.next_digest(&file, at(600)).unwrap(), Some(at(3605)), "one digest an hour");
    ledger.make_digests(&file, at(3605)).unwrap();
    let sent = accept_all(&file, to, at(3605));
    let [end] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((&*end.state, end.value), ("resolved", Some(11.0)));
    let held = end.held.as_ref().unwrap();
    assert!(held.iter().any(|held| held.id == digest.id && held.state == "resolved"));
    assert_eq!(totals(&file).unwrap(), Totals::default());
}

#[test]
fn a_digest_resolves_once_all_that_it_told_have_and_not_before() {
    let limited = receiver("r", Some(Rate { count: 2, ..LIMIT }));
    let (file, ledger) = (file(), Ledger::new(&[limited]));
    let (to, names) = (&ledger.destinations()[0], ["r".into()]);
    for subject in ["single", "held-1", "held-2"] {
        happens(&ledger, &file, State::Firing, subject, &names, at(0));
        if subject == "single" {
            // Takes the second place.
            happens(&ledger, &file, State::Resolved, subject, &names, at(0));
        }
    }
    accept_all(&file, to, at(0));
    ledger.make_digests(&file, at(5)).unwrap();
    let digest = accept_all(&file, to, at(5)).remove(0);
    happens(&ledger, &file, State::Resolved, "held-1", &names, at(4000));
    assert_eq!(waiting(&file, to, at(4000)), [], "held-2 fires on");
    happens(&ledger, &file, State::Resolved, "held-2", &names, at(4001));
    let sent = accept_all(&file, to, at(4001));
    let [end] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((&*end.id, &*end.state), (&*digest.id, "resolved"));
    assert_eq!(end.reason, "all 2 that were held back have resolved");
}

#[test]
fn an_end_that_is_held_back_waits_for_its_page_too() {
    let limit = Rate { count: 1, per: Duration::from_secs(60) };
    let (file, ledger) = (file(), Ledger::new(&[receiver("r", Some(limit))]));
    let [to] = ledger.destinations() else { panic!() };
    happens(&ledger, &file, State::Firing, "s", &["r".into()], at(0));
    happens(&ledger, &file, State::Resolved, "s", &["r".into()], at(1));
    happens(&ledger, &file, State::Firing, "other", &["r".into()], at(2));
    ledger.make_digests(&file, at(10)).unwrap();
    // A receiver that takes what is newest first, as one that recovers may.
    let first = due(&file, to, at(10), 9).unwrap();
    let [page, digest] = first.as_slice() else { panic!("{first:?}") };
    let subjects = |due: &Due| -> Vec<(String, String)> {
        let held = serde_json::from_str::<Body>(&due.body).unwrap().held.unwrap();
        held.into_iter().map(|held| (held.subject, held.state)).collect()
    };
    assert_eq!(subjects(digest), [("other".to_owned(), "firing".to_owned())]);
    accepted(&file, digest.number, at(11)).unwrap();
    assert_eq!(ledger.next_digest(&file, at(80)).unwrap(), None, "the page was not accepted yet");
    accepted(&file, page.number, at(80)).unwrap();
    assert_eq!(ledger.next_digest(&file, at(80)).unwrap(), Some(at(71)));
    ledger.make_digests(&file, at(80)).unwrap();
    let second = due(&file, to, at(80), 9).unwrap();
    assert_eq!(subjects(&second[0]), [("s".to_owned(), "resolved".to_owned())]);
}

#[test]
fn what_began_and_ended_while_held_is_told_once_as_resolved() {
    let limited = receiver("r", Some(Rate { count: 1, ..LIMIT }));
    let (file, ledger) = (file(), Ledger::new(&[limited]));
    let (to, names) = (&ledger.destinations()[0], ["r".into()]);
    happens(&ledger, &file, State::Firing, "first", &names, at(0));
    happens(&ledger, &file, State::Firing, "short", &names, at(0));
    happens(&ledger, &file, State::Resolved, "short", &names, at(2));
    accept_all(&file, to, at(2));
    ledger.make_digests(&file, at(5)).unwrap();
    let sent = accept_all(&file, to, at(5));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].state, "resolved", "nothing that the digest tells of fires");
    assert_eq!(sent[0].held.as_ref().unwrap().len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Toggle(usize),
    Pass(u64),
    /// The receivers accept up to so many.
    Accept(usize),
    /// The receivers refuse once.
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8usize).prop_map(Step::Toggle),
        2 => (0..90u64).prop_map(Step::Pass),
        2 => (1..5usize).prop_map(Step::Accept),
        1 => Just(Step::Refuse),
    ]
}

proptest! {
    /// Whatever happens in whatever order: every incident is told once on every channel, firing before resolved, each
    /// delivered firing gets its resolved, and no span sees more than the limit.
    #[test]
    fn told_once_in_order_in_pairs_and_within_the_limit(
        steps in proptest::collection::vec(step(), 0..60),
        count in 1..4u32,
    ) {
        let limit = Rate { count, per: Duration::from_secs(60) };
        let ledger = Ledger::new(&[receiver("free", None), receiver("limited", Some(limit))]);
        let names: [Name; 2] = ["free".into(), "limited".into()];
        let (file, mut now, mut firing) = (file(), at(0), [false; 8]);
        let mut opened = 0;
        let mut got: Vec<Vec<(Timestamp, Body)>> = vec![Vec::new(); 2];
        // In the end all is well and the receivers accept everything.
        let mut steps: std::collections::VecDeque<Step> = steps.into();
        let mut ending = 60;
        loop {
            let step = steps.pop_front().unwrap_or_else(|| {
                ending -= 1;
                match (firing.iter().position(|&firing| firing), ending % 2) {
                    (Some(subject), _) => Step::Toggle(subject),
                    (None, 0) => Step::Pass(61),
                    _ => Step::Accept(100),
                }
            });
            if ending == 0 {
                break;
            }
            match step {
                Step::Toggle(subject) => {
                    now = now + Duration::from_micros(1);
                    firing[subject] = !firing[subject];
                    opened += usize::from(firing[subject]);
                    let state = if firing[subject] { State::Firing } else { State::Resolved };
                    happens(&ledger, &file, state, &format!("s{subject}"), &names, now);
                }
                Step::Pass(secs) => now = now + Duration::from_secs(secs),
                Step::Accept(most) => for (to, got) in ledger.destinations().iter().zip(&mut got) {
                    for due in due(&file, to, now, most).unwrap() {
                        accepted(&file, due.number, now).unwrap();
                        got.push((now, serde_json::from_str(&due.body).unwrap()));
                    }
                },
                Step::Refuse => for to in ledger.destinations() {
                    for due in due(&file, to, now, 1).unwrap() {
                        failed(&file, &due, "refused", Duration::ZERO, now).unwrap();
                    }
                },
            }
            ledger.make_digests(&file, now).unwrap();
        }
        prop_assert_eq!(totals(&file).unwrap(), Totals::default());
        for got in &got {
            let mut told: HashMap<&str, Vec<&str>> = HashMap::new();
            for (_, body) in got {
                told.entry(&body.id).or_default().push(&body.state);
            }
            for (_, body) in got {
                for held in body.held.iter().flatten() {
                    let states = told.entry(&held.id).or_default();
                    if held.state == "resolved" || states.is_empty() {
                        states.push(&held.state);
                    }
                }
            }
            let digests = got.iter().filter(|(_, body)| body.held.is_some()).map(|(_, body)| &*body.id);
            let digests: std::collections::HashSet<&str> = digests.collect();
            prop_assert_eq!(told.keys().filter(|id| !digests.contains(**id)).count(), opened);
            for (_, body) in got.iter().filter(|(_, body)| body.state == "firing") {
                prop_assert_eq!(&told[&*body.id], &["firing", "resolved"], "of {:?}", body);
            }
        }
        let limited = &got[1];
        for (end, _) in limited {
            let within = limited.iter().filter(|(at, _)| at <= end && *end < *at + limit.per);
            let (digests, singles): (Vec<_>, Vec<_>) = within.partition(|(_, body)| body.held.is_some());
            prop_assert!(singles.len() <= count as usize && digests.len() <= 1);
        }
    }
}
