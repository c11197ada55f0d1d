//! `replay --as-judged`: what the alerter said live, from its journals and its own file.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod program;

use std::time::{Duration, SystemTime};

use crosswatch_journal::Writer;
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use program::{Stage, command};
use serde_json::Value;

const CONFIG: &str = "[site.a]\n[[link]]\nname = 'l'\nbetween = ['a']\nprobe = [{ from = 'a', name = 'p', icmp = '10.1.0.10' }]\n\
                      [http]\nlisten = '127.0.0.1:0'\n[[rule]]\nname = 'lost'\nmetric = 'ping_ok'\nbelow = 1\nbreach = '3 of 3'\n\
                      notify = ['oncall']\n[notify.oncall]\nwebhook = 'http://127.0.0.1:9/secret'\n";

/// The newest transitions, each with its state, rule and reason.
fn transitions(output: &[u8]) -> Vec<[String; 3]> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    let of = |row: &str| {
        let row: Value = serde_json::from_str(row).unwrap();
        ["state", "rule", "reason"].map(|key| row[key].as_str().unwrap().to_owned())
    };
    text.lines().map(of).collect()
}

#[test]
fn a_replay_as_judged_says_what_was_said_also_by_another_config_and_who_was_silent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("crosswatch.toml"), CONFIG).unwrap();
    std::fs::create_dir(folder.join("data")).unwrap();
    let now = Timestamp::from(SystemTime::now());
    let observation = |seq: u64| Observation {
        at: now - Duration::from_secs(3 - seq),
        seq,
        body: Body::Probe {
            link: "l".into(),
            probe: "p".into(),
            outcome: Outcome::Lost(Lost::Timeout),
            detail: None,
        },
    };
    let batch = Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
        number: 0,
        through: now,
        observations: (0..3).map(observation).collect(),
    };
    Writer::open(&folder.join("data/journal"), "a").unwrap().append(&batch, now).unwrap();
    let alerter = Stage::start(&mut command(folder, &["alerter"]));
    let judged = || transitions(&command(folder, &["replay", "--as-judged"]).output().unwrap().stdout);
    let silent = alerter.says("rule=site-silent");
    assert!(silent.contains("state=\"firing\""), "{silent}");
    drop(alerter);
    let live = judged();
    assert_eq!(live[0], ["firing", "lost", "3 of 3 lost"].map(str::to_owned));
    assert_eq!((&*live[1][0], &*live[1][1]), ("firing", "site-silent"));

    // By another config nothing is said any more; as it was judged all is as it was.
    std::fs::write(folder.join("crosswatch.toml"), CONFIG.replace("3 of 3", "9 of 9")).unwrap();
    assert_eq!(command(folder, &["replay"]).output().unwrap().stdout, b"");
    assert_eq!(judged(), live);
    let file = std::fs::read(folder.join("data/alerter.db")).unwrap();
    let wal = std::fs::read(folder.join("data/alerter.db-wal")).unwrap_or_default();
    let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(
        [file, wal].iter().all(|bytes| !has(bytes, b"127.0.0.1:9/secret")),
        "it keeps no receiver's secret"
    );
}
