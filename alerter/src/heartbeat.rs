//! The alerter's heartbeat: once a minute CloudWatch hears that rules are judged, in a put of its own, so that a dead publisher
//! does not look like a dead alerter.
//!
//! It follows the judging, not the process: an alerter that hangs, or cannot read its queue or write its file, is silent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crosswatch_aws::cloudwatch::{CloudWatch, Datum, HEARTBEAT_PERIOD};
use crosswatch_host::clock;
use crosswatch_shared::time::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// How old the last sign of judging may be: longer than any read of a queue.
const RECENT: Duration = Duration::from_secs(45);

/// How often it is looked whether a heartbeat is due. A put that failed is tried again then.
const TICK: Duration = Duration::from_secs(5);

/// When judging last worked. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// It works.
    pub(crate) fn beat(&self, steady: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(steady);
    }

    /// Whether it worked lately.
    fn is_alive(&self, steady: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| steady.saturating_duration_since(last) <= RECENT)
    }
}

/// The task that puts it.
#[derive(Debug)]
pub struct Heartbeat {
    cloudwatch: CloudWatch,
    namespace: String,
    pulse: Pulse,
    /// The minute of the last one accepted.
    beat: Option<Timestamp>,
    puts: Counter,
    failures: Counter,
}

impl Heartbeat {
    /// Puts `Heartbeat{Stage=alerter}` into the namespace while the pulse beats.
    #[must_use]
    pub fn new(cloudwatch: CloudWatch, namespace: String, pulse: Pulse, registry: &mut Registry) -> Self {
        let (puts, failures) = (Counter::default(), Counter::default());
        registry.register(
            "crosswatch_alerter_heartbeats",
            "Heartbeats that CloudWatch accepted",
            puts.clone(),
        );
        registry.register(
            "crosswatch_alerter_heartbeat_failures",
            "Heartbeats that it did not; tried again",
            failures.clone(),
        );
        Self { cloudwatch, namespace, pulse, beat: None, puts, failures }
    }

    /// Until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let beating = async {
            loop {
                tick.tick().await;
                self.step(clock::now(), Instant::now()).await;
            }
        };
        let _: Option<()> = stop.run_until_cancelled(beating).await;
    }

    /// Puts the minute's heartbeat, unless it was put or there is nothing to tell.
    async fn step(&mut self, now: Timestamp, steady: Instant) {
        let minute = now.floor(HEARTBEAT_PERIOD);
        if self.beat == Some(minute) || !self.pulse.is_alive(steady) {
            return;
        }
        match self.cloudwatch.put(&self.namespace, &[Datum::heartbeat("alerter", now)]).await {
            Ok(()) => {
                self.puts.inc();
                self.beat = Some(minute);
            }
            Err(failure) => {
                self.failures.inc();
                tracing::warn!(%failure, "the alerter's heartbeat was not taken");
            }
        }
    }
}
