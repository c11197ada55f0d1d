//! The program on SQS: the stages read their queues, and the tools say what lies in them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod program;
#[path = "../../../shared/sqs/tests/server/mod.rs"]
#[allow(dead_code)]
mod server;

use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use crosswatch_aws::cloudwatch::{CloudWatch, Datum, Resolution, Unit};
use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;
use program::{Stage, command_with_aws, until};
use serde_json::{Value, json};
use server::Server;

/// A batch of ten replies.
fn batch(number: u64) -> Batch {
    let at = Timestamp::from(SystemTime::now());
    let observation = |index: u64| Observation {
        at,
        seq: number * 10 + index,
        body: Body::Probe {
            link: "a-b".into(),
            probe: "icmp:10.1.0.10".into(),
            outcome: Outcome::Reply { rtt_ms: 81.7 },
            detail: None,
        },
    };
    Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
        number,
        through: at,
        observations: (0..10).map(observation).collect(),
    }
}

struct World {
    server: Server,
    folder: tempfile::TempDir,
    publisher: String,
    alerter: String,
    dead: String,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let publisher = server.queue("for-publisher");
        let dead = server.queue("for-alerter-dead");
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:for-alerter-dead","maxReceiveCount":"100"}"#;
        let alerter = server.queue_with("for-alerter", &json!({ "RedrivePolicy": policy }));
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[site.a]\n[site.b]\n[[link]]\nname = 'a-b'\nbetween = ['a', 'b']\n\
             probe = [{{ from = 'a', icmp = '10.1.0.10', every = '1s', timeout = '500ms' }}]\n\
             [queue]\nkind = 'sqs'\npublisher = '{publisher}'\nalerter = '{alerter}'\n[http]\nlisten = '127.0.0.1:0'\n"
        );
        std::fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
        Self { server, folder, publisher, alerter, dead }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command_with_aws(self.folder.path(), arguments, &self.server.endpoint())
    }

    fn start(&self, arguments: &[&str]) -> Stage {
        Stage::start(&mut self.command(arguments))
    }

    fn says(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Messages in the queue of this URL, those in flight included: the server goes on with a poll whose caller has
    /// gone, and may hide what was given back just now.
    fn depth(&self, queue: &str) -> u64 {
        let lines: Value = serde_json::from_str(&self.says(&["queue", "depth", "--format", "json"])).unwrap();
        let line = lines.as_array().unwrap().iter().find(|line| line["queue"] == queue);
        let line = line.unwrap_or_else(|| panic!("no {queue} in {lines}"));
        line["waiting"].as_u64().unwrap() + line["in_flight"].as_u64().unwrap()
    }

    fn send(&self, url: &str, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| self.server.send(url, &wire::encode_batch(&batch(number))));
    }
}

fn count(text: &str) -> usize {
    text.lines().count()
}

#[test]
fn publisher_and_alerter_read_a_queue_each_and_the_tools_read_what_the_alerter_kept() {
    let world = World::new();
    world.send(&world.alerter, 0..3);
    world.send(&world.publisher, 0..3);
    assert_eq!((world.depth(&world.alerter), world.depth(&world.publisher)), (3, 3));
    let stages = ["publisher", "alerter"].map(|stage| world.start(&[stage]));
    until("the alerter has it", || (count(&world.says(&["export"])) == 30).then_some(()));
    let left = || world.depth(&world.alerter) + world.depth(&world.publisher);
    until("both have it", || (left() == 0).then_some(()));
    let status: Value = serde_json::from_str(&world.says(&["status", "--format", "json"])).unwrap();
    assert_eq!(status["sites"][0]["state"], "up", "{status}");
    drop(stages);
}

#[test]
fn a_captured_queue_is_in_journals_and_what_cannot_be_read_stays() {
    let world = World::new();
    world.send(&world.alerter, 0..25);
    world.send(&world.alerter, 3..5);
    world.server.send(&world.alerter, "not a batch");
    let other = Origin { site: "(alerter)".into(), collector: "c".into(), boot: "1".into() };
    let at = Timestamp::from(SystemTime::now());
    let accepted =
        json!({ "id": "0193", "state": "firing", "receiver": "me", "channel": "webhook", "at": at });
    let accepted = serde_json::from_value(accepted).unwrap();
    world.server.send(&world.alerter, &wire::encode_told(&other, 1, at, &accepted));
    let told = world.says(&["queue", "capture", "--stage", "alerter", "--into", "captured"]);
    assert!(told.contains("25 batches of 250 observations") && told.contains("2 came twice"), "{told}");
    assert!(told.contains("1 messages cannot be read and stay"), "{told}");
    assert!(
        told.contains("1 messages are no collector's") && told.contains("another alerter tells"),
        "{told}"
    );
    assert!(Path::new(&world.folder.path().join("captured/a.db")).exists());
    assert_eq!(count(&world.says(&["export", "--journals", "captured"])), 250);
    assert_eq!(world.depth(&world.alerter), 2);
}

#[test]
fn dead_letters_are_listed_shown_peeked_at_and_sent_back() {
    let world = World::new();
    world.server.send(&world.dead, "zstd:!!!");
    world.send(&world.dead, 7..8);
    let listed: Value =
        serde_json::from_str(&world.says(&["queue", "dead", "list", "--format", "json"])).unwrap();
    let letter = |reason: &str| {
        let letters = listed.as_array().unwrap();
        letters.iter().find(|letter| letter["reason"].as_str().unwrap().contains(reason)).unwrap()["id"]
            .clone()
    };
    let (poison, sound) = (letter("not base64"), letter("a sound batch"));
    assert_eq!(world.says(&["queue", "dead", "show", poison.as_str().unwrap()]), "zstd:!!!\n");
    assert!(world.says(&["queue", "dead", "show", sound.as_str().unwrap()]).contains("\"a-b\""));
    let peeked = world.says(&["queue", "peek", "--stage", "alerter"]);
    assert!(peeked.contains("batch 7 of a, boot 1, 10 observations"), "{peeked}");
    assert_eq!(world.depth(&world.dead), 2, "looking takes nothing");

    let told = world.says(&["queue", "dead", "redrive"]);
    assert!(told.contains("2 messages"), "{told}");
    assert_eq!((world.depth(&world.dead), world.depth(&world.alerter)), (0, 2));
}

#[test]
fn each_of_several_alerters_reads_its_queue_and_watches_its_share_of_the_links() {
    let world = World::new();
    let second = world.server.queue("for-alerter-2");
    let file = world.folder.path().join("crosswatch.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let several = config.replace(
        &format!("alerter = '{}'", world.alerter),
        &format!("alerter = ['{}', '{second}']", world.alerter),
    );
    std::fs::write(&file, several).unwrap();
    let unsaid = world.command(&["alerter"]).output().unwrap();
    assert_eq!(unsaid.status.code(), Some(2));
    let unsaid = String::from_utf8_lossy(&unsaid.stderr).into_owned();
    assert!(unsaid.contains("alerter has 2 queues") && unsaid.contains("alerter --queue N"), "{unsaid}");
    let absent = world.command(&["alerter", "--queue", "3"]).output().unwrap();
    assert!(String::from_utf8_lossy(&absent.stderr).contains("alerter has 2; write a number from 1 to 2"));
    assert_eq!(world.command(&["run"]).output().unwrap().status.code(), Some(2));

    world.send(&second, 0..3);
    let alerter = world.start(&["alerter", "--queue", "2"]);
    until("the second has it", || (count(&world.says(&["export"])) == 30).then_some(()));
    drop(alerter);
}

#[test]
fn how_long_the_oldest_waits_is_told_as_aws_counts_it() {
    let world = World::new();
    world.send(&world.alerter, 0..1);
    let datum = Datum {
        name: "ApproximateAgeOfOldestMessage".to_owned(),
        dimensions: vec![("QueueName".to_owned(), "for-alerter".to_owned())],
        at: Timestamp::from(SystemTime::now()),
        values: vec![(5_000.0, 1)],
        unit: Unit::None,
        resolution: Resolution::Minute,
    };
    // AWS publishes it by itself; here the server is told.
    let session = world.server.session();
    let put = async { CloudWatch::new(&session).put("AWS/SQS", &[datum]).await };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(put).unwrap();
    let told = world.says(&["queue", "depth", "--stage", "alerter"]);
    let own = told.lines().find(|line| line.contains("/for-alerter:")).unwrap();
    assert!(own.contains("1 batches wait") && own.contains("the oldest for 50"), "{told}");
}

/// How many replies the publisher has put, of all periods.
fn published(world: &World) -> u64 {
    let rows = world.says(&["metrics", "PingLatency", "--format", "json"]);
    rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_captured_queue_is_put_back_and_published_once_and_pages_only_where_that_is_asked_for() {
    let world = World::new();
    world.send(&world.publisher, 0..5);
    world.says(&["queue", "capture", "--stage", "publisher", "--into", "captured"]);
    assert_eq!(world.depth(&world.publisher), 0);
    let publisher = world.start(&["publisher"]);
    // Some of it comes from the collector all the same, before or after.
    world.send(&world.publisher, 1..3);
    for round in 0..2 {
        let put_back =
            world.command(&["replay", "--journal", "captured", "--into", "queue"]).output().unwrap();
        let told = String::from_utf8_lossy(&put_back.stderr).into_owned();
        assert!(put_back.status.success() && told.contains("put back 50 observations"), "{told}");
        assert!(put_back.stdout.is_empty());
        until("it is read", || (world.depth(&world.publisher) == 0).then_some(()));
        // What came by batches is put when its period is over, which it may not be.
        let count = published(&world);
        assert!((30..=50).contains(&count), "{count} in round {round}");
    }
    assert_eq!(world.depth(&world.alerter), 0, "nobody is to be paged");
    drop(publisher);
    world.says(&["replay", "--journal", "captured", "--into", "queue", "--page", "--link", "a-b"]);
    assert!(world.depth(&world.alerter) >= 1);
    let peeked = world.says(&["queue", "peek", "--stage", "alerter", "--force"]);
    assert!(peeked.contains("observations of a, boot 1, put back by a replay, to be judged"), "{peeked}");
    // For a tool that knows no better it is no batch.
    let told = world.says(&["queue", "capture", "--stage", "alerter", "--into", "others"]);
    assert!(told.contains("0 batches") && told.contains("messages are no collector's"), "{told}");

    // Of two alerters either is to judge it.
    let second = world.server.queue("for-second-alerter");
    let file = world.folder.path().join("crosswatch.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("[http]", &format!("second_alerter = '{second}'\n[http]"))).unwrap();
    world.says(&["replay", "--journal", "captured", "--into", "queue", "--page"]);
    assert!(world.depth(&second) >= 1);
}

#[test]
fn dead_letters_are_replayed_and_put_back_and_stay_where_they_are() {
    let world = World::new();
    world.server.send(&world.dead, "zstd:!!!");
    world.send(&world.dead, 5..9);
    let run = |arguments: &[&str]| {
        let output = world.command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let told = run(&["replay", "--dead", "alerter"]);
    assert!(told.contains("judged 40 observations"), "{told}");
    assert!(
        told.contains("skipped 1 that cannot be read: message ") && told.contains("not base64"),
        "{told}"
    );
    // Their rest, such as the one of the publisher, is elsewhere.
    assert!(run(&["replay", "--dead", "publisher"]).contains("judged 0 observations"));
    let told = run(&["replay", "--dead", "alerter", "--into", "queue"]);
    assert!(told.contains("put back 40 observations"), "{told}");
    assert!(world.depth(&world.publisher) >= 1);
    assert_eq!(world.depth(&world.dead), 5, "looking takes nothing");
    assert_eq!(run(&["replay", "--dead", "alerter"]).lines().next(), Some("judged 40 observations"));
}
