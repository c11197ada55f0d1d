//! Small random worlds: sites, probes, VPN connections, rules, and what was seen there in which order.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side, Statistic, Window};
use crosswatch_shared::config::topology::{
    Host, Link, Probe, Queue, QueueKind, Site, Target, Topology, Vpn, VpnSelect,
};
use crosswatch_shared::observation::{Body, Detail, Lost, Observation, Origin, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;

/// A config, and the rows a replay of it reads.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rules: Vec<Rule>,
    pub(crate) topology: Topology,
    pub(crate) rows: Vec<(Origin, Observation)>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (_, probe) in self.topology.probes() {
            writeln!(f, "  probe {} from {} every {:?}", probe.name, probe.from, probe.every)?;
        }
        for (_, vpn) in self.topology.vpns() {
            writeln!(f, "  vpn {:?} of {} every {:?}", vpn.select, vpn.site, vpn.every)?;
        }
        for rule in &self.rules {
            writeln!(f, "  {rule:?}")?;
        }
        for (origin, Observation { at, seq, body }) in &self.rows {
            writeln!(f, "  {at} {}#{seq} {body:?}", origin.boot)?;
        }
        Ok(())
    }
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let ids = select(vec![Ids::Words, Ids::Uuids]);
    (topology(), vec(rule(), 1..=3), vec(step(), 1..70), ids).prop_map(|(topology, mut rules, steps, ids)| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("rule-{index}").as_str().into();
        }
        let rows = rows(&topology, &steps, ids);
        World { rules, topology, rows }
    })
}

fn seconds() -> impl Strategy<Value = Duration> {
    select(vec![1_000, 1_000, 1_000, 1_500, 2_000, 3_000, 5_000]).prop_map(Duration::from_millis)
}

// Topology: one link `l` for all; VPN connections by id `v0`, `v1`, …, and at most one tag a site.

fn topology() -> impl Strategy<Value = Topology> {
    let probe = (0..2_usize, seconds());
    let vpn = (0..2_usize, seconds(), any::<bool>());
    (1..=2_usize, vec(probe, 0..=3), vec(vpn, 0..=2)).prop_map(|(sites, probes, vpns)| {
        let name = |index: usize| ["a", "b"][index % sites];
        let probes = probes.iter().enumerate().map(|(index, &(from, every))| Probe {
            name: format!("p{index}").as_str().into(),
            from: name(from).into(),
            target: Target::Icmp(Host::Name("target".into())),
            every,
            timeout: Duration::from_millis(500),
            burst: 1,
            size: None,
        });
        let vpns = vpns.iter().enumerate().map(|(index, &(site, every, by_id))| Vpn {
            site: name(site).into(),
            select: match by_id {
                true => VpnSelect::Id(format!("v{index}").as_str().into()),
                false => VpnSelect::Tag("Name".into(), "t".into()),
            },
            every,
            expect_up: 2,
            region: None,
            role: None,
        });
        let mut vpns: Vec<Vpn> = vpns.collect();
        // Of two tags at one site nothing tells which of them found a connection.
        if let [first, second] = &vpns[..]
            && first.site == second.site
            && [first, second].iter().all(|vpn| matches!(vpn.select, VpnSelect::Tag(..)))
        {
            vpns.pop();
        }
        Topology {
            sites: (0..sites)
                .map(|index| Site { name: name(index).into(), region: None, role: None, topic: None })
                .collect(),
            links: vec![Link {
                name: "l".into(),
                between: (0..sites).map(|index| name(index).into()).collect(),
                vpns,
                appliances: Vec::new(),
                probes: probes.collect(),
            }],
            queue: Queue {
                path: "data".into(),
                kind: QueueKind::Embedded,
                keep: Duration::from_secs(86_400),
                max_bytes: 1 << 30,
            },
            listen: None,
        }
    })
}

// Rules

fn rule() -> impl Strategy<Value = Rule> {
    let statistic = select(vec![
        Statistic::Average,
        Statistic::Minimum,
        Statistic::Maximum,
        Statistic::Percentile(50),
        Statistic::Percentile(90),
        Statistic::Percentile(95),
        Statistic::Percentile(99),
    ]);
    let judged =
        (select(Metric::ALL.to_vec()), any::<bool>(), 0..4_usize, prop::option::weighted(0.4, 0..3_usize));
    let counted = (1..=3_usize, 0..=2_usize, prop::option::weighted(0.5, 1..=3_usize));
    let timed = (
        any::<bool>(),
        seconds(),
        statistic,
        prop::option::weighted(0.7, seconds()),
        select(vec![Missing::Hold, Missing::Breach, Missing::Ok]),
    );
    let globs = select(vec![vec![], vec![], vec![], vec!["*p0"], vec!["l/?/*", "*icmp"], vec!["nothing"]]);
    (judged, counted, timed, globs).prop_map(
        |(
            (metric, below, threshold, clear),
            (m, more, k),
            (windowed, period, statistic, deadline, missing),
            globs,
        )| {
            let thresholds = thresholds(metric);
            let clear_threshold = clear.map(|further| match below {
                true => thresholds[(threshold + further).min(thresholds.len() - 1)],
                false => thresholds[threshold.saturating_sub(further)],
            });
            Rule {
                name: "rule".into(),
                metric,
                side: if below { Side::Below } else { Side::Above },
                threshold: thresholds[threshold].into(),
                clear_threshold,
                breach: Breach { m, n: m + more },
                clear: k,
                window: (windowed || metric.needs_period()).then_some(Window { period, statistic }),
                deadline,
                missing,
                subjects: globs.into_iter().map(str::to_owned).collect(),
            }
        },
    )
}

fn thresholds(metric: Metric) -> [f64; 4] {
    match metric {
        Metric::TunnelsUp => [0.5, 1.0, 1.5, 2.0],
        Metric::PingOk | Metric::CollectionOk => [0.0, 0.5, 0.75, 1.0],
        Metric::LossPercent => [0.0, 25.0, 50.0, 75.0],
        Metric::JitterMs => [1.0, 2.5, 5.0, 8.0],
        Metric::LatencyMs | Metric::CollectionMs => [2.0, 5.0, 7.5, 10.0],
    }
}

// Rows

/// One thing that happens: time goes on, then something is seen, and its row is read some time later.
#[derive(Clone, Debug)]
struct Step {
    /// Time since the step before.
    after_micros: i64,
    /// How long after it was seen it is read, among the rows of all sites.
    delay_micros: i64,
    who: usize,
    what: usize,
    boot: Boot,
    /// The row is read once more, this much later, with other contents.
    again_micros: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Boot {
    Same,
    /// A new one begins, its clock this far from that of the first.
    New(i64),
    /// Of the boot before the present one, if there was one.
    Former,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        2 => Just(0),
        8 => select(vec![250_000, 500_000, 1_000_000, 1_000_000, 2_000_000]),
        2 => 1..2_000_000_i64,
        1 => select(vec![3_000_000, 7_000_000, 12_000_000, 40_000_000]),
    ];
    let delay =
        prop_oneof![6 => Just(0), 2 => 0..5_000_001_i64, 1 => select(vec![1_000_000, 2_000_000, 4_000_000])];
    let boot = prop_oneof![
        40 => Just(Boot::Same),
        1 => select(vec![0, -20_000_000, -3_000_000, -1_500_000, 2_000_000, 30_000_000]).prop_map(Boot::New),
        2 => Just(Boot::Former),
    ];
    let again = prop::option::weighted(0.05, 0..6_000_000_i64);
    (after, delay, 0..64_usize, 0..64_usize, boot, again).prop_map(
        |(after_micros, delay_micros, who, what, boot, again_micros)| Step {
            after_micros,
            delay_micros,
            who,
            what,
            boot,
            again_micros,
        },
    )
}

/// A boot's name and how far its clock is from that of the first.
type Life = (String, i64);

/// What boots are called.
#[derive(Clone, Copy, Debug)]
enum Ids {
    /// Their order is that of their first appearance.
    Words,
    /// Their order is told by the ids, whichever of them appears first.
    Uuids,
}

impl Ids {
    fn name(self, site: &str, life: usize) -> String {
        match self {
            Self::Words => format!("{site}-{life}"),
            Self::Uuids => format!("0193a5f0-9a3c-7d11-800{site}-{life:012}"),
        }
    }
}

fn rows(topology: &Topology, steps: &[Step], ids: Ids) -> Vec<(Origin, Observation)> {
    let mut clock = 1_000_000_000_000_000_i64;
    let mut lives: HashMap<String, Vec<Life>> = HashMap::new();
    let mut next: HashMap<String, u64> = HashMap::new();
    let mut read = Vec::new();
    for step in steps {
        clock += step.after_micros;
        let (site, body) = seen(topology, step.who, step.what);
        let lives = lives.entry(site.clone()).or_insert_with(|| vec![(ids.name(&site, 0), 0)]);
        if let Boot::New(offset) = step.boot {
            lives.push((ids.name(&site, lives.len()), offset));
        }
        let back = if matches!(step.boot, Boot::Former) { 2 } else { 1 };
        let (boot, offset) = &lives[lives.len().saturating_sub(back)];
        let seq = next.entry(boot.clone()).or_default();
        let origin = Origin { site: site.as_str().into(), collector: "c".into(), boot: boot.as_str().into() };
        let row = Observation { at: Timestamp::from_micros(clock + offset), seq: *seq, body };
        // What is foreign is numbered as well, but has no effect: its number may come again.
        if !(step.who % 16 == 15 && step.what % 2 == 0) {
            *seq += 1;
        }
        read.push((clock + step.delay_micros, (origin.clone(), row.clone())));
        if let Some(later) = step.again_micros {
            let (_, body) = seen(topology, step.who, step.what + 7);
            let at = Timestamp::from_micros(clock + offset + later);
            read.push((clock + step.delay_micros + later, (origin, Observation { at, body, ..row })));
        }
    }
    read.sort_by_key(|(when, _)| *when);
    read.into_iter().map(|(_, row)| row).collect()
}

/// What is seen, of the subjects of the config or, one in sixteen, of none.
fn seen(topology: &Topology, who: usize, what: usize) -> (String, Body) {
    if who % 16 == 15 {
        return foreign(topology, who / 16, what);
    }
    let link = &topology.links[0];
    let site = topology.sites[what % topology.sites.len()].name.to_string();
    let subjects = link.probes.len() + link.vpns.len() + 2;
    let who = who % subjects;
    if let Some(probe) = link.probes.get(who) {
        let (outcome, detail) = (outcome(what), burst(what));
        let body = Body::Probe { link: "l".into(), probe: probe.name.clone(), outcome, detail };
        return (probe.from.to_string(), body);
    }
    if let Some(vpn) = link.vpns.get(who - link.probes.len()) {
        let id = match &vpn.select {
            VpnSelect::Id(id) => id.to_string(),
            VpnSelect::Tag(..) => format!("t{}-{}", what / 16 % 2, vpn.site),
        };
        return (vpn.site.to_string(), tunnels("l", &id, what));
    }
    let source = if who == subjects - 1 { "icmp" } else { "ec2:vpn-status" };
    (site, collection(source, what))
}

fn foreign(topology: &Topology, which: usize, what: usize) -> (String, Body) {
    let known = topology.sites[0].name.to_string();
    let probe = |link: &str, probe: &str| Body::Probe {
        link: link.into(),
        probe: probe.into(),
        outcome: outcome(what),
        detail: None,
    };
    match (which + what) % 6 {
        0 => (known, probe("l", "stranger")),
        1 => (known, probe("stranger", "p0")),
        2 => ("stranger".into(), probe("l", "p0")),
        3 => (known, tunnels("stranger", "v0", what)),
        4 => ("stranger".into(), collection("icmp", what)),
        // Foreign, unless a tag of that site selects it.
        _ => (known, tunnels("l", "v9", what)),
    }
}

fn outcome(what: usize) -> Outcome {
    const REPLIES: [f64; 6] = [1.0, 5.0, 6.0, 7.5, 9.0, 12.0];
    match what % 16 {
        0..=7 => Outcome::Reply { rtt_ms: REPLIES[what / 16 % 4 + what % 3] },
        8..=11 => Outcome::Lost(Lost::Timeout),
        12 => Outcome::Lost(Lost::Unreachable),
        13 => Outcome::Lost(Lost::Refused),
        _ => Outcome::Lost(Lost::Local),
    }
}

/// The packets of one in three.
fn burst(what: usize) -> Option<Box<Detail>> {
    let burst = match outcome(what) {
        _ if !what.is_multiple_of(3) => return None,
        Outcome::Reply { rtt_ms } => vec![None, Some(rtt_ms), Some(rtt_ms + 2.0)],
        Outcome::Lost(_) => vec![None; 2 + what % 2],
    };
    Some(Box::new(Detail { burst, ..Detail::default() }))
}

fn tunnels(link: &str, vpn: &str, what: usize) -> Body {
    let up: &[bool] = match what % 8 {
        0 | 1 => &[false, false],
        2 | 3 => &[true, false],
        4 => &[],
        5 => &[true, true, true],
        _ => &[true, true],
    };
    let tunnel = |&up| Tunnel {
        outside_ip: "192.0.2.1".into(),
        up,
        accepted_routes: 0,
        since: None,
        message: String::new(),
    };
    Body::Tunnels { link: link.into(), vpn: vpn.into(), tunnels: up.iter().map(tunnel).collect() }
}

fn collection(source: &str, what: usize) -> Body {
    let ok = !what.is_multiple_of(3);
    Body::Collection {
        source: source.into(),
        ok,
        error: (!ok).then(|| "RequestLimitExceeded".into()),
        took_ms: [1.0, 5.0, 8.0, 12.5][what / 3 % 4],
    }
}
