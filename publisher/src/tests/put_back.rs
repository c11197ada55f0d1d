//! What replays put back counts once, whatever came before it or comes after it, and disturbs nothing.

use std::time::Duration;

use crosswatch_journal::Writer;
use crosswatch_queue::put_back;
use crosswatch_shared::observation::{Batch, Observation};
use crosswatch_shared::wire::{PutBack, encode_put_back};
use proptest::prelude::*;
use rusqlite::Connection;

use super::aggregate::{apply, brief, file, loaded, rows};
use super::cloudwatch::{append, assert_holds, begin, kept, minute, open};
use super::standin::StandIn;
use super::{KEEP, NOW, batch, contents, reply};
use crate::aggregate::{Aggregate, Done};
use crate::had;

const BATCHES: u64 = 20;
const EACH: u64 = 10;

/// A reply a second, ten a batch.
fn observations(seqs: std::ops::Range<u64>) -> Vec<Observation> {
    seqs.map(|seq| reply(seq.cast_signed(), (seq * 7919 % 61) as f64)).collect()
}

fn live(number: u64) -> Batch {
    let seqs = number * EACH..(number + 1) * EACH;
    batch("a", "1", number, seqs.end.cast_signed(), observations(seqs))
}

fn put_back(aggregate: &mut Aggregate, db: &mut Connection, seqs: std::ops::Range<u64>) -> Done {
    let all = PutBack { origin: live(0).origin, pages: false, observations: observations(seqs) };
    let tx = db.transaction().unwrap();
    let mut done = Done::default();
    aggregate.put_back(&tx, &[all], NOW, &mut done).unwrap();
    tx.commit().unwrap();
    done
}

/// What was measured, by metric: start, count, average, minimum and maximum.
fn measured(db: &Connection) -> Vec<(i64, u64, f64, f64, f64)> {
    let all = ["PingSuccess", "PingLatency"].into_iter().flat_map(|metric| rows(db, metric));
    all.map(|row| {
        let (start, count, average, ..) = brief(std::slice::from_ref(&row))[0];
        (start, count, (average * 1e9).round() / 1e9, row.minimum, row.maximum)
    })
    .collect()
}

fn event_times(db: &Connection) -> Vec<String> {
    contents(db).into_iter().filter(|line| line.starts_with('a')).collect()
}

proptest! {
    /// A publisher that was cut off now and then, with replays of anything at any time and a restart after each, has in
    /// the end what an undisturbed one has; and event time is at each moment what it is without replays.
    #[test]
    fn in_the_end_the_metrics_are_those_of_an_undisturbed_twin(
        lost in proptest::collection::vec(any::<bool>(), BATCHES as usize),
        replays in proptest::collection::vec((0..BATCHES, 0..BATCHES * EACH, 1..60_u64), 0..12),
    ) {
        let (mut db, mut without, mut twin) = (file(), file(), file());
        let (mut aggregate, mut plain, mut undisturbed) = (loaded(&db), loaded(&without), loaded(&twin));
        for number in 0..BATCHES {
            for (_, first, length) in replays.iter().filter(|(at, ..)| *at == number) {
                put_back(&mut aggregate, &mut db, *first..(first + length).min(BATCHES * EACH));
                aggregate = loaded(&db);
            }
            apply(&mut undisturbed, &mut twin, &[live(number)], NOW);
            if !lost[usize::try_from(number).unwrap()] {
                apply(&mut aggregate, &mut db, &[live(number)], NOW);
                apply(&mut plain, &mut without, &[live(number)], NOW);
            }
            prop_assert_eq!(event_times(&db), event_times(&without));
        }
        let last = batch("a", "1", BATCHES, 10_000, Vec::new());
        let due = NOW + Duration::from_secs(31);
        for (aggregate, db) in [(&mut aggregate, &mut db), (&mut undisturbed, &mut twin)] {
            apply(aggregate, db, std::slice::from_ref(&last), NOW);
            let tx = db.transaction().unwrap();
            aggregate.skip_gaps(&tx, due).unwrap();
            tx.commit().unwrap();
        }
        put_back(&mut aggregate, &mut db, 0..BATCHES * EACH);
        prop_assert_eq!(measured(&db), measured(&twin));
        // Once more changes nothing, also for one that begins from its file.
        let before = contents(&db);
        for mut aggregate in [aggregate, loaded(&db)] {
            let done = put_back(&mut aggregate, &mut db, 0..BATCHES * EACH);
            prop_assert_eq!((done.put_back, done.had, done.datapoints), (0, BATCHES * EACH, 0));
        }
        prop_assert_eq!(contents(&db), before);
    }
}

#[test]
fn what_the_config_lacks_is_counted_and_may_be_put_back_once_it_has_it() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let mut foreign = observations(0..1);
    foreign.push(super::probe("other", 5, crosswatch_shared::observation::Outcome::Reply { rtt_ms: 1.0 }));
    let all = PutBack { origin: live(0).origin, pages: false, observations: foreign };
    let tx = db.transaction().unwrap();
    let mut done = Done::default();
    aggregate.put_back(&tx, &[all], NOW, &mut done).unwrap();
    tx.commit().unwrap();
    assert_eq!((done.put_back, done.foreign), (1, 1));
    assert_eq!(put_back(&mut aggregate, &mut db, 5..6).put_back, 1);
}

/// A collector that is run once a day for half a year; and then a replay of all of it.
#[test]
fn boots_are_remembered_for_as_long_as_their_datapoints_and_no_longer() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let day = |day: u64| NOW + Duration::from_secs(day * 24 * 3_600);
    let run = |today: u64| {
        let at = i64::try_from(today).unwrap() * 24 * 3_600;
        batch("a", &format!("run {today}"), 0, at + 1, vec![reply(at, 1.0)])
    };
    let boots = |db: &Connection| {
        let count = |table: &str| {
            let sql = format!("SELECT count(DISTINCT boot) FROM {table}");
            db.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
        };
        (count("had"), count("had_boot"))
    };
    let kept = KEEP.time.as_secs() / (24 * 3_600);
    for today in 0..180 {
        apply(&mut aggregate, &mut db, &[run(today)], day(today));
        if today % 50 == 20 {
            aggregate = loaded(&db);
        }
        let (had, noted) = boots(&db);
        assert!(
            had == noted && had <= kept + 2 && had >= (today + 1).min(kept),
            "{had} and {noted} on {today}"
        );
    }
    let before = brief(&rows(&db, "PingLatency"));
    let all: Vec<PutBack> = (0..180)
        .map(run)
        .map(|batch| PutBack { origin: batch.origin, pages: false, observations: batch.observations })
        .collect();
    let tx = db.transaction().unwrap();
    aggregate.put_back(&tx, &all, day(180), &mut Done::default()).unwrap();
    tx.commit().unwrap();
    apply(&mut aggregate, &mut db, &[run(180), run(181)], day(180));
    let after = brief(&rows(&db, "PingLatency"));
    let counted = after.iter().filter(|point| before.contains(point)).count();
    assert!(counted + 2 >= before.len(), "{} of {}", counted, before.len());
    assert!(after.iter().all(|(_, count, _)| *count == 1), "none counts twice: {after:?}");
}

/// Of what it had before it took notes nobody knows.
#[test]
fn nothing_of_a_boot_from_before_an_upgrade_is_counted_twice() {
    let mut db = Connection::open_in_memory().unwrap();
    db.execute_batch(crate::aggregate::SCHEMA).unwrap();
    db.execute_batch(crate::sink::SCHEMA).unwrap();
    db.execute_batch(
        "CREATE TABLE seen (collector TEXT, boot TEXT, first INTEGER, last INTEGER);
         INSERT INTO seen VALUES ('c', '1', 0, 5), ('c', '1', 7, 9)",
    )
    .unwrap();
    db.execute_batch(had::SCHEMA).unwrap();
    db.execute_batch(had::BOOTS).unwrap();
    let mut aggregate = loaded(&db);
    assert_eq!(put_back(&mut aggregate, &mut db, 0..20).had, 20);
    apply(&mut aggregate, &mut db, &[live(10)], NOW);
    assert_eq!(put_back(&mut aggregate, &mut db, 90..120).had, 30);
}

#[tokio::test]
async fn cloudwatch_has_once_what_was_put_back_beside_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    let mut stage = open(folder.path(), &server.client);
    let start = begin();
    let minutes: Vec<Batch> = (0..4_u32)
        .map(|number| {
            let mut batch = minute("a", number.into(), start + number * super::cloudwatch::MINUTE, &["p"]);
            let seqs = u64::from(number) * 60..;
            batch.observations.iter_mut().zip(seqs).for_each(|(of, seq)| of.seq = seq);
            batch
        })
        .collect();
    // One is missing, and another comes after it was put back.
    let numbered = |number: u64, of: &Batch| Batch { number, ..of.clone() };
    append(folder.path(), "a", &[numbered(0, &minutes[0]), numbered(1, &minutes[2])]);
    stage.put(2).await;
    let mut desk = Writer::open(&put_back::folder(folder.path()), put_back::NAME).unwrap();
    let mut lay = || {
        let text = |of: &Batch| {
            let observations = of.observations.clone();
            encode_put_back(&PutBack { origin: of.origin.clone(), pages: false, observations })
        };
        desk.append_texts(minutes.iter().map(|of| (of, text(of))), start).unwrap();
    };
    lay();
    stage.until(|stage| stage.metric("put_back_observations") == 120.0).await;
    append(folder.path(), "a", &[numbered(2, &minutes[3])]);
    stage.put(3).await;
    assert_eq!(stage.metric("repeated_observations"), 180.0);
    lay();
    stage.until(|stage| stage.metric("repeated_observations") == 420.0).await;
    stage.until(|stage| stage.metric("cloudwatch_owed ") == 0.0).await;
    assert_eq!(stage.metric("put_back_observations"), 120.0);
    let state = server.state.lock().unwrap();
    let counts: Vec<u64> = state
        .held()
        .into_iter()
        .filter(|((name, ..), _)| name == "PingLatency")
        .map(|(_, values)| values.count())
        .collect();
    assert_eq!(counts, [60; 4]);
    assert_holds(&state, &kept(folder.path()));
}
