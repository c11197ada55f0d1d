//! What the contract of a queue promises, tried on a backend. Every backend's tests run it: those of another crate take
//! this file in by its path.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crosswatch_queue::{Consumer, Message, Queue, QueueError, Source};
use crosswatch_shared::observation::Batch;
use crosswatch_shared::wire;

use crate::batches::{SCHEMA, applied, apply, batch};

const WAIT: Duration = Duration::from_millis(1);

/// A backend under test: what sends to it, and what opens it anew, as a restart does.
pub(crate) trait Backend {
    fn send(&mut self, batch: &Batch);
    fn open(&self) -> Source;
    fn queue(&self) -> Box<dyn Queue>;
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn number(message: &Message) -> u64 {
    wire::decode_batch(&message.payload, &mut wire::Names::default()).unwrap().batch.number
}

/// All that the contract promises, tried on one backend. The factory gives an empty one in this folder.
pub(crate) fn keeps_the_contract<B: Backend>(factory: impl Fn(&Path) -> B) {
    let fresh = || {
        let folder = tempfile::tempdir().unwrap();
        let backend = factory(folder.path());
        (folder, backend)
    };
    run(async {
        let (_folder, backend) = fresh();
        uncommitted_comes_again_and_committed_makes_room(backend).await;
        let (folder, backend) = fresh();
        a_consumer_applies_each_batch_once(folder.path(), backend).await;
        let (folder, backend) = fresh();
        what_failed_to_be_applied_comes_again(folder.path(), backend).await;
        let (folder, backend) = fresh();
        poison_does_not_stop_the_rest(folder.path(), backend).await;
    });
}

async fn uncommitted_comes_again_and_committed_makes_room(mut backend: impl Backend) {
    for number in 0..20 {
        backend.send(&batch("a", "1", number));
    }
    let mut queue = backend.queue();
    let mut seen = BTreeSet::new();
    for round in 0..1_000 {
        let page = queue.receive(5, WAIT).await.unwrap();
        assert!(page.messages.len() <= 5, "no more than asked for");
        seen.extend(page.messages.iter().map(number));
        // Every other page is forgotten.
        if round % 2 == 1 {
            let receipts: Vec<_> = page.messages.into_iter().map(|message| message.receipt).collect();
            queue.commit(&receipts).await.unwrap();
        }
        if queue.backlog().await.unwrap().batches == 0 {
            assert_eq!(seen.len(), 20, "nothing was lost");
            return;
        }
    }
    panic!("committing does not empty the queue");
}

async fn a_consumer_applies_each_batch_once(folder: &Path, mut backend: impl Backend) {
    let file = folder.join("consumer.db");
    let mut sent = 0;
    // Opened anew again and again, in the middle of everything.
    for _ in 0..10 {
        for _ in 0..10 {
            backend.send(&batch("a", "1", sent));
            backend.send(&batch("b", "1", sent));
            sent += 1;
        }
        let mut consumer = Consumer::open(&file, SCHEMA, backend.open()).unwrap();
        for _ in 0..3 {
            let received = consumer.receive(4, WAIT).await.unwrap();
            consumer.settle(received, apply).await.unwrap();
        }
        drop(consumer.receive(3, WAIT).await.unwrap());
    }
    let mut consumer = Consumer::open(&file, SCHEMA, backend.open()).unwrap();
    drain(&mut consumer).await;
    assert_each_once(&mut consumer, sent);
}

async fn what_failed_to_be_applied_comes_again(folder: &Path, mut backend: impl Backend) {
    for number in 0..10 {
        backend.send(&batch("a", "1", number));
        backend.send(&batch("b", "1", number));
    }
    let mut consumer = Consumer::open(&folder.join("consumer.db"), SCHEMA, backend.open()).unwrap();
    let mut failures = 0;
    while failures < 5 {
        let received = consumer.receive(8, WAIT).await.unwrap();
        if received.deliveries.is_empty() {
            continue;
        }
        let result = consumer
            .settle(received, |tx, deliveries| {
                apply(tx, deliveries)?;
                Err::<(), _>(QueueError::Statement(rusqlite::Error::InvalidQuery))
            })
            .await;
        result.unwrap_err();
        failures += 1;
    }
    let rows = consumer.transaction(|tx| Ok::<_, QueueError>(applied(tx)?)).unwrap();
    assert_eq!(rows, [], "a failed page leaves nothing");
    drain(&mut consumer).await;
    assert_each_once(&mut consumer, 10);
}

async fn poison_does_not_stop_the_rest(folder: &Path, mut backend: impl Backend) {
    for number in 0..10 {
        backend.send(&batch("a", "1", number));
        backend.send(&batch("b", "1", number));
    }
    // A number no consumer can keep: it can be sent, and not be read.
    backend.send(&batch("a", "1", u64::MAX));
    backend.send(&batch("a", "2", 0));
    let mut consumer = Consumer::open(&folder.join("consumer.db"), SCHEMA, backend.open()).unwrap();
    drain(&mut consumer).await;
    let rows = consumer.transaction(|tx| Ok::<_, QueueError>(applied(tx)?)).unwrap();
    assert_eq!(rows.len(), 21);
    let dead = consumer.dead_letters(0, 100).unwrap();
    assert!(!dead.is_empty());
    for letter in dead {
        assert_eq!(letter.payload, wire::encode_batch(&batch("a", "1", u64::MAX)).as_bytes());
        assert!(letter.reason.contains("18446744073709551615"), "{}", letter.reason);
    }
}

async fn drain(consumer: &mut Consumer) {
    loop {
        let received = consumer.receive(7, WAIT).await.unwrap();
        consumer.settle(received, apply).await.unwrap();
        if consumer.backlog().await.unwrap().batches == 0 {
            return;
        }
    }
}

fn assert_each_once(consumer: &mut Consumer, sent: u64) {
    let rows = consumer.transaction(|tx| Ok::<_, QueueError>(applied(tx)?)).unwrap();
    for site in ["a", "b"] {
        let mut numbers: Vec<_> = rows.iter().filter(|row| row.0 == site).map(|row| row.2).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "{site}: each once");
    }
}
