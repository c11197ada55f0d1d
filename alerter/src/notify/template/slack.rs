//! Slack: a message to an incoming webhook (docs.slack.dev, "Sending messages using incoming webhooks"). Slack knows no
//! repetition for what it is, so the incident's id stands in the message. The attachment gives it a colour, which blocks
//! have not, and is understood by those who imitate Slack's webhooks.

use serde_json::{Value, json};

use super::{held, text};
use crate::ledger::Body;

/// The message.
pub(super) fn message(body: &Body) -> Value {
    let color = if body.state == "resolved" { "good" } else { "danger" };
    let line = escaped(&body.text);
    let mut fields = Vec::new();
    for (title, value) in [("Link", &body.link), ("Rule", &body.rule), ("Subject", &body.subject)] {
        if !value.is_empty() {
            fields.push(json!({ "title": title, "value": escaped(value), "short": true }));
        }
    }
    if let Some(value) = body.value {
        fields.push(json!({ "title": "Value", "value": text(&json!(value)), "short": true }));
    }
    let mut lines = vec![escaped(&body.reason)];
    lines.extend(held(body).iter().map(|line| escaped(line)));
    json!({
        "text": line,
        // Names hold what would be markup, such as `_`.
        "mrkdwn": false,
        "attachments": [{
            "color": color,
            "fallback": line,
            "text": lines.join("\n"),
            "fields": fields,
            "footer": format!("Crosswatch {}", body.id),
            "ts": body.at.as_micros() / 1_000_000,
        }],
    })
}

/// The three characters that Slack gives a meaning.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
