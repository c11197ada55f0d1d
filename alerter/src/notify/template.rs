//! Templates: a notification in the words of the service that its webhook belongs to. Pure; one file a service.
//!
//! Whatever more a notification comes to hold goes along in what each service has for details.

mod opsgenie;
mod pagerduty;
mod slack;
#[cfg(test)]
mod tests;

use reqwest::Url;
use serde_json::{Map, Value};

use crate::config::Template;
use crate::ledger::Body;

/// How many entries of a list a service is told; a digest may hold thousands, and services refuse what is too large.
const LISTED: usize = 50;

/// What is to be posted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// Segments to follow the URL's path, and its query then.
    pub(super) path: Option<(Vec<String>, &'static str)>,
    /// The header of that name.
    pub(super) authorization: Option<String>,
    /// The body.
    pub(super) json: String,
}

impl Call {
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

/// The call that tells a service of a notification; `key` is the template's.
pub(super) fn render(template: &Template, body: &Body, key: &str) -> Call {
    match template {
        Template::Plain => Call { json: text(&details(body)), ..Call::default() },
        Template::PagerDuty { severity, .. } => {
            Call { json: text(&pagerduty::event(body, key, severity)), ..Call::default() }
        }
        Template::Opsgenie { priority, .. } => opsgenie::call(body, key, *priority),
        Template::Slack => Call { json: text(&slack::message(body)), ..Call::default() },
    }
}

/// What to do about a service that refuses for good.
pub(super) fn way_out(template: &Template) -> Option<&'static str> {
    match template {
        Template::Plain => None,
        Template::PagerDuty { .. } => Some(
            "see that the key is that of an Events API v2 integration, and that the integration still exists",
        ),
        Template::Opsgenie { .. } => Some(
            "see that the key is that of an API integration that may create and close alerts, and that the webhook is \
             of the account's region",
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
