use std::path::Path;
use std::time::Duration;

use crosswatch_alarms::{Input, Judged, Mode, Published};
use crosswatch_judge::rule::{Breach, Metric as RuleMetric, Missing, Rule, Side};
use crosswatch_shared::config::topology::Topology;
use crosswatch_window::Metric;

use super::*;

const CENTRE: &str = r#"
[site.us-east-1]
region = "us-east-1"
topic = "arn:aws:sns:us-east-1:123456789012:site"
[site.eu-west-1]
region = "eu-west-1"
[queue]
kind = "sqs"
publisher = "https://sqs.us-east-1.amazonaws.com/123456789012/publisher"
alerter = "https://sqs.us-east-1.amazonaws.com/123456789012/alerter"
"#;

fn topology(links: usize) -> Topology {
    let mut text = CENTRE.to_owned();
    for link in 0..links {
        text += &format!(
            r#"
[[link]]
name = "link-{link}"
between = ["us-east-1", "eu-west-1"]
vpn = [{{ site = "us-east-1", id = "vpn-0a1b2c3d4e5f6071{link}" }}]
probe = [{{ from = "us-east-1", icmp = "10.1.{link}.10" }}, {{ from = "eu-west-1", icmp = "10.0.{link}.10" }}]
"#
        );
    }
    crosswatch_shared::config::read(Path::new("c.toml"), text.as_bytes(), Topology::take).unwrap()
}

fn rules() -> Vec<Rule> {
    [
        ("tunnels-down", RuleMetric::TunnelsUp, Side::Below, 1.0),
        ("ping-failed", RuleMetric::PingOk, Side::Below, 1.0),
        ("latency-high", RuleMetric::LatencyMs, Side::Above, 200.0),
    ]
    .map(|(name, metric, side, threshold)| Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m: 1, n: 1 },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    })
    .into()
}

const BARE: Options = Options { pages: 0, sms_price: None, instances: false, network: Network::Free };

fn bill_of(links: usize, options: &Options) -> Bill {
    let (topology, rules) = (topology(links), rules());
    let period = Duration::from_secs(60);
    let alarms = alarms(&topology, &rules, period);
    let deployment = Deployment {
        topology: &topology,
        publish: &Metric::DEFAULT,
        period,
        alarms: Some(alarms),
        numbers: 2,
    };
    bill(&deployment, options)
}

/// As `crosswatch alarms` would make them.
fn alarms(topology: &Topology, rules: &[Rule], period: Duration) -> Alarms {
    let plan = crosswatch_alarms::plan(&Input {
        topology,
        rules: rules.iter().map(|rule| Judged { rule, notifies: true }).collect(),
        published: Published {
            to_cloudwatch: true,
            namespace: "Crosswatch",
            region: Some("us-east-1"),
            region_is_named: true,
            period,
            metrics: &Metric::DEFAULT,
            sources: &["ec2:*".to_owned()],
        },
        mode: Mode::Both,
        topic: Some("arn:aws:sns:us-east-1:123456789012:pages"),
    })
    .unwrap();
    let counts = plan.counts();
    Alarms { standard: counts.standard, high_resolution: counts.high_resolution, composite: counts.composite }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.000_5
}

#[test]
fn every_line_of_the_first_link_is_what_it_is_by_hand() {
    let bill = bill_of(1, &BARE);
    let by_hand = [
        ("metric TunnelsUp", 1.0, 0.30),
        ("metric PingSuccess", 2.0, 0.60),
        ("metric PingLatency", 2.0, 0.60),
        ("metric CollectionSuccess", 1.0, 0.30),
        ("metric CollectionLatency", 1.0, 0.30),
        ("metric PipelineDelay", 2.0, 0.60),
        ("metric Heartbeat: publisher and alerter", 2.0, 0.60),
        ("PutMetricData of the publisher", 43_800.0, 0.438),
        ("PutMetricData of the alerter", 43_800.0, 0.438),
        // Five of rules, four heartbeats, one on TunnelState.
        ("alarms", 10.0, 1.00),
        ("composite alarms", 1.0, 0.50),
        ("sends to the alerter", 525_600.0, 0.210_24),
        ("receives by the alerter", 525_600.0, 0.210_24),
        ("deletes by the alerter", 262_800.0, 0.105_12),
        ("sends to the publisher", 175_200.0, 0.070_08),
        // And two polls of each 30 s that get nothing.
        ("receives by the publisher", 350_400.0, 0.140_16),
        ("deletes by the publisher", 175_200.0, 0.070_08),
    ];
    let told: Vec<_> = bill.lines.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(told, by_hand.map(|(what, ..)| what));
    for (line, (what, count, dollars)) in bill.lines.iter().zip(by_hand) {
        assert!(near(line.count, count), "{what}: {}", line.count);
        assert!(near(line.dollars, dollars), "{what}: {}", line.dollars);
        assert!(!line.source.is_empty());
    }
    assert!(near(bill.total, by_hand.iter().map(|(_, _, dollars)| dollars).sum()));
    assert!(near(bill.total, bill.services), "nothing else is counted");
}

/// What is promised without instances and network: 6.50 $ for the first link and 3 $ for each further one.
#[test]
fn a_link_costs_what_is_promised() {
    let first = bill_of(1, &BARE).services;
    assert!(first <= 6.50, "{first}");
    for links in 2..6 {
        let further = bill_of(links, &BARE).services - bill_of(links - 1, &BARE).services;
        assert!(further <= 3.0, "link {links}: {further}");
    }
    let monitor = bill_of(1, &BARE).network_synthetic_monitor;
    assert!(near(monitor, 160.6), "{monitor}");
}

#[test]
fn pages_machines_and_the_way_to_aws_are_lines_of_their_own() {
    let all = Options { pages: 10, sms_price: Some(0.01), instances: true, network: Network::PublicIpv4 };
    let bill = bill_of(1, &all);
    let of = |what: &str| bill.lines.iter().find(|line| line.what.starts_with(what)).unwrap().dollars;
    assert!(near(of("10 pages"), 0.40), "ten firing and ten resolved to two numbers");
    assert!(near(of("collectors"), 2.0 * 730.0 * 0.0042));
    assert!(near(of("publisher and alerter"), 730.0 * 0.0168));
    assert!(near(of("disks"), 3.0 * 8.0 * 0.08));
    assert!(near(of("public addresses"), 3.0 * 730.0 * 0.005));
    assert!(bill.total > bill.services);
    let nat = bill_of(1, &Options { network: Network::Nat, ..BARE });
    assert!(near(nat.total - nat.services, 3.0 * 730.0 * 0.045));
    let endpoints = bill_of(1, &Options { network: Network::Endpoints, ..BARE });
    assert!(near(endpoints.total - endpoints.services, 12.0 * 730.0 * 0.01));
    let own_region = |bill: &Bill| bill.notes.iter().any(|note| note.contains("of their own region alone"));
    assert!(own_region(&endpoints) && !own_region(&nat));
}

#[test]
fn large_batches_are_billed_by_64_kib() {
    let mut topology = topology(1);
    let probe = topology.links[0].probes[0].clone();
    topology.links[0].probes = (0..1_000).map(|_| probe.clone()).collect();
    let deployment = Deployment {
        topology: &topology,
        publish: &[],
        period: Duration::from_secs(60),
        alarms: None,
        numbers: 0,
    };
    let bill = bill(&deployment, &BARE);
    // 10,000 observations in 10 s are four requests, from the one site that has them; the other's are one each.
    assert!(near(bill.lines[0].count, 262_800.0 * 5.0), "{:?}", bill.lines[0]);
    assert!(bill.lines.iter().all(|line| line.service == "SQS"), "no CloudWatch: {:?}", bill.lines);
}
