//! Consumers on the journals of a machine: news at once, dead letters, pruned journals, each other.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batches::{NOW, SCHEMA, applied, apply, batch};
use crosswatch_journal::{Position, Writer, file};
use crosswatch_queue::{Consumer, QueueError, Schema, Source, dead_letters, positions, put_back};
use crosswatch_shared::wire::{self, PutBack, encode_put_back};

const LONG: Duration = Duration::from_secs(60);

fn open(folder: &Path, name: &str, sites: &[&str]) -> Consumer {
    let sites = sites.iter().map(|&site| site.into()).collect();
    Consumer::open(&folder.join(name), SCHEMA, Source::embedded(folder.join("journal"), sites)).unwrap()
}

fn writer(folder: &Path, site: &str) -> Writer {
    Writer::open(&folder.join("journal"), site).unwrap()
}

fn rows(consumer: &mut Consumer) -> usize {
    consumer.transaction(|tx| Ok::<_, QueueError>(applied(tx)?.len())).unwrap()
}

/// Replaces an entry's message, as only a program of another version could write it.
fn forge(folder: &Path, id: i64, payload: &[u8]) {
    let db = rusqlite::Connection::open(file(&folder.join("journal"), "a")).unwrap();
    db.execute("UPDATE batch SET payload = ?1 WHERE id = ?2", (payload, id)).unwrap();
}

/// Without the bell each look would come a second after the other: the bound is far from both.
#[tokio::test]
async fn a_waiting_consumer_is_woken_by_the_append_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut consumer = open(folder.path(), "c.db", &["a"]);
    let mut writer = writer(folder.path(), "a");
    let rounds = async {
        for number in 0..100 {
            let sending = async {
                // The consumer has looked by now, and waits.
                tokio::task::yield_now().await;
                writer.append(&batch("a", "1", number), NOW).unwrap();
            };
            let (received, ()) = tokio::join!(consumer.receive(10, LONG), sending);
            let received = received.unwrap();
            assert_eq!(received.deliveries[0].batch.number, number);
            consumer.settle(received, apply).await.unwrap();
        }
    };
    tokio::time::timeout(LONG, rounds).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_the_same_batches_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut consumer = open(folder.path(), "c.db", &["a"]);
    let mut writer = writer(folder.path(), "a");
    let full = |consumer: &mut Consumer, most: i64| {
        let set = consumer.transaction(|tx| {
            tx.query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get::<_, i64>(0))
                .map_err(QueueError::from)
        });
        set.unwrap();
    };
    full(&mut consumer, 1);
    let mut sent = 0;
    let error = loop {
        writer.append(&batch("a", &format!("a boot of its own, {sent}"), 0), NOW).unwrap();
        sent += 1;
        let received = consumer.receive(10, LONG).await.unwrap();
        assert_eq!(received.deliveries.len(), 1);
        // Only the consumer's own record of what it has seen grows.
        if let Err(error) = consumer.settle(received, |_, _| Ok::<_, QueueError>(())).await {
            break error;
        }
    };
    assert!(error.is_temporary(), "{error}");
    assert!(error.to_string().contains("c.db: database or disk is full"), "{error}");
    let received = consumer.receive(10, LONG).await.unwrap();
    let large = |tx: &rusqlite::Transaction<'_>, _: &[_]| {
        Ok::<_, QueueError>(tx.execute("INSERT INTO applied (site) VALUES (zeroblob(100000))", [])?)
    };
    let error = consumer.settle(received, large).await.unwrap_err();
    assert!(error.is_temporary(), "the stage's own statement, too: {error}");
    full(&mut consumer, 100_000);
    let received = consumer.receive(10, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.repeated), (1, 0));
    consumer.settle(received, apply).await.unwrap();
    assert_eq!(rows(&mut consumer), 1);
    assert_eq!(consumer.backlog().await.unwrap().batches, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_may_begin_before_the_journals_and_read_several_fairly() {
    let folder = tempfile::tempdir().unwrap();
    let mut consumer = open(folder.path(), "c.db", &["a", "b", "silent"]);
    let received = consumer.receive(10, Duration::ZERO).await.unwrap();
    assert!(received.empty && received.deliveries.is_empty());
    let (mut a, mut b) = (writer(folder.path(), "a"), writer(folder.path(), "b"));
    for number in 0..1_000 {
        a.append(&batch("a", "1", number), NOW).unwrap();
    }
    b.append(&batch("b", "1", 0), NOW).unwrap();
    let received = consumer.receive(12, LONG).await.unwrap();
    assert_eq!(received.deliveries.len(), 12, "room that one leaves is another's");
    assert!(received.deliveries.iter().any(|one| &*one.batch.origin.site == "b"), "a backlog starves nobody");
    assert!(!received.empty);
    consumer.settle(received, apply).await.unwrap();
    let backlog = consumer.backlog().await.unwrap();
    assert_eq!((backlog.batches, backlog.observations, backlog.oldest), (989, Some(9_890), Some(NOW)));
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_as_it_came_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), "a");
    for number in 0..4 {
        writer.append(&batch("a", "1", number), NOW).unwrap();
    }
    let newer = br#"{"v":2,"observations":"of another shape"}"#;
    forge(folder.path(), 2, newer);
    forge(folder.path(), 3, b"{\"site\":\"a\",\xff\x00 torn");
    let unknown = wire::encode_batch(&batch("a", "1", 3)).replacen("\"probe\"", "\"weather\"", 1);
    forge(folder.path(), 4, unknown.as_bytes());

    let mut consumer = open(folder.path(), "c.db", &["a"]);
    let received = consumer.receive(10, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.dead, received.unknown_kinds), (2, 2, 1));
    assert_eq!(received.deliveries[1].batch.observations.len(), 9);
    assert_eq!(consumer.dead_letters(0, 10).unwrap(), [], "nothing before it is settled");
    let failing =
        consumer.settle(received, |_, _| Err::<(), _>(QueueError::from(rusqlite::Error::InvalidQuery)));
    failing.await.unwrap_err();
    assert_eq!(consumer.dead_letters(0, 10).unwrap(), []);
    let received = consumer.receive(10, LONG).await.unwrap();
    consumer.settle(received, apply).await.unwrap();
    drop(consumer);

    let dead = dead_letters(&folder.path().join("c.db"), 0, 10).unwrap();
    assert_eq!(dead[0].payload, newer);
    assert_eq!(dead[0].source, "journal a, entry 2");
    assert!(dead[0].reason.contains("wire version 2 is not known"), "{}", dead[0].reason);
    assert_eq!(dead[1].payload, b"{\"site\":\"a\",\xff\x00 torn");
    assert_eq!(dead.len(), 2);
    let mut consumer = open(folder.path(), "c.db", &["a"]);
    assert_eq!(rows(&mut consumer), 2);
    assert!(consumer.receive(10, Duration::ZERO).await.unwrap().empty);
}

#[tokio::test]
async fn a_page_of_nothing_but_poison_is_passed_without_the_callers_help() {
    let folder = tempfile::tempdir().unwrap();
    writer(folder.path(), "a").append(&batch("a", "1", 0), NOW).unwrap();
    forge(folder.path(), 1, b"no batch");
    let mut consumer = open(folder.path(), "c.db", &["a"]);
    let received = consumer.receive(10, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.dead), (0, 1));
    assert_eq!(consumer.dead_letters(0, 10).unwrap().len(), 1);
    assert_eq!(consumer.receive(10, Duration::ZERO).await.unwrap().dead, 0);
}

#[tokio::test]
async fn one_damaged_journal_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut consumer = open(folder.path(), "c.db", &["a", "b"]);
    let mut b = writer(folder.path(), "b");
    b.append(&batch("b", "1", 0), NOW).unwrap();
    fs::write(file(&folder.path().join("journal"), "a"), vec![0xA5; 8_192]).unwrap();
    let received = consumer.receive(10, LONG).await.unwrap();
    assert_eq!(received.deliveries.len(), 1);
    assert!(!received.empty, "what could not be read is not known to be empty");
    let failing = received.failing.clone().unwrap();
    assert!(failing.contains("a.db: this is no journal"), "{failing}");
    consumer.settle(received, apply).await.unwrap();
}

#[tokio::test]
async fn consumers_do_not_disturb_each_other_and_a_page_is_settled_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), "a");
    let mut quick = open(folder.path(), "publisher.db", &["a"]);
    let mut slow = open(folder.path(), "alerter.db", &["a"]);
    for number in 0..10 {
        writer.append(&batch("a", "1", number), NOW).unwrap();
    }
    let received = slow.receive(4, LONG).await.unwrap();
    slow.settle(received, apply).await.unwrap();
    let received = quick.receive(100, LONG).await.unwrap();
    quick.settle(received, apply).await.unwrap();

    let files = ["publisher.db", "alerter.db", "never.db"].map(|file| folder.path().join(file));
    let position = |consumer: &str, id| Position { consumer: consumer.to_owned(), id };
    assert_eq!(
        positions("a", writer.identity(), &files),
        [position("publisher", 10), position("alerter", 4), position("never", 0)]
    );
    assert_eq!(positions("a", "another journal's", &files)[0].id, 0);
    fs::write(&files[2], "no database, and longer than the header of one: ".repeat(10)).unwrap();
    assert_eq!(positions("a", writer.identity(), &files)[2].id, 0, "unreadable counts as nothing had");

    let pruned =
        writer.prune(NOW + LONG, Duration::ZERO, u64::MAX, &positions("a", writer.identity(), &files[..2]));
    assert_eq!(pruned.unwrap().batches, 4);
    let received = slow.receive(100, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.missed), (6, 0));
}

#[tokio::test]
async fn what_was_pruned_unread_is_counted_by_the_consumer_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), "a");
    let mut consumer = open(folder.path(), "c.db", &["a"]);
    for number in 0..10 {
        writer.append(&batch("a", "1", number), NOW).unwrap();
    }
    let received = consumer.receive(2, LONG).await.unwrap();
    consumer.settle(received, apply).await.unwrap();
    let pruned =
        writer.prune(NOW, LONG, 0, &positions("a", writer.identity(), &[folder.path().join("c.db")]));
    assert_eq!(pruned.unwrap().dropped[0].batches, 8);
    writer.append(&batch("a", "1", 10), NOW).unwrap();
    for _ in 0..2 {
        let received = consumer.receive(10, LONG).await.unwrap();
        assert_eq!((received.deliveries.len(), received.missed), (1, 8), "told until it is settled");
    }
    let received = consumer.receive(10, LONG).await.unwrap();
    consumer.settle(received, apply).await.unwrap();
    writer.append(&batch("a", "1", 11), NOW).unwrap();
    assert_eq!(consumer.receive(10, LONG).await.unwrap().missed, 0);
    assert_eq!(rows(&mut consumer), 3);
}

#[tokio::test]
async fn a_journal_begun_anew_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut consumer = open(folder.path(), "c.db", &["a"]);
    for boot in ["1", "2"] {
        let mut writer = writer(folder.path(), "a");
        for number in 0..5 {
            writer.append(&batch("a", boot, number), NOW).unwrap();
        }
        let received = consumer.receive(10, LONG).await.unwrap();
        assert_eq!(received.deliveries.len(), 5, "boot {boot}");
        consumer.settle(received, apply).await.unwrap();
        drop(writer);
        fs::remove_dir_all(folder.path().join("journal")).unwrap();
    }
}

#[test]
fn a_consumers_file_is_held_by_one_migrated_and_never_downgraded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.db");
    let source = || Source::embedded(folder.path().join("journal"), vec![]);
    let error = |schema| Consumer::open(&path, schema, source()).err().unwrap().to_string();
    let first = Consumer::open(&path, SCHEMA, source()).unwrap();
    let text = error(SCHEMA);
    assert!(
        text.contains(&format!("the test's file is being written by process {}", std::process::id())),
        "{text}"
    );
    drop(first);

    const STEPS: &[&str] = &[SCHEMA.migrations[0], "ALTER TABLE applied ADD COLUMN note TEXT DEFAULT 'none'"];
    let newer = Schema { migrations: STEPS, ..SCHEMA };
    let mut consumer = Consumer::open(&path, newer, source()).unwrap();
    consumer
        .transaction(|tx| tx.execute("INSERT INTO applied (note) VALUES ('x')", []).map_err(QueueError::from))
        .unwrap();
    drop(consumer);
    let text = error(SCHEMA);
    assert!(
        text.contains("c.db: this test's file has version 131074, this program knows up to 131073"),
        "{text}"
    );
    let text = error(Schema { application_id: 1, what: "other stage's file", ..newer });
    assert!(text.contains("this is no other stage's file of Crosswatch"), "{text}");
    let missing = Consumer::open(&folder.path().join("none/c.db"), SCHEMA, source()).err().unwrap();
    assert!(missing.to_string().contains("none/c.lock"), "{missing}");
}

/// A collector that is run once a day, and one that stays, over a quarter of a year.
#[tokio::test]
async fn boots_are_forgotten_once_no_queue_can_hold_anything_of_them_and_one_that_goes_on_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), "a");
    let day = |day: u64| NOW + Duration::from_secs(day * 24 * 3600);
    let now = Arc::new(Mutex::new(NOW));
    let open = || {
        let clock = Arc::clone(&now);
        let source = Source::embedded(folder.path().join("journal"), vec!["a".into()]);
        let source = source.by_clock(move || *clock.lock().unwrap());
        Consumer::open(&folder.path().join("c.db"), SCHEMA, source).unwrap()
    };
    let boots = || {
        let db = rusqlite::Connection::open(folder.path().join("c.db")).unwrap();
        let count = |table: &str| {
            let sql = format!("SELECT count(DISTINCT boot) FROM {table}");
            db.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
        };
        (count("seen"), count("seen_boot"))
    };
    let mut consumer = open();
    for today in 0..90 {
        *now.lock().unwrap() = day(today);
        writer.append(&batch("a", &format!("run {today}"), 0), day(today)).unwrap();
        writer.append(&batch("a", "stays", today), day(today)).unwrap();
        let received = consumer.receive(10, LONG).await.unwrap();
        assert_eq!(received.deliveries.len(), 2);
        consumer.settle(received, apply).await.unwrap();
        if today % 20 == 10 {
            // What is forgotten is so in memory as in the file.
            drop(consumer);
            consumer = open();
        }
        let (seen, noted) = boots();
        assert!(
            seen == noted && seen <= 33 && seen >= (today + 2).min(31),
            "{seen} and {noted} on day {today}"
        );
    }
    // Two come again: the first of all, and one of the last weeks.
    for (id, text) in [(181, batch("a", "stays", 0)), (182, batch("a", "run 65", 0))] {
        writer.append(&batch("a", "forged", id), day(90)).unwrap();
        forge(folder.path(), id.cast_signed(), wire::encode_batch(&text).as_bytes());
    }
    let received = consumer.receive(10, LONG).await.unwrap();
    assert_eq!((received.repeated, received.deliveries.len()), (2, 0));
    assert_eq!(rows(&mut consumer), 180);
}

/// What is held is neither received again nor passed by, not even by poison that comes after it.
#[tokio::test]
async fn a_consumer_that_gathers_gets_each_once_and_settles_all_of_it_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gatherer = || {
        let source = Source::gathered(folder.path().join("journal"), vec!["a".into()]);
        Consumer::open(&folder.path().join("c.db"), SCHEMA, source).unwrap()
    };
    let mut writer = writer(folder.path(), "a");
    for number in 0..4 {
        writer.append(&batch("a", "1", number), NOW).unwrap();
    }
    forge(folder.path(), 3, b"no batch");
    let numbers = |received: &crosswatch_queue::Received| {
        received.deliveries.iter().map(|delivery| delivery.batch.number).collect::<Vec<_>>()
    };

    let mut consumer = gatherer();
    let mut held = consumer.receive(2, Duration::ZERO).await.unwrap();
    assert_eq!(numbers(&held), [0, 1]);
    let poison = consumer.receive(1, Duration::ZERO).await.unwrap();
    assert_eq!((numbers(&poison), poison.dead, poison.is_nothing()), (vec![], 1, false));
    held.join(poison);
    drop((consumer, held));

    // None of it was settled.
    let mut consumer = gatherer();
    let mut held = consumer.receive(10, Duration::ZERO).await.unwrap();
    assert_eq!((numbers(&held), held.dead), (vec![0, 1, 3], 1));
    assert!(consumer.receive(10, Duration::ZERO).await.unwrap().is_nothing(), "it is held");
    consumer.give_back(std::mem::take(&mut held)).await;
    let mut held = consumer.receive(1, Duration::ZERO).await.unwrap();
    // What is pruned meanwhile is missed, but for what is held.
    let pruned = writer.prune(NOW + LONG, Duration::ZERO, 1, &[]).unwrap();
    assert_eq!(pruned.batches, 4);
    writer.append(&batch("a", "1", 4), NOW).unwrap();
    held.join(consumer.receive(10, Duration::ZERO).await.unwrap());
    assert_eq!((numbers(&held), held.missed), (vec![0, 4], 3));
    consumer.settle(held, apply).await.unwrap();
    assert_eq!(rows(&mut consumer), 2);
    assert_eq!(consumer.backlog().await.unwrap().batches, 0);
    drop(consumer);
    assert!(gatherer().receive(10, Duration::ZERO).await.unwrap().is_nothing());
}

#[tokio::test]
async fn what_was_put_back_waits_for_the_journals_and_comes_until_it_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let beside = put_back::folder(folder.path());
    let open = || {
        let source = Source::of_stage(folder.path().join("journal"), vec!["a".into()], beside.clone());
        Consumer::open(&folder.path().join("c.db"), SCHEMA, source).unwrap()
    };
    let mut consumer = open();
    let mut journal = writer(folder.path(), "a");
    let mut desk = Writer::open(&beside, put_back::NAME).unwrap();
    for number in 0..30 {
        let batch = batch("a", "1", number);
        let (origin, observations) = (batch.origin.clone(), batch.observations.clone());
        let text = encode_put_back(&PutBack { origin, pages: false, observations });
        journal.append(&batch, NOW).unwrap();
        desk.append_texts([(&batch, text)], NOW).unwrap();
    }
    let received = consumer.receive(20, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.put_back.len(), received.empty), (20, 0, false));
    consumer.settle(received, apply).await.unwrap();
    let received = consumer.receive(20, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.put_back.len()), (10, 10));
    assert!(received.empty, "the journals are read to their end");
    drop(received);
    let received = consumer.receive(20, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.put_back.len()), (10, 10), "it was not settled");
    consumer.settle(received, apply).await.unwrap();

    // Another life goes on where it was; batches of the same numbers are no repetition.
    drop(consumer);
    let mut consumer = open();
    assert_eq!(consumer.backlog().await.unwrap().batches, 20);
    let received = consumer.receive(100, LONG).await.unwrap();
    assert_eq!((received.deliveries.len(), received.put_back.len(), received.repeated), (0, 20, 0));
    assert_eq!(received.put_back[19].observations, batch("a", "1", 29).observations);
    consumer.settle(received, apply).await.unwrap();
    assert_eq!(rows(&mut consumer), 30);
    assert!(consumer.receive(100, Duration::ZERO).await.unwrap().is_nothing());
    let had = positions(put_back::PLACE, desk.identity(), &[folder.path().join("c.db")]);
    assert_eq!(had[0].id, 30, "it may go");
}
