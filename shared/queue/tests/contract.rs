//! The contract's suite, for every backend: the embedded one, and a stand-in that is nastier than any real queue.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batches::NOW;
use crosswatch_journal::Writer;
use crosswatch_queue::{
    Backlog, Embedded, Message, Page, Pending, Place, Queue, QueueError, Receipt, Source,
};
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::wire;
use suite::{Backend, keeps_the_contract};

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
            unreadable: None,
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
