//! Two ledgers of the same receivers through hours of trouble, while both live and while now the one, now the other is dead.

use std::collections::VecDeque;

use super::pair::{Word, words};
use super::*;
use crate::catch_up::Due as DueNow;

/// One of two alerters, as far as its ledger goes.
struct One {
    ledger: Ledger,
    file: Connection,
    /// Until when it is dead.
    away: Option<Timestamp>,
    /// It reads what came while it was away.
    behind: bool,
    /// What its queue holds, and when the queue took it.
    queue: VecDeque<(Timestamp, Came)>,
    begun: Timestamp,
}

/// What comes of a queue.
#[derive(Clone, Debug)]
enum Came {
    Happens(State, String),
    Told(Box<Word>),
}

const NAMES: [&str; 2] = ["free", "limited"];

impl One {
    fn new(rank: Rank) -> Self {
        let limit = Rate { count: 2, per: Duration::from_secs(600) };
        let receivers = [receiver("free", None), receiver("limited", Some(limit))];
        let ledger = Ledger::new(&receivers).beside(rank);
        let begun = at(0);
        Self { ledger, file: file(), away: None, behind: false, queue: VecDeque::new(), begun }
    }

    fn is_up(&self) -> bool {
        self.away.is_none()
    }

    /// Nothing is left to be told.
    fn is_done(&self) -> bool {
        let all_over = crate::incident::count_open(&self.file).unwrap() == 0;
        self.is_up() && self.queue.is_empty() && all_over && totals(&self.file).unwrap() == Totals::default()
    }

    /// It reads some of its queue.
    fn read(&mut self, most: usize, now: Timestamp) {
        let names = NAMES.map(Name::from);
        for _ in 0..most {
            let Some((sent, came)) = self.queue.pop_front() else { break };
            let past = self.behind || now.since(sent) > crate::catch_up::OLD_BESIDE;
            match came {
                Came::Told(word) => {
                    self.ledger.heard(&self.file, &word, now).unwrap();
                }
                Came::Happens(state, subject) => {
                    // By the clock of whoever saw it.
                    for event in crate::testing::happens(&self.file, state, &subject, sent) {
                        let kept = past.then_some(&Kept::Behind);
                        match &event.what {
                            What::Opened(symptom) => {
                                self.ledger.fired(&self.file, &event, symptom, &names, kept, now).unwrap();
                            }
                            What::Closed(ended) => {
                                self.ledger.resolved(&self.file, &event, ended, past, now).unwrap();
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
        }
        self.behind &= !self.queue.is_empty();
        let due =
            if self.queue.is_empty() { DueNow::ALL } else { DueNow::behind(now.since(self.begun), now) };
        for (_, saved) in crate::incident::saved(&self.file).unwrap() {
            let incident: Incident = serde_json::from_str(&saved).unwrap();
            let symptom = incident.symptoms[0].clone();
            let event = Event { incident, what: What::Joined(symptom.clone()), evidence: Vec::new() };
            let telling = Telling { symptom: &symptom, receivers: &names, muted: None };
            self.ledger.release(&self.file, &event, &[telling], due, now).unwrap();
        }
        self.ledger.release_ended(&self.file, due, now).unwrap();
        self.ledger.make_digests(&self.file, now).unwrap();
    }

    /// Takes what is to be told out of its outbox.
    fn outbox(&self) -> Vec<Word> {
        let words = words(&self.file);
        self.file.execute("DELETE FROM outbox", []).unwrap();
        words
    }
}

/// What a receiver got: by whom, when, on which channel, and what.
type Got = (usize, Timestamp, Name, Body);

/// Lives through a time of both; gives what was got, and at which seconds somebody died between acceptance and telling.
fn live(seed: u64, dies: bool) -> (Vec<Got>, usize, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut both = [One::new(Rank::First), One::new(Rank::Second)];
    let (mut got, mut firing, mut opened, mut cut) = (Vec::new(), [false; 6], 0, 0);
    let trouble = 300 + rng.i64(0..900);
    // Then all ends and is told: limits hold for ten minutes.
    for second in 0..trouble + 20_000 {
        let (now, quiet) = (at(second), second > trouble);
        if quiet && second % 30 != 0 {
            continue;
        }
        if quiet && both.iter().all(One::is_done) {
            break;
        }
        if !quiet && rng.u8(..12) == 0 || quiet && firing.contains(&true) {
            let subject = match firing.iter().position(|firing| *firing).filter(|_| quiet) {
                Some(subject) => subject,
                None => rng.usize(..6),
            };
            firing[subject] = !firing[subject];
            opened += usize::from(firing[subject]);
            let state = if firing[subject] { State::Firing } else { State::Resolved };
            both.iter_mut()
                .for_each(|one| one.queue.push_back((now, Came::Happens(state, format!("s{subject}")))));
        }
        // One of them dies, but not while the other is away, for then nobody pages; and comes back.
        let somebody_away = both.iter().any(|one| !one.is_up());
        if dies && !quiet && !somebody_away && rng.u16(..150) == 0 {
            let one = &mut both[rng.usize(..2)];
            one.away = Some(now + Duration::from_secs(rng.u64(1..600)));
        }
        for one in &mut both {
            if one.away.is_some_and(|until| until <= now || quiet) {
                (one.away, one.behind, one.begun) = (None, true, now);
            }
        }
        for number in 0..2 {
            if !both[number].is_up() {
                continue;
            }
            let most = rng.usize(0..20);
            both[number].read(if quiet { 10_000 } else { most }, now);
            let ledger = both[number].ledger.clone();
            for to in ledger.destinations() {
                for due in due(&both[number].file, to, now, 4).unwrap() {
                    if dies && !quiet && rng.u8(..10) == 0 {
                        failed(&both[number].file, &due, "refused", Duration::ZERO, now).unwrap();
                        continue;
                    }
                    got.push((number, now, to.receiver.clone(), serde_json::from_str(&due.body).unwrap()));
                    ledger.accepted(&both[number].file, due.number, now).unwrap();
                }
            }
            // The one case: it dies between acceptance and telling, and the word is told when it is back.
            let words = both[number].outbox();
            if dies && !quiet && !words.is_empty() && both.iter().all(One::is_up) && rng.u8(..30) == 0 {
                cut += words.len();
                both[number].away = Some(now + Duration::from_secs(rng.u64(1..600)));
            }
            for word in words {
                both[1 - number].queue.push_back((now, Came::Told(Box::new(word))));
            }
        }
    }
    for one in &both {
        assert!(one.is_done(), "seed {seed}: {:?}", totals(&one.file));
    }
    (got, opened, cut)
}

/// How often each incident's firing and end were told to a receiver.
fn counts(got: &[Got], receiver: &str) -> HashMap<String, [usize; 2]> {
    let mut counts: HashMap<String, [usize; 2]> = HashMap::new();
    let its = || got.iter().filter(|(_, _, to, _)| **to == *receiver).map(|(.., body)| body);
    for body in its() {
        match &body.held {
            None if body.rule == AT_MOST => {
                let of =
                    its().filter(|digest| digest.id == body.id).filter_map(|digest| digest.held.as_ref());
                let mut ids = std::collections::HashSet::new();
                for held in of.flatten().filter(|held| held.state == "firing" && ids.insert(held.id.clone()))
                {
                    counts.entry(held.id.clone()).or_default()[1] += 1;
                }
            }
            None => counts.entry(body.id.clone()).or_default()[usize::from(body.state == "resolved")] += 1,
            Some(held) => {
                for held in held.iter().filter(|held| held.rule != AT_MOST) {
                    let counts = counts.entry(held.id.clone()).or_default();
                    if held.state == "firing" {
                        counts[0] += 1;
                    } else {
                        counts[0] = counts[0].max(1);
                        counts[1] += 1;
                    }
                }
                // A digest's own end may be held back into another.
                for end in held.iter().filter(|held| held.rule == AT_MOST) {
                    let of =
                        its().filter(|digest| digest.id == end.id).filter_map(|digest| digest.held.as_ref());
                    for held in of.flatten().filter(|held| held.state == "firing") {
                        counts.entry(held.id.clone()).or_default()[1] += 1;
                    }
                }
            }
        }
    }
    counts
}

/// What a receiver got of an incident.
fn story(got: &[Got], receiver: &str, id: &str) -> Vec<String> {
    let its = got.iter().filter(|(_, _, to, _)| **to == *receiver);
    let holds = |body: &Body| body.held.iter().flatten().any(|held| held.id == id);
    let digests: Vec<&str> =
        its.clone().filter(|(.., body)| holds(body)).map(|(.., body)| &*body.id).collect();
    let of_it = |body: &Body| {
        body.id == id
            || holds(body)
            || digests.contains(&&*body.id)
            || body.held.iter().flatten().any(|held| digests.contains(&&*held.id))
    };
    its.filter(|(.., body)| of_it(body)).map(|(by, at, _, body)| format!("{by} at {at}: {body:?}")).collect()
}

#[test]
fn while_both_live_each_incident_is_told_once_and_by_the_first() {
    for seed in 0..3 {
        let (got, opened, _) = live(seed, false);
        assert!(got.iter().all(|(by, ..)| *by == 0), "seed {seed}: the second had nothing to say");
        for receiver in NAMES {
            let counts = counts(&got, receiver);
            assert_eq!(counts.len(), opened, "seed {seed}");
            for (id, count) in counts {
                assert_eq!(count, [1, 1], "seed {seed}, {receiver}: {id}");
            }
        }
    }
}

#[test]
fn whichever_dies_each_incident_is_told_and_ends_and_twice_only_where_a_word_was_cut_off() {
    let (mut cut, mut by_second) = (0, 0);
    for seed in 100..106 {
        let (got, opened, words) = live(seed, true);
        cut += words;
        by_second += got.iter().filter(|(by, ..)| *by == 1).count();
        for receiver in NAMES {
            let counts = counts(&got, receiver);
            assert_eq!(counts.len(), opened, "seed {seed}, {receiver}: nothing goes untold");
            let twice: Vec<&String> = counts
                .iter()
                .filter(|(_, count)| count.iter().any(|count| *count > 1))
                .map(|(id, _)| id)
                .collect();
            assert!(
                counts.values().all(|[firing, resolved]| *firing > 0 && *resolved > 0),
                "seed {seed}: {counts:?}"
            );
            // A word may be of a digest that has several.
            let heard = twice.first().map(|id| story(&got, receiver, id));
            assert!(
                twice.is_empty() || words > 0,
                "seed {seed}, {receiver}: twice, and no word cut off: {heard:#?}"
            );
        }
    }
    assert!(cut > 0 && by_second > 0, "{cut} {by_second}");
}
