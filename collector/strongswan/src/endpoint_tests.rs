use proptest::prelude::*;

use super::*;
use crate::message::Value;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn connection(name: &str, remotes: &[&str]) -> Connection {
    Connection { name: name.to_owned(), remotes: remotes.iter().map(ToString::to_string).collect() }
}

/// An IKE SA with child SAs: state, age in seconds, remote traffic selectors.
fn sa(connection: &str, remote: &str, state: &str, children: &[(&str, i64, &[&str])]) -> Association {
    let child = |(state, installed, ts): &(&str, i64, &[&str])| Child {
        state: (*state).to_owned(),
        remote_ts: ts.iter().map(ToString::to_string).collect(),
        installed: Some(*installed),
    };
    Association {
        connection: connection.to_owned(),
        remote: remote.to_owned(),
        state: state.to_owned(),
        children: children.iter().map(child).collect(),
    }
}

/// Address, up, routes, second since, message.
type Row<'a> = (&'a str, bool, u32, Option<i64>, &'a str);

fn assert_tunnels(connections: &[Connection], associations: &[Association], rows: &[Row<'_>]) {
    let found = tunnels(connections, associations, NOW);
    let found: Vec<Row<'_>> = found
        .iter()
        .map(|tunnel| {
            let since = tunnel.since.map(|since| since.as_micros() / 1_000_000);
            (&*tunnel.outside_ip, tunnel.up, tunnel.accepted_routes, since, &*tunnel.message)
        })
        .collect();
    assert_eq!(found, rows);
}

#[test]
fn each_endpoint_is_a_tunnel_and_says_how_it_is() {
    let connections = [connection("b", &["198.51.100.2"]), connection("a", &["198.51.100.1"])];
    let up: &[(&str, i64, &[&str])] = &[("INSTALLED", 60, &["10.1.0.0/17", "10.1.128.0/17"])];
    assert_tunnels(
        &connections,
        &[sa("a", "198.51.100.1", "ESTABLISHED", up)],
        &[
            ("198.51.100.1", true, 2, Some(940), "a: IKE ESTABLISHED"),
            ("198.51.100.2", false, 0, None, "b: no IKE SA"),
        ],
    );
    for (state, children, message) in [
        ("CONNECTING", up, "a: IKE CONNECTING"),
        ("ESTABLISHED", &[][..], "a: IKE ESTABLISHED, no child SA"),
        ("ESTABLISHED", &[("INSTALLING", 0, &[][..])][..], "a: IKE ESTABLISHED, child SA INSTALLING"),
        (
            "ESTABLISHED",
            &[("DELETING", 0, &["10.1.0.0/16"][..])][..],
            "a: IKE ESTABLISHED, child SA DELETING",
        ),
        ("DELETING", up, "a: IKE DELETING"),
        ("PASSIVE", up, "a: IKE PASSIVE"),
    ] {
        let rows = [("198.51.100.1", false, 0, None, message)];
        assert_tunnels(&connections[1..], &[sa("a", "198.51.100.1", state, children)], &rows);
    }
}

#[test]
fn rekeying_keeps_a_tunnel_up_and_counts_it_once() {
    fn a(state: &str, children: &[(&str, i64, &[&str])]) -> Association {
        sa("a", "198.51.100.1", state, children)
    }
    let net: &[&str] = &["10.1.0.0/16"];
    let connections = [connection("a", &["198.51.100.1"])];
    let up = |since, message| [("198.51.100.1", true, 1, Some(since), message)];
    // The child SA: the new one is not there yet, is there beside the old, is there alone.
    let first = [a("ESTABLISHED", &[("REKEYING", 600, net), ("INSTALLING", 0, net)])];
    assert_tunnels(&connections, &first, &up(400, "a: IKE ESTABLISHED, rekeying"));
    let second = [a("ESTABLISHED", &[("REKEYING", 600, net), ("INSTALLED", 0, net)])];
    assert_tunnels(&connections, &second, &up(400, "a: IKE ESTABLISHED"));
    let third = [a("ESTABLISHED", &[("DELETED", 600, net), ("INSTALLED", 1, net)])];
    assert_tunnels(&connections, &third, &up(999, "a: IKE ESTABLISHED"));
    // The IKE SA: the old one has the child SA, then the new one.
    let first = [a("REKEYING", &[("INSTALLED", 600, net)]), a("CONNECTING", &[])];
    assert_tunnels(&connections, &first, &up(400, "a: IKE REKEYING, rekeying"));
    let second = [a("REKEYED", &[]), a("ESTABLISHED", &[("INSTALLED", 600, net)])];
    assert_tunnels(&connections, &second, &up(400, "a: IKE ESTABLISHED"));
    // Both ends began at the same time: two of each.
    let twice = [a("ESTABLISHED", &[("INSTALLED", 5, net)]), a("ESTABLISHED", &[("INSTALLED", 6, net)])];
    assert_tunnels(&connections, &twice, &up(994, "a: IKE ESTABLISHED"));
}

#[test]
fn a_peer_from_elsewhere_takes_the_place_of_an_endpoint_without_one() {
    let up: &[(&str, i64, &[&str])] = &[("INSTALLED", 0, &["10.1.0.0/16"])];
    let row = |ip| (ip, true, 1, Some(1000), "a: IKE ESTABLISHED");
    let down = |ip| (ip, false, 0, None, "a: no IKE SA");
    let a = |remote| sa("a", remote, "ESTABLISHED", up);

    let by_name = [connection("a", &["198.51.100.1", "vpn.example.net"])];
    assert_tunnels(&by_name, &[], &[down("198.51.100.1"), down("vpn.example.net")]);
    assert_tunnels(&by_name, &[a("203.0.113.9")], &[down("198.51.100.1"), row("203.0.113.9")]);

    let any = [connection("a", &["%any"])];
    assert_tunnels(&any, &[], &[down("%any")]);
    let peers = [a("203.0.113.9"), a("203.0.113.8")];
    assert_tunnels(&any, &peers, &[row("203.0.113.8"), row("203.0.113.9")]);

    let moved = [connection("a", &["198.51.100.1"])];
    assert_tunnels(&moved, &[a("203.0.113.9")], &[row("203.0.113.9")]);

    // The same address, written otherwise.
    let v6 = [connection("a", &["2001:db8:0::1"])];
    assert_tunnels(&v6, &[a("2001:db8::1")], &[row("2001:db8::1")]);
}

#[test]
fn two_connections_to_one_peer_are_two_tunnels() {
    let up: &[(&str, i64, &[&str])] = &[("INSTALLED", 0, &["10.0.0.0/16"])];
    let connections = [connection("b", &["192.0.2.1"]), connection("a", &["192.0.2.1"])];
    assert_tunnels(
        &connections,
        &[sa("b", "192.0.2.1", "ESTABLISHED", up)],
        &[
            ("192.0.2.1", false, 0, None, "a: no IKE SA"),
            ("192.0.2.1", true, 1, Some(1000), "b: IKE ESTABLISHED"),
        ],
    );
}

#[test]
fn what_is_configured_no_more_is_told_while_it_carries() {
    let up: &[(&str, i64, &[&str])] = &[("INSTALLED", 0, &["10.0.0.0/16"])];
    let others = [sa("old", "192.0.2.1", "ESTABLISHED", up), sa("other", "192.0.2.2", "ESTABLISHED", &[])];
    assert_tunnels(&[], &others, &[("192.0.2.1", true, 1, Some(1000), "old: IKE ESTABLISHED")]);
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn only_children_of_the_name_or_glob_count() {
    let child = |name: &str| {
        let ts = Value::List(vec!["10.1.0.0/16".to_owned()]);
        let section = Section::default().with("name", text(name)).with("state", text("INSTALLED"));
        Value::Section(section.with("install-time", text("7")).with("remote-ts", ts))
    };
    let children = Section::default().with("net-1-7", child("net-1")).with("voice-9", child("voice"));
    let sa = Section::default().with("state", text("ESTABLISHED")).with("remote-host", text("192.0.2.1"));
    let sa = sa.with("child-sas", Value::Section(children.clone()));
    let conn = Section::default().with("remote_addrs", Value::List(vec!["192.0.2.1".to_owned(); 2]));
    let conn = conn.with("children", Value::Section(children));
    for (name, exact, count) in [("net-1", true, 1), ("net-*", false, 1), ("*", false, 2), ("net", true, 0)] {
        let wanted = Children::new(name);
        assert_eq!(wanted.exact().is_some(), exact);
        let read = Association::read("a", &sa, &wanted).unwrap();
        assert_eq!(read.children.len(), count, "{name}");
    }
    let wanted = Children::new("net-1-7");
    assert_eq!(Connection::read("a", &conn, &wanted), Some(connection("a", &["192.0.2.1"])), "told once");
    assert_eq!(Connection::read("a", &conn, &Children::new("net")), None);
    let broken = Section::default().with("state", text("ESTABLISHED"));
    let error = Association::read("a", &broken, &wanted).unwrap_err();
    assert_eq!(error, "the IKE SA of connection a has no remote-host");
}

proptest! {
    /// Whatever charon says, each configured endpoint is told, none is up without a child SA that carries, and the order
    /// of the answer does not matter.
    #[test]
    fn every_endpoint_is_told_whatever_there_is(
        associations in prop::collection::vec(
            (
                0_usize..4,
                0_usize..4,
                prop::sample::select(vec!["CONNECTING", "ESTABLISHED", "REKEYING", "REKEYED", "DELETING"]),
                prop::collection::vec(
                    (prop::sample::select(vec!["INSTALLED", "REKEYING", "DELETING", "INSTALLING"]), any::<i64>()),
                    0..3,
                ),
            ),
            0..8,
        ),
        turn in 0_usize..8,
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "old"];
        const REMOTES: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8::3", "203.0.113.4"];
        let connections = [
            connection("a", &["192.0.2.1"]),
            connection("b", &["192.0.2.2", "2001:db8::3"]),
            connection("c", &["%any"]),
        ];
        let mut all: Vec<_> = associations
            .iter()
            .map(|(name, remote, state, children)| {
                let children: Vec<_> = children.iter().map(|(state, age)| (*state, *age, &["ts"][..])).collect();
                sa(NAMES[*name], REMOTES[*remote], state, &children)
            })
            .collect();
        let found = tunnels(&connections, &all, NOW);
        let of = |name: &str| {
            found.iter().filter(|tunnel| tunnel.message.starts_with(&format!("{name}: "))).count()
        };
        prop_assert!(of("a") >= 1 && of("b") >= 2 && of("c") >= 1);
        for tunnel in &found {
            let carries = all.iter().any(|sa| sa.remote == tunnel.outside_ip && sa.carrying().next().is_some());
            prop_assert!(!tunnel.up || carries);
            prop_assert_eq!(tunnel.up, tunnel.since.is_some());
            prop_assert_eq!(tunnel.up, tunnel.accepted_routes == 1);
        }
        if !all.is_empty() {
            let middle = turn % all.len();
            all.rotate_left(middle);
        }
        let turned = tunnels(&connections, &all, NOW);
        let up = |found: &[Tunnel]| -> Vec<_> {
            found.iter().map(|tunnel| (tunnel.outside_ip.clone(), tunnel.up, tunnel.since)).collect()
        };
        prop_assert_eq!(up(&turned), up(&found));
    }
}
