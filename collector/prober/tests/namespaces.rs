//! Real packets between two network namespaces: each kind of outcome comes as it should.
//!
//! They need root; without it each test says so on standard error and checks that this is the reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod pair;

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use crosswatch_prober::{Engine, Probe, Protocol};
use crosswatch_shared::observation::{Lost, Outcome};

use pair::{
    BOUND, FAR_V4, FAR_V6, Pair, allow_ping_sockets, inside, ip, outcomes, probe, responder, root, run,
    unlimited_icmp_errors,
};

/// Every outcome of every probe is this loss.
fn all_lost(probes: &[Probe], lost: Lost) {
    let (found, _, _) = outcomes(probes, 3);
    for (probe, found) in probes.iter().zip(found) {
        assert!(
            found.iter().all(|outcome| *outcome == Outcome::Lost(lost)),
            "{probe:?} should be {lost:?}: {found:?}"
        );
    }
}

fn all_reply(probes: &[Probe]) {
    let (found, icmp, tcp) = outcomes(probes, 3);
    for (probe, found) in probes.iter().zip(found) {
        for outcome in found {
            let Outcome::Reply { rtt_ms } = outcome else { panic!("{probe:?}: {outcome:?}") };
            assert!(rtt_ms > 0.0 && rtt_ms <= 400.0, "{probe:?}: {rtt_ms}");
        }
    }
    assert_eq!((icmp.late, icmp.duplicate, icmp.stray, icmp.local), (0, 0, 0, 0));
    assert_eq!(icmp.user_stamped, 0, "the kernel stamps both ends over veth, on sockets of each kind");
    assert_eq!(tcp.local, 0);
}

fn both_and_tcp(port: u16) -> Vec<Probe> {
    vec![
        probe(Protocol::Icmp, FAR_V4),
        probe(Protocol::Icmp, FAR_V6),
        probe(Protocol::Tcp(port), FAR_V4),
        probe(Protocol::Tcp(port), FAR_V6),
    ]
}

/// How many sockets of this kind the namespace has, as the kernel lists them.
fn sockets(kind: &str) -> usize {
    let list = fs::read_to_string(format!("/proc/thread-self/net/{kind}")).unwrap();
    list.lines().count() - 1
}

#[test]
fn replies_come_over_ping_sockets() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let listener = inside(&pair.far, || TcpListener::bind("[::]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    inside(&pair.near, || {
        allow_ping_sockets();
        all_reply(&both_and_tcp(port));
        let engine = Engine::spawn(both_and_tcp(port), |_, _| true, || ()).unwrap();
        assert_eq!((sockets("raw"), sockets("raw6")), (0, 0), "the ping sockets suffice");
        drop(engine);
    });
}

#[test]
fn replies_come_over_raw_sockets_where_ping_sockets_are_not_allowed() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let listener = inside(&pair.far, || TcpListener::bind("[::]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    inside(&pair.near, || {
        fs::write("/proc/sys/net/ipv4/ping_group_range", "1 0").unwrap();
        all_reply(&both_and_tcp(port));
        let engine = Engine::spawn(both_and_tcp(port), |_, _| true, || ()).unwrap();
        assert_eq!((sockets("raw"), sockets("raw6")), (1, 1));
        drop(engine);
    });
}

#[test]
fn what_is_dropped_times_out() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    pair.nft(&pair.far, "input", "meta l4proto { icmp, tcp } drop; icmpv6 type echo-request drop");
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            all_lost(&both_and_tcp(80), Lost::Timeout);
        });
    }
}

#[test]
fn an_icmp_word_that_there_is_no_way_is_unreachable_at_once() {
    if !root() {
        return;
    }
    for ping in [true, false] {
        let pair = Pair::new();
        inside(&pair.far, unlimited_icmp_errors);
        pair.nft(
            &pair.far,
            "input",
            "meta l4proto { icmp, tcp } meta nfproto ipv4 reject with icmp host-unreachable; \
             icmpv6 type echo-request reject with icmpv6 addr-unreachable; \
             meta nfproto ipv6 meta l4proto tcp reject with icmpv6 addr-unreachable",
        );
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let mut probes = both_and_tcp(80);
            for probe in &mut probes {
                // It must not be the timeout that ends them.
                probe.timeout = BOUND * 2;
            }
            all_lost(&probes, Lost::Unreachable);
        });
    }
}

/// RFC 792 and RFC 4443 have more words than these; these are what nft can say.
#[test]
fn each_kind_of_refusal_on_the_way_is_told_for_what_it_is() {
    if !root() {
        return;
    }
    let v4 = [
        ("net-unreachable", Lost::Unreachable),
        ("host-unreachable", Lost::Unreachable),
        ("net-prohibited", Lost::Unreachable),
        ("host-prohibited", Lost::Unreachable),
        ("admin-prohibited", Lost::Unreachable),
        ("prot-unreachable", Lost::Refused),
        ("port-unreachable", Lost::Refused),
    ];
    let v6 = [
        ("no-route", Lost::Unreachable),
        ("admin-prohibited", Lost::Unreachable),
        ("addr-unreachable", Lost::Unreachable),
        ("policy-fail", Lost::Unreachable),
        ("reject-route", Lost::Unreachable),
        ("port-unreachable", Lost::Refused),
    ];
    let pair = Pair::new();
    inside(&pair.far, unlimited_icmp_errors);
    let mut rules = String::new();
    let mut kinds = Vec::new();
    for (family, to, echo, kind, lost) in v4
        .map(|(kind, lost)| ("ip", "10.77.1.", "icmp", kind, lost))
        .into_iter()
        .chain(v6.map(|(kind, lost)| ("ip6", "fd77:1::", "icmpv6", kind, lost)))
    {
        let to = format!("{to}{}", kinds.len() + 1);
        rules += &format!("{family} daddr {to} reject with {echo} {kind};");
        kinds.push((Probe { timeout: BOUND * 2, ..probe(Protocol::Icmp, &to) }, lost));
    }
    pair.nft(&pair.far, "input", &rules);
    ip(&format!("-n {} route add local 10.77.1.0/24 dev lo", pair.far));
    ip(&format!("-n {} route add local fd77:1::/64 dev lo", pair.far));
    ip(&format!("-n {} route add 10.77.1.0/24 via {FAR_V4}", pair.near));
    ip(&format!("-n {} route add fd77:1::/64 via {FAR_V6}", pair.near));
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let probes: Vec<Probe> = kinds.iter().map(|(probe, _)| probe.clone()).collect();
            let (found, _, _) = outcomes(&probes, 2);
            for ((probe, lost), found) in kinds.iter().zip(found) {
                assert!(found.iter().all(|of| *of == Outcome::Lost(*lost)), "{probe:?}: {found:?}");
            }
        });
    }
}

#[test]
fn one_target_without_a_way_takes_no_other_with_it() {
    if !root() {
        return;
    }
    for ping in [true, false] {
        let pair = Pair::new();
        inside(&pair.far, unlimited_icmp_errors);
        ip(&format!("-n {} addr add 10.77.0.3/24 dev far", pair.far));
        pair.nft(&pair.far, "input", "ip daddr 10.77.0.3 reject with icmp host-unreachable");
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let fast = |to| Probe { every: Duration::from_millis(2), ..probe(Protocol::Icmp, to) };
            let (found, _, _) = outcomes(&[fast("10.77.0.3"), fast(FAR_V4)], 200);
            assert!(found[0].iter().all(|outcome| *outcome == Outcome::Lost(Lost::Unreachable)));
            assert!(
                found[1].iter().all(|outcome| matches!(outcome, Outcome::Reply { .. })),
                "{:?}",
                found[1]
            );
        });
    }
}

#[test]
fn a_refused_connection_is_refused() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    pair.nft(&pair.far, "input", "tcp dport 81 reject with tcp reset");
    inside(&pair.near, || {
        all_lost(
            &[
                probe(Protocol::Tcp(80), FAR_V4),
                probe(Protocol::Tcp(80), FAR_V6),
                probe(Protocol::Tcp(81), FAR_V4),
            ],
            Lost::Refused,
        );
    });
}

#[test]
fn no_route_and_a_firewall_of_our_own_are_unreachable() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let elsewhere = [
        probe(Protocol::Icmp, "10.99.0.1"),
        probe(Protocol::Icmp, "fd99::1"),
        probe(Protocol::Tcp(80), "10.99.0.1"),
        probe(Protocol::Tcp(80), "fd99::1"),
    ];
    inside(&pair.near, || all_lost(&elsewhere, Lost::Unreachable));
    pair.nft(&pair.near, "output", "icmp type echo-request drop; icmpv6 type echo-request drop");
    inside(&pair.near, || all_lost(&both_and_tcp(80)[..2], Lost::Unreachable));
}

#[test]
fn a_machine_without_room_to_send_is_local_and_no_loss_of_the_link() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    ip(&format!("-n {} neigh replace {FAR_V4} lladdr 02:00:00:00:00:02 nud permanent dev near", pair.near));
    let tc = |arguments: &str| {
        let words = format!("netns exec {} tc qdisc {arguments}", pair.near);
        run("ip", &words.split(' ').collect::<Vec<_>>());
    };
    for ping in [false, true] {
        // Nothing fits into the queue of the interface.
        tc("add dev near root pfifo limit 0");
        // The kernel says so on all sockets but IPv6's ping sockets, which call such a packet sent.
        let told = if ping { &[FAR_V4][..] } else { &[FAR_V4, FAR_V6] };
        let probes: Vec<Probe> = told.iter().map(|to| probe(Protocol::Icmp, to)).collect();
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let (found, icmp, _) = outcomes(&probes, 5);
            let all = found.iter().flatten().all(|outcome| *outcome == Outcome::Lost(Lost::Local));
            assert!(all, "{found:?}");
            assert!(icmp.local >= 5 && icmp.local_error.unwrap().contains("ENOBUFS"));
        });
        tc("del dev near root");
        inside(&pair.near, || all_reply(&probes));
    }
}

#[test]
fn nobody_at_the_address_is_unreachable_once_the_kernel_has_given_up() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    inside(&pair.near, || {
        unlimited_icmp_errors();
        let probes =
            ["10.77.0.99", "fd77::99"].map(|to| Probe { timeout: BOUND, ..probe(Protocol::Icmp, to) });
        all_lost(&probes, Lost::Unreachable);
    });
}

#[test]
fn a_name_never_resolved_is_local_until_it_has_an_address() {
    let probe = Probe { address: None, ..probe(Protocol::Tcp(1), "127.0.0.1") };
    let (ready, readied) = mpsc::channel();
    let engine = Engine::spawn(vec![probe], |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
    readied.recv_timeout(BOUND).unwrap();
    let taken = engine.take().unwrap();
    assert_eq!(taken.outcomes[0].outcome, Outcome::Lost(Lost::Local));
    assert_eq!(taken.tcp.local_error.as_deref(), Some("the target's name was never resolved"));
    engine.set_address(0, Ipv4Addr::LOCALHOST.into());
    loop {
        readied.recv_timeout(BOUND).unwrap();
        let outcomes = engine.take().unwrap().outcomes;
        if outcomes.iter().any(|released| released.outcome == Outcome::Lost(Lost::Refused)) {
            break;
        }
    }
}

#[test]
fn strays_count_for_nothing_and_duplicates_once() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // A wrong proof, another sequence number, and only then the reply, twice.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |_| {
            vec![
                (Duration::ZERO, Some(31)),
                (Duration::ZERO, Some(7)),
                (Duration::from_millis(100), None),
                (Duration::from_millis(120), None),
            ]
        })
    });
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let (found, icmp, _) = outcomes(&[probe(Protocol::Icmp, FAR_V4)], 20);
            for outcome in &found[0] {
                let Outcome::Reply { rtt_ms } = outcome else { panic!("{outcome:?}") };
                assert!(*rtt_ms >= 100.0, "a stray was taken for the reply: {rtt_ms}");
            }
            assert!(icmp.stray >= 40, "{icmp:?}");
            assert!(icmp.duplicate >= 10, "{icmp:?}");
            assert_eq!(icmp.late, 0);
        });
    }
}

#[test]
fn a_reply_from_somebody_else_is_a_stray() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    ip(&format!("-n {} addr add 10.77.0.3/24 dev far", pair.far));
    let _responder = inside(&pair.far, || responder("10.77.0.3", |_| vec![(Duration::ZERO, None)]));
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let (found, icmp, _) = outcomes(&[probe(Protocol::Icmp, FAR_V4)], 3);
            assert!(found[0].iter().all(|outcome| *outcome == Outcome::Lost(Lost::Timeout)), "{found:?}");
            assert!(icmp.stray >= 3, "{icmp:?}");
        });
    }
}

#[test]
fn a_reply_after_its_timeout_is_late_and_the_probe_stays_lost() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let _responder = inside(&pair.far, || responder(FAR_V4, |_| vec![(Duration::from_millis(300), None)]));
    inside(&pair.near, || {
        let probe = Probe { timeout: Duration::from_millis(100), ..probe(Protocol::Icmp, FAR_V4) };
        let (found, icmp, _) = outcomes(&[probe], 20);
        assert!(found[0].iter().all(|outcome| *outcome == Outcome::Lost(Lost::Timeout)), "{found:?}");
        assert!(icmp.late >= 5, "{icmp:?}");
        assert_eq!(icmp.duplicate, 0);
    });
}

#[test]
fn outcomes_are_released_in_the_order_of_sending() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // Every third has no answer, and the others overtake one another.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |asked| match asked.sequence % 3 {
            0 => vec![],
            1 => vec![(Duration::from_millis(200), None)],
            _ => vec![(Duration::ZERO, None)],
        })
    });
    inside(&pair.near, || {
        let (ready, readied) = mpsc::channel();
        let engine = Engine::spawn(
            vec![probe(Protocol::Icmp, FAR_V4)],
            |_, _| true,
            move || ready.send(()).unwrap_or_default(),
        )
        .unwrap();
        let mut all = Vec::new();
        let mut promise = None;
        while all.len() < 30 {
            readied.recv_timeout(BOUND).unwrap();
            let taken = engine.take().unwrap();
            for released in taken.outcomes {
                assert!(Some(released.at) >= promise, "earlier than promised");
                all.push(released);
            }
            promise = Some(taken.through);
        }
        assert!(all.is_sorted_by(|one, next| one.at < next.at));
        let kinds = all.iter().fold(HashMap::new(), |mut kinds, released| {
            *kinds.entry(matches!(released.outcome, Outcome::Reply { .. })).or_insert(0) += 1;
            kinds
        });
        assert_eq!((kinds[&true], kinds[&false]), (20, 10));
    });
}
