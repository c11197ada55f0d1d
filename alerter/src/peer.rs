//! Two alerters: each judges everything by a queue of its own, in a region of its own, and tells the other, through that one's
//! queue, what a receiver has accepted. The second waits with each page for that word.
//!
//! What is to be told is written in the transaction that says that the receiver accepted, and stays until the queue took it. A
//! message that was sent twice is the same one, by its number.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crosswatch_aws::sqs::{BYTES, MESSAGES, Sqs};
use crosswatch_host::clock::Clock;
use crosswatch_host::health::Part;
use crosswatch_host::retry::Backoff;
use crosswatch_shared::observation::{Name, Origin};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told::Told;
use crosswatch_shared::wire;
use crosswatch_sqs::body::fitting;
use rusqlite::Connection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::{dispatch, json};

/// How long the second waits with a page.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long before it tells something the second says so, and once more every so often, since one message may be late.
pub(crate) const LEAD: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_secs(3);

/// Until then the other has answered what it has told lately.
const ANSWER: Duration = Duration::from_secs(2);

/// For so long at most it waits until its own queue, where the answer is, can be read.
const DEAF: Duration = Duration::from_secs(30);

/// How often that is looked for.
const AGAIN: Duration = Duration::from_millis(500);

/// For so long after that the first leaves the channel to it: a receiver has 10 s to accept.
pub(crate) const STILL: Duration = Duration::from_secs(20);

/// The site that the messages name; no site of a config can be called so.
const SITE: &str = "(alerter)";

/// How often it is looked whether something is to be told, though nobody said so.
const LOOK: Duration = Duration::from_secs(5);

/// How long telling may take when the alerter stops; the next start tells the rest.
const DRAIN: Duration = Duration::from_secs(3);

/// Which of two alerters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// It pages at once.
    First,
    /// It pages what the first does not say to have paged.
    Second,
}

impl Rank {
    /// How long it waits with a page.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::First => Duration::ZERO,
            Self::Second => PATIENCE,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// The second's turn at a channel of a receiver.
///
/// The first, who was away and is back just when the second's patience is over, would tell the same at the same moment, and so
/// would both whose receiver takes something again. So the second says that it is about to tell something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    begun: Timestamp,
    said: Timestamp,
}

impl Turn {
    /// There is, or soon will be, something to tell: the turn as it is now, and whether the other is to be told of it.
    pub(crate) fn at(turn: Option<Self>, now: Timestamp) -> (Self, bool) {
        match turn.filter(|turn| turn.begun <= now && now < turn.said + (STILL - LEAD)) {
            Some(turn) if now < turn.said + REPEAT => (turn, false),
            Some(turn) => (Self { said: now, ..turn }, true),
            None => (Self { begun: now, said: now }, true),
        }
    }

    /// When it is looked for again whether the other is to be told.
    pub(crate) fn next(self) -> Timestamp {
        self.said + REPEAT
    }

    /// When it may tell: once it has heard what the other answers.
    pub(crate) fn tells_from(self, heard: &Heard, now: Timestamp) -> Timestamp {
        let from = self.begun + LEAD;
        if now < from || heard.all_until(self.begun + ANSWER) || self.begun + DEAF <= now {
            return from;
        }
        now + AGAIN
    }
}

/// Until when an alerter has heard all that its queue holds. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<AtomicI64>);

impl Heard {
    /// The queue was read to its end at this time.
    pub(crate) fn at(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::Release);
    }

    fn all_until(&self, then: Timestamp) -> bool {
        then.as_micros() <= self.0.load(Ordering::Acquire)
    }
}

/// For each message whether the queue took it, or else why not.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Vec<Result<(), String>>> + Send + 'a>>;

/// The other alerter's queue.
pub trait Tells: Send + Sync + 'static {
    /// Sends up to ten messages of [`BYTES`] together. What fails may have been taken nevertheless.
    fn tell<'a>(&'a self, bodies: &'a [String]) -> Telling<'a>;
}

impl Tells for Sqs {
    fn tell<'a>(&'a self, bodies: &'a [String]) -> Telling<'a> {
        Box::pin(async move {
            match self.send(bodies).await {
                Ok(each) => each.into_iter().map(|one| one.map_err(|failure| failure.to_string())).collect(),
                Err(failure) => vec![Err(failure.to_string())],
            }
        })
    }
}

/// The other alerter, as this one sees it.
#[derive(Clone)]
pub struct Peer {
    /// Which one this is.
    pub rank: Rank,
    /// The other's queue.
    pub queue: Arc<dyn Tells>,
}

/// Tells the other what was accepted.
pub(crate) struct Teller {
    file: Connection,
    origin: Origin,
    queue: Arc<dyn Tells>,
    clock: Clock,
    part: Part,
}

impl Teller {
    /// Opens its connection to the alerter's file, which must exist with its tables.
    pub(crate) fn open(path: &Path, peer: &Peer, clock: Clock, part: &Part) -> Result<Self, Error> {
        let of = |source| Error::File { path: path.to_owned(), source };
        let file = dispatch::connect(path).map_err(of)?;
        let boot: String = file.query_row("SELECT boot FROM teller", [], |row| row.get(0)).map_err(of)?;
        let collector: Name = format!("alerter-{}", peer.rank.word()).into();
        let origin = Origin { site: SITE.into(), collector, boot: boot.into() };
        Ok(Self {
            file,
            origin,
            queue: Arc::clone(&peer.queue),
            clock,
            part: part.section("telling the other"),
        })
    }

    /// Tells until it is stopped, at once when woken; then what is left, within a bound.
    pub(crate) async fn run(mut self, wake: Arc<Notify>, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let pause = match self.turn().await {
                Ok(true) => {
                    backoff.reset();
                    continue;
                }
                Ok(false) => {
                    self.part.ok();
                    None
                }
                Err(problem) => {
                    tracing::warn!(
                        problem,
                        "the other alerter cannot be told what was paged; it is tried again"
                    );
                    self.part.failing(problem);
                    Some(backoff.pause())
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // What failed rests, whatever else is to be told.
                () = wake.notified(), if pause.is_none() => {}
                () = tokio::time::sleep(pause.unwrap_or(LOOK)) => {}
            }
        }
        let rest = async { while matches!(self.turn().await, Ok(true)) {} };
        if tokio::time::timeout(DRAIN, rest).await.is_err() {
            tracing::warn!("gave up telling the other alerter what was paged; the next start does it");
        }
    }

    /// Tells the next few; `false` where there is nothing to tell.
    async fn turn(&mut self) -> Result<bool, String> {
        let next = self.next().map_err(|error| format!("the ledger cannot be read: {error}"))?;
        if next.is_empty() {
            return Ok(false);
        }
        let (numbers, bodies): (Vec<i64>, Vec<String>) = next.into_iter().unzip();
        let answers = self.queue.tell(&bodies).await;
        let mut failed = None;
        let mut answers = answers.into_iter();
        for number in numbers {
            match answers.next() {
                Some(Ok(())) => {
                    self.is_done(number).map_err(|error| format!("the ledger cannot be written: {error}"))?;
                }
                Some(Err(problem)) => failed = Some(problem),
                None => {
                    failed = failed.or_else(|| Some("its queue did not answer for every message".to_owned()))
                }
            }
        }
        failed.map_or(Ok(true), Err)
    }

    fn is_done(&self, number: i64) -> rusqlite::Result<()> {
        self.file.prepare_cached("DELETE FROM outbox WHERE number = ?")?.execute([number])?;
        Ok(())
    }

    /// The next few messages, with their numbers: as many as a call takes.
    fn next(&self) -> rusqlite::Result<Vec<(i64, String)>> {
        let now = self.clock.wall();
        let mut rows = self.file.prepare_cached("SELECT number, told FROM outbox ORDER BY number")?;
        let mut rows = rows.query([])?;
        let (mut next, mut bytes) = (Vec::new(), 0);
        while next.len() < MESSAGES
            && let Some(row) = rows.next()?
        {
            let (number, told): (i64, String) = (row.get(0)?, row.get(1)?);
            let told: Told = json::read(&told)?;
            let wire = wire::encode_told(&self.origin, number.unsigned_abs(), now, &told);
            let Some(body) = fitting(wire) else {
                // Nothing else may wait for it for ever.
                tracing::error!(
                    id = told.id,
                    receiver = told.receiver,
                    "it is too long for the other alerter's queue: it is not told"
                );
                self.is_done(number)?;
                continue;
            };
            bytes += body.len();
            if bytes > BYTES {
                break;
            }
            next.push((number, body));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
