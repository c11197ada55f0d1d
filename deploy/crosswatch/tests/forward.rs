//! Stages by themselves, whose queues are those of a local AWS: what a collector sees arrives there, nothing is lost when the queues
//! are away, and an alerter's page shows what came. Wants `ministack`: named by `MINISTACK`, or found by `PATH`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod program;
#[path = "../../../shared/sqs/tests/server/mod.rs"]
#[allow(dead_code)]
mod server;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crosswatch_shared::observation::{Batch, Body, Outcome};
use crosswatch_shared::wire::{Names, decode_batch};
use crosswatch_sqs::body::decode;
use program::{Stage, command_with_aws, until};
use serde_json::{Value, json};
use server::Server;

/// A local AWS, and a way to it that can be cut.
struct Aws {
    server: Server,
    /// Where the way begins.
    front: u16,
    cut: Arc<AtomicBool>,
}

impl Aws {
    fn start() -> Self {
        let server = Server::start();
        let (front, cut) = way(server.port);
        Self { server, front, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// The batches in a queue, which are gone from it then; waits a second for the first.
    fn receive(&self, url: &str) -> Vec<Batch> {
        let wanted = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
        let answer = self.server.call("ReceiveMessage", &wanted);
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let batches = messages.iter().map(|message| {
            let handle = &message["ReceiptHandle"];
            self.server.call("DeleteMessage", &json!({ "QueueUrl": url, "ReceiptHandle": handle }));
            let wire = decode(message["Body"].as_str().unwrap()).unwrap();
            decode_batch(&wire, &mut Names::default()).unwrap().batch
        });
        batches.collect()
    }

    /// A stage with this config, over that way.
    fn stage(&self, job: &[&str], folder: &Path) -> Stage {
        Stage::start(&mut command_with_aws(folder, job, &format!("http://127.0.0.1:{}", self.front)))
    }

    /// A collector of the site `here`.
    fn collector(&self, folder: &Path) -> Stage {
        self.stage(&["collector", "--site", "here"], folder)
    }
}

/// A port that leads to this one until it is cut: then what goes over it is lost, and nobody gets on.
fn way(to: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = listener.local_addr().unwrap().port();
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Some(far) =
                TcpStream::connect(("127.0.0.1", to)).ok().filter(|_| !is_cut.load(Ordering::Relaxed))
            else {
                continue;
            };
            for (mut from, mut to) in
                [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far.try_clone().unwrap(), near)]
            {
                let is_cut = is_cut.clone();
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = from.read(&mut buffer)
                        && !is_cut.load(Ordering::Relaxed)
                        && to.write_all(&buffer[..length]).is_ok()
                    {}
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    (front, cut)
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn config(target: u16, publisher: &str, alerter: &str) -> String {
    format!(
        r#"
[site.here]
[[link]]
name = "l"
between = ["here"]
probe = [{{ from = "here", tcp = "127.0.0.1:{target}", every = "200ms", timeout = "100ms" }}]
[queue]
kind = "sqs"
publisher = "{publisher}"
alerter = "{alerter}"
[http]
listen = "127.0.0.1:0"
"#
    )
}

/// A folder with this config.
fn with(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
    folder
}

#[test]
fn what_a_collector_sees_arrives_in_both_queues_and_nothing_is_lost_while_they_are_away() {
    let aws = Aws::start();
    let [publisher, alerter] = ["publisher", "alerter"].map(|name| aws.server.queue(name));
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = with(&config(target.local_addr().unwrap().port(), &publisher, &alerter));
    let first = aws.collector(folder.path());
    until("ready", || get(first.port, "/readyz").contains("ready\n").then_some(()));

    // The target goes: losses are news, and come long before the hold of 10 s.
    drop(target);
    let mut batches = BTreeMap::new();
    let mut take = |aws: &Aws| {
        for batch in aws.receive(&alerter) {
            let key = (batch.origin.boot.clone(), batch.number);
            let known = batches.entry(key).or_insert_with(|| batch.clone());
            assert_eq!(*known, batch, "another batch under the same number");
        }
        let all = batches.values().flat_map(|batch: &Batch| &batch.observations);
        all.filter(|one| matches!(&one.body, Body::Probe { outcome: Outcome::Lost(_), .. })).count()
    };
    until("losses in the alerter's queue", || (take(&aws) >= 3).then_some(()));
    assert!(!aws.receive(&publisher).is_empty(), "the publisher's first batch");

    // The queues are away, and meanwhile the collector is killed.
    aws.cut(true);
    let failure = "forward alerter here: the queue takes nothing";
    until("the queue's failure", || get(first.port, "/readyz").contains(failure).then_some(()));
    drop(first);
    aws.cut(false);
    let _second = aws.collector(folder.path());
    let before = take(&aws);
    until("what was seen while the queues were away, and after", || (take(&aws) > before + 20).then_some(()));
    let boots: Vec<_> = batches.keys().map(|(boot, _)| boot.clone()).collect();
    assert_ne!(boots.first(), boots.last(), "two lives");
    for boot in [boots.first().unwrap(), boots.last().unwrap()] {
        let of_boot = || batches.iter().filter(|((of, _), _)| of == boot).map(|(_, batch)| batch);
        let numbers: Vec<_> = of_boot().map(|batch| batch.number).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        let seqs: Vec<_> = of_boot().flat_map(|batch| &batch.observations).map(|one| one.seq).collect();
        assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "nothing is missing or twice");
    }
}

#[test]
fn the_page_of_an_alerter_over_sqs_shows_and_explains_what_it_received() {
    let aws = Aws::start();
    let [publisher, alerter] = ["publisher", "alerter"].map(|name| aws.server.queue(name));
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let rule = "[[rule]]\nname = \"lost\"\nmetric = \"ping_ok\"\nbelow = 1\nbreach = \"3 of 3\"\nnotify = [\"me\"]\n\
                [notify.me]\nconsole = true\n[page]\nlisten = \"127.0.0.1:0\"\n";
    let text = config(target.local_addr().unwrap().port(), &publisher, &alerter) + rule;
    // The alerter is elsewhere: it has nothing but the queue.
    let [near, far] = [(); 2].map(|()| with(&text));
    let _collector = aws.collector(near.path());
    let alerter = aws.stage(&["alerter"], far.path());
    let port = alerter.port_of("status page on");
    let get = |path: &str| get(port, path);
    let json = |path: &str| serde_json::from_str::<Value>(&get(path)).unwrap_or_default();
    let state = || json("/api/v1/state");
    until("the link is up", || (state()["links"][0]["state"] == "up").then_some(()));
    drop(target);
    let id = until("an incident is open", || {
        let state = state();
        let id = state["judged"]["incidents"][0]["id"].as_str()?.to_owned();
        (state["links"][0]["state"] == "down").then_some(id)
    });
    let told = until("somebody was told", || {
        let told = json(&format!("/api/v1/incidents/{id}"))["told"][0].clone();
        (told["standing"] == "accepted").then_some(told)
    });
    assert_eq!((&told["receiver"], &told["channel"]), (&json!("me"), &json!("console")));
    let now = json("/api/v1/explain?of=l");
    assert_eq!(now["subjects"][0]["judged"][0]["state"], "firing", "{now}");
    // What is past is judged anew from the alerter's own history.
    let fired = now["incidents"][0]["opened_at"].as_str().unwrap();
    let then = json(&format!("/api/v1/explain?of=l&at={fired}"));
    assert_eq!(then["basis"]["by"], "history", "{then}");
    assert_eq!(then["subjects"][0]["judged"][0]["state"], "firing", "{then}");
    let seen = until("what was seen is kept", || {
        let seen = json("/api/v1/series?link=l&range=1h")[0]["points"][0].clone();
        (!seen.is_null()).then_some(seen)
    });
    assert!(seen["replies"].as_u64() > Some(0), "{seen}");
    until("what was captured is kept", || get("/link/l?range=1h").contains("class=\"bundle\"").then_some(()));
    let page = get("/link/l?range=1h");
    assert!(page.contains("lost: FIRING since"), "{page}");
}
