//! Opsgenie: calls of its Alert API (docs.opsgenie.com, "Alert API"), which Jira Service Management keeps under another
//! address. An alert with an `alias` that is open already is counted, not made anew.

use serde_json::{Map, Value, json};

use super::{Call, cut, details, held, title};
use crate::ledger::Body;

/// The longest of each, in characters.
const MESSAGE: usize = 130;
const DESCRIPTION: usize = 15_000;
const ENTITY: usize = 512;
const NOTE: usize = 25_000;
const TAG: usize = 50;

/// How much all details may be, names and values; the API takes 8,000 characters.
const DETAILS: usize = 7_000;

/// One detail is cut to this.
const DETAIL: usize = 1_000;

/// Creates an alert, or closes it.
pub(super) fn call(body: &Body, key: &str, priority: Option<&str>) -> Call {
    let authorization = Some(format!("GenieKey {key}"));
    if body.state == "resolved" {
        let segments = vec![body.id.clone(), "close".to_owned()];
        let json = json!({ "source": "Crosswatch", "note": cut(&body.text, NOTE) });
        return Call {
            path: Some((segments, "identifierType=alias")),
            authorization,
            json: super::text(&json),
        };
    }
    Call { path: None, authorization, json: super::text(&alert(body, priority)) }
}

fn alert(body: &Body, priority: Option<&str>) -> Value {
    let mut lines = vec![body.reason.clone()];
    lines.extend(held(body));
    let tags: Vec<String> =
        [&body.rule, &body.link].into_iter().filter(|tag| !tag.is_empty()).map(|tag| cut(tag, TAG)).collect();
    let mut alert = json!({
        "message": cut(title(body), MESSAGE),
        "alias": body.id,
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

/// The details as the API takes them: texts. What is told elsewhere in the alert, and lists, are left out.
fn texts(details: &Value) -> Value {
    let mut room = DETAILS;
    let mut texts = Map::new();
    for (name, value) in details.as_object().into_iter().flatten() {
        let text = match value {
            _ if ["id", "state", "text"].contains(&&**name) => continue,
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
