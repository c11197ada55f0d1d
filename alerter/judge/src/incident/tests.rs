//! Incident days in miniature: a link of two sites with five probes and a VPN connection, second by second.

use std::cell::RefCell;
use std::time::Duration;

use crosswatch_shared::config::topology::{
    Host, Link, Probe, Queue, QueueKind, Site, Target, Topology, Vpn, VpnSelect,
};
use crosswatch_shared::evidence::{Control, Evidence, Part, Protocol};
use crosswatch_shared::observation::{Body, Detail, Lost, Observation, Origin, Outcome, Tunnel, Way};

use super::*;
use crate::engine::Engine;
use crate::rule::{Breach, Missing, Rule, Side};

mod truth;

const START: i64 = 1_000_000;

/// Site, name, host.
const PROBES: [(&str, &str, &str); 5] = [
    ("a", "icmp-b", "10.1.0.10"),
    ("a", "tcp-b", "10.1.0.11"),
    ("b", "icmp-a", "10.0.0.10"),
    ("b", "udp-a", "10.0.0.10"),
    ("a", "large", "10.1.0.10"),
];

fn topology() -> Topology {
    let probe = |(from, name, host): (&str, &str, &str)| {
        let host = Host::Address(host.parse().unwrap());
        Probe {
            name: name.into(),
            from: from.into(),
            target: match name.split('-').next() {
                Some("tcp") => Target::Tcp(host, 443),
                Some("udp") => Target::Udp(host, 862),
                _ => Target::Icmp(host),
            },
            every: Duration::from_secs(1),
            timeout: Duration::from_millis(200),
            burst: 1,
            size: (name == "large").then_some(1436),
        }
    };
    let site = |name: &str| Site { name: name.into(), region: None, role: None, topic: None };
    Topology {
        sites: vec![site("a"), site("b"), site("c")],
        links: vec![Link {
            name: "l".into(),
            between: vec!["a".into(), "b".into()],
            vpns: vec![Vpn {
                site: "a".into(),
                select: VpnSelect::Id("vpn-1".into()),
                every: Duration::from_secs(10),
                expect_up: 2,
                region: None,
                role: None,
            }],
            appliances: Vec::new(),
            probes: PROBES.map(probe).to_vec(),
        }],
        queue: Queue {
            path: "data".into(),
            kind: QueueKind::Embedded,
            keep: Duration::MAX,
            max_bytes: u64::MAX,
        },
        listen: None,
    }
}

fn rule(name: &str, metric: Metric, side: Side, threshold: f64, m: usize, clear: usize) -> Rule {
    Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m, n: m },
        clear: Some(clear),
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}

fn rules() -> Vec<Rule> {
    vec![
        rule("ping-failed", Metric::PingOk, Side::Below, 1.0, 3, 5),
        rule("latency-high", Metric::LatencyMs, Side::Above, 200.0, 3, 3),
        rule("tunnels-low", Metric::TunnelsUp, Side::Below, 2.0, 1, 1),
        rule("blind", Metric::CollectionOk, Side::Below, 1.0, 1, 1),
    ]
}

/// What is seen in a second.
struct Second {
    outcomes: [Outcome; 5],
    detail: Option<Detail>,
    up: [bool; 2],
    blind: bool,
    collects: bool,
}

const REPLY: Outcome = Outcome::Reply { rtt_ms: 80.0 };
const LOST: Outcome = Outcome::Lost(Lost::Timeout);

impl Default for Second {
    fn default() -> Self {
        Self { outcomes: [REPLY; 5], detail: None, up: [true; 2], blind: false, collects: true }
    }
}

struct World {
    engine: Engine,
    incidents: Incidents,
    seq: u64,
    second: i64,
    told: Vec<String>,
}

impl World {
    fn new() -> Self {
        let engine = Engine::new(rules(), &topology());
        Self { engine, incidents: Incidents::default(), seq: 0, second: 0, told: Vec::new() }
    }

    fn observe(&mut self, site: &str, millis: u64, body: Body, out: &mut Vec<Transition>) {
        let at = Timestamp::from_secs(START + self.second) + Duration::from_millis(millis);
        let origin = Origin { site: site.into(), collector: "c".into(), boot: "1".into() };
        self.engine.observe(&origin, &Observation { at, seq: self.seq, body }, out);
        self.seq += 1;
    }

    fn seconds(&mut self, count: u32, seen: impl Fn(i64) -> Second) -> &mut Self {
        for _ in 0..count {
            let Second { outcomes, detail, up, blind, collects } = seen(self.second);
            let mut out = Vec::new();
            for (place, (outcome, (site, name, _))) in outcomes.into_iter().zip(PROBES).enumerate() {
                let detail = detail.clone().filter(|_| name == "udp-a" && outcome == REPLY).map(Box::new);
                let body = Body::Probe { link: "l".into(), probe: name.into(), outcome, detail };
                self.observe(site, 100 * place as u64, body, &mut out);
            }
            if blind {
                let at = Timestamp::from_secs(START + self.second);
                let mut evidence = Evidence::new(at, Protocol::Icmp, "10.1.0.10".parse().unwrap(), None);
                evidence.loopback =
                    Part::Seen(Control { address: "127.0.0.1".parse().unwrap(), rtt_ms: None });
                let evidence = Box::new(evidence);
                let body = Body::Evidence { link: "l".into(), probe: "icmp-b".into(), evidence };
                self.observe("a", 600, body, &mut out);
            }
            if self.second % 10 == 5 {
                self.observe("a", 700, tunnels(up), &mut out);
                let error = (!collects).then(|| "RequestLimitExceeded".to_owned());
                let source = "ec2:vpn-status".into();
                self.observe(
                    "a",
                    800,
                    Body::Collection { source, ok: collects, error, took_ms: 1.0 },
                    &mut out,
                );
            }
            for site in ["a", "b"] {
                let now = Timestamp::from_secs(START + self.second + 1);
                self.engine.advance(site, &"1".into(), now, &mut out);
            }
            self.tell(&out);
            self.second += 1;
        }
        self
    }

    fn tell(&mut self, out: &[Transition]) {
        for Event { incident, what, .. } in self.engine.tell(out, &mut self.incidents) {
            let what = match what {
                What::Opened(symptom) => format!("opened by {} {}", symptom.rule, symptom.subject),
                What::Joined(symptom) => format!("joined by {} {}", symptom.rule, symptom.subject),
                What::Left(ended) => format!("left by {} {}", ended.symptom.rule, ended.symptom.subject),
                What::Closed(ended) => format!("closed by {} {}", ended.symptom.rule, ended.symptom.subject),
                What::Refined => "refined".to_owned(),
                What::Worse => "worse".to_owned(),
            };
            let Verdict { kind, words } = &incident.verdict;
            self.told.push(format!("{} {what}: {} ({words})", incident.place.name(), kind.word()));
        }
    }

    /// What was told without who joined and left.
    fn course(&self) -> Vec<&str> {
        let minor = |told: &&str| !told.contains(" joined ") && !told.contains(" left ");
        self.told.iter().map(String::as_str).filter(minor).collect()
    }
}

fn tunnels(up: [bool; 2]) -> Body {
    let tunnels = ["192.0.2.1", "192.0.2.2"].into_iter().zip(up).map(|(ip, up)| Tunnel {
        outside_ip: ip.to_owned(),
        up,
        accepted_routes: 1,
        since: None,
        message: String::new(),
    });
    Body::Tunnels { link: "l".into(), vpn: "vpn-1".into(), tunnels: tunnels.collect() }
}

fn lost(which: [bool; 5]) -> impl Fn(i64) -> Second {
    move |_| Second { outcomes: which.map(|lost| if lost { LOST } else { REPLY }), ..Second::default() }
}

fn good(_: i64) -> Second {
    Second::default()
}

const ALL: [bool; 5] = [true; 5];

#[test]
fn a_black_hole_is_a_lost_link_until_the_tunnels_are_asked() {
    let mut world = World::new();
    world.seconds(17, good).seconds(30, lost(ALL)).seconds(30, good);
    assert_eq!(
        world.course(),
        [
            "l opened by ping-failed l/a/icmp-b: link-lost (4 of 4 probes lost, tunnels not asked since)",
            "l refined: black-hole (2 of 2 tunnels up after 8 s, 4 of 4 probes lost)",
            "l closed by ping-failed l/a/large: black-hole (2 of 2 tunnels up after 28 s, 4 of 4 probes lost)",
        ],
        "{:#?}",
        world.told
    );
    assert_eq!(world.told.iter().filter(|told| told.contains("joined")).count(), 4, "{:#?}", world.told);
}

#[test]
fn tunnels_that_are_found_down_are_the_reason() {
    let mut world = World::new();
    let down = |_| Second { outcomes: [LOST; 5], up: [false; 2], ..Second::default() };
    world.seconds(17, good).seconds(6, lost(ALL)).seconds(30, down).seconds(30, good);
    assert_eq!(
        world.course(),
        [
            "l opened by ping-failed l/a/icmp-b: link-lost (4 of 4 probes lost, tunnels not asked since)",
            "l refined: tunnels-down (0 of 2 tunnels up, 4 of 4 probes lost)",
            "l closed by ping-failed l/a/large: tunnels-down (0 of 2 tunnels up, 4 of 4 probes lost)",
        ],
        "{:#?}",
        world.told
    );
}

/// Such as by a site that was cut off, and asks its tunnels as it comes back.
#[test]
fn tunnels_that_are_found_up_when_replies_come_again_make_no_black_hole_of_the_loss() {
    let mut world = World::new();
    let one_side = lost([true, true, false, false, true]);
    world.seconds(17, good).seconds(6, lost(ALL)).seconds(5, one_side).seconds(30, good);
    assert_eq!(
        world.course(),
        [
            "l opened by ping-failed l/a/icmp-b: link-lost (4 of 4 probes lost, tunnels not asked since)",
            "l closed by ping-failed l/a/large: link-lost (2 of 4 probes lost, tunnels not asked since)",
        ],
        "{:#?}",
        world.told
    );
}

#[test]
fn one_tunnel_down_is_lost_redundancy_and_a_replacement_once_it_is_back() {
    let mut world = World::new();
    let one = |_| Second { up: [true, false], ..Second::default() };
    world.seconds(12, good).seconds(40, one).seconds(20, good);
    assert_eq!(
        world.course(),
        [
            "l opened by tunnels-low l/vpn-1: redundancy-lost (1 of 2 tunnels up, 192.0.2.2 down)",
            "l closed by tunnels-low l/vpn-1: tunnel-replaced (192.0.2.2 was down for 40 s and is back)",
        ],
        "{:#?}",
        world.told
    );
}

#[test]
fn what_worked_less_well_and_then_goes_down_is_worse() {
    let mut world = World::new();
    let one = |_| Second { up: [true, false], ..Second::default() };
    let none = |_| Second { outcomes: [LOST; 5], up: [false; 2], ..Second::default() };
    world.seconds(12, good).seconds(10, one).seconds(20, none).seconds(30, good);
    let course = world.course();
    assert!(course[0].contains("opened by tunnels-low l/vpn-1: redundancy-lost"), "{course:#?}");
    let worse: Vec<&&str> = course.iter().filter(|told| told.starts_with("l worse: ")).collect();
    assert_eq!(worse.len(), 1, "{course:#?}");
    assert_eq!(course.iter().filter(|told| told.contains("opened")).count(), 1, "{course:#?}");
    assert_eq!(course.iter().filter(|told| told.contains("closed")).count(), 1, "{course:#?}");
}

/// Who was told of it only while it worked less well was not told that it is down.
#[test]
fn what_was_down_and_works_less_well_is_worse_when_it_is_down_again() {
    let mut world = World::new();
    let slow = |_| Second { outcomes: [Outcome::Reply { rtt_ms: 231.2 }; 5], ..Second::default() };
    world.seconds(17, good).seconds(6, lost(ALL)).seconds(20, slow).seconds(10, lost(ALL)).seconds(30, good);
    let course = world.course();
    let words = |told: &&str| ["opened", "slow (", "worse: "].into_iter().find(|of| told.contains(of));
    let course: Vec<&str> = course.iter().filter_map(words).collect();
    assert_eq!(course, ["opened", "slow (", "worse: "], "{:#?}", world.told);
}

#[test]
fn what_is_lost_in_part_is_called_by_what_it_has_in_common() {
    let cases: [([bool; 5], &str); 5] = [
        ([true, false, false, false, true], "target-down (10.1.0.10 lost from a, another target answers)"),
        ([false, false, true, false, false], "filtered (b/icmp-a lost, the same targets answer otherwise)"),
        ([false, false, false, true, false], "filtered (udp lost, icmp and tcp answers)"),
        ([true, true, false, false, true], "filtered (all probes from a lost, those from b answered)"),
        ([false, false, false, false, true], "too-big (packets of 1436 bytes lost, small ones pass)"),
    ];
    for (which, wanted) in cases {
        let mut world = World::new();
        world.seconds(17, good).seconds(20, lost(which)).seconds(20, good);
        let course = world.course();
        let last = course.last().unwrap();
        assert!(last.ends_with(wanted), "{which:?}: {:#?}", world.told);
        assert!(course.iter().all(|told| !told.contains("worse")), "{course:#?}");
    }
}

#[test]
fn who_refuses_is_reached_and_the_target_is_down() {
    let refused = Outcome::Lost(Lost::Refused);
    for (outcomes, words) in [
        ([REPLY, refused, REPLY, REPLY, REPLY], "(a/tcp-b refused, other probes are answered)"),
        ([refused; 5], "(a/icmp-b and a/tcp-b and b/icmp-a and b/udp-a refused)"),
    ] {
        let mut world = World::new();
        world.seconds(17, good).seconds(20, |_| Second { outcomes, ..Second::default() }).seconds(20, good);
        let course = world.course();
        assert!(
            course[0].contains("target-down (a/tcp-b refused, other") || course[0].ends_with(words),
            "{course:#?}"
        );
        assert!(course.last().unwrap().ends_with(words), "{course:#?}");
    }
}

#[test]
fn losses_and_replies_that_take_turns_are_a_lossy_link_and_no_lost_one() {
    let mut world = World::new();
    // Three lost, one answered, each probe at its own time.
    let takes_turns = |second: i64| {
        let outcome = |place: i64| if (second + place) % 4 == 0 { REPLY } else { LOST };
        Second { outcomes: [0, 1, 2, 3, 0].map(outcome), ..Second::default() }
    };
    world.seconds(17, good).seconds(60, takes_turns);
    let course = world.course();
    assert!(course.last().unwrap().contains("lossy ("), "{course:#?}");
    assert!(!course.iter().skip(1).any(|told| told.contains("worse")), "{course:#?}");
}

/// Six of ten, each by chance alone: all probes lost at once is nothing new, until it goes on.
#[test]
fn strong_losses_by_chance_make_no_lost_link_and_the_loss_of_everything_then_does() {
    for seed in 0..20 {
        let mut world = World::new();
        let random = &RefCell::new(fastrand::Rng::with_seed(seed));
        let by_chance = |share: f64| {
            let outcome = move |()| if random.borrow_mut().f64() < share { LOST } else { REPLY };
            move |_: i64| Second { outcomes: [(); 5].map(outcome), ..Second::default() }
        };
        // That it is losses by chance shows after some.
        world.seconds(17, good).seconds(40, by_chance(0.3)).seconds(3_600, by_chance(0.6));
        let course = world.course();
        assert!(!course.iter().any(|told| told.contains("worse")), "seed {seed}: {course:#?}");
        assert!(course.last().unwrap().contains("lossy ("), "seed {seed}: {course:#?}");
        let so_far = course.len();
        world.seconds(20, lost(ALL));
        let course = world.course();
        assert!(course[so_far].contains("worse: "), "seed {seed}: {course:#?}");
        assert!(course.last().unwrap().contains(" black-hole ("), "seed {seed}: {course:#?}");
    }
}

#[test]
fn a_slow_link_says_how_slow() {
    let mut world = World::new();
    let slow = |_| Second { outcomes: [Outcome::Reply { rtt_ms: 231.2 }; 5], ..Second::default() };
    world.seconds(17, good).seconds(5, slow).seconds(9, good);
    assert_eq!(
        world.course(),
        [
            "l opened by latency-high l/a/icmp-b: slow (5 probes, a/large 3 of 3 above 200 ms, newest 231.2 ms)",
            "l closed by latency-high l/a/large: slow (5 probes, a/large 3 of 3 above 200 ms, newest 231.2 ms)",
        ],
        "{:#?}",
        world.told
    );
}

/// The rule for large packets may fire first, where they were lost a little earlier or are judged by another rule.
#[test]
fn what_large_packets_are_lost_by_is_no_matter_of_their_size_while_small_ones_are_lost_too() {
    let mut world = World::new();
    let large = [false, false, false, false, true];
    world.seconds(15, good).seconds(2, lost(large)).seconds(20, lost(ALL)).seconds(20, good);
    let course = world.course();
    assert!(
        course[0].contains("opened by ping-failed l/a/large: link-lost (4 of 4 probes lost"),
        "{course:#?}"
    );
    assert!(
        !world.told.iter().any(|told| told.contains("too-big") || told.contains("worse")),
        "{:#?}",
        world.told
    );
}

#[test]
fn stamp_tells_the_way_that_is_lost_once_replies_come_again() {
    let mut world = World::new();
    let way = |lost: i32| Some(Way { lost, variation_ms: None });
    let told = |forward, back| {
        move |_| Second {
            detail: Some(Detail { forward: way(forward), back: way(back), ..Detail::default() }),
            ..Second::default()
        }
    };
    world.seconds(17, good).seconds(30, lost(ALL)).seconds(1, told(0, 6)).seconds(20, good);
    let course = world.course();
    assert_eq!(
        course[2], "l refined: one-way (lost from a to b only: 6 packets, those the other way arrived)",
        "{course:#?}"
    );
    assert!(course.last().unwrap().contains("closed by ping-failed l/a/large: one-way"), "{course:#?}");

    // What was lost before, both ways, is another trouble, though not long ago.
    let mut world = World::new();
    world.seconds(17, good).seconds(20, lost(ALL)).seconds(1, told(20, 0)).seconds(11, good);
    world.seconds(20, lost(ALL)).seconds(1, told(0, 6)).seconds(20, good);
    assert!(world.course().last().unwrap().contains("large: one-way"), "{:#?}", world.told);

    // What does not arrive over there has no way back to be lost on.
    let mut world = World::new();
    world.seconds(17, good).seconds(30, lost(ALL)).seconds(1, told(6, 0)).seconds(20, good);
    assert!(world.course().last().unwrap().contains("large: black-hole"), "{:#?}", world.told);
}

#[test]
fn a_collector_that_does_not_answer_itself_is_blind_and_so_is_one_that_cannot_collect() {
    let mut world = World::new();
    let blind = |_| Second { outcomes: [LOST, LOST, REPLY, REPLY, LOST], blind: true, ..Second::default() };
    world.seconds(17, good).seconds(10, blind).seconds(10, good);
    let course = world.course();
    assert!(
        course.last().unwrap().contains("collector-blind (a: this machine does not answer itself"),
        "{course:#?}"
    );

    let mut world = World::new();
    world
        .seconds(12, good)
        .seconds(10, |_| Second { collects: false, ..Second::default() })
        .seconds(10, good);
    assert_eq!(
        world.course(),
        [
            "a opened by blind a/ec2:vpn-status: collector-blind (ec2:vpn-status fails: RequestLimitExceeded)",
            "a closed by blind a/ec2:vpn-status: collector-blind (ec2:vpn-status fails: RequestLimitExceeded)",
        ]
    );
}

fn built_in(rule: &str, subject: &str, state: State) -> Transition {
    Transition {
        at: Timestamp::from_secs(START),
        state,
        rule: rule.into(),
        rule_index: usize::MAX,
        subject: subject.into(),
        link: None,
        value: Some(40.0),
        reason: "nothing for 40.0 s".to_owned(),
    }
}

#[test]
fn a_silent_site_joins_the_incident_of_its_link_and_is_one_of_its_own_without() {
    let mut world = World::new();
    world.seconds(17, good);
    world.tell(&[built_in("site-silent", "a", State::Firing), built_in("site-silent", "c", State::Firing)]);
    world.tell(&[built_in("site-silent", "a", State::Resolved)]);
    assert_eq!(
        world.told,
        [
            "a opened by site-silent a: site-silent (a: nothing for 40.0 s)",
            "c opened by site-silent c: site-silent (c: nothing for 40.0 s)",
            "a closed by site-silent a: site-silent (a: nothing for 40.0 s)",
        ]
    );
    world.told.clear();
    world.seconds(5, lost(ALL));
    world.tell(&[built_in("site-silent", "a", State::Firing)]);
    assert!(
        world.told.last().unwrap().starts_with("l joined by site-silent a: link-lost ("),
        "{:#?}",
        world.told
    );
    assert!(world.told.last().unwrap().contains("; a is silent"), "{:#?}", world.told);
}

#[test]
fn an_engine_that_is_saved_and_restored_in_an_incident_goes_on_with_its_verdict() {
    let mut world = World::new();
    world.seconds(17, good).seconds(6, lost(ALL));
    let mut engine = Engine::new(rules(), &topology());
    engine.restore(world.engine.changed()).unwrap();
    world.engine = engine;
    world.incidents = Incidents::restore(world.incidents.open().cloned().collect::<Vec<_>>());
    world.seconds(24, lost(ALL)).seconds(30, good);
    assert_eq!(world.course().len(), 3, "{:#?}", world.told);
    assert!(world.course()[1].contains("refined: black-hole"), "{:#?}", world.told);
}

#[test]
fn every_verdict_is_documented() {
    let documented = include_str!("../../../../docs/incidents.md");
    for kind in verdict::Kind::ALL {
        let row = documented.lines().find(|line| line.starts_with(&format!("| `{}` | ", kind.word())));
        let pages = if kind.is_down() { "| down |" } else { "| works less well |" };
        assert!(row.is_some_and(|row| row.ends_with(pages)), "{}: {row:?}", kind.word());
    }
}
