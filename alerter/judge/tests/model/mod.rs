//! The rule semantics as a slow, obvious model: what `crosswatch replay` must print, reasons left out.
//!
//! Each rule is followed for each subject alone, row by row. Every datapoint is kept for ever, and whatever follows
//! from the datapoints is computed from all of them each time. Nothing is shared with the engine but the types of its
//! input, so that a mistake would have to be made twice to stay hidden.

mod series;

use std::collections::HashSet;
use std::time::Duration;

use crosswatch_judge::rule::{Metric, Rule};
use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::observation::{Body, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;

use series::follow;

/// A line of replay: when, the state's word, the rule, the subject, the deciding datapoint's value.
pub(crate) type Line = (Timestamp, &'static str, String, String, Option<f64>);

/// The lines of `rows`, in the order in which replay prints them.
pub(crate) fn model(rules: &[Rule], topology: &Topology, rows: &[(Origin, Observation)]) -> Vec<Line> {
    let rows = accepted(topology, rows);
    let mut lines = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        for subject in subjects(rule.metric, topology, &rows) {
            if rule.subjects.is_empty() || rule.subjects.iter().any(|glob| matches(glob, &subject.name)) {
                for (at, word, value) in follow(rule, &subject, &rows) {
                    lines.push((index, at, word, rule.name.to_string(), subject.name.clone(), value));
                }
            }
        }
    }
    // Stable: lines of one series at one moment stay in the order in which they came about.
    lines.sort_by(|a, b| (a.1, a.0, &a.4).cmp(&(b.1, b.0, &b.4)));
    lines.into_iter().map(|(_, at, word, rule, subject, value)| (at, word, rule, subject, value)).collect()
}

/// A row that is neither foreign nor seen before.
struct Accepted<'a> {
    site: &'a str,
    /// 1 for the site's first boot, 2 for the next one, and so on: by their ids, or else as they appeared.
    boot: usize,
    observation: &'a Observation,
}

fn accepted<'a>(topology: &Topology, rows: &'a [(Origin, Observation)]) -> Vec<Accepted<'a>> {
    let mut seen = HashSet::new();
    let mut boots: Vec<(&str, &str)> = Vec::new();
    let mut accepted = Vec::new();
    for (origin, observation) in rows {
        if is_foreign(topology, origin, &observation.body)
            || !seen.insert((&origin.collector, &origin.boot, observation.seq))
        {
            continue;
        }
        let (site, boot) = (&*origin.site, &*origin.boot);
        if !boots.contains(&(site, boot)) {
            boots.push((site, boot));
        }
        accepted.push((site, boot, observation));
    }
    if boots.iter().all(|(_, boot)| boot.len() == 36) {
        boots.sort_unstable();
    }
    let place = |site: &str, boot: &str| {
        let of_site = boots.iter().filter(|(of, _)| *of == site);
        1 + of_site.take_while(|(_, name)| *name != boot).count()
    };
    accepted
        .into_iter()
        .map(|(site, boot, observation)| Accepted { site, boot: place(site, boot), observation })
        .collect()
}

fn is_foreign(topology: &Topology, origin: &Origin, body: &Body) -> bool {
    let configured = match body {
        Body::Probe { link, probe, .. } | Body::Evidence { link, probe, .. } => topology
            .probes()
            .any(|(of, known)| of.name == *link && known.from == origin.site && known.name == *probe),
        Body::Tunnels { link, vpn, .. } => vpn_every(topology, &origin.site, link, vpn).is_some(),
        Body::Collection { .. } | Body::Drill { .. } => true,
    };
    !configured || !topology.sites.iter().any(|site| site.name == origin.site)
}

/// How often this VPN connection is polled; `None` if the config has none like it. One that is named by its id is
/// that one; any other is one of those found by a tag.
fn vpn_every(topology: &Topology, site: &str, link: &str, id: &str) -> Option<Duration> {
    let here = || {
        topology.vpns().filter(move |(of, vpn)| &*of.name == link && &*vpn.site == site).map(|(_, vpn)| vpn)
    };
    let named = here().find(|vpn| matches!(&vpn.select, VpnSelect::Id(name) if &**name == id));
    let tagged = here().find(|vpn| matches!(&vpn.select, VpnSelect::Tag(..)));
    named.or(tagged).map(|vpn| vpn.every)
}

/// What a rule is judged for.
#[derive(PartialEq)]
struct Subject {
    name: String,
    site: Name,
    of: Of,
    interval: Duration,
    /// Known from the config, before anything is seen of it.
    configured: bool,
}

#[derive(PartialEq)]
enum Of {
    Probe { link: Name, probe: Name },
    Vpn { link: Name, vpn: Name },
    Collection { source: Name },
}

impl Subject {
    fn is_of(&self, row: &Accepted<'_>) -> bool {
        *row.site == *self.site
            && match (&self.of, &row.observation.body) {
                (Of::Probe { link, probe }, Body::Probe { link: l, probe: p, .. }) => link == l && probe == p,
                (Of::Vpn { link, vpn }, Body::Tunnels { link: l, vpn: v, .. }) => link == l && vpn == v,
                (Of::Collection { source }, Body::Collection { source: s, .. }) => source == s,
                _ => false,
            }
    }
}

/// The subjects of a metric: those of the config, and those the rows make known.
fn subjects(metric: Metric, topology: &Topology, rows: &[Accepted<'_>]) -> Vec<Subject> {
    let mut subjects = Vec::new();
    match metric {
        Metric::PingOk | Metric::LatencyMs | Metric::LossPercent | Metric::JitterMs => {
            for (link, probe) in topology.probes() {
                subjects.push(Subject {
                    name: format!("{}/{}/{}", link.name, probe.from, probe.name),
                    site: probe.from.clone(),
                    of: Of::Probe { link: link.name.clone(), probe: probe.name.clone() },
                    interval: probe.every,
                    configured: true,
                });
            }
        }
        Metric::TunnelsUp => {
            for (link, vpn) in topology.vpns() {
                if let VpnSelect::Id(id) = &vpn.select {
                    subjects.push(Subject {
                        name: format!("{}/{id}", link.name),
                        site: vpn.site.clone(),
                        of: Of::Vpn { link: link.name.clone(), vpn: id.clone() },
                        interval: vpn.every,
                        configured: true,
                    });
                }
            }
        }
        Metric::CollectionOk | Metric::CollectionMs => {}
    }
    for row in rows {
        if subjects.iter().any(|subject| subject.is_of(row)) {
            continue;
        }
        match (&row.observation.body, metric) {
            (Body::Tunnels { link, vpn, .. }, Metric::TunnelsUp) => subjects.push(Subject {
                name: format!("{link}/{vpn}"),
                site: row.site.into(),
                of: Of::Vpn { link: link.clone(), vpn: vpn.clone() },
                interval: vpn_every(topology, row.site, link, vpn).unwrap_or_default(),
                configured: false,
            }),
            (Body::Collection { source, .. }, Metric::CollectionOk | Metric::CollectionMs) => {
                subjects.push(Subject {
                    name: format!("{}/{source}", row.site),
                    site: row.site.into(),
                    of: Of::Collection { source: source.clone() },
                    interval: collection_interval(topology, row.site, source),
                    configured: false,
                });
            }
            _ => {}
        }
    }
    subjects
}

fn collection_interval(topology: &Topology, site: &str, source: &str) -> Duration {
    let polled = topology.vpns().filter(|(_, vpn)| &*vpn.site == site);
    let smallest = polled.map(|(_, vpn)| vpn.every).min();
    smallest.filter(|_| source.starts_with("ec2")).unwrap_or(Duration::from_secs(10))
}

/// `*` is any text, `?` any one character.
fn matches(glob: &str, text: &str) -> bool {
    match glob.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            matches(&glob[1..], text)
                || text.chars().next().is_some_and(|c| matches(glob, &text[c.len_utf8()..]))
        }
        Some(wanted) => text.chars().next().is_some_and(|c| {
            (wanted == '?' || wanted == c) && matches(&glob[wanted.len_utf8()..], &text[c.len_utf8()..])
        }),
    }
}
