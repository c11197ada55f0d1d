//! A way that is too narrow for large packets is told from one that is down: with and without a router's word.
//!
//! They need root; without it each test says so on standard error and checks that this is the reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod pair;

use std::sync::mpsc;

use crosswatch_prober::{Engine, Probe, Protocol, Released};
use crosswatch_shared::observation::{Lost, Outcome};

use pair::{BOUND, FAR_V4, FAR_V6, Pair, allow_ping_sockets, inside, ip, probe, root, unlimited_icmp_errors};

const BEYOND_V4: &str = "10.78.0.2";
const BEYOND_V6: &str = "fd78::2";

/// A namespace behind the far one, which routes to it over a link of its own.
struct Beyond {
    pair: Pair,
    name: String,
}

impl Beyond {
    fn new() -> Self {
        let pair = Pair::new();
        let beyond = Self { name: format!("{}c", pair.far), pair };
        let (near, router, name) = (&beyond.pair.near, &beyond.pair.far, &beyond.name);
        ip(&format!("netns add {name}"));
        ip(&format!("-n {router} link add onward type veth peer name back netns {name}"));
        for (namespace, link, host, other) in [(router, "onward", 1, 2), (name, "back", 2, 1)] {
            ip(&format!("-n {namespace} addr add 10.78.0.{host}/24 dev {link}"));
            ip(&format!("-n {namespace} addr add fd78::{host}/64 dev {link} nodad"));
            ip(&format!("-n {namespace} link set {link} address 02:00:00:00:01:0{host} up"));
            let neighbour = format!("fd78::{other} lladdr 02:00:00:00:01:0{other} nud permanent dev {link}");
            ip(&format!("-n {namespace} neigh replace {neighbour}"));
        }
        for (link, namespace) in [("onward", router), ("back", name)] {
            pair::wait_until_up(namespace, link);
        }
        inside(router, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            unlimited_icmp_errors();
        });
        ip(&format!("-n {near} route add 10.78.0.0/24 via 10.77.0.2"));
        ip(&format!("-n {near} route add fd78::/64 via fd77::2"));
        ip(&format!("-n {name} route add default via 10.78.0.1"));
        ip(&format!("-n {name} -6 route add default via fd78::1"));
        beyond
    }

    /// How wide the way is beyond the router, there and back.
    fn width(&self, mtu: u32) {
        ip(&format!("-n {} link set onward mtu {mtu}", self.pair.far));
        ip(&format!("-n {} link set back mtu {mtu}", self.name));
    }
}

impl Drop for Beyond {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Small and large ones to a target.
fn both(to: &str, size: u16, place: usize) -> [Probe; 2] {
    let small = probe(Protocol::Icmp, to);
    [small.clone(), Probe { burst: 3, size: Some(size), beside: Some(place), ..small }]
}

/// Shows it all outcomes, until after some it has seen enough; that does not take this many.
fn until(engine: &Engine, readied: &mpsc::Receiver<()>, mut enough: impl FnMut(&Released) -> bool) {
    let (mut found, mut shown) = (false, 0);
    while !found {
        readied.recv_timeout(BOUND).unwrap();
        for released in engine.take().unwrap().outcomes {
            shown += 1;
            assert!(shown < 400, "{released:?}");
            found |= enough(&released);
        }
    }
}

/// The first outcomes of each probe, so many.
fn first(probes: &[Probe], count: usize) -> Vec<Vec<Released>> {
    let (ready, readied) = mpsc::channel();
    let engine =
        Engine::spawn(probes.to_vec(), |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
    let mut found: Vec<Vec<Released>> = vec![Vec::new(); probes.len()];
    until(&engine, &readied, |released| {
        found[released.probe].push(released.clone());
        found.iter().all(|of| of.len() >= count)
    });
    found
}

fn all_reply(found: &[Released]) {
    for released in found {
        assert!(matches!(released.outcome, Outcome::Reply { .. }), "{released:?}");
    }
}

fn all_too_big(found: &[Released], mtu: Option<u32>) {
    for released in found {
        assert_eq!(released.outcome, Outcome::Lost(Lost::TooBig), "{released:?}");
        assert_eq!(released.detail.as_ref().unwrap().mtu, mtu, "{released:?}");
    }
}

#[test]
fn packets_have_exactly_the_size_asked_for_and_are_never_fragmented() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // Fragments would have other lengths; in IPv4 the flag is looked at too (RFC 791).
    pair.nft(
        &pair.far,
        "input",
        "meta l4proto { icmp, ipv6-icmp } meta length 1300 ip frag-off & 0x4000 == 0x4000 accept; \
         meta nfproto ipv6 meta length 1300 icmpv6 type echo-request accept; \
         icmp type echo-request drop; icmpv6 type echo-request drop",
    );
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            for to in [FAR_V4, FAR_V6] {
                for (size, passes) in [(1299, false), (1300, true), (1301, false)] {
                    let probe = Probe { size: Some(size), ..probe(Protocol::Icmp, to) };
                    for released in &first(&[probe], 2)[0] {
                        let replied = matches!(released.outcome, Outcome::Reply { .. });
                        assert_eq!(replied, passes, "{size} bytes to {to}: {released:?}");
                    }
                }
            }
        });
    }
}

#[test]
fn what_the_own_interface_does_not_take_is_too_big_at_once() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    ip(&format!("-n {} link set near mtu 1300", pair.near));
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            for to in [FAR_V4, FAR_V6] {
                let found = first(&both(to, 1301, 0), 3);
                all_reply(&found[0]);
                all_too_big(&found[1], Some(1300));
                all_reply(&first(&both(to, 1300, 0), 3)[1]);
            }
        });
    }
}

#[test]
fn a_routers_word_names_the_size_and_a_way_made_wide_again_passes_at_once() {
    if !root() {
        return;
    }
    let beyond = Beyond::new();
    for ping in [true, false] {
        inside(&beyond.pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            for to in [BEYOND_V4, BEYOND_V6] {
                beyond.width(1300);
                let (ready, readied) = mpsc::channel();
                let probes = both(to, 1400, 0).to_vec();
                let engine =
                    Engine::spawn(probes, |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
                let (mut small, mut large) = (Vec::new(), Vec::new());
                until(&engine, &readied, |released| {
                    if released.probe == 0 { &mut small } else { &mut large }.push(released.clone());
                    small.len() > 3 && large.len() > 3
                });
                all_reply(&small);
                all_too_big(&large, Some(1300));
                // What the kernel remembers of the way must not matter.
                beyond.width(1500);
                until(&engine, &readied, |released| {
                    released.probe == 1 && matches!(released.outcome, Outcome::Reply { .. })
                });
            }
        });
    }
}

#[test]
fn silence_of_the_large_beside_answers_to_the_small_is_too_big_and_silence_of_both_is_not() {
    if !root() {
        return;
    }
    let beyond = Beyond::new();
    beyond.width(1300);
    beyond.pair.nft(
        &beyond.pair.far,
        "output",
        "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop",
    );
    for ping in [true, false] {
        inside(&beyond.pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let probes = [both(BEYOND_V4, 1400, 0), both(BEYOND_V6, 1400, 2)].concat();
            let found = first(&probes, 4);
            for place in [0, 2] {
                all_reply(&found[place]);
                all_too_big(&found[place + 1], None);
            }
        });
    }
    beyond.pair.nft(
        &beyond.pair.far,
        "forward",
        "icmp type echo-request drop; icmpv6 type echo-request drop",
    );
    inside(&beyond.pair.near, || {
        let probes = [both(BEYOND_V4, 1400, 0), both(BEYOND_V6, 1400, 2)].concat();
        for released in first(&probes, 4).iter().flatten() {
            assert_eq!(released.outcome, Outcome::Lost(Lost::Timeout), "{released:?}");
        }
    });
}
