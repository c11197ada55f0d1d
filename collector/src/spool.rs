//! What stands before the journal: one append at a time, off the runtime's threads, tried again until it works.

use std::time::{Duration, Instant};

use crosswatch_host::retry::Backoff;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use tokio::task::JoinHandle;

use crate::Error;

/// What a journal fails with.
pub type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// Where the batches go: the site's journal.
pub trait Journal: Send + 'static {
    /// Keeps a batch durably, whole or not at all. May take as long as a disk takes.
    ///
    /// # Errors
    /// When it was not kept; the same batch comes again then.
    fn append(&mut self, batch: &Batch) -> Result<(), JournalError>;

    /// Removes what has been kept long enough and every consumer has had.
    ///
    /// # Errors
    /// When nothing could be removed; it is asked again in a while.
    fn prune(&mut self, now: Timestamp) -> Result<(), JournalError>;
}

/// The journal and what it is doing.
pub(crate) struct Spool {
    site: Name,
    journal: Option<Box<dyn Journal>>,
    job: Option<JoinHandle<Finished>>,
    /// A batch that was not kept, and when it is tried again.
    again: Option<(Batch, Instant)>,
    backoff: Backoff,
}

struct Finished {
    journal: Box<dyn Journal>,
    batch: Option<Batch>,
    result: Result<(), JournalError>,
    took: Duration,
}

/// What came of a job.
pub(crate) enum Done {
    Appended { took: Duration },
    Refused { why: JournalError, took: Duration },
    Pruned(Result<(), JournalError>),
}

impl Spool {
    pub(crate) fn new(site: Name, journal: Box<dyn Journal>) -> Self {
        Self {
            site,
            journal: Some(journal),
            job: None,
            again: None,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(10)),
        }
    }

    /// Whether it can take the next batch.
    pub(crate) fn is_free(&self) -> bool {
        self.journal.is_some() && self.again.is_none()
    }

    /// How many observations it holds that are not kept yet, as far as it knows.
    pub(crate) fn unwritten(&self) -> usize {
        self.again.as_ref().map_or(0, |(batch, _)| batch.observations.len())
    }

    /// When it is to be told to try again.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        let (_, at) = self.again.as_ref()?;
        self.journal.is_some().then_some(*at)
    }

    /// Tries again.
    pub(crate) fn again(&mut self) {
        if let Some((batch, _)) = self.again.take() {
            self.append(batch);
        }
    }

    /// To be called only when it is free.
    pub(crate) fn append(&mut self, batch: Batch) {
        self.begin(Some(batch), |journal, batch| batch.map_or(Ok(()), |batch| journal.append(batch)));
    }

    /// To be called only when it is free.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        self.begin(None, move |journal, _| journal.prune(now));
    }

    fn begin(
        &mut self,
        batch: Option<Batch>,
        job: impl FnOnce(&mut dyn Journal, Option<&Batch>) -> Result<(), JournalError> + Send + 'static,
    ) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        self.job = Some(tokio::task::spawn_blocking(move || {
            #[allow(clippy::disallowed_methods, reason = "how long the disk takes")]
            let begun = Instant::now();
            let result = job(journal.as_mut(), batch.as_ref());
            Finished { took: begun.elapsed(), journal, batch, result }
        }));
    }

    /// Waits for the job that is running; for ever when none is.
    pub(crate) async fn done(&mut self) -> Result<Done, Error> {
        let Some(job) = &mut self.job else {
            return std::future::pending().await;
        };
        let finished = job.await;
        self.job = None;
        let Finished { journal, batch, result, took } =
            finished.map_err(|error| Error::Defect { site: self.site.clone(), why: error.to_string() })?;
        self.journal = Some(journal);
        let Some(batch) = batch else {
            return Ok(Done::Pruned(result));
        };
        Ok(match result {
            Ok(()) => {
                self.backoff.reset();
                Done::Appended { took }
            }
            Err(why) => {
                #[allow(clippy::disallowed_methods, reason = "when the job ended")]
                let at = Instant::now() + self.backoff.pause();
                self.again = Some((batch, at));
                Done::Refused { why, took }
            }
        })
    }

    /// Whether a job is running.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }
}
