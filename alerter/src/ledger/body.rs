//! What a notification says.

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Destination;
use crate::incident::Incident;
use crate::text;

/// The rule that a digest names.
pub(crate) const AT_MOST: &str = "at-most";

/// Of how many held incidents a digest's line names the subject.
const NAMED: usize = 5;

/// What a receiver gets, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Body {
    /// The same for an incident's every notification.
    pub(crate) id: String,
    /// `firing` or `resolved`.
    pub(crate) state: String,
    /// The rule's name; `at-most` for a digest.
    pub(crate) rule: String,
    /// The subject; the receiver's name for a digest.
    pub(crate) subject: String,
    /// The subject's link, or nothing.
    pub(crate) link: String,
    /// The deciding datapoint's time.
    pub(crate) at: Timestamp,
    /// The deciding datapoint's value; how many were held back for a digest.
    pub(crate) value: Option<f64>,
    /// Why.
    pub(crate) reason: String,
    /// All of it in one line that fits an SMS.
    pub(crate) text: String,
    /// What a digest tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<Vec<Held>>,
}

/// One incident that was held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The incident's id.
    pub(crate) id: String,
    /// The last that is known of it: `firing` or `resolved`.
    pub(crate) state: String,
    /// Its rule.
    pub(crate) rule: String,
    /// Its subject.
    pub(crate) subject: String,
    /// Since when it is in that state.
    pub(crate) at: Timestamp,
}

impl Body {
    /// Of an incident.
    pub(super) fn of(
        incident: &Incident,
        state: &str,
        at: Timestamp,
        value: Option<f64>,
        reason: &str,
    ) -> Self {
        Self {
            id: incident.id.clone(),
            state: state.to_owned(),
            rule: incident.rule.to_string(),
            subject: incident.subject.to_string(),
            link: incident.link.to_string(),
            at,
            value,
            reason: reason.to_owned(),
            text: text::line(state, &incident.rule, &incident.subject, reason),
            held: None,
        }
    }

    /// Of a digest.
    pub(super) fn digest(id: &str, to: &Destination, held: Vec<Held>, now: Timestamp) -> Self {
        let firing = held.iter().filter(|held| held.state == "firing").count();
        let state = if firing > 0 { "firing" } else { "resolved" };
        // Those that still fire first: they are what somebody must look at.
        let (still, over): (Vec<&Held>, Vec<&Held>) = held.iter().partition(|held| held.state == "firing");
        let mut named: Vec<&str> = still.iter().chain(&over).take(NAMED).map(|held| &*held.subject).collect();
        if held.len() > NAMED {
            named.push("...");
        }
        let reason = format!("{} held back, {firing} firing: {}", held.len(), named.join(", "));
        Self::at_most(id, state, to, u32::try_from(held.len()).unwrap_or(u32::MAX), now, reason, Some(held))
    }

    /// Of a digest, in either state.
    pub(super) fn at_most(
        id: &str,
        state: &str,
        to: &Destination,
        count: u32,
        at: Timestamp,
        reason: String,
        held: Option<Vec<Held>>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            state: state.to_owned(),
            rule: AT_MOST.to_owned(),
            subject: to.receiver.to_string(),
            link: String::new(),
            at,
            value: Some(f64::from(count)),
            text: text::line(state, AT_MOST, &to.receiver, &reason),
            reason,
            held,
        }
    }
}
