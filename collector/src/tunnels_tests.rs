#![allow(clippy::panic, reason = "a test's helpers fail by panicking")]

use super::*;
use crosswatch_shared::config::topology::{Link, Queue, QueueKind, Site, Vpn};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn vpn(select: VpnSelect, every: u64, region: Option<&str>) -> Vpn {
    Vpn {
        site: "a".into(),
        select,
        every: SECOND * u32::try_from(every).unwrap(),
        expect_up: 2,
        region: region.map(str::to_owned),
        role: None,
    }
}

fn id(id: &str) -> VpnSelect {
    VpnSelect::Id(id.into())
}

fn tag(value: &str) -> VpnSelect {
    VpnSelect::Tag("Name".to_owned(), value.to_owned())
}

fn plan(links: Vec<(&str, Vec<Vpn>)>, now: Instant) -> Plan {
    let link = |(name, vpns): (&str, Vec<Vpn>)| Link {
        name: name.into(),
        between: vec!["a".into()],
        vpns,
        appliances: Vec::new(),
        probes: vec![],
    };
    let topology = Topology {
        sites: vec![Site { name: "a".into(), region: Some("r-1".to_owned()), role: None, topic: None }],
        links: links.into_iter().map(link).collect(),
        queue: Queue { path: "d".into(), kind: QueueKind::Embedded, keep: SECOND, max_bytes: 1 },
        listen: None,
    };
    Plan::new(&topology, "a", now)
}

fn connection(id: &str, state: &str, telemetry: &[(&str, &str)]) -> VpnConnection {
    let telemetry = telemetry.iter().map(|(ip, status)| Telemetry {
        outside_ip: Some((*ip).to_owned()),
        status: Some((*status).to_owned()),
        ..Telemetry::default()
    });
    VpnConnection {
        id: Some(id.to_owned()),
        state: state.to_owned(),
        tags: vec![("Name".to_owned(), "x".to_owned())],
        telemetry: telemetry.collect(),
    }
}

fn answer(watches: &[usize], connections: Vec<VpnConnection>) -> Answer {
    Answer { watches: watches.to_vec(), connections, failed: None }
}

fn failed(watches: &[usize], kind: Kind, code: &str) -> Answer {
    let failure = Failure {
        operation: "ec2:DescribeVpnConnections",
        kind,
        code: code.to_owned(),
        message: String::new(),
    };
    Answer { watches: watches.to_vec(), connections: Vec::new(), failed: Some(failure) }
}

const UP: [(&str, &str); 2] = [("1.1.1.1", "UP"), ("2.2.2.2", "DOWN")];

fn told(seen: &[Seen]) -> Vec<String> {
    let tunnels = |seen: &Seen| {
        let of =
            seen.tunnels.iter().map(|t| format!("{} {}", t.outside_ip, if t.up { "up" } else { "down" }));
        of.collect::<Vec<_>>().join(", ")
    };
    seen.iter().map(|seen| format!("{}/{}: {}", seen.link, seen.vpn, tunnels(seen))).collect()
}

#[test]
fn an_account_is_asked_once_for_all_its_ids_and_once_for_each_tags_key() {
    let now = Instant::now();
    let mut plan = plan(
        vec![
            ("l", vec![vpn(id("vpn-1"), 60, None), vpn(tag("x"), 60, None), vpn(tag("y"), 60, None)]),
            ("m", vec![vpn(id("vpn-2"), 60, None), vpn(id("vpn-3"), 60, Some("r-2"))]),
        ],
        now,
    );
    assert_eq!(plan.due(), Some(now));
    let call = |select, watches: &[usize]| Call { select, watches: watches.to_vec(), known: vec![] };
    let ids = |ids: &[&str]| Select::Ids(ids.iter().map(|&id| id.to_owned()).collect());
    let tag = Select::Tag { key: "Name".to_owned(), values: vec!["x".to_owned(), "y".to_owned()] };
    let first = vec![call(ids(&["vpn-1", "vpn-2"]), &[0, 3]), call(tag, &[1, 2])];
    assert_eq!(
        plan.begin(now),
        [
            Asking { account: 0, calls: first },
            Asking { account: 1, calls: vec![call(ids(&["vpn-3"]), &[0])] },
        ]
    );
    assert_eq!(plan.due(), None, "nobody is asked twice at a time");
    plan.end(1, &[failed(&[0], Kind::Denied, "UnauthorizedOperation")], now);
    assert_eq!(plan.due(), Some(now + SECOND * 60));
    assert_eq!(plan.fault().as_deref(), Some("UnauthorizedOperation (r-2)"));
    let healthy =
        [answer(&[0, 3], vec![connection("vpn-1", "available", &UP), connection("vpn-2", "available", &UP)])];
    plan.end(0, &healthy, now);
    assert_eq!(plan.fault().as_deref(), Some("UnauthorizedOperation (r-2)"), "the other account's remains");
}

#[test]
fn a_probe_that_begins_to_fail_hastens_its_link_and_ten_seconds_lie_between_two_polls() {
    let now = Instant::now();
    let mut plan =
        plan(vec![("l", vec![vpn(id("vpn-1"), 60, None)]), ("m", vec![vpn(id("vpn-2"), 60, None)])], now);
    plan.begin(now);
    plan.end(0, &[], now);
    plan.hasten(&"l".into(), now + SECOND);
    assert_eq!(plan.due(), Some(now + HASTY));
    let asking = plan.begin(now + HASTY);
    assert_eq!(
        asking[0].calls[0].select,
        Select::Ids(vec!["vpn-1".to_owned()]),
        "the other link is not asked for"
    );
    plan.end(0, &[], now + HASTY);
    plan.hasten(&"l".into(), now + SECOND * 40);
    assert_eq!(plan.due(), Some(now + SECOND * 40), "at once when the last is older");
    plan.wait(0, now + SECOND * 90);
    assert_eq!(plan.due(), Some(now + SECOND * 90), "not while EC2 asks for fewer calls");
    plan.begin(now + SECOND * 90);
    plan.end(0, &[], now);
    assert_eq!(plan.due(), Some(now + SECOND * 150));
}

#[test]
fn each_odd_connection_is_named_and_hides_no_other() {
    let now = Instant::now();
    let names = ["vpn-1", "vpn-2", "vpn-3", "vpn-4", "vpn-5", "vpn-6", "vpn-7"];
    let mut plan = plan(vec![("l", names.iter().map(|name| vpn(id(name), 60, None)).collect())], now);
    plan.begin(now);
    let mut nameless = connection("", "available", &UP);
    nameless.id = None;
    let mut pending = connection("vpn-6", "pending", &[("", "DOWN")]);
    pending.telemetry[0].outside_ip = None;
    pending.telemetry[0].accepted_routes = Some(-1);
    let connections = vec![
        nameless,
        connection("vpn-2", "available", &[]),
        connection("vpn-3", "deleted", &UP),
        connection("vpn-4", "deleting", &UP),
        connection("vpn-5", "available", &[("1.1.1.1", "UP"), ("2.2.2.2", "")]),
        pending,
        connection("vpn-7", "", &UP),
        connection("vpn-99", "available", &UP),
    ];
    let seen = plan.end(0, &[answer(&[0, 1, 2, 3, 4, 5, 6], connections)], now);
    assert_eq!(
        told(&seen),
        [
            "l/vpn-2: ",
            "l/vpn-4: 1.1.1.1 up, 2.2.2.2 down",
            "l/vpn-5: 1.1.1.1 up",
            "l/vpn-6: tunnel-1 down",
            "l/vpn-7: 1.1.1.1 up, 2.2.2.2 down",
        ]
    );
    assert_eq!(
        plan.fault().as_deref(),
        Some(
            "vpn-1: does not exist; vpn-2: has no telemetry; vpn-3: is deleted; vpn-4: is being deleted; \
             vpn-5: the tunnel 2.2.2.2 is neither UP nor DOWN"
        )
    );
}

#[test]
fn one_found_by_its_tag_is_picked_up_and_told_of_when_it_is_gone() {
    let now = Instant::now();
    let mut plan = plan(vec![("l", vec![vpn(tag("x"), 60, None), vpn(id("vpn-1"), 60, None)])], now);
    let mut poll = |connections: Vec<VpnConnection>, at: Instant| {
        let asking = plan.begin(at);
        let known = asking[0].calls.last().unwrap().known.clone();
        let seen = plan.end(0, &[answer(&[1, 0], connections)], at);
        (told(&seen), known, plan.fault())
    };
    let (one, two) = (connection("vpn-1", "available", &UP), connection("vpn-2", "available", &UP));
    let (seen, _, fault) = poll(vec![one.clone()], now);
    assert_eq!((seen.len(), fault), (1, None), "its id and its tag find one connection: {seen:?}");
    let (seen, known, fault) = poll(vec![one.clone(), two.clone()], now + SECOND * 60);
    assert_eq!((seen.len(), &*known, fault), (2, &["vpn-1".to_owned()][..], None));
    let gone = Some("vpn-2: is gone, which Name=x had found".to_owned());
    let (seen, known, fault) = poll(vec![one.clone()], now + SECOND * 120);
    assert_eq!((seen.len(), known.len(), fault), (1, 2, gone.clone()));
    // Listed, but deleted, is gone too.
    let (seen, _, fault) = poll(vec![one.clone(), connection("vpn-2", "deleted", &UP)], now + SECOND * 180);
    assert_eq!((seen.len(), fault), (1, gone));
    let (_, _, fault) = poll(vec![one.clone()], now + SECOND * 120 + MISSED);
    assert_eq!(fault, None, "what was replaced is forgotten");
    let (seen, _, fault) = poll(vec![], now + SECOND * 240 + MISSED);
    assert!(seen.is_empty());
    let fault = fault.unwrap();
    assert!(fault.contains("Name=x: no VPN connection has this tag"), "{fault}");
    assert!(fault.contains("vpn-1: does not exist"), "{fault}");
}

#[test]
fn a_call_that_failed_is_told_by_its_code_and_proves_no_absence() {
    let now = Instant::now();
    let mut plan = plan(vec![("l", vec![vpn(id("vpn-1"), 60, None), vpn(tag("x"), 60, None)])], now);
    plan.begin(now);
    let limited = failed(&[0], Kind::Throttled, "RequestLimitExceeded");
    assert!(throttled(std::slice::from_ref(&limited)));
    let unreadable = Answer {
        connections: vec![connection("vpn-2", "available", &UP)],
        ..failed(&[1], Kind::Service, "BadAnswer")
    };
    let seen = plan.end(0, &[limited, unreadable], now);
    assert_eq!(told(&seen), ["l/vpn-2: 1.1.1.1 up, 2.2.2.2 down"], "what could be read counts");
    assert_eq!(plan.fault().as_deref(), Some("RequestLimitExceeded; Name=x: BadAnswer"));
}

proptest! {
    /// Whatever happens, a connection is asked for when its time has come and never twice within ten seconds.
    #[test]
    fn polls_are_neither_missed_nor_crowded(steps in proptest::collection::vec((0..20u64, any::<bool>(), 0..3u64), 1..200)) {
        let start = Instant::now();
        let mut now = start;
        let mut plan = plan(vec![("l", vec![vpn(id("vpn-1"), 15, None)])], start);
        let mut asked: Option<Instant> = None;
        for (wait, fails, takes) in steps {
            now += SECOND * u32::try_from(wait).unwrap();
            if fails {
                plan.hasten(&"l".into(), now);
            }
            let asking = plan.begin(now);
            if asking.is_empty() {
                prop_assert!(asked.is_some_and(|asked| now < asked + SECOND * 15));
            } else {
                prop_assert!(asked.is_none_or(|asked| now >= asked + HASTY));
                asked = Some(now);
                now += SECOND * u32::try_from(takes).unwrap();
                plan.end(0, &[], now);
            }
        }
    }
}
