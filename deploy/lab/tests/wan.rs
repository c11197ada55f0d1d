//! The real prober over the WAN, which delays, reorders, doubles and loses: packet by packet against what the WAN wrote down.
//!
//! They need root; without it each says on standard error that it did not run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "wan/world.rs"]
mod world;

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use crosswatch_lab::Site;
use crosswatch_lab::wan::Policy;
use crosswatch_prober::{Account, Engine, Probe, Protocol, Released};
use crosswatch_shared::observation::Outcome;
use world::{BOUND, World};

/// In one burst, 5 ms apart.
const PACKETS: u32 = 200;

/// The kernel stamps by the wall clock, the WAN counts by the steady one, and the first may be adjusted meanwhile.
const CLOCKS: Duration = Duration::from_micros(100);

fn require_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: network namespaces need root");
    }
    root
}

fn seed() -> String {
    let seed = fastrand::u64(..).to_string();
    println!("the WAN's seed: {seed}");
    seed
}

/// Sends one burst; what came of it, the engine, which still listens, and its account so far.
fn burst() -> (Released, Engine, Account, mpsc::Receiver<()>) {
    let probe = Probe {
        protocol: Protocol::Icmp,
        address: Some(Site::EuWest1.address().into()),
        every: Duration::from_secs(24 * 3600),
        timeout: Duration::from_secs(5),
        burst: PACKETS,
        size: None,
        beside: None,
    };
    let (ready, readied) = mpsc::channel();
    let engine = Engine::spawn(vec![probe], |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
    readied.recv_timeout(BOUND).unwrap();
    let mut taken = engine.take().unwrap();
    (taken.outcomes.pop_front().unwrap(), engine, taken.icmp, readied)
}

#[test]
fn each_round_trip_is_what_the_wan_took_both_ways_and_the_order_is_the_wans() {
    if !require_root("each_round_trip_is_what_the_wan_took_both_ways_and_the_order_is_the_wans") {
        return;
    }
    let world = World::new(&["--delay-ms", "40", "--jitter-ms", "20", "--seed", &seed()]);
    let (released, _, account, _) = world.inside(burst);
    let (record, detail) = (world.record(), released.detail.unwrap());
    assert_eq!((account.local, account.user_stamped, detail.user_stamped), (0, 0, false), "{account:?}");
    let took = record.round_trips();
    assert_eq!(took.len(), PACKETS as usize);
    for (index, rtt) in (0..).zip(&detail.burst) {
        let (rtt, took) = (Duration::from_secs_f64(rtt.unwrap() / 1e3), took[&(0, index, 0)]);
        // Of any other packet it would be less for every second one.
        assert!(rtt + CLOCKS >= took, "packet {index}: {rtt:?}, and the WAN took {took:?}");
        assert!(rtt < took + BOUND / 2, "packet {index}: {rtt:?}, and the WAN took {took:?}");
    }
    let spread = took.values().max().unwrap().saturating_sub(*took.values().min().unwrap());
    assert!(spread > Duration::from_millis(20), "{spread:?}");
    let order: Vec<u32> = record.replies.iter().map(|((_, index, _), _)| *index).collect();
    let overtaken = |place: usize| order[..place].iter().any(|before| *before > order[place]);
    let reordered = (0..order.len()).filter(|&place| overtaken(place)).count();
    assert!(reordered > 0, "{order:?}");
    assert_eq!(detail.reordered as usize, reordered, "{order:?}");
}

#[test]
fn what_the_wan_loses_and_doubles_is_counted_to_the_packet() {
    if !require_root("what_the_wan_loses_and_doubles_is_counted_to_the_packet") {
        return;
    }
    let world = World::new(&["--delay-ms", "40", "--jitter-ms", "20", "--seed", &seed()]);
    let policy = world.wan().report().unwrap().policies[0];
    world.wan().set(&[Policy { loss: 0.1, twice: 0.2, ..policy }; 2]).unwrap();
    let (released, record, account) = world.inside(|| {
        let (released, engine, mut account, _) = burst();
        let record = world.record();
        let answered: HashSet<_> = record.replies.iter().map(|(mark, _)| *mark).collect();
        let again = (record.replies.len() - answered.len()) as u64;
        assert!(again > 0, "nothing came twice");
        let begun = std::time::Instant::now();
        while account.duplicate < again {
            assert!(begun.elapsed() < BOUND, "{} of {again} doubles", account.duplicate);
            let more = engine.take().unwrap().icmp;
            account.duplicate += more.duplicate;
            account.late += more.late;
            account.stray += more.stray;
        }
        assert_eq!(account.duplicate, again);
        (released, record, account)
    });
    assert_eq!((account.local, account.late, account.stray), (0, 0, 0), "{account:?}");
    let Outcome::Reply { .. } = released.outcome else { panic!("{released:?}") };
    let burst = &released.detail.unwrap().burst;
    let answered: HashSet<u32> = record.replies.iter().map(|((_, index, _), _)| *index).collect();
    for (index, rtt) in (0..).zip(burst) {
        assert_eq!(rtt.is_some(), answered.contains(&index), "packet {index}");
    }
    assert!(burst.iter().any(Option::is_none), "nothing was lost");
    let counts = world.wan().report().unwrap().counts;
    let handed = |of: &[_]| of.len() as u64;
    assert!(
        counts[0].delivered >= handed(&record.requests) && counts[1].delivered >= handed(&record.replies)
    );
}
