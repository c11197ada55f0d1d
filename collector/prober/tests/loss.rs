//! What is lost, doubled, reordered or made up on the way is counted as it was: against what the firewall counted, or
//! what the responder was told to do.
//!
//! They need root; without it each test says so on standard error and checks that this is the reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod pair;

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use crosswatch_prober::{Probe, Protocol};
use crosswatch_shared::observation::{Lost, Outcome};

use pair::{
    FAR_V4, FAR_V6, NEAR_V4, Pair, allow_ping_sockets, inside, ip, once, outcomes, probe, responder, root,
};

fn burst(packets: u32, to: &str) -> Probe {
    Probe { burst: packets, ..probe(Protocol::Icmp, to) }
}

/// How many packets the rule of this comment has met.
fn counted(namespace: &str) -> u64 {
    let out =
        Command::new("ip").args(["netns", "exec", namespace, "nft", "list", "ruleset"]).output().unwrap();
    let rules = String::from_utf8_lossy(&out.stdout).into_owned();
    let packets = rules.split("counter packets ").nth(1).unwrap_or_else(|| panic!("no counter in {rules}"));
    packets.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn loss_at_random_is_counted_to_the_packet() {
    if !root() {
        return;
    }
    const SENT: u64 = 4 * 300;
    for percent in [5u32, 20] {
        let pair = Pair::new();
        let rule = format!("icmp type echo-request numgen random mod 100 < {percent} counter drop");
        pair.nft(&pair.far, "input", &rule);
        let (found, account) = inside(&pair.near, || {
            allow_ping_sockets();
            once(&vec![burst(300, FAR_V4); 4])
        });
        let lost: usize = found
            .iter()
            .map(|of| of.detail.as_ref().unwrap().burst.iter().filter(|rtt| rtt.is_none()).count())
            .sum();
        assert_eq!(lost as u64, counted(&pair.far), "{percent} %");
        let (mean, part) = (SENT as f64 * f64::from(percent) / 100.0, f64::from(percent) / 100.0);
        let five_sigma = 5.0 * (mean * (1.0 - part)).sqrt();
        assert!((lost as f64 - mean).abs() < five_sigma, "{lost} of {SENT} at {percent} %");
        assert_eq!((account.local, account.duplicate, account.late, account.stray), (0, 0, 0, 0));
        assert!(found.iter().all(|of| matches!(of.outcome, Outcome::Reply { .. })));
    }
}

#[test]
fn loss_by_turns_hits_the_same_place_of_each_burst() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    pair.nft(
        &pair.far,
        "input",
        "icmp type echo-request numgen inc mod 5 == 2 drop; icmpv6 type echo-request drop",
    );
    inside(&pair.near, || {
        allow_ping_sockets();
        let probes = [burst(5, FAR_V4), Probe { timeout: Duration::from_millis(100), ..burst(3, FAR_V6) }];
        let (ready, readied) = mpsc::channel();
        let engine = crosswatch_prober::Engine::spawn(
            probes.to_vec(),
            |_, _| true,
            move || ready.send(()).unwrap_or_default(),
        )
        .unwrap();
        let mut found = [Vec::new(), Vec::new()];
        while found.iter().any(|of| of.len() < 10) {
            readied.recv_timeout(pair::BOUND).unwrap();
            for released in engine.take().unwrap().outcomes {
                found[released.probe].push(released);
            }
        }
        for released in &found[0] {
            let detail = released.detail.as_ref().unwrap();
            let whole: Vec<bool> = detail.burst.iter().map(Option::is_some).collect();
            assert_eq!(whole, [true, true, false, true, true], "{detail:?}");
            let mut rtts: Vec<f64> = detail.burst.iter().flatten().copied().collect();
            rtts.sort_by(f64::total_cmp);
            assert_eq!(released.outcome, Outcome::Reply { rtt_ms: rtts[1] }, "the lower median of four");
            assert!(detail.jitter_ms.is_some() && detail.reordered == 0, "{detail:?}");
        }
        for released in &found[1] {
            assert_eq!(released.outcome, Outcome::Lost(Lost::Timeout));
            assert_eq!(released.detail.as_ref().unwrap().burst, [None; 3]);
        }
    });
}

#[test]
fn a_run_of_losses_is_told_packet_by_packet() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // Ten in a row, then thirty that pass.
    pair.nft(&pair.far, "input", "icmp type echo-request numgen inc mod 40 < 10 counter drop");
    inside(&pair.near, || {
        allow_ping_sockets();
        let (found, account) = once(&[burst(100, FAR_V4)]);
        let detail = found[0].detail.as_ref().unwrap();
        let lost: Vec<usize> = (0..100).filter(|&place| detail.burst[place].is_none()).collect();
        let runs: Vec<usize> = (0..10).chain(40..50).chain(80..90).collect();
        assert_eq!(lost, runs);
        assert_eq!(lost.len() as u64, counted(&pair.far));
        assert_eq!((detail.reordered, account.local, account.late, account.duplicate), (0, 0, 0, 0));
    });
}

#[test]
fn a_reply_overtaken_within_a_burst_is_reordered_and_stretches_the_jitter() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // The first is answered when all others have been, each of them so much later than the one before that this
    // machine's own delays do not count.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |asked| {
            let turn = if asked.index == 0 { 5 } else { asked.index };
            vec![(Duration::from_millis(u64::from(turn) * 100), None)]
        })
    });
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let (found, _) = once(&[Probe { timeout: pair::BOUND, ..burst(5, FAR_V4) }]);
            let detail = found[0].detail.as_ref().unwrap();
            assert_eq!(detail.reordered, 1, "{detail:?}");
            assert!(detail.burst[0].unwrap() >= 500.0, "{detail:?}");
            // RFC 3550's estimate, by hand over the replies as they came.
            let came = [1, 2, 3, 4, 0].map(|place: usize| detail.burst[place].unwrap());
            let jitter =
                came.windows(2).fold(0.0, |jitter, of| jitter + ((of[1] - of[0]).abs() - jitter) / 16.0);
            assert!((detail.jitter_ms.unwrap() - jitter).abs() < 0.01, "{detail:?}");
            assert!(!detail.user_stamped, "the kernel stamps veth");
        });
    }
}

#[test]
fn duplicates_are_counted_to_the_packet() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // The last of the burst is answered late, so that all doubles have come by the end.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |asked| match asked.index {
            99 => vec![(Duration::from_millis(300), None)],
            _ => vec![(Duration::ZERO, None); 3],
        })
    });
    inside(&pair.near, || {
        allow_ping_sockets();
        let (found, account) = once(&[burst(100, FAR_V4)]);
        assert!(found[0].detail.as_ref().unwrap().burst.iter().all(Option::is_some));
        assert_eq!((account.duplicate, account.late, account.stray), (99 * 2, 0, 0));
    });
}

/// Echo replies as fast as they go, none of which counts: of a wrong proof, cut short, empty; two in three of them to the
/// socket of the first request that comes here, so that a ping socket gets them too, the others to nobody's.
fn flood(count: usize) {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
            .unwrap();
    let to: SocketAddr = format!("{NEAR_V4}:0").parse().unwrap();
    socket.set_read_timeout(Some(pair::BOUND)).unwrap();
    let id = loop {
        let mut packet = [0; 256];
        let length = (&socket).read(&mut packet).unwrap();
        if length >= 28 && packet[20] == 8 {
            break u16::from_be_bytes([packet[24], packet[25]]);
        }
    };
    let begun = std::time::Instant::now();
    for number in 0..count {
        let mut reply = vec![0u8; [32, 32, 20, 8, 4, 0, 31, 56][number % 8]];
        if let Some(field) = reply.get_mut(4..6) {
            let id = if number % 3 == 0 { u16::try_from(number * 977 % 65_536).unwrap() } else { id };
            field.copy_from_slice(&id.to_be_bytes());
        }
        if let Some(field) = reply.get_mut(6..8) {
            field.copy_from_slice(&u16::try_from(number % 256).unwrap().to_be_bytes());
        }
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        let sum: u32 = reply.chunks(2).map(word).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        if let Some(field) = reply.get_mut(2..4) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        let _ = socket.send_to(&reply, &to.into());
    }
    eprintln!("{:.0} made-up replies a second", count as f64 / begun.elapsed().as_secs_f64());
}

#[test]
fn a_flood_of_made_up_replies_neither_shortens_a_round_trip_nor_makes_a_loss() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    ip(&format!("-n {} addr add 10.77.0.3/24 dev far", pair.far));
    // Besides the flood each request has a copy with a wrong proof and one under another id at once, then the reply.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |_| {
            vec![(Duration::ZERO, Some(31)), (Duration::ZERO, Some(5)), (Duration::from_millis(50), None)]
        })
    });
    for ping in [true, false] {
        let found = std::thread::scope(|scope| {
            scope.spawn(|| inside(&pair.far, || flood(200_000)));
            inside(&pair.near, || {
                if ping {
                    allow_ping_sockets();
                }
                let (found, icmp, _) = outcomes(&[probe(Protocol::Icmp, FAR_V4)], 40);
                // Besides the copies, of the flood what is long enough to be one of ours.
                assert!(icmp.stray >= 1_000, "{icmp:?}");
                found
            })
        });
        let mut replies = 0;
        for outcome in &found[0] {
            match outcome {
                Outcome::Reply { rtt_ms } => {
                    replies += 1;
                    assert!((50.0..400.0).contains(rtt_ms), "made up: {rtt_ms}");
                }
                // Where this machine could not keep up with the flood it must say so.
                lost => assert_eq!(*lost, Outcome::Lost(Lost::Local)),
            }
        }
        assert!(replies > 0, "{found:?}");
    }
}
