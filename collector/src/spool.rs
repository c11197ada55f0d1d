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

    /// The boot of what was appended last, if anything was.
    ///
    /// # Errors
    /// When that cannot be read.
    fn newest_boot(&self) -> Result<Option<Name>, JournalError>;

    /// Removes a part of what has been kept long enough.
    ///
    /// # Errors
    /// When nothing could be removed; it is asked again in a while.
    fn prune(&mut self, now: Timestamp) -> Result<Pruned, JournalError>;

    /// Removes all that has been kept long enough, for a collector that ends soon. Gives a sentence for each consumer that
    /// will never get what was removed.
    ///
    /// # Errors
    /// When not all could be removed.
    fn prune_all(&mut self, now: Timestamp) -> Result<Vec<String>, JournalError> {
        let mut gaps = Vec::new();
        loop {
            let pruned = self.prune(now)?;
            gaps.extend(pruned.gaps);
            if !pruned.more {
                return Ok(gaps);
            }
        }
    }
}

/// What a pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// A sentence for each consumer that will never get what was removed.
    pub gaps: Vec<String>,
    /// There is more to remove: it is asked again at once.
    pub more: bool,
    /// More is about to be put together so that it takes less room: it is asked again in a second.
    pub sealing: bool,
}

/// How often a journal is pruned that has nothing more to do.
pub(crate) const PRUNE: Duration = Duration::from_secs(60);

impl Pruned {
    /// After which time it is to be asked again.
    pub(crate) fn again_in(&self) -> Duration {
        match (self.more, self.sealing) {
            (true, _) => Duration::ZERO,
            (false, true) => Duration::from_secs(1),
            (false, false) => PRUNE,
        }
    }
}

/// The journal and what it is doing.
pub(crate) struct Spool {
    site: Name,
    journal: Option<Box<dyn Journal>>,
    job: Option<JoinHandle<Finished>>,
    /// When the job that is running began.
    begun: Instant,
    /// A batch that was not kept, and when it is tried again.
    again: Option<(Batch, Instant)>,
    backoff: Backoff,
}

struct Finished {
    journal: Box<dyn Journal>,
    job: Job,
    took: Duration,
}

/// What was done, and what came of it.
enum Job {
    Append(Batch, Result<(), JournalError>),
    Prune(Result<Pruned, JournalError>),
}

/// What came of a job.
pub(crate) enum Done {
    Appended { took: Duration },
    Refused { why: JournalError, took: Duration },
    Pruned(Result<Pruned, JournalError>),
}

impl Spool {
    pub(crate) fn new(site: Name, journal: Box<dyn Journal>, now: Instant) -> Self {
        Self {
            site,
            journal: Some(journal),
            job: None,
            begun: now,
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
        self.begin(|journal| {
            let result = journal.append(&batch);
            Job::Append(batch, result)
        });
    }

    /// To be called only when it is free.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        self.begin(move |journal| Job::Prune(journal.prune(now)));
    }

    fn begin(&mut self, job: impl FnOnce(&mut dyn Journal) -> Job + Send + 'static) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        #[allow(clippy::disallowed_methods, reason = "how long the disk takes")]
        let begun = Instant::now();
        self.begun = begun;
        self.job = Some(tokio::task::spawn_blocking(move || {
            let job = job(journal.as_mut());
            Finished { took: begun.elapsed(), journal, job }
        }));
    }

    /// Waits for the job that is running; for ever when none is.
    pub(crate) async fn done(&mut self) -> Result<Done, Error> {
        let Some(job) = &mut self.job else {
            return std::future::pending().await;
        };
        let finished = job.await;
        self.job = None;
        let Finished { journal, job, took } =
            finished.map_err(|error| Error::Defect { site: self.site.clone(), why: error.to_string() })?;
        self.journal = Some(journal);
        Ok(match job {
            Job::Append(_, Ok(())) => {
                self.backoff.reset();
                Done::Appended { took }
            }
            Job::Append(batch, Err(why)) => {
                #[allow(clippy::disallowed_methods, reason = "when the job ended")]
                let at = Instant::now() + self.backoff.pause();
                self.again = Some((batch, at));
                Done::Refused { why, took }
            }
            Job::Prune(result) => Done::Pruned(result),
        })
    }

    /// Whether a job is running.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// How long the job that is running has taken so far.
    pub(crate) fn busy_for(&self, now: Instant) -> Option<Duration> {
        self.is_busy().then(|| now.saturating_duration_since(self.begun))
    }
}
