//! What an observation means to a rule: a value, several, or none.

use crosswatch_shared::observation::{Body, Lost, Outcome};

use crate::rule::{Metric, Rule};

/// What an observation means to a rule, each value in turn. In a period each packet of a burst counts for itself, also of
/// one that was wholly lost; without one the burst is one datapoint.
pub(super) fn values(rule: &Rule, body: &Body, mut with: impl FnMut(Option<f64>)) {
    let of_burst = match body {
        Body::Probe { outcome, detail: Some(detail), .. } if rule.window.is_some() => {
            match (outcome, rule.metric) {
                (Outcome::Reply { .. }, _) => &*detail.burst,
                // This machine is to blame, whatever an older collector said of each.
                (Outcome::Lost(Lost::Local), _) => &[],
                (Outcome::Lost(_), Metric::PingOk | Metric::LossPercent) => &*detail.burst,
                // One sign that there is no time to have is as good as many.
                (Outcome::Lost(_), _) => &[],
            }
        }
        _ => &[],
    };
    if of_burst.is_empty() {
        if let Some(value) = value(rule.metric, body) {
            with(value);
        }
        return;
    }
    for packet in of_burst {
        match (rule.metric, packet) {
            (Metric::PingOk, packet) => with(Some(f64::from(packet.is_some()))),
            (Metric::LossPercent, packet) => with(Some(f64::from(packet.is_none()))),
            (Metric::LatencyMs | Metric::JitterMs, Some(rtt_ms)) => with(Some(*rtt_ms)),
            _ => {}
        }
    }
}

/// What an observation means to a metric: a value, `Some(None)` for a sign that there is none to have, or nothing.
pub(super) fn value(metric: Metric, body: &Body) -> Option<Option<f64>> {
    match (metric, body) {
        (_, Body::Probe { outcome: Outcome::Lost(Lost::Local), .. }) => None,
        (Metric::PingOk, Body::Probe { outcome, .. }) => {
            Some(Some(f64::from(matches!(outcome, Outcome::Reply { .. }))))
        }
        (Metric::LossPercent, Body::Probe { outcome, .. }) => {
            Some(Some(f64::from(matches!(outcome, Outcome::Lost(_)))))
        }
        (Metric::LatencyMs | Metric::JitterMs, Body::Probe { outcome: Outcome::Reply { rtt_ms }, .. }) => {
            Some(Some(*rtt_ms))
        }
        (Metric::LatencyMs | Metric::JitterMs, Body::Probe { outcome: Outcome::Lost(_), .. }) => Some(None),
        (Metric::TunnelsUp, Body::Tunnels { tunnels, .. }) if !tunnels.is_empty() => {
            Some(Some(tunnels.iter().filter(|tunnel| tunnel.up).count() as f64))
        }
        (Metric::CollectionOk, Body::Collection { ok, .. }) => Some(Some(f64::from(*ok))),
        (Metric::CollectionMs, Body::Collection { took_ms, .. }) => Some(Some(*took_ms)),
        _ => None,
    }
}
