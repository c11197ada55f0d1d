//! Alarms on AWS's own metric of a VPN connection, in its region. They need nothing of ours: they page when all of
//! Crosswatch is dead.

use std::collections::BTreeMap;

use crosswatch_judge::rule::{Metric as Judging, Side};
use crosswatch_shared::config::aws::region_of;
use crosswatch_shared::config::topology::VpnSelect;
use wildmatch::WildMatch;

use crate::alarm::{Alarm, Measured, Watch};
use crate::names::Marks;
use crate::{Difference, Input, Place};

/// How often AWS reports, in seconds.
const PERIOD: u32 = 300;

/// How many tunnels a VPN connection has.
const TUNNELS: f64 = 2.0;

pub(crate) fn alarms(
    input: &Input<'_>,
    marks: &Marks,
    places: &mut BTreeMap<Place, Vec<Alarm>>,
    differences: &mut Vec<Difference>,
) {
    for (link, vpn) in input.topology.vpns() {
        let VpnSelect::Id(id) = &vpn.select else {
            let text = "VPN connections found by tag have no alarm on AWS's own TunnelState; name them by id to have one";
            let difference = Difference::new(format!("link {}", link.name), text);
            if !differences.contains(&difference) {
                differences.push(difference);
            }
            continue;
        };
        let mut none = |why: String| {
            let text = format!("no alarm on AWS's own TunnelState: {why}");
            differences.push(Difference::new(format!("{}/{id}", link.name), text));
        };
        let site = &vpn.site;
        let (Some(region), role) = input.topology.account(vpn) else {
            none(format!("site {site} has no region"));
            continue;
        };
        let Some(topic) = input.topology.site(site).and_then(|site| site.topic.as_deref()) else {
            none(format!("site {site} has no topic to tell; write topic in [site.{site}]"));
            continue;
        };
        if region_of(topic) != Some(region) {
            none(format!(
                "the topic of site {site} is not in {region}, and CloudWatch tells only its own region's"
            ));
            continue;
        }
        let threshold = least_up(input, &format!("{}/{id}", link.name)) / TUNNELS;
        let which = if threshold < 1.0 { "all tunnels" } else { "a tunnel" };
        let alarm = Alarm {
            name: marks.metric_alarm(&format!("VPN {}/{id}: {which} down", link.name)),
            description: format!("Crosswatch: {which} of {id} down by AWS's own metric, link {}", link.name),
            alarm_actions: vec![topic.to_owned()],
            ok_actions: vec![topic.to_owned()],
            watch: Watch::Metric(Measured {
                namespace: "AWS/VPN".to_owned(),
                metric: "TunnelState".to_owned(),
                dimensions: vec![("VpnId".to_owned(), id.to_string())],
                statistic: "Average".to_owned(),
                period: PERIOD,
                below: true,
                threshold,
                m: 1,
                n: 1,
                missing: "ignore".to_owned(),
            }),
        };
        let place = Place { region: region.to_owned(), role: role.map(str::to_owned) };
        let alarms = places.entry(place).or_default();
        // Two sites may name one VPN connection.
        if !alarms.contains(&alarm) {
            alarms.push(alarm);
        }
    }
}

/// How many tunnels must be up by the rules; one where no rule says.
fn least_up(input: &Input<'_>, subject: &str) -> f64 {
    let rules = input.rules.iter().filter(|judged| judged.notifies).map(|judged| judged.rule);
    let covering = rules.filter(|rule| {
        let globs = || rule.subjects.iter().map(|glob| WildMatch::new(glob));
        rule.metric == Judging::TunnelsUp
            && rule.side == Side::Below
            && (rule.subjects.is_empty() || globs().any(|glob| glob.matches(subject)))
    });
    // `below = 1.5` asks for two.
    let least = covering
        .filter_map(|rule| rule.threshold.fixed())
        .map(f64::ceil)
        .max_by(f64::total_cmp)
        .unwrap_or(1.0);
    least.clamp(1.0, TUNNELS)
}
