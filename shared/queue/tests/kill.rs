//! `kill -9` at random moments: what the journal has acknowledged reaches the consumer exactly once and in order.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use batches::{NOW, SCHEMA, applied, apply, batch};
use crosswatch_journal::Writer;
use crosswatch_queue::{Consumer, QueueError, Source, positions};

const ROLE: &str = "CROSSWATCH_KILL_TEST_ROLE";
const FOLDER: &str = "CROSSWATCH_KILL_TEST_FOLDER";
const LIVES: u64 = 40;

/// What a child says once it has done a thing; the test harness around it says other things too.
const DONE: &str = "done:";

#[test]
fn what_was_acknowledged_is_consumed_once_and_in_order_however_often_anyone_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut random = 0x5EED_u64;
    let mut below = |most: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % most
    };
    for life in 0..LIVES {
        let boot = format!("{life:03}");
        let mut writer = Process::begin(&format!("write {boot}"), folder.path());
        let mut consumer = Process::begin("consume", folder.path());
        // Both go on until the signal reaches them: it comes at any moment after these.
        let mut written = writer.await_done(below(40));
        consumer.await_done(below(20));
        if below(2) == 0 {
            written += writer.kill();
            consumer.kill();
        } else {
            consumer.kill();
            written += writer.kill();
        }
        acknowledged.insert(boot, written);
    }

    let mut consumer = open(folder.path());
    runtime().block_on(async {
        loop {
            let received = consumer.receive(64, Duration::ZERO).await.unwrap();
            let empty = received.empty;
            consumer.settle(received, apply).await.unwrap();
            if empty {
                break;
            }
        }
    });
    let rows = consumer.transaction(|tx| Ok::<_, QueueError>(applied(tx)?)).unwrap();
    let mut boots: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, boot, number) in &rows {
        boots.entry(boot.clone()).or_default().push(*number);
    }
    assert!(rows.is_sorted_by_key(|(_, boot, _)| boot), "boots in the order of their lives");
    for (boot, written) in &acknowledged {
        let numbers = boots.remove(boot).unwrap_or_default();
        assert_eq!(
            numbers,
            (0..numbers.len() as u64).collect::<Vec<_>>(),
            "boot {boot}: each once, in order"
        );
        let count = numbers.len() as u64;
        // One more may have been written without its writer living to say so.
        assert!(
            (*written..=written + 1).contains(&count),
            "boot {boot}: {written} acknowledged, {count} consumed"
        );
    }
    assert!(acknowledged.values().sum::<u64>() > LIVES, "the children did work");
}

/// A child's life, when started as one; else nothing.
#[test]
fn child() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else {
        return;
    };
    let folder = Path::new(&folder);
    match role.split_once(' ') {
        Some((_, boot)) => write(folder, boot),
        None => runtime().block_on(consume(folder)),
    }
}

fn write(folder: &Path, boot: &str) {
    let mut writer = Writer::open(&folder.join("journal"), "a").unwrap();
    for number in 0.. {
        writer.append(&batch("a", boot, number), NOW).unwrap();
        println!("{DONE}");
        if number % 10 == 0 {
            let positions = positions("a", writer.identity(), &[folder.join("consumer.db")]);
            let pruned = writer.prune(NOW + Duration::from_secs(10), Duration::ZERO, u64::MAX, &positions);
            assert_eq!(pruned.unwrap().dropped, []);
        }
    }
}

async fn consume(folder: &Path) {
    let mut consumer = open(folder);
    loop {
        let received = consumer.receive(3, Duration::from_millis(1)).await.unwrap();
        assert_eq!(received.missed, 0);
        consumer.settle(received, apply).await.unwrap();
        println!("{DONE}");
    }
}

fn open(folder: &Path) -> Consumer {
    let source = Source::embedded(folder.join("journal"), vec!["a".into()]);
    Consumer::open(&folder.join("consumer.db"), SCHEMA, source).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Killed and waited for when it goes, whatever happens to the test.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn begin(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .envs([(ROLE, role.as_ref()), (FOLDER, folder.as_os_str())])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it has done `count` more things.
    fn await_done(&mut self, count: u64) -> u64 {
        let mut done = 0;
        while done < count {
            let line = self.lines.next().expect("the child ended by itself").unwrap();
            done += u64::from(line.contains(DONE));
        }
        done
    }

    /// Kills it; gives how much more it had done by then.
    fn kill(&mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let rest = self.lines.by_ref().map_while(Result::ok);
        rest.filter(|line| line.contains(DONE)).count() as u64
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
