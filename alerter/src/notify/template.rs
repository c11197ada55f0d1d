//! Templates: a notification in the words of the service that its webhook belongs to. Pure; one file a service.
//!
//! Whatever more a notification comes to hold goes along in what each service has for details.

mod opsgenie;
mod pagerduty;
mod slack;
#[cfg(test)]
mod tests;

use reqwest::{Method, Url};
use serde_json::{Map, Value};

use crate::config::Template;
use crate::ledger::Body;

/// How many entries of a list a service is told; a digest may hold thousands, and services refuse what is too large.
const LISTED: usize = 50;

/// One request to a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// What it asks for.
    pub(super) method: Method,
    /// Segments to follow the URL's path, and its query then.
    pub(super) path: Option<(Vec<String>, &'static str)>,
    /// The header of that name.
    pub(super) authorization: Option<String>,
    /// The body.
    pub(super) json: String,
    /// What is asked for in place of it and of all that would follow, where the service has no such call.
    pub(super) instead: Option<Box<Call>>,
}

impl Call {
    /// A POST to the webhook itself.
    pub(super) fn post(json: String) -> Self {
        Self { method: Method::POST, path: None, authorization: None, json, instead: None }
    }

    /// Makes the webhook's URL that of the call.
    pub(super) fn extend(&self, url: &mut Url) {
        if let Some((segments, query)) = &self.path {
            // Of HTTP, so that it has a path.
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().extend(segments);
            }
            url.set_query(Some(query));
        }
    }
}

/// The calls that tell a service of a notification, in their order; `key` is the template's.
pub(super) fn render(template: &Template, body: &Body, key: &str) -> Vec<Call> {
    let all = match template {
        Template::Plain => vec![details(body)],
        Template::PagerDuty { severity, .. } => pagerduty::events(body, key, severity),
        Template::Opsgenie { priority, .. } => return opsgenie::calls(body, key, *priority),
        Template::Slack => vec![slack::message(body)],
    };
    all.iter().map(|json| Call::post(text(json))).collect()
}

/// Whether it is a digest of what is over from the beginning. Of an end without a beginning a service shows nothing, so that there
/// must be an alert first.
fn began_over(body: &Body) -> bool {
    body.held.is_some() && body.state == "resolved"
}

/// The id of the alert that a notification belongs to. A service that knows an open alert, which somebody may have acknowledged,
/// tells nobody of it again: what is down, and only worked less well when it was told, is another.
fn alert_id(body: &Body) -> String {
    if body.worse { worse_id(body) } else { body.id.clone() }
}

fn worse_id(body: &Body) -> String {
    format!("{}-worse", body.id)
}

/// The ids of all alerts that an end ends. Not every incident got worse; of what a service does not know it ends nothing.
fn alert_ids(body: &Body) -> Vec<String> {
    let may_be_worse = body.verdict.is_some();
    may_be_worse.then(|| worse_id(body)).into_iter().chain([body.id.clone()]).collect()
}

/// What to do about a service that refuses for good.
pub(super) fn way_out(template: &Template) -> Option<&'static str> {
    match template {
        Template::Plain => None,
        Template::PagerDuty { .. } => Some(
            "see that the key is that of an Events API v2 integration, and that the integration still exists",
        ),
        Template::Opsgenie { .. } => Some(
            "see that the key is that of an API integration that may create, update and close alerts, and that the \
             webhook is of the account's region",
        ),
        Template::Slack => Some("see that the incoming webhook and its channel still exist, or make another"),
    }
}

/// The notification's line without its first word: a title must stay true when the state has changed.
fn title(body: &Body) -> &str {
    let state = body.state.to_uppercase();
    body.text.strip_prefix(&state).map_or(&*body.text, str::trim_start)
}

/// All that the notification holds, long lists cut.
fn details(body: &Body) -> Value {
    let mut all = match serde_json::to_value(body) {
        Ok(Value::Object(all)) => all,
        // A struct of text and numbers is an object.
        _ => Map::new(),
    };
    let mut left_out = Map::new();
    for (name, value) in &mut all {
        if let Value::Array(list) = value
            && list.len() > LISTED
        {
            left_out.insert(format!("{name}_left_out"), Value::from(list.len() - LISTED));
            list.truncate(LISTED);
        }
    }
    all.append(&mut left_out);
    Value::Object(all)
}

/// A line for each incident of a digest, as far as they are listed.
fn held(body: &Body) -> Vec<String> {
    let held = body.held.as_deref().unwrap_or_default();
    let mut lines: Vec<String> = held
        .iter()
        .take(LISTED)
        .map(|held| format!("{} {} {} since {}", held.state, held.rule, held.subject, held.at))
        .collect();
    if let Some(more @ 1..) = held.len().checked_sub(LISTED) {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// The text cut to so many characters, a cut shown by `..`.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(2)).chain("..".chars()).collect()
}

fn text(json: &Value) -> String {
    json.to_string()
}
