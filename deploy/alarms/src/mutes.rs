//! Mute rules: which of the alarms that page a silence mutes, and when, as CloudWatch takes it; pure.

use std::time::Duration;

use crosswatch_judge::mute::{Silence, When};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;
use wildmatch::WildMatch;

use crate::{Alarm, Place, Plan};

/// The most alarms of a mute rule.
pub const MOST_ALARMS: usize = 100;

/// The longest that CloudWatch mutes at a time.
const LONGEST: Duration = Duration::from_secs(15 * 86_400);

const MINUTE: Duration = Duration::from_secs(60);

/// A mute rule as CloudWatch takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// Where its alarms are.
    pub place: Place,
    /// The names of the alarms.
    pub alarms: Vec<String>,
    /// `at(…)` or `cron(…)`.
    pub expression: String,
    /// As ISO 8601 writes it.
    pub duration: String,
    /// The expression's zone.
    pub zone: String,
    /// When it is over for good.
    pub expires: Option<Timestamp>,
}

/// The mute rules of a silence: CloudWatch counts in minutes, so that one begins with the first whole minute that is not
/// over at `now`, and ends with the last that has begun.
///
/// # Errors
/// What of the silence CloudWatch cannot be told.
pub fn mutes(
    plan: &Plan,
    topology: &Topology,
    silence: &Silence,
    now: Timestamp,
) -> Result<Vec<Mute>, &'static str> {
    let every = |globs: &[String]| globs.iter().any(|glob| glob == "*");
    if !silence.subjects.is_empty() || !(silence.rules.is_empty() || every(&silence.rules)) {
        return Err(
            "an alarm pages for all rules and subjects of a link, so that it is not muted for some of them",
        );
    }
    let (expression, lasts, zone, expires) = match &silence.when {
        When::Once { from, until } => {
            let from = up_to_minute(from.map_or(now, |from| from.max(now)));
            let until = up_to_minute(*until).max(from + MINUTE);
            let text = from.to_string();
            let at = text.get(.."2026-11-22T07:00".len()).unwrap_or_default();
            (format!("at({at})"), until.since(from), "UTC".to_owned(), Some(until))
        }
        When::Every { cron, zone, lasts, .. } => {
            let known = |c: char| c.is_ascii_alphanumeric() || " *-,".contains(c);
            if !cron.chars().all(known) {
                return Err("of a crontab CloudWatch takes numbers, names, '*', '-' and ',' alone");
            }
            let fields: Vec<&str> = cron.split_whitespace().collect();
            let lasts = Duration::from_secs(lasts.as_secs().div_ceil(60) * 60);
            (format!("cron({})", fields.join(" ")), lasts, zone.clone(), None)
        }
    };
    if lasts > LONGEST {
        return Err("CloudWatch mutes for 15 days at most");
    }
    let duration = format!("PT{}M", lasts.as_secs() / 60);
    let mut mutes = Vec::new();
    for (place, alarms) in &plan.places {
        let of_it =
            |alarm: &&Alarm| !alarm.alarm_actions.is_empty() && covers(silence, topology, plan, alarm);
        let names: Vec<String> = alarms.iter().filter(of_it).map(|alarm| alarm.name.clone()).collect();
        mutes.extend(names.chunks(MOST_ALARMS).map(|alarms| Mute {
            place: place.clone(),
            alarms: alarms.to_vec(),
            expression: expression.clone(),
            duration: duration.clone(),
            zone: zone.clone(),
            expires,
        }));
    }
    Ok(mutes)
}

/// Whether an alarm that pages is of what is silenced: a link's composite, or a collector's heartbeat.
fn covers(silence: &Silence, topology: &Topology, plan: &Plan, alarm: &Alarm) -> bool {
    if silence.links.is_empty() && silence.sites.is_empty() {
        return true;
    }
    let one = |globs: &[String], name: &str| globs.is_empty() || globs.iter().any(|glob| matches(glob, name));
    let link = topology.links.iter().find(|link| alarm.name.starts_with(&format!("{} ", link.name)));
    if let Some(link) = link {
        let sites = silence.sites.is_empty() || link.between.iter().any(|site| one(&silence.sites, site));
        return one(&silence.links, &link.name) && sites;
    }
    let of_site = |name: &str| alarm.name == plan.marks.metric_alarm(&format!("collector {name} silent"));
    let site = topology.sites.iter().find(|site| of_site(&site.name));
    silence.links.is_empty() && site.is_some_and(|site| one(&silence.sites, &site.name))
}

fn up_to_minute(at: Timestamp) -> Timestamp {
    let whole = at.floor(MINUTE);
    if whole == at { at } else { whole + MINUTE }
}

fn matches(glob: &str, name: &str) -> bool {
    WildMatch::new(glob).matches(name)
}
