//! Opsgenie: calls of its Alert API (docs.opsgenie.com, "Alert API"), which Jira Service Management keeps under another
//! address. An alert with an `alias` that is open already is counted, not made anew, notifies nobody and keeps its texts: what became
//! known since is written over them by calls of their own, and what is worse is an alert of its own.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Call, alert_id, alert_ids, began_over, cut, details, held, title};
use crate::ledger::Body;

/// The longest of each, in characters.
const MESSAGE: usize = 130;
const DESCRIPTION: usize = 15_000;
const ENTITY: usize = 512;
const NOTE: usize = 25_000;
const TAG: usize = 50;

/// The least of its priorities.
const LOWEST: &str = "P5";

/// How much all details may be, names and values; the API takes 8,000 characters.
const DETAILS: usize = 7_000;

/// One detail is cut to this.
const DETAIL: usize = 1_000;

/// Creates an alert and brings its texts up to date, or closes it.
pub(super) fn calls(body: &Body, key: &str, priority: Option<&str>) -> Vec<Call> {
    let of_key = || Some(format!("GenieKey {key}"));
    let of_alert = |id: String, method, what: &str, json: &Value| Call {
        method,
        path: Some((vec![id, what.to_owned()], "identifierType=alias")),
        authorization: of_key(),
        ..Call::post(super::text(json))
    };
    let note = json!({ "source": "Crosswatch", "note": cut(&body.text, NOTE) });
    let make = |alert: &Value| Call { authorization: of_key(), ..Call::post(super::text(alert)) };
    if body.state == "resolved" {
        let close = |id: &String| of_alert(id.clone(), Method::POST, "close", &note);
        if began_over(body) {
            return vec![make(&alert(body, Some(LOWEST))), close(&body.id)];
        }
        return match &alert_ids(body)[..] {
            // Where one that does not exist cannot be closed, the other is all the same.
            [worse, first] => {
                let instead = Some(Box::new(close(first)));
                vec![Call { instead, ..close(worse) }, close(first)]
            }
            ids => ids.iter().map(close).collect(),
        };
    }
    let alert = alert(body, priority);
    let made = make(&alert);
    if body.revision == 0 || body.text.starts_with("WORSE ") {
        return vec![made];
    }
    // Made all the same: somebody may have closed it. Jira Service Management takes notes, but has no call for the texts.
    let instead = Some(Box::new(of_alert(alert_id(body), Method::POST, "notes", &note)));
    let message = of_alert(alert_id(body), Method::PUT, "message", &json!({ "message": alert["message"] }));
    let description =
        of_alert(alert_id(body), Method::PUT, "description", &json!({ "description": alert["description"] }));
    vec![made, Call { instead, ..message }, description]
}

fn alert(body: &Body, priority: Option<&str>) -> Value {
    let verdict = body.verdict.map(|kind| format!("{}: {}", kind.word(), body.summary));
    let lines: Vec<String> = verdict
        .into_iter()
        .chain([body.reason.clone()])
        .chain(body.evidence.clone())
        .chain(held(body))
        .collect();
    let tags: Vec<String> =
        [&body.rule, &body.link].into_iter().filter(|tag| !tag.is_empty()).map(|tag| cut(tag, TAG)).collect();
    let mut alert = json!({
        "message": cut(title(body), MESSAGE),
        "alias": alert_id(body),
        "description": cut(&lines.join("\n"), DESCRIPTION),
        "entity": cut(&body.subject, ENTITY),
        "source": "Crosswatch",
        "tags": tags,
        "details": texts(&details(body)),
    });
    if let Some(priority) = priority {
        alert["priority"] = json!(priority);
    }
    alert
}

/// The details as the API takes them: texts. What is told elsewhere in the alert is left out, as is what may change while it is
/// open, and lists.
fn texts(details: &Value) -> Value {
    let mut room = DETAILS;
    let mut texts = Map::new();
    for (name, value) in details.as_object().into_iter().flatten() {
        let text = match value {
            _ if ["id", "state", "text", "verdict", "summary", "revision", "worse"].contains(&&**name) => {
                continue;
            }
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => cut(text, DETAIL),
            value => value.to_string(),
        };
        let size = name.chars().count() + text.chars().count();
        if let Some(rest) = room.checked_sub(size) {
            room = rest;
            texts.insert(name.clone(), Value::String(text));
        }
    }
    Value::Object(texts)
}
