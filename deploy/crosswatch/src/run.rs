//! The jobs: stages put together into one process, run until it is told to stop.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use crosswatch_alerter::Alerter;
use crosswatch_alerter::dead_man::DeadMan;
use crosswatch_alerter::heartbeat::Heartbeat;
use crosswatch_alerter::peer::{Peer, Rank};
use crosswatch_aws::Session;
use crosswatch_aws::cloudwatch::CloudWatch;
use crosswatch_aws::sqs::Sqs;
use crosswatch_collector::Collector;
use crosswatch_collector::drill::Requests;
use crosswatch_collector::journal::SiteJournal;
use crosswatch_collector::pack::WAITING;
use crosswatch_console::Page;
use crosswatch_console::figures::Figures;
use crosswatch_host::code;
use crosswatch_host::health::Health;
use crosswatch_host::http::{Http, HttpError};
use crosswatch_host::lifecycle::Lifecycle;
use crosswatch_host::supervisor::Supervisor;
use crosswatch_host::telemetry;
use crosswatch_publisher::Publisher;
use crosswatch_publisher::config::{Config as Metrics, Kind};
use crosswatch_queue::{Source, put_back};
use crosswatch_shared::config::topology::{Queue, QueueKind, SqsQueue, Topology, worker};
use crosswatch_shared::observation::Name;
use crosswatch_sqs::receive::Receiver;
use prometheus_client::registry::Registry;

use crate::config::{Config, news_thresholds};
use crate::forward::{self, Forwarding};
use crate::reload::{Begun, Reload};
use crate::status;
use crate::{aws, check, page};

/// Which stages a process runs.
#[derive(Debug)]
pub(crate) enum Job {
    /// All of them, with every site's collector.
    All,
    /// One site's collector.
    Collector(Name),
    /// The publisher of the queue at this place.
    Publisher(usize),
    /// The alerter of the queue at this place.
    Alerter(usize),
    /// The second alerter of the one at this place, by a queue of its own.
    SecondAlerter(usize),
}

impl Job {
    /// Everything in one process, where each stage has one queue.
    pub(crate) fn all(topology: &Topology) -> Result<Self, WrongQueue> {
        Self::publisher(topology, None)?;
        Self::alerter(topology, None)?;
        Ok(Self::All)
    }

    /// The publisher; `queue` counts from 1.
    pub(crate) fn publisher(topology: &Topology, queue: Option<usize>) -> Result<Self, WrongQueue> {
        place("publisher", topology.queues().0, queue).map(Self::Publisher)
    }

    /// The alerter; `queue` counts from 1.
    pub(crate) fn alerter(topology: &Topology, queue: Option<usize>) -> Result<Self, WrongQueue> {
        place("alerter", topology.queues().1, queue).map(Self::Alerter)
    }

    /// The second alerter; `queue` counts from 1.
    pub(crate) fn second_alerter(topology: &Topology, queue: Option<usize>) -> Result<Self, WrongQueue> {
        let place = place("alerter", topology.queues().1, queue)?;
        match StageQueues::of(&topology.queue.kind) {
            None => {
                Err(WrongQueue::NoSecond("kind = \"sqs\", and 'second_alerter' with the URL of its queue"))
            }
            Some(queues) if queues.alerter.get(place).is_none_or(|queue| queue.second.is_none()) => {
                Err(WrongQueue::NoSecond("'second_alerter' with the URL of its queue"))
            }
            Some(_) => Ok(Self::SecondAlerter(place)),
        }
    }

    /// The place of the publisher's queue, where the job has a publisher.
    fn publishes(&self) -> Option<usize> {
        match self {
            Self::All => Some(0),
            Self::Publisher(place) => Some(*place),
            Self::Collector(_) | Self::Alerter(_) | Self::SecondAlerter(_) => None,
        }
    }

    /// The place of the alerter's queue, where the job has an alerter.
    fn alerts(&self) -> Option<usize> {
        match self {
            Self::All => Some(0),
            Self::Alerter(place) | Self::SecondAlerter(place) => Some(*place),
            Self::Collector(_) | Self::Publisher(_) => None,
        }
    }
}

fn place(stage: &'static str, count: usize, asked: Option<usize>) -> Result<usize, WrongQueue> {
    match asked {
        None if count == 1 => Ok(0),
        None => Err(WrongQueue::Unsaid { stage, count }),
        Some(asked) if (1..=count).contains(&asked) => Ok(asked - 1),
        Some(asked) => Err(WrongQueue::Absent { stage, count, asked }),
    }
}

/// The alerter's file in the queue's folder.
pub(crate) const ALERTER_FILE: &str = "alerter.db";

/// How long the stages may take to end: a notifier that is waited for takes up to 10 s.
const DRAIN: Duration = Duration::from_secs(15);

/// How long a thread for jobs that block waits for another.
const IDLE: Duration = Duration::from_secs(1);

/// A stage ended with an error.
#[derive(Debug, thiserror::Error)]
enum StageError {
    #[error(transparent)]
    Collector(#[from] crosswatch_collector::Error),
    #[error(transparent)]
    Publisher(#[from] crosswatch_publisher::Error),
    #[error(transparent)]
    Alerter(#[from] crosswatch_alerter::Error),
    #[error(transparent)]
    Page(#[from] crosswatch_console::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A collector was asked for that the config has no site for.
#[derive(Debug, thiserror::Error)]
#[error("--site {site}: the config has no such site; it has {}", known.join(", "))]
pub(crate) struct UnknownSite {
    site: Name,
    known: Vec<Name>,
}

/// Which of a stage's queues a process is to read is not said, or wrongly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrongQueue {
    /// There are several.
    #[error(
        "[queue] {stage} has {count} queues, each read by a process of its own: start 'crosswatch {stage} --queue N' with N from 1 \
         to {count}, each in a folder of its own"
    )]
    Unsaid { stage: &'static str, count: usize },
    /// There are not so many.
    #[error("--queue {asked}: [queue] {stage} has {count}; write a number from 1 to {count}")]
    Absent { stage: &'static str, count: usize, asked: usize },
    /// There is no second alerter.
    #[error("--second: the config has one alerter; for two write {0} in [queue]")]
    NoSecond(&'static str),
}

/// Runs a job until SIGINT, SIGTERM or a stage's failure. `file` is where the config is from, watched where the job alerts.
pub(crate) fn run(config: Config, file: Option<PathBuf>, job: Job) -> anyhow::Result<()> {
    telemetry::logs().map_err(anyhow::Error::msg)?;
    if let Job::Collector(site) = &job {
        known_site(&config, site.clone())?;
    }
    for warning in check::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Short jobs that come every second would otherwise keep alive each thread that a burst of them once started.
        .thread_keep_alive(IDLE)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(host(config, file, job))
}

/// The site, if the config has it.
pub(crate) fn known_site(config: &Config, site: Name) -> Result<Name, UnknownSite> {
    let known: Vec<Name> = config.topology.sites.iter().map(|site| site.name.clone()).collect();
    if known.contains(&site) { Ok(site) } else { Err(UnknownSite { site, known }) }
}

/// Config, build, spawn, bounded drain.
async fn host(config: Config, file: Option<PathBuf>, job: Job) -> anyhow::Result<()> {
    let mut registry = telemetry::registry();
    let health = Health::default();
    // First of all: who asks to stop while files are opened is heard once they are.
    let mut life = Lifecycle::<StageError>::new()?;
    let folder = config.topology.queue.path.clone();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {} of [queue] path", folder.display()))?;

    let supervisor = Supervisor::of_environment().context("NOTIFY_SOCKET")?;
    let http = listen(&config.topology, &job).await?;
    eprintln!("listening on http://{}", http.address());
    let page = match &config.page {
        Some(page) if job.alerts().is_some() => Some(Page::bind(page.clone()).await?),
        _ => None,
    };
    if let Some(page) = &page {
        eprintln!("status page on http://{}", page.address());
    }

    let cloudwatch = cloudwatch(&config.metrics, &job).await?;
    let session = match config.topology.queue.kind {
        QueueKind::Embedded => None,
        QueueKind::Sqs { .. } => Some(aws::session().await.clone()),
    };
    let (publishers, alerters) = config.topology.queues();
    if let Some(place) = job.publishes() {
        let topology = config.topology.clone().of_queue(place, publishers);
        let source = source(&topology, session.as_ref(), place, |of| of.publisher);
        let part = health.part("publisher");
        let metrics = config.metrics.clone();
        let cloudwatch = cloudwatch.clone().map(|client| (client, worker("publisher", place)));
        let publisher = Publisher::open(metrics, &topology, source, cloudwatch, &mut registry, part)?;
        life.spawn("publisher", stage(publisher.run(life.stop())));
    }
    if let Some(place) = job.alerts() {
        let topology = config.topology.clone().of_queue(place, alerters);
        let is_second = matches!(job, Job::SecondAlerter(_));
        let (source, peer) = match (beside(&topology, session.as_ref(), place, is_second), is_second) {
            (Some((source, peer)), true) => (source, Some(peer)),
            (beside, _) => {
                let own = source(&topology, session.as_ref(), place, |of| of.alerter);
                (own, beside.map(|(_, peer)| peer))
            }
        };
        let name = if is_second { "second-alerter" } else { "alerter" };
        let part = health.part(name);
        let own = folder.join(ALERTER_FILE);
        let alerts = config.alerts.clone();
        let mut alerter = Alerter::open(peer, alerts, &topology, &own, source, &mut registry, part)?;
        alerter.judges_by(&config.judged)?;
        let silences = Begun::read(&config);
        alerter.take(&silences.edit)?.map_err(anyhow::Error::msg)?;
        let reload = Reload::new(&config, file.as_deref(), silences, alerter.edits(), &mut registry);
        let stop = life.stop();
        life.spawn("watching of the config", async move {
            reload.run(stop).await;
            Ok(())
        });
        if let Some(cloudwatch) = cloudwatch {
            let namespace = config.metrics.namespace.clone();
            let heartbeat =
                Heartbeat::new(cloudwatch, worker(name, place), namespace, alerter.pulse(), &mut registry);
            let stop = life.stop();
            life.spawn("heartbeat", async move {
                heartbeat.run(stop).await;
                Ok(())
            });
        }
        if let Some(heartbeat) = &config.alerts.heartbeat
            // The outside service waits for the first.
            && !is_second
            && let Some(dead_man) = DeadMan::new(heartbeat, place, alerter.pulse(), &mut registry)?
        {
            let stop = life.stop();
            life.spawn("outside heartbeat", async move {
                dead_man.run(stop).await;
                Ok(())
            });
        }
        life.spawn("alerter", stage(alerter.run(life.stop())));
        if let Some(page) = page {
            let (folder, alerter) = (
                page::folder(&topology),
                page::alerter(&Config { topology: topology.clone(), ..config.clone() }, file.as_deref()),
            );
            let figures = Figures::register(&mut registry, &topology);
            let part = health.part("page");
            life.spawn("page", stage(page.run(topology, folder, alerter, figures, part, life.stop())));
        }
    }
    collectors(&config, &job, &mut registry, &health, &mut life).await?;
    if let Job::All = job {
        let stop = life.stop();
        life.spawn("greeting", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = status::first(&config) => stop.cancelled().await,
            }
            Ok(())
        });
    }
    supervisor.ready();
    let (watched, stop) = (health.clone(), life.stop());
    life.spawn("supervisor", async move {
        supervisor.watch(watched, stop).await;
        Ok(())
    });
    let stop = life.stop();
    life.spawn("code", async move {
        code::let_go_once_started(stop).await;
        Ok(())
    });
    life.spawn("http", stage(http.serve(registry, health, life.stop())));
    Ok(life.run(DRAIN).await?)
}

/// CloudWatch, where the config publishes to it and the job has something to put.
async fn cloudwatch(config: &Metrics, job: &Job) -> anyhow::Result<Option<CloudWatch>> {
    if config.kind == Kind::Embedded || matches!(job, Job::Collector(_)) {
        return Ok(None);
    }
    let mut session = aws::session().await.clone();
    if let Some(region) = &config.region {
        session = session.in_region(region);
    }
    ensure!(
        session.region().is_some(),
        "[metrics] kind = \"cloudwatch\": no region is known; write region = \"us-east-1\" there, or set AWS_REGION"
    );
    Ok(Some(CloudWatch::new(&session)))
}

/// The site's collector, or every site's, each with its forwarders where the stages' queues are elsewhere.
async fn collectors(
    config: &Config,
    job: &Job,
    registry: &mut Registry,
    health: &Health,
    life: &mut Lifecycle<StageError>,
) -> anyhow::Result<()> {
    let topology = &config.topology;
    let sites: Vec<Name> = match job {
        Job::All => topology.sites.iter().map(|site| site.name.clone()).collect(),
        Job::Collector(site) => vec![site.clone()],
        Job::Publisher(_) | Job::Alerter(_) | Job::SecondAlerter(_) => return Ok(()),
    };
    let metrics = crosswatch_collector::metrics::Metrics::register(registry);
    let forwards = match topology.queue.kind {
        QueueKind::Embedded => None,
        QueueKind::Sqs { .. } => {
            let metrics = crosswatch_collector::forward::metrics::Metrics::register(registry);
            Some((aws::session().await, metrics))
        }
    };
    let thresholds = news_thresholds(config);
    for site in sites {
        let news_over: HashMap<_, _> = thresholds
            .iter()
            .filter(|((_, of, _), _)| *of == site)
            .map(|((link, _, probe), over)| ((link.clone(), probe.clone()), *over))
            .collect();
        let journal = journal(&topology.queue, &site)?;
        let part = health.part(&format!("collector {site}"));
        let mut reports = Vec::new();
        if let Some((session, metrics)) = &forwards {
            let Forwarding { forwarders, reports: of_site, last_gasp } =
                forward::open(topology, &site, &news_over, session, metrics, health)?;
            for (name, forwarder) in forwarders {
                let run = forwarder.run(life.stop());
                life.spawn(&format!("forwarder of {site} to the {name}"), stage(run));
            }
            if let Some(last_gasp) = last_gasp {
                let stop = life.stop();
                life.spawn(&format!("last gasp of {site}"), async move {
                    last_gasp.run(stop).await;
                    Ok(())
                });
            }
            reports = of_site;
        }
        let own = crosswatch_collector::Config {
            site: site.clone(),
            collector: None,
            topology,
            news_over,
            waiting: WAITING,
        };
        let requests = Requests::of(&topology.queue.path, &site);
        let collector = Collector::open(own, Box::new(journal), &metrics, part)?;
        let collector = collector.observing(reports).drilled(requests);
        life.spawn(&format!("collector {site}"), stage(collector.run(life.stop())));
    }
    Ok(())
}

/// The site's journal, pruned of what both consumers, or all forwarders, have had.
pub(crate) fn journal(queue: &Queue, site: &Name) -> Result<SiteJournal, crosswatch_journal::JournalError> {
    let files = match queue.kind {
        QueueKind::Embedded => {
            vec![queue.path.join(crosswatch_publisher::FILE), queue.path.join(ALERTER_FILE)]
        }
        QueueKind::Sqs { .. } => forward::files(queue, site),
    };
    let of = site.clone();
    let positions = Box::new(move |identity: &str| crosswatch_queue::positions(&of, identity, &files));
    SiteJournal::open(&journals(queue), site, queue.keep, queue.max_bytes, positions)
}

/// The folder to read what a site saw from: with SQS the alerter's history, where it has one of that site.
pub(crate) fn archive(queue: &Queue, site: &str) -> PathBuf {
    let history = queue.path.join(crosswatch_alerter::HISTORY);
    let has_history = || crosswatch_journal::file(&history, site).exists();
    if matches!(queue.kind, QueueKind::Sqs { .. }) && has_history() { history } else { journals(queue) }
}

/// The folder of the collectors' journals.
pub(crate) fn journals(queue: &Queue) -> PathBuf {
    queue.path.join("journal")
}

async fn stage<E: Into<StageError>>(run: impl Future<Output = Result<(), E>>) -> Result<(), StageError> {
    run.await.map_err(Into::into)
}

/// The queues of the stages, where they are on SQS.
pub(crate) struct StageQueues<'a> {
    pub(crate) publisher: &'a [SqsQueue],
    pub(crate) alerter: &'a [SqsQueue],
}

impl<'a> StageQueues<'a> {
    pub(crate) fn of(kind: &'a QueueKind) -> Option<Self> {
        match kind {
            QueueKind::Embedded => None,
            QueueKind::Sqs { publisher, alerter } => Some(Self { publisher, alerter }),
        }
    }
}

/// The queue of a stage: the journals of all sites, or one of its own on SQS.
fn source<'a>(
    topology: &'a Topology,
    session: Option<&Session>,
    place: usize,
    of: impl FnOnce(StageQueues<'a>) -> &'a [SqsQueue],
) -> Source {
    let queue = StageQueues::of(&topology.queue.kind).and_then(|queues| of(queues).get(place));
    if let (Some(queue), Some(session)) = (queue, session) {
        let (queue, session) = (queue.clone(), session.clone());
        return Source::new(move |_| Ok(Receiver::open(&session, &queue)));
    }
    let sites = topology.sites.iter().map(|site| site.name.clone()).collect();
    Source::of_stage(journals(&topology.queue), sites, put_back::folder(&topology.queue.path))
}

/// The second alerter's queue, and the other alerter as the one at this place sees it; nothing where there is one alerter.
fn beside(
    topology: &Topology,
    session: Option<&Session>,
    place: usize,
    is_second: bool,
) -> Option<(Source, Peer)> {
    let queue = StageQueues::of(&topology.queue.kind)?.alerter.get(place)?;
    let (session, second) = (session?.clone(), queue.second.clone()?);
    let (rank, other) = if is_second { (Rank::Second, &queue.url) } else { (Rank::First, &second) };
    let peer = Peer { rank, queue: Arc::new(Sqs::new(&session, other)) };
    let own = SqsQueue { url: second, standby: None, second: None };
    Some((Source::new(move |_| Ok(Receiver::open(&session, &own))), peer))
}

/// Where the config says; without that on the job's default port, or any free one where another process has it.
async fn listen(topology: &Topology, job: &Job) -> Result<Http, HttpError> {
    if let Some(address) = topology.listen {
        return Http::bind(address).await;
    }
    let address = default_address(job);
    match Http::bind(address).await {
        Err(HttpError::Bind { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!("port {} is in use: taking another; [http] listen sets one", address.port());
            Http::bind(SocketAddr::new(address.ip(), 0)).await
        }
        bound => bound,
    }
}

/// Loopback, and a port for each job, so that separate processes on one machine do not collide.
fn default_address(job: &Job) -> SocketAddr {
    let port = match job {
        Job::All | Job::Collector(_) => 9464,
        Job::Publisher(_) => 9465,
        Job::Alerter(_) | Job::SecondAlerter(_) => 9466,
    };
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
