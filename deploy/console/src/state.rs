//! How everything is at one moment: what the overview, the API and the events are made of. Pure.

use std::collections::HashMap;
use std::time::Duration;

use crosswatch_shared::config::topology::{Link, Probe, QueueKind, Topology};
use crosswatch_shared::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::history::Key;
use crate::judged::{gravity, is_down};
use crate::live::{Live, Seen};
use crosswatch_alerter::status::Standing;

/// So many losses in a row are an outage; fewer are a loss.
const OUTAGE: usize = 3;

/// How something is. In the order of trouble: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is answered.
    Down,
    /// Something is lost, or a rule fires.
    Degraded,
    /// Nothing comes from the site that measures: it may be anything.
    Silent,
    /// Nothing was ever seen, or not for long.
    Unknown,
    /// All is answered.
    Up,
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
            Self::Up => "up",
        }
    }
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Overview {
    /// The moment.
    pub at: Timestamp,
    /// In the order of the config.
    pub sites: Vec<SiteState>,
    /// In the order of trouble, then of the config.
    pub links: Vec<LinkState>,
    /// What the alerter knows; `null` where none has run.
    pub judged: Option<Standing>,
    /// Why that, or the journals, cannot be read.
    pub problems: Vec<String>,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SiteState {
    /// Its name.
    pub site: String,
    /// `up`, `silent` or `unknown`.
    pub state: State,
    /// When something came from it last.
    pub heard_at: Option<Timestamp>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LinkState {
    /// Its name.
    pub link: String,
    /// The sites it joins.
    pub between: Vec<String>,
    /// The worst of its directions, tunnels and incidents.
    pub state: State,
    /// The verdict of its open incident.
    pub verdict: Option<String>,
    /// What the verdict rests on.
    pub summary: Option<String>,
    /// The open incident's id.
    pub incident: Option<String>,
    /// One for each site that measures it, in the order of `between`.
    pub directions: Vec<Direction>,
    /// Its VPN connections.
    pub vpns: Vec<VpnState>,
}

/// What one site measures of a link.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Direction {
    /// The site.
    pub from: String,
    /// The site at the other end; the same for a link of one site.
    pub to: String,
    /// The worst that its probes tell.
    pub state: State,
    /// Median round-trip time of its first answered probe, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// That over its baseline.
    pub over_baseline: Option<f64>,
    /// The part that is lost of the newest outcomes, from 0 to 1, of the worst probe.
    pub loss: f64,
    /// Its probes.
    pub probes: Vec<ProbeState>,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ProbeState {
    /// Its name.
    pub probe: String,
    /// How it is.
    pub state: State,
    /// Since when it is answered, or lost.
    pub since: Option<Timestamp>,
    /// When the newest outcome was sent.
    pub last_at: Option<Timestamp>,
    /// Median round-trip time of the newest replies, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// What is usual, in milliseconds: the baseline of the rule that holds it against one, else the median of the week before.
    pub baseline_ms: Option<f64>,
    /// Why the newest was lost, if it was.
    pub lost: Option<&'static str>,
    /// The part that is lost of the newest outcomes.
    pub loss: f64,
    /// The newest outcomes, the oldest first; `null` for a loss.
    pub newest_ms: Vec<Option<f64>>,
}

/// A VPN connection.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct VpnState {
    /// Its id.
    pub vpn: String,
    /// How it is.
    pub state: State,
    /// How many tunnels are up.
    pub up: usize,
    /// How many should be.
    pub expected: u32,
    /// When it was polled last.
    pub last_at: Option<Timestamp>,
}

/// A site that has sent nothing for so long is silent; the alerter's own judgement counts first.
const fn silence(queue: &QueueKind) -> Duration {
    match queue {
        QueueKind::Embedded => Duration::from_secs(5),
        // Routine is kept back for 10 s, and three of that may pass.
        QueueKind::Sqs { .. } => Duration::from_secs(35),
    }
}

/// Puts together what is known.
pub(crate) fn overview(
    topology: &Topology,
    live: &Live,
    judged: Option<&Standing>,
    baselines: &HashMap<Key, f64>,
    problems: Vec<String>,
    now: Timestamp,
) -> Overview {
    let hold = silence(&topology.queue.kind);
    let site_state = |site: &str| match live.heard_at(site) {
        None => State::Unknown,
        Some(at) if now.since(at) > hold => State::Silent,
        Some(_) if judged.is_some_and(|judged| judged.silent.iter().any(|of| of == site)) => State::Silent,
        Some(_) => State::Up,
    };
    let sites = topology.sites.iter().map(|site| SiteState {
        site: site.name.to_string(),
        state: site_state(&site.name),
        heard_at: live.heard_at(&site.name),
    });
    let view = View { live, judged, baselines, site_state: &site_state, hold, now };
    let mut links: Vec<LinkState> = topology.links.iter().map(|link| view.link(link)).collect();
    links.sort_by_key(|link| (link.state, link.verdict.as_deref().map_or(usize::MAX, gravity)));
    let mut judged = judged.cloned();
    if let Some(judged) = &mut judged {
        judged.incidents.sort_by_key(|of| (gravity(&of.verdict), std::cmp::Reverse(of.opened_at)));
    }
    Overview { at: now, sites: sites.collect(), links, judged, problems }
}

struct View<'a> {
    live: &'a Live,
    judged: Option<&'a Standing>,
    baselines: &'a HashMap<Key, f64>,
    site_state: &'a dyn Fn(&str) -> State,
    hold: Duration,
    now: Timestamp,
}

impl View<'_> {
    fn link(&self, link: &Link) -> LinkState {
        let incident =
            self.judged.and_then(|judged| judged.incidents.iter().find(|of| of.link == *link.name));
        let mut from: Vec<&str> = link.between.iter().map(|site| &**site).collect();
        from.extend(
            link.probes
                .iter()
                .map(|probe| &*probe.from)
                .filter(|site| !link.between.iter().any(|of| **of == **site)),
        );
        from.dedup();
        let directions: Vec<Direction> =
            from.into_iter().filter_map(|site| self.direction(link, site)).collect();
        let vpns: Vec<VpnState> = self.vpns(link);
        let firing = incident.map(|of| if is_down(&of.verdict) { State::Down } else { State::Degraded });
        let parts = directions.iter().map(|of| of.state);
        // Without anything that is measured nothing is known.
        let state = parts.chain(vpns.iter().map(|of| of.state)).chain(firing).min().unwrap_or(State::Unknown);
        LinkState {
            link: link.name.to_string(),
            between: link.between.iter().map(ToString::to_string).collect(),
            state,
            verdict: incident.map(|of| of.verdict.clone()),
            summary: incident.map(|of| of.summary.clone()),
            incident: incident.map(|of| of.id.clone()),
            directions,
            vpns,
        }
    }

    fn direction(&self, link: &Link, from: &str) -> Option<Direction> {
        let probes: Vec<ProbeState> = link
            .probes
            .iter()
            .filter(|probe| *probe.from == *from)
            .map(|probe| self.probe(link, probe))
            .collect();
        let worst = probes.iter().map(|of| of.state).min()?;
        let all_down = probes.iter().all(|of| of.state == State::Down);
        // One of several that is down is not the direction.
        let state = if worst == State::Down && !all_down { State::Degraded } else { worst };
        let subject = format!("{}/{from}/", link.name);
        let fires = self.judged.is_some_and(|judged| {
            let symptoms = judged.incidents.iter().flat_map(|of| &of.symptoms);
            symptoms.filter(|of| of.resolved_at.is_none()).any(|of| of.subject.starts_with(&subject))
        });
        let state = if fires && state == State::Up { State::Degraded } else { state };
        let answered = probes.iter().find(|of| of.state < State::Silent || of.state == State::Up);
        let measured = answered.and_then(|of| Some((of.rtt_ms?, of.baseline_ms)));
        let to = link.between.iter().find(|site| ***site != *from).map_or(from, |site| site);
        Some(Direction {
            from: from.to_owned(),
            to: to.to_owned(),
            state,
            rtt_ms: measured.map(|(rtt, _)| rtt),
            over_baseline: measured.and_then(|(rtt, baseline)| Some(rtt / baseline.filter(|of| *of > 0.0)?)),
            loss: probes.iter().map(|of| of.loss).fold(0.0, f64::max),
            probes,
        })
    }

    fn probe(&self, link: &Link, probe: &Probe) -> ProbeState {
        let key = (link.name.clone(), probe.from.clone(), probe.name.clone());
        let seen = self.live.seen(&key);
        // As the rules' default deadline, and what an observation may take to be here.
        let deadline = probe.every * 3 + Duration::from_secs(5) + self.hold;
        let state = match ((self.site_state)(&probe.from), seen) {
            (State::Silent, _) => State::Silent,
            (_, None) => State::Unknown,
            (_, Some(seen)) if self.now.since(seen.at) > deadline => State::Unknown,
            (_, Some(seen)) if seen.lost_in_a_row >= OUTAGE => State::Down,
            (_, Some(seen)) if seen.lost_in_a_row > 0 => State::Degraded,
            (_, Some(_)) => State::Up,
        };
        ProbeState {
            probe: probe.name.to_string(),
            state,
            since: seen.map(|seen| seen.since),
            last_at: seen.map(|seen| seen.at),
            rtt_ms: seen.and_then(Seen::median),
            baseline_ms: self.baselines.get(&key).copied(),
            lost: seen.and_then(|seen| seen.lost).map(crosswatch_shared::observation::Lost::word),
            loss: seen.map_or(0.0, Seen::loss),
            newest_ms: seen.map(|seen| seen.newest().collect()).unwrap_or_default(),
        }
    }

    /// Those of the config by id, and those that a tag has found.
    fn vpns(&self, link: &Link) -> Vec<VpnState> {
        use crosswatch_shared::config::topology::VpnSelect;
        let seen = self.live.vpns(&link.name);
        let mut vpns = Vec::new();
        let mut push = |name: &str, site: &str, expected: u32, every: Duration| {
            let known = seen.iter().find(|(of, _, _)| ***of == *name);
            let up = known.map_or(0, |(_, _, tunnels)| tunnels.iter().filter(|of| of.up).count());
            let deadline = every * 3 + Duration::from_secs(5) + self.hold;
            let state = match ((self.site_state)(site), known) {
                (State::Silent, _) => State::Silent,
                (_, None) => State::Unknown,
                (_, Some((_, at, _))) if self.now.since(*at) > deadline => State::Unknown,
                _ if up == 0 => State::Down,
                _ if up < usize::try_from(expected).unwrap_or(usize::MAX) => State::Degraded,
                _ => State::Up,
            };
            let last_at = known.map(|(_, at, _)| *at);
            vpns.push(VpnState { vpn: name.to_owned(), state, up, expected, last_at });
        };
        for vpn in &link.vpns {
            match &vpn.select {
                VpnSelect::Id(id) => push(id, &vpn.site, vpn.expect_up, vpn.every),
                VpnSelect::Tag(..) => {
                    for (name, ..) in &seen {
                        let by_id =
                            link.vpns.iter().any(|of| matches!(&of.select, VpnSelect::Id(id) if id == *name));
                        if !by_id && !link.appliances.iter().any(|of| of.name == **name) {
                            push(name, &vpn.site, vpn.expect_up, vpn.every);
                        }
                    }
                }
            }
        }
        for of in &link.appliances {
            push(&of.name, &of.site, of.expect_up, of.every);
        }
        vpns
    }
}

#[cfg(test)]
pub(crate) mod tests;
