//! STAMP probes against a reflector in another network namespace.
//!
//! They need root; without it each test says so on standard error and checks that this is the reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod pair;

use std::sync::mpsc;

use crosswatch_prober::{Account, Engine, Probe, Protocol, Released};
use crosswatch_shared::observation::{Lost, Outcome, Way};
use crosswatch_stamp::mirror::Policy;
use crosswatch_stamp::{Options, Reflector};

use pair::{BOUND, FAR_V4, FAR_V6, NEAR_V4, Pair, inside, probe, root};

const PORT: u16 = 862;

fn reflector(pair: &Pair, allow: &[&str]) -> Reflector {
    let allow = allow.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let listen = vec![([0, 0, 0, 0], PORT).into(), (std::net::Ipv6Addr::UNSPECIFIED, PORT).into()];
    inside(&pair.far, || Reflector::spawn(Options { listen, policy: Policy::new(allow) }).unwrap())
}

/// Sends until each probe has this many outcomes.
fn released(probes: &[Probe], each: usize) -> (Vec<Vec<Released>>, Account) {
    let (ready, readied) = mpsc::channel();
    let engine =
        Engine::spawn(probes.to_vec(), |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
    let mut found: Vec<Vec<Released>> = vec![Vec::new(); probes.len()];
    let mut udp = Account::default();
    while found.iter().any(|of| of.len() < each) {
        readied.recv_timeout(BOUND).unwrap();
        let taken = engine.take().unwrap();
        for released in taken.outcomes {
            found[released.probe].push(released);
        }
        udp.sent += taken.udp.sent;
        udp.local += taken.udp.local;
        udp.stray += taken.udp.stray;
        udp.late += taken.udp.late;
        udp.duplicate += taken.udp.duplicate;
    }
    (found, udp)
}

fn ways(released: &Released) -> Option<(Way, Way)> {
    released.detail.as_ref().and_then(|detail| detail.forward.zip(detail.back))
}

#[test]
fn a_reflector_answers_over_both_families_and_tells_of_both_ways() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let reflector = reflector(&pair, &["10.77.0.0/24", "fd77::/64"]);
    let burst = |to| Probe { burst: 3, ..probe(Protocol::Udp(PORT), to) };
    let (found, udp) = inside(&pair.near, || released(&[burst(FAR_V4), burst(FAR_V6)], 4));
    for of in found.iter().flatten() {
        let Outcome::Reply { rtt_ms } = of.outcome else { panic!("{of:?}") };
        assert!((0.0..400.0).contains(&rtt_ms), "{of:?}");
        let detail = of.detail.as_ref().unwrap();
        assert_eq!(detail.burst.len(), 3, "{of:?}");
        assert!(!detail.user_stamped && detail.jitter_ms.is_some(), "{of:?}");
        let (forward, back) = ways(of).unwrap();
        assert_eq!((forward.lost, back.lost), (0, 0), "{of:?}");
        assert!(forward.variation_ms.is_some() && back.variation_ms.is_some(), "{of:?}");
    }
    assert_eq!((udp.local, udp.stray, udp.late, udp.duplicate), (0, 0, 0, 0));
    let counts = reflector.counts().unwrap();
    assert_eq!((counts.refused, counts.malformed), (0, 0));
}

#[test]
fn a_loss_is_told_for_the_way_it_happened_on() {
    if !root() {
        return;
    }
    // What the far end does not let in is lost on the way there, what it does not let out on the way back.
    for (chain, port, forward) in [("input", "dport", true), ("output", "sport", false)] {
        let pair = Pair::new();
        let _reflector = reflector(&pair, &["10.77.0.0/24"]);
        pair.nft(&pair.far, chain, &format!("udp {port} {PORT} numgen inc mod 4 == 2 drop"));
        let (found, _) = inside(&pair.near, || released(&[probe(Protocol::Udp(PORT), FAR_V4)], 20));
        let [found] = &found[..] else { panic!("{found:?}") };
        // Of what was lost after the last reply nothing is known yet.
        let last = found.iter().rposition(|of| matches!(of.outcome, Outcome::Reply { .. })).unwrap();
        let lost = found[..last].iter().filter(|of| of.outcome == Outcome::Lost(Lost::Timeout)).count();
        assert!(lost >= 4, "{found:?}");
        let sum = |of: fn((Way, Way)) -> Way| {
            found[..=last].iter().filter_map(ways).map(|ways| of(ways).lost).sum::<i32>()
        };
        let told = (sum(|(forward, _)| forward), sum(|(_, back)| back));
        let lost = i32::try_from(lost).unwrap();
        assert_eq!(told, if forward { (lost, 0) } else { (0, lost) }, "{chain}: {found:?}");
    }
}

#[test]
fn nobody_there_is_refused_and_a_reflector_that_may_not_answer_is_silent() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let lost = |lost| {
        let (found, _) = inside(&pair.near, || released(&[probe(Protocol::Udp(PORT), FAR_V4)], 3));
        assert!(found[0].iter().all(|of| of.outcome == Outcome::Lost(lost)), "{found:?}");
    };
    lost(Lost::Refused);
    let reflector = reflector(&pair, &["10.78.0.0/24"]);
    lost(Lost::Timeout);
    assert!(reflector.counts().unwrap().refused >= 3, "{NEAR_V4} is not of its network");
}
