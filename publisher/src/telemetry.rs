//! The publisher's metrics of its own, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::aggregate::Done;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabel {
    site: String,
}

/// Counted when a transaction has committed, never before.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    batches: Counter,
    observations: Counter,
    late: Counter,
    foreign: Counter,
    repeated: Counter,
    missed: Counter,
    unknown_kinds: Counter,
    gaps_skipped: Counter,
    datapoints: Counter,
    late_datapoints: Counter,
    dead_letters: Counter,
    put_back: Counter,
    had: Counter,
    pub(crate) failures: Counter,
    queue_age: Gauge<f64, AtomicU64>,
    lag: Family<SiteLabel, Gauge<f64, AtomicU64>>,
    commit: Histogram,
}

/// What a receipt held beside batches to apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) repeated: u64,
    pub(crate) missed: u64,
    pub(crate) unknown_kinds: u64,
    pub(crate) dead: u64,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            batches: Counter::default(),
            observations: Counter::default(),
            late: Counter::default(),
            foreign: Counter::default(),
            repeated: Counter::default(),
            missed: Counter::default(),
            unknown_kinds: Counter::default(),
            gaps_skipped: Counter::default(),
            datapoints: Counter::default(),
            late_datapoints: Counter::default(),
            dead_letters: Counter::default(),
            put_back: Counter::default(),
            had: Counter::default(),
            failures: Counter::default(),
            queue_age: Gauge::default(),
            lag: Family::default(),
            // 0.1 ms to 13 s.
            commit: Histogram::new(exponential_buckets(0.0001, 2.0, 18)),
        };
        for (name, help, counter) in [
            ("batches", "Batches applied", &metrics.batches),
            ("observations", "Observations in the batches applied", &metrics.observations),
            (
                "late_observations",
                "Observations for a period that was over; published as a remainder",
                &metrics.late,
            ),
            (
                "foreign_observations",
                "Observations of a site, link, probe or VPN connection that the config lacks; skipped",
                &metrics.foreign,
            ),
            ("repeated_batches", "Batches that came again; skipped", &metrics.repeated),
            (
                "missed_batches",
                "Batches that the queue let go before the publisher had them",
                &metrics.missed,
            ),
            (
                "unknown_kinds",
                "Observations of a kind that this version does not know; skipped",
                &metrics.unknown_kinds,
            ),
            ("gaps_skipped", "Gaps in the batch numbers that stayed open for 30 s", &metrics.gaps_skipped),
            ("datapoints", "Datapoints put", &metrics.datapoints),
            (
                "late_datapoints",
                "Datapoints put that are the remainder of a period put before",
                &metrics.late_datapoints,
            ),
            ("dead_letters", "Batches that could not be read, kept as dead letters", &metrics.dead_letters),
            (
                "put_back_observations",
                "Observations that a replay put back and that count",
                &metrics.put_back,
            ),
            (
                "repeated_observations",
                "Observations that came by a replay and otherwise, or by two replays; they count once",
                &metrics.had,
            ),
            ("failures", "Transactions that failed and were tried again", &metrics.failures),
        ] {
            registry.register(format!("crosswatch_publisher_{name}"), help, counter.clone());
        }
        registry.register_with_unit(
            "crosswatch_publisher_queue_age",
            "Age of the oldest batch in the last receipt",
            Unit::Seconds,
            metrics.queue_age.clone(),
        );
        registry.register_with_unit(
            "crosswatch_publisher_event_time_lag",
            "How far a site's event time is behind the clock",
            Unit::Seconds,
            metrics.lag.clone(),
        );
        registry.register_with_unit(
            "crosswatch_publisher_commit",
            "How long a transaction took",
            Unit::Seconds,
            metrics.commit.clone(),
        );
        metrics
    }

    /// A transaction has committed.
    pub(crate) fn committed(&self, done: Done, took: Duration) {
        self.batches.inc_by(done.batches);
        self.observations.inc_by(done.observations);
        self.late.inc_by(done.late);
        self.foreign.inc_by(done.foreign);
        self.gaps_skipped.inc_by(done.gaps_skipped);
        self.datapoints.inc_by(done.datapoints);
        self.late_datapoints.inc_by(done.late_datapoints);
        self.put_back.inc_by(done.put_back);
        self.had.inc_by(done.had);
        self.commit.observe(took.as_secs_f64());
    }

    /// What was received is settled.
    pub(crate) fn settled(&self, receipt: Receipt) {
        self.repeated.inc_by(receipt.repeated);
        self.missed.inc_by(receipt.missed);
        self.unknown_kinds.inc_by(receipt.unknown_kinds);
        self.dead_letters.inc_by(receipt.dead);
    }

    /// Sets the age of the oldest batch received; none received means that nothing waits.
    pub(crate) fn oldest(&self, sent: Option<Timestamp>, now: Timestamp) {
        self.queue_age.set(sent.map_or(0.0, |sent| now.since(sent).as_secs_f64()));
    }

    /// Sets each site's lag.
    pub(crate) fn lags<'a>(&self, event_times: impl Iterator<Item = (&'a Name, Timestamp)>, now: Timestamp) {
        for (site, at) in event_times {
            let site = site.to_string();
            self.lag.get_or_create(&SiteLabel { site }).set(now.since(at).as_secs_f64());
        }
    }
}
