mod sns;

use crosswatch_host::clock;
use crosswatch_host::health::Health;
use crosswatch_judge::State;
use crosswatch_shared::observation::Name;

use super::*;
use crate::notify::Aws;
use crate::testing::{Answer, BOUND, Endpoint, OK, happens_to, tables};

/// A file with a ledger for these receivers.
struct Book {
    folder: tempfile::TempDir,
    receivers: Vec<Receiver>,
    ledger: Arc<Ledger>,
    wake: Arc<Notify>,
}

impl Book {
    fn new(receivers: Vec<Receiver>) -> Self {
        let book = Self {
            folder: tempfile::tempdir().unwrap(),
            ledger: Arc::new(Ledger::new(&receivers)),
            receivers,
            wake: Arc::new(Notify::new()),
        };
        let file = book.file();
        file.pragma_update(None, "journal_mode", "wal").unwrap();
        tables(&file);
        book
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("alerter.db")
    }

    fn file(&self) -> Connection {
        connect(&self.path()).unwrap()
    }

    fn happens(&self, state: State, subject: &str) {
        let mut file = self.file();
        let file = file.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let names: Vec<Name> = self.receivers.iter().map(|receiver| receiver.name.clone()).collect();
        happens_to(&self.ledger, &file, state, subject, &names, clock::now());
        file.commit().unwrap();
        self.wake.notify_one();
    }

    fn open(&self, aws: Aws, within: Duration, part: &Part, metrics: Metrics) -> Dispatcher {
        let ledger = Arc::clone(&self.ledger);
        let (world, clock) = (World::Real(aws, within), Clock::machine());
        let ways = ways(&self.receivers, &ledger, &world).unwrap();
        Dispatcher::open(&self.path(), (ledger, ways), world, clock, part, metrics).unwrap()
    }

    /// Starts a dispatcher; dropping the handle is its sudden death.
    fn start(&self, within: Duration, stop: &CancellationToken) -> tokio_util::task::AbortOnDropHandle<()> {
        let metrics = Metrics::default();
        let dispatcher = self.open(Aws::default(), within, &Health::default().part("alerter"), metrics);
        let run = dispatcher.run(Arc::clone(&self.wake), mpsc::unbounded_channel().1, stop.clone());
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(run))
    }

    /// Waits until all is accepted, or what is left cannot be.
    async fn until_owed(&self, owed: i64) {
        let file = self.file();
        let reached = async {
            while ledger::totals(&file).unwrap().owed != owed {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, reached).await.expect("something is still owed");
    }
}

#[tokio::test]
async fn what_was_written_before_a_death_is_sent_after_it_and_once() {
    let mut endpoint = Endpoint::start([]).await;
    let book = Book::new(vec![endpoint.receiver("r")]);
    book.happens(State::Firing, "a");
    let stop = CancellationToken::new();
    let dispatcher = book.start(BOUND, &stop);
    assert_eq!(endpoint.next().await.subject, "a");
    book.until_owed(0).await;
    drop(dispatcher);
    let _dispatcher = book.start(BOUND, &stop);
    book.happens(State::Firing, "b");
    assert_eq!(endpoint.next().await.subject, "b", "a is not sent again");
}

#[tokio::test]
async fn a_death_between_acceptance_and_its_record_repeats_that_one_alone() {
    let mut endpoint = Endpoint::start([OK, Answer::Hang]).await;
    let book = Book::new(vec![endpoint.receiver("r")]);
    book.happens(State::Firing, "recorded");
    let stop = CancellationToken::new();
    let dispatcher = book.start(BOUND, &stop);
    endpoint.next().await;
    book.until_owed(0).await;
    book.happens(State::Firing, "accepted");
    assert_eq!(endpoint.next().await.subject, "accepted");
    drop(dispatcher);
    let _dispatcher = book.start(BOUND, &stop);
    assert_eq!(endpoint.next().await.subject, "accepted");
    book.until_owed(0).await;
    book.happens(State::Resolved, "recorded");
    assert_eq!(endpoint.next().await.state, "resolved");
}

#[tokio::test]
async fn a_receiver_that_fails_hangs_and_closes_gets_it_in_the_end_firing_first() {
    let answers = [Answer::Status(500, "", ""), Answer::Close, Answer::Hang, OK, OK];
    let mut endpoint = Endpoint::start(answers).await;
    let book = Book::new(vec![endpoint.receiver("r")]);
    book.happens(State::Firing, "a");
    book.happens(State::Resolved, "a");
    let stop = CancellationToken::new();
    let _dispatcher = book.start(Duration::from_millis(300), &stop);
    let mut states = Vec::new();
    for _ in 0..5 {
        states.push(endpoint.next().await.state);
    }
    assert_eq!(states, ["firing", "firing", "firing", "firing", "resolved"]);
    book.until_owed(0).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other_and_not_all_of_its_own() {
    let mut well = Endpoint::start([]).await;
    let mut ill = Endpoint::start([Answer::Hang, Answer::Hang]).await;
    let book = Book::new(vec![ill.receiver("ill"), well.receiver("well")]);
    let stop = CancellationToken::new();
    let _dispatcher = book.start(BOUND, &stop);
    for subject in ["a", "b", "c"] {
        book.happens(State::Firing, subject);
        assert_eq!(well.next().await.subject, subject);
        assert_eq!(ill.next().await.subject, subject);
    }
    book.until_owed(2).await;
}

#[tokio::test]
async fn a_stop_sends_what_was_written_last_and_waits_for_its_answer() {
    let mut endpoint = Endpoint::start([]).await;
    let book = Book::new(vec![endpoint.receiver("r")]);
    // Whichever of the two the dispatcher sees first.
    for round in 0..16 {
        let stop = CancellationToken::new();
        let dispatcher = book.start(BOUND, &stop);
        book.happens(State::Firing, &format!("first {round}"));
        endpoint.next().await;
        book.until_owed(0).await;
        book.happens(State::Firing, &format!("last {round}"));
        stop.cancel();
        tokio::time::timeout(BOUND, dispatcher).await.unwrap().unwrap();
        assert_eq!(ledger::totals(&book.file()).unwrap().owed, 0);
        assert_eq!(endpoint.next().await.subject, format!("last {round}"));
    }
}

#[tokio::test]
async fn the_file_being_locked_by_another_loses_and_repeats_nothing() {
    let mut endpoint = Endpoint::start([]).await;
    let book = Book::new(vec![endpoint.receiver("r")]);
    book.happens(State::Firing, "a");
    let part = Health::default().part("alerter");
    let mut dispatcher = book.open(Aws::default(), BOUND, &part, Metrics::default());
    dispatcher.file.busy_timeout(Duration::ZERO).unwrap();
    let now = clock::now();
    assert_ne!(dispatcher.pass(now), AFTER_ERROR);
    let ended = dispatcher.tries.join_next_with_id().await.unwrap();
    dispatcher.end(ended);
    let mut other = book.file();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    assert_eq!(dispatcher.pass(now), AFTER_ERROR);
    assert!(dispatcher.tries.is_empty(), "what was accepted is not tried again for want of its record");
    drop(lock);
    dispatcher.pass(now);
    assert_eq!(ledger::totals(&book.file()).unwrap().owed, 0);
    endpoint.next().await;
    assert!(endpoint.requests.is_empty());
}

#[tokio::test]
async fn who_is_told_changes_while_what_is_under_way_goes_on() {
    let (mut stays, mut comes) = (Endpoint::start([Answer::Hang]).await, Endpoint::start([]).await);
    let mut goes = Endpoint::start([]).await;
    let book = Book::new(vec![stays.receiver("stays"), goes.receiver("goes")]);
    let (stop, metrics) = (CancellationToken::new(), Metrics::default());
    let within = Duration::from_secs(2);
    let dispatcher = book.open(Aws::default(), within, &Health::default().part("alerter"), metrics);
    let (changes, changed) = mpsc::unbounded_channel();
    let run = dispatcher.run(Arc::clone(&book.wake), changed, stop.clone());
    let running = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(run));
    book.happens(State::Firing, "first");
    assert_eq!((stays.next().await.subject, goes.next().await.subject), ("first".into(), "first".into()));

    let receivers = vec![comes.receiver("comes"), stays.receiver("stays")];
    let ledger = Arc::new(Ledger::new(&receivers));
    let ways = ways(&receivers, &ledger, &World::Real(Aws::default(), within)).unwrap();
    changes.send((Arc::clone(&ledger), ways)).unwrap();
    let file = book.file();
    let names = ["comes".into(), "stays".into()];
    happens_to(&ledger, &file, State::Firing, "second", &names, clock::now());
    book.wake.notify_one();
    assert_eq!(comes.next().await.subject, "second");
    // The first is tried once more once its try, which nobody answered, is over.
    let told = [stays.next().await.subject, stays.next().await.subject];
    assert!(told.contains(&"first".to_owned()) && told.contains(&"second".to_owned()), "{told:?}");
    book.until_owed(0).await;
    stop.cancel();
    tokio::time::timeout(BOUND, running).await.unwrap().unwrap();
    assert!(goes.requests.is_empty() && stays.requests.is_empty());
}
