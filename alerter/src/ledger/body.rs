//! What a notification says.

use crosswatch_judge::incident::{Ended, Event, Incident};
use crosswatch_judge::verdict::{Kind, Symptom};
use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Destination;
use crate::catch_up::CATCH_UP;
use crate::drill::{DRILL, Drill};
use crate::refused::CONFIG_REFUSED;
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
    /// The rule that fired, or whose end was the incident's; `at-most` or `catch-up` for a digest.
    pub(crate) rule: String,
    /// Whom it fired for; the receiver's name for a digest.
    pub(crate) subject: String,
    /// The incident's link, or nothing.
    pub(crate) link: String,
    /// The deciding datapoint's time.
    pub(crate) at: Timestamp,
    /// The deciding datapoint's value; how many were held back for a digest.
    pub(crate) value: Option<f64>,
    /// Why the rule fired or no longer does.
    pub(crate) reason: String,
    /// All of it in one line that fits an SMS.
    pub(crate) text: String,
    /// The link or site, or `alerter`; nothing for a digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) place: String,
    /// What is broken; nothing for a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Kind>,
    /// What the verdict rests on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) summary: String,
    /// Since when the incident is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// What fires at the time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) symptoms: Vec<Fires>,
    /// What was captured of probes that fail, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) evidence: Vec<String>,
    /// 0 for the first that was told of the incident; more for what refines it, or tells that it is worse.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) revision: u32,
    /// Whether it says that what only worked less well is down, or what is known of it since that was told.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) worse: bool,
    /// Whether it is only a drill.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) drill: bool,
    /// What a digest tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<Vec<Held>>,
}

/// A rule that fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fires {
    /// The rule.
    pub(crate) rule: String,
    /// Whom it fires for.
    pub(crate) subject: String,
    /// The deciding datapoint's time.
    pub(crate) at: Timestamp,
    /// Why.
    pub(crate) reason: String,
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
    /// The link or site, or `alerter`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) place: String,
    /// What is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Kind>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Held {
    /// `black-hole use1-euw1`.
    fn named(&self) -> String {
        self.verdict.map_or_else(|| self.subject.clone(), |kind| format!("{} {}", self.place, kind.word()))
    }
}

impl Body {
    /// Whether it is of this alerter's own machine, of which another knows nothing.
    pub(super) fn is_own(&self) -> bool {
        self.rule == CONFIG_REFUSED && !self.drill
    }

    /// That an incident began, or what is known of it now, for this symptom. `word` is what a person reads first.
    pub(super) fn firing(event: &Event, symptom: &Symptom, word: &str) -> Self {
        let Incident { verdict, .. } = &event.incident;
        let Symptom { rule, subject, at, value, reason, .. } = symptom;
        let line = format!("{} ({rule})", verdict.words);
        Self::of(event, "firing", word, rule, subject, *at, *value, reason, &line)
    }

    /// That it is over.
    pub(super) fn resolved(event: &Event, ended: &Ended) -> Self {
        let Ended { symptom: Symptom { rule, subject, .. }, at, value, reason } = ended;
        let lasted = at.since(event.incident.opened).as_secs();
        let line = format!("over after {lasted} s: {reason} ({rule})");
        Self::of(event, "resolved", "resolved", rule, subject, *at, *value, reason, &line)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the two above are who calls it, with the body's own fields"
    )]
    fn of(
        event: &Event,
        state: &str,
        word: &str,
        rule: &str,
        subject: &str,
        at: Timestamp,
        value: Option<f64>,
        reason: &str,
        line: &str,
    ) -> Self {
        let Event { incident, evidence, .. } = event;
        let fires = |symptom: &Symptom| Fires {
            rule: symptom.rule.to_string(),
            subject: symptom.subject.to_string(),
            at: symptom.at,
            reason: symptom.reason.clone(),
        };
        let kind = incident.verdict.kind;
        Self {
            id: incident.id.clone(),
            state: state.to_owned(),
            rule: rule.to_owned(),
            subject: subject.to_owned(),
            link: incident.place.link().to_owned(),
            at,
            value,
            reason: reason.to_owned(),
            text: text::line(word, kind.word(), incident.place.name(), line),
            place: incident.place.name().to_owned(),
            verdict: Some(kind),
            summary: incident.verdict.words.clone(),
            since: Some(incident.opened),
            symptoms: incident.symptoms.iter().map(fires).collect(),
            evidence: evidence.clone(),
            revision: 0,
            worse: word == "worse",
            drill: false,
            held: None,
        }
    }

    /// Of a drill.
    pub(super) fn drill(drill: &Drill, state: &str) -> Self {
        let Drill { id, rule, site, at } = drill;
        let rule = rule.as_deref().unwrap_or(DRILL);
        let reason = "nothing is broken, this is a test page";
        Self {
            id: id.to_string(),
            state: state.to_owned(),
            rule: rule.to_owned(),
            subject: site.to_string(),
            link: String::new(),
            at: *at,
            value: None,
            reason: reason.to_owned(),
            text: text::line(&format!("{DRILL} {state}"), rule, site, reason),
            place: String::new(),
            verdict: None,
            summary: String::new(),
            since: None,
            symptoms: Vec::new(),
            evidence: Vec::new(),
            revision: 0,
            worse: false,
            drill: true,
            held: None,
        }
    }

    /// Of a digest: of what the limit held back, or, if `caught_up`, of what was kept back while the alerter was behind.
    pub(super) fn digest(
        id: &str,
        to: &Destination,
        held: Vec<Held>,
        caught_up: bool,
        now: Timestamp,
    ) -> Self {
        let firing = held.iter().filter(|held| held.state == "firing").count();
        let state = if firing > 0 { "firing" } else { "resolved" };
        // Those that still fire first: they are what somebody must look at.
        let (still, over): (Vec<&Held>, Vec<&Held>) = held.iter().partition(|held| held.state == "firing");
        let mut named: Vec<String> = still.iter().chain(&over).take(NAMED).map(|held| held.named()).collect();
        if held.len() > NAMED {
            named.push("...".to_owned());
        }
        let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
        let named = named.join(", ");
        if caught_up && firing == 0 {
            let reason = format!("{count} began and ended while the alerter was behind: {named}");
            let text = text::line(state, CATCH_UP, &to.receiver, &reason);
            let of_limit = Self::at_most(id, state, to, count, now, reason, Some(held));
            return Self { rule: CATCH_UP.to_owned(), text, ..of_limit };
        }
        let reason = format!("{count} held back, {firing} firing: {named}");
        Self::at_most(id, state, to, count, now, reason, Some(held))
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
            place: String::new(),
            verdict: None,
            summary: String::new(),
            since: None,
            symptoms: Vec::new(),
            evidence: Vec::new(),
            revision: 0,
            worse: false,
            drill: false,
            held,
        }
    }
}
