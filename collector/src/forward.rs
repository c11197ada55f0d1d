//! The forwarder: a consumer of the site's own journal that sends to one queue of Amazon SQS.
//!
//! The journal stays the spool. A forwarder reads on from its position, gathers what there is until its pace says that it
//! is time ([`judge`], [`crate::pace`]), puts it together anew for its queue ([`plan`]), writes down in a file of its own
//! what determines the messages, sends them until all are taken, and only then moves its position. Whatever it is stopped
//! at, it sends the same messages under the same numbers afterwards. There is one forwarder for each queue, and none knows
//! of the others: one queue's trouble delays nothing else.
//!
//! After an outage it sends as much as fits, and as the way to the queue takes in time, again and again without waiting, the oldest first, since event time follows the
//! numbers: news of the present waits for what is older, and no longer.

pub mod gasp;
pub mod judge;
pub mod metrics;
pub mod plan;

mod file;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crosswatch_host::health::Part;
use crosswatch_host::retry::Backoff;
use crosswatch_queue::{Consumer, QueueError, Received, Source};
use crosswatch_shared::config::topology::worker;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::encode_batch;
use crosswatch_sqs::body::{encode_again, fitting_in};
use crosswatch_sqs::send::{Attempt, Load, Route, Sender};
use crosswatch_sqs::way_out;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::pace::Pace;
use crate::rounds::Report;
use gasp::Reach;
use judge::Judge;
use metrics::{Metrics, OfQueue};
use plan::{Numbers, Piece, Share, again, is_last_of, is_of, pack};

/// So many observations are sent together at most: two messages that fit one call.
const TOGETHER: usize = 2 * plan::MOST;

/// So many batches of the journal are read at once.
const PAGE: usize = 32;

/// The journal is waited for no longer than this before the metrics are renewed.
const LOOK: Duration = Duration::from_secs(1);

/// The stage that a queue leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The publisher: everything can wait.
    Publisher,
    /// The alerter: news goes at once.
    Alerter,
    /// The second alerter, in another region: as the first.
    SecondAlerter,
}

/// What a forwarder forwards, and where.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// Whose journal.
    pub site: Name,
    /// Where to.
    pub stage: Stage,
    /// Which of the stage's queues.
    pub share: Share,
    /// The queue's folder, with the folder of the journals in it.
    pub folder: &'a Path,
    /// The site's probes by link and name, each with the round-trip time in milliseconds over which a reply is news.
    pub probes: Vec<((Name, Name), Option<f64>)>,
}

/// To whom a forwarder says how it goes.
#[derive(Debug)]
pub struct Observers<'a> {
    /// The process's metrics.
    pub metrics: &'a Metrics,
    /// Its part of the process's health.
    pub part: Part,
    /// What the collector observes of it.
    pub report: Report,
    /// Who tells of a collector that reaches no alerter, and which of their queues this is there.
    pub reach: Option<(Reach, usize)>,
}

/// A forwarder. One process at a time holds its file.
pub struct Forwarder {
    name: String,
    site: Name,
    share: Share,
    urgent: bool,
    consumer: Consumer,
    sender: Sender,
    pace: Pace,
    judge: Judge,
    numbers: Numbers,
    /// What was received and is not settled.
    held: Received,
    /// The entries of the journal in it that are not packed yet.
    entries: Vec<Batch>,
    /// What was received after what is to be sent again.
    beyond: Option<Received>,
    /// Messages that are not written down yet.
    packed: Option<Vec<(Piece, String)>>,
    /// What is written down.
    pieces: Vec<Piece>,
    /// What of it is on its way.
    load: Option<Load>,
    metrics: OfQueue,
    part: Part,
    report: Report,
    reach: Option<(Reach, usize)>,
}

impl Stage {
    /// Its word in files, metrics and sources.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Alerter => "alerter",
            Self::SecondAlerter => "second-alerter",
        }
    }

    /// How long routine waits.
    #[must_use]
    pub const fn hold(self) -> Duration {
        match self {
            Self::Publisher => Duration::from_secs(30),
            Self::Alerter | Self::SecondAlerter => Duration::from_secs(10),
        }
    }
}

/// A queue's name: `alerter`, and `alerter-2` for the second of several.
#[must_use]
pub fn name(stage: Stage, index: usize) -> String {
    worker(stage.word(), index)
}

/// The folder of a site's forwarders in the queue's folder.
#[must_use]
pub fn folder(queue: &Path, site: &str) -> PathBuf {
    queue.join("forward").join(site)
}

/// A forwarder's file in the queue's folder: `forward/<site>/forward-<queue>.db`.
#[must_use]
pub fn file(queue: &Path, site: &str, stage: Stage, index: usize) -> PathBuf {
    folder(queue, site).join(format!("forward-{}.db", name(stage, index)))
}

impl Forwarder {
    /// Opens the forwarder's file, or begins it, and goes on where it left off. A new one begins with the journal.
    ///
    /// # Errors
    /// Another process holds the file; or it, or the journal, is foreign, newer or damaged.
    pub fn open(config: Config<'_>, sender: Sender, observers: Observers<'_>) -> Result<Self, Error> {
        let source = Source::gathered(config.folder.join("journal"), vec![config.site.clone()]);
        Self::open_from(source, config, sender, observers)
    }

    /// The same with another reader of the journal.
    fn open_from(
        source: Source,
        config: Config<'_>,
        sender: Sender,
        observers: Observers<'_>,
    ) -> Result<Self, Error> {
        let Config { site, stage, share, folder: queue, probes } = config;
        let Observers { metrics, part, report, reach } = observers;
        let name = name(stage, share.index);
        let of = |source: QueueError| Error::Forwarder {
            site: site.clone(),
            queue: name.clone(),
            source: Box::new(source),
        };
        let folder = folder(queue, &site);
        std::fs::create_dir_all(&folder).map_err(|source| {
            let advice = "the folder it belongs in must be there and writable";
            of(crosswatch_journal::JournalError::Folder { path: folder, source, advice }.into())
        })?;
        let file = file(queue, &site, stage, share.index);
        let mut consumer = Consumer::open(&file, file::SCHEMA, source).map_err(of)?;
        let (pieces, numbers) =
            consumer.transaction(|step| Ok::<_, QueueError>(file::load(step)?)).map_err(of)?;
        let metrics = metrics.of(&site, &name);
        // The first goes at once, to show that the queue takes it.
        let now = Instant::now().into_std();
        let held = now.checked_sub(stage.hold()).unwrap_or(now);
        Ok(Self {
            pace: Pace::with_hold(held, stage.hold()),
            urgent: stage != Stage::Publisher,
            judge: Judge::new(probes),
            held: Received::default(),
            entries: Vec::new(),
            beyond: None,
            packed: None,
            load: None,
            name,
            site,
            share,
            consumer,
            sender,
            numbers,
            pieces,
            metrics,
            part,
            report,
            reach,
        })
    }

    /// Forwards until it is stopped. What is on its way then is sent again by the next one.
    ///
    /// # Errors
    /// Its file or the journal is damaged.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = self.forward() => result,
        }
    }

    /// Forwards what the journal holds, until nothing is left of it. Where it is dropped before, what is on its way is sent again
    /// by the next one.
    ///
    /// # Errors
    /// Its file or the journal cannot be used.
    pub async fn drain(mut self) -> Result<(), Error> {
        loop {
            let drained = async {
                let left = self.consumer.backlog().await?.batches;
                if left == 0 && self.pieces.is_empty() {
                    return Ok(true);
                }
                self.pace.at_once();
                self.turn().await?;
                Ok(false)
            };
            let drained = drained.await;
            match drained {
                Ok(false) => {}
                Ok(true) => {
                    self.consumer.close().await;
                    return Ok(());
                }
                Err(source) => {
                    let source = Box::new(source);
                    return Err(Error::Forwarder { site: self.site, queue: self.name, source });
                }
            }
        }
    }

    async fn forward(&mut self) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            match self.turn().await {
                Ok(()) => backoff.reset(),
                Err(error) if error.is_temporary() => {
                    tracing::error!(site = %self.site, queue = self.name, %error, "nothing can be forwarded; it is tried again");
                    self.part.failing(error.to_string());
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(source) => {
                    return Err(Error::Forwarder {
                        site: self.site.clone(),
                        queue: self.name.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
    }

    /// Sends what is due once it is due, until it was taken and that is recorded.
    async fn turn(&mut self) -> Result<(), QueueError> {
        if self.pieces.is_empty() && self.packed.is_none() {
            self.gather().await?;
            self.pack().await;
        }
        self.plan()?;
        if self.load.is_none() {
            self.recover().await?;
        }
        self.pace.sent(Instant::now().into_std());
        self.deliver().await;
        self.settle().await
    }

    /// Reads on until a batch is due, or there is enough for one.
    async fn gather(&mut self) -> Result<(), QueueError> {
        if let Some(beyond) = self.beyond.take() {
            self.take(beyond);
        }
        let mut at_end = false;
        loop {
            let now = Instant::now().into_std();
            let waiting: usize = self.entries.iter().map(|entry| entry.observations.len()).sum();
            let due = self.pace.due() <= now && !self.held.is_nothing();
            if waiting >= TOGETHER || (due && at_end) {
                return Ok(());
            }
            let wait = if due { Duration::ZERO } else { self.pace.due().saturating_duration_since(now) };
            let wait = if self.held.is_nothing() { LOOK } else { wait.min(LOOK) };
            let received = self.consumer.receive(PAGE, wait).await?;
            // A journal that cannot be read has no end either, but gives nothing more.
            at_end = received.empty || received.is_nothing();
            if let Some(why) = &received.failing {
                self.part.failing(why.clone());
            }
            self.take(received);
            self.behind().await?;
        }
    }

    fn take(&mut self, mut received: Received) {
        for delivery in &mut received.deliveries {
            // What is settled is the delivery; what is sent is what was in it.
            let observations = std::mem::take(&mut delivery.batch.observations);
            let entry = Batch { observations, ..delivery.batch.clone() };
            let own = entry.observations.iter().filter(|one| self.share.has(one));
            // Each must be judged, so that the state is right.
            let news = own.fold(false, |news, one| self.judge.judge(one) | news);
            if news && self.urgent {
                self.pace.news();
            }
            self.entries.push(entry);
        }
        self.held.join(received);
    }

    /// Makes messages of what was gathered.
    async fn pack(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        let (numbers, share) = (self.numbers.clone(), self.share);
        // Once it is written down, a message keeps the observations in it.
        let room = self.sender.room();
        let packing = tokio::task::spawn_blocking(move || {
            pack(&entries, &numbers, share, |batch| fitting_in(encode_batch(batch), room))
        });
        match packing.await {
            Ok(packed) => self.packed = Some(packed),
            // The runtime is going down, or packing panicked: it is all read again.
            Err(error) => {
                tracing::error!(site = %self.site, queue = self.name, %error, "messages could not be made");
                self.consumer.give_back(std::mem::take(&mut self.held)).await;
            }
        }
    }

    /// Writes down what determines the messages, before the first is sent.
    fn plan(&mut self) -> Result<(), QueueError> {
        let Some(packed) = &self.packed else {
            return Ok(());
        };
        let pieces: Vec<Piece> = packed.iter().map(|(piece, _)| piece.clone()).collect();
        if !pieces.is_empty() {
            self.consumer.transaction(|step| Ok::<_, QueueError>(file::plan(step, &pieces)?))?;
        }
        self.pieces = pieces;
        let texts = self.packed.take().into_iter().flatten().map(|(_, text)| text);
        self.load = Some(Load::new(texts));
        Ok(())
    }

    /// Makes the messages again that were written down and may have been sent.
    async fn recover(&mut self) -> Result<(), QueueError> {
        loop {
            let received = match self.consumer.receive(1, LOOK).await {
                // What cannot be read now has not been pruned: without it this would be another message.
                Ok(Received { failing: Some(why), ref deliveries, .. }) if deliveries.is_empty() => {
                    Err(QueueError::Unavailable {
                        queue: format!("the journal of {}", self.site),
                        source: why.into(),
                    })
                }
                received => received,
            };
            let received = match received {
                Ok(received) => received,
                Err(error) => {
                    self.entries.clear();
                    self.consumer.give_back(std::mem::take(&mut self.held)).await;
                    return Err(error);
                }
            };
            let entry = received.deliveries.first().map(|delivery| &delivery.batch);
            let last = entry.is_some_and(|entry| is_last_of(&self.pieces, entry));
            if entry.is_some_and(|entry| !is_of(&self.pieces, entry)) {
                // The rest was pruned.
                self.beyond = Some(received);
                break;
            }
            let nothing = received.is_nothing();
            self.take(received);
            if last || nothing {
                break;
            }
        }
        let entries = std::mem::take(&mut self.entries);
        // How small they had to be is not known any more.
        let texts = self.pieces.iter().map(|piece| encode_again(encode_batch(&again(&entries, piece))));
        self.load = Some(Load::new(texts));
        Ok(())
    }

    /// Sends until all is taken, by one queue or the other.
    async fn deliver(&mut self) {
        while let Some(load) = self.load.as_mut().filter(|load| !load.is_done()) {
            let attempt = self.sender.attempt(load).await;
            self.note(&attempt);
            if attempt.failure.is_some()
                && let Err(error) = self.behind().await
            {
                tracing::debug!(%error, "how much waits is not known");
            }
        }
    }

    fn note(&self, attempt: &Attempt) {
        self.metrics.attempt(attempt);
        let on_standby = i64::from(self.sender.is_on_standby());
        if self.metrics.standby.set(on_standby) < on_standby {
            tracing::error!(site = %self.site, queue = self.name, "the queue fails: its standby gets the batches");
        }
        self.report.took(attempt.took);
        if attempt.taken > 0 {
            self.part.ok();
        }
        if let Some((reach, queue)) = &self.reach {
            reach.attempted(*queue, attempt);
        }
        if let Some(failure) = &attempt.failure {
            let which = match attempt.route {
                Route::First => "the queue",
                Route::Standby => "the standby queue",
            };
            let way_out = way_out(failure);
            tracing::warn!(site = %self.site, queue = self.name, %failure, way_out, taken = attempt.taken, "{which} did not take all; it is tried again");
            self.report.failed(1, &failure.code);
            if attempt.taken == 0 {
                self.part.failing(format!("{which} takes nothing: {failure}; {way_out}"));
            }
        }
    }

    /// Records that all was taken, and that the journal need not keep it.
    async fn settle(&mut self) -> Result<(), QueueError> {
        let (held, pieces) = (std::mem::take(&mut self.held), &self.pieces);
        self.load = None;
        let settled = self
            .consumer
            .settle(held, |step, _| if pieces.is_empty() { Ok(()) } else { Ok(file::sent(step, pieces)?) })
            .await;
        if let Err(error) = settled {
            // What was held was given back, and what came after it comes again with it.
            self.beyond = None;
            return Err(error);
        }
        for piece in self.pieces.drain(..) {
            self.numbers.done(&piece.origin, piece.number);
        }
        Ok(())
    }

    /// Renews the metrics of how much waits.
    async fn behind(&mut self) -> Result<(), QueueError> {
        let backlog = self.consumer.backlog().await?;
        let now = Timestamp::from(SystemTime::now());
        let age = backlog.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        self.metrics.backlog.set(i64::try_from(backlog.batches).unwrap_or(i64::MAX));
        self.metrics.age.set(age.as_secs_f64());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
