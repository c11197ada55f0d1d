//! The sender: puts what is owed, one request at a time, and removes what was accepted.
//!
//! The loop gives it a turn with the file and the clocks, and waits for its call beside the queue. A call that ended, or died
//! with the process, has changed nothing until its outcome is in the file; what it carried is owed till then.
//!
//! Where a request may have failed for what is in it, a bare heartbeat goes next. If that fails too the service, or the
//! config, is to blame, and everything is tried again later. If it is accepted the request is split by halves until the
//! window to blame is alone; all others go.

use std::time::{Duration, Instant};

use crosswatch_aws::cloudwatch::{CloudWatch, DATUMS, Datum, HEARTBEAT_PERIOD};
use crosswatch_aws::{Failure, Kind};
use crosswatch_host::retry::Backoff;
use crosswatch_queue::Consumer;
use crosswatch_shared::config::topology::QueueKind;
use crosswatch_shared::time::Timestamp;
use prometheus_client::registry::Registry;
use rusqlite::Transaction;
use tokio_util::task::AbortOnDropHandle;

use super::owed::{self, Key, Summary, Window};
use super::pack::{self, Packed};
use super::telemetry::Metrics;
use crate::Error;

/// How many windows may be owed before no more batches are received; what one more page makes comes on top.
const MOST_OWED: usize = 100_000;

/// After how many failures in a row no more batches are received.
const BLOCKING: u32 = 2;

/// After how many failures in a row, that would pass by themselves as a rule, the request itself is suspected.
const SUSPICIOUS: u32 = 3;

/// For how long a window is set aside at which the service fails.
const ASIDE: Duration = Duration::from_mins(10);

/// How far into its minute a heartbeat waits for a request to ride in.
const ALONE: Duration = Duration::from_secs(50);

pub(crate) struct Sender {
    client: CloudWatch,
    /// What its heartbeat calls it.
    worker: String,
    namespace: String,
    /// How long the first window of a period waits for the others.
    gather: Duration,
    call: Option<Call>,
    /// How the last call ended, until that is in the file.
    ended: Option<(Put, Result<(), Failure>)>,
    /// Groups of windows of which one at least may be to blame.
    suspects: Vec<Vec<Key>>,
    /// A bare heartbeat is to tell whether they are.
    control: bool,
    failures: u32,
    failure: Option<Failure>,
    backoff: Backoff,
    pause_until: Option<Instant>,
    /// The minute of the last heartbeat accepted.
    beat: Option<Timestamp>,
    owed: Summary,
    owed_since: Option<Instant>,
    /// What is owed may have changed.
    stale: bool,
    metrics: Metrics,
}

struct Call {
    put: Put,
    handle: AbortOnDropHandle<Result<(), Failure>>,
}

#[derive(Clone, Debug)]
struct Put {
    errand: Errand,
    windows: Vec<Key>,
    datums: u64,
    beat: Option<Timestamp>,
}

/// Why something is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// It is owed, or a heartbeat is due.
    Owed,
    /// To tell whether the service takes anything.
    Control,
    /// To tell whether these are to blame.
    Suspects,
}

/// What comes of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    /// It may have failed for what was in it.
    Suspect,
    /// It failed for one of several.
    Split,
    /// This one is refused, for this reason.
    Refused(String),
    /// The service fails at this one.
    Aside,
    /// Nobody knows; it is tried again later.
    Again,
}

impl Sender {
    pub(crate) fn new(
        client: CloudWatch,
        worker: String,
        namespace: String,
        queue: &QueueKind,
        registry: &mut Registry,
    ) -> Self {
        Self {
            client,
            worker,
            namespace,
            // How long routine is held back by a collector, and some more for its way.
            gather: match queue {
                QueueKind::Embedded => Duration::from_secs(4),
                QueueKind::Sqs { .. } => Duration::from_secs(35),
            },
            call: None,
            ended: None,
            suspects: Vec::new(),
            control: false,
            failures: 0,
            failure: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_mins(1)),
            pause_until: None,
            beat: None,
            owed: Summary::default(),
            owed_since: None,
            stale: true,
            metrics: Metrics::register(registry),
        }
    }

    /// More may be owed than was before.
    pub(crate) fn owes_more(&mut self) {
        self.stale = true;
    }

    /// Records how the last call ended, and begins the next if there is reason for one. `sites` are the event times.
    ///
    /// # Errors
    /// The file cannot be written: nothing has changed, and the next turn does it.
    pub(crate) fn turn(
        &mut self,
        consumer: &mut Consumer,
        (now, steady): (Timestamp, Instant),
        sites: impl IntoIterator<Item = Timestamp>,
    ) -> Result<(), Error> {
        self.settle(consumer, (now, steady))?;
        if self.stale || self.owed.ready < self.owed.count {
            self.owed = consumer.transaction(|tx| Ok::<_, Error>(owed::summary(tx, now)?))?;
            self.stale = false;
            self.owed_since = (self.owed.ready > 0).then(|| self.owed_since.unwrap_or(steady));
            self.metrics.owed.set(i64::try_from(self.owed.count).unwrap_or(i64::MAX));
        }
        self.metrics.age.set(self.owed.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64()));
        if self.call.is_some() || self.pause_until.is_some_and(|until| steady < until) {
            return Ok(());
        }
        let heartbeat = (self.beat != Some(minute(now))).then(|| Datum::heartbeat(&self.worker, now));
        if self.control {
            let beat = Datum::heartbeat(&self.worker, now);
            self.begin(Errand::Control, Packed { datums: vec![beat], ..Packed::default() }, now);
            return Ok(());
        }
        if let Some(group) = self.suspects.last() {
            let packed = consumer.transaction(|tx| self.pack(tx, owed::of(tx, group)?, None, now))?;
            self.begin(Errand::Suspects, packed, now);
            return Ok(());
        }
        let waited = self.owed_since.map_or(Duration::ZERO, |since| steady.saturating_duration_since(since));
        let retried = self.failures > 0 && self.owed.ready > 0;
        let alone = heartbeat.is_some() && (self.failures > 0 || now.since(minute(now)) >= ALONE);
        if retried || alone || pack::is_due(&self.owed, waited, self.gather, sites, now) {
            let packed =
                consumer.transaction(|tx| self.pack(tx, owed::oldest(tx, now, DATUMS)?, heartbeat, now))?;
            self.begin(Errand::Owed, packed, now);
        }
        Ok(())
    }

    /// Records how the last call ended, if it has.
    ///
    /// # Errors
    /// As of [`Self::turn`].
    pub(crate) fn settle(
        &mut self,
        consumer: &mut Consumer,
        (now, steady): (Timestamp, Instant),
    ) -> Result<(), Error> {
        if let Some((put, result)) = &self.ended {
            let verdict = self.verdict(put, result);
            consumer.transaction(|tx| Ok::<_, Error>(record(tx, put, &verdict, now)?))?;
            self.learn(verdict, steady);
        }
        Ok(())
    }

    /// Packs a request. What can be in none is not owed any more.
    fn pack(
        &self,
        tx: &Transaction<'_>,
        windows: Vec<Window>,
        heartbeat: Option<Datum>,
        now: Timestamp,
    ) -> Result<Packed, Error> {
        let packed = pack::pack(&self.namespace, heartbeat, windows, now);
        owed::remove(tx, &packed.out_of_time)?;
        for (key, why) in &packed.unfit {
            owed::refuse(tx, *key, why, now)?;
        }
        Ok(packed)
    }

    fn begin(&mut self, errand: Errand, packed: Packed, now: Timestamp) {
        let Packed { windows, datums, out_of_time, unfit } = packed;
        self.stale |= !out_of_time.is_empty() || !unfit.is_empty();
        if !out_of_time.is_empty() {
            tracing::error!(
                datapoints = out_of_time.len(),
                "older than two weeks or more than two hours ahead: CloudWatch does not take them; they are kept here"
            );
            self.metrics.out_of_time.inc_by(out_of_time.len() as u64);
        }
        for (Key { id, .. }, why) in &unfit {
            tracing::error!(id, %why, "a datapoint is not put to CloudWatch, which would refuse it; it is kept here");
        }
        self.metrics.refused.inc_by(unfit.len() as u64);
        if datums.is_empty() {
            if errand == Errand::Suspects {
                self.suspects.pop();
            }
            return;
        }
        let beats = datums.first().is_some_and(|datum| datum.name == "Heartbeat");
        let put = Put { errand, windows, datums: datums.len() as u64, beat: beats.then(|| minute(now)) };
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let call = tokio::spawn(async move { client.put(&namespace, &datums).await });
        self.call = Some(Call { put, handle: AbortOnDropHandle::new(call) });
    }

    /// What an outcome means for the windows put.
    fn verdict(&self, put: &Put, result: &Result<(), Failure>) -> Verdict {
        let Err(failure) = result else {
            return Verdict::Accepted;
        };
        let suspicious = match failure.kind {
            Kind::Refused => true,
            Kind::Service | Kind::Timeout => self.failures + 1 >= SUSPICIOUS,
            _ => false,
        };
        match (put.errand, put.windows.as_slice()) {
            (Errand::Owed, [_, ..]) if suspicious => Verdict::Suspect,
            (Errand::Suspects, [_, _, ..]) if suspicious => Verdict::Split,
            (Errand::Suspects, [_]) if failure.kind == Kind::Refused => {
                Verdict::Refused(format!("{}: {}", failure.code, failure.message))
            }
            (Errand::Suspects, [_]) if suspicious => Verdict::Aside,
            _ => Verdict::Again,
        }
    }

    /// Takes note of what is in the file now.
    fn learn(&mut self, verdict: Verdict, steady: Instant) {
        let Some((put, result)) = self.ended.take() else { return };
        self.stale = true;
        self.owed_since = None;
        if let Err(failure) = result {
            self.metrics.failed(&failure.code);
            tracing::warn!(%failure, datums = put.datums, "a put to CloudWatch failed");
            self.failure = Some(failure);
        }
        if put.errand == Errand::Suspects && verdict != Verdict::Again {
            self.suspects.pop();
        }
        let first = put.windows.first().map(|key| key.id);
        match verdict {
            Verdict::Accepted => {
                self.metrics.puts.inc();
                self.metrics.datums.inc_by(put.datums);
                if let Some(beat) = put.beat {
                    self.metrics.heartbeats.inc();
                    self.beat = Some(beat);
                }
                if put.errand == Errand::Control {
                    self.control = false;
                }
                self.works();
            }
            Verdict::Suspect => {
                self.suspects.push(put.windows);
                self.control = true;
                self.failures += 1;
            }
            Verdict::Split => {
                let (older, newer) = put.windows.split_at(put.windows.len() / 2);
                self.suspects.extend([newer.to_vec(), older.to_vec()]);
                self.works();
            }
            Verdict::Refused(why) => {
                tracing::error!(?first, %why, "CloudWatch refuses a datapoint and takes others; it is kept here, and not put again");
                self.metrics.refused.inc();
                self.works();
            }
            Verdict::Aside => {
                tracing::error!(?first, again_in = ?ASIDE, "CloudWatch fails at a datapoint and takes others");
                self.metrics.set_aside.inc();
                self.works();
            }
            Verdict::Again => {
                self.failures += 1;
                if put.errand == Errand::Control {
                    // Not the windows are to blame, if nothing is taken.
                    self.control = false;
                    self.suspects.clear();
                }
                self.pause_until = Some(steady + self.backoff.pause());
            }
        }
    }

    /// The service is there, and takes what is right.
    fn works(&mut self) {
        self.failures = 0;
        self.failure = None;
        self.pause_until = None;
        self.backoff.reset();
    }

    /// Waits for the call under way; for ever where there is none. May be dropped at any time.
    pub(crate) async fn ended(&mut self) {
        let Some(call) = &mut self.call else {
            return std::future::pending().await;
        };
        let result = (&mut call.handle).await;
        let result = result.unwrap_or_else(|error| {
            Err(Failure::bad_answer("cloudwatch:PutMetricData", format!("a defect: {error}")))
        });
        if let Some(Call { put, .. }) = self.call.take() {
            self.ended = Some((put, result));
        }
    }

    /// Whether a call is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.call.is_some()
    }

    /// Why no more batches should be received for now.
    pub(crate) fn blocked(&self) -> Option<String> {
        let owed = |since: Timestamp| {
            format!("{} datapoints are owed to it, the oldest of {since}", self.owed.count)
        };
        let owed = self.owed.oldest.map_or("nothing else is owed to it".to_owned(), owed);
        match &self.failure {
            Some(failure) if self.failures >= BLOCKING => Some(format!(
                "CloudWatch does not take what is put ({failure}); {owed}; batches wait in the queue meanwhile"
            )),
            _ if self.owed.count >= MOST_OWED => {
                Some(format!("CloudWatch is behind: {owed}; batches wait in the queue meanwhile"))
            }
            _ => None,
        }
    }
}

fn record(tx: &Transaction<'_>, put: &Put, verdict: &Verdict, now: Timestamp) -> rusqlite::Result<()> {
    match verdict {
        Verdict::Accepted => owed::remove(tx, &put.windows),
        Verdict::Refused(why) => put.windows.iter().try_for_each(|key| owed::refuse(tx, *key, why, now)),
        Verdict::Aside => put.windows.iter().try_for_each(|key| owed::set_aside(tx, *key, now + ASIDE)),
        Verdict::Suspect | Verdict::Split | Verdict::Again => Ok(()),
    }
}

fn minute(now: Timestamp) -> Timestamp {
    now.floor(HEARTBEAT_PERIOD)
}
