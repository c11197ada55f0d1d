//! What a link's graph is drawn of: its probes and tunnels out of the history, its incidents out of the alerter's file.

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_alerter::silences::{covers, named};
use crosswatch_judge::mute::Silence;
use crosswatch_shared::config::topology::Link;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use crate::graph::{Graph, Lane, Mark, Panel, Span, Tone};
use crate::history::{Cell, Error, History, Key, TunnelSpan};
use crosswatch_alerter::story::Incident;

/// How many probes and tunnels a graph shows at most.
const PANELS: usize = 12;
const LANES: usize = 16;
/// How many times of a silence are drawn at most.
const TIMES: usize = 1_000;

/// Polls that are farther apart left a time in which nothing was known.
const GAP: Duration = Duration::from_secs(300);

/// The probes of a link, direction by direction, with a title each.
#[must_use]
pub fn probes(link: &Link) -> Vec<(Key, String)> {
    let mut sites: Vec<_> = link.between.iter().collect();
    for probe in &link.probes {
        if !sites.contains(&&probe.from) {
            sites.push(&probe.from);
        }
    }
    let of = |site: &Name| {
        let site = site.clone();
        link.probes.iter().filter(move |probe| probe.from == site)
    };
    sites
        .into_iter()
        .flat_map(|site| of(site).map(move |probe| (site, probe)))
        .map(|(site, probe)| {
            let to = link.between.iter().find(|other| *other != site).unwrap_or(site);
            ((link.name.clone(), site.clone(), probe.name.clone()), format!("{site} → {to}: {}", probe.name))
        })
        .collect()
}

/// What was seen of a probe within a span, in its bins.
///
/// # Errors
/// The history cannot be read.
pub fn bins(history: Option<&History>, key: &Key, span: &Span) -> Result<Vec<(Timestamp, Cell)>, Error> {
    let Some(history) = history else { return Ok(Vec::new()) };
    Ok(span.bins(&history.cells(key, span.grain, span.from, span.to)?))
}

/// What was judged of a link, to be drawn beside what was seen.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Incidents.
    pub incidents: Vec<Incident>,
    /// Silences; those that do not concern the link are left out.
    pub silences: Vec<Silence>,
}

/// A link's graph within a span.
///
/// # Errors
/// The history cannot be read.
pub fn graph(
    history: Option<&History>,
    link: &Link,
    told: &Told,
    span: Span,
    now: Timestamp,
) -> Result<Graph, Error> {
    let panels = probes(link)
        .into_iter()
        .take(PANELS)
        .map(|(key, title)| Ok(Panel { title, bins: bins(history, &key, &span)? }))
        .collect::<Result<_, Error>>()?;
    let spans = match history {
        Some(history) => history.tunnels(&link.name, span.from, span.to)?,
        None => Vec::new(),
    };
    let mut lanes = tunnels(spans);
    lanes.truncate(LANES);
    let marks: Vec<Mark> = told
        .incidents
        .iter()
        .filter(|of| of.opened_at < span.to && of.resolved_at.is_none_or(|at| at >= span.from))
        .map(|of| Mark {
            from: of.opened_at,
            to: of.resolved_at.unwrap_or(now),
            tone: Tone::Bad,
            words: format!("{}: {}", of.verdict, of.summary),
        })
        .collect();
    lanes.push(Lane { title: "incidents".to_owned(), unknown: false, marks });
    lanes.extend(silences(&told.silences, link, span));
    Ok(Graph {
        title: format!("{}: round-trip times, losses, tunnels, incidents and silences", link.name),
        span,
        panels,
        lanes,
    })
}

/// When nobody is paged of it, or of a part of it; no lane where there is no such time.
fn silences(all: &[Silence], link: &Link, span: Span) -> Option<Lane> {
    let marks: Vec<Mark> = all
        .iter()
        .filter(|silence| silence.concerns(link))
        .flat_map(|silence| {
            let words = format!("{}: {}", covers(silence), named(silence));
            let times = silence.when.times(span.from, span.to, TIMES);
            times.into_iter().map(move |(from, to)| Mark {
                from,
                to,
                tone: Tone::Quiet,
                words: words.clone(),
            })
        })
        .collect();
    (!marks.is_empty()).then(|| Lane { title: "silences".to_owned(), unknown: false, marks })
}

fn tunnels(spans: Vec<TunnelSpan>) -> Vec<Lane> {
    let mut by_tunnel: BTreeMap<(String, String), Vec<TunnelSpan>> = BTreeMap::new();
    for span in spans {
        by_tunnel.entry((span.vpn.clone(), span.outside_ip.clone())).or_default().push(span);
    }
    by_tunnel
        .into_iter()
        .map(|((vpn, outside_ip), spans)| {
            let next = spans.iter().skip(1).map(|of| Some(of.since)).chain([None]);
            let marks = spans.iter().zip(next).map(|(of, next)| Mark {
                from: of.since,
                // As it was until a poll said otherwise.
                to: next.filter(|next| next.since(of.until) <= GAP).unwrap_or(of.until),
                tone: if of.up { Tone::Good } else { Tone::Bad },
                words: format!("{} {}", if of.up { "up" } else { "down" }, of.message),
            });
            Lane { title: format!("tunnel {outside_ip} of {vpn}"), unknown: true, marks: marks.collect() }
        })
        .collect()
}
