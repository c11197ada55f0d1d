use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crosswatch_aws::sqs::{BYTES, MESSAGES};
use crosswatch_aws::{Failure, Kind};
use crosswatch_host::health::Health;
use crosswatch_journal::Writer;
use crosswatch_queue::{Backlog, Page, Pending, Receipt};
use crosswatch_shared::observation::{Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::wire::{Names, decode_batch};
use crosswatch_sqs::body::decode;
use crosswatch_sqs::send::{Post, Sending};
use prometheus_client::registry::Registry;
use tokio::sync::Notify;

use super::*;

/// Keeps what it took as its receivers would, and fails as its dice say.
#[derive(Default)]
struct Queue {
    /// The dice; 0: it never fails.
    dice: Mutex<u64>,
    messages: Mutex<BTreeMap<(Name, u64), Batch>>,
    calls: Mutex<usize>,
    /// Told of each call, before its answer.
    called: Notify,
}

impl Queue {
    fn roll(&self) -> u64 {
        let mut dice = self.dice.lock().unwrap();
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        *dice >> 20
    }

    fn take(&self, body: &str) {
        let batch = decode_batch(&decode(body).unwrap(), &mut Names::default()).unwrap().batch;
        let key = (batch.origin.boot.clone(), batch.number);
        let mut messages = self.messages.lock().unwrap();
        let known = messages.entry(key).or_insert_with(|| batch.clone());
        assert_eq!(*known, batch, "another message under the same number");
    }

    /// The `seq` of each observation, by boot; that none came twice, later than promised or under numbers with holes.
    fn observed(&self) -> BTreeSet<(Name, u64)> {
        let mut observed = BTreeSet::new();
        let mut last: Option<(Name, u64, Timestamp)> = None;
        for ((boot, number), batch) in self.messages.lock().unwrap().iter() {
            let (wanted, promised) = match &last {
                Some((of, number, through)) if of == boot => (number + 1, *through),
                _ => (0, Timestamp::MIN),
            };
            assert_eq!(*number, wanted, "the numbers of {boot}");
            for one in &batch.observations {
                assert!(one.at >= promised);
                assert!(observed.insert((boot.clone(), one.seq)), "{} of {boot} twice", one.seq);
            }
            last = Some((boot.clone(), *number, promised.max(batch.through)));
        }
        observed
    }

    async fn has(&self, count: usize) {
        while self.count() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn count(&self) -> usize {
        self.messages.lock().unwrap().values().map(|batch| batch.observations.len()).sum()
    }
}

impl Post for Queue {
    fn send<'a>(&'a self, bodies: &'a [String], _: Duration) -> Sending<'a> {
        assert!((1..=MESSAGES).contains(&bodies.len()));
        assert!(bodies.iter().map(String::len).sum::<usize>() <= BYTES);
        Box::pin(async move {
            *self.calls.lock().unwrap() += 1;
            let failure = |kind| Failure {
                operation: "sqs:SendMessage",
                kind,
                code: format!("{kind:?}"),
                message: String::new(),
            };
            let roll = self.roll();
            let (before, after) = match roll % 6 {
                0 if roll > 0 => (Some(Kind::Unreachable), None),
                1 => (Some(Kind::Throttled), None),
                2 => (None, Some(Kind::Service)),
                _ => (None, None),
            };
            if let Some(kind) = before {
                self.called.notify_one();
                tokio::task::yield_now().await;
                return Err(failure(kind));
            }
            let each = bodies.iter().map(|body| match self.roll() % 7 {
                1 => Err(failure(Kind::Service)),
                _ => {
                    self.take(body);
                    Ok(())
                }
            });
            let each = each.collect();
            self.called.notify_one();
            // Who is killed here does not know that it was taken.
            tokio::task::yield_now().await;
            after.map_or(Ok(each), |kind| Err(failure(kind)))
        })
    }
}

struct World {
    folder: tempfile::TempDir,
    writer: Writer,
    seq: u64,
    number: u64,
    boot: u64,
    through: i64,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::open(&folder.path().join("journal"), "a").unwrap();
        Self { folder, writer, seq: 0, number: 0, boot: 0, through: 0 }
    }

    fn begin(&mut self) {
        (self.seq, self.number) = (0, 0);
        self.boot += 1;
    }

    /// Appends a batch of so many observations; a loss is news.
    fn append(&mut self, count: u64, outcome: Outcome) -> usize {
        let observations = (0..count).map(|place| Observation {
            at: Timestamp::from_micros(self.through + i64::try_from(place).unwrap()),
            seq: self.seq + place,
            body: Body::Probe { link: "l".into(), probe: "p".into(), outcome, detail: None },
        });
        let observations = observations.collect();
        self.seq += count;
        self.through += i64::try_from(count).unwrap();
        let batch = Batch {
            origin: Origin {
                site: "a".into(),
                collector: "c".into(),
                boot: format!("boot {}", self.boot).as_str().into(),
            },
            number: self.number,
            through: Timestamp::from_micros(self.through),
            observations,
        };
        self.number += 1;
        self.writer.append(&batch, Timestamp::from_secs(1)).unwrap();
        usize::try_from(count).unwrap()
    }

    fn open(&self, stage: Stage, queue: &Arc<Queue>, health: &Health, report: &Report) -> Forwarder {
        let source = Source::gathered(self.folder.path().join("journal"), vec!["a".into()]);
        self.open_from(source, stage, queue, health, report)
    }

    fn open_from(
        &self,
        source: Source,
        stage: Stage,
        queue: &Arc<Queue>,
        health: &Health,
        report: &Report,
    ) -> Forwarder {
        let config = Config {
            site: "a".into(),
            stage,
            share: Share { index: 0, of: 1 },
            folder: self.folder.path(),
            probes: vec![(("l".into(), "p".into()), None)],
        };
        let observers = Observers {
            metrics: &Metrics::register(&mut Registry::default()),
            part: health.part("forward"),
            report: report.clone(),
            reach: None,
        };
        Forwarder::open_from(source, config, Sender::new(queue.clone(), None), observers).unwrap()
    }

    /// With a forwarder that holds nothing.
    fn hasty(&self, queue: &Arc<Queue>) -> Forwarder {
        let mut forwarder = self.open(Stage::Publisher, queue, &Health::default(), &Report::new("sqs"));
        forwarder.pace = Pace::with_hold(Instant::now().into_std(), Duration::from_millis(1));
        forwarder
    }
}

const REPLY: Outcome = Outcome::Reply { rtt_ms: 1.0 };
const LOST: Outcome = Outcome::Lost(Lost::Timeout);

/// Killed in the middle of its calls, whose effects may be known or not, over many restarts.
#[tokio::test]
async fn each_observation_is_received_once_however_often_the_forwarder_is_killed() {
    let seed: u64 = std::env::var("SEED").ok().map_or_else(
        || u64::from(std::process::id()) << 16 | u64::try_from(clock_micros() & 0xFFFF).unwrap(),
        |seed| seed.parse().unwrap(),
    );
    println!("SEED={seed}");
    let queue = Arc::new(Queue { dice: Mutex::new(seed | 1), ..Queue::default() });
    let mut world = World::new();
    let mut wanted = 0;
    for _ in 0..60 {
        for _ in 0..queue.roll() % 4 {
            wanted +=
                world.append(queue.roll() % 50, if queue.roll().is_multiple_of(3) { LOST } else { REPLY });
        }
        if queue.roll().is_multiple_of(8) {
            world.begin();
        }
        wanted += world.append(1 + queue.roll() % 50, REPLY);
        let forwarder = world.hasty(&queue);
        let calls = 1 + queue.roll() % 3;
        let killed = async {
            for _ in 0..calls {
                queue.called.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = killed => {}
            () = queue.has(wanted) => {}
            result = forwarder.run(CancellationToken::new()) => result.unwrap(),
        }
    }
    let forwarder = world.hasty(&queue);
    tokio::select! {
        () = queue.has(wanted) => {}
        result = forwarder.run(CancellationToken::new()) => result.unwrap(),
    }
    assert_eq!(queue.observed().len(), wanted);
    let (messages, calls) = (queue.messages.lock().unwrap().len(), *queue.calls.lock().unwrap());
    assert!(calls > messages && messages > 10, "{messages} messages in {calls} calls try nothing");
}

fn clock_micros() -> i64 {
    Timestamp::from(SystemTime::now()).as_micros()
}

#[tokio::test]
async fn news_goes_to_the_alerter_at_once_with_everything_unsent_and_routine_does_not() {
    let mut world = World::new();
    let (alerter, publisher) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
    let (health, report) = (Health::default(), Report::new("sqs:alerter"));
    let forwarders = [(Stage::Alerter, &alerter), (Stage::Publisher, &publisher)];
    let [one, other] = forwarders.map(|(stage, queue)| world.open(stage, queue, &health, &report));
    let stop = CancellationToken::new();
    let tasks = [tokio::spawn(one.run(stop.clone())), tokio::spawn(other.run(stop.clone()))];
    world.append(1, REPLY);
    // The first goes at once, and shows that the queue works.
    tokio::join!(alerter.has(1), publisher.has(1));
    world.append(3, REPLY);
    world.append(1, LOST);
    // Well before the routine hold of 10 s.
    tokio::time::timeout(Duration::from_secs(5), alerter.has(5)).await.unwrap();
    let counts: Vec<_> =
        alerter.messages.lock().unwrap().values().map(|batch| batch.observations.len()).collect();
    assert_eq!(counts, [1, 4]);
    assert_eq!(*publisher.calls.lock().unwrap(), 1);
    stop.cancel();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_backlog_goes_in_large_messages_in_order_without_waiting_for_the_hold() {
    let mut world = World::new();
    let wanted: usize = (0..100).map(|_| world.append(1_000, REPLY)).sum();
    let queue = Arc::new(Queue::default());
    let mut forwarder = world.open(Stage::Publisher, &queue, &Health::default(), &Report::new("sqs"));
    forwarder.pace.sent(Instant::now().into_std());
    // What is less than a full call waits for its hold.
    tokio::select! {
        () = queue.has(TOGETHER) => {}
        result = forwarder.run(CancellationToken::new()) => result.unwrap(),
    }
    assert_eq!(*queue.calls.lock().unwrap(), 1);
    assert!(queue.observed().len() >= TOGETHER && wanted > TOGETHER);
    let first = queue.messages.lock().unwrap().values().next().unwrap().observations.len();
    assert_eq!(first, plan::MOST);
}

#[tokio::test]
async fn a_queue_that_fails_is_told_of_and_delays_no_other() {
    /// Takes nothing.
    struct Dead;
    impl Post for Dead {
        fn send<'a>(&'a self, _: &'a [String], _: Duration) -> Sending<'a> {
            Box::pin(async {
                Err(Failure {
                    operation: "sqs:SendMessage",
                    kind: Kind::Denied,
                    code: "AccessDenied".to_owned(),
                    message: "not for you".to_owned(),
                })
            })
        }
    }
    let mut world = World::new();
    let queue = Arc::new(Queue::default());
    let (health, report) = (Health::default(), Report::new("sqs:publisher"));
    let mut dead = world.open(Stage::Publisher, &queue, &health, &report);
    dead.sender = Sender::new(Arc::new(Dead), None);
    dead.pace = Pace::with_hold(Instant::now().into_std(), Duration::from_millis(1));
    let alive = world.open(Stage::Alerter, &queue, &Health::default(), &Report::new("sqs:alerter"));
    let stop = CancellationToken::new();
    let tasks = [tokio::spawn(dead.run(stop.clone())), tokio::spawn(alive.run(stop.clone()))];
    for round in 1..5 {
        world.append(1, LOST);
        tokio::time::timeout(Duration::from_secs(5), queue.has(round)).await.unwrap();
    }
    let told =
        |failure: &String| failure.contains("AccessDenied") && failure.contains("allow sqs:SendMessage");
    while !health.failures().iter().any(told) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Body::Collection { source, ok, error, .. } = report.end() else { panic!() };
    assert_eq!((&*source, ok), ("sqs:publisher", false));
    assert!(error.as_deref().unwrap().starts_with("AccessDenied"), "{error:?}");
    stop.cancel();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // What was not sent is not lost to the journal's pruning.
    let identity = world.writer.identity().to_owned();
    let files = [Stage::Publisher, Stage::Alerter].map(|stage| file(world.folder.path(), "a", stage, 0));
    let positions = crosswatch_queue::positions("a", &identity, &files);
    let ids: Vec<_> = positions.iter().map(|position| (position.consumer.as_str(), position.id)).collect();
    assert_eq!(ids[0], ("forward-publisher", 0));
    assert_eq!(ids[1].0, "forward-alerter");
    assert!(ids[1].1 >= 3, "{ids:?}");
}

/// The journal's size let it drop what was on its way when the forwarder was killed.
#[tokio::test]
async fn after_the_journal_dropped_a_message_its_number_is_used_for_what_is_left() {
    let mut world = World::new();
    let queue = Arc::new(Queue { dice: Mutex::new(0), ..Queue::default() });
    world.append(5, REPLY);
    let mut forwarder = world.hasty(&queue);
    forwarder.gather().await.unwrap();
    forwarder.pack().await;
    forwarder.plan().unwrap();
    drop(forwarder);
    let later = Timestamp::from_secs(4_000_000_000);
    while world.writer.prune(later, Duration::ZERO, 1, &[]).unwrap().batches > 0 {}
    world.append(2, REPLY);
    let forwarder = world.hasty(&queue);
    tokio::select! {
        () = queue.has(2) => {}
        result = forwarder.run(CancellationToken::new()) => result.unwrap(),
    }
    let messages = queue.messages.lock().unwrap();
    let counts: Vec<_> = messages.values().map(|batch| (batch.number, batch.observations.len())).collect();
    assert_eq!(counts, [(0, 0), (1, 2)]);
}

/// The queue behind a way of so many bytes a second: what is not uploaded in time is not taken.
struct Uplink {
    queue: Arc<Queue>,
    rate: u32,
    largest: Mutex<usize>,
}

impl Post for Uplink {
    fn send<'a>(&'a self, bodies: &'a [String], within: Duration) -> Sending<'a> {
        Box::pin(async move {
            let bytes: usize = bodies.iter().map(String::len).sum();
            let takes = Duration::from_secs(bytes as u64) / self.rate;
            tokio::time::sleep(takes.min(within)).await;
            if takes > within {
                return Err(Failure {
                    operation: "sqs:SendMessage",
                    kind: Kind::Timeout,
                    code: "Timeout".to_owned(),
                    message: "no answer in time".to_owned(),
                });
            }
            let mut largest = self.largest.lock().unwrap();
            *largest = (*largest).max(bytes);
            for body in bodies {
                self.queue.take(body);
            }
            Ok(bodies.iter().map(|_| Ok(())).collect())
        })
    }
}

/// What was written down before the way turned out to be slow stays the message it is, over a restart, too.
#[tokio::test(start_paused = true)]
async fn a_backlog_passes_a_way_on_which_no_full_message_passes_in_the_time_of_a_call() {
    let mut world = World::new();
    let mut wanted = 0;
    for place in 0..2_000_u32 {
        let rtt_ms = f64::from(place.wrapping_mul(2_654_435_761) >> 12) / 1e3;
        wanted += world.append(35, Outcome::Reply { rtt_ms });
    }
    let queue = Arc::new(Queue::default());
    let uplink = Arc::new(Uplink { queue: Arc::clone(&queue), rate: 2_000, largest: Mutex::default() });
    let open = || {
        let mut forwarder = world.hasty(&queue);
        forwarder.sender = Sender::new(uplink.clone(), None);
        forwarder
    };
    // Killed while it sends what nobody takes in time.
    let killed = tokio::time::timeout(Duration::from_secs(15), open().run(CancellationToken::new())).await;
    assert!(killed.is_err() && queue.count() == 0);
    let forwarder = open();
    let bound = tokio::time::sleep(Duration::from_secs(1_800));
    tokio::select! {
        () = queue.has(wanted) => {}
        result = forwarder.run(CancellationToken::new()) => result.unwrap(),
        () = bound => panic!("{} of {wanted}", queue.count()),
    }
    assert_eq!(queue.observed().len(), wanted);
    let largest = *uplink.largest.lock().unwrap();
    assert!(largest > 20_000, "{largest} bytes pass in 10 s, and try nothing");
}

/// How slow the way is, the next forwarder has to find out anew.
#[tokio::test]
async fn a_message_made_for_a_slow_way_is_as_small_after_a_restart() {
    let mut world = World::new();
    world.append(400, REPLY);
    let queue = Arc::new(Queue::default());
    let mut forwarder = world.hasty(&queue);
    forwarder.gather().await.unwrap();
    let entries = forwarder.entries.clone();
    let small = |batch: &Batch| fitting_in(encode_batch(batch), 8 << 10);
    let packed = pack(&entries, &forwarder.numbers, forwarder.share, small);
    let made: Vec<usize> = packed.iter().map(|(_, text)| text.len()).collect();
    assert!(encode_batch(&entries[0]).len() > 16 << 10, "more than that as it is");
    forwarder.packed = Some(packed);
    forwarder.plan().unwrap();
    drop(forwarder);

    let sizes = Arc::new(Uplink { queue: Arc::clone(&queue), rate: 1 << 30, largest: Mutex::default() });
    let mut forwarder = world.hasty(&queue);
    forwarder.sender = Sender::new(sizes.clone(), None);
    tokio::select! {
        () = queue.has(400) => {}
        result = forwarder.run(CancellationToken::new()) => result.unwrap(),
    }
    let largest = *sizes.largest.lock().unwrap();
    assert!(largest <= made.iter().sum(), "{largest} bytes of what was made {made:?}");
}

/// A reader of the journal that cannot read once, as for want of file descriptors.
struct Faltering {
    journal: crosswatch_queue::Embedded,
    /// How many pages it gives before.
    pages: usize,
}

impl crosswatch_queue::Queue for Faltering {
    fn receive(&mut self, limit: usize, wait: Duration) -> Pending<'_, Page> {
        let left = self.pages.checked_sub(1);
        self.pages = left.unwrap_or(usize::MAX);
        if left.is_some() {
            return self.journal.receive(limit, wait);
        }
        let page = Page { failing: Some("unable to open database file".to_owned()), ..Page::default() };
        Box::pin(async { Ok(page) })
    }

    fn commit<'a>(&'a mut self, receipts: &'a [Receipt]) -> Pending<'a, ()> {
        self.journal.commit(receipts)
    }

    fn extend<'a>(&'a mut self, receipts: &'a [Receipt], by: Duration) -> Pending<'a, ()> {
        self.journal.extend(receipts, by)
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        self.journal.backlog()
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_at_the_start_makes_no_other_message_under_the_same_number() {
    for pages in 0..3 {
        let mut world = World::new();
        let queue = Arc::new(Queue { dice: Mutex::new(0), ..Queue::default() });
        let batches = [world.append(5, REPLY), world.append(4, REPLY), world.append(3, REPLY)];
        let wanted: usize = batches.iter().sum();
        let mut forwarder = world.hasty(&queue);
        forwarder.gather().await.unwrap();
        forwarder.pack().await;
        forwarder.plan().unwrap();
        drop(forwarder);

        let folder = world.folder.path().join("journal");
        let source = Source::new(move |places| {
            let journal = crosswatch_queue::Embedded::open(&folder, &["a".into()], places)?.once();
            Ok(Faltering { journal, pages })
        });
        let (health, report) = (Health::default(), Report::new("sqs"));
        let mut forwarder = world.open_from(source, Stage::Publisher, &queue, &health, &report);
        forwarder.pace = Pace::with_hold(Instant::now().into_std(), Duration::from_millis(1));
        let error = forwarder.turn().await.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("unable to open"), "{error}");
        tokio::select! {
            () = queue.has(wanted) => {}
            result = forwarder.run(CancellationToken::new()) => result.unwrap(),
        }
        let messages = queue.messages.lock().unwrap();
        let counts: Vec<_> =
            messages.values().map(|batch| (batch.number, batch.observations.len())).collect();
        assert_eq!(counts, [(0, wanted)], "after {pages} pages");
    }
}
