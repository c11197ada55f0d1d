//! A consumer: a queue, and a file of its own in which everything it knows changes together.
//!
//! The queue delivers at least once; the consumer makes it count once. One transaction holds what the stage made of
//! the batches, the places they came from, which they were, and what could not be read. Only then is the queue told.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crosswatch_journal::{JournalError, Lock};
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told::Told;
use crosswatch_shared::wire::{self, Message as Wire, Names, PutBack};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::contract::{Backlog, Message, Page, Place, Queue, Receipt};
use crate::inspect::{self, DeadLetter};
use crate::seen::Seen;
use crate::{Embedded, QueueError, Schema, blocking};

/// How a consumer's queue is opened, once it is known how far the consumer has come.
pub struct Source {
    open: Box<Open>,
    /// What was received is settled later, together with what comes after it.
    gathers: bool,
    /// The wall clock that says when something was received.
    wall: Box<Wall>,
}

type Wall = dyn Fn() -> Timestamp + Send;

type Open = dyn FnOnce(&[Place]) -> Result<Box<dyn Queue>, QueueError> + Send;

impl Source {
    /// A queue of any backend.
    pub fn new<Q: Queue + 'static>(
        open: impl FnOnce(&[Place]) -> Result<Q, QueueError> + Send + 'static,
    ) -> Self {
        Self {
            open: Box::new(|places| Ok(Box::new(open(places)?))),
            gathers: false,
            wall: Box::new(|| SystemTime::now().into()),
        }
    }

    /// The same, where this wall clock says when something was received, and not the machine's.
    #[must_use]
    pub fn by_clock(self, wall: impl Fn() -> Timestamp + Send + 'static) -> Self {
        Self { wall: Box::new(wall), ..self }
    }

    /// The journals of these sites in the folder of the journals.
    #[must_use]
    pub fn embedded(folder: PathBuf, sites: Vec<Name>) -> Self {
        Self::new(move |places| Embedded::open(&folder, &sites, places))
    }

    /// The same, beside what replays put back for a stage ([`crate::put_back`]).
    #[must_use]
    pub fn of_stage(folder: PathBuf, sites: Vec<Name>, put_back: PathBuf) -> Self {
        Self::new(move |places| Embedded::open(&folder, &sites, places)?.beside(&put_back, places))
    }

    /// The same for a consumer that gathers: what it received does not come again while it is neither settled nor given
    /// back, and [`Consumer::receive`] settles nothing by itself. What it holds is to be settled in the order received,
    /// put together by [`Received::join`].
    #[must_use]
    pub fn gathered(folder: PathBuf, sites: Vec<Name>) -> Self {
        let source = Self::new(move |places| Ok(Embedded::open(&folder, &sites, places)?.once()));
        Self { gathers: true, ..source }
    }
}

/// A consumer. One process at a time holds its file.
pub struct Consumer {
    db: Connection,
    path: PathBuf,
    _lock: Lock,
    queue: Box<dyn Queue>,
    gathers: bool,
    wall: Box<Wall>,
    seen: Seen,
    names: Names,
    /// Messages that went before they were had, told until a settled page has told it.
    missed: u64,
}

/// A batch that was not seen before.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The batch.
    pub batch: Batch,
    /// When the queue took it, by the queue's clock.
    pub sent: Timestamp,
}

/// What was received, to be settled. Dropped instead, it comes again.
#[derive(Debug, Default)]
#[must_use = "what is not settled comes again"]
pub struct Received {
    /// The batches that were not seen before, in the order received.
    pub deliveries: Vec<Delivery>,
    /// What replays put back, in the order received. It may have come before, whole or in part: who counts observations
    /// knows them by collector, boot and `seq`.
    pub put_back: Vec<PutBack>,
    /// When they were received, by this machine's clock.
    pub at: Timestamp,
    /// The queue was read to its end: after these there was nothing more.
    pub empty: bool,
    /// How many batches came that had been seen before.
    pub repeated: u64,
    /// How many messages could not be read; they are among the dead letters once settled.
    pub dead: u64,
    /// How many observations were skipped because this version does not know their kind.
    pub unknown_kinds: u64,
    /// What another alerter says, in batches that are among the deliveries.
    pub told: Vec<Told>,
    /// How many messages the queue let go before this consumer had them, since the last page settled.
    pub missed: u64,
    /// Why a part of the queue could not be read, while the rest goes on.
    pub failing: Option<String>,
    receipts: Vec<Receipt>,
    poison: Vec<Poison>,
}

#[derive(Debug)]
struct Poison {
    source: String,
    reason: String,
    payload: Vec<u8>,
}

impl Consumer {
    /// Opens the consumer's file, or begins it, and its queue where the file says that it left off.
    ///
    /// # Errors
    /// Another process holds the file; it is foreign, newer or damaged; or the queue cannot be opened.
    pub fn open(file: &Path, schema: Schema, source: Source) -> Result<Self, QueueError> {
        let lock = Lock::take(&file.with_extension("lock"), format!("the {}", schema.what))?;
        let db = schema.open(file)?;
        let of = |error| JournalError::of(file, error);
        let places = inspect::read_places(&db).map_err(of)?;
        let seen = Seen::load(&db).map_err(of)?;
        Ok(Self {
            queue: (source.open)(&places)?,
            gathers: source.gathers,
            wall: source.wall,
            path: file.to_owned(),
            _lock: lock,
            names: Names::default(),
            missed: 0,
            db,
            seen,
        })
    }

    /// Takes up to `limit` batches; waits up to `wait` for the first. May be dropped at any time without loss. A page
    /// with nothing new in it is settled here; what it held is counted in what this returns.
    ///
    /// # Errors
    /// The queue cannot be read, or such a page not settled.
    pub async fn receive(&mut self, limit: usize, wait: Duration) -> Result<Received, QueueError> {
        let page = self.queue.receive(limit, wait).await?;
        let at = (self.wall)();
        let mut received = blocking(|| self.sort(page, at));
        let nothing_new = received.deliveries.is_empty() && received.put_back.is_empty();
        if !self.gathers && nothing_new && !received.receipts.is_empty() {
            let known = Received {
                receipts: std::mem::take(&mut received.receipts),
                poison: std::mem::take(&mut received.poison),
                at,
                ..Received::default()
            };
            self.settle(known, |_, _| Ok::<_, QueueError>(())).await?;
        }
        Ok(received)
    }

    /// Applies what was received, once: `apply` and the record of what it was applied to are one transaction of the
    /// consumer's file. Then the queue is told. `apply` runs for a page without batches, too.
    ///
    /// # Errors
    /// `apply`'s own, or the transaction's: nothing has changed in the file, and the same batches come again. What
    /// `apply` changed in memory is the caller's to undo.
    pub async fn settle<T, E: From<QueueError>>(
        &mut self,
        received: Received,
        apply: impl FnOnce(&Transaction<'_>, &[Delivery]) -> Result<T, E>,
    ) -> Result<T, E> {
        match blocking(|| self.write(&received, apply)) {
            Ok(value) => {
                self.missed = 0;
                if let Err(error) = self.queue.commit(&received.receipts).await {
                    // They come again, and are known by then.
                    tracing::warn!(%error, "the queue was not told that batches are done with; they come again");
                }
                Ok(value)
            }
            Err(error) => {
                if let Err(error) = self.queue.extend(&received.receipts, Duration::ZERO).await {
                    tracing::debug!(%error, "batches were not given back; they come again once their receipts expire");
                }
                Err(error)
            }
        }
    }

    /// Changes the file without a batch: what a timer brings about, or reading at the start.
    ///
    /// # Errors
    /// `change`'s own, or the transaction's: nothing has changed in the file.
    pub fn transaction<T, E: From<QueueError>>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        blocking(|| {
            let step = begin(&mut self.db, &self.path)?;
            let value = change(&step)?;
            commit(step, &self.path)?;
            Ok(value)
        })
    }

    /// Gives back what was received and will not be settled now: it comes again.
    pub async fn give_back(&mut self, received: Received) {
        if let Err(error) = self.queue.extend(&received.receipts, Duration::ZERO).await {
            tracing::debug!(%error, "batches were not given back; they come again once their receipts expire");
        }
    }

    /// The messages that could not be read, with ids after `after`, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        blocking(|| inspect::read_dead(&self.db, after, limit))
            .map_err(|error| JournalError::of(&self.path, error).into())
    }

    /// How much waits in the queue, and since when.
    ///
    /// # Errors
    /// The queue cannot be asked.
    pub async fn backlog(&mut self) -> Result<Backlog, QueueError> {
        self.queue.backlog().await
    }

    /// Ends the receiving in order; see [`Queue::close`]. What was received and not settled comes again.
    pub async fn close(mut self) {
        self.queue.close().await;
    }

    /// Tells batches from what was seen before and from what cannot be read.
    fn sort(&mut self, page: Page, at: Timestamp) -> Received {
        self.missed += page.missed;
        let mut received = Received {
            at,
            empty: page.empty,
            missed: self.missed,
            failing: page.failing,
            ..Received::default()
        };
        for Message { receipt, sent, payload, unreadable } in page.messages {
            match unreadable.map_or_else(|| self.read(&payload), Err) {
                Ok(Wire::PutBack(put_back, unknown_kinds)) => {
                    received.unknown_kinds += unknown_kinds;
                    received.put_back.push(put_back);
                }
                Ok(Wire::Batch(decoded)) => {
                    let batch = decoded.batch;
                    if self.seen.contains(&batch) || received.holds(&batch) {
                        received.repeated += 1;
                    } else {
                        received.unknown_kinds += decoded.unknown_kinds;
                        received.told.extend(decoded.told);
                        received.deliveries.push(Delivery { batch, sent });
                    }
                }
                Err(reason) => {
                    let source = match &receipt {
                        Receipt::Place(place) => format!("journal {}, entry {}", place.journal, place.id),
                        Receipt::Handle { queue, handle } => format!("queue {queue}, message {handle}"),
                    };
                    tracing::error!(%source, %reason, "a message cannot be read; it goes to the dead letters");
                    received.dead += 1;
                    received.poison.push(Poison { source, reason, payload });
                }
            }
            received.receipts.push(receipt);
        }
        received
    }

    fn read(&mut self, payload: &[u8]) -> Result<Wire, String> {
        let message = wire::decode_message(payload, &mut self.names).map_err(|error| error.to_string())?;
        match &message {
            Wire::Batch(decoded) if i64::try_from(decoded.batch.number).is_err() => {
                Err(format!("batch: {} is beyond any real number", decoded.batch.number))
            }
            _ => Ok(message),
        }
    }

    fn write<T, E: From<QueueError>>(
        &mut self,
        received: &Received,
        apply: impl FnOnce(&Transaction<'_>, &[Delivery]) -> Result<T, E>,
    ) -> Result<T, E> {
        let step = begin(&mut self.db, &self.path)?;
        let value = apply(&step, &received.deliveries)?;
        let own = || {
            for poison in &received.poison {
                step.prepare_cached(
                    "INSERT INTO dead (received_at, source, reason, payload) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    received.at.as_micros(),
                    poison.source,
                    poison.reason,
                    poison.payload
                ])?;
            }
            for place in received.places() {
                step.prepare_cached(
                    "INSERT INTO position (journal, identity, id) VALUES (?1, ?2, ?3)
                     ON CONFLICT (journal) DO UPDATE SET identity = excluded.identity, id = excluded.id",
                )?
                .execute(params![place.journal, place.identity, place.id])?;
            }
            self.seen.write(&step, received.deliveries.iter().map(|delivery| &delivery.batch), received.at)
        };
        let additions = own().map_err(|error| QueueError::from(JournalError::of(&self.path, error)))?;
        commit(step, &self.path)?;
        self.seen.add(additions);
        Ok(value)
    }
}

impl Received {
    /// A queue may deliver one message twice in a page.
    fn holds(&self, batch: &Batch) -> bool {
        self.deliveries.iter().any(|one| one.batch.number == batch.number && one.batch.origin == batch.origin)
    }

    /// Puts what was received after this to it, to be settled as one. For a consumer that gathers.
    pub fn join(&mut self, after: Self) {
        let Self {
            deliveries,
            put_back,
            at,
            empty,
            repeated,
            dead,
            unknown_kinds,
            told,
            missed,
            failing,
            receipts,
            poison,
        } = after;
        self.deliveries.extend(deliveries);
        self.put_back.extend(put_back);
        (self.at, self.empty, self.failing) = (at, empty, failing);
        self.repeated += repeated;
        self.dead += dead;
        self.unknown_kinds += unknown_kinds;
        self.told.extend(told);
        // It counts since the last page settled.
        self.missed = self.missed.max(missed);
        self.receipts.extend(receipts);
        self.poison.extend(poison);
    }

    /// Whether there is nothing to settle.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.receipts.is_empty()
    }

    /// The last place in each journal. A page holds all of a journal up to there, in order.
    fn places(&self) -> Vec<&Place> {
        let mut last: Vec<&Place> = Vec::new();
        for receipt in &self.receipts {
            if let Receipt::Place(place) = receipt {
                match last.iter_mut().find(|one| one.journal == place.journal) {
                    Some(one) => *one = place,
                    None => last.push(place),
                }
            }
        }
        last
    }
}

fn begin<'a>(db: &'a mut Connection, path: &Path) -> Result<Transaction<'a>, QueueError> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| JournalError::of(path, error).into())
}

fn commit(step: Transaction<'_>, path: &Path) -> Result<(), QueueError> {
    step.commit().map_err(|error| JournalError::of(path, error).into())
}
