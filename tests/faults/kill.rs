//! `kill -9` in the middle of load, at random moments, again and again.
//!
//! `CROSSWATCH_SEED` makes a run's choices those of another, `CROSSWATCH_KILLS` says how often to kill.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crosswatch_tests::root::require_root;

use crate::audit::{Audit, audit};
use crate::world::{OUTAGE_RULE, Program, SITES, World, number};

/// How often something is killed, unless told.
const KILLS: usize = 16;

/// How many notifications are under way at most: so many may come again after a kill.
const AT_ONCE: usize = 4;

const PROBES: u8 = 50;

const LOSSY: &str = r#"
[[rule]]
name = "lossy"
metric = "loss_percent"
period = "1s"
above = 30
notify = ["hook"]
"#;

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
fn the_whole_program_killed_again_and_again_loses_and_repeats_nothing() {
    survives("the_whole_program_killed_again_and_again_loses_and_repeats_nothing", &["run"]);
}

#[test]
fn any_of_the_separate_processes_killed_again_and_again_loses_and_repeats_nothing() {
    survives(
        "any_of_the_separate_processes_killed_again_and_again_loses_and_repeats_nothing",
        &["collector --site here", "collector --site there", "publisher", "alerter"],
    );
}

fn survives(test: &str, jobs: &[&str]) {
    if !require_root(test) {
        return;
    }
    let seed = from_env("CROSSWATCH_SEED").unwrap_or_else(|| RandomState::new().hash_one(test));
    let kills = from_env("CROSSWATCH_KILLS").unwrap_or(KILLS);
    println!("CROSSWATCH_SEED={seed} CROSSWATCH_KILLS={kills}");
    let world =
        World::new([PROBES / 2; 2], "every = \"20ms\", timeout = \"60ms\"", &format!("{OUTAGE_RULE}{LOSSY}"));
    let running = kill_now_and_then(&world, Random(seed), kills, jobs);
    // Long enough for the last periods to be published and for what fires to resolve.
    world.wait_for_event_time(Duration::from_secs(5));
    running.into_iter().for_each(Program::stop);
    world.drain();
    let Audit { observations, boots, datapoints, notifications, repeated, holes, dead } = audit(&world);
    println!(
        "{observations} observations of {boots} boots, {datapoints} datapoints, {notifications} notifications, \
         {repeated} of them again"
    );
    assert_eq!(dead, [0, 0], "dead letters");
    assert_eq!(holes, 0, "observations that never came to the journal, between others that did");
    assert!(boots > SITES.len(), "{boots} boots");
    assert!(notifications > kills, "{notifications} notifications: too few to prove anything");
    assert!(repeated <= kills * AT_ONCE, "{repeated} notifications came again");
}

/// Kills while addresses lose what is sent to them, and starts again what was killed. Gives what runs in the end, when
/// nothing is lost any more.
fn kill_now_and_then(world: &World, mut random: Random, kills: usize, jobs: &[&str]) -> Vec<Program> {
    let mut running: Vec<Program> = jobs.iter().map(|job| world.start(job)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let losing = Random(!random.0);
        scope.spawn(|| lose_now_and_then(world, losing, &done));
        // Also when this panics, or its panic would wait for ever.
        let _done = SetOnDrop(&done);
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(random.below(1_000)));
            let victim = random.below(jobs.len() as u64) as usize;
            running.remove(victim).process.kill();
            // What is in the journal now stays there.
            let kept = SITES.map(|site| kept(world, site));
            running.insert(victim, world.start(jobs[victim]));
            for (site, (id, total)) in SITES.into_iter().zip(kept) {
                let now = number(&world.journal(site), &format!("SELECT total FROM batch WHERE id = {id}"));
                assert_eq!(now, total, "entry {id} of the journal of {site}");
            }
        }
    });
    running
}

/// Until it is done, other addresses lose what is sent to them every now and then; in the end none does.
fn lose_now_and_then(world: &World, mut random: Random, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let lost: Vec<u8> = (2..2 + PROBES).filter(|_| random.below(12) == 0).collect();
        world.lose(&lost);
        thread::sleep(Duration::from_millis(100 + random.below(400)));
        world.lose(&[]);
        thread::sleep(Duration::from_millis(random.below(400)));
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The newest entry of a journal and how many observations there were up to it.
fn kept(world: &World, site: &str) -> (i64, i64) {
    let journal = world.journal(site);
    let id = number(&journal, "SELECT max(id) FROM batch");
    (id, number(&journal, &format!("SELECT total FROM batch WHERE id = {id}")))
}
