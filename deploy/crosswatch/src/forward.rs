//! A site's forwarders: from its journal to each of the stages' queues of Amazon SQS.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crosswatch_aws::Session;
use crosswatch_aws::sns::Sns;
use crosswatch_aws::sqs::Sqs;
use crosswatch_collector::Error;
use crosswatch_collector::forward::gasp::{LastGasp, Reach, SnsTopic};
use crosswatch_collector::forward::metrics::Metrics;
use crosswatch_collector::forward::plan::Share;
use crosswatch_collector::forward::{Config, Forwarder, Observers, Stage, file, folder, name};
use crosswatch_collector::rounds::Report;
use crosswatch_host::health::Health;
use crosswatch_shared::config::aws::region_of;
use crosswatch_shared::config::topology::{Queue, QueueKind, SqsQueue, Topology};
use crosswatch_shared::observation::Name;
use crosswatch_sqs::send::{Post, Sender};

/// One site's forwarders, and who tells of it when none of them reaches an alerter.
pub(crate) struct Forwarding {
    /// Each with its name.
    pub(crate) forwarders: Vec<(String, Forwarder)>,
    /// What the site's collector observes of them.
    pub(crate) reports: Vec<Report>,
    pub(crate) last_gasp: Option<LastGasp>,
}

/// The queues of a stage that is elsewhere, each with its standby; none where the journal is the queue.
fn queues(kind: &QueueKind, stage: Stage) -> Vec<(&String, Option<&String>)> {
    let QueueKind::Sqs { publisher, alerter } = kind else {
        return Vec::new();
    };
    match stage {
        Stage::Publisher => publisher.iter().map(with_standby).collect(),
        Stage::Alerter => alerter.iter().map(with_standby).collect(),
        Stage::SecondAlerter => {
            alerter.iter().filter_map(|queue| Some((queue.second.as_ref()?, None))).collect()
        }
    }
}

fn with_standby(queue: &SqsQueue) -> (&String, Option<&String>) {
    (&queue.url, queue.standby.as_ref())
}

/// Each stage that a site forwards to.
const STAGES: [Stage; 3] = [Stage::Publisher, Stage::Alerter, Stage::SecondAlerter];

/// Opens the site's forwarders. `over` has the round-trip times over which replies are news, by link and probe.
pub(crate) fn open(
    topology: &Topology,
    site: &Name,
    over: &HashMap<(Name, Name), f64>,
    session: &Session,
    metrics: &Metrics,
    health: &Health,
) -> Result<Forwarding, Error> {
    let own = topology.probes().filter(|(_, probe)| probe.from == *site);
    let keys = own.map(|(link, probe)| (link.name.clone(), probe.name.clone()));
    let probes: Vec<_> = keys.map(|key| (key.clone(), over.get(&key).copied())).collect();
    let count = |stage| queues(&topology.queue.kind, stage).len();
    let first = count(Stage::Alerter);
    let alerters = first + count(Stage::SecondAlerter);
    let reach = Reach::new(alerters);
    let mut forwarding = Forwarding { forwarders: Vec::new(), reports: Vec::new(), last_gasp: None };
    for stage in STAGES {
        let queues = queues(&topology.queue.kind, stage);
        for (index, (url, standby)) in queues.iter().copied().enumerate() {
            let name = name(stage, index);
            let report = Report::new(&format!("sqs:{name}"));
            let config = Config {
                site: site.clone(),
                stage,
                share: Share { index, of: queues.len() },
                folder: &topology.queue.path,
                probes: probes.clone(),
            };
            let observers = Observers {
                metrics,
                part: health.part(&format!("forward {name} {site}")),
                report: report.clone(),
                reach: match stage {
                    Stage::Publisher => None,
                    Stage::Alerter => Some((reach.clone(), index)),
                    Stage::SecondAlerter => Some((reach.clone(), first + index)),
                },
            };
            let post = |url: &String| Arc::new(Sqs::new(session, url)) as Arc<dyn Post>;
            let sender = Sender::new(post(url), standby.map(post));
            forwarding.forwarders.push((name, Forwarder::open(config, sender, observers)?));
            forwarding.reports.push(report);
        }
    }
    let topic = topology.site(site).and_then(|site| site.topic.clone());
    if let Some(arn) = topic.filter(|_| alerters > 0) {
        let sns = match region_of(&arn) {
            Some(region) => Sns::new(&session.in_region(region)),
            None => Sns::new(session),
        };
        let topic = Box::new(SnsTopic { sns, arn });
        let folder = folder(&topology.queue.path, site);
        forwarding.last_gasp = Some(LastGasp::new(site.clone(), reach, topic, &folder));
    }
    Ok(forwarding)
}

/// The files whose positions the site's journal is pruned by; none where the journal itself is the queue.
pub(crate) fn files(queue: &Queue, site: &Name) -> Vec<PathBuf> {
    let of = |stage| {
        let count = queues(&queue.kind, stage).len();
        (0..count).map(move |index| file(&queue.path, site, stage, index))
    };
    STAGES.into_iter().flat_map(of).collect()
}
