//! The alerter's own metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Label = [(&'static str, String); 1];
type Labels = [(&'static str, String); 3];

/// What the alerter counts. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    batches: Family<Label, Counter>,
    observations: Family<Label, Counter>,
    transitions: Family<Label, Counter>,
    notifications: Family<Labels, Counter>,
    event_time_lag: Family<Label, Gauge<f64, AtomicU64>>,
    gaps_skipped: Family<Label, Gauge>,
    /// Transactions of the alerter's file that failed.
    pub(crate) file_errors: Counter,
    /// Incidents open.
    pub(crate) incidents_open: Gauge,
    /// Notifications not accepted yet.
    pub(crate) owed: Gauge,
    /// Age of the oldest of them, in seconds.
    pub(crate) oldest_owed: Gauge<f64, AtomicU64>,
    /// Notifications held back by `at_most`, or until the alerter has caught up.
    pub(crate) held: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = registry.sub_registry_with_prefix("crosswatch_alerter");
        all.register(
            "batches",
            "Batches by what became of them: applied, repeated, dead letters, or missed since the queue let them go",
            metrics.batches.clone(),
        );
        all.register(
            "observations",
            "Observations by what became of them: judged, seen before, foreign to the config, late, of unknown kind, or replayed and not to be judged",
            metrics.observations.clone(),
        );
        all.register("transitions", "Transitions of rules by the new state", metrics.transitions.clone());
        all.register("incidents_open", "Incidents that are open", metrics.incidents_open.clone());
        all.register(
            "notifications",
            "Tries to notify by receiver, channel and result: accepted, failed, refused (somebody must change something), or abandoned with its receiver",
            metrics.notifications.clone(),
        );
        all.register(
            "notifications_owed",
            "Notifications that their receiver has not accepted yet",
            metrics.owed.clone(),
        );
        all.register(
            "oldest_owed_seconds",
            "Age of the oldest notification that is owed",
            metrics.oldest_owed.clone(),
        );
        all.register(
            "notifications_held",
            "Notifications held back by at_most until the next digest, or until the alerter has caught up",
            metrics.held.clone(),
        );
        all.register(
            "event_time_lag_seconds",
            "How far a site's event time is behind the clock",
            metrics.event_time_lag.clone(),
        );
        all.register(
            "gaps_skipped",
            "Gaps in a site's batches that were given up",
            metrics.gaps_skipped.clone(),
        );
        all.register(
            "file_errors",
            "Transactions of the alerter's own file that failed",
            metrics.file_errors.clone(),
        );
        metrics
    }

    pub(crate) fn received(&self, result: &'static str, count: u64) {
        if count > 0 {
            self.batches.get_or_create(&[("result", result.to_owned())]).inc_by(count);
        }
    }

    pub(crate) fn observed(&self, taken: &'static str, count: u64) {
        if count > 0 {
            self.observations.get_or_create(&[("taken", taken.to_owned())]).inc_by(count);
        }
    }

    pub(crate) fn transition(&self, state: &'static str) {
        self.transitions.get_or_create(&[("state", state.to_owned())]).inc();
    }

    pub(crate) fn notified(&self, receiver: &str, channel: &str, result: &str, count: u64) {
        self.notifications
            .get_or_create(&[
                ("receiver", receiver.to_owned()),
                ("channel", channel.to_owned()),
                ("result", result.to_owned()),
            ])
            .inc_by(count);
    }

    pub(crate) fn site(&self, site: &str, lag_seconds: f64, gaps_skipped: u64) {
        let label = [("site", site.to_owned())];
        self.event_time_lag.get_or_create(&label).set(lag_seconds);
        self.gaps_skipped.get_or_create(&label).set(i64::try_from(gaps_skipped).unwrap_or(i64::MAX));
    }
}
