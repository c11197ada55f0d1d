//! The history's consumer: takes batches as they come, and writes what they add each ten seconds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crosswatch_queue::{Consumer, Delivery, Received, Source};
use crosswatch_shared::time::Timestamp;

use super::store::{Deltas, Ids, SCHEMA, prune, read_series, told};
use super::{Error, Key, Since};

/// How many batches are taken at once.
const LIMIT: usize = 256;

/// How long what was received waits to be written, together with what comes after it.
const GATHER: Duration = Duration::from_secs(10);
/// How many minutes of probes wait at most.
const MOST: usize = 50_000;

/// How often what is too old is removed.
const PRUNE: Duration = Duration::from_secs(3_600);

/// The consumer, and what waits to be written.
pub(crate) struct Writer {
    consumer: Consumer,
    path: PathBuf,
    ids: Ids,
    deltas: Deltas,
    pending: Received,
    /// Since when something waits.
    waiting: Option<Instant>,
    prune_at: Option<Instant>,
}

/// What was received just now.
pub(crate) struct Page {
    pub(crate) deliveries: Vec<Delivery>,
    /// Nothing more was there.
    pub(crate) empty: bool,
    /// Why a part of it could not be read.
    pub(crate) failing: Option<String>,
}

impl Writer {
    /// Opens the file, or begins it, and its queue where it left off.
    pub(crate) fn open(path: &Path, source: Source) -> Result<Self, Error> {
        Ok(Self {
            consumer: Consumer::open(path, SCHEMA, source)?,
            path: path.to_owned(),
            ids: Ids::default(),
            deltas: Deltas::default(),
            pending: Received::default(),
            waiting: None,
            prune_at: None,
        })
    }

    /// Every probe of which there is anything, with since when it is as it is.
    pub(crate) fn series(&mut self) -> Result<Vec<(Key, Option<Since>)>, Error> {
        self.consumer.transaction(|file| read_series(file))
    }

    /// Waits up to `wait` for batches. What the caller makes of them goes into [`Self::deltas`].
    pub(crate) async fn receive(&mut self, wait: Duration, steady: Instant) -> Result<Page, Error> {
        let mut received = self.consumer.receive(LIMIT, wait).await?;
        if received.missed > self.pending.missed {
            tracing::warn!(missed = received.missed, "the journal let batches go before the graphs had them");
        }
        let empty = received.empty;
        let failing = received.failing.clone();
        let deliveries = received.deliveries.clone();
        // To be settled, who sent what under which number is enough.
        received.deliveries.iter_mut().for_each(|delivery| delivery.batch.observations = Vec::new());
        if !received.is_nothing() {
            self.waiting.get_or_insert(steady);
        }
        self.pending.join(received);
        Ok(Page { deliveries, empty, failing })
    }

    pub(crate) fn deltas(&mut self) -> &mut Deltas {
        &mut self.deltas
    }

    /// Writes what waits, if it is time to.
    pub(crate) async fn turn(&mut self, steady: Instant, now: Timestamp) -> Result<(), Error> {
        let due = self.waiting.is_some_and(|since| steady.saturating_duration_since(since) >= GATHER);
        if due || self.deltas.len() >= MOST {
            self.settle().await?;
        }
        if self.prune_at.is_none_or(|at| steady >= at) {
            self.consumer.transaction(|file| prune(file, now)).map_err(|error| told(&self.path, error))?;
            self.prune_at = Some(steady + PRUNE);
        }
        Ok(())
    }

    /// Writes what waits. When it fails nothing of it is in the file, and all of it comes again.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        self.waiting = None;
        let pending = std::mem::take(&mut self.pending);
        let deltas = std::mem::take(&mut self.deltas);
        if pending.is_nothing() {
            return Ok(());
        }
        let ids = &mut self.ids;
        let written = self.consumer.settle(pending, |file, _| deltas.write(file, ids)).await;
        if written.is_err() {
            self.ids.forget();
        }
        written.map_err(|error| told(&self.path, error))
    }

    /// Writes what waits and ends.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        self.settle().await?;
        self.consumer.close().await;
        Ok(())
    }
}
