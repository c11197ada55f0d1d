//! An explanation: data, complete by itself, from which the words are made.

use crosswatch_alerter::status::ActiveSilence;
use crosswatch_alerter::story::Story;
use crosswatch_shared::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is behind the state of a subject, a link or an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The subject's, link's or incident's name.
    pub asked: String,
    /// Which of them it is.
    pub kind: Kind,
    /// The moment it is told for.
    pub at: Timestamp,
    /// What the state is known by.
    pub basis: Basis,
    /// The sites that observe it.
    pub sites: Vec<Site>,
    /// What is judged, in the order of the config.
    pub subjects: Vec<Subject>,
    /// What came of it, by the alerter's file: the open ones first, then the newest that is over.
    pub incidents: Vec<Story>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What a rule is judged for.
    Subject,
    /// A link.
    Link,
    /// An incident.
    Incident,
}

/// What the state is known by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Basis {
    /// The alerter's file, as it is now.
    Alerter,
    /// The journals, judged anew by the config's rules.
    History {
        /// When the first observation of that time was made; nothing where there is none.
        from: Option<Timestamp>,
        /// How many observations of what is explained were judged.
        observations: u64,
    },
}

/// A site that observes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    /// The site.
    pub site: String,
    /// To when its data is complete; deadlines and periods go by this. Nothing where it was never heard of.
    pub event_time: Option<Timestamp>,
    /// Since when it is silent, if it is.
    pub silent_since: Option<Timestamp>,
    /// The silence that its silence's page falls into at that moment.
    pub silence: Option<ActiveSilence>,
}

/// What rules are judged for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// `LINK/SITE/PROBE`, `LINK/VPN-ID`, `SITE/SOURCE`, a site, or `alerter`.
    pub subject: String,
    /// What was captured of it when it was lost last, if that was since its trouble began.
    pub evidence: Option<String>,
    /// Each rule's judgement; none where no rule covers it.
    pub judged: Vec<Judged>,
}

/// What a rule makes of a subject, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The rule.
    pub rule: String,
    /// Its metric.
    pub metric: String,
    /// `above` or `below`.
    pub side: String,
    /// The threshold in force, in the metric's unit; nothing while there is no baseline to have it of.
    pub threshold: Option<f64>,
    /// The threshold while firing, where it is another.
    pub clear_threshold: Option<f64>,
    /// What is usual of the subject, where the threshold is of that.
    pub baseline: Option<Baseline>,
    /// How many of how many must breach.
    pub breach: Breach,
    /// After how many in a row that do not breach it is over; nothing where it is over as soon as too few do.
    pub clear: Option<usize>,
    /// The period of a datapoint, in seconds; nothing where each observation is one.
    pub period_s: Option<f64>,
    /// What the period's datapoint is.
    pub statistic: Option<String>,
    /// Who is told; nobody while the rule is on trial.
    pub notify: Vec<String>,
    /// The silence that a page of it falls into at that moment, as silences are now.
    pub silence: Option<ActiveSilence>,
    /// `ok`, `firing` or `unknown`.
    pub state: String,
    /// Whether it fires; also of one that is unknown.
    pub firing: bool,
    /// When its newest transition was, with the value that decided it, and why.
    pub since: Option<Moment>,
    /// The newest datapoints that the rule looks at, oldest first.
    pub datapoints: Vec<Datapoint>,
    /// How many of the newest N breach.
    pub breaching: usize,
    /// How many in a row, up to the newest, do not.
    pub good: usize,
    /// When the newest datapoint was, or else when its site was first seen.
    pub last_at: Option<Timestamp>,
    /// After how long without a datapoint it is unknown, in seconds.
    pub deadline_s: f64,
    /// What missing data does besides: `hold`, `breach` or `ok`.
    pub missing: String,
    /// What the rule meant when the alerter last judged it, where that is not what the config says now.
    pub otherwise: Option<String>,
    /// What it said in the time judged anew, oldest first.
    pub transitions: Vec<Transition>,
}

/// What is usual of a subject: the median over seven days.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// How many times it the threshold is.
    pub factor: f64,
    /// The threshold until there is a baseline, if there is one until then.
    pub fixed: Option<f64>,
    /// The baseline, in the metric's unit; nothing while there is not enough history.
    pub value: Option<f64>,
    /// When its history begins.
    pub since: Option<Timestamp>,
}

/// M of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breach {
    /// So many.
    pub m: usize,
    /// Of so many.
    pub n: usize,
}

/// When something was decided, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// By which value, where there was one.
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
}

/// A number that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Datapoint {
    /// When.
    pub at: Timestamp,
    /// The value; nothing for one that stands for missing data.
    pub value: Option<f64>,
    /// Whether it breaches.
    pub breaches: bool,
}

/// A change of a rule's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// To what.
    pub state: String,
    /// Why.
    pub reason: String,
}
