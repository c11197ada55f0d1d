//! What the alerter knows, as the console shows it. The alerter's file is its own matter: who composes the program brings an
//! [`Alerter`] that reads it.

use crosswatch_shared::time::Timestamp;
use serde::Serialize;

/// The door to what the alerter knows. Each call reads it anew, in a short transaction.
pub trait Alerter: Send + Sync {
    /// How things stand; `None` where no alerter has run.
    ///
    /// # Errors
    /// It cannot be read; a sentence that says why.
    fn now(&self) -> Result<Option<Judged>, String>;

    /// The incidents that were open at some time within a span, the newest first, at most `limit`; of one link, if one is
    /// named.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn incidents(
        &self,
        from: Timestamp,
        to: Timestamp,
        link: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Incident>, String>;

    /// An incident with what was told of it; `None` where there is none of this id.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn story(&self, id: &str) -> Result<Option<Story>, String>;
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Judged {
    /// The incidents that are open.
    pub incidents: Vec<Incident>,
    /// The sites that are silent.
    pub silent: Vec<String>,
    /// How many notifications no receiver has accepted yet, and since when the oldest waits.
    pub owed: Option<(u64, Timestamp)>,
}

/// All that fires, or fired, of one link or site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// The link or site, or `alerter`.
    pub place: String,
    /// The link, or nothing.
    pub link: String,
    /// The verdict's word.
    pub verdict: String,
    /// What the verdict rests on.
    pub summary: String,
    /// When it began, by the deciding datapoint.
    pub opened_at: Timestamp,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// Why it ended.
    pub resolved_reason: Option<String>,
    /// Its rules and subjects, the oldest first.
    pub symptoms: Vec<Symptom>,
}

/// A rule that fires, or fired, for a subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Symptom {
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// Since when.
    pub fired_at: Timestamp,
    /// The deciding datapoint's value.
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
    /// Until when.
    pub resolved_at: Option<Timestamp>,
    /// Why it ended.
    pub resolved_reason: Option<String>,
}

/// An incident and who was told of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    /// The incident.
    pub incident: Incident,
    /// Its notifications, in the order in which they were written.
    pub notices: Vec<Notice>,
}

/// One notification to one receiver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// `firing` or `resolved`.
    pub state: String,
    /// 0, or the how manieth telling of the same state it is.
    pub revision: u32,
    /// To whom.
    pub receiver: String,
    /// On which channel.
    pub channel: String,
    /// `owed`, `held`, `digested`, `accepted` or `abandoned`.
    pub standing: String,
    /// When it was written.
    pub created: Timestamp,
    /// How often it was tried in vain or with success.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When the receiver accepted it.
    pub accepted_at: Option<Timestamp>,
    /// What it said.
    pub text: String,
}

/// How bad a verdict is: 0 for a link that is down, 1 for a watcher that sees nothing, 2 for what works less well.
#[must_use]
pub fn gravity(verdict: &str) -> u8 {
    match verdict {
        "link-lost" | "tunnels-down" | "black-hole" | "one-way" => 0,
        "site-silent" | "alerter-blind" => 1,
        _ => 2,
    }
}
