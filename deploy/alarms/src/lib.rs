//! Alarms in CloudWatch made of the rules that the alerter judges; pure.
//!
//! ```text
//! config ─► plan (alarms by region, differences) ─► diff with those there are ─► changes ─► text
//! ```
//!
//! [`plan`] says which alarms there should be, and what of the rules they cannot say. [`changes::diff`] says what has to
//! be done where others are. Asking CloudWatch and telling it is the program's business.

pub mod alarm;
pub mod changes;
mod composites;
mod heartbeats;
pub mod mutes;
mod names;
mod periods;
mod rules;
mod text;
mod tunnels;

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_judge::rule::Rule;
use crosswatch_shared::config::aws::region_of;
use crosswatch_shared::config::topology::Topology;
use crosswatch_window::Metric;

pub use alarm::{Alarm, Composite, Measured, Watch};
pub use changes::{Changes, Existing, diff, suspects};
pub use names::Marks;
pub use text::{plan_text, summary};

/// How many composites may name one alarm.
const MOST_PARENTS: usize = 150;

/// What the alarms are made of.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Who watches what.
    pub topology: &'a Topology,
    /// The rules in the order of the config.
    pub rules: Vec<Judged<'a>>,
    /// What is published.
    pub published: Published<'a>,
    /// When composites page.
    pub mode: Mode,
    /// The SNS topic that they page through, by ARN.
    pub topic: Option<&'a str>,
}

/// A rule, and whether anybody is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What is judged.
    pub rule: &'a Rule,
    /// Whether it has receivers; without them it is on trial.
    pub notifies: bool,
}

/// What CloudWatch is given.
#[derive(Clone, Debug)]
pub struct Published<'a> {
    /// Whether the metrics go to CloudWatch at all.
    pub to_cloudwatch: bool,
    /// The namespace; it also tells one deployment's alarms from another's.
    pub namespace: &'a str,
    /// The region; `None` where none is known.
    pub region: Option<&'a str>,
    /// Whether it is the config that says so: then every stage puts its metrics there, wherever it runs.
    pub region_is_named: bool,
    /// The length of a window.
    pub period: Duration,
    /// Which metrics.
    pub metrics: &'a [Metric],
    /// Globs over the sources whose collection metrics are published.
    pub sources: &'a [String],
}

/// When composites page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always: the alarms and the alerter are each other's backup.
    Both,
    /// While the alerter's heartbeat is missing.
    Backup,
    /// There are no alarms.
    Off,
}

/// An account's region: where alarms are put.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The region.
    pub region: String,
    /// The role, by ARN, under which it is reached; `None`: the caller's own account.
    pub role: Option<String>,
}

/// Which alarms there should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How this deployment's alarms are told from others.
    pub marks: Marks,
    /// Every place that the config names, also one without alarms: there may be some to remove.
    pub places: BTreeMap<Place, Vec<Alarm>>,
    /// What the alarms do not say as the rules say it, in the order of the config.
    pub differences: Vec<Difference>,
}

/// Where alarms and rules differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of what, such as `rule ping-failed`.
    pub of: String,
    /// A sentence without its full stop.
    pub text: String,
}

/// How many alarms there should be, as CloudWatch bills them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Metric alarms with a period of a minute or more.
    pub standard: usize,
    /// Metric alarms with a shorter period.
    pub high_resolution: usize,
    /// Composite alarms.
    pub composite: usize,
}

/// A config that no alarms can be made of; it has to be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Nobody says where CloudWatch is.
    #[error("no AWS region is known; write region = \"us-east-1\" in [metrics], or set AWS_REGION")]
    NoRegion,
    /// CloudWatch can't publish to a topic elsewhere.
    #[error(
        "[metrics] alarm_topic: the topic {topic} is not in {region}, where the alarms are; CloudWatch tells only \
         topics of its own region"
    )]
    TopicElsewhere {
        /// The topic.
        topic: String,
        /// The alarms' region.
        region: String,
    },
}

impl Plan {
    /// How many alarms it has.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for alarm in self.places.values().flatten() {
            match &alarm.watch {
                Watch::Composite(_) => counts.composite += 1,
                Watch::Metric(measured) if measured.period < 60 => counts.high_resolution += 1,
                Watch::Metric(_) => counts.standard += 1,
            }
        }
        counts
    }

    /// The same places without any alarm: what `destroy` strives for.
    #[must_use]
    pub fn emptied(mut self) -> Self {
        self.places.values_mut().for_each(Vec::clear);
        self.differences.clear();
        self
    }

    /// Whether any of the region's places is to have an alarm of this name. Two roles may lead to one account, where
    /// the alarms of both are seen.
    #[must_use]
    pub fn wants(&self, region: &str, name: &str) -> bool {
        let places = self.places.iter().filter(|(place, _)| place.region == region);
        places.flat_map(|(_, alarms)| alarms).any(|alarm| alarm.name == name)
    }
}

/// Makes the alarms of a config.
///
/// # Errors
/// The config says nothing that alarms can be made of.
pub fn plan(input: &Input<'_>) -> Result<Plan, Impossible> {
    let Input { topology, published, .. } = input;
    let marks = Marks::new(published.namespace);
    let mut places: BTreeMap<Place, Vec<Alarm>> = BTreeMap::new();
    let mut differences = Vec::new();
    let here = published.region.map(|region| Place { region: region.to_owned(), role: None });
    if let Some(here) = &here {
        places.insert(here.clone(), Vec::new());
    }
    for (_, vpn) in topology.vpns() {
        if let (Some(region), role) = topology.account(vpn) {
            let place = Place { region: region.to_owned(), role: role.map(str::to_owned) };
            places.entry(place).or_default();
        }
    }
    if input.mode == Mode::Off {
        return Ok(Plan { marks, places, differences });
    }
    if published.to_cloudwatch {
        let here = here.ok_or(Impossible::NoRegion)?;
        if let Some(topic) = input.topic
            && region_of(topic) != Some(&here.region)
        {
            return Err(Impossible::TopicElsewhere { topic: topic.to_owned(), region: here.region });
        }
        if input.topic.is_none() {
            let text = "without alarm_topic the alarms page nobody; write the ARN of an SNS topic";
            differences.push(Difference::new("[metrics]", text));
        }
        differences.extend(heartbeats::unseen(input));
        let children = rules::alarms(input, &marks, &mut differences);
        differences.extend(composites::uneven(topology, &children));
        let heartbeats = heartbeats::alarms(input, &marks);
        let composites = composites::alarms(input, &marks, &children, &heartbeats);
        if input.mode == Mode::Backup && composites.len() > MOST_PARENTS {
            let text = format!(
                "as backup all {} composites name the alerter's heartbeat, and CloudWatch takes {MOST_PARENTS}; \
                 apply will fail for the others: write alarms = \"both\", or split the config",
                composites.len()
            );
            differences.push(Difference::new("[metrics]", text));
        }
        let alarms = places.entry(here).or_default();
        alarms.extend(children.into_iter().map(|child| child.alarm));
        alarms.extend(heartbeats.all());
        alarms.extend(composites);
    } else {
        let text = "with kind = \"embedded\" CloudWatch has no metrics to watch; there are only the alarms on AWS's own TunnelState";
        differences.push(Difference::new("[metrics]", text));
    }
    tunnels::alarms(input, &marks, &mut places, &mut differences);
    Ok(Plan { marks, places, differences })
}

impl Difference {
    pub(crate) fn new(of: impl Into<String>, text: impl Into<String>) -> Self {
        Self { of: of.into(), text: text.into() }
    }
}
