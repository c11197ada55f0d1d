//! Real packets through two routers: each fault is seen for what it is.
//!
//! They need root; without it each test says so on standard error.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod chain;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use chain::{Chain, FAR, FAR_V4, FAR_V6, FIRST, NEAR, SECOND, address, set};
use crosswatch_evidence::{Protocol, Request, WITHIN, capture};
use crosswatch_shared::evidence::{Evidence, Part, Path, Piece, Route, RouteKind, Said, Sweep};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

/// Set for the child that gives up its rights.
const CHILD: &str = "CROSSWATCH_TEST_CHILD";

/// Where the target is.
const NETS: [&str; 2] = ["10.78.2.0/24", "fd78:2::/64"];

fn look(chain: &Chain, target: &str, protocol: Protocol) -> Evidence {
    let request = Request { target: address(target), protocol, within: WITHIN };
    let evidence = chain.inside(NEAR, || capture(&request));
    eprintln!("{}\n{}", evidence.summary(), serde_json::to_string(&evidence).unwrap());
    evidence
}

/// By each protocol over both families, all at once.
fn looks(chain: &Chain) -> Vec<Evidence> {
    let protocols = [Protocol::Icmp, Protocol::Tcp { port: 9 }, udp(9)];
    thread::scope(|scope| {
        let started: Vec<_> = [FAR_V4, FAR_V6]
            .into_iter()
            .flat_map(|far| protocols.clone().map(|protocol| scope.spawn(move || look(chain, far, protocol))))
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn udp(port: u16) -> Protocol {
    Protocol::Udp { port, payload: vec![0; 44] }
}

fn path(evidence: &Evidence) -> &Path {
    evidence.path.seen().unwrap_or_else(|| panic!("no path: {evidence:?}"))
}

fn route(evidence: &Evidence) -> &Route {
    evidence.route.seen().unwrap_or_else(|| panic!("no route: {evidence:?}"))
}

fn sweep(evidence: &Evidence) -> Sweep {
    *evidence.sweep.seen().unwrap_or_else(|| panic!("no sweep: {evidence:?}"))
}

/// Who answered what, by TTL.
fn hops(evidence: &Evidence) -> Vec<(u8, Option<IpAddr>, Said)> {
    path(evidence).hops.iter().map(|hop| (hop.ttl, hop.address, hop.said)).collect()
}

fn why<T: std::fmt::Debug>(part: &Part<T>) -> &str {
    match part {
        Part::Absent { absent } => absent,
        Part::Seen(seen) => panic!("{seen:?}"),
    }
}

fn routers(target: IpAddr) -> [Option<IpAddr>; 2] {
    if target.is_ipv4() { ["10.78.0.2", "10.78.1.2"] } else { ["fd78:0::2", "fd78:1::2"] }
        .map(|text| Some(address(text)))
}

/// All is well: the target says this, and everything else is as the chain was made.
fn whole(evidence: &Evidence, said: Said) {
    let target = evidence.target;
    let [first, second] = routers(target);
    assert_eq!(
        hops(evidence),
        [(1, first, Said::TimeExceeded), (2, second, Said::TimeExceeded), (3, Some(target), said)]
    );
    let path = path(evidence);
    assert!(path.reached && path.hidden_from.is_none());
    assert!(path.hops.iter().all(|hop| hop.rtt_ms.is_some_and(|rtt| rtt > 0.0)), "{path:?}");

    let near = address(if target.is_ipv4() { "10.78.0.1" } else { "fd78:0::1" });
    let route = route(evidence);
    assert_eq!((route.kind, route.source, route.gateway), (RouteKind::Unicast, Some(near), first));
    assert_eq!((route.interface.as_deref(), route.table), (Some("right"), Some(254)));
    assert_eq!((route.route_mtu, route.interface_mtu), (None, Some(1500)));

    let neighbour = evidence.neighbour.seen().unwrap();
    assert_eq!(Some(neighbour.address), first);
    assert!(!neighbour.state.is_missing());
    assert_eq!(neighbour.link_address.as_ref().unwrap().len(), 17);

    assert!(evidence.loopback.seen().unwrap().rtt_ms.is_some());
    assert!(evidence.gateway.seen().unwrap().rtt_ms.is_some());
    let sweep = sweep(evidence);
    assert_eq!((sweep.passed, sweep.most, sweep.failed), (1500, 1500, None));
    assert_eq!(evidence.cut_off, []);
}

#[test]
fn a_whole_way_is_traced_by_each_protocol_over_both_families() {
    let Some(chain) = Chain::new("a_whole_way_is_traced_by_each_protocol_over_both_families") else { return };
    let (listener, echo) =
        chain.inside(FAR, || (TcpListener::bind("[::]:0").unwrap(), UdpSocket::bind("[::]:0").unwrap()));
    let (tcp_port, udp_port) = (listener.local_addr().unwrap().port(), echo.local_addr().unwrap().port());
    thread::spawn(move || {
        let mut room = [0; 100];
        while let Ok((length, from)) = echo.recv_from(&mut room) {
            let _ = echo.send_to(&room[..length], from);
        }
    });
    for far in [FAR_V4, FAR_V6] {
        for raw in [false, true] {
            let groups = if raw { "1 0" } else { "0 2147483647" };
            chain.inside(NEAR, || set("ipv4/ping_group_range", groups));
            whole(&look(&chain, far, Protocol::Icmp), Said::Reply);
        }
        whole(&look(&chain, far, Protocol::Tcp { port: tcp_port }), Said::Reply);
        whole(&look(&chain, far, udp(udp_port)), Said::Reply);
        // Nobody listens there: the target is reached all the same.
        whole(&look(&chain, far, Protocol::Tcp { port: 9 }), Said::Refused);
        whole(&look(&chain, far, udp(9)), Said::PortUnreachable);
    }
}

#[test]
fn what_is_dropped_on_the_way_stops_where_it_is_dropped() {
    let Some(chain) = Chain::new("what_is_dropped_on_the_way_stops_where_it_is_dropped") else { return };
    chain.nft(SECOND, "forward", "drop");
    for evidence in looks(&chain) {
        let [first, second] = routers(evidence.target);
        assert_eq!(hops(&evidence), [(1, first, Said::TimeExceeded), (2, second, Said::TimeExceeded)]);
        assert_eq!((path(&evidence).reached, path(&evidence).hidden_from), (false, Some(3)));
        assert!(evidence.summary().starts_with("stops after hop 2 ("), "{}", evidence.summary());
        assert!(why(&evidence.sweep).contains("do not pass either"));
        assert_eq!(evidence.cut_off, []);
    }
}

#[test]
fn a_router_that_never_answers_is_hidden_and_not_the_end() {
    let Some(chain) = Chain::new("a_router_that_never_answers_is_hidden_and_not_the_end") else { return };
    chain.nft(FIRST, "output", "icmp type time-exceeded drop; icmpv6 type time-exceeded drop");
    for evidence in looks(&chain) {
        let [_, second] = routers(evidence.target);
        let hops = hops(&evidence);
        assert_eq!(hops[..2], [(1, None, Said::Hidden), (2, second, Said::TimeExceeded)]);
        assert!(path(&evidence).reached && hops.len() == 3, "{hops:?}");
    }
}

#[test]
fn a_router_that_says_why_is_the_end() {
    let Some(chain) = Chain::new("a_router_that_says_why_is_the_end") else { return };
    for net in NETS {
        chain.ip(FIRST, &format!("route del {net}"));
        chain.ip(FIRST, &format!("route add unreachable {net}"));
    }
    // One after the other: whatever is set, a router says so five times at once at most (ip_rt_error_burst).
    let tcp = Protocol::Tcp { port: 9 };
    for (far, protocol) in [
        (FAR_V4, &Protocol::Icmp),
        (FAR_V4, &tcp),
        (FAR_V6, &Protocol::Icmp),
        (FAR_V6, &tcp),
        (FAR_V6, &udp(9)),
    ] {
        let evidence = look(&chain, far, protocol.clone());
        let [first, _] = routers(evidence.target);
        // ICMPv6 has one word for both.
        let v4 = evidence.target.is_ipv4();
        let said = if v4 { Said::HostUnreachable } else { Said::NetUnreachable };
        assert_eq!(hops(&evidence), [(1, first, said)]);
        assert!(!path(&evidence).reached && evidence.summary().starts_with("stops at hop 1 ("));
    }
    chain.nft(SECOND, "forward", "reject with icmpx admin-prohibited");
    chain.ip(FIRST, "route del unreachable 10.78.2.0/24");
    chain.ip(FIRST, "route add 10.78.2.0/24 via 10.78.1.2");
    let evidence = look(&chain, FAR_V4, Protocol::Tcp { port: 9 });
    let last = *hops(&evidence).last().unwrap();
    assert_eq!(last, (3, routers(address(FAR_V4))[1], Said::AdminProhibited));
}

#[test]
fn a_route_that_is_gone_or_refuses_is_named() {
    let Some(chain) = Chain::new("a_route_that_is_gone_or_refuses_is_named") else { return };
    let expect = |kind| {
        for evidence in looks(&chain) {
            assert_eq!(route(&evidence).kind, kind, "{evidence:?}");
            assert!(why(&evidence.path).starts_with("this machine sends nothing there: "));
            for why in [why(&evidence.sweep), why(&evidence.gateway)] {
                assert_eq!(why, "there is no route to the target");
            }
            assert!(evidence.loopback.seen().unwrap().rtt_ms.is_some());
            assert!(evidence.summary().starts_with("this machine"), "{}", evidence.summary());
        }
    };
    NETS.iter().for_each(|net| chain.ip(NEAR, &format!("route del {net}")));
    expect(RouteKind::None);
    for (word, kind) in [
        ("unreachable", RouteKind::Unreachable),
        ("blackhole", RouteKind::Blackhole),
        ("prohibit", RouteKind::Prohibit),
    ] {
        NETS.iter().for_each(|net| chain.ip(NEAR, &format!("route add {word} {net}")));
        expect(kind);
        NETS.iter().for_each(|net| chain.ip(NEAR, &format!("route del {word} {net}")));
    }
}

#[test]
fn a_next_hop_that_is_not_there_stops_at_this_machine() {
    let Some(chain) = Chain::new("a_next_hop_that_is_not_there_stops_at_this_machine") else { return };
    chain.ip(NEAR, "route replace 10.78.2.0/24 via 10.78.0.99");
    chain.ip(NEAR, "route replace fd78:2::/64 via fd78:0::99");
    for evidence in looks(&chain) {
        let next = if evidence.target.is_ipv4() { "10.78.0.99" } else { "fd78::99" };
        let neighbour = evidence.neighbour.seen().unwrap();
        // Failed; or asked for anew, because a SYN was sent again.
        assert!(neighbour.address == address(next) && neighbour.state.is_missing(), "{neighbour:?}");
        assert_eq!(hops(&evidence), [(0, route(&evidence).source, Said::HostUnreachable)]);
        assert_eq!(evidence.gateway.seen().unwrap().rtt_ms, None);
        assert!(evidence.loopback.seen().unwrap().rtt_ms.is_some());
        let begin = format!("stops at this machine: the next hop {next} does not answer");
        assert!(evidence.summary().starts_with(&begin), "{}", evidence.summary());
    }
}

#[test]
fn a_smaller_link_is_found_by_what_its_router_says_and_without() {
    let Some(chain) = Chain::new("a_smaller_link_is_found_by_what_its_router_says_and_without") else {
        return;
    };
    chain.ip(FIRST, "link set right mtu 1400");
    chain.ip(SECOND, "link set left mtu 1400");
    let expect = |told: bool| {
        for far in [FAR_V4, FAR_V6] {
            // What the kernel learned of the way before is forgotten.
            chain.ip(NEAR, "route flush cache");
            chain.ip(NEAR, "-6 route flush cache");
            let evidence = look(&chain, far, Protocol::Icmp);
            let found = sweep(&evidence);
            assert_eq!((found.passed, found.failed, found.most), (1400, Some(1401), 1500));
            let [first, _] = routers(address(far));
            let expected = if told { (Some(1400), first) } else { (None, None) };
            assert_eq!((found.told_mtu, found.told_by), expected);
            assert!(evidence.summary().starts_with("1400 bytes pass, 1401 do not"));
            assert!(path(&evidence).reached, "small packets pass");
        }
    };
    expect(true);
    chain.nft(FIRST, "output", "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop");
    expect(false);
}

#[test]
fn a_dead_gateway_is_told_from_a_dead_link() {
    let Some(chain) = Chain::new("a_dead_gateway_is_told_from_a_dead_link") else { return };
    chain.nft(FIRST, "prerouting", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; drop");
    for far in [FAR_V4, FAR_V6] {
        let evidence = look(&chain, far, Protocol::Icmp);
        assert_eq!(evidence.gateway.seen().unwrap().rtt_ms, None);
        assert!(evidence.loopback.seen().unwrap().rtt_ms.is_some());
        assert_eq!((hops(&evidence), path(&evidence).hidden_from), (vec![], Some(1)));
        // It is on the link, though: its link address is known.
        assert!(evidence.neighbour.seen().unwrap().link_address.is_some());
        assert!(evidence.summary().contains("does not answer ping, its link address is known"));
    }
}

#[test]
fn a_gateway_with_a_link_local_address_is_pinged_on_its_link() {
    let Some(chain) = Chain::new("a_gateway_with_a_link_local_address_is_pinged_on_its_link") else { return };
    chain.ip(FIRST, "addr add fe80::1/64 dev left nodad");
    chain.ip(NEAR, "route replace fd78:2::/64 via fe80::1 dev right");
    let evidence = look(&chain, FAR_V6, Protocol::Icmp);
    assert_eq!(route(&evidence).gateway, Some(address("fe80::1")));
    assert!(evidence.gateway.seen().unwrap().rtt_ms.is_some());
    assert!(evidence.neighbour.seen().unwrap().link_address.is_some());
    assert!(path(&evidence).reached);
}

#[test]
fn a_firewall_of_our_own_is_told() {
    let Some(chain) = Chain::new("a_firewall_of_our_own_is_told") else { return };
    chain.nft(NEAR, "output", "oif right icmp type echo-request drop; oif right udp dport 9 drop");
    for protocol in [Protocol::Icmp, udp(9)] {
        let evidence = look(&chain, FAR_V4, protocol);
        assert_eq!(why(&evidence.path), "this machine sends nothing there: Operation not permitted");
        assert_eq!(why(&evidence.sweep), "this machine sends no 576 bytes there: Operation not permitted");
        assert_eq!(evidence.gateway.seen().unwrap().rtt_ms, None);
    }
}

#[test]
fn a_target_on_the_link_has_no_gateway() {
    let Some(chain) = Chain::new("a_target_on_the_link_has_no_gateway") else { return };
    let evidence = look(&chain, "10.78.0.2", Protocol::Icmp);
    assert_eq!(hops(&evidence), [(1, Some(address("10.78.0.2")), Said::Reply)]);
    assert_eq!(why(&evidence.gateway), "the target is on the link itself");
    assert_eq!(evidence.neighbour.seen().unwrap().address, address("10.78.0.2"));
}

#[test]
fn a_machine_that_does_not_answer_itself_is_what_is_said_first() {
    let Some(chain) = Chain::new("a_machine_that_does_not_answer_itself_is_what_is_said_first") else {
        return;
    };
    chain.ip(NEAR, "link set lo down");
    let evidence = look(&chain, FAR_V4, Protocol::Icmp);
    assert_eq!(evidence.loopback.seen().unwrap().rtt_ms, None);
    assert!(
        evidence.summary().starts_with("this machine does not answer itself; "),
        "{}",
        evidence.summary()
    );
    assert!(path(&evidence).reached);
}

#[test]
fn what_is_not_finished_when_the_time_is_up_is_told_as_cut_off() {
    let Some(chain) = Chain::new("what_is_not_finished_when_the_time_is_up_is_told_as_cut_off") else {
        return;
    };
    chain.nft(FIRST, "prerouting", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; drop");
    for far in [FAR_V4, FAR_V6] {
        for protocol in [Protocol::Icmp, Protocol::Tcp { port: 9 }, udp(9)] {
            let request = Request { target: address(far), protocol, within: Duration::from_secs(1) };
            let evidence = chain.inside(NEAR, || capture(&request));
            assert_eq!(evidence.cut_off, [Piece::Path, Piece::Sweep, Piece::Gateway]);
            assert!(evidence.loopback.seen().unwrap().rtt_ms.is_some());
            assert_eq!(path(&evidence).hidden_from, Some(1));
            assert_eq!(route(&evidence).kind, RouteKind::Unicast);
        }
        // No time at all is no time to wait, and no reason to fail.
        let request = Request { target: address(far), protocol: Protocol::Icmp, within: Duration::ZERO };
        let evidence = chain.inside(NEAR, || capture(&request));
        assert_eq!(why(&evidence.path), "the time was up before anything was sent");
        assert!(evidence.cut_off.starts_with(&[Piece::Path, Piece::Sweep]), "{evidence:?}");
    }
}

#[test]
fn without_rights_the_path_by_tcp_is_seen_and_pings_say_what_is_missing() {
    let Some(chain) = Chain::new("without_rights_the_path_by_tcp_is_seen_and_pings_say_what_is_missing")
    else {
        return;
    };
    chain.inside(NEAR, || set("ipv4/ping_group_range", "1 0"));
    let out = Command::new("ip")
        .args(["netns", "exec", chain.name(NEAR)])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_rights", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let captured: Vec<Evidence> =
        text.lines().filter_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok()).collect();
    let [tcp, icmp] = captured.as_slice() else {
        panic!("{text}{}", String::from_utf8_lossy(&out.stderr));
    };
    assert!(tcp.path.seen().unwrap().reached);
    assert_eq!(tcp.path.seen().unwrap().hops.len(), 3);
    assert_eq!(tcp.route.seen().unwrap().kind, RouteKind::Unicast);
    assert!(tcp.neighbour.seen().unwrap().link_address.is_some());
    let missing = "ICMP: neither ping sockets (net.ipv4.ping_group_range lacks group 65534) nor raw ones (no CAP_NET_RAW)";
    assert_eq!(icmp.path, Part::absent(missing));
    for evidence in [tcp, icmp] {
        assert_eq!(evidence.sweep, Part::absent(missing));
        assert_eq!((&evidence.loopback, &evidence.gateway), (&Part::absent(missing), &Part::absent(missing)));
    }
}

#[test]
fn child_without_rights() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(65_534)).unwrap();
    setuid(Uid::from_raw(65_534)).unwrap();
    for protocol in [Protocol::Tcp { port: 9 }, Protocol::Icmp] {
        let evidence = capture(&Request { target: address(FAR_V4), protocol, within: WITHIN });
        println!("\n{}", serde_json::to_string(&evidence).unwrap());
    }
}
