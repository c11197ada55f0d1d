//! Two ledgers of the same receivers: what one has told is done for the other, and what nobody has told is told.

use crosswatch_judge::Transition;
pub(super) use crosswatch_shared::told::Told as Word;
use rusqlite::params;

use super::*;
use crate::peer::{PATIENCE, STILL};
use crate::testing::{becomes, owes};

/// Both have a file, and the second the first's words.
pub(super) fn two() -> [(Ledger, Connection); 2] {
    [Rank::First, Rank::Second].map(|rank| (Ledger::new(&[receiver("r", None)]).beside(rank), file()))
}

pub(super) fn words(file: &Connection) -> Vec<Word> {
    let mut rows = file.prepare("SELECT told FROM outbox ORDER BY number").unwrap();
    let words = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
    words.map(|word| serde_json::from_str(&word.unwrap()).unwrap()).collect()
}

#[test]
fn the_second_waits_half_a_minute_and_pages_what_the_first_does_not_say_to_have_paged() {
    let [(first, one), (second, other)] = two();
    let (to, names) = (&second.destinations()[0], ["r".into()]);
    for subject in ["told", "untold"] {
        happens(&first, &one, State::Firing, subject, &names, at(0));
        happens(&second, &other, State::Firing, subject, &names, at(0));
    }
    let its = due(&one, &first.destinations()[0], at(0), 9).unwrap();
    assert_eq!(its.len(), 2, "the first does not wait");
    assert!(first.accepted(&one, its[0].number, at(1)).unwrap());
    assert!(!first.accepted(&one, its[0].number, at(1)).unwrap(), "it is told once");
    let words = words(&one);
    assert_eq!(words.len(), 1);
    assert!(second.heard(&other, &words[0], at(2)).unwrap());
    assert!(!second.heard(&other, &words[0], at(2)).unwrap());
    assert_eq!(waiting(&other, to, at(29)), []);
    assert_eq!(waiting(&other, to, at(0) + PATIENCE), [("firing".to_owned(), "untold".to_owned())]);
    // Its end is owed, too, and waits as long.
    happens(&second, &other, State::Resolved, "told", &names, at(100));
    assert_eq!(waiting(&other, to, at(129)).len(), 1);
    assert!(waiting(&other, to, at(130)).contains(&("resolved".to_owned(), "told".to_owned())));
}

#[test]
fn a_word_that_comes_before_what_it_is_of_is_kept_for_it() {
    let [(first, one), (second, other)] = two();
    let names = ["r".into()];
    happens(&first, &one, State::Firing, "l", &names, at(0));
    accepted_by(&first, &one, at(1));
    happens(&first, &one, State::Resolved, "l", &names, at(2));
    accepted_by(&first, &one, at(3));
    words(&one).iter().for_each(|word| assert!(second.heard(&other, word, at(4)).unwrap()));
    happens(&second, &other, State::Firing, "l", &names, at(0));
    happens(&second, &other, State::Resolved, "l", &names, at(2));
    assert_eq!(totals(&other).unwrap(), Totals::default());
}

pub(super) fn accepted_by(ledger: &Ledger, file: &Connection, now: Timestamp) {
    for to in ledger.destinations() {
        for due in due(file, to, now, 100).unwrap() {
            ledger.accepted(file, due.number, now).unwrap();
        }
    }
}

#[test]
fn an_incident_that_began_otherwise_here_is_known_by_its_place_and_ends_by_the_id_that_its_receiver_has() {
    for heard_before in [false, true] {
        let [(first, one), (second, other)] = two();
        let (to, names) = (&second.destinations()[0], ["r".into()]);
        happens(&first, &one, State::Firing, "l", &names, at(0));
        accepted_by(&first, &one, at(1));
        let word = words(&one).remove(0);
        if heard_before {
            second.heard(&other, &word, at(3)).unwrap();
        }
        // Another symptom was the first here.
        happens(&second, &other, State::Firing, "l", &names, at(4));
        if !heard_before {
            second.heard(&other, &word, at(5)).unwrap();
        }
        assert_eq!(totals(&other).unwrap().owed, 0, "one page");
        happens(&second, &other, State::Resolved, "l", &names, at(50));
        let end = accept_all(&other, to, at(50) + PATIENCE).remove(0);
        assert_eq!((end.id.as_str(), end.state.as_str()), (word.id.as_str(), "resolved"));
        // What happens there hours later is something else.
        happens(&second, &other, State::Firing, "l", &names, at(100));
        assert_eq!(totals(&other).unwrap().owed, 1);
    }
}

#[test]
fn what_the_first_told_to_be_over_before_another_began_at_the_place_is_not_taken_for_it() {
    for in_a_digest in [false, true] {
        let at_most = in_a_digest.then_some(Rate { count: 1, per: Duration::from_secs(20) });
        let (first, one) = (Ledger::new(&[receiver("r", at_most)]).beside(Rank::First), file());
        let names = ["r".into()];
        // The first alone saw it.
        for subject in ["single", "l", "m"] {
            happens(&first, &one, State::Firing, subject, &names, at(0));
        }
        first.make_digests(&one, at(5)).unwrap();
        accepted_by(&first, &one, at(6));
        for subject in ["single", "l", "m"] {
            happens(&first, &one, State::Resolved, subject, &names, at(60));
        }
        accepted_by(&first, &one, at(61));
        first.make_digests(&one, at(70)).unwrap();
        accepted_by(&first, &one, at(71));
        let words = words(&one);
        assert_eq!(words.iter().any(|word| word.held.is_some()), in_a_digest);
        // A queue keeps no order: a `firing` may come when its end is known, and what began here since.
        for last in [None, Some("l")] {
            let (second, other) = (Ledger::new(&[receiver("r", None)]).beside(Rank::Second), file());
            let is_last = |word: &&Word| {
                let places = word.held.iter().flatten().map(|of| &of.place).chain([&word.place]);
                last.is_some() && word.state == "firing" && places.into_iter().any(|place| *place == "l")
            };
            let (late, soon): (Vec<&Word>, Vec<&Word>) = words.iter().partition(is_last);
            soon.iter().for_each(|word| assert!(second.heard(&other, word, at(80)).unwrap()));
            happens(&second, &other, State::Firing, "l", &names, at(200));
            late.iter().for_each(|word| assert!(second.heard(&other, word, at(201)).unwrap()));
            let page = waiting(&other, &second.destinations()[0], at(200) + PATIENCE);
            assert_eq!(page, [("firing".to_owned(), "l".to_owned())], "{in_a_digest} {last:?}");
        }
        // What began before the end that is told is the same, however late it is read.
        let (second, other) = (Ledger::new(&[receiver("r", None)]).beside(Rank::Second), file());
        words.iter().for_each(|word| assert!(second.heard(&other, word, at(80)).unwrap()));
        happens(&second, &other, State::Firing, "l", &names, at(2));
        assert_eq!(totals(&other).unwrap(), Totals::default(), "{in_a_digest}");
    }
}

#[test]
fn who_is_about_to_tell_something_is_left_the_channel_and_hears_once_more_what_was_told_lately() {
    let [(first, one), (second, other)] = two();
    let (to, names) = (&second.destinations()[0], ["r".into()]);
    for subject in ["long ago", "lately"] {
        let now = if subject == "lately" { at(1_000) } else { at(0) };
        happens(&first, &one, State::Firing, subject, &names, now);
        happens(&second, &other, State::Firing, subject, &names, now);
        accepted_by(&first, &one, now);
    }
    assert_eq!(words(&one).len(), 2, "and neither comes");
    one.execute("DELETE FROM outbox", []).unwrap();
    announce(&other, to, at(1_020)).unwrap();
    announce(&other, to, at(1_023)).unwrap();
    let said = words(&other);
    assert_eq!(said.len(), 1, "the newest alone is worth telling");
    assert_eq!(others_turn(&one, to, at(1_024)).unwrap(), None);
    first.heard(&one, &said[0], at(1_024)).unwrap();
    assert_eq!(others_turn(&one, to, at(1_024)).unwrap(), Some(at(1_023) + STILL));
    let elsewhere = &Ledger::new(&[receiver("else", None)]).destinations()[0].clone();
    assert_eq!(others_turn(&one, elsewhere, at(1_024)).unwrap(), None);
    let again = words(&one);
    assert_eq!(again.len(), 1, "of what the other has long paged by itself nobody needs to hear");
    assert!(second.heard(&other, &again[0], at(1_025)).unwrap());
    assert_eq!(waiting(&other, to, at(1_025)).len(), 1, "what nobody is known to have told");
    // A question of yesterday asks nothing.
    one.execute("DELETE FROM outbox", []).unwrap();
    first.heard(&one, &said[0], at(1_200)).unwrap();
    assert_eq!(words(&one), []);
    assert_eq!(others_turn(&one, to, at(1_200)).unwrap(), None);
}

#[test]
fn the_end_of_what_only_a_digest_of_the_first_told_is_the_digests_and_is_told_once() {
    let limit = Rate { count: 1, per: Duration::from_secs(5) };
    let (first, one) = (Ledger::new(&[receiver("r", Some(limit))]).beside(Rank::First), file());
    let (second, other) = (Ledger::new(&[receiver("r", None)]).beside(Rank::Second), file());
    let (to, names) = (&second.destinations()[0], ["r".into()]);
    for subject in ["a", "b"] {
        happens(&first, &one, State::Firing, subject, &names, at(0));
        happens(&second, &other, State::Firing, subject, &names, at(0));
    }
    accepted_by(&first, &one, at(0));
    first.make_digests(&one, at(5)).unwrap();
    accepted_by(&first, &one, at(6));
    // It ends here before the word of the digest comes.
    happens(&second, &other, State::Resolved, "b", &names, at(8));
    words(&one).iter().for_each(|word| assert!(second.heard(&other, word, at(9)).unwrap()));
    let owed =
        |now| due(&other, to, now, 9).unwrap().into_iter().map(|due| (due.state, due.id)).collect::<Vec<_>>();
    let [(state, id)] = &owed(at(9) + PATIENCE)[..] else { panic!("{:?}", owed(at(9) + PATIENCE)) };
    assert_eq!(state, "resolved");
    assert!(
        other
            .query_row("SELECT is_digest FROM notification WHERE id = ? AND state = 'firing'", [id], |row| {
                row.get::<_, bool>(0)
            })
            .unwrap()
    );
    // And before it is told, the first does so.
    happens(&first, &one, State::Resolved, "b", &names, at(8));
    one.execute("DELETE FROM outbox", []).unwrap();
    accepted_by(&first, &one, at(10));
    words(&one).iter().for_each(|word| assert!(second.heard(&other, word, at(11)).unwrap()));
    assert_eq!(owed(at(100)), []);
}

#[test]
fn what_was_several_here_while_one_lasted_there_is_told_by_nobody_else() {
    let [(first, one), (second, other)] = two();
    let (to, names) = (&second.destinations()[0], ["r".into()]);
    happens(&first, &one, State::Firing, "l", &names, at(0));
    happens(&first, &one, State::Resolved, "l", &names, at(20));
    for (begin, end) in [(0, 5), (10, 20), (30, 40)] {
        happens(&second, &other, State::Firing, "l", &names, at(begin));
        happens(&second, &other, State::Resolved, "l", &names, at(end));
    }
    accepted_by(&first, &one, at(20));
    accepted_by(&first, &one, at(21));
    words(&one).iter().for_each(|word| assert!(second.heard(&other, word, at(41)).unwrap()));
    let left: Vec<_> =
        accept_all(&other, to, at(200)).iter().map(|body| (body.state.clone(), body.at)).collect();
    assert_eq!(left, [("firing".to_owned(), at(30)), ("resolved".to_owned(), at(40))]);
}

#[test]
fn what_was_over_here_before_the_first_saw_another_is_still_owed() {
    let [(first, one), (second, other)] = two();
    let (to, names) = (&second.destinations()[0], ["r".into()]);
    happens(&second, &other, State::Firing, "l", &names, at(0));
    happens(&second, &other, State::Resolved, "l", &names, at(10));
    happens(&first, &one, State::Firing, "l", &names, at(20));
    accepted_by(&first, &one, at(21));
    assert!(second.heard(&other, &words(&one)[0], at(22)).unwrap());
    assert_eq!(waiting(&other, to, at(30)), [("firing".to_owned(), "l".to_owned())]);
    happens(&second, &other, State::Firing, "l", &names, at(20));
    assert_eq!(totals(&other).unwrap().owed, 2, "its own page and end, and nothing of the first's");
}

#[test]
fn what_a_digest_of_the_first_told_is_in_none_of_the_second() {
    let limit = Rate { count: 1, per: Duration::from_secs(3600) };
    let [first, second] = [Rank::First, Rank::Second]
        .map(|rank| (Ledger::new(&[receiver("r", Some(limit))]).beside(rank), file()));
    let names = ["r".into()];
    for (ledger, file) in [&first, &second] {
        for subject in ["a", "b", "c"] {
            happens(ledger, file, State::Firing, subject, &names, at(0));
        }
        ledger.make_digests(file, at(5)).unwrap();
    }
    accepted_by(&first.0, &first.1, at(6));
    let words = words(&first.1);
    assert_eq!(words.len(), 2);
    words.iter().for_each(|word| assert!(second.0.heard(&second.1, word, at(7)).unwrap()));
    let to = &second.0.destinations()[0];
    assert_eq!(accept_all(&second.1, to, at(1_000)), []);
    for subject in ["b", "c"] {
        happens(&second.0, &second.1, State::Resolved, subject, &names, at(2_000));
    }
    second.0.make_digests(&second.1, at(4_000)).unwrap();
    let told = accept_all(&second.1, to, at(9_000));
    let digest = words.iter().find(|word| word.held.is_some()).unwrap();
    let [end] = told.as_slice() else { panic!("{told:?}") };
    let held = end.held.as_ref().map(|held| held[0].id.clone());
    assert_eq!(held.as_ref().unwrap_or(&end.id), &digest.id, "the end of the first's digest: {end:?}");
}

#[test]
fn a_digest_of_thousands_is_told_by_several_messages_and_whatever_part_comes_first_all_of_it_is_done() {
    const MANY: i64 = 2_500;
    let [(first, one), (second, other)] = two();
    let to = &first.destinations()[0];
    let members = |file: &Connection, standing: &str, digest: Option<&str>| {
        file.execute(
            "INSERT INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try, digest)
             WITH RECURSIVE each(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM each WHERE number < ?1)
             SELECT 'i' || number, 'firing', 0, 'r', 'webhook', json_object('id', 'i' || number, 'rule', 'ping-failed', 'place', 'l'),
                    0, ?2, 0, 0, ?3 FROM each",
            params![MANY, standing, digest],
        )
        .unwrap();
    };
    members(&one, "digested", Some("d"));
    members(&other, "owed", None);
    let body = Body::at_most("d", "firing", to, 2_500, at(0), "2500 held back".to_owned(), Some(Vec::new()));
    rows::owe(&one, &body, to, Message::Digest(at(0)), at(0)).unwrap();
    accepted_by(&first, &one, at(1));
    let words = words(&one);
    assert_eq!(words.len(), 3);
    for word in words.iter().rev() {
        assert!(serde_json::to_string(word).unwrap().len() < 512 << 10, "there is room for long names");
        assert!(second.heard(&other, word, at(2)).unwrap());
        assert!(!second.heard(&other, word, at(2)).unwrap());
    }
    let left: i64 = other
        .query_row("SELECT count(*) FROM notification WHERE NOT is_digest AND digest IS NOT 'd'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!((left, totals(&other).unwrap()), (0, Totals::default()));
}

#[test]
fn what_one_alone_had_paged_is_told_to_another_that_is_put_beside_it_once() {
    let (alone, one) = (Ledger::new(&[receiver("r", None)]), file());
    let names = ["r".into()];
    for subject in ["over", "burns"] {
        happens(&alone, &one, State::Firing, subject, &names, at(0));
    }
    happens(&alone, &one, State::Resolved, "over", &names, at(60));
    accepted_by(&alone, &one, at(61));
    accepted_by(&alone, &one, at(62));
    assert_eq!(words(&one), []);
    tell_before(&one, at(1_000)).unwrap();
    let words_of_before = words(&one);
    assert_eq!(words_of_before.len(), 3);
    one.execute("DELETE FROM outbox", []).unwrap();
    tell_before(&one, at(2_000)).unwrap();
    assert_eq!(words(&one), [], "only once");

    // The new one judges the same, out of what the collectors kept.
    let (second, other) = (Ledger::new(&[receiver("r", None)]).beside(Rank::Second), file());
    words_of_before.iter().for_each(|word| assert!(second.heard(&other, word, at(1_001)).unwrap()));
    for subject in ["over", "burns"] {
        happens(&second, &other, State::Firing, subject, &names, at(0));
    }
    happens(&second, &other, State::Resolved, "over", &names, at(60));
    assert_eq!(totals(&other).unwrap(), Totals::default());
}

#[test]
fn of_its_own_config_each_tells_itself_and_at_once() {
    let refused = |(ledger, file): &(Ledger, Connection), state: State, now: Timestamp| {
        let events = becomes(
            file,
            &Transition {
                at: now,
                state,
                rule: "config-refused".into(),
                rule_index: usize::MAX,
                subject: "crosswatch.toml".into(),
                link: None,
                value: None,
                reason: "line 3".to_owned(),
            },
        );
        owes(ledger, file, events, &["r".into()], now);
    };
    let limit = Rate { count: 1, per: Duration::from_secs(60) };
    let [first, second] = [Rank::First, Rank::Second]
        .map(|rank| (Ledger::new(&[receiver("r", Some(limit))]).beside(rank), file()));
    let page = |state: &str| [(state.to_owned(), "crosswatch.toml".to_owned())];
    refused(&first, State::Firing, at(0));
    accepted_by(&first.0, &first.1, at(0));
    assert_eq!(words(&first.1), [], "the other's file may be right");
    let to = &second.0.destinations()[0];
    refused(&second, State::Firing, at(4));
    rest_until(&second.1, at(60)).unwrap();
    assert_eq!(waiting(&second.1, to, at(4)), page("firing"));
    accepted_by(&second.0, &second.1, at(4));
    refused(&second, State::Resolved, at(70));
    assert_eq!(waiting(&second.1, to, at(70)), page("resolved"));

    // Nor is it among what a digest is said to have told.
    refused(&first, State::Resolved, at(1));
    happens(&first.0, &first.1, State::Firing, "l", &["r".into()], at(1));
    first.0.make_digests(&first.1, at(10)).unwrap();
    accepted_by(&first.0, &first.1, at(10));
    let words = words(&first.1);
    let [Word { held: Some(held), .. }] = words.as_slice() else { panic!("{words:?}") };
    assert_eq!(held.iter().map(|of| &*of.place).collect::<Vec<_>>(), ["l"]);
}
