//! What the sender tells Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) puts: Counter,
    pub(super) datums: Counter,
    pub(super) heartbeats: Counter,
    pub(super) refused: Counter,
    pub(super) out_of_time: Counter,
    pub(super) set_aside: Counter,
    pub(super) owed: Gauge,
    pub(super) age: Gauge<f64, AtomicU64>,
    failures: Family<CodeLabel, Counter>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("puts", "Requests that CloudWatch accepted", &metrics.puts),
            ("datums", "Datums in them", &metrics.datums),
            ("heartbeats", "Heartbeats in them", &metrics.heartbeats),
            ("refused", "Datapoints that CloudWatch refuses; kept in the table refused", &metrics.refused),
            (
                "out_of_time",
                "Datapoints older than two weeks or more than two hours ahead, which CloudWatch does not take",
                &metrics.out_of_time,
            ),
            (
                "set_aside",
                "Datapoints at which CloudWatch failed while it took others; tried again later",
                &metrics.set_aside,
            ),
        ] {
            registry.register(format!("crosswatch_publisher_cloudwatch_{name}"), help, counter.clone());
        }
        registry.register(
            "crosswatch_publisher_cloudwatch_failures",
            "Requests that failed, by CloudWatch's code",
            metrics.failures.clone(),
        );
        registry.register(
            "crosswatch_publisher_cloudwatch_owed",
            "Datapoints that CloudWatch has yet to accept",
            metrics.owed.clone(),
        );
        registry.register_with_unit(
            "crosswatch_publisher_cloudwatch_owed_age",
            "How long the oldest of them has been over",
            Unit::Seconds,
            metrics.age.clone(),
        );
        metrics
    }

    pub(super) fn failed(&self, code: &str) {
        self.failures.get_or_create(&CodeLabel { code: code.to_owned() }).inc();
    }
}
