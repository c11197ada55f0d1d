//! SMS through the dispatcher: what is refused, throttled, taken; and all of it with an emulator of AWS.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crosswatch_aws::Session;

use super::*;
use crate::config::{Template, Texting};
use crate::testing::{TAKEN, publication, refusal};

fn texted(name: &str, numbers: &[&str]) -> Receiver {
    Receiver {
        name: name.into(),
        sms: numbers.iter().map(|&number| number.to_owned()).collect(),
        texting: Texting::default(),
        topic: None,
        webhook: None,
        template: Template::Plain,
        command: Vec::new(),
        console: false,
        at_most: None,
    }
}

async fn aws(url: &str) -> Aws {
    Aws::of(Session::emulated(url, "us-east-1"))
}

async fn number(endpoint: &mut Endpoint) -> String {
    let request = tokio::time::timeout(BOUND, endpoint.requests.recv()).await.unwrap().unwrap();
    publication(&request).1["PhoneNumber"].clone()
}

async fn ends(dispatcher: &mut Dispatcher, count: usize) {
    for _ in 0..count {
        let ended = tokio::time::timeout(BOUND, dispatcher.tries.join_next_with_id()).await;
        dispatcher.end(ended.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_number_that_is_refused_is_told_of_stays_owed_and_holds_up_no_other() {
    let endpoint = Endpoint::start([refusal(400, "InvalidParameter")]).await;
    let url = endpoint.url.split("/hook").next().unwrap().to_owned();
    let mut taken = Endpoint::start([TAKEN, TAKEN]).await;
    let book = Book::new(vec![texted("out", &["+15555550100"])]);
    let health = Health::default();
    let part = health.part("alerter");
    part.ok();
    book.happens(State::Firing, "a");
    let mut dispatcher = book.open(aws(&url).await, BOUND, &part, Metrics::default());
    let now = clock::now();
    dispatcher.pass(now);
    ends(&mut dispatcher, 1).await;
    dispatcher.pass(now);
    let failures = health.failures();
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].starts_with("alerter: notify.out sms:+15555550100: sns:Publish: InvalidParameter"),
        "{failures:?}"
    );
    let next = ledger::next_try(&book.file(), &book.ledger.destinations()[0], now).unwrap().unwrap();
    assert!(next.since(now) >= Duration::from_secs(59), "it is tried seldom: {next}");
    drop(dispatcher);

    // Somebody corrected it: the next try is taken, and the alerter is well.
    let other = taken.url.split("/hook").next().unwrap().to_owned();
    let mut dispatcher = book.open(aws(&other).await, BOUND, &part, Metrics::default());
    dispatcher.pass(next);
    ends(&mut dispatcher, 1).await;
    dispatcher.pass(next);
    assert_eq!(number(&mut taken).await, "+15555550100");
    assert_eq!(ledger::totals(&book.file()).unwrap().owed, 0);
    assert!(health.failures().is_empty());
}

#[tokio::test]
async fn two_numbers_are_told_each_for_itself() {
    let mut endpoint = Endpoint::start([TAKEN, TAKEN, TAKEN]).await;
    let url = endpoint.url.split("/hook").next().unwrap().to_owned();
    let book = Book::new(vec![texted("oncall", &["+15555550100", "+15555550101"])]);
    book.happens(State::Firing, "a");
    let part = Health::default().part("alerter");
    let mut dispatcher = book.open(aws(&url).await, BOUND, &part, Metrics::default());
    dispatcher.pass(clock::now());
    ends(&mut dispatcher, 2).await;
    let mut told = [number(&mut endpoint).await, number(&mut endpoint).await];
    told.sort();
    assert_eq!(told, ["+15555550100", "+15555550101"]);
    dispatcher.pass(clock::now());
    assert_eq!(ledger::totals(&book.file()).unwrap().owed, 0);
}

#[tokio::test]
async fn who_asks_for_fewer_calls_is_left_alone_for_a_while() {
    let mut endpoint = Endpoint::start([refusal(400, "Throttled"), TAKEN, TAKEN]).await;
    let url = endpoint.url.split("/hook").next().unwrap().to_owned();
    let book = Book::new(vec![texted("oncall", &["+15555550100"])]);
    book.happens(State::Firing, "a");
    let part = Health::default().part("alerter");
    let mut dispatcher = book.open(aws(&url).await, BOUND, &part, Metrics::default());
    dispatcher.pass(clock::now());
    ends(&mut dispatcher, 1).await;
    number(&mut endpoint).await;
    let at = dispatcher.lanes[0].rests_until;
    // Another one is due at once, and waits too.
    book.happens(State::Firing, "b");
    dispatcher.pass(at - Duration::from_millis(1));
    assert!(dispatcher.tries.is_empty(), "it was not left alone");
    dispatcher.pass(at + Duration::from_secs(4));
    ends(&mut dispatcher, 2).await;
    dispatcher.pass(at + Duration::from_secs(4));
    assert_eq!(ledger::totals(&book.file()).unwrap().owed, 0);
}

/// `ministack`, by the environment's `MINISTACK` or from the PATH; ended when dropped.
struct Emulator {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Emulator {
    async fn start() -> Self {
        let program = std::env::var_os("MINISTACK").unwrap_or_else(|| "ministack".into());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new(&program)
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; MINISTACK names the program", program.display()));
        let emulator = Self { process, url: format!("http://127.0.0.1:{port}"), _folder: folder };
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(BOUND, up).await.expect("the emulator does not answer");
        emulator
    }

    /// The texts that went to a number.
    async fn texts(&self, number: &str) -> Vec<String> {
        let url = format!("{}/_ministack/sns/sms-messages?phoneNumber=%2B{}", self.url, &number[1..]);
        let answer = crate::http::client(Duration::from_secs(60))
            .unwrap()
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let messages = answer["sms_messages"][number].as_array().unwrap_or_else(|| panic!("{answer}"));
        messages.iter().map(|message| message["Message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn firing_and_resolved_arrive_once_at_every_number() {
    let emulator = Emulator::start().await;
    let numbers = ["+15555550100", "+445555550101"];
    let book = Book::new(vec![texted("oncall", &numbers)]);
    let stop = CancellationToken::new();
    let part = Health::default().part("alerter");
    let dispatcher = book.open(aws(&emulator.url).await, BOUND, &part, Metrics::default());
    let running = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(dispatcher.run(
        Arc::clone(&book.wake),
        mpsc::unbounded_channel().1,
        stop.clone(),
    )));
    book.happens(State::Firing, "use1-euw1/us-east-1/icmp:10.1.0.10");
    book.until_owed(0).await;
    book.happens(State::Resolved, "use1-euw1/us-east-1/icmp:10.1.0.10");
    book.until_owed(0).await;
    for number in numbers {
        assert_eq!(
            emulator.texts(number).await,
            [
                "FIRING collector-blind use1-euw1/us-east-1/icmp:10.1.0.10: us-east-1/icmp:10.1.0.10 3 of 3 lost (ping-failed)",
                "RESOLVED collector-blind use1-euw1/us-east-1/icmp:10.1.0.10: over after 0 s: 3 of 3 lost (ping-failed)",
            ]
        );
    }
    stop.cancel();
    tokio::time::timeout(BOUND, running).await.unwrap().unwrap();
}
