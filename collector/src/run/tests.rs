use super::*;
use crate::pack::WAITING;
use crosswatch_host::health::Health;
use crosswatch_prober::Released;
use crosswatch_shared::config::topology::{Queue, QueueKind, Site};
use crosswatch_shared::observation::Batch;
use prometheus_client::registry::Registry;

struct Nowhere;

impl Journal for Nowhere {
    fn append(&mut self, _: &Batch) -> Result<(), crate::JournalError> {
        Ok(())
    }
    fn newest_boot(&self) -> Result<Option<Name>, crate::JournalError> {
        Ok(None)
    }
    fn prune(&mut self, _: Timestamp) -> Result<crate::Pruned, crate::JournalError> {
        Ok(crate::Pruned::default())
    }
}

/// Hangs until its sender is gone.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Journal for Stuck {
    fn append(&mut self, _: &Batch) -> Result<(), crate::JournalError> {
        let _ = self.0.recv();
        Ok(())
    }
    fn newest_boot(&self) -> Result<Option<Name>, crate::JournalError> {
        Ok(None)
    }
    fn prune(&mut self, _: Timestamp) -> Result<crate::Pruned, crate::JournalError> {
        Ok(crate::Pruned::default())
    }
}

fn collector() -> Collector {
    collector_over(Box::new(Nowhere), &Health::default())
}

/// One probe, whose slots are an hour apart.
fn collector_over(journal: Box<dyn Journal>, health: &Health) -> Collector {
    let probe = topology::Probe {
        name: "p".into(),
        from: "a".into(),
        target: Target::Tcp(Host::Address([127, 0, 0, 1].into()), 1),
        every: Duration::from_secs(3600),
        timeout: Duration::from_secs(1),
        burst: 1,
        size: None,
    };
    let topology = Topology {
        sites: vec![Site { name: "a".into(), region: None, role: None, topic: None }],
        links: vec![Link {
            name: "l".into(),
            between: vec!["a".into()],
            vpns: vec![],
            appliances: Vec::new(),
            probes: vec![probe],
        }],
        queue: Queue { path: "data".into(), kind: QueueKind::Embedded, keep: Duration::ZERO, max_bytes: 0 },
        listen: None,
    };
    let config = Config {
        site: "a".into(),
        collector: None,
        topology: &topology,
        news_over: HashMap::new(),
        waiting: WAITING,
    };
    let metrics = Metrics::register(&mut Registry::default());
    Collector::open(config, journal, &metrics, health.part("collector")).unwrap()
}

fn taken(epoch: u32, now: i64, outcomes: &[(i64, u32)]) -> Taken {
    let released = |&(at, epoch): &(i64, u32)| Released {
        probe: 0,
        at: Timestamp::from_secs(at),
        outcome: Outcome::Lost(Lost::Timeout),
        detail: None,
        epoch,
        pressing: true,
    };
    Taken {
        outcomes: outcomes.iter().map(released).collect(),
        dropped: 0,
        epoch,
        through: Timestamp::from_secs(now),
        now: Timestamp::from_secs(now),
        icmp: Account::default(),
        tcp: Account::default(),
        udp: Account::default(),
    }
}

#[test]
fn a_stepped_clock_begins_a_boot_after_the_former_ones_last_batch() {
    let mut collector = collector();
    collector.take(taken(0, 100, &[(99, 0)]));
    collector.take(taken(1, 40, &[(100, 0), (39, 1)]));
    let mut batch = || {
        let batch = collector.packer.batch().unwrap();
        let of = |observation: &crosswatch_shared::observation::Observation| {
            (observation.seq, observation.at.as_micros() / 1_000_000)
        };
        let observations: Vec<_> = batch.observations.iter().map(of).collect();
        (batch.origin.boot, batch.number, observations, batch.through)
    };
    let (former, number, observations, through) = batch();
    assert_eq!((number, observations), (0, vec![(0, 99), (1, 100)]));
    assert_eq!(through, Timestamp::from_secs(100));
    let (boot, number, observations, through) = batch();
    assert_ne!(boot, former);
    assert_eq!((number, observations), (0, vec![(0, 39)]));
    assert_eq!(through, Timestamp::from_secs(40));
}

#[tokio::test]
async fn a_journal_that_hangs_is_told_of() {
    let (release, stuck) = std::sync::mpsc::channel();
    let health = Health::default();
    let mut collector = collector_over(Box::new(Stuck(stuck)), &health);
    collector.write(collector.looked + ROUND);
    assert!(collector.spool.is_busy());
    collector.round(collector.round_ends + ROUND);
    assert_eq!(health.failures(), [format!("collector: {HANGS}")]);
    let batch = collector.packer.batch().unwrap();
    let told = batch.observations.iter().any(|observation| {
        matches!(&observation.body, Body::Collection { source, error, .. }
            if &**source == "journal" && error.as_deref() == Some(HANGS))
    });
    assert!(told, "{batch:?}");
    drop(release);
}

#[test]
fn what_this_machine_could_not_send_makes_the_round_fail_by_name() {
    let mut collector = collector();
    let mut short = taken(0, 1, &[]);
    short.tcp = Account {
        local: 2,
        local_error: Some("sending: EMFILE".to_owned()),
        skipped: 1,
        lag: Duration::from_millis(7),
        ..Account::default()
    };
    collector.take(short);
    let bodies = collector.rounds.end();
    let Body::Collection { source, ok, error, took_ms } = &bodies[0] else { panic!() };
    assert_eq!((&**source, *ok, *took_ms), ("tcp", false, 7.0));
    let error = error.as_deref().unwrap();
    assert!(error.contains("sending: EMFILE (2 times)") && error.contains("stood still"), "{error}");
}
