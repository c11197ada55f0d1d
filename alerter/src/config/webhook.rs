//! A receiver's webhook: where it is, and in which form it is told.

use crosswatch_shared::config::document::{Table, Value};
use crosswatch_shared::config::values;

use super::{Secret, Template};

/// Where PagerDuty's Events API v2 takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Where Opsgenie's Alert API makes alerts; accounts of the EU have another.
const OPSGENIE: &str = "https://api.opsgenie.com/v2/alerts";

const SEVERITIES: [(&str, &str); 4] =
    [("critical", "critical"), ("error", "error"), ("warning", "warning"), ("info", "info")];

const PRIORITIES: [(&str, &str); 5] = [("P1", "P1"), ("P2", "P2"), ("P3", "P3"), ("P4", "P4"), ("P5", "P5")];

/// The keys by which a receiver has a webhook.
pub(super) const WAYS: [&str; 3] = ["webhook", "webhook_file", "template"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Plain,
    PagerDuty,
    Opsgenie,
    Slack,
}

impl Service {
    const NAMED: [(&'static str, Self); 3] =
        [("pagerduty", Self::PagerDuty), ("opsgenie", Self::Opsgenie), ("slack", Self::Slack)];

    /// Whether it knows a key; says so where it does not.
    fn knows(self, key: &'static str) -> bool {
        match key {
            "key" | "key_file" => matches!(self, Self::PagerDuty | Self::Opsgenie),
            "severity" => self == Self::PagerDuty,
            "priority" => self == Self::Opsgenie,
            _ => true,
        }
    }
}

/// Takes the webhook, if there is one, and its template.
pub(super) fn take(table: &mut Table<'_>) -> Option<(Option<Secret>, Template)> {
    let place = table.place();
    let service = table.or("template", Service::Plain, |value| value.word(&Service::NAMED));
    let webhook = Secret::take(table, "webhook", "webhook_file", |value| {
        value.parsed("https://example.com/hook", |text| values::http_url(text).map(|()| text.to_owned()))
    });
    let key = Secret::take(table, "key", "key_file", |value| take_key(value, service));
    let severity = table.maybe("severity", |value| value.word(&SEVERITIES));
    let priority = table.maybe("priority", |value| value.word(&PRIORITIES));
    let service = service?;
    let mut refused = false;
    for key in ["key", "key_file", "severity", "priority"] {
        if let Some(value) = table.get(key).filter(|_| !service.knows(key)) {
            refused = true;
            let of = match key {
                "severity" => "template = \"pagerduty\"",
                "priority" => "template = \"opsgenie\"",
                _ => "template = \"pagerduty\" or \"opsgenie\"",
            };
            let _: Option<()> = value.wrong(format!("'{key}' is for {of}; add that, or leave it out"));
        }
    }
    let (webhook, key, severity, priority) = (webhook?, key?, severity?, priority?);
    if refused {
        return None;
    }
    let needs_key = |name: &str, what: &str| {
        place.missing(format!(
            "template = \"{name}\" needs 'key_file', the file with {what}, or 'key', itself"
        ))
    };
    let at = |default: &str| Some(webhook.clone().unwrap_or_else(|| Secret::Value(default.to_owned())));
    match (service, key) {
        (Service::Plain, _) => Some((webhook, Template::Plain)),
        (Service::PagerDuty, Some(key)) => {
            Some((at(PAGERDUTY), Template::PagerDuty { key, severity: severity.unwrap_or("critical") }))
        }
        (Service::PagerDuty, None) => needs_key("pagerduty", "the integration key of an Events API v2 integration"),
        (Service::Opsgenie, Some(key)) => Some((at(OPSGENIE), Template::Opsgenie { key, priority })),
        (Service::Opsgenie, None) => needs_key("opsgenie", "the key of an API integration"),
        (Service::Slack, _) if webhook.is_none() => place.missing(
            "template = \"slack\" needs 'webhook_file', the file with the incoming webhook's URL, or 'webhook', itself",
        ),
        (Service::Slack, _) => Some((webhook, Template::Slack)),
    }
}

/// The text of a key, which no message repeats.
fn take_key(value: &Value<'_>, service: Option<Service>) -> Option<String> {
    let text = value.text()?;
    match service.map(Service::problem_with).and_then(|check| check(text)) {
        Some(problem) => value.wrong(format!("'key' {problem}")),
        None => Some(text.to_owned()),
    }
}

impl Service {
    fn problem_with(self) -> fn(&str) -> Option<&'static str> {
        match self {
            Self::PagerDuty => problem_with_routing_key,
            _ => problem_with_key,
        }
    }
}

/// What keeps a text from being PagerDuty's integration key.
pub(crate) fn problem_with_routing_key(text: &str) -> Option<&'static str> {
    let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (!valid)
        .then_some("is not an integration key of PagerDuty, which is 32 letters and digits; copy it whole")
}

fn problem_with_key(text: &str) -> Option<&'static str> {
    let valid = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    (!valid).then_some("is not a key: it is one word of printable ASCII, 256 characters at most")
}
