//! Retention: what every consumer has had goes by age; beyond its size the journal gives up the oldest and says so.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use batches::batch;
use crosswatch_journal::{Dropped, Position, Pruned, Reader, Writer, file};
use crosswatch_shared::time::Timestamp;

const KEEP: Duration = Duration::from_secs(100);
const NO_LIMIT: u64 = u64::MAX;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn had(consumers: &[(&str, i64)]) -> Vec<Position> {
    consumers.iter().map(|&(consumer, id)| Position { consumer: consumer.to_owned(), id }).collect()
}

/// Batch n, from 0, of ten observations, is made and written in second 10n; its id is n + 1.
fn begun(folder: &Path, batches: u64) -> Writer {
    let mut writer = Writer::open(folder, "a").unwrap();
    for number in 0..batches {
        let made = number as i64 * 10;
        writer.append(&batch(number, made, 10), at(made)).unwrap();
    }
    writer
}

fn ids(folder: &Path) -> Vec<i64> {
    let entries = Reader::open(&file(folder, "a")).unwrap().after(0, usize::MAX, usize::MAX);
    entries.unwrap().iter().map(|entry| entry.id).collect()
}

#[test]
fn only_what_every_consumer_has_had_goes_by_age() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 10);
    let consumers = had(&[("publisher", 9), ("alerter", 4)]);
    // At 161 s, what was written before 61 s is old: ids 1 to 7. The alerter has had 4.
    let pruned = writer.prune(at(161), KEEP, NO_LIMIT, &consumers).unwrap();
    assert_eq!(pruned, Pruned { batches: 4, observations: 40, ..Pruned::default() });
    assert_eq!(ids(folder.path()), [5, 6, 7, 8, 9, 10]);

    let consumers = had(&[("publisher", 10), ("alerter", 10)]);
    let pruned = writer.prune(at(161), KEEP, NO_LIMIT, &consumers).unwrap();
    assert_eq!(pruned.batches, 3, "what is young stays");
    writer.prune(at(10_000), KEEP, NO_LIMIT, &consumers).unwrap();
    assert_eq!(ids(folder.path()), [] as [i64; 0]);
    drop(writer);
    assert_eq!(
        begun(folder.path(), 1).append(&batch(1, 0, 1), at(0)).unwrap(),
        12,
        "an id is never used again"
    );
}

#[test]
fn a_consumer_that_never_existed_holds_everything_back_until_the_size_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 400);
    let never = had(&[("alerter", 0)]);
    assert_eq!(writer.prune(at(1_000_000), KEEP, NO_LIMIT, &never).unwrap(), Pruned::default());

    let most = writer.bytes().unwrap() / 2;
    let pruned = writer.prune(at(1_000_000), KEEP, most, &never).unwrap();
    assert!(writer.bytes().unwrap() <= most);
    assert!((190..230).contains(&pruned.batches), "half of 400: {}", pruned.batches);
    let dropped = Dropped {
        consumer: "alerter".to_owned(),
        batches: pruned.batches,
        observations: pruned.batches * 10,
        first_at: at(0),
        last_at: at(pruned.batches as i64 * 10 - 1),
    };
    assert_eq!(pruned.dropped, [dropped]);
    assert!(!pruned.more);
}

#[test]
fn a_gap_counts_only_what_its_consumer_had_not_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 400);
    let most = writer.bytes().unwrap() / 2;
    let consumers = had(&[("publisher", 400), ("alerter", 150)]);
    let pruned = writer.prune(at(4_000), KEEP * 1_000, most, &consumers).unwrap();
    let dropped = Dropped {
        consumer: "alerter".to_owned(),
        batches: pruned.batches - 150,
        observations: (pruned.batches - 150) * 10,
        first_at: at(1_500),
        last_at: at(pruned.batches as i64 * 10 - 1),
    };
    assert_eq!(pruned.dropped, [dropped], "the publisher has no gap");
}

#[test]
fn pages_given_free_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 200);
    let size = || std::fs::metadata(file(folder.path(), "a")).unwrap().len();
    let wal = || std::fs::metadata(folder.path().join("a.db-wal")).unwrap().len();
    let most = writer.bytes().unwrap();
    for number in 200..6_000 {
        let made = number as i64 * 10;
        writer.append(&batch(number, made, 10), at(made)).unwrap();
        if number % 20 == 0 {
            writer.prune(at(made), KEEP * 1_000_000, most, &[]).unwrap();
        }
    }
    assert!(size() <= most * 3 / 2, "{} for at most {most}", size());
    assert!(wal() <= 20 << 20, "{}", wal());
}

/// A thousand batches, or 32 MB, at a time: appending never waits long.
#[test]
fn a_great_deal_is_pruned_in_small_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), "a").unwrap();
    let batches: Vec<_> = (0..2_500).map(|number| batch(number, 0, 1)).collect();
    writer.append_all(&batches, at(0)).unwrap();
    let mut steps = Vec::new();
    loop {
        let pruned = writer.prune(at(1_000), KEEP, NO_LIMIT, &[]).unwrap();
        steps.push(pruned.batches);
        if !pruned.more {
            break;
        }
    }
    assert_eq!(steps, [1_000, 1_000, 500]);
}

#[test]
fn pruning_under_load_takes_nothing_that_a_reader_has_not_had() {
    const BATCHES: i64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 0);
    let (position, done) = (AtomicI64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reader = Reader::open(&file(folder.path(), "a")).unwrap();
            let mut next = 1;
            while next <= BATCHES {
                for entry in reader.after(next - 1, 7, usize::MAX).unwrap() {
                    assert_eq!(entry.id, next, "nothing is missing, nothing comes twice");
                    next += 1;
                }
                position.store(next - 1, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
        for number in 0..BATCHES {
            writer.append(&batch(number as u64, 0, 20), at(0)).unwrap();
            let consumers = had(&[("reader", position.load(Ordering::SeqCst))]);
            let pruned = writer.prune(at(1_000), KEEP, NO_LIMIT, &consumers).unwrap();
            assert_eq!(pruned.dropped, []);
        }
        reading.join().unwrap();
    });
    assert!(done.into_inner());
    writer.prune(at(1_000), KEEP, NO_LIMIT, &had(&[("reader", BATCHES)])).unwrap();
    assert_eq!(ids(folder.path()), [] as [i64; 0]);
}

#[test]
fn an_idle_reader_does_not_make_the_wal_grow() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 1);
    let mut idle = Reader::open(&file(folder.path(), "a")).unwrap();
    assert_eq!(idle.after(0, 10, usize::MAX).unwrap().len(), 1);
    for number in 1..2_000 {
        writer.append(&batch(number, 0, 200), at(0)).unwrap();
    }
    let wal = std::fs::metadata(folder.path().join("a.db-wal")).unwrap().len();
    assert!(wal <= 20 << 20, "{wal} bytes");
    assert_eq!(idle.after(1_999, 10, usize::MAX).unwrap().len(), 1);
}

#[test]
fn reads_by_time_keep_the_order_of_writing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 1);
    // The first ends later than the second: what it holds was observed while outcomes of the second were waited for.
    writer.append(&batch(1, 100, 10), at(110)).unwrap();
    writer.append(&batch(2, 95, 10), at(110)).unwrap();
    let mut reader = Reader::open(&file(folder.path(), "a")).unwrap();
    let page = reader.range(at(95), at(200), None, 10, usize::MAX).unwrap();
    assert_eq!(page.iter().map(|entry| entry.id).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn reads_by_time_and_backwards_page_through_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let _writer = begun(folder.path(), 50);
    let mut reader = Reader::open(&file(folder.path(), "a")).unwrap();

    // Batch n holds the seconds 10n to 10n + 9.
    let mut by_time = Vec::new();
    let mut last = None;
    loop {
        let page = reader.range(at(95), at(200), last.as_ref(), 3, usize::MAX).unwrap();
        let Some(end) = page.last() else { break };
        by_time.extend(page.iter().map(|entry| entry.id));
        last = Some(end.clone());
    }
    assert_eq!(by_time, (10..=20).collect::<Vec<_>>());

    let mut backwards = Vec::new();
    while let Some(entry) = reader.newest(backwards.last().copied(), 7, usize::MAX).unwrap().first() {
        backwards.push(entry.id);
    }
    assert_eq!(backwards, (1..=50).rev().collect::<Vec<_>>());

    let backlog = reader.backlog(30).unwrap();
    assert_eq!((backlog.batches, backlog.observations, backlog.oldest), (20, 200, Some(at(300))));
    assert_eq!(reader.backlog(50).unwrap().batches, 0);
}
