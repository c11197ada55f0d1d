//! PagerDuty: an event of its Events API v2 (developer.pagerduty.com, "Send an Alert Event"). Further triggers with the
//! same `dedup_key` go to the alert that is open, and notify nobody: what is worse is an alert of its own.

use serde_json::{Value, json};

use super::{alert_id, alert_ids, began_over, cut, details, title};
use crate::ledger::Body;

/// The longest `summary`, in characters.
const SUMMARY: usize = 1024;

/// The events, in their order; `key` is the integration's.
pub(super) fn events(body: &Body, key: &str, severity: &str) -> Vec<Value> {
    if body.state == "resolved" {
        let resolve = |id| json!({ "routing_key": key, "event_action": "resolve", "dedup_key": id });
        let begins = began_over(body).then(|| trigger(body, key, "info"));
        return begins.into_iter().chain(alert_ids(body).into_iter().map(resolve)).collect();
    }
    vec![trigger(body, key, severity)]
}

fn trigger(body: &Body, key: &str, severity: &str) -> Value {
    let source = if body.link.is_empty() { &body.subject } else { &body.link };
    let mut payload = json!({
        "summary": cut(title(body), SUMMARY),
        "source": source,
        "severity": severity,
        "timestamp": body.at,
        "component": body.subject,
        "class": body.rule,
        "custom_details": details(body),
    });
    if !body.link.is_empty() {
        payload["group"] = json!(body.link);
    }
    json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": alert_id(body),
        "client": "Crosswatch",
        "payload": payload,
    })
}
