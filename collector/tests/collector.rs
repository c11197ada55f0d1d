//! A whole collector over real connections to loopback, into a journal that can refuse.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crosswatch_collector::journal::SiteJournal;
use crosswatch_collector::metrics::Metrics;
use crosswatch_collector::{Collector, Config, Error, Journal, JournalError, Pruned};
use crosswatch_host::health::Health;
use crosswatch_journal::Reader;
use crosswatch_shared::config::topology::{Host, Link, Probe, Queue, QueueKind, Site, Target, Topology};
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Outcome};
use crosswatch_shared::time::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer than a round; it is a bound against hanging, not a measurement.
const BOUND: Duration = Duration::from_secs(60);

/// Tells what it was given: `Ok` what it kept, `Err` what it refused.
struct Told {
    tell: UnboundedSender<Result<Batch, Batch>>,
    full: Arc<AtomicBool>,
}

impl Journal for Told {
    fn append(&mut self, batch: &Batch) -> Result<(), JournalError> {
        let full = self.full.load(Ordering::SeqCst);
        self.tell.send(if full { Err(batch.clone()) } else { Ok(batch.clone()) })?;
        if full { Err("the disk is full".into()) } else { Ok(()) }
    }

    fn newest_boot(&self) -> Result<Option<Name>, JournalError> {
        Ok(None)
    }

    fn prune(&mut self, _: Timestamp) -> Result<Pruned, JournalError> {
        Ok(Pruned::default())
    }
}

struct Running {
    given: UnboundedReceiver<Result<Batch, Batch>>,
    full: Arc<AtomicBool>,
    stop: CancellationToken,
    health: Health,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start(topology: &Topology, waiting: usize, full: bool) -> Self {
        let (tell, given) = unbounded_channel();
        let full = Arc::new(AtomicBool::new(full));
        let journal = Told { tell, full: full.clone() };
        let health = Health::default();
        let config = Config {
            site: "a".into(),
            collector: Some("c".into()),
            topology,
            news_over: HashMap::new(),
            waiting,
        };
        let metrics = Metrics::register(&mut Registry::default());
        let collector =
            Collector::open(config, Box::new(journal), &metrics, health.part("collector a")).unwrap();
        let stop = CancellationToken::new();
        Self { given, full, task: tokio::spawn(collector.run(stop.clone())), stop, health }
    }

    async fn next(&mut self) -> Result<Batch, Batch> {
        tokio::time::timeout(BOUND, self.given.recv()).await.unwrap().unwrap()
    }

    /// What it kept, until one is as wanted.
    async fn kept_until(&mut self, wanted: impl Fn(&Batch) -> bool) -> Vec<Batch> {
        let mut kept = Vec::new();
        loop {
            let Ok(batch) = self.next().await else { continue };
            kept.push(batch);
            if kept.last().is_some_and(&wanted) {
                return kept;
            }
        }
    }

    /// Stops it; what it kept at the end.
    async fn stop(mut self) -> (Result<(), Error>, Vec<Batch>) {
        self.stop.cancel();
        let end = tokio::time::timeout(BOUND, self.task).await.unwrap().unwrap();
        let mut kept = Vec::new();
        while let Some(given) = self.given.recv().await {
            kept.extend(given);
        }
        (end, kept)
    }
}

fn tcp(port: u16, every: Duration) -> Probe {
    Probe {
        name: format!("tcp:127.0.0.1:{port}").into(),
        from: "a".into(),
        target: Target::Tcp(Host::Address(Ipv4Addr::LOCALHOST.into()), port),
        every,
        timeout: Duration::from_millis(500),
        burst: 1,
        size: None,
    }
}

fn topology(probes: Vec<Probe>) -> Topology {
    Topology {
        sites: vec![Site { name: "a".into(), region: None, role: None, topic: None }],
        links: vec![Link {
            name: "a-b".into(),
            between: vec!["a".into(), "b".into()],
            vpns: vec![],
            appliances: Vec::new(),
            probes,
        }],
        queue: Queue {
            path: "data".into(),
            kind: QueueKind::Embedded,
            keep: Duration::from_secs(60),
            max_bytes: 1 << 30,
        },
        listen: None,
    }
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn observations(batches: &[Batch]) -> impl Iterator<Item = &Observation> {
    batches.iter().flat_map(|batch| &batch.observations)
}

/// The `collection` observations: source, ok, error.
fn collections(batch: &Batch) -> Vec<(&str, bool, &str)> {
    let of = batch.observations.iter().filter_map(|observation| match &observation.body {
        Body::Collection { source, ok, error, .. } => Some((&**source, *ok, error.as_deref().unwrap_or(""))),
        _ => None,
    });
    of.collect()
}

/// What holds of all batches of a boot, in their order.
fn in_order(batches: &[Batch]) {
    let mut promised = Timestamp::MIN;
    for (number, batch) in batches.iter().enumerate() {
        assert_eq!(batch.number, number as u64, "dense");
        assert_eq!((&*batch.origin.site, &*batch.origin.collector), ("a", "c"));
        assert_eq!(batch.origin.boot, batches[0].origin.boot);
        for observation in &batch.observations {
            assert!(observation.at >= promised, "earlier than was promised");
        }
        assert!(batch.through >= promised);
        promised = batch.through;
    }
    assert!(observations(batches).is_sorted_by(|one, next| one.seq < next.seq));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_probes_gives_signs_of_life() {
    let mut running = Running::start(&topology(vec![]), 100, false);
    let mut kept = running.kept_until(|batch| batch.number == 2).await;
    assert!(observations(&kept).next().is_none());
    assert!(kept.is_sorted_by(|one, next| one.through < next.through));
    assert!(running.health.failures().is_empty());
    let (end, last) = running.stop().await;
    end.unwrap();
    assert!(!last.is_empty(), "the last promise");
    kept.extend(last);
    in_order(&kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_tells_how_collecting_goes_and_news_does_not_wait() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let open = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let closed = closed_port();
    let every = Duration::from_millis(50);
    let mut elsewhere = tcp(open, every);
    elsewhere.from = "b".into();
    elsewhere.name = "another site's".into();
    let topology = topology(vec![tcp(open, every), tcp(closed, every), elsewhere]);
    let mut running = Running::start(&topology, 100_000, false);
    let mut kept = running.kept_until(|batch| !collections(batch).is_empty()).await;

    // The routine alone would have made ten batches in that round.
    assert!(kept.len() > 20, "{} batches", kept.len());
    let round = collections(kept.last().unwrap());
    // A busy machine may skip a slot, and then says so.
    assert_eq!(round[0].0, "tcp");
    assert!(round[0].1 || round[0].2.starts_with("not sent in time"), "{round:?}");
    assert_eq!(round[1], ("journal", true, ""));

    let (end, last) = running.stop().await;
    end.unwrap();
    kept.extend(last);
    in_order(&kept);
    for (place, observation) in observations(&kept).enumerate() {
        assert_eq!(observation.seq, place as u64, "nothing is missing");
        let Body::Probe { link, probe, outcome, .. } = &observation.body else {
            continue;
        };
        assert_eq!(&**link, "a-b");
        match outcome {
            Outcome::Reply { rtt_ms } => {
                assert_eq!(**probe, *format!("tcp:127.0.0.1:{open}"));
                assert!(*rtt_ms > 0.0);
            }
            Outcome::Lost(lost) => {
                assert_eq!((&**probe, *lost), (&*format!("tcp:127.0.0.1:{closed}"), Lost::Refused));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_the_newest_are_kept_and_the_gap_is_recorded() {
    let every = Duration::from_millis(10);
    let (one, other) = (closed_port(), closed_port());
    let topology = topology(vec![tcp(one, every), tcp(other, every)]);
    let mut running = Running::start(&topology, 200, true);
    let mut refused = Vec::new();
    while refused.len() < 3 {
        refused.push(running.next().await.unwrap_err());
    }
    assert_eq!(running.health.failures().len(), 1, "{:?}", running.health.failures());
    running.full.store(false, Ordering::SeqCst);
    let kept = running
        .kept_until(|batch| collections(batch).iter().any(|(_, ok, why)| !ok && why.starts_with("append")))
        .await;

    assert!(refused.iter().all(|batch| batch == &kept[0]), "the same batch came again");
    assert!(running.health.failures().is_empty());
    in_order(&kept);
    let seen: BTreeSet<u64> = observations(&kept).map(|observation| observation.seq).collect();
    let missing = seen.last().unwrap() + 1 - seen.len() as u64;
    let gap: Vec<_> = kept
        .iter()
        .flat_map(collections)
        .filter_map(|(source, ok, why)| Some((source, ok, why.split_once(" observations from ")?)))
        .collect();
    let told: u64 = gap.iter().map(|(_, _, (count, _))| count.parse::<u64>().unwrap()).sum();
    assert!(missing > 0 && told == missing, "{missing} are missing; {gap:?}");
    assert!(gap.iter().all(|(source, ok, _)| (*source, *ok) == ("journal", false)));
    let round = kept.iter().rev().flat_map(collections).find(|(_, _, why)| why.starts_with("append"));
    assert_eq!(round, Some(("journal", false, "append: the disk is full (3 times)")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_at_the_end_is_an_error_with_its_number() {
    let topology = topology(vec![tcp(closed_port(), Duration::from_millis(20))]);
    let mut running = Running::start(&topology, 100, true);
    assert!(running.next().await.is_err());
    let (end, kept) = running.stop().await;
    let error = end.unwrap_err().to_string();
    assert!(
        error.contains("observations are lost at the end") && error.ends_with("the disk is full"),
        "{error}"
    );
    assert!(kept.is_empty());
}

#[tokio::test]
async fn a_site_the_config_lacks_is_refused_by_name() {
    let (tell, _) = unbounded_channel();
    let journal = Told { tell, full: Arc::default() };
    let topology = topology(vec![]);
    let config = Config {
        site: "nowhere".into(),
        collector: None,
        topology: &topology,
        news_over: HashMap::new(),
        waiting: 1,
    };
    let metrics = Metrics::register(&mut Registry::default());
    let part = Health::default().part("collector");
    let error = Collector::open(config, Box::new(journal), &metrics, part).err().unwrap();
    assert!(error.to_string().contains("'nowhere'"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_has_seen_is_in_the_journal_when_it_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Box::new(|_: &str| Vec::new());
    let journal = SiteJournal::open(folder.path(), "a", BOUND, 1 << 30, nobody).unwrap();
    let topology = topology(vec![]);
    let config = Config {
        site: "a".into(),
        collector: Some("c".into()),
        topology: &topology,
        news_over: HashMap::new(),
        waiting: 100,
    };
    let metrics = Metrics::register(&mut Registry::default());
    let part = Health::default().part("collector");
    let collector = Collector::open(config, Box::new(journal), &metrics, part).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    collector.run(stop).await.unwrap();
    let mut reader = Reader::open(&crosswatch_journal::file(folder.path(), "a")).unwrap();
    let entries = reader.after(0, 10, 1 << 20).unwrap();
    assert_eq!(entries.len(), 1, "the last promise");
}
