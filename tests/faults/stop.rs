//! A process that stands still for a while, as one does whose machine is suspended or starved.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use crosswatch_tests::root::require_root;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::audit::{audit, rows};
use crate::world::{SITES, World, through};

const EVERY: Duration = Duration::from_millis(100);

/// Longer than it takes a site to be silent (3 s, and 1 s of patience), and than the deadline of `fresh`.
const STOPPED: Duration = Duration::from_secs(6);

const RULES: &str = r#"
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "2 of 3"
deadline = "1m"
notify = ["hook"]
[[rule]]
name = "slow"
metric = "latency_ms"
above = 450
deadline = "1m"
notify = ["hook"]
[[rule]]
name = "fresh"
metric = "ping_ok"
below = 1
breach = "100 of 100"
deadline = "3s"
notify = ["hook"]
"#;

#[test]
fn a_process_that_stood_still_makes_up_for_nothing_and_accuses_nobody() {
    if !require_root("a_process_that_stood_still_makes_up_for_nothing_and_accuses_nobody") {
        return;
    }
    let world = World::new([3, 3], "every = \"100ms\", timeout = \"500ms\"", RULES);
    let mut program = world.start("run");
    world.wait_for_event_time(Duration::from_secs(2));
    program.process.signal(Signal::SIGSTOP);
    let stopped = SITES.map(|site| through(&world.journal(site)));
    // The fault itself, of this length.
    thread::sleep(STOPPED);
    program.process.signal(Signal::SIGCONT);
    world.wait_for_event_time(STOPPED + Duration::from_secs(5));
    program.process.signal(Signal::SIGTERM);
    assert!(program.process.wait_exit(Duration::from_secs(30)).success());
    let live: BTreeSet<[String; 4]> =
        program.process.lines().iter().filter_map(|line| transition(&line.text)).collect();
    world.drain();

    let told: Vec<String> = world.hook.all().into_iter().map(|message| message.body).collect();
    assert!(told.is_empty(), "{told:#?}");
    let audit = audit(&world);
    assert_eq!((audit.holes, audit.dead, audit.boots), (0, [0, 0], 2));
    let rows = rows(&world);
    for (site, stopped) in SITES.into_iter().zip(stopped) {
        check_pace(&rows, site, stopped);
    }
    let replayed: BTreeSet<[String; 4]> = world
        .tool("replay --from export.jsonl --format jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|json| ["rule", "subject", "state", "at"].map(|field| json[field].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(live, replayed, "what was judged live is what the rules say");
    // Each of the six probes, by the rule whose deadline passed and by no other.
    for (state, count) in [("unknown", 6), ("ok", 6), ("firing", 0), ("resolved", 0)] {
        let found = live.iter().filter(|[rule, _, of, _]| rule == "fresh" && of == state).count();
        assert_eq!(found, count, "{state}: {live:#?}");
    }
    assert_eq!(live.len(), 12, "{live:#?}");
}

/// The probes of a site had their pace: what was not sent while it stood still is not sent afterwards.
fn check_pace(rows: &[Value], site: &str, stopped: i64) {
    let mut probes: Vec<&Value> =
        rows.iter().filter(|row| row["site"] == site && row["kind"] == "probe").collect();
    probes.sort_by_key(|row| row["at"].as_str());
    let names: BTreeSet<&str> = probes.iter().map(|row| row["probe"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3);
    for name in names {
        let at: Vec<i64> =
            probes.iter().filter(|row| row["probe"] == name).map(|row| micros(&row["at"])).collect();
        let still = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(still > 4_000_000, "{name}: it did not stand still, but {still} µs at most");
        let every = i64::try_from(EVERY.as_micros()).unwrap();
        for (place, begin) in at.iter().enumerate().filter(|(_, at)| **at > stopped) {
            // One more, since a slot used late is followed by one used in time.
            let within = at[place..].iter().take_while(|at| **at < begin + 10 * every).count();
            assert!(within <= 11, "{name}: {within} sent within ten intervals of {begin}");
        }
    }
    let lost: Vec<_> =
        probes.iter().filter(|row| row.get("lost").is_some_and(|lost| lost != "local")).collect();
    assert!(lost.is_empty(), "the network lost nothing: {lost:#?}");
}

fn micros(at: &Value) -> i64 {
    at.as_str().unwrap().parse::<Timestamp>().unwrap().as_micros()
}

/// A transition out of a line of the log: rule, subject, state, time.
fn transition(line: &str) -> Option<[String; 4]> {
    let (_, fields) = line.split_once("transition rule=")?;
    let mut words = fields.split(' ');
    let rule = words.next()?.to_owned();
    let mut field =
        |name: &str| Some(words.next()?.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').to_owned());
    Some([rule, field("subject")?, field("state")?, field("at")?])
}
