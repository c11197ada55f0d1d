//! A rule for a subject as an alarm on the metric that is published of it.

use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric as Judging, Missing, Rule, Side, Statistic, Threshold, Window};
use crosswatch_shared::config::topology::{Host, Target, Topology, VpnSelect};
use crosswatch_shared::config::values::spell;
use crosswatch_shared::observation::Name;
use crosswatch_window::Metric;
use wildmatch::WildMatch;

use crate::alarm::{Alarm, Measured, Watch};
use crate::names::Marks;
use crate::periods;
use crate::{Difference, Input, Judged};

/// How often a source that is not EC2 reports a round.
const ROUND: Duration = Duration::from_secs(10);

/// The source of what EC2 says of VPN connections.
const EC2: &str = "ec2:vpn-status";

/// The source of what strongSwan says of the tunnels of appliances.
const STRONGSWAN: &str = "strongswan:tunnels";

/// A rule's alarm for a subject.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) alarm: Alarm,
    /// The subject's link; none for a source of collection.
    pub(crate) link: Option<Name>,
    pub(crate) judging: Judging,
}

/// What a rule is judged for.
#[derive(Clone, Debug)]
struct Subject {
    name: String,
    link: Option<Name>,
    dimensions: Vec<(String, String)>,
    /// How often it is observed.
    every: Duration,
    /// The source, for collection metrics.
    source: Option<&'static str>,
}

/// How a rule is said by an alarm: what is alike for all its subjects of one interval.
struct Said {
    metric: Metric,
    statistic: String,
    period: u32,
    below: bool,
    threshold: f64,
    m: u32,
    n: u32,
}

pub(crate) fn alarms(input: &Input<'_>, marks: &Marks, differences: &mut Vec<Difference>) -> Vec<Child> {
    let mut children: Vec<Child> = Vec::new();
    for judged in &input.rules {
        let mut notes = Vec::new();
        for child in of_rule(input, marks, *judged, &mut notes) {
            // Two sites may poll one VPN connection: that is one metric.
            if !children.iter().any(|known| known.alarm.name == child.alarm.name) {
                children.push(child);
            }
        }
        let of = format!("rule {}", judged.rule.name);
        differences.extend(notes.into_iter().map(|text| Difference::new(of.clone(), text)));
    }
    children
}

fn of_rule(input: &Input<'_>, marks: &Marks, judged: Judged<'_>, notes: &mut Vec<String>) -> Vec<Child> {
    let Judged { rule, notifies } = judged;
    if !notifies {
        notes.push("it tells nobody (on trial), so there is no alarm".to_owned());
        return Vec::new();
    }
    let metric = published(rule.metric);
    if !input.published.metrics.contains(&metric) {
        notes.push(format!(
            "{} is not published, so there is no alarm; add it to publish in [metrics]",
            metric.word()
        ));
        return Vec::new();
    }
    let Some(threshold) = rule.threshold.fixed() else {
        notes.push(format!(
            "{} can't be said: an alarm has no baseline, so there is none of it; with 'fixed' there is one with that threshold",
            rule.threshold
        ));
        return Vec::new();
    };
    let globs: Vec<WildMatch> = rule.subjects.iter().map(|glob| WildMatch::new(glob)).collect();
    let covered = |subject: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(subject));
    let sources: Vec<WildMatch> = input.published.sources.iter().map(|glob| WildMatch::new(glob)).collect();
    let mut children = Vec::new();
    let mut said_before: Vec<String> = Vec::new();
    for subject in subjects(rule.metric, input.topology) {
        if !covered(&subject.name) {
            continue;
        }
        if let Some(source) = subject.source
            && !sources.iter().any(|glob| glob.matches(source))
        {
            notes.push(format!("{} is not published, so there is no alarm for it", subject.name));
            continue;
        }
        let mut told = Vec::new();
        let said = say(rule, threshold, metric, subject.every, input.published.period, &mut told);
        for text in told {
            if !said_before.contains(&text) {
                said_before.push(text);
            }
        }
        children.push(Child {
            alarm: alarm(input, marks, rule, &subject, said),
            link: subject.link,
            judging: rule.metric,
        });
    }
    if rule.metric == Judging::TunnelsUp {
        notes.extend(found_by_tag(input.topology));
    }
    notes.extend(said_before);
    notes.extend(unsayable(rule));
    children
}

fn alarm(input: &Input<'_>, marks: &Marks, rule: &Rule, subject: &Subject, said: Said) -> Alarm {
    let side = match rule.side {
        Side::Below => "below",
        Side::Above => "above",
    };
    let metric = rule.metric.word();
    Alarm {
        name: marks.metric_alarm(&format!("rule {} on {}", rule.name, subject.name)),
        description: format!("Crosswatch: {metric} {side} {} (rule {})", rule.threshold, rule.name),
        alarm_actions: Vec::new(),
        ok_actions: Vec::new(),
        watch: Watch::Metric(Measured {
            namespace: input.published.namespace.to_owned(),
            metric: said.metric.word().to_owned(),
            dimensions: subject.dimensions.clone(),
            statistic: said.statistic,
            period: said.period,
            below: said.below,
            threshold: said.threshold,
            m: said.m,
            n: said.n,
            missing: "ignore".to_owned(),
        }),
    }
}

const fn published(judging: Judging) -> Metric {
    match judging {
        Judging::TunnelsUp => Metric::TunnelsUp,
        Judging::PingOk | Judging::LossPercent => Metric::PingSuccess,
        Judging::LatencyMs => Metric::PingLatency,
        Judging::JitterMs => Metric::Jitter,
        Judging::CollectionOk => Metric::CollectionSuccess,
        Judging::CollectionMs => Metric::CollectionLatency,
    }
}

/// The subjects that the config names, as the judge has them; those of collection as far as it is known which sources
/// a site has.
fn subjects(judging: Judging, topology: &Topology) -> Vec<Subject> {
    let dimension = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match judging {
        Judging::TunnelsUp => topology
            .vpns()
            .filter_map(|(link, vpn)| match &vpn.select {
                VpnSelect::Id(id) => Some(Subject {
                    name: format!("{}/{id}", link.name),
                    link: Some(link.name.clone()),
                    dimensions: vec![dimension("Link", &link.name), dimension("Vpn", id)],
                    every: vpn.every,
                    source: None,
                }),
                VpnSelect::Tag(..) => None,
            })
            .chain(topology.appliances().map(|(link, appliance)| Subject {
                name: format!("{}/{}", link.name, appliance.name),
                link: Some(link.name.clone()),
                dimensions: vec![dimension("Link", &link.name), dimension("Vpn", &appliance.name)],
                every: appliance.every,
                source: None,
            }))
            .collect(),
        Judging::CollectionOk | Judging::CollectionMs => topology
            .sites
            .iter()
            .flat_map(|site| {
                sources(topology, &site.name).into_iter().map(|(source, every)| Subject {
                    name: format!("{}/{source}", site.name),
                    link: None,
                    dimensions: vec![dimension("Site", &site.name), dimension("Source", source)],
                    every,
                    source: Some(source),
                })
            })
            .collect(),
        Judging::PingOk | Judging::LatencyMs | Judging::LossPercent | Judging::JitterMs => topology
            .probes()
            .map(|(link, probe)| Subject {
                name: format!("{}/{}/{}", link.name, probe.from, probe.name),
                link: Some(link.name.clone()),
                dimensions: vec![
                    dimension("Link", &link.name),
                    dimension("Site", &probe.from),
                    dimension("Probe", &probe.name),
                ],
                every: probe.every,
                source: None,
            })
            .collect(),
    }
}

/// The sources that a site's collector reports on, with how often.
fn sources(topology: &Topology, site: &str) -> Vec<(&'static str, Duration)> {
    let probes =
        || topology.probes().filter(|(_, probe)| &*probe.from == site).map(|(_, probe)| &probe.target);
    let named = |target: &Target| matches!(target.host(), Host::Name(_));
    let polled = topology.vpns().filter(|(_, vpn)| &*vpn.site == site).map(|(_, vpn)| vpn.every).min();
    let asked = topology.appliances().filter(|(_, of)| &*of.site == site).map(|(_, of)| of.every).min();
    let mut sources = Vec::new();
    if probes().any(|target| matches!(target, Target::Icmp(_))) {
        sources.push(("icmp", ROUND));
    }
    if probes().any(|target| matches!(target, Target::Tcp(..))) {
        sources.push(("tcp", ROUND));
    }
    if probes().any(|target| matches!(target, Target::Udp(..))) {
        sources.push(("udp", ROUND));
    }
    if probes().any(named) {
        sources.push(("dns", ROUND));
    }
    sources.push(("journal", ROUND));
    sources.extend(polled.map(|every| (EC2, every)));
    sources.extend(asked.map(|every| (STRONGSWAN, every)));
    sources
}

fn say(
    rule: &Rule,
    threshold: f64,
    metric: Metric,
    every: Duration,
    window: Duration,
    notes: &mut Vec<String>,
) -> Said {
    let below = rule.side == Side::Below;
    let (period, breach, statistic) = match rule.window {
        None => raw(rule, below, every, window, notes),
        Some(asked) => periodic(rule, asked, every, window, notes),
    };
    let most = periods::most_periods(period);
    let wanted = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let n = wanted(breach.n).min(most);
    let m = wanted(breach.m).min(n);
    if wanted(breach.n) > most {
        notes.push(format!(
            "an alarm of {period} s looks back on {most} periods at most: {m} of {n} instead of {} of {}",
            breach.m, breach.n
        ));
    }
    let said = Said { metric, statistic, period, below, threshold, m, n };
    if rule.metric != Judging::LossPercent {
        return said;
    }
    // The average of PingSuccess is the share of replies.
    let share = (100.0 - threshold) / 100.0;
    let side = if below { "above" } else { "below" };
    notes.push(format!(
        "loss_percent {} {} is an average of PingSuccess {side} {share}",
        if below { "below" } else { "above" },
        threshold
    ));
    Said { below: !below, threshold: share, ..said }
}

/// A rule over single observations. Where a period holds several, all of them must breach, so that one lost ping
/// pages nobody.
fn raw(
    rule: &Rule,
    below: bool,
    every: Duration,
    window: Duration,
    notes: &mut Vec<String>,
) -> (u32, Breach, String) {
    let minute = Duration::from_secs(60);
    let statistic = if below { "Maximum" } else { "Minimum" };
    let Breach { m, n } = rule.breach;
    let sparse = every >= minute && every >= window;
    let period = periods::fit(every.max(minute), window);
    let breach = if sparse {
        if u64::from(period) * 1_000 != u64::try_from(every.as_millis()).unwrap_or(u64::MAX) {
            notes.push(format!("one datapoint a {period} s, for an observation every {}", spell(every)));
        }
        rule.breach
    } else {
        notes.push(format!(
            "{m} of {n} single observations are judged as every observation of {period} s, so that it pages later"
        ));
        Breach { m: 1, n: 1 }
    };
    (period, breach, statistic.to_owned())
}

/// A rule over periods. Where observations are further apart than those, most have no datapoint, and the alarm looks at as many as
/// N observations take.
fn periodic(
    rule: &Rule,
    asked: Window,
    every: Duration,
    window: Duration,
    notes: &mut Vec<String>,
) -> (u32, Breach, String) {
    let Window { period: wanted, statistic } = asked;
    let period = periods::fit(wanted, window);
    if Duration::from_secs(u64::from(period)) != wanted {
        notes.push(format!(
            "its period of {} becomes {period} s, with metrics every {}",
            spell(wanted),
            spell(window)
        ));
    }
    let mut breach = rule.breach;
    if let Some(n) = periods::spanning(breach.n, every, period) {
        notes.push(format!(
            "{} of {} observations {} apart are looked for in {n} periods of {period} s",
            breach.m,
            breach.n,
            spell(every)
        ));
        breach.n = n;
    }
    if rule.metric == Judging::JitterMs && Duration::from_secs(u64::from(period)) != window {
        notes.push(format!("jitter is the mean over {period} s of the jitter of each {}", spell(window)));
    }
    let statistic = match statistic {
        // One number a period already.
        _ if rule.metric.needs_period() => "Average".to_owned(),
        Statistic::Average => "Average".to_owned(),
        Statistic::Minimum => "Minimum".to_owned(),
        Statistic::Maximum => "Maximum".to_owned(),
        Statistic::Percentile(percent) => format!("p{percent}"),
    };
    (period, breach, statistic)
}

/// What no alarm can say.
fn unsayable(rule: &Rule) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(clear) = rule.clear {
        notes.push(format!(
            "clear = {clear} can't be said: the alarm is over as soon as its breach no longer holds"
        ));
    }
    if let Threshold::OfBaseline { fixed: Some(fixed), .. } = rule.threshold {
        notes.push(format!(
            "{} can't be said: the alarm has fixed = {fixed} as its threshold always",
            rule.threshold
        ));
    }
    if let Some(clear) = rule.clear_threshold {
        let key = if rule.side == Side::Below { "clear_above" } else { "clear_below" };
        let clear = match rule.threshold {
            Threshold::Fixed(_) => clear.to_string(),
            Threshold::OfBaseline { .. } => format!("\"{clear} x baseline\""),
        };
        notes.push(format!("{key} = {clear} can't be said: the alarm clears at its one threshold"));
    }
    if let Some(deadline) = rule.deadline {
        notes.push(format!(
            "deadline = \"{}\" can't be said: missing data leaves the alarm as it is, and the heartbeats tell of it",
            spell(deadline)
        ));
    }
    match rule.missing {
        Missing::Hold => {}
        Missing::Breach => notes
            .push("missing = \"breach\" can't be said: missing data leaves the alarm as it is".to_owned()),
        Missing::Ok => {
            notes.push("missing = \"ok\" can't be said: missing data leaves the alarm as it is".to_owned())
        }
    }
    notes
}

fn found_by_tag(topology: &Topology) -> Vec<String> {
    let by_tag = topology.vpns().filter_map(|(link, vpn)| match &vpn.select {
        VpnSelect::Tag(key, value) => Some(format!(
            "link {}: the VPN connections with tag {key}={value} have no alarm, since their ids are not in the config; \
             name them by id to have one",
            link.name
        )),
        VpnSelect::Id(_) => None,
    });
    by_tag.collect()
}
