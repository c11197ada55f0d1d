//! `status`: what is up, down, unknown or silent, since when, with the last round-trip times. It reads the journals and
//! the alerter's file, so that it works beside running stages and after they have ended.

mod markdown;
mod tail;
mod text;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, ensure};
use crosswatch_alerter::account;
use crosswatch_alerter::config::Config as Alerts;
use crosswatch_alerter::status::{ActiveSilence, Owed};
use crosswatch_alerter::story::{self, Incident, Which};
use crosswatch_host::clock;
use crosswatch_judge::rule::{Metric, Rule, Threshold};
use crosswatch_shared::config::topology::{Link, Probe, QueueKind, Site, Topology, Vpn, VpnSelect};
use crosswatch_shared::evidence::Evidence;
use crosswatch_shared::observation::Outcome;
use crosswatch_shared::time::Timestamp;
use serde::Serialize;

use crate::cli::StatusFormat as Format;
use crate::config::Config;
use crate::run::{ALERTER_FILE, archive};
use tail::{Seen, Tail};

/// For how long an incident is shown that nobody was told of.
const SILENCED: Duration = Duration::from_secs(24 * 3_600);

/// A site that has sent nothing for so long is silent; the alerter's own judgement, where there is one, counts first.
const fn silence(queue: &QueueKind) -> Duration {
    match queue {
        QueueKind::Embedded => Duration::from_secs(5),
        // Routine is kept back for 10 s, and three of that may pass.
        QueueKind::Sqs { .. } => Duration::from_secs(35),
    }
}

/// Everything that is watched, as it is now.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) at: Timestamp,
    pub(crate) sites: Vec<SiteStatus>,
    pub(crate) links: Vec<LinkStatus>,
    /// The incidents that are open; `null` where no alerter has run.
    pub(crate) incidents: Option<Vec<Incident>>,
    /// Notifications that no receiver has accepted yet.
    pub(crate) owed: Vec<Owed>,
    /// The silences that are on.
    pub(crate) silences: Vec<ActiveSilence>,
    /// The incidents of the last day that began and ended within a silence.
    pub(crate) silenced: Vec<Incident>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SiteStatus {
    pub(crate) site: String,
    /// `up`, `silent`, or `unknown` when it was never heard of.
    pub(crate) state: State,
    /// When its collector last wrote.
    pub(crate) last_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LinkStatus {
    pub(crate) link: String,
    pub(crate) between: Vec<String>,
    pub(crate) probes: Vec<ProbeStatus>,
    pub(crate) vpns: Vec<VpnStatus>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ProbeStatus {
    pub(crate) subject: String,
    pub(crate) state: State,
    /// Since when it is up or down, as far back as was looked.
    pub(crate) since: Option<Timestamp>,
    /// Whether it may be so for longer.
    pub(crate) since_or_longer: bool,
    pub(crate) last_at: Option<Timestamp>,
    /// The newest reply's round-trip time.
    pub(crate) rtt_ms: Option<f64>,
    /// What is usual of its round-trip time, where a rule asks for that; nothing while there is not enough history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<BaselineStatus>,
    /// Why the newest probe was lost, if it was.
    pub(crate) lost: Option<&'static str>,
    /// What the collector's machine saw once it was lost, in one line.
    pub(crate) evidence: Option<String>,
    /// The rules that fire for it.
    pub(crate) firing: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct BaselineStatus {
    /// The median over seven days; `null` while there is not an hour of history.
    pub(crate) ms: Option<f64>,
    /// When its history begins.
    since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
pub(crate) struct VpnStatus {
    pub(crate) subject: String,
    pub(crate) state: State,
    pub(crate) up: Option<usize>,
    pub(crate) expected: u32,
    pub(crate) last_at: Option<Timestamp>,
    pub(crate) firing: Vec<String>,
}

impl ProbeStatus {
    /// The newest outcome, in words.
    fn measured(&self) -> String {
        match (self.rtt_ms, self.lost) {
            (Some(rtt_ms), _) => format!("{rtt_ms:.3} ms"),
            (None, Some(lost)) => format!("lost: {lost}"),
            (None, None) => "no outcome yet".to_owned(),
        }
    }
}

impl VpnStatus {
    /// The newest answer, in words.
    fn measured(&self) -> String {
        match self.up {
            Some(up) => format!("{up} tunnels up, {} expected", self.expected),
            None => "not polled yet".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Up,
    Down,
    Unknown,
    Silent,
}

/// Prints the status, once or again each second.
pub(crate) fn run(config: &Config, format: Format, watch: bool) -> anyhow::Result<()> {
    ensure!(
        !watch || (format == Format::Text && io::stdout().is_terminal()),
        "--watch redraws a terminal: leave it out to print the status once, or --format json in a loop of your own"
    );
    loop {
        let status = read(config, clock::now())?;
        let shown = match format {
            Format::Json => serde_json::to_string_pretty(&status)? + "\n",
            Format::Text => text::show(&status, io::stdout().is_terminal()),
            Format::Markdown => markdown::show(&status),
        };
        let mut out = io::stdout().lock();
        if watch {
            // To the top left, then what follows is erased: no flicker.
            write!(out, "\x1b[H{}\x1b[J", shown.replace('\n', "\x1b[K\n"))?;
        } else {
            out.write_all(shown.as_bytes())?;
        }
        out.flush()?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Prints the status once every probe has an outcome, or as it is after a few seconds: what `run` greets with.
pub(crate) async fn first(config: &Config) {
    let known = |link: &LinkStatus| link.probes.iter().all(|probe| probe.last_at.is_some());
    for turn in 1..=10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(status) = tokio::task::block_in_place(|| read(config, clock::now())) else { continue };
        if turn == 10 || status.links.iter().all(known) {
            let shown = text::show(&status, io::stdout().is_terminal());
            // Whoever closed standard output wants no greeting; the watching goes on.
            let _ = writeln!(
                io::stdout(),
                "{shown}'crosswatch status --watch' keeps showing it; Ctrl-C ends the watching here"
            );
            return;
        }
    }
}

/// How everything is now, by the journals and the alerter's file.
pub(crate) fn read(config: &Config, now: Timestamp) -> anyhow::Result<Status> {
    let Config { topology, .. } = config;
    let folder = &topology.queue.path;
    let alerter = crosswatch_alerter::status::read(&folder.join(ALERTER_FILE))
        .context("the alerter's part of the status cannot be read")?;
    let silent = |site: &Site| {
        alerter.as_ref().is_some_and(|alerter| {
            alerter.sites.iter().any(|of| *of.site == *site.name && of.silent_since.is_some())
        })
    };
    let firing = |subject: &str| match &alerter {
        Some(alerter) => {
            let symptoms = alerter.incidents.iter().flat_map(|incident| &incident.symptoms);
            symptoms.filter(|of| of.subject == subject).map(|of| of.rule.clone()).collect()
        }
        None => Vec::new(),
    };
    let usual = baselines(topology, &config.alerts, now)?;
    let hold = silence(&topology.queue.kind);
    let mut tails = Vec::new();
    let mut sites = Vec::new();
    for site in &topology.sites {
        let tail = Tail::read(&archive(&topology.queue, &site.name), &site.name, topology, now)
            .with_context(|| format!("the journal of site '{}' cannot be read", site.name))?;
        let state = match tail.written_at {
            None => State::Unknown,
            Some(at) if silent(site) || now.since(at) > hold.max(topology.rhythm(&site.name) * 3) => {
                State::Silent
            }
            Some(_) => State::Up,
        };
        sites.push(SiteStatus { site: site.name.to_string(), state, last_at: tail.written_at });
        tails.push(tail);
    }
    let of_site = |name: &str| {
        let place = topology.sites.iter().position(|site| *site.name == *name)?;
        Some((sites.get(place)?.state, tails.get(place)?))
    };
    let probe_status = |link: &Link, probe: &Probe| {
        let subject = format!("{}/{}/{}", link.name, probe.from, probe.name);
        let known = of_site(&probe.from);
        let seen = known.and_then(|(_, tail)| tail.probe(&link.name, &probe.name));
        let firing = firing(&subject);
        // As the rules' default deadline, and what an observation may take to be here.
        let deadline = probe.every * 3 + Duration::from_secs(5) + hold;
        let status = probe_status(subject, known.map(|(state, _)| state), seen, deadline, now, firing);
        let evidence = known.and_then(|(_, tail)| tail.evidence(&link.name, &probe.name));
        let baseline = usual.get(&status.subject).copied();
        ProbeStatus { evidence: evidence.map(Evidence::summary), baseline, ..status }
    };
    let tunnels = |link: &Link, name: &str, site: &str, expected: u32| {
        let subject = format!("{}/{name}", link.name);
        let known = of_site(site);
        let seen = known.and_then(|(_, tail)| tail.vpn(&link.name, name));
        let firing = firing(&subject);
        tunnels_status(subject, known.map(|(state, _)| state), seen, expected, firing)
    };
    let of_vpn = |link: &Link, vpn: &Vpn| {
        let known = of_site(&vpn.site);
        let ids: Vec<String> = match (&vpn.select, known) {
            (VpnSelect::Id(id), _) => vec![id.to_string()],
            (VpnSelect::Tag(..), Some((_, tail))) => tail.vpns(&link.name).map(str::to_owned).collect(),
            (VpnSelect::Tag(..), None) => Vec::new(),
        };
        ids.into_iter().map(|id| tunnels(link, &id, &vpn.site, vpn.expect_up)).collect::<Vec<_>>()
    };
    let links = topology
        .links
        .iter()
        .map(|link| LinkStatus {
            link: link.name.to_string(),
            between: link.between.iter().map(ToString::to_string).collect(),
            probes: link.probes.iter().map(|probe| probe_status(link, probe)).collect(),
            vpns: link
                .vpns
                .iter()
                .flat_map(|vpn| of_vpn(link, vpn))
                .chain(link.appliances.iter().map(|of| tunnels(link, &of.name, &of.site, of.expect_up)))
                .collect(),
        })
        .collect();
    let (incidents, owed) = match alerter {
        Some(alerter) => (Some(alerter.incidents), alerter.owed),
        None => (None, Vec::new()),
    };
    let file = folder.join(ALERTER_FILE);
    let silences = crosswatch_alerter::status::silences(&file, now)?;
    let silenced = story::incidents(&file, Which::Silenced(now - SILENCED))?;
    Ok(Status { at: now, sites, links, incidents, owed, silences, silenced })
}

/// What is usual of each probe that a rule of the baseline asks for.
pub(crate) fn baselines(
    topology: &Topology,
    alerts: &Alerts,
    now: Timestamp,
) -> anyhow::Result<HashMap<String, BaselineStatus>> {
    let rules = alerts.rules.iter().map(|of| &of.rule);
    let rules: Vec<Rule> =
        rules.filter(|rule| matches!(rule.threshold, Threshold::OfBaseline { .. })).cloned().collect();
    if rules.is_empty() {
        return Ok(HashMap::new());
    }
    let file = topology.queue.path.join(ALERTER_FILE);
    let usual =
        account::baselines(&file, rules, topology, now).context("the alerter's baselines cannot be read")?;
    let of_probes = usual.into_iter().filter(|of| of.metric == Metric::LatencyMs);
    let status = |of: account::Usual| (of.subject, BaselineStatus { ms: of.value, since: of.since });
    Ok(of_probes.map(status).collect())
}

fn probe_status(
    subject: String,
    site: Option<State>,
    seen: Option<&Seen>,
    deadline: Duration,
    now: Timestamp,
    firing: Vec<String>,
) -> ProbeStatus {
    let state = match (site, seen) {
        (Some(State::Silent), _) => State::Silent,
        (_, None) => State::Unknown,
        (_, Some(seen)) if now.since(seen.at) > deadline => State::Unknown,
        (_, Some(seen)) if seen.is_up() => State::Up,
        (_, Some(_)) => State::Down,
    };
    let (rtt_ms, lost) = match seen.map(|seen| seen.outcome) {
        Some(Outcome::Reply { rtt_ms }) => (Some(rtt_ms), None),
        Some(Outcome::Lost(lost)) => (None, Some(lost.word())),
        None => (None, None),
    };
    ProbeStatus {
        subject,
        state,
        since: seen.map(|seen| seen.since),
        since_or_longer: seen.is_some_and(|seen| seen.or_longer),
        last_at: seen.map(|seen| seen.at),
        rtt_ms,
        baseline: None,
        lost,
        evidence: None,
        firing,
    }
}

fn tunnels_status(
    subject: String,
    site: Option<State>,
    seen: Option<(Timestamp, usize)>,
    expected: u32,
    firing: Vec<String>,
) -> VpnStatus {
    let state = match (site, seen) {
        (Some(State::Silent), _) => State::Silent,
        (_, None) => State::Unknown,
        (_, Some((_, 0))) => State::Down,
        (_, Some(_)) => State::Up,
    };
    let (last_at, up) = seen.unzip();
    VpnStatus { subject, state, up, expected, last_at, firing }
}
