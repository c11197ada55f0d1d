//! PagerDuty: an event of its Events API v2 (developer.pagerduty.com, "Send an Alert Event"). Further triggers with the
//! same `dedup_key` go to the alert that is open.

use serde_json::{Value, json};

use super::{cut, details, title};
use crate::ledger::Body;

/// The longest `summary`, in characters.
const SUMMARY: usize = 1024;

/// The event; `key` is the integration's.
pub(super) fn event(body: &Body, key: &str, severity: &str) -> Value {
    if body.state == "resolved" {
        return json!({ "routing_key": key, "event_action": "resolve", "dedup_key": body.id });
    }
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
        "dedup_key": body.id,
        "client": "Crosswatch",
        "payload": payload,
    })
}
