//! The alerter's configuration: the sections `rule`, `notify` and `heartbeat`.

mod heartbeat;
mod receivers;
mod rules;
mod secret;
mod threshold;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use crosswatch_judge::rule::Rule;
use crosswatch_shared::config::document::Table;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::config::values::Rate;
use crosswatch_shared::observation::Name;

use crate::silences;

pub use secret::{Secret, SecretError};
pub(crate) use webhook::problem_with_routing_key;

/// Rules that exist without a config, whose names no other rule may have.
pub const RESERVED: [&str; 5] = ["site-silent", "alerter-blind", "at-most", "catch-up", "config-refused"];

/// What is judged, and who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// In the order of the file.
    pub rules: Vec<ConfiguredRule>,
    /// In the order of the file.
    pub receivers: Vec<Receiver>,
    /// The outside service that pages when it hears nothing more.
    pub heartbeat: Option<Heartbeat>,
    /// The file of silences; absent is empty.
    pub silences: PathBuf,
}

/// A rule, and who is told of its incidents.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfiguredRule {
    /// What is judged.
    pub rule: Rule,
    /// Names of receivers, each once; none for a rule that is only on trial: its incidents are kept and shown.
    pub notify: Vec<Name>,
}

/// Somebody to tell, by at least one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Its name.
    pub name: Name,
    /// Phone numbers as E.164 writes them, told by SMS through SNS; may be empty.
    pub sms: Vec<String>,
    /// How those are sent.
    pub texting: Texting,
    /// An SNS topic's ARN.
    pub topic: Option<String>,
    /// A URL that the notification is posted to.
    pub webhook: Option<Secret>,
    /// The form in which it is.
    pub template: Template,
    /// A program and its arguments, given the notification on standard input; may be empty, which is none.
    pub command: Vec<String>,
    /// Whether it is printed on standard output.
    pub console: bool,
    /// How many notifications in how long; beyond it one digest.
    pub at_most: Option<Rate>,
}

/// How a receiver's SMS are sent; what is `None` is left to SNS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texting {
    /// Shown as the sender where the country allows it: 1 to 11 letters and digits, a letter at least.
    pub sender_id: Option<String>,
    /// The number it is sent from, as E.164 writes it.
    pub origination_number: Option<String>,
    /// The most that one text may cost, in US dollars.
    pub max_price: Option<f64>,
    /// The region of the SNS that sends it; `None`: the region of the process's own AWS configuration.
    pub region: Option<String>,
}

/// In which form a webhook is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Template {
    /// The notification's own JSON.
    #[default]
    Plain,
    /// An event of PagerDuty's Events API v2.
    PagerDuty {
        /// The integration key.
        key: Secret,
        /// `critical`, `error`, `warning` or `info`.
        severity: &'static str,
    },
    /// A call of Opsgenie's Alert API.
    Opsgenie {
        /// The key of an API integration.
        key: Secret,
        /// `P1` to `P5`; `None`: Opsgenie's default.
        priority: Option<&'static str>,
    },
    /// A message to an incoming webhook of Slack.
    Slack,
}

/// An outside service that is told regularly that all is well, and pages when it is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// One for each alerter, in the order of their queues.
    pub urls: Vec<Secret>,
    /// How often it is told.
    pub every: Duration,
}

impl Default for Config {
    /// As of a file that says nothing of it, in this folder.
    fn default() -> Self {
        let (rules, receivers) = (Vec::new(), Vec::new());
        Self { rules, receivers, heartbeat: None, silences: PathBuf::from(silences::FILE) }
    }
}

impl Config {
    /// What is judged, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.rules.iter().map(|of| of.rule.clone()).collect()
    }

    /// Takes the sections; `None` when something in them is wrong, which is noted then.
    ///
    /// Without a topology, since that is wrong itself, globs over subjects are not checked.
    pub fn take(root: &mut Table<'_>, topology: Option<&Topology>) -> Option<Self> {
        let before = root.place().problems();
        let (receivers, names) = receivers::take(root);
        let rules = rules::take(root, &names, topology);
        let heartbeat = heartbeat::take(root, topology);
        let silences = root.or("silences", PathBuf::from(silences::FILE), |value| match value.text()? {
            "" => value.wrong("'silences' must be a file's name, such as \"silences.toml\"; or leave it out"),
            name => Some(PathBuf::from(name)),
        });
        let silences = root.folder().join(silences?);
        (root.place().problems() == before).then_some(Self {
            rules,
            receivers,
            heartbeat: heartbeat?,
            silences,
        })
    }
}
