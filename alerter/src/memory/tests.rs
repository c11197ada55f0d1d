use crosswatch_shared::config::topology::{Host, Link, Probe, Queue, Site, Target};
use crosswatch_shared::observation::{Batch, Origin};

use super::*;
use crate::schema::SCHEMA;

fn topology() -> Topology {
    let probe = Probe {
        name: "tcp:slow:443".into(),
        from: "a".into(),
        target: Target::Tcp(Host::Name("slow".to_owned()), 443),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(30),
        burst: 1,
        size: None,
    };
    Topology {
        sites: vec![Site { name: "a".into(), region: None, role: None, topic: None }],
        links: vec![Link {
            name: "l".into(),
            between: vec!["a".into()],
            vpns: Vec::new(),
            appliances: Vec::new(),
            probes: vec![probe],
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

#[test]
fn a_site_whose_event_time_waits_for_a_slow_probe_is_not_silent() {
    let file = Connection::open_in_memory().unwrap();
    for migration in SCHEMA.migrations {
        file.execute_batch(migration).unwrap();
    }
    let mut memory = Memory::load(&file, Vec::new(), &topology()).unwrap();
    let (start, begin) = (Instant::now(), Timestamp::from_secs(1_000));
    let mut second = |number: Option<u64>, passed: u64| {
        let batch = number.map(|number| Batch {
            origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
            number,
            // The oldest probe in flight holds it.
            through: begin,
            observations: Vec::new(),
        });
        let passed = Duration::from_secs(passed);
        let deliveries: Vec<_> =
            batch.into_iter().map(|batch| Delivery { batch, sent: begin + passed }).collect();
        memory.step(&deliveries, true, start + passed, begin + passed).transitions
    };
    for passed in 0..30 {
        assert_eq!(second(Some(passed), passed), []);
    }
    let told: Vec<_> = (30..40).flat_map(|passed| second(None, passed)).collect();
    assert_eq!(told.len(), 1, "without batches it is: {told:?}");
}

fn load(kind: QueueKind) -> Memory {
    let file = Connection::open_in_memory().unwrap();
    for migration in SCHEMA.migrations {
        file.execute_batch(migration).unwrap();
    }
    let mut topology = topology();
    topology.queue.kind = kind;
    Memory::load(&file, Vec::new(), &topology).unwrap()
}

fn delivery(number: u64, at: Timestamp) -> Delivery {
    let origin = Origin { site: "a".into(), collector: "c".into(), boot: "1".into() };
    Delivery { batch: Batch { origin, number, through: at, observations: Vec::new() }, sent: at }
}

#[test]
fn a_gap_is_not_skipped_while_the_queue_may_hold_what_is_missing() {
    let mut memory = load(QueueKind::Embedded);
    let (start, begin) = (Instant::now(), Timestamp::from_secs(1_000));
    let secs = Duration::from_secs;
    memory.step(&[delivery(0, begin), delivery(2, begin + secs(2))], false, start, begin);
    for passed in 1..600 {
        memory.step(&[], false, start + secs(passed), begin + secs(passed));
    }
    let skipped = |memory: &Memory| memory.sites().map(|(_, time)| time.gaps_skipped()).sum::<u64>();
    assert_eq!(skipped(&memory), 0, "a backlog is being read");
    memory.step(&[delivery(1, begin + secs(1))], false, start + secs(600), begin + secs(600));
    memory.step(&[delivery(4, begin + secs(4))], true, start + secs(601), begin + secs(601));
    assert_eq!(memory.sites().next().unwrap().1.at(), Some(begin + secs(2)));
    memory.step(&[], true, start + secs(632), begin + secs(632));
    assert_eq!(skipped(&memory), 1, "nothing is waited for in vain for ever");
}

#[test]
fn over_sqs_a_site_may_be_quiet_for_as_long_as_routine_is_kept_back() {
    let mut memory = load(QueueKind::Sqs { publisher: Vec::new(), alerter: Vec::new() });
    let (start, begin) = (Instant::now(), Timestamp::from_secs(1_000));
    let secs = Duration::from_secs;
    let mut told = Vec::new();
    for turn in 0..2_000_u64 {
        let passed = Duration::from_millis(200) * u32::try_from(turn).unwrap();
        // A batch each ten seconds for a minute; an outage of the queue from 70 s to 100 s.
        let batch = (turn % 50 == 0 && turn <= 300).then(|| delivery(turn / 50, begin + passed));
        let read = !(350..500).contains(&turn);
        let change = memory.step(batch.as_slice(), read, start + passed, begin + passed);
        told.extend(change.transitions.into_iter().map(|of| (of.rule, of.at)));
    }
    // Quiet since 60 s: 40 s of it while the queue was read, and 30 s that nobody could look.
    let [(rule, at)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(&**rule, SITE_SILENT);
    assert!((begin + secs(129)..begin + secs(131)).contains(at), "{at}");
}
