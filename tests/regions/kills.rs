//! `kill -9` of collectors, publisher and alerter at random moments.
//!
//! `CROSSWATCH_SEED` makes a run's choices those of another, `CROSSWATCH_KILLS` says how often to kill.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use crosswatch_lab::{Fault, Process, Site};
use crosswatch_tests::deployment::{assert_each_once, wait_within};
use crosswatch_tests::judged;
use crosswatch_tests::root::require_root;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::books::{compare, wait_for_all_until_now};
use crate::world::{UNDER_WAY, World};

/// How often something is killed, unless told.
const KILLS: usize = 20;
/// The longest pause between two kills, in milliseconds.
const PAUSE: u64 = 2_500;
/// What takes how many milliseconds while processes are killed.
const SLOW: [(&str, u64); 2] = [("PutMetricData", 3_000), ("SendMessageBatch", 300)];
const WINDOW: Duration = Duration::from_secs(10);
/// How many notifications are under way at most: so many may come again after a kill.
const AT_ONCE: usize = 4;

/// SplitMix64, by Sebastiano Vigna: a few numbers that a seed gives again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn processes_killed_again_and_again_leave_every_statistic_exact_and_every_page_with_its_end() {
    if !require_root(
        "processes_killed_again_and_again_leave_every_statistic_exact_and_every_page_with_its_end",
    ) {
        return;
    }
    let seed = from_env("CROSSWATCH_SEED").unwrap_or_else(|| RandomState::new().hash_one(KILLS));
    let kills = from_env("CROSSWATCH_KILLS").unwrap_or(KILLS);
    println!("CROSSWATCH_SEED={seed} CROSSWATCH_KILLS={kills}");
    let mut random = Random(seed);
    let mut world = World::up();
    world.wait_until_up();

    // Kills are to come in the middle of calls, which take long enough for that; what was asked for is done all the same.
    for (operation, latency) in SLOW {
        let fault = json!({
            "id": operation, "match": {"operation": operation}, "effect": {"latency_ms": latency},
        });
        world.gate().add_fault(&fault).unwrap();
    }
    let victims = [
        Process::Publisher,
        Process::Alerter,
        Process::Collector(Site::UsEast1),
        Process::Collector(Site::EuWest1),
    ];
    let mut killed: BTreeMap<Process, usize> = BTreeMap::new();
    for kill in 0..kills {
        // Something to tell of, twice, in between.
        match kill * 6 / kills {
            1 | 3 if world.lab.faults().is_empty() => world.lab.fault(Fault::BlackHole).unwrap(),
            2 | 4 if !world.lab.faults().is_empty() => world.lab.heal().unwrap(),
            _ => {}
        }
        thread::sleep(Duration::from_millis(random.below(PAUSE)));
        let victim = victims[random.below(victims.len() as u64) as usize];
        world.lab.kill(victim, Signal::SIGKILL).unwrap();
        world.lab.start(victim).unwrap();
        *killed.entry(victim).or_default() += 1;
    }
    println!("killed: {killed:?}");
    for operation in SLOW.map(|(operation, _)| operation) {
        world.gate().remove_fault(operation).unwrap();
    }
    let end = wait_for_all_until_now(&world, WINDOW);
    for of in ["crosswatch_alerter_incidents_open", "crosswatch_alerter_notifications_owed"] {
        wait_within(UNDER_WAY, of, || world.of_alerter(of) == 0.0);
    }

    let rows = world.observed();
    let boots = assert_each_once(&rows);
    assert!(boots > Site::ALL.len(), "{boots} boots");
    let books = compare(&world, WINDOW, end);
    println!("{} observations of {boots} boots; {books:?}", rows.len());
    // A boot on another's heels may leave something behind at a put that nobody knows of; it is rare.
    assert!(books.uneven * 4 <= books.windows, "{books:?}");

    // What was told is what the rules say of what was received, and what was repeated was under way at a kill.
    let received = world.received();
    assert_each_once(&received);
    let mut expected = BTreeSet::new();
    for transition in world.replay(&received) {
        let word = |field: &str| transition[field].as_str().unwrap().to_owned();
        if ["firing", "resolved"].contains(&&*word("state")) {
            expected.insert([word("rule"), word("subject"), word("state")]);
        }
    }
    assert!(expected.len() > 2, "{expected:?}: too few to prove anything");
    let judged: BTreeSet<_> = judged::transitions(&world.alerter())
        .into_iter()
        .map(|[_, rule, subject, state]| [rule, subject, state])
        .collect();
    assert_eq!(judged, expected);
    // Each incident is told, and its end; what came again was under way at a kill.
    let incidents = judged::incidents(&world.alerter()).into_iter().filter(|of| !of.link.is_empty()).count();
    let texts = world.whole_texts();
    println!("{incidents} incidents: {texts:#?}");
    let most = AT_ONCE * killed.get(&Process::Alerter).copied().unwrap_or(0);
    for state in ["FIRING", "RESOLVED"] {
        let of_state = texts.iter().filter(|text| text.starts_with(state));
        let told =
            of_state.filter(|text| !text.contains("site-silent") && !text.contains("alerter-blind")).count();
        assert!(
            (incidents..=incidents + most).contains(&told),
            "{told} times {state} for {incidents} incidents"
        );
    }
}
