//! What is watched, by which rules, and who is told: drawn anew for each day.

use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side, Statistic, Window};
use crosswatch_shared::config::topology::{
    Host, Link, Probe, Queue, QueueKind, Site, Target, Topology, Vpn, VpnSelect,
};
use crosswatch_shared::config::values::Rate;
use crosswatch_shared::observation::Name;

use crate::config::{Config, ConfiguredRule, Receiver, Secret, Template, Texting};

/// How often a probe is sent, and a VPN connection polled, while nothing happens.
pub(crate) const ROUTINE: Duration = Duration::from_secs(120);

/// The protocol and target of every probe.
pub(crate) const PROBE: &str = "icmp:10.0.0.1";

/// What of each site tells how collecting went.
pub(crate) const SOURCE: &str = "ec2:vpn-status";

/// A configuration.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) topology: Topology,
    pub(crate) config: Config,
    /// Whether the queue gives each site's batches in their order.
    pub(crate) keeps_order: bool,
    /// How long a collector may keep routine back.
    pub(crate) hold: Duration,
}

impl World {
    pub(crate) fn draw(rng: &mut fastrand::Rng) -> Self {
        let embedded = rng.bool();
        let keeps_order = embedded || rng.u8(..4) == 0;
        let receivers = receivers(rng);
        let rules = rules(rng).into_iter().map(|rule| {
            let notify = receivers.iter().filter(|_| rng.u8(..4) > 0).map(|of| of.name.clone());
            ConfiguredRule { rule, notify: notify.collect() }
        });
        let config = Config { rules: rules.collect(), receivers: receivers.clone(), ..Config::default() };
        let kind = match embedded {
            true => QueueKind::Embedded,
            false => QueueKind::Sqs { publisher: Vec::new(), alerter: Vec::new() },
        };
        Self {
            topology: topology(rng, kind),
            config,
            keeps_order,
            hold: Duration::from_secs(if embedded { 1 } else { 10 }),
        }
    }
}

fn topology(rng: &mut fastrand::Rng, kind: QueueKind) -> Topology {
    let sites: Vec<Name> = (0..rng.usize(1..5)).map(|site| format!("site-{site}").into()).collect();
    let links = (0..rng.usize(2..9)).map(|number| {
        let from = rng.usize(..sites.len());
        let to = (from + rng.usize(1..sites.len().max(2))) % sites.len();
        let mut between = vec![sites[from].clone(), sites[to].clone()];
        between.dedup();
        let probe = |site: &Name| Probe {
            name: PROBE.into(),
            from: site.clone(),
            target: Target::Icmp(Host::Address([10, 0, 0, 1].into())),
            every: ROUTINE,
            timeout: Duration::from_secs(1),
            burst: 1,
            size: None,
        };
        let vpn = Vpn {
            site: sites[from].clone(),
            select: match rng.u8(..4) {
                0 => VpnSelect::Tag("Name".to_owned(), format!("link-{number}")),
                _ => VpnSelect::Id(format!("vpn-{number}").into()),
            },
            every: ROUTINE,
            expect_up: 2,
            region: None,
            role: None,
        };
        Link {
            name: format!("link-{number}").into(),
            probes: between.iter().map(probe).collect(),
            between,
            vpns: vec![vpn],
            appliances: Vec::new(),
        }
    });
    Topology {
        links: links.collect(),
        sites: sites
            .iter()
            .map(|name| Site { name: name.clone(), region: None, role: None, topic: None })
            .collect(),
        queue: Queue { path: "data".into(), kind, keep: Duration::from_hours(168), max_bytes: 1 << 30 },
        listen: None,
    }
}

fn rules(rng: &mut fastrand::Rng) -> Vec<Rule> {
    let mut rules = Vec::new();
    let of = [
        ("ping-failed", Metric::PingOk, Side::Below, 1.0),
        ("ping-lost", Metric::PingOk, Side::Below, 1.0),
        ("latency-high", Metric::LatencyMs, Side::Above, 200.0),
        ("loss-high", Metric::LossPercent, Side::Above, 20.0),
        ("jitter-high", Metric::JitterMs, Side::Above, 30.0),
        ("latency-p95", Metric::LatencyMs, Side::Above, 200.0),
        ("tunnels-down", Metric::TunnelsUp, Side::Below, 1.0),
        ("redundancy-lost", Metric::TunnelsUp, Side::Below, 2.0),
        ("collection-failed", Metric::CollectionOk, Side::Below, 1.0),
    ];
    for (place, (name, metric, side, threshold)) in of.into_iter().enumerate() {
        if place > 0 && rng.u8(..4) == 0 {
            continue;
        }
        let windowed = metric.needs_period() || name == "latency-p95";
        let (m, n) = rng.choice([(1, 1), (2, 2), (2, 3), (3, 3), (3, 5)]).unwrap_or((1, 1));
        let clears = [None, Some(1), Some(3), Some(if windowed { 2 } else { 20 })];
        let clear = rng.choice(clears).flatten();
        let missing = match rng.u8(..6) {
            0 => Missing::Breach,
            1 => Missing::Ok,
            _ => Missing::Hold,
        };
        let statistic = rng.choice([Statistic::Percentile(95), Statistic::Average, Statistic::Maximum]);
        rules.push(Rule {
            name: name.into(),
            metric,
            side,
            threshold: threshold.into(),
            clear_threshold: (name == "latency-high" && rng.bool()).then_some(150.0),
            breach: Breach { m, n },
            clear,
            window: windowed.then(|| Window {
                period: Duration::from_secs(rng.choice([10, 20]).unwrap_or(10)),
                statistic: statistic.unwrap_or(Statistic::Average),
            }),
            deadline: (rng.u8(..3) == 0).then(|| Duration::from_secs(rng.u64(150..1_000))),
            missing,
            subjects: if rng.u8(..5) == 0 {
                vec!["*[02468]*".to_owned(), "*-1*".to_owned()]
            } else {
                Vec::new()
            },
        });
    }
    rules
}

fn receivers(rng: &mut fastrand::Rng) -> Vec<Receiver> {
    let count = rng.usize(1..4);
    let receiver = |number: usize| {
        let minutes = |count, minutes: u64| Rate { count, per: Duration::from_secs(60 * minutes) };
        let at_most =
            rng.choice([None, None, Some(minutes(1, 5)), Some(minutes(3, 1)), Some(minutes(5, 60))]);
        Receiver {
            name: format!("oncall-{number}").into(),
            sms: if rng.bool() { vec!["+15555550100".to_owned()] } else { Vec::new() },
            texting: Texting::default(),
            topic: None,
            webhook: Some(Secret::Value("http://127.0.0.1/".to_owned())),
            template: Template::Plain,
            command: Vec::new(),
            console: rng.u8(..4) == 0,
            at_most: at_most.flatten(),
        }
    };
    (0..count).map(receiver).collect()
}
