//! The contract's suite, for every backend: the embedded one, and a stand-in that is nastier than any real queue.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batches::{NOW, SCHEMA, applied, apply, batch};
use crosswatch_journal::Writer;
use crosswatch_queue::{
    Backlog, Consumer, Embedded, Message, Page, Pending, Place, Queue, QueueError, Receipt, Source,
};
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::wire;

const WAIT: Duration = Duration::from_millis(1);

/// A backend under test: what sends to it, and what opens it anew, as a restart does.
trait Backend {
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
fn keeps_the_contract<B: Backend>(factory: impl Fn(&Path) -> B) {
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

struct Journals {
    folder: PathBuf,
    writers: Vec<(Name, Writer)>,
}

impl Journals {
    fn new(folder: &Path) -> Self {
        let folder = folder.join("journal");
        let writers = ["a", "b"].map(|site| (Name::from(site), Writer::open(&folder, site).unwrap()));
        Self { folder, writers: writers.into() }
    }

    fn sites(&self) -> Vec<Name> {
        self.writers.iter().map(|(site, _)| site.clone()).collect()
    }
}

impl Backend for Journals {
    fn send(&mut self, batch: &Batch) {
        let (_, writer) = self.writers.iter_mut().find(|(site, _)| *site == batch.origin.site).unwrap();
        writer.append(batch, NOW).unwrap();
    }

    fn open(&self) -> Source {
        Source::embedded(self.folder.clone(), self.sites())
    }

    fn queue(&self) -> Box<dyn Queue> {
        Box::new(Embedded::open(&self.folder, &self.sites(), &[]).unwrap())
    }
}

/// Gives messages in any order, some twice in a page, some again after they were committed; lets receipts expire at
/// once; forgets commits and fails calls. Shared by all that open it.
#[derive(Clone, Default)]
struct Nasty(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    messages: Vec<Stored>,
    random: u64,
}

struct Stored {
    payload: Vec<u8>,
    committed: bool,
    receipt: u64,
}

impl State {
    fn chance(&mut self, of: u64) -> bool {
        self.random(of) == 0
    }

    /// SplitMix64, so that every run is the same.
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    fn take(&mut self) -> Option<Message> {
        let again = self.chance(10);
        let open: Vec<_> =
            (0..self.messages.len()).filter(|&index| again || !self.messages[index].committed).collect();
        let index = *open.get(self.random(open.len().max(1) as u64) as usize)?;
        let receipt = self.random(u64::MAX);
        let stored = &mut self.messages[index];
        // The receipt given out before is expired by this.
        stored.receipt = receipt;
        Some(Message {
            receipt: Receipt::Handle { queue: "nasty".into(), handle: receipt.to_string() },
            sent: NOW,
            payload: stored.payload.clone(),
        })
    }
}

impl Queue for Nasty {
    fn receive(&mut self, limit: usize, _wait: Duration) -> Pending<'_, Page> {
        let mut state = self.0.lock().unwrap();
        let messages: Vec<_> = (0..limit).map_while(|_| state.take()).collect();
        let empty = messages.is_empty();
        Box::pin(async move { Ok(Page { messages, empty, ..Page::default() }) })
    }

    fn commit<'a>(&'a mut self, receipts: &'a [Receipt]) -> Pending<'a, ()> {
        let mut state = self.0.lock().unwrap();
        for receipt in receipts {
            let Receipt::Handle { handle, .. } = receipt else { panic!("a strange receipt") };
            let forgets = state.chance(5);
            let known = state.messages.iter_mut().find(|stored| stored.receipt.to_string() == *handle);
            if let Some(stored) = known.filter(|_| !forgets) {
                stored.committed = true;
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn extend<'a>(&'a mut self, _receipts: &'a [Receipt], _by: Duration) -> Pending<'a, ()> {
        Box::pin(async {
            Err(QueueError::Unavailable { queue: "nasty".to_owned(), source: "in a bad mood".into() })
        })
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        let state = self.0.lock().unwrap();
        let batches = state.messages.iter().filter(|stored| !stored.committed).count() as u64;
        Box::pin(async move { Ok(Backlog { batches, ..Backlog::default() }) })
    }
}

impl Backend for Nasty {
    fn send(&mut self, batch: &Batch) {
        let payload = wire::encode_batch(batch).into_bytes();
        self.0.lock().unwrap().messages.push(Stored { payload, committed: false, receipt: 0 });
    }

    fn open(&self) -> Source {
        let queue = self.clone();
        Source::new(move |_: &[Place]| Ok(queue))
    }

    fn queue(&self) -> Box<dyn Queue> {
        Box::new(self.clone())
    }
}

#[test]
fn the_journals_keep_the_contract() {
    keeps_the_contract(Journals::new);
}

#[test]
fn so_does_a_queue_that_reorders_repeats_expires_and_forgets() {
    keeps_the_contract(|_| Nasty::default());
}
