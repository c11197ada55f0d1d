//! The bill: what there is of everything, times its price.

use std::collections::HashSet;
use std::time::Duration;

use crosswatch_shared::config::topology::{QueueKind, Topology};
use crosswatch_window::Metric;
use serde::Serialize;

use crate::alarms::{Alarms, polling};
use crate::prices::{self, HOURS, Price};

/// How long routine is held before it is sent: to an alerter's queue, and to a publisher's.
const HOLDS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];

/// How long a poll stays open that gets nothing.
const POLL: Duration = Duration::from_secs(10);

/// How long deletions are gathered for one request.
const GATHER: Duration = Duration::from_secs(10);

/// How many observations fit what is billed as one request.
const OBSERVATIONS: f64 = 3_000.0;

/// How many datapoints a `PutMetricData` takes.
const DATUMS: usize = 1_000;

/// A disk's size, in GB.
const DISK: f64 = 8.0;

/// What is on AWS.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a> {
    /// Sites, links and queues.
    pub topology: &'a Topology,
    /// What is published to CloudWatch; nothing where metrics are kept on the machine.
    pub publish: &'a [Metric],
    /// A window's length.
    pub period: Duration,
    /// The alarms, if metrics go to CloudWatch.
    pub alarms: Option<Alarms>,
    /// How many numbers get an SMS of each incident, at most.
    pub numbers: usize,
}

/// What the config does not say.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many incidents page in a month, each with a `firing` and a `resolved`.
    pub pages: u32,
    /// What one SMS costs, where the table's price does not fit.
    pub sms_price: Option<f64>,
    /// Whether an instance and its disk are counted for each site on AWS, and one for the centre.
    pub instances: bool,
    /// How the instances reach AWS.
    pub network: Network,
}

/// How instances reach AWS's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A public address each.
    PublicIpv4,
    /// A NAT gateway each.
    Nat,
    /// Interface endpoints in one zone for each; they lead to services of their own region alone.
    Endpoints,
    /// There is a way already, or it costs nothing.
    Free,
}

/// A month's bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// When the prices were last looked at.
    pub prices_of: &'static str,
    /// Of which region they are.
    pub region: &'static str,
    /// What is paid for.
    pub lines: Vec<Line>,
    /// What the lines cost without instances and network, in US dollars.
    pub services: f64,
    /// What all lines cost.
    pub total: f64,
    /// What the same probes cost with Network Synthetic Monitor.
    pub network_synthetic_monitor: f64,
    /// What is assumed, and what is not counted.
    pub notes: Vec<String>,
}

/// A line of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Whose price it is.
    pub service: &'static str,
    /// What is paid for.
    pub what: String,
    /// How many units.
    pub count: f64,
    /// What a unit is.
    pub unit: &'static str,
    /// What a unit costs, in US dollars.
    pub price: f64,
    /// What all of them cost.
    pub dollars: f64,
    /// Where the price was seen.
    pub source: &'static str,
}

fn line(service: &'static str, what: impl Into<String>, count: f64, price: Price) -> Line {
    let Price { dollars: each, unit, source } = price;
    Line { service, what: what.into(), count, unit, price: each, dollars: count * each, source }
}

/// Computes it. Steady state: no news, no backlog, no retries; at most what AWS bills for that.
#[must_use]
pub fn bill(deployment: &Deployment<'_>, options: &Options) -> Bill {
    let topology = deployment.topology;
    let mut lines = Vec::new();
    if let Some(alarms) = deployment.alarms {
        lines.extend(cloudwatch(deployment, alarms));
    }
    if let QueueKind::Sqs { publisher, alerter } = &topology.queue.kind {
        let [to_alerter, to_publisher] = HOLDS;
        lines.extend(queue(topology, "alerter", alerter.len(), to_alerter));
        lines.extend(queue(topology, "publisher", publisher.len(), to_publisher));
        let second = seconds(topology);
        if second > 0 {
            lines.extend(queue(topology, "second alerter", second, to_alerter));
        }
    }
    if options.pages > 0 && deployment.numbers > 0 {
        let texts = f64::from(options.pages) * 2.0 * deployment.numbers as f64;
        let price = Price { dollars: options.sms_price.unwrap_or(prices::SMS.dollars), ..prices::SMS };
        let what = format!("{} pages: firing and resolved to {} numbers", options.pages, deployment.numbers);
        lines.push(line("SNS", what, texts, price));
    }
    lines.retain(|line| line.count > 0.0);
    let services = sum(&lines);
    lines.extend(machines(topology, options));
    let mut notes = vec![
        "free tiers are not deducted; taxes and data transfer are not counted".to_owned(),
        "news (losses, slow replies) and retries cost a little more while they last: 0.40 $ a million"
            .to_owned(),
    ];
    if topology
        .vpns()
        .any(|(_, vpn)| matches!(vpn.select, crosswatch_shared::config::topology::VpnSelect::Tag(..)))
    {
        notes.push("VPN connections found by a tag are counted as one for each tag".to_owned());
    }
    if options.network == Network::Endpoints {
        notes.push(
            "endpoints lead to services of their own region alone: a site outside the central one reaches its queues and its bucket by \
             NAT or a public address, which is not counted; nor are endpoints for Session Manager (ssm, ssmmessages)"
                .to_owned(),
        );
    }
    let probes = topology.probes().count() as f64;
    Bill {
        prices_of: prices::DATE,
        region: prices::REGION,
        services,
        total: sum(&lines),
        lines,
        network_synthetic_monitor: probes * HOURS * prices::MONITORED_RESOURCE.dollars,
        notes,
    }
}

fn sum(lines: &[Line]) -> f64 {
    lines.iter().map(|line| line.dollars).sum()
}

fn cloudwatch(deployment: &Deployment<'_>, alarms: Alarms) -> Vec<Line> {
    let Deployment { topology, publish, period, .. } = *deployment;
    let (publishers, alerters) = topology.queues();
    let alerters = alerters + seconds(topology);
    let vpns = topology.vpns().count() + topology.appliances().count();
    let probes = topology.probes().count();
    let (sites, polling) = (topology.sites.len(), polling(topology).len());
    let mut lines = Vec::new();
    let mut series = 0;
    for metric in Metric::ALL {
        let count = match metric {
            // A stage's sign of life: published whatever is asked for.
            Metric::PipelineDelay => sites,
            _ if !publish.contains(&metric) => 0,
            Metric::TunnelsUp => vpns,
            Metric::TunnelState => 2 * vpns,
            Metric::PingSuccess | Metric::PingLatency | Metric::Jitter => probes,
            Metric::CollectionSuccess | Metric::CollectionLatency => polling,
        };
        series += count;
        lines.push(line("CloudWatch", format!("metric {}", metric.word()), count as f64, prices::METRIC));
    }
    let workers = (publishers + alerters) as f64;
    lines.push(line("CloudWatch", "metric Heartbeat: publisher and alerter", workers, prices::METRIC));
    let minutes = HOURS * 60.0;
    let a_minute = (60.0 / period.as_secs_f64()).max(1.0);
    let requests = series.div_ceil(DATUMS).max(publishers) as f64 * a_minute * minutes;
    lines.push(line("CloudWatch", "PutMetricData of the publisher", requests, prices::METRIC_REQUEST));
    let requests = alerters as f64 * minutes;
    lines.push(line("CloudWatch", "PutMetricData of the alerter", requests, prices::METRIC_REQUEST));
    let kinds = [
        ("alarms", alarms.standard, prices::ALARM),
        ("alarms below 60 s", alarms.high_resolution, prices::HIGH_RESOLUTION_ALARM),
        ("composite alarms", alarms.composite, prices::COMPOSITE_ALARM),
    ];
    lines.extend(kinds.map(|(what, count, price)| line("CloudWatch", what, count as f64, price)));
    lines
}

/// The requests of one stage's queues, at most: phases of the sites may be such that nothing coincides.
/// How many second alerters there are.
fn seconds(topology: &Topology) -> usize {
    match &topology.queue.kind {
        QueueKind::Embedded => 0,
        QueueKind::Sqs { alerter, .. } => alerter.iter().filter(|queue| queue.second.is_some()).count(),
    }
}

fn queue(topology: &Topology, stage: &str, queues: usize, hold: Duration) -> [Line; 3] {
    let month = HOURS * 3_600.0;
    let mut messages = 0.0;
    let mut billed = 0.0;
    for site in &topology.sites {
        // Links are spread over the queues: a site sends to as many as it has links, an empty one too.
        let links = topology.links.iter().filter(|link| link.between.contains(&site.name)).count();
        let to = queues.min(links).max(1) as f64;
        let a_second: f64 = topology
            .probes()
            .filter(|(_, probe)| probe.from == site.name)
            .map(|(_, probe)| 1.0 / probe.every.as_secs_f64())
            .sum();
        let sends = to * month / hold.as_secs_f64();
        messages += sends;
        billed += sends * (a_second * hold.as_secs_f64() / to / OBSERVATIONS).ceil().max(1.0);
    }
    let polls = (hold.as_secs_f64() / POLL.as_secs_f64()).ceil() - 1.0;
    let empty = queues as f64 * polls.max(0.0) * month / hold.as_secs_f64();
    // Ten a request at most, and each gathering ends before the next begins.
    let deletes = (messages / 10.0).max(messages.min(queues as f64 * month / GATHER.as_secs_f64()));
    [("sends to", billed), ("receives by", billed + empty), ("deletes by", deletes)]
        .map(|(what, count)| line("SQS", format!("{what} the {stage}"), count, prices::QUEUE_REQUEST))
}

fn machines(topology: &Topology, options: &Options) -> Vec<Line> {
    let collectors = topology.sites.iter().filter(|site| site.region.is_some()).count() as f64;
    let regions: HashSet<&str> = topology.sites.iter().filter_map(|site| site.region.as_deref()).collect();
    let second = if seconds(topology) > 0 { 1.0 } else { 0.0 };
    let mut lines = Vec::new();
    if options.instances {
        lines.push(line("EC2", "collectors", collectors * HOURS, prices::COLLECTOR_INSTANCE));
        lines.push(line("EC2", "publisher and alerter", HOURS, prices::CENTRE_INSTANCE));
        lines.push(line("EC2", "second alerter", second * HOURS, prices::CENTRE_INSTANCE));
        lines.push(line("EBS", "disks of 8 GB", (collectors + 1.0 + second) * DISK, prices::DISK));
    }
    let network = match options.network {
        Network::PublicIpv4 => ("public addresses", collectors + 1.0 + second, prices::PUBLIC_IPV4),
        Network::Nat => (
            "NAT gateways, a region each and one for the centre",
            regions.len() as f64 + 1.0 + second,
            prices::NAT_GATEWAY,
        ),
        // A collector needs STS, SQS, EC2 and SNS, the centre STS, SQS, CloudWatch and SNS; S3's gateway costs nothing.
        Network::Endpoints => (
            "interface endpoints, four a site and for the centre",
            4.0 * (collectors + 1.0 + second),
            prices::ENDPOINT,
        ),
        Network::Free => ("", 0.0, prices::PUBLIC_IPV4),
    };
    let (what, count, price) = network;
    lines.push(line("VPC", what, count * HOURS, price));
    lines.retain(|line| line.count > 0.0);
    lines
}
