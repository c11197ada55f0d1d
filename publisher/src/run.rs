//! The loop: receive, apply, commit; the only place of the publisher that reads a clock.

use std::time::{Duration, Instant};

use crosswatch_aws::cloudwatch::{CloudWatch, LATE};
use crosswatch_host::clock;
use crosswatch_host::health::Part;
use crosswatch_host::retry::Backoff;
use crosswatch_queue::{Consumer, Received, Schema, Source};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::aggregate::{self, Aggregate};
use crate::config::Config;
use crate::sink::cloudwatch::{Owing, Sender};
use crate::sink::{self, Embedded, Keep, Sink};
use crate::telemetry::{Metrics, Receipt};
use crate::{Error, FILE, had};

/// The publisher's file.
pub(crate) const SCHEMA: Schema = Schema {
    what: "publisher's file",
    application_id: 0x4357_5031,
    migrations: &[aggregate::SCHEMA, sink::SCHEMA, sink::cloudwatch::SCHEMA, had::SCHEMA, had::BOOTS],
};

/// How many batches one transaction takes at most.
const LIMIT: usize = 500;

/// How long a batch is waited for before gaps and gauges are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long a put may take to end when the publisher stops.
const LAST_CALL: Duration = Duration::from_secs(10);

/// The stage, opened and ready to run.
pub struct Publisher {
    consumer: Consumer,
    aggregate: Aggregate,
    metrics: Metrics,
    part: Part,
    /// What puts to CloudWatch, where the config wants that.
    sender: Option<Sender>,
    /// How long a step waits for a batch.
    tick: Duration,
    /// Memory is ahead of the file, since a transaction failed.
    stale: bool,
    /// It was told that what is published now is too old for alarms.
    told_old: bool,
}

impl Publisher {
    /// Opens the publisher's file in the folder of the queue, or begins it, and goes on from what it holds. Metrics go to
    /// `cloudwatch` too, where there is one; with it goes what the publisher's heartbeat calls it.
    ///
    /// # Errors
    /// The file is held by another process, foreign, newer or damaged;
    /// or the queue cannot be opened.
    pub fn open(
        config: Config,
        topology: &Topology,
        source: Source,
        cloudwatch: Option<(CloudWatch, String)>,
        registry: &mut Registry,
        part: Part,
    ) -> Result<Self, Error> {
        let metrics = Metrics::register(registry);
        let keep = Keep { time: config.keep, max_bytes: config.max_bytes };
        let (sink, sender): (Box<dyn Sink>, _) = match cloudwatch {
            None => (Box::new(Embedded::new(keep)), None),
            Some((client, worker)) => {
                let sender =
                    Sender::new(client, worker, config.namespace.clone(), &topology.queue.kind, registry);
                (Box::new(Owing::new(&config.sources, keep)), Some(sender))
            }
        };
        let aggregate = Aggregate::new(config, topology, sink);
        let file = topology.queue.path.join(FILE);
        let mut publisher = Self {
            consumer: Consumer::open(&file, SCHEMA, source)?,
            aggregate,
            metrics,
            part,
            sender,
            tick: TICK,
            stale: true,
            told_old: false,
        };
        publisher.load()?;
        publisher.consumer.transaction(|tx| Ok::<_, Error>(sink::tell(tx, keep, clock::now())?))?;
        Ok(publisher)
    }

    /// Publishes until it is stopped. What cannot be written for now, on a full disk say, is tried again until it can.
    ///
    /// # Errors
    /// A file or the queue fails in a way that trying again does not help.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        while let Some(step) = stop.run_until_cancelled(self.step()).await {
            match step {
                Ok(()) => backoff.reset(),
                Err(error) if error.is_temporary() => {
                    tracing::error!(%error, "nothing was published or lost; it is tried again");
                    self.metrics.failures.inc();
                    self.part.failing(error.to_string());
                    let _ = stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.finish().await?;
        self.consumer.close().await;
        Ok(())
    }

    /// Receives once and settles it, and has put what is owed. Dropped while it waits, it has lost nothing.
    pub(crate) async fn step(&mut self) -> Result<(), Error> {
        self.part.turned();
        self.load()?;
        self.turn()?;
        if let Some(why) = self.sender.as_ref().and_then(Sender::blocked) {
            // What is received now could only pile up here.
            self.part.failing(why);
            let _ = tokio::time::timeout(self.tick, call_ended(&mut self.sender)).await;
            return Ok(());
        }
        let received = tokio::select! {
            received = self.consumer.receive(LIMIT, self.tick) => received?,
            () = call_ended(&mut self.sender) => return Ok(()),
        };
        let (failing, empty) = (received.failing.clone(), received.empty);
        let sent = received.deliveries.iter().map(|delivery| delivery.sent);
        self.metrics.oldest(sent.min(), received.at);
        let receipt = Receipt {
            repeated: received.repeated,
            missed: received.missed,
            unknown_kinds: received.unknown_kinds,
            dead: received.dead,
        };
        if !received.deliveries.is_empty() || !received.put_back.is_empty() {
            self.tell_old(&received);
            self.settle(received).await?;
        }
        if receipt.missed > 0 {
            tracing::error!(
                batches = receipt.missed,
                "the queue let batches go before the publisher had them"
            );
        }
        self.metrics.settled(receipt);

        let now = clock::now();
        // Before its end a queue may hold what is missing: SQS gives a backlog in any order.
        if empty && self.aggregate.gap_is_due(now) {
            self.skip_gaps(now)?;
        }
        self.metrics.lags(self.aggregate.event_times(), now);
        match failing {
            Some(why) => self.part.failing(why),
            None => self.part.ok(),
        }
        Ok(())
    }

    /// Says once in a backlog that CloudWatch will be late with what is published of it, and raise no alarm.
    fn tell_old(&mut self, received: &Received) {
        let of = received.deliveries.iter().map(|delivery| delivery.batch.through).min();
        let age = of.map_or(Duration::ZERO, |through| received.at.since(through));
        let is_old = self.sender.is_some() && age > LATE;
        if is_old && !self.told_old {
            tracing::warn!(
                hours = age.as_secs() / 3600,
                "metrics of more than three hours ago are published now: CloudWatch shows them hours later, and no alarm is \
                 raised by them; the alerter judges them all the same"
            );
        }
        // One that is in order again is told anew if it falls behind once more.
        self.told_old = is_old;
    }

    async fn settle(&mut self, mut received: Received) -> Result<(), Error> {
        let begun = Instant::now();
        let now = received.at;
        let put_back = std::mem::take(&mut received.put_back);
        // Until the commit is known to have happened, memory may be ahead of the file.
        self.stale = true;
        let aggregate = &mut self.aggregate;
        let done = self
            .consumer
            .settle(received, |tx, deliveries| {
                let batches = deliveries.iter().map(|delivery| &delivery.batch);
                let mut done = aggregate.apply(tx, batches, now)?;
                if !put_back.is_empty() {
                    aggregate.put_back(tx, &put_back, now, &mut done)?;
                }
                Ok::<_, Error>(done)
            })
            .await?;
        self.stale = false;
        if let Some(sender) = &mut self.sender {
            sender.owes_more();
        }
        self.metrics.committed(done, begun.elapsed());
        Ok(())
    }

    fn skip_gaps(&mut self, now: Timestamp) -> Result<(), Error> {
        let begun = Instant::now();
        self.stale = true;
        let aggregate = &mut self.aggregate;
        let done = self.consumer.transaction(|tx| aggregate.skip_gaps(tx, now).map_err(Error::from))?;
        self.stale = false;
        if let Some(sender) = &mut self.sender {
            sender.owes_more();
        }
        tracing::warn!(
            gaps = done.gaps_skipped,
            "batches that a site sent have not come for 30 s; event time goes on without them"
        );
        self.metrics.committed(done, begun.elapsed());
        Ok(())
    }

    /// Gives the sender its turn.
    fn turn(&mut self) -> Result<(), Error> {
        let Some(sender) = &mut self.sender else { return Ok(()) };
        let sites = self.aggregate.event_times().map(|(_, at)| at);
        sender.turn(&mut self.consumer, (clock::now(), Instant::now()), sites)
    }

    /// Lets a put that is under way end, and records it, so that it need not be repeated.
    async fn finish(&mut self) -> Result<(), Error> {
        if self.sender.as_ref().is_some_and(Sender::is_busy) {
            let _ = tokio::time::timeout(LAST_CALL, call_ended(&mut self.sender)).await;
        }
        match &mut self.sender {
            Some(sender) => sender.settle(&mut self.consumer, (clock::now(), Instant::now())),
            None => Ok(()),
        }
    }

    /// Takes memory from the file again, if it may differ.
    fn load(&mut self) -> Result<(), Error> {
        if self.stale {
            let aggregate = &mut self.aggregate;
            self.consumer.transaction(|tx| aggregate.load(tx))?;
            self.stale = false;
        }
        Ok(())
    }
}

/// Waits for the put under way; for ever where there is none.
async fn call_ended(sender: &mut Option<Sender>) {
    match sender {
        Some(sender) => sender.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
impl Publisher {
    /// Receives without settling, as a process does that dies then.
    pub(crate) async fn receive(&mut self) -> Received {
        self.consumer.receive(LIMIT, TICK).await.unwrap()
    }

    /// Waits for next to nothing, so that a test need not.
    pub(crate) fn hurry(&mut self) {
        self.tick = Duration::from_millis(10);
    }

    pub(crate) fn mark_stale(&mut self) {
        self.stale = true;
    }
}
