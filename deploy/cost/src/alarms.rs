//! How many CloudWatch alarms a config has.

use std::collections::HashSet;
use std::time::Duration;

use crosswatch_judge::rule::{Metric, Rule};
use crosswatch_shared::config::topology::{Topology, VpnSelect};
use serde::Serialize;
use wildmatch::WildMatch;

/// The source of observations that tells of polling EC2.
const EC2: &str = "ec2:vpn-status";

/// Alarms by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alarms {
    /// Of 60 s or longer.
    pub standard: usize,
    /// Of less than 60 s.
    pub high_resolution: usize,
    /// Made of other alarms.
    pub composite: usize,
}

impl Alarms {
    /// One for each rule and subject, one composite a link that has any, one a heartbeat (each site, publisher, alerter), one
    /// a VPN connection on AWS's own `TunnelState`. `period` is that of the metrics: a shorter rule sees no more than they
    /// hold.
    #[must_use]
    pub fn of(topology: &Topology, rules: &[&Rule], period: Duration) -> Self {
        let minute = Duration::from_secs(60);
        let mut alarms = Self { standard: topology.sites.len() + 2, ..Self::default() };
        let mut links = HashSet::new();
        for rule in rules {
            let globs: Vec<WildMatch> = rule.subjects.iter().map(|glob| WildMatch::new(glob)).collect();
            let short = period < minute && rule.window.is_some_and(|window| window.period < minute);
            for (link, subject) in subjects(topology, rule.metric) {
                if globs.is_empty() || globs.iter().any(|glob| glob.matches(&subject)) {
                    *(if short { &mut alarms.high_resolution } else { &mut alarms.standard }) += 1;
                    links.extend(link);
                }
            }
        }
        alarms.composite = links.len();
        alarms.standard += topology.vpns().count();
        alarms
    }
}

/// The subjects of a metric, each with its link; VPN connections that are found by a tag are taken for one.
fn subjects(topology: &Topology, metric: Metric) -> Vec<(Option<&str>, String)> {
    match metric {
        Metric::TunnelsUp => topology
            .vpns()
            .map(|(link, vpn)| {
                let id = match &vpn.select {
                    VpnSelect::Id(id) => id.to_string(),
                    VpnSelect::Tag(key, value) => format!("{key}={value}"),
                };
                (Some(&*link.name), format!("{}/{id}", link.name))
            })
            .collect(),
        Metric::PingOk | Metric::LatencyMs | Metric::LossPercent | Metric::JitterMs => topology
            .probes()
            .map(|(link, probe)| (Some(&*link.name), format!("{}/{}/{}", link.name, probe.from, probe.name)))
            .collect(),
        // Of the sources only this goes to CloudWatch.
        Metric::CollectionOk | Metric::CollectionMs => {
            polling(topology).into_iter().map(|site| (None, format!("{site}/{EC2}"))).collect()
        }
    }
}

/// The sites that poll EC2.
pub(crate) fn polling(topology: &Topology) -> HashSet<&str> {
    topology.vpns().map(|(_, vpn)| &*vpn.site).collect()
}
