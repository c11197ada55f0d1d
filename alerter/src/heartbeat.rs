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

/// When judging last worked, and when it last heard every site. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Signs>>);

#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    judged: Option<Instant>,
    fresh: Option<Instant>,
}

impl Pulse {
    /// It works.
    pub(crate) fn beat(&self, steady: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).judged = Some(steady);
    }

    /// It works, the queue was read to its end, and no site is silent.
    pub(crate) fn fresh(&self, steady: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fresh = Some(steady);
    }

    /// Whether every site was heard within this time.
    pub(crate) fn was_fresh(&self, within: Duration, steady: Instant) -> bool {
        let Signs { fresh, .. } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.is_some_and(|last| steady.saturating_duration_since(last) <= within)
    }

    /// Whether it worked lately.
    fn is_alive(&self, steady: Instant) -> bool {
        let Signs { judged, .. } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        judged.is_some_and(|last| steady.saturating_duration_since(last) <= RECENT)
    }
}

/// The task that puts it.
#[derive(Debug)]
pub struct Heartbeat {
    cloudwatch: CloudWatch,
    worker: String,
    namespace: String,
    pulse: Pulse,
    /// The minute of the last one accepted.
    beat: Option<Timestamp>,
    puts: Counter,
    failures: Counter,
}

impl Heartbeat {
    /// Puts `Heartbeat{Stage=<worker>}` into the namespace while the pulse beats.
    #[must_use]
    pub fn new(
        cloudwatch: CloudWatch,
        worker: String,
        namespace: String,
        pulse: Pulse,
        registry: &mut Registry,
    ) -> Self {
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
        Self { cloudwatch, worker, namespace, pulse, beat: None, puts, failures }
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
        match self.cloudwatch.put(&self.namespace, &[Datum::heartbeat(&self.worker, now)]).await {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use crosswatch_aws::Session;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request with this status.
    async fn server(status: u16) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                while !bytes.ends_with(&[0xff]) && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
                let head = format!(
                    "HTTP/1.1 {status} X\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor\r\n\
                     content-length: 2\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), &[0xbf, 0xff]].concat()).await;
            }
        });
        address
    }

    async fn heartbeat(status: u16, pulse: &Pulse) -> Heartbeat {
        let session = Session::emulated(&format!("http://{}", server(status).await), "us-east-1");
        let cloudwatch = CloudWatch::new(&session);
        Heartbeat::new(
            cloudwatch,
            "alerter".to_owned(),
            "Crosswatch".to_owned(),
            pulse.clone(),
            &mut Registry::default(),
        )
    }

    const NOW: Timestamp = Timestamp::from_secs(1_795_330_800);

    #[tokio::test]
    async fn it_beats_once_a_minute_and_only_while_rules_are_judged() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        let mut heartbeat = heartbeat(200, &pulse).await;
        let secs = Duration::from_secs;
        heartbeat.step(NOW, begun).await;
        assert_eq!(heartbeat.puts.get(), 0, "it has judged nothing yet");
        pulse.beat(begun);
        for (after, puts) in [(0, 1), (5, 1), (44, 1), (60, 1)] {
            heartbeat.step(NOW + secs(after), begun + secs(after)).await;
            assert_eq!(heartbeat.puts.get(), puts, "after {after} s");
        }
        pulse.beat(begun + secs(61));
        heartbeat.step(NOW + secs(65), begun + secs(65)).await;
        assert_eq!(heartbeat.puts.get(), 2);
    }

    #[tokio::test]
    async fn one_that_was_not_taken_is_tried_again() {
        let pulse = Pulse::default();
        pulse.beat(Instant::now());
        let mut heartbeat = heartbeat(403, &pulse).await;
        for failures in 1..3 {
            heartbeat.step(NOW, Instant::now()).await;
            assert_eq!((heartbeat.puts.get(), heartbeat.failures.get()), (0, failures));
        }
    }
}
