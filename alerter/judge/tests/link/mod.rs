//! A link of two sites as it truly is, and what its collectors see of it.

mod fault;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side, Statistic, Window};
use crosswatch_shared::config::topology::{
    Host, Link as Configured, Probe as ConfiguredProbe, Queue, QueueKind, Site, Target, Topology, Vpn,
    VpnSelect,
};
use crosswatch_shared::observation::{Body, Detail, Lost, Observation, Outcome, Tunnel, Way};
use crosswatch_shared::time::Timestamp;
use fault::DEAD;
pub(crate) use fault::{Fault, What};

/// Times are in microseconds since the story's beginning.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const SITES: [&str; 2] = ["a", "b"];
const LARGE: u16 = 1436;
const START: i64 = 1_000_000 * SECOND;
/// A tunnel is asked for again after this time at the earliest.
const HASTY: i64 = 10 * SECOND;
/// So many good ones end the news of a probe.
const GOOD: u32 = 10;
const SKEW: i64 = 2 * SECOND;

#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) site: usize,
    pub(crate) protocol: &'static str,
    /// Among those of the other site.
    pub(crate) host: u8,
    pub(crate) large: bool,
    pub(crate) every: i64,
    phase: i64,
    timeout: i64,
    rtt: i64,
}

pub(crate) struct Link {
    pub(crate) probes: Vec<Probe>,
    /// The sites that ask for the tunnels, and how often.
    vpns: Vec<(usize, i64)>,
    /// By how much each site's clock is ahead.
    clocks: [i64; 2],
    /// How long a batch of each site is under way.
    ways: [i64; 2],
    hold: i64,
    pub(crate) rules: Vec<Rule>,
    clear: i64,
    /// Rules are over periods of this length, where they are.
    pub(crate) period: Option<i64>,
    pub(crate) blips: bool,
}

/// A batch of a site's observations, each with when it was sent in truth.
pub(crate) struct Batch {
    pub(crate) site: usize,
    pub(crate) arrives: i64,
    pub(crate) through: Timestamp,
    pub(crate) observations: Vec<(i64, Observation)>,
}

pub(crate) fn clock(at: i64) -> String {
    format!("{:.3}", at as f64 / SECOND as f64)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for probe in &self.probes {
            let of = |micros: i64| micros as f64 / SECOND as f64;
            let (every, timeout) = (of(probe.every), of(probe.timeout));
            writeln!(f, "{}/{} every {every} s, {timeout} s at most", SITES[probe.site], probe.name())?;
        }
        let rules: Vec<&str> = self.rules.iter().map(|rule| &*rule.name).collect();
        let Self { vpns, clocks, ways, hold, clear, period, .. } = self;
        write!(
            f,
            "vpns {vpns:?}, clocks {clocks:?}, ways {ways:?}, hold {hold}, clear {clear}, period {period:?}, {rules:?}"
        )
    }
}

impl Link {
    pub(crate) fn draw(rng: &mut fastrand::Rng) -> Self {
        let mut probes: Vec<Probe> = Vec::new();
        let slowest = [1.0, 2.0, 10.0][rng.usize(0..3)];
        let count = rng.usize(2..=5);
        while probes.len() < count {
            let protocol = ["icmp", "tcp", "udp"][rng.usize(0..3)];
            let large = protocol == "icmp" && probes.len() >= 2 && rng.u8(0..4) == 0;
            let every = ((0.2_f64.ln() + rng.f64() * (slowest / 0.2_f64).ln()).exp() * 1e3) as i64 * 1_000;
            let timeout = rng.i64(200_000..2 * SECOND);
            let probe = Probe {
                site: if probes.len() < 2 { probes.len() } else { rng.usize(0..2) },
                protocol,
                host: rng.u8(0..2),
                large,
                every,
                phase: rng.i64(0..every),
                timeout,
                rtt: rng.i64(1_000..180_000),
            };
            let same = |of: &Probe| of.name() == probe.name() && of.site == probe.site;
            if !probes.iter().any(same) {
                probes.push(probe);
            }
        }
        let ends = match rng.u8(0..5) {
            0 => vec![],
            1 | 2 => vec![0],
            3 => vec![1],
            _ => vec![0, 1],
        };
        let vpns = ends.into_iter().map(|site| (site, [10, 30, 60][rng.usize(0..3)] * SECOND)).collect();
        let apart = rng.i64(-1_900_000..1_900_000);
        let ways = [(); 2].map(|()| [20_000, 300_000, 2 * SECOND, 8 * SECOND][rng.usize(0..4)]);
        let mut rules = Vec::new();
        let (mut clear, mut period, mut blips) = (10, None, rng.bool());
        match rng.u8(0..3) {
            0 => {
                rules.push(rule("ping-failed", Metric::PingOk, Side::Below, 1.0, (3, 3), Some(10)));
                rules.push(rule("latency-high", Metric::LatencyMs, Side::Above, 200.0, (10, 15), Some(30)));
                rules.push(rule("tunnels-down", Metric::TunnelsUp, Side::Below, 2.0, (1, 1), None));
                clear = 30;
            }
            1 => {
                rules.push(rule("tunnels-down", Metric::TunnelsUp, Side::Below, 2.0, (1, 1), None));
                rules.push(rule("tunnels-lost", Metric::TunnelsUp, Side::Below, 1.0, (1, 1), None));
                rules.push(rule("ping-failed", Metric::PingOk, Side::Below, 1.0, (3, 3), Some(5)));
                rules.push(rule("latency-high", Metric::LatencyMs, Side::Above, 200.0, (3, 3), Some(3)));
            }
            _ => {
                let window = Some(Window { period: Duration::from_secs(10), statistic: Statistic::Average });
                let of = |rule: Rule| Rule { window, ..rule };
                rules.push(of(rule("lossy", Metric::LossPercent, Side::Above, 25.0, (2, 2), None)));
                rules.push(of(rule("latency-high", Metric::LatencyMs, Side::Above, 200.0, (1, 1), None)));
                rules.push(rule("tunnels-down", Metric::TunnelsUp, Side::Below, 2.0, (1, 1), None));
                rules.push(of(rule("ping-failed", Metric::PingOk, Side::Below, 1.0, (3, 3), None)));
                period = Some(10 * SECOND);
                blips = false;
            }
        }
        Self {
            probes,
            vpns,
            clocks: [apart.max(0), (-apart).max(0)],
            ways,
            hold: [SECOND, 10 * SECOND][rng.usize(0..2)],
            rules,
            clear,
            period,
            blips,
        }
    }

    pub(crate) fn small(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|probe| !probe.large)
    }

    pub(crate) fn slowest(&self) -> i64 {
        self.probes.iter().map(|probe| probe.every).max().unwrap_or(SECOND)
    }

    /// How long after the last loss the last rule is over.
    pub(crate) fn clears(&self) -> i64 {
        let polled = self.vpns.iter().map(|(_, every)| *every).max().unwrap_or(0);
        ((self.clear + 2) * self.slowest()).max(polled + 2 * SECOND)
            + 3 * self.period.unwrap_or(0)
            + 30 * SECOND
    }

    /// How long it takes at most until enough was seen to call it by its name, apart from what is under way.
    pub(crate) fn tells(&self, what: &What) -> i64 {
        let rules = match self.period {
            Some(period) => 3 * period.max(self.slowest()) + period + 2 * SECOND + self.slowest(),
            None => 4 * self.slowest(),
        };
        let polled = self.vpns.iter().map(|(_, every)| *every).max().unwrap_or(0) + HASTY + SECOND;
        let rules = rules + 2 * SKEW;
        match what {
            What::TunnelsDown => rules.max(polled + DEAD),
            What::BlackHole | What::OneWay(_) => rules + polled,
            What::OneTunnel => polled,
            What::Slow => rules.max(15 * self.slowest()),
            What::Chance(_) => 40 * self.slowest(),
            _ => rules,
        }
    }

    pub(crate) fn topology(&self) -> Topology {
        let probe = |probe: &Probe| {
            let there = if probe.site == 0 { 1 } else { 0 };
            let host = Host::Address(IpAddr::from([10, there, 0, 10 + probe.host]));
            ConfiguredProbe {
                name: probe.name().into(),
                from: SITES[probe.site].into(),
                target: match probe.protocol {
                    "tcp" => Target::Tcp(host, 443),
                    "udp" => Target::Udp(host, 862),
                    _ => Target::Icmp(host),
                },
                every: micros(probe.every),
                timeout: micros(probe.timeout),
                burst: 1,
                size: probe.large.then_some(LARGE),
            }
        };
        let vpn = |&(site, every): &(usize, i64)| Vpn {
            site: SITES[site].into(),
            select: VpnSelect::Id(format!("vpn-{site}").into()),
            every: micros(every),
            expect_up: 2,
            region: None,
            role: None,
        };
        let site = |name: &str| Site { name: name.into(), region: None, role: None, topic: None };
        Topology {
            sites: SITES.map(site).to_vec(),
            links: vec![Configured {
                name: "l".into(),
                between: SITES.map(Into::into).to_vec(),
                vpns: self.vpns.iter().map(vpn).collect(),
                appliances: Vec::new(),
                probes: self.probes.iter().map(probe).collect(),
            }],
            queue: Queue {
                path: "data".into(),
                kind: QueueKind::Embedded,
                keep: Duration::MAX,
                max_bytes: u64::MAX,
            },
            listen: None,
        }
    }

    /// All that a site's collector sees until then, in batches.
    pub(crate) fn batches(
        &self,
        site: usize,
        faults: &[Fault],
        until: i64,
        rng: &mut fastrand::Rng,
    ) -> Vec<Batch> {
        let mut seen = Vec::new();
        for probe in self.probes.iter().filter(|probe| probe.site == site) {
            probe.outcomes(faults, until, rng, &mut seen);
        }
        seen.sort_by_key(|seen| seen.known);
        for &(_, every) in self.vpns.iter().filter(|(of, _)| *of == site) {
            let asked = tunnels(site, every, &seen, faults, until, rng);
            seen.extend(asked);
        }
        seen.sort_by_key(|seen| seen.known);
        let mut batches: Vec<Batch> = Vec::new();
        let (mut waiting, mut due, mut last, mut seq) = (Vec::new(), i64::MAX, -SECOND, 0);
        let sent: Vec<(i64, i64)> = seen.iter().map(|seen| (seen.at, seen.known)).collect();
        let mut arrives = 0;
        let mut flush = |waiting: &mut Vec<Seen>, now: i64, rng: &mut fastrand::Rng| {
            let pending = sent.iter().filter(|(at, known)| *at <= now && *known > now).map(|(at, _)| *at);
            let through = self.stamp(site, pending.min().unwrap_or(now).min(now));
            let stray = if rng.u8(0..50) == 0 { rng.i64(0..5 * SECOND) } else { 0 };
            arrives = (now + (self.ways[site] as f64 * (0.5 + rng.f64())) as i64 + stray).max(arrives + 1);
            let observations = waiting.drain(..).map(|seen: Seen| {
                seq += 1;
                (seen.at, Observation { at: self.stamp(site, seen.at), seq, body: seen.body })
            });
            batches.push(Batch { site, arrives, through, observations: observations.collect() });
        };
        for seen in seen {
            if due < seen.known {
                flush(&mut waiting, due, rng);
                last = due;
                due = i64::MAX;
            }
            due = due.min(if seen.is_news {
                seen.known.max(last + SECOND / 5)
            } else {
                seen.known + self.hold
            });
            waiting.push(seen);
        }
        flush(&mut waiting, until.max(due), rng);
        batches
    }

    /// The true time of what a subject's site has stamped so.
    pub(crate) fn in_truth(&self, subject: &str, at: Timestamp) -> i64 {
        let site = usize::from(subject.starts_with("l/b/") || subject == "l/vpn-1");
        at.as_micros() - START - self.clocks[site]
    }

    fn stamp(&self, site: usize, at: i64) -> Timestamp {
        Timestamp::from_micros(START + at + self.clocks[site])
    }
}

/// What a collector saw, when it was sent and when the outcome is known.
struct Seen {
    at: i64,
    known: i64,
    body: Body,
    is_news: bool,
    /// It begins to fail.
    begins: bool,
}

impl Probe {
    fn name(&self) -> String {
        format!("{}-{}{}", self.protocol, self.host, if self.large { "-large" } else { "" })
    }

    fn outcomes(&self, faults: &[Fault], until: i64, rng: &mut fastrand::Rng, seen: &mut Vec<Seen>) {
        let mut at = self.phase;
        let (mut ways, mut failing, mut wanting, mut known) = ((0, 0), false, 0, 0);
        while at < until {
            let slow = faults.iter().any(|fault| fault.what == What::Slow && fault.is_on(at));
            let rtt = self.rtt + rng.i64(0..20_000) + if slow { 210_000 } else { 0 };
            let (there, back) = self.lost(at, at + rtt, faults, rng);
            ways.0 += i32::from(there);
            ways.1 += i32::from(back && !there);
            let lost = there || back || rtt > self.timeout;
            let mut detail = None;
            let outcome = if lost {
                Outcome::Lost(Lost::Timeout)
            } else {
                if self.protocol == "udp" {
                    let way = |lost: i32| Some(Way { lost, variation_ms: None });
                    let of = Detail { forward: way(ways.0), back: way(ways.1), ..Detail::default() };
                    detail = Some(Box::new(of));
                    ways = (0, 0);
                }
                Outcome::Reply { rtt_ms: rtt as f64 / 1e3 }
            };
            // Let out in the order of sending.
            known = (at + if lost { self.timeout } else { rtt }).max(known + 1);
            let follows = wanting > 0;
            wanting = if lost || slow { GOOD } else { wanting.saturating_sub(1) };
            let body = Body::Probe { link: "l".into(), probe: self.name().into(), outcome, detail };
            seen.push(Seen { at, known, body, is_news: follows || lost || slow, begins: lost && !failing });
            failing = lost;
            at += self.every;
        }
    }

    /// Whether it is lost on its way there, and whether it would be on its way back.
    fn lost(&self, there: i64, back: i64, faults: &[Fault], rng: &mut fastrand::Rng) -> (bool, bool) {
        let mut lost = (false, false);
        for fault in faults {
            let (mut of_there, mut of_back) = (fault.is_on(there), fault.is_on(back));
            match &fault.what {
                What::BlackHole | What::TunnelsDown => {}
                What::OneWay(site) if self.site == *site => of_back = false,
                What::OneWay(_) => of_there = false,
                What::Target(..) | What::Protocol(_) | What::Large => {
                    of_there &= fault.what.hits(self);
                    of_back = false;
                }
                What::Chance(share) => {
                    let chance = rng.f64() < *share;
                    let way = rng.bool();
                    of_there &= chance && way;
                    of_back &= chance && !way;
                }
                What::Slow | What::OneTunnel => continue,
                What::Blip { packets, probes } => {
                    let hit = (fault.from..fault.from + packets * self.every).contains(&there);
                    of_there = hit && probes[self.place(probes.len())];
                    of_back = false;
                }
            }
            lost = (lost.0 || of_there, lost.1 || of_back);
        }
        lost
    }

    /// Any that is its own among so many.
    fn place(&self, of: usize) -> usize {
        (self.phase % of as i64) as usize
    }
}

/// What is seen of the tunnels, asked every so often and once a probe begins to fail.
fn tunnels(
    site: usize,
    every: i64,
    seen: &[Seen],
    faults: &[Fault],
    until: i64,
    rng: &mut fastrand::Rng,
) -> Vec<Seen> {
    let mut asked = Vec::new();
    let mut begins = seen.iter().filter(|seen| seen.begins).map(|seen| seen.known).peekable();
    let (mut at, mut before) = (rng.i64(0..every), [true; 2]);
    while at < until {
        let up = [0, 1].map(|tunnel| !faults.iter().any(|fault| fault.takes_down(tunnel, at)));
        let tunnels = ["192.0.2.1", "192.0.2.2"].into_iter().zip(up).map(|(ip, up)| Tunnel {
            outside_ip: ip.to_owned(),
            up,
            accepted_routes: 1,
            since: None,
            message: String::new(),
        });
        let body =
            Body::Tunnels { link: "l".into(), vpn: format!("vpn-{site}").into(), tunnels: tunnels.collect() };
        // It is stamped with when the answer came.
        let known = at + rng.i64(50_000..SECOND);
        asked.push(Seen { at: known, known, body, is_news: up != before, begins: false });
        before = up;
        while begins.next_if(|begins| *begins <= at).is_some() {}
        let hastened = begins.peek().map_or(i64::MAX, |begins| (*begins).max(at + HASTY));
        at = hastened.min(at + every);
    }
    asked
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

fn rule(
    name: &str,
    metric: Metric,
    side: Side,
    threshold: f64,
    (m, n): (usize, usize),
    clear: Option<usize>,
) -> Rule {
    Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m, n },
        clear,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}
