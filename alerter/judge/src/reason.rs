//! Reasons: why a transition happened, in a few words for a person.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::rule::{Limits, Metric, Rule, Side, Threshold};

/// `3 of 3 lost`; `0 tunnels up`; `231.2 ms above 200 ms`; `10 of 15 above 120 ms (1.5 x baseline), newest 231.2 ms`.
pub(crate) fn fired(rule: &Rule, limits: Option<Limits>, breaching: usize, value: Option<f64>) -> String {
    let often = if rule.breach.n == 1 { String::new() } else { format!("{breaching} of {} ", rule.breach.n) };
    match (rule.metric, value) {
        (_, None) => format!("{often}breaching for want of data"),
        (Metric::PingOk, Some(_)) if rule.window.is_none() => format!("{often}lost"),
        (Metric::TunnelsUp, Some(up)) if often.is_empty() && rule.window.is_none() => {
            format!("{up} {} up", if up == 1.0 { "tunnel" } else { "tunnels" })
        }
        (_, Some(value)) if often.is_empty() => {
            format!("{} {}", measured(rule, value), limit(rule, limits, false))
        }
        (_, Some(value)) => {
            format!("{often}{}, newest {}", limit(rule, limits, false), measured(rule, value))
        }
    }
}

/// `30 in a row not below 1`; `2 of 3 below 1, fewer than 3`.
pub(crate) fn resolved(rule: &Rule, limits: Option<Limits>, breaching: usize) -> String {
    let limit = limit(rule, limits, true);
    match rule.clear {
        Some(clear) => format!("{clear} in a row not {limit}"),
        None if rule.breach.n == 1 => format!("not {limit}"),
        None => format!("{breaching} of {} {limit}, fewer than {}", rule.breach.n, rule.breach.m),
    }
}

/// `no data for 8s, the last at 2026-11-22T07:00:01.000123Z`.
pub(crate) fn unknown(deadline: Duration, last: Timestamp) -> String {
    format!("no data for {deadline:?}, the last at {last}")
}

/// After unknown.
pub(crate) fn returned(firing: bool) -> String {
    if firing { "data returned, still firing".to_owned() } else { "data returned".to_owned() }
}

/// `rule changed: 3 of 3 above 150 ms, newest 160 ms`.
pub(crate) fn edited(reason: &str) -> String {
    format!("rule changed: {reason}")
}

/// `above 200 ms`, `above 120 ms (1.5 x baseline)`.
fn limit(rule: &Rule, limits: Option<Limits>, while_firing: bool) -> String {
    let side = match rule.side {
        Side::Below => "below",
        Side::Above => "above",
    };
    let factor = match rule.threshold {
        Threshold::Fixed(_) => None,
        Threshold::OfBaseline { factor, .. } => {
            Some(rule.clear_threshold.filter(|_| while_firing).unwrap_or(factor))
        }
    };
    let number = limits.map(|limits| limits.clear.filter(|_| while_firing).unwrap_or(limits.threshold));
    let of_baseline = limits.is_none_or(|limits| limits.of_baseline);
    match (number.map(|number| measured(rule, number)), factor.filter(|_| of_baseline)) {
        (Some(number), Some(factor)) => format!("{side} {number} ({factor} x baseline)"),
        (Some(number), None) => format!("{side} {number}"),
        (None, factor) => format!("{side} {} x baseline, which is not known", factor.unwrap_or(1.0)),
    }
}

fn measured(rule: &Rule, value: f64) -> String {
    let unit = match rule.metric {
        Metric::LatencyMs | Metric::JitterMs | Metric::CollectionMs => " ms",
        Metric::LossPercent => " %",
        Metric::TunnelsUp | Metric::PingOk | Metric::CollectionOk => "",
    };
    format!("{}{unit}", (value * 1e3).round() / 1e3)
}
