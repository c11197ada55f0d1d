//! Exactly once, whatever happens between receiving and committing: a run that is cut anywhere leaves the same
//! datapoints, bit for bit, as one that is not.

use std::time::Duration;

use crosswatch_shared::config::topology::QueueKind;
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;
use proptest::prelude::*;
use rusqlite::Connection;

use super::{BEGIN, KEEP, NOW, batch, config, contents, probe, reply, secs, topology};
use crate::aggregate::{self, Aggregate, Done};
use crate::query::{self, Filter, Row};
use crate::{had, sink};

pub(super) fn file() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(aggregate::SCHEMA).unwrap();
    db.execute_batch(sink::SCHEMA).unwrap();
    db.execute_batch(sink::cloudwatch::SCHEMA).unwrap();
    // The queue's own.
    db.execute_batch("CREATE TABLE seen (collector TEXT, boot TEXT, first INTEGER, last INTEGER)").unwrap();
    db.execute_batch(had::SCHEMA).unwrap();
    db.execute_batch(had::BOOTS).unwrap();
    db
}

pub(super) fn loaded(db: &Connection) -> Aggregate {
    let mut aggregate = Aggregate::new(config(), &topology(), Box::new(sink::Embedded::new(KEEP)));
    aggregate.load(db).unwrap();
    aggregate
}

pub(super) fn apply(
    aggregate: &mut Aggregate,
    db: &mut Connection,
    batches: &[Batch],
    now: Timestamp,
) -> Done {
    let tx = db.transaction().unwrap();
    let done = aggregate.apply(&tx, batches, now).unwrap();
    tx.commit().unwrap();
    done
}

pub(super) fn rows(db: &Connection, metric: &str) -> Vec<Row> {
    let filter = Filter { metric: Some(metric.to_owned()), ..Filter::default() };
    query::rows(db, &filter).unwrap()
}

/// Start (seconds from the beginning), count, average.
pub(super) fn brief(rows: &[Row]) -> Vec<(i64, u64, f64)> {
    rows.iter()
        .map(|row| {
            let start = row.start.as_micros() / 1_000_000 - BEGIN;
            (start, row.count, row.average)
        })
        .collect()
}

#[test]
fn a_backlog_of_hours_keeps_its_own_times() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    // Half a day behind the clock, in one go.
    let begin = -12 * 3_600;
    let batches: Vec<Batch> = (0..120_u64)
        .map(|number| {
            let at = begin + 60 * number.cast_signed();
            batch("a", "1", number, at + 30, vec![reply(at + 29, number as f64)])
        })
        .collect();
    apply(&mut aggregate, &mut db, &batches, NOW);
    let latency = brief(&rows(&db, "PingLatency"));
    assert_eq!(latency.len(), 119, "the last period is not over");
    for (number, point) in latency.into_iter().enumerate() {
        assert_eq!(point, (begin + 60 * number as i64, 1, number as f64));
    }
    let delay = rows(&db, "PipelineDelay");
    assert_eq!(delay[0].average, (3_600.0 + 12.0 * 3_600.0 - 30.0) * 1e3);
}

#[test]
fn sites_close_their_windows_by_their_own_event_time() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let batches = [
        batch("a", "1", 0, 10, vec![reply(5, 1.0)]),
        batch("b", "1", 0, 1_000, vec![reply(5, 2.0), reply(999, 3.0)]),
    ];
    apply(&mut aggregate, &mut db, &batches, NOW);
    let latency = rows(&db, "PingLatency");
    assert_eq!(brief(&latency), [(0, 1, 2.0)]);
    let dimensions = [("Link", "l"), ("Site", "b"), ("Probe", "p")];
    assert_eq!(
        latency[0].dimensions,
        dimensions.map(|(dimension, name)| (dimension.to_owned(), name.to_owned()))
    );
    apply(&mut aggregate, &mut db, &[batch("a", "1", 1, 62, vec![])], NOW);
    assert_eq!(brief(&rows(&db, "PingLatency")), [(0, 1, 1.0), (0, 1, 2.0)]);
}

#[test]
fn late_data_is_put_too_and_counted_and_read_back_as_one() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let whole = [batch("a", "1", 0, 100, vec![reply(5, 1.0), reply(6, 2.0)])];
    let done = apply(&mut aggregate, &mut db, &whole, NOW);
    assert_eq!((done.late, done.late_datapoints), (0, 0));
    let late = [batch("a", "1", 1, 101, vec![reply(7, 6.0)])];
    let done = apply(&mut aggregate, &mut db, &late, NOW);
    // Latency and success; one reply has no jitter.
    assert_eq!((done.late, done.late_datapoints), (1, 2));
    let latency = rows(&db, "PingLatency");
    assert_eq!(brief(&latency), [(0, 3, 3.0)]);
    assert_eq!((latency[0].minimum, latency[0].p50, latency[0].maximum), (1.0, 2.0, 6.0));
}

/// SQS keeps no order, and gives again after 20 s what a consumer had that died.
#[test]
fn over_sqs_windows_wait_for_what_is_left_of_a_former_boot() {
    let mut topology = topology();
    topology.queue.kind = QueueKind::Sqs { publisher: Vec::new(), alerter: Vec::new() };
    let mut db = file();
    let mut aggregate = Aggregate::new(config(), &topology, Box::new(sink::Embedded::new(KEEP)));
    aggregate.load(&db).unwrap();
    let after = |secs| NOW + Duration::from_secs(secs);
    // What its predecessor had in hand when it died may come again.
    apply(&mut aggregate, &mut db, &[batch("a", "1", 1, 70, vec![reply(5, 1.0)])], NOW);
    apply(&mut aggregate, &mut db, &[batch("a", "1", 0, 4, vec![reply(3, 3.0)])], after(20));
    assert_eq!(brief(&rows(&db, "PingLatency")), []);
    apply(&mut aggregate, &mut db, &[batch("a", "1", 2, 80, vec![reply(65, 1.0)])], after(30));
    assert_eq!(brief(&rows(&db, "PingLatency")), [(0, 2, 2.0)]);
    // A new boot, and then the last of the one before.
    apply(&mut aggregate, &mut db, &[batch("a", "2", 0, 130, vec![reply(125, 2.0)])], after(40));
    let done = apply(&mut aggregate, &mut db, &[batch("a", "1", 3, 90, vec![reply(85, 5.0)])], after(60));
    assert_eq!(done.late, 0);
    // The next boot does not make them wait for longer.
    apply(&mut aggregate, &mut db, &[batch("a", "3", 0, 140, vec![])], after(65));
    assert_eq!(brief(&rows(&db, "PingLatency")), [(0, 2, 2.0), (60, 2, 3.0)]);
}

/// What was in the hands of a publisher that died comes again, whoever sent it.
#[test]
fn over_sqs_the_windows_of_a_site_whose_collector_runs_once_wait_after_the_publishers_own_start() {
    let mut topology = topology();
    topology.queue.kind = QueueKind::Sqs { publisher: Vec::new(), alerter: Vec::new() };
    topology.links[0].probes.retain(|probe| *probe.from != *"a");
    let mut db = file();
    let opened = |db: &Connection| {
        let mut aggregate = Aggregate::new(config(), &topology, Box::new(sink::Embedded::new(KEEP)));
        aggregate.load(db).unwrap();
        aggregate
    };
    let run = |run: u64| {
        let at = 60 * run.cast_signed() + 5;
        let body = Body::Collection { source: "ec2".into(), ok: true, error: None, took_ms: 1.0 };
        batch("a", &run.to_string(), 0, at + 1, vec![Observation { at: secs(BEGIN + at), seq: 0, body }])
    };
    let after = |secs| NOW + Duration::from_secs(secs);
    apply(&mut opened(&db), &mut db, &[run(0)], NOW);
    let mut aggregate = opened(&db);
    apply(&mut aggregate, &mut db, &[run(2)], after(120));
    let done = apply(&mut aggregate, &mut db, &[run(1)], after(140));
    assert_eq!(done.late, 0);
    apply(&mut aggregate, &mut db, &[run(3)], after(180));
    let minutes: Vec<i64> =
        brief(&rows(&db, "CollectionSuccess")).iter().map(|(start, ..)| start / 60).collect();
    assert_eq!(minutes, [0, 1, 2]);
}

/// Each run is a boot with one batch, some seconds or minutes after the one before.
#[test]
fn over_sqs_the_windows_of_a_site_whose_collector_runs_once_close_with_the_next_run() {
    let mut topology = topology();
    topology.queue.kind = QueueKind::Sqs { publisher: Vec::new(), alerter: Vec::new() };
    topology.links[0].probes.retain(|probe| *probe.from != *"a");
    assert!(!topology.rhythm("a").is_zero());
    let mut db = file();
    let mut aggregate = Aggregate::new(config(), &topology, Box::new(sink::Embedded::new(KEEP)));
    aggregate.load(&db).unwrap();
    for run in 0..4_i64 {
        let at = 60 * run + 5;
        let tunnels = vec![Tunnel {
            outside_ip: "52.0.0.1".to_owned(),
            up: true,
            accepted_routes: 0,
            since: None,
            message: String::new(),
        }];
        let body = Body::Tunnels { link: "l".into(), vpn: "vpn-0".into(), tunnels };
        let seen = Observation { at: secs(BEGIN + at), seq: 0, body };
        let now = NOW + Duration::from_secs(60 * run.unsigned_abs());
        apply(&mut aggregate, &mut db, &[batch("a", &run.to_string(), 0, at + 1, vec![seen])], now);
        let minutes: Vec<i64> = brief(&rows(&db, "TunnelsUp")).iter().map(|(start, ..)| start / 60).collect();
        assert_eq!(minutes, (0..run).collect::<Vec<_>>(), "after run {run}");
    }
}

#[test]
fn what_the_config_lacks_is_counted_and_skipped() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let vpn = |vpn: &str| Observation {
        at: secs(BEGIN),
        seq: 0,
        body: Body::Tunnels {
            link: "l".into(),
            vpn: vpn.into(),
            tunnels: vec![Tunnel {
                outside_ip: "52.0.0.1".to_owned(),
                up: true,
                accepted_routes: 0,
                since: None,
                message: String::new(),
            }],
        },
    };
    let collection = Observation {
        at: secs(BEGIN),
        seq: 0,
        body: Body::Collection { source: "icmp".into(), ok: true, error: None, took_ms: 1.0 },
    };
    let elsewhere = probe("elsewhere", 1, Outcome::Lost(Lost::Timeout));
    let batches = [
        batch("a", "1", 0, 100, vec![elsewhere, vpn("vpn-0"), vpn("vpn-9")]),
        batch("nowhere", "1", 0, 100, vec![reply(1, 1.0), collection]),
        batch("nowhere", "1", 1, 1_000, vec![]),
    ];
    let done = apply(&mut aggregate, &mut db, &batches, NOW);
    assert_eq!((done.observations, done.foreign), (5, 4));
    let metrics: Vec<String> =
        query::rows(&db, &Filter::default()).unwrap().into_iter().map(|row| row.metric).collect();
    assert_eq!(metrics, ["TunnelState", "TunnelsUp"]);
}

#[test]
fn a_gap_holds_event_time_for_half_a_minute_across_a_restart() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let batches = [batch("a", "1", 0, 10, vec![reply(5, 1.0)]), batch("a", "1", 2, 100, vec![])];
    apply(&mut aggregate, &mut db, &batches, NOW);
    let mut aggregate = loaded(&db);
    assert!(!aggregate.gap_is_due(NOW + Duration::from_secs(29)));
    let due = NOW + Duration::from_secs(30);
    assert!(aggregate.gap_is_due(due));
    assert_eq!(rows(&db, "PingLatency"), []);
    let tx = db.transaction().unwrap();
    assert_eq!(aggregate.skip_gaps(&tx, due).unwrap().gaps_skipped, 1);
    tx.commit().unwrap();
    assert_eq!(brief(&rows(&db, "PingLatency")), [(0, 1, 1.0)]);
    assert!(!loaded(&db).gap_is_due(due));
}

#[test]
fn datapoints_are_kept_as_long_as_asked() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    let point = |number: u64, at: i64| batch("a", "1", number, at + 62, vec![reply(at, 1.0)]);
    apply(&mut aggregate, &mut db, &[point(0, 0)], NOW);
    let day = 24 * 3_600;
    let days = i64::try_from(KEEP.time.as_secs()).unwrap() / day;
    apply(&mut aggregate, &mut db, &[point(1, days * day)], secs(BEGIN + days * day));
    assert_eq!(rows(&db, "PingLatency").len(), 2, "not a day too early");
    apply(&mut aggregate, &mut db, &[point(2, (days + 1) * day)], secs(BEGIN + (days + 1) * day));
    let kept: Vec<i64> =
        brief(&rows(&db, "PingLatency")).into_iter().map(|(start, ..)| start / day).collect();
    assert_eq!(kept, [days, days + 1]);
}

#[test]
fn beyond_its_size_the_oldest_datapoints_go_whatever_their_age() {
    let mut db = file();
    let bytes = 400 << 10;
    let keep = sink::Keep { max_bytes: Some(bytes), ..KEEP };
    let mut aggregate = Aggregate::new(config(), &topology(), Box::new(sink::Embedded::new(keep)));
    aggregate.load(&db).unwrap();
    let used = |db: &Connection| {
        let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        (pragma("page_count") - pragma("freelist_count")).cast_unsigned() * 4_096
    };
    let mut largest = 0;
    for minute in 0..3_000_u64 {
        let at = minute.cast_signed() * 60;
        let now = secs(BEGIN + at + 62);
        apply(&mut aggregate, &mut db, &[batch("a", "1", minute, at + 62, vec![reply(at, 1.0)])], now);
        largest = largest.max(used(&db));
    }
    assert!((bytes / 10 * 9..bytes + (100 << 10)).contains(&largest), "{largest}");
    let kept = brief(&rows(&db, "PingLatency"));
    let minutes: Vec<i64> = kept.iter().map(|(start, ..)| start / 60).collect();
    let first = 3_000 - i64::try_from(minutes.len()).unwrap();
    assert!(first > 0 && minutes.iter().copied().eq(first..3_000), "the newest, without a hole: {minutes:?}");
}

/// CloudWatch is put what is here: it must be here until then.
#[test]
fn beyond_its_size_what_is_owed_to_cloudwatch_and_what_is_newest_stays() {
    let mut db = file();
    let keep = sink::Keep { max_bytes: Some(1), ..KEEP };
    let owing = sink::cloudwatch::Owing::new(&[], keep);
    let mut aggregate = Aggregate::new(config(), &topology(), Box::new(owing));
    aggregate.load(&db).unwrap();
    let starts = |db: &Connection| -> Vec<i64> {
        brief(&rows(db, "PingLatency")).into_iter().map(|(start, ..)| start / 60).collect()
    };
    let mut minute = |db: &mut Connection, minute: u64| {
        let at = 60 * minute.cast_signed();
        let now = secs(BEGIN + at + 62);
        apply(&mut aggregate, db, &[batch("a", "1", minute, at + 62, vec![reply(at, 1.0)])], now);
    };
    (0..10).for_each(|number| minute(&mut db, number));
    assert_eq!(starts(&db), (0..10).collect::<Vec<_>>(), "all of it is owed");
    // CloudWatch took the first half, and later everything.
    db.execute("DELETE FROM owed WHERE start < ?", [secs(BEGIN + 300).as_micros()]).unwrap();
    minute(&mut db, 10);
    assert_eq!(starts(&db), (5..11).collect::<Vec<_>>());
    db.execute("DELETE FROM owed", []).unwrap();
    minute(&mut db, 11);
    assert_eq!(starts(&db), [11], "the newest");
}

#[test]
fn more_values_than_one_put_may_carry_are_read_back_as_one() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    // Round-trip times over five magnitudes.
    let replies = (0..5_000).map(|step| {
        let mut observation = reply(0, 1.0025_f64.powi(step) * 0.1);
        observation.at = observation.at + Duration::from_millis(step.unsigned_abs().into());
        observation
    });
    let batches = [batch("a", "1", 0, 62, replies.collect())];
    apply(&mut aggregate, &mut db, &batches, NOW);
    let parts: i64 = db
        .query_row(
            "SELECT count(*) FROM datapoint JOIN series ON series = id WHERE metric = 'PingLatency'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(parts > 1, "{parts}");
    let latency = rows(&db, "PingLatency");
    assert_eq!(latency.len(), 1);
    assert_eq!((latency[0].count, latency[0].minimum), (5_000, 0.1));
    let exact = 1.0025_f64.powi(2_499) * 0.1;
    assert!((latency[0].p50 / exact - 1.0).abs() <= 0.01);
}

#[test]
fn rows_are_found_by_metric_dimension_and_time() {
    let mut db = file();
    let mut aggregate = loaded(&db);
    for site in ["a", "b"] {
        let replies = (0..5).map(|minute| reply(minute * 60, minute as f64)).collect();
        apply(&mut aggregate, &mut db, &[batch(site, "1", 0, 400, replies)], NOW);
    }
    let filter = Filter {
        metric: Some("PingLatency".to_owned()),
        dimensions: vec![("Site".to_owned(), "b".to_owned())],
        from: Some(secs(BEGIN + 60)),
        to: Some(secs(BEGIN + 180)),
    };
    let found = query::rows(&db, &filter).unwrap();
    assert_eq!(brief(&found), [(60, 1, 1.0), (120, 1, 2.0)]);
    assert!(found.iter().all(|row| row.period == Duration::from_secs(60)));
}

/// What happens to a group of batches after they were received.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Commit,
    /// The process dies before the commit: memory and transaction are gone.
    Die,
    /// The process dies after the commit.
    CommitAndDie,
    /// The transaction fails, the process goes on from the file.
    Fail,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Commit),
        1 => Just(Fate::Die),
        1 => Just(Fate::CommitAndDie),
        1 => Just(Fate::Fail),
    ]
}

/// Batches of two sites, each with a later boot whose clock may be earlier, some out of order, some data late.
fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let of_boot = |site: &'static str, boot: &'static str| {
        let observation = (-90..20_i64, 0..40_u8);
        let one = (0..40_i64, proptest::collection::vec(observation, 0..12));
        (-100..300_i64, proptest::collection::vec(one, 1..20)).prop_map(move |(begin, steps)| {
            let mut through = begin;
            let mut batches = Vec::new();
            for (number, (step, observations)) in (0..).zip(steps) {
                through += step;
                let observations = observations.into_iter().map(|(offset, code)| match code {
                    0 => probe("l", through + offset, Outcome::Lost(Lost::Timeout)),
                    1 => probe("l", through + offset, Outcome::Lost(Lost::Local)),
                    rtt => reply(through + offset, f64::from(rtt) / 7.0),
                });
                batches.push(batch(site, boot, number, through, observations.collect()));
            }
            batches
        })
    };
    let site = move |site| {
        let swaps = proptest::collection::vec(any::<bool>(), 40);
        (of_boot(site, "1"), of_boot(site, "2"), swaps).prop_map(|(first, second, swaps)| {
            let mut batches = [first, second].concat();
            for (place, _) in swaps.iter().enumerate().filter(|(_, swap)| **swap) {
                if place + 1 < batches.len() {
                    batches.swap(place, place + 1);
                }
            }
            batches
        })
    };
    let turns = proptest::collection::vec(any::<bool>(), 80);
    (site("a"), site("b"), turns).prop_map(|(a, b, turns)| {
        let (mut a, mut b) = (a.into_iter(), b.into_iter());
        let mixed: Vec<Batch> =
            turns.into_iter().filter_map(|turn| if turn { a.next() } else { b.next() }).collect();
        mixed.into_iter().chain(a).chain(b).collect()
    })
}

proptest! {
    #[test]
    fn a_run_cut_anywhere_leaves_what_one_uncut_does(
        batches in batches(),
        groups in proptest::collection::vec((1..6_usize, fate()), 1..200),
    ) {
        let mut uncut = file();
        let mut aggregate = loaded(&uncut);
        for batch in &batches {
            apply(&mut aggregate, &mut uncut, std::slice::from_ref(batch), NOW);
        }

        let mut cut = file();
        let mut aggregate = loaded(&cut);
        let mut rest = &batches[..];
        // When the fates run out, everything commits.
        let mut fates = groups.into_iter().chain(std::iter::repeat((1, Fate::Commit)));
        while !rest.is_empty() {
            let (size, fate) = fates.next().unwrap();
            let (group, after) = rest.split_at(size.min(rest.len()));
            let tx = cut.transaction().unwrap();
            aggregate.apply(&tx, group, NOW).unwrap();
            match fate {
                Fate::Commit => tx.commit().unwrap(),
                Fate::CommitAndDie => {
                    tx.commit().unwrap();
                    aggregate = loaded(&cut);
                }
                Fate::Die => {
                    drop(tx);
                    aggregate = loaded(&cut);
                }
                Fate::Fail => {
                    tx.rollback().unwrap();
                    aggregate.load(&cut).unwrap();
                }
            }
            if matches!(fate, Fate::Commit | Fate::CommitAndDie) {
                rest = after;
            }
        }
        prop_assert_eq!(contents(&cut), contents(&uncut));

        // And what is there is everything, once: after a last boot has passed every period.
        let last = ["a", "b"].map(|site| batch(site, "3", 0, 100_000, vec![]));
        apply(&mut aggregate, &mut cut, &last, NOW);
        let counts = |outcome: &Outcome| !matches!(outcome, Outcome::Lost(Lost::Local));
        let sent = batches
            .iter()
            .flat_map(|batch| &batch.observations)
            .filter(|observation| matches!(&observation.body, Body::Probe { outcome, .. } if counts(outcome)))
            .count();
        let published: u64 = rows(&cut, "PingSuccess").iter().map(|row| row.count).sum();
        prop_assert_eq!(published, sent as u64);
    }
}
