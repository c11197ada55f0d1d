//! The stage as a whole, over a real journal and a real file.

use std::path::Path;

use crosswatch_host::health::Health;
use crosswatch_journal::Writer;
use crosswatch_queue::{Backlog, Message, Page, Pending, Queue, Receipt, Source};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::Batch;
use crosswatch_shared::wire;
use prometheus_client::registry::Registry;
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::{NOW, batch, config, contents, reply, topology};
use crate::query::{Filter, query};
use crate::run::Publisher;
use crate::{Error, FILE};

struct Stage {
    publisher: Publisher,
    registry: Registry,
    health: Health,
}

fn open(folder: &Path) -> Stage {
    let topology = Topology {
        queue: crosswatch_shared::config::topology::Queue { path: folder.to_owned(), ..topology().queue },
        ..topology()
    };
    let sites = topology.sites.iter().map(|site| site.name.clone()).collect();
    let source = Source::embedded(folder.to_owned(), sites);
    let (mut registry, health) = (Registry::default(), Health::default());
    let part = health.part("publisher");
    let publisher = Publisher::open(config(), &topology, source, None, &mut registry, part).unwrap();
    Stage { publisher, registry, health }
}

/// A batch a second with a reply each; the delays of publishing, which no two runs share, are left out by `contents`.
fn batches(numbers: std::ops::Range<u64>) -> Vec<Batch> {
    numbers
        .map(|number| {
            let at = number.cast_signed();
            batch("a", "1", number, at, vec![reply(at, number as f64 / 7.0)])
        })
        .collect()
}

/// What is kept but for the delays, which depend on when the test ran.
fn kept(folder: &Path) -> Vec<String> {
    let db = Connection::open(folder.join(FILE)).unwrap();
    let mut all = contents(&db);
    all.retain(|line| !line.starts_with("PipelineDelay") && !line.contains(r#"["site","#));
    all
}

fn metric(registry: &Registry, name: &str) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn stopped_anywhere_and_opened_again_it_leaves_what_an_uncut_run_does() {
    let uncut = tempfile::tempdir().unwrap();
    let mut journal = Writer::open(uncut.path(), "a").unwrap();
    journal.append_all(&batches(0..300), NOW).unwrap();
    open(uncut.path()).publisher.step().await.unwrap();

    let cut = tempfile::tempdir().unwrap();
    let mut journal = Writer::open(cut.path(), "a").unwrap();
    journal.append_all(&batches(0..100), NOW).unwrap();
    // Received, and then gone before anything was settled.
    let received = open(cut.path()).publisher.receive().await;
    assert_eq!(received.deliveries.len(), 100);
    drop(received);
    open(cut.path()).publisher.step().await.unwrap();

    // A transaction that fails after everything was applied in memory, twice, in one process.
    journal.append_all(&batches(100..300), NOW).unwrap();
    let mut stage = open(cut.path());
    let other = Connection::open(cut.path().join(FILE)).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON position BEGIN SELECT RAISE(ABORT, 'broken'); END",
        )
        .unwrap();
    for _ in 0..2 {
        stage.publisher.step().await.unwrap_err();
    }
    assert_eq!(metric(&stage.registry, "crosswatch_publisher_observations_total"), "0");
    other.execute_batch("DROP TRIGGER broken").unwrap();
    stage.publisher.step().await.unwrap();
    assert_eq!(metric(&stage.registry, "crosswatch_publisher_observations_total"), "200");
    drop(stage);
    assert_eq!(kept(cut.path()), kept(uncut.path()));
    assert!(kept(cut.path()).len() > 10);
}

#[tokio::test]
async fn it_is_ready_once_it_has_read_the_queue_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = open(folder.path());
    assert_eq!(stage.health.failures(), ["publisher: starting"]);
    Writer::open(folder.path(), "a").unwrap().append_all(&batches(0..1), NOW).unwrap();
    stage.publisher.step().await.unwrap();
    assert!(stage.health.failures().is_empty());
    let stop = CancellationToken::new();
    let running = tokio::spawn(stage.publisher.run(stop.clone()));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_published_is_found_while_the_publisher_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let absent = query(&file, &Filter::default()).unwrap_err().to_string();
    assert!(absent.contains("no publisher has run here yet"), "{absent}");

    Writer::open(folder.path(), "a").unwrap().append_all(&batches(0..100), NOW).unwrap();
    let mut stage = open(folder.path());
    stage.publisher.step().await.unwrap();
    let filter = Filter { metric: Some("PingSuccess".to_owned()), ..Filter::default() };
    let rows = query(&file, &filter).unwrap();
    assert_eq!((rows.len(), rows[0].count, rows[0].average), (1, 60, 1.0));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let file = folder.path().join(FILE);
    let db = Connection::open(&file).unwrap();
    db.pragma_update(None, "user_version", i32::MAX).unwrap();
    let error = query(&file, &Filter::default()).unwrap_err().to_string();
    assert!(error.contains("upgrade the program"), "{error}");
}

#[tokio::test]
async fn damaged_state_stops_the_start_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = open(folder.path());
    Writer::open(folder.path(), "a").unwrap().append_all(&batches(0..1), NOW).unwrap();
    stage.publisher.step().await.unwrap();
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    db.execute("UPDATE event_time SET state = '{}'", []).unwrap();
    // As after a transaction that failed.
    stage.publisher.mark_stale();
    let error = stage.publisher.step().await.unwrap_err();
    assert!(matches!(error, Error::EventTime { .. }) && !error.is_temporary());
    assert!(error.to_string().contains("move it away to begin anew"), "{error}");
}

/// A queue that gives these pages, and says whether each is all there is.
struct Pages(std::vec::IntoIter<(Vec<Batch>, bool)>);

impl Queue for Pages {
    fn receive(&mut self, _limit: usize, _wait: std::time::Duration) -> Pending<'_, Page> {
        let (batches, empty) = self.0.next().unwrap();
        let message = |batch: Batch| Message {
            receipt: Receipt::Handle { queue: "q".into(), handle: batch.number.to_string() },
            sent: NOW,
            payload: wire::encode_batch(&batch).into_bytes(),
            unreadable: None,
        };
        let messages = batches.into_iter().map(message).collect();
        Box::pin(async move { Ok(Page { messages, empty, ..Page::default() }) })
    }

    fn commit<'a>(&'a mut self, _receipts: &'a [Receipt]) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn extend<'a>(&'a mut self, _receipts: &'a [Receipt], _by: std::time::Duration) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        Box::pin(async { Ok(Backlog::default()) })
    }
}

#[tokio::test]
async fn the_disorder_of_a_backlog_is_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let [zero, one, two, three, four] = <[Batch; 5]>::try_from(batches(0..5)).unwrap();
    let pages = vec![
        (vec![zero, two], false),
        (vec![], false),
        (vec![one, four], false),
        (vec![], true),
        (vec![three], true),
    ];
    let (mut registry, health) = (Registry::default(), Health::default());
    let mut topology = topology();
    topology.queue.path = folder.path().to_owned();
    let source = Source::new(move |_| Ok(Pages(pages.into_iter())));
    let part = health.part("publisher");
    let mut publisher = Publisher::open(config(), &topology, source, None, &mut registry, part).unwrap();
    let skipped = |registry: &Registry| metric(registry, "crosswatch_publisher_gaps_skipped_total");
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    // As if half a minute had passed since the batch beyond the gap came.
    let age = |publisher: &mut Publisher| {
        let state: String = db.query_row("SELECT state FROM event_time", [], |row| row.get(0)).unwrap();
        let mut state: serde_json::Value = serde_json::from_str(&state).unwrap();
        for ahead in state["current"]["ahead"].as_object_mut().unwrap().values_mut() {
            ahead[1] = ahead[0].clone();
        }
        db.execute("UPDATE event_time SET state = ?1", [state.to_string()]).unwrap();
        publisher.mark_stale();
    };
    publisher.step().await.unwrap();
    age(&mut publisher);
    publisher.step().await.unwrap();
    publisher.step().await.unwrap();
    assert_eq!(skipped(&registry), "0", "there is more in the queue");
    age(&mut publisher);
    publisher.step().await.unwrap();
    assert_eq!(skipped(&registry), "1", "there is not");
    publisher.step().await.unwrap();
}
