//! What evidence looks like on the wire and in words.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::evidence::*;
use crate::time::Timestamp;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn hop(ttl: u8, from: Option<&str>, said: Said) -> Hop {
    Hop { ttl, address: from.map(address), rtt_ms: from.map(|_| 0.25), said, mtu: None }
}

/// A target two routers away, of which only the first answers.
fn cut() -> Evidence {
    let at = Timestamp::from_secs(1_795_330_801);
    Evidence {
        took_ms: 3400.5,
        route: Part::Seen(Route {
            kind: RouteKind::Unicast,
            source: Some(address("10.0.0.2")),
            gateway: Some(address("10.0.0.1")),
            interface: Some("eth0".to_owned()),
            table: Some(254),
            route_mtu: None,
            interface_mtu: Some(9001),
        }),
        neighbour: Part::Seen(Neighbour {
            address: address("10.0.0.1"),
            state: NeighbourState::Reachable,
            link_address: Some("02:00:00:00:00:01".to_owned()),
        }),
        path: Part::Seen(Path {
            hops: vec![hop(1, None, Said::Hidden), hop(2, Some("10.0.0.1"), Said::TimeExceeded)],
            reached: false,
            hidden_from: Some(3),
        }),
        sweep: Part::Seen(Sweep {
            least: 576,
            most: 9001,
            passed: 1436,
            failed: Some(1437),
            told_mtu: None,
            told_by: None,
        }),
        loopback: Part::Seen(Control { address: address("127.0.0.1"), rtt_ms: Some(0.03) }),
        gateway: Part::Seen(Control { address: address("10.0.0.1"), rtt_ms: Some(0.2) }),
        ..Evidence::new(at, Protocol::Icmp, address("10.1.0.10"), None)
    }
}

fn path(hops: Vec<Hop>, reached: bool) -> Part<Path> {
    Part::Seen(Path { hops, reached, hidden_from: None })
}

fn of_kind(kind: RouteKind) -> Evidence {
    let mut evidence = cut();
    if let Part::Seen(route) = &mut evidence.route {
        route.kind = kind;
    }
    evidence
}

#[test]
fn the_line_says_where_it_stopped_then_whose_fault_it_is_not() {
    assert_eq!(
        cut().summary(),
        "stops after hop 2 (10.0.0.1); loopback and gateway answer; route via 10.0.0.1 dev eth0; \
         1436 bytes pass, 1437 do not"
    );
}

#[test]
fn the_line_begins_with_what_matters_most() {
    let begins = |evidence: Evidence, with: &str| {
        let line = evidence.summary();
        assert!(line.starts_with(with), "{line}");
    };
    let silent = |text| Part::Seen(Control { address: address(text), rtt_ms: None });
    begins(Evidence { loopback: silent("127.0.0.1"), ..cut() }, "this machine does not answer itself; stops");
    begins(of_kind(RouteKind::None), "this machine has no route to 10.1.0.10; loopback");
    begins(of_kind(RouteKind::Blackhole), "this machine's route to 10.1.0.10 is 'blackhole'");
    begins(
        Evidence { path: path(vec![hop(3, Some("10.1.0.10"), Said::Reply)], true), ..cut() },
        "1436 bytes pass, 1437 do not; now reaches 10.1.0.10 at hop 3",
    );
    begins(
        Evidence { path: path(vec![hop(2, Some("10.0.1.2"), Said::NetUnreachable)], false), ..cut() },
        "stops at hop 1 to 2 (10.0.1.2): network unreachable",
    );
    begins(
        Evidence {
            path: path(vec![hop(4, Some("10.1.0.10"), Said::Refused)], true),
            sweep: Part::default(),
            ..cut()
        },
        "reaches 10.1.0.10 at hop 4, which says refused",
    );
    begins(
        Evidence { path: path(vec![hop(1, Some("10.0.1.2"), Said::AdminProhibited)], false), ..cut() },
        "stops at hop 1 (10.0.1.2): administratively prohibited",
    );
    begins(Evidence { path: path(vec![], false), ..cut() }, "no hop answers");
    begins(Evidence { path: Part::absent("no sockets"), ..cut() }, "path: no sockets");
    let failed =
        Neighbour { address: address("10.0.0.1"), state: NeighbourState::Failed, link_address: None };
    let dead = Evidence {
        path: path(vec![hop(0, Some("10.0.0.2"), Said::HostUnreachable)], false),
        neighbour: Part::Seen(failed),
        gateway: silent("10.0.0.1"),
        ..cut()
    };
    begins(
        dead,
        "stops at this machine: the next hop 10.0.0.1 does not answer; the gateway 10.0.0.1 is not on the link",
    );
    begins(
        Evidence { gateway: silent("10.0.0.1"), ..cut() },
        "stops after hop 2 (10.0.0.1); the gateway 10.0.0.1 does not answer ping, its link address is known",
    );
    let line = Evidence { cut_off: vec![Piece::Path, Piece::Sweep], ..cut() }.summary();
    assert!(line.ends_with("; cut off for time: path, sweep"), "{line}");
}

#[test]
fn the_line_says_of_sizes_only_what_is_known() {
    let swept = |passed, failed, told_mtu: Option<u32>| {
        let told_by = told_mtu.map(|_| address("10.0.1.2"));
        let sweep = Sweep { least: 576, most: 1500, passed, failed, told_mtu, told_by };
        let line = Evidence { sweep: Part::Seen(sweep), ..cut() }.summary();
        line.rsplit_once("; ").unwrap().1.to_owned()
    };
    assert_eq!(swept(1500, None, None), "all sizes up to 1500 bytes pass");
    assert_eq!(swept(1400, None, None), "1400 bytes pass, more is unknown");
    assert_eq!(swept(1400, Some(1500), None), "1400 bytes pass, 1500 do not, between is unknown");
    assert_eq!(swept(1400, Some(1401), Some(1400)), "1400 bytes pass, 1401 do not (10.0.1.2 says 1400)");
}

#[test]
fn the_wire_form_stays() {
    let mut evidence = cut();
    evidence.cut_off = vec![Piece::Path];
    evidence.sweep = Part::absent("576 bytes do not pass");
    let value = serde_json::to_value(&evidence).unwrap();
    assert_eq!(
        value,
        json!({
            "at": "2026-11-22T07:00:01.000000Z",
            "took_ms": 3400.5,
            "protocol": "icmp",
            "target": "10.1.0.10",
            "route": {
                "kind": "unicast", "source": "10.0.0.2", "gateway": "10.0.0.1", "interface": "eth0", "table": 254,
                "interface_mtu": 9001,
            },
            "neighbour": { "address": "10.0.0.1", "state": "reachable", "link_address": "02:00:00:00:00:01" },
            "path": {
                "hops": [
                    { "ttl": 1, "said": "hidden" },
                    { "ttl": 2, "address": "10.0.0.1", "rtt_ms": 0.25, "said": "time-exceeded" },
                ],
                "reached": false,
                "hidden_from": 3,
            },
            "sweep": { "absent": "576 bytes do not pass" },
            "loopback": { "address": "127.0.0.1", "rtt_ms": 0.03 },
            "gateway": { "address": "10.0.0.1", "rtt_ms": 0.2 },
            "cut_off": ["path"],
        })
    );
    assert_eq!(serde_json::from_value::<Evidence>(value).unwrap(), evidence);
}

#[test]
fn what_a_newer_program_adds_is_passed_over_and_what_is_missing_is_absent() {
    let text = r#"{"at":"2026-11-22T07:00:01Z","took_ms":1,"protocol":"quic","target":"fd77::2","weather":"fine",
        "route":{"kind":"teleport","colour":1},"path":{"hops":[{"ttl":1,"said":"moo","mood":2}]},"cut_off":["tea"]}"#;
    let evidence: Evidence = serde_json::from_str(text).unwrap();
    assert_eq!(
        (evidence.protocol, evidence.cut_off.as_slice()),
        (Protocol::Other, [Piece::Other].as_slice())
    );
    assert_eq!(evidence.route.seen().unwrap().kind, RouteKind::Other);
    assert_eq!(evidence.path.seen().unwrap().hops[0].said, Said::Other);
    assert_eq!(evidence.sweep, Part::absent("not looked at"));
    assert!(evidence.summary().contains("cut off for time: another part"));
}

#[test]
fn what_is_too_long_is_cut_when_read() {
    let mut value = serde_json::to_value(cut()).unwrap();
    value["path"]["hops"] = vec![json!({ "ttl": 1, "said": "hidden" }); 1000].into();
    value["sweep"] = json!({ "absent": "é".repeat(1000) });
    value["route"]["interface"] = "x".repeat(1000).into();
    let evidence: Evidence = serde_json::from_value(value).unwrap();
    assert_eq!(evidence.path.seen().unwrap().hops.len(), usize::from(HOPS));
    assert_eq!(evidence.sweep, Part::absent(&"é".repeat(TEXT)));
    assert!(evidence.summary().chars().count() <= TEXT);
}

/// The largest there can be: all hops with the longest addresses and words.
#[test]
fn the_largest_is_a_few_kilobytes() {
    let long = "2001:db8:1111:2222:3333:4444:5555:6666";
    let mut evidence = cut();
    evidence.path = path(
        (1..=HOPS)
            .map(|ttl| Hop {
                mtu: Some(65_535),
                rtt_ms: Some(1234.567),
                ..hop(ttl, Some(long), Said::AdminProhibited)
            })
            .collect(),
        false,
    );
    let length = serde_json::to_vec(&evidence).unwrap().len();
    assert!(length < 5 * 1024, "{length}");
}

proptest! {
    #[test]
    fn damaged_json_is_an_error_or_evidence_that_can_be_told(place: prop::sample::Index, with: Vec<u8>) {
        let mut text = serde_json::to_vec(&cut()).unwrap();
        let place = place.index(text.len());
        text.splice(place..(place + with.len()).min(text.len()), with);
        if let Ok(evidence) = serde_json::from_slice::<Evidence>(&text) {
            let _ = evidence.summary();
            // What was read can be written and read again.
            let again = serde_json::to_value(&evidence).unwrap();
            prop_assert!(matches!(again, Value::Object(_)));
            prop_assert_eq!(serde_json::from_value::<Evidence>(again).unwrap(), evidence);
        }
    }
}
