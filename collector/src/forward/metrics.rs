//! The forwarders' own metrics, for all sites and queues of the process.

use crosswatch_shared::observation::Name;
use crosswatch_sqs::send::Attempt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = [(&'static str, Name); 2];
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Every forwarder's, told apart by the labels `site` and `queue`. Registered once a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    batches: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    billed: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    send: Family<Labels, Histogram, fn() -> Histogram>,
    backlog: Family<Labels, Gauge>,
    age: Family<Labels, Seconds>,
    standby: Family<Labels, Gauge>,
}

/// One forwarder's.
#[derive(Debug)]
pub(crate) struct OfQueue {
    batches: Counter,
    bytes: Counter,
    billed: Counter,
    failures: Counter,
    send: Histogram,
    pub(crate) backlog: Gauge,
    pub(crate) age: Seconds,
    pub(crate) standby: Gauge,
}

impl Metrics {
    /// Registers them, as `crosswatch_collector_forward_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let send: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 13));
        let metrics = Self {
            batches: Family::default(),
            bytes: Family::default(),
            billed: Family::default(),
            failures: Family::default(),
            send: Family::new_with_constructor(send),
            backlog: Family::default(),
            age: Family::default(),
            standby: Family::default(),
        };
        let Self { batches, bytes, billed, failures, send, backlog, age, standby } = metrics.clone();
        let registry = registry.sub_registry_with_prefix("crosswatch_collector_forward");
        registry.register("batches", "Batches that a queue took", batches);
        registry.register("bytes", "Bytes of batches sent, taken or not", bytes);
        registry.register("billed_requests", "Requests as AWS bills them, by each 64 KiB begun", billed);
        registry.register("failures", "Calls of which a queue did not take all", failures);
        registry.register("send_seconds", "How long a call took", send);
        registry.register("backlog_batches", "Batches of the journal that are not forwarded yet", backlog);
        registry.register("backlog_age_seconds", "How long the oldest of them has been in the journal", age);
        registry.register("standby", "1 while the standby queue gets the batches", standby);
        metrics
    }

    pub(crate) fn of(&self, site: &Name, queue: &str) -> OfQueue {
        let labels = [("site", site.clone()), ("queue", Name::from(queue))];
        OfQueue {
            batches: self.batches.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            billed: self.billed.get_or_create_owned(&labels),
            failures: self.failures.get_or_create_owned(&labels),
            send: self.send.get_or_create_owned(&labels),
            backlog: self.backlog.get_or_create_owned(&labels),
            age: self.age.get_or_create_owned(&labels),
            standby: self.standby.get_or_create_owned(&labels),
        }
    }
}

impl OfQueue {
    pub(crate) fn attempt(&self, attempt: &Attempt) {
        self.batches.inc_by(attempt.taken as u64);
        self.send.observe(attempt.took.as_secs_f64());
        self.bytes.inc_by(attempt.bytes as u64);
        self.billed.inc_by(attempt.billed);
        if attempt.failure.is_some() {
            self.failures.inc();
        }
    }
}
