//! What an engineer reads, of every kind of verdict: the line of each notification, as it goes out by SMS. The real alerter makes
//! them in virtual time. `messages.txt` is what they are to be; where one is to change, it is to be read there first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crosswatch_alerter::config::Config;
use crosswatch_alerter::rehearsal::{Rehearsal, Told};
use crosswatch_judge::verdict::Kind;
use crosswatch_ruletest::{play, read};
use crosswatch_shared::config::document;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Detail, Lost, Observation, Origin, Outcome, Way};
use crosswatch_shared::time::Timestamp;

const CONFIG: &str = r#"
[site.us-east-1]
[site.eu-west-1]
[[link]]
name = "use1-euw1"
between = ["us-east-1", "eu-west-1"]
vpn = [{ site = "us-east-1", id = "vpn-0a1b2c3d", every = "10s", expect_up = 2 }]
probe = [
  { from = "us-east-1", icmp = "10.1.0.10", mtu = 1436 },
  { from = "us-east-1", tcp = "10.1.0.11:443" },
  { from = "eu-west-1", icmp = "10.0.0.10" },
  { from = "eu-west-1", udp = "10.0.0.10:862" },
]
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 5
notify = ["oncall"]
[[rule]]
name = "lossy"
metric = "loss_percent"
period = "10s"
above = 20
notify = ["oncall"]
[[rule]]
name = "too-big"
metric = "ping_ok"
below = 1
subjects = ["*@1436"]
notify = ["oncall"]
[[rule]]
name = "latency-high"
metric = "latency_ms"
above = 200
breach = "3 of 5"
notify = ["oncall"]
[[rule]]
name = "tunnels"
metric = "tunnels_up"
below = 2
notify = ["oncall"]
[[rule]]
name = "collecting"
metric = "collection_ok"
below = 1
notify = ["oncall"]
[notify.oncall]
sms = ["+15555550100"]
"#;

/// The kind that is to come of each, how long it lasts, and what is seen: of a probe that is left out nothing.
const CASES: [(Kind, u32, &str); 13] = [
    (
        Kind::LinkLost,
        60,
        r#"A = "80x10 lost x20 80", B = "80x10 lost x20 80", C = "80x10 lost x20 80", D = "80x10 lost x20 80""#,
    ),
    (
        Kind::TunnelsDown,
        75,
        r#"A = "80x10 lost x20 80", B = "80x10 lost x20 80", C = "80x10 lost x20 80", D = "80x10 lost x20 80", V = "2 0x2 2""#,
    ),
    (
        Kind::BlackHole,
        60,
        r#"A = "80x10 lost x20 80", B = "80x10 lost x20 80", C = "80x10 lost x20 80", D = "80x10 lost x20 80", V = "2""#,
    ),
    (Kind::SiteSilent, 35, r#"A = "80", C = "80", us-east-1 = "alive x10 dead x15 alive""#),
    (
        Kind::AlerterBlind,
        35,
        r#"A = "80", C = "80", us-east-1 = "alive x10 dead x15 alive", eu-west-1 = "alive x10 dead x15 alive""#,
    ),
    (Kind::Filtered, 55, r#"A = "80x10 lost x20 80", B = "80x10 lost x20 80", C = "80", D = "80""#),
    (Kind::TargetDown, 55, r#"A = "80", B = "80x10 lost:refused x20 80", C = "80", D = "80""#),
    (
        Kind::Lossy,
        75,
        r#"A = "80x10 lost x2 80 lost x2 80x2 lost x2 80 lost x2 80x3 lost 80", B = "80", C = "80", D = "80""#,
    ),
    (Kind::TooBig, 250, r#"A = "80", L = "80 lost:too-big 80""#),
    (Kind::RedundancyLost, 30, r#"A = "80", V = "2 1""#),
    (Kind::TunnelReplaced, 60, r#"A = "80", V = "2 1x3 2""#),
    (Kind::Slow, 30, r#"A = "80x10 231.25x10 80", B = "80", C = "80", D = "80""#),
    (Kind::CollectorBlind, 45, r#"S = "ok failed:RequestLimitExceeded x2 ok""#),
];

const NAMES: [(&str, &str); 6] = [
    ("A", "use1-euw1/us-east-1/icmp:10.1.0.10"),
    ("B", "use1-euw1/us-east-1/tcp:10.1.0.11:443"),
    ("C", "use1-euw1/eu-west-1/icmp:10.0.0.10"),
    ("D", "use1-euw1/eu-west-1/udp:10.0.0.10:862"),
    ("V", "use1-euw1/vpn-0a1b2c3d"),
    ("L", "use1-euw1/us-east-1/icmp:10.1.0.10@1436"),
];

fn config() -> (Topology, Config) {
    let read = document::read(Path::new("crosswatch.toml"), CONFIG.as_bytes(), |root| {
        let topology = Topology::take(root)?;
        let config = Config::take(root, Some(&topology))?;
        Some((topology, config))
    });
    read.unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is told of a case.
fn told(lasts: u32, series: &str) -> Vec<Told> {
    let (topology, config) = config();
    let mut series = format!(", {series}").replace(", S = ", ", \"us-east-1/ec2:vpn-status\" = ");
    for (short, name) in NAMES {
        series = series.replace(&format!(", {short} = "), &format!(", \"{name}\" = "));
    }
    let case = format!(
        "[[case]]\nname = \"x\"\nlasts = \"{lasts}s\"\nseries = {{ {} }}\nnotifications = []\n",
        &series[2..]
    );
    let cases = read(Path::new("rules.test.toml"), case.as_bytes(), &topology, &config);
    let cases = cases.unwrap_or_else(|problems| panic!("{problems}\n{case}"));
    play(&cases[0], &topology, &config).unwrap().told
}

/// Replies of STAMP that tell the way on which packets are lost, which no case can.
fn one_way() -> Vec<Told> {
    let (topology, config) = config();
    let start: Timestamp = "2026-11-22T07:00:00Z".parse().unwrap();
    let mut rehearsal = Rehearsal::new(&config, &topology, start).unwrap();
    for second in 0..40_u64 {
        let at = start + Duration::from_secs(second);
        let broken = (10..20).contains(&second);
        let probe = |seq, probe: &str, lost: bool, detail: Option<Detail>| Observation {
            at,
            seq,
            body: Body::Probe {
                link: "use1-euw1".into(),
                probe: probe.into(),
                outcome: if lost { Outcome::Lost(Lost::Timeout) } else { Outcome::Reply { rtt_ms: 80.0 } },
                detail: detail.map(Box::new),
            },
        };
        let way = (second == 20).then(|| Detail {
            forward: Some(Way { lost: 0, variation_ms: None }),
            back: Some(Way { lost: 10, variation_ms: None }),
            ..Detail::default()
        });
        let east = vec![
            probe(second * 2, "icmp:10.1.0.10", broken, None),
            probe(second * 2 + 1, "tcp:10.1.0.11:443", broken, None),
        ];
        let west = vec![
            probe(second * 2, "icmp:10.0.0.10", broken, None),
            probe(second * 2 + 1, "udp:10.0.0.10:862", broken, way),
        ];
        let batch = |site: &str, observations| Batch {
            origin: Origin { site: site.into(), collector: "c".into(), boot: site.into() },
            number: second,
            through: at,
            observations,
        };
        rehearsal.read(vec![batch("us-east-1", east), batch("eu-west-1", west)], at).unwrap();
    }
    rehearsal.end().unwrap()
}

#[test]
fn the_messages_of_every_kind_of_verdict_are_as_they_were_read_last() {
    let mut found = String::new();
    let mut kinds: Vec<Kind> = Vec::new();
    let cases = CASES.map(|(kind, lasts, series)| (kind, told(lasts, series)));
    for (kind, told) in cases.into_iter().chain([(Kind::OneWay, one_way())]) {
        writeln!(found, "{}", kind.word()).unwrap();
        for told in &told {
            writeln!(found, "  {}", told.text).unwrap();
            assert!(told.text.len() <= 160 && told.text.is_ascii(), "{}", told.text);
        }
        // The end tells the verdict, whatever was known at first.
        assert!(told.iter().any(|told| told.text.contains(&format!(" {} ", kind.word()))), "{found}");
        kinds.push(kind);
    }
    // No observation makes a config wrong: `tests/live_edits.rs` has that message.
    let observed = |kind: &&Kind| **kind != Kind::ConfigRefused;
    assert!(Kind::ALL.iter().filter(observed).all(|kind| kinds.contains(kind)), "each kind has its messages");
    assert_eq!(found, include_str!("messages.txt"), "found:\n{found}");
}
