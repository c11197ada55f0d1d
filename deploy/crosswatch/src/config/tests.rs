//! The configuration as its user meets it: the documented example, and everything that can be wrong with one.

use std::time::Duration;

use crosswatch_alerter::config::{ConfiguredRule, Receiver, Template};
use crosswatch_judge::rule::{Breach, Missing, Statistic, Threshold, Window};
use crosswatch_publisher::config::{Alarms, Kind};
use crosswatch_shared::config::topology::{
    Appliance, Host, Link, Probe, Queue, QueueKind, Site, SqsQueue, Target, Vpn, VpnSelect,
};
use crosswatch_shared::config::values::Rate;
use proptest::prelude::*;

use super::*;

/// Every `NAME.toml` of `tests/broken` gives exactly the errors of `NAME.errors`.
#[test]
fn broken_configs_give_all_their_errors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 25, "{} broken configs", files.len());
    let mut differ = Vec::new();
    for path in files {
        let name = Path::new(path.file_name().unwrap());
        let found = match Config::parse(&std::fs::read(&path).unwrap(), name) {
            Ok(_) => "no error".to_owned(),
            Err(problems) => problems.to_string(),
        };
        let expected = std::fs::read_to_string(path.with_extension("errors")).unwrap_or_default();
        if found.trim_end() != expected.trim_end() {
            differ.push(format!("--- {}\n{found}", name.display()));
        }
    }
    assert!(differ.is_empty(), "other errors than expected:\n{}", differ.join("\n"));
}

/// The config that the documentation shows. It is an interface: what it says must not change.
const EXAMPLE: &str = r#"
[site.us-east-1]
region = "us-east-1"                       # whose VPN connections this site's collector polls; absent outside AWS
[site.eu-west-1]
region = "eu-west-1"

[[link]]
name = "use1-euw1"
between = ["us-east-1", "eu-west-1"]
vpn = [{ site = "us-east-1", id = "vpn-0a1b2c3d4e5f60718", every = "60s", expect_up = 2 }]   # or { site, tag = "Name=…" }
probe = [
  { from = "us-east-1", icmp = "10.1.0.10", every = "1s", timeout = "500ms" },      # optional: name = "…"
  { from = "eu-west-1", tcp = "10.0.0.10:443", every = "1s", timeout = "500ms" },
]

[queue]
kind = "embedded"                          # or "sqs" with: publisher = "<url>" or [urls], alerter = "<url>" or [urls]
path = "data"                              # the folder of the journal and of the stages' own files

[metrics]
kind = "embedded"                          # or "cloudwatch"
namespace = "Crosswatch"
period = "60s"

[[rule]]
name = "tunnels-down"
metric = "tunnels_up"
below = 1
notify = ["oncall"]
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 30
notify = ["oncall"]
[[rule]]
name = "latency-high"
metric = "latency_ms"
above = 200
breach = "10 of 15"
clear = 30
subjects = ["use1-euw1/*"]                 # optional globs
notify = ["oncall"]

[notify.oncall]
sms = ["+15555550100"]                     # SNS; or topic = "arn:…", webhook = "https://…", command = ["…"]
at_most = "10 per 1h"                      # beyond it one digest
[http]
listen = "127.0.0.1:9464"                  # /metrics /healthz /readyz; port 0 allowed, the port taken is printed;
                                           # default: run and collector 9464, publisher 9465, alerter 9466
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text.as_bytes(), Path::new("c.toml")).map_err(|problems| problems.to_string())
}

fn rule(name: &str, metric: Metric, side: Side, threshold: f64) -> Rule {
    Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m: 1, n: 1 },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}

#[test]
fn the_documented_example_means_what_it_says() {
    let every = Duration::from_secs(1);
    let timeout = Duration::from_millis(500);
    let site = |name: &str| Site { name: name.into(), region: Some(name.into()), role: None, topic: None };
    let topology = Topology {
        sites: vec![site("us-east-1"), site("eu-west-1")],
        links: vec![Link {
            name: "use1-euw1".into(),
            between: vec!["us-east-1".into(), "eu-west-1".into()],
            appliances: Vec::new(),
            vpns: vec![Vpn {
                site: "us-east-1".into(),
                select: VpnSelect::Id("vpn-0a1b2c3d4e5f60718".into()),
                every: Duration::from_secs(60),
                expect_up: 2,
                region: None,
                role: None,
            }],
            probes: vec![
                Probe {
                    name: "icmp:10.1.0.10".into(),
                    from: "us-east-1".into(),
                    target: Target::Icmp(Host::Address("10.1.0.10".parse().unwrap())),
                    every,
                    timeout,
                    burst: 1,
                    size: None,
                },
                Probe {
                    name: "tcp:10.0.0.10:443".into(),
                    from: "eu-west-1".into(),
                    target: Target::Tcp(Host::Address("10.0.0.10".parse().unwrap()), 443),
                    every,
                    timeout,
                    burst: 1,
                    size: None,
                },
            ],
        }],
        queue: Queue {
            path: PathBuf::from("/etc/crosswatch/data"),
            kind: QueueKind::Embedded,
            keep: Duration::from_hours(7 * 24),
            max_bytes: 1 << 30,
        },
        listen: Some("127.0.0.1:9464".parse().unwrap()),
    };
    let metrics = crosswatch_publisher::config::Config {
        kind: Kind::Embedded,
        namespace: "Crosswatch".into(),
        period: Duration::from_secs(60),
        publish: crosswatch_window::Metric::DEFAULT.to_vec(),
        region: None,
        sources: vec!["ec2:*".into()],
        alarms: Alarms::Both,
        alarm_topic: None,
        keep: Duration::from_secs(90 * 86_400),
        max_bytes: None,
    };
    let told = |rule| ConfiguredRule { rule, notify: vec!["oncall".into()] };
    let alerts = crosswatch_alerter::config::Config {
        rules: vec![
            told(rule("tunnels-down", Metric::TunnelsUp, Side::Below, 1.0)),
            told(Rule {
                breach: Breach { m: 3, n: 3 },
                clear: Some(30),
                ..rule("ping-failed", Metric::PingOk, Side::Below, 1.0)
            }),
            told(Rule {
                breach: Breach { m: 10, n: 15 },
                clear: Some(30),
                subjects: vec!["use1-euw1/*".into()],
                ..rule("latency-high", Metric::LatencyMs, Side::Above, 200.0)
            }),
        ],
        receivers: vec![Receiver {
            name: "oncall".into(),
            sms: vec!["+15555550100".into()],
            texting: crosswatch_alerter::config::Texting::default(),
            topic: None,
            webhook: None,
            template: Template::Plain,
            command: Vec::new(),
            console: false,
            at_most: Some(Rate { count: 10, per: Duration::from_hours(1) }),
        }],
        heartbeat: None,
        silences: PathBuf::from("/etc/crosswatch/silences.toml"),
    };
    let path = Path::new("/etc/crosswatch/crosswatch.toml");
    let found = Config::parse(EXAMPLE.as_bytes(), path).unwrap();
    let judged = found.judged.clone();
    let expected = Config { topology, metrics, alerts, judged, page: None };
    assert_eq!(found, expected);

    // What is kept for the record has no receiver's secrets, and judges the same.
    let kept = Config::parse(found.judged.as_bytes(), path).unwrap();
    assert!(!found.judged.contains("notify") && !found.judged.contains("oncall"), "{}", found.judged);
    let rules = |config: &Config| config.alerts.rules.iter().map(|of| of.rule.clone()).collect::<Vec<_>>();
    assert_eq!((rules(&kept), &kept.topology.links), (rules(&found), &found.topology.links));
}

#[test]
fn what_is_kept_for_the_record_has_no_comment_which_may_be_a_secret() {
    let text = SMALL.replace("icmp = \"10.0.0.2\" },", "icmp = \"10.0.0.2\" }, # sms = [\"+15555550100\"]");
    let hidden = "# webhook = \"https://hooks.example.com/secret\"\n";
    let text = format!("{hidden}[notify.me]\nconsole = true\n{hidden}{text}{hidden}[http]\n{hidden}");
    let kept = parse(&text).unwrap().judged;
    assert!(!kept.contains('#') && !kept.contains("secret") && !kept.contains("+1555"), "{kept}");
    assert_eq!(parse(&kept).unwrap().topology, parse(SMALL).unwrap().topology);
}

const SMALL: &str = r#"
[site.z]
[site.a]
[[link]]
name = "l"
between = ["z", "a"]
vpn = [{ site = "a", tag = "Name=x=y" }]
probe = [
  { from = "a", icmp = "10.0.0.2" },
  { from = "z", tcp = "[::1]:443", name = "web" },
  { from = "a", icmp = "db.example.com", every = "10ms" },
]
"#;

#[test]
fn what_may_be_left_out_has_its_defaults_and_order_is_kept() {
    let config = parse(SMALL).unwrap();
    let names: Vec<&str> = config.topology.sites.iter().map(|site| &*site.name).collect();
    assert_eq!(names, ["z", "a"], "in the order of the file");
    assert_eq!(config.topology.queue.path, PathBuf::from("data"));
    assert_eq!(config.topology.listen, None);
    assert_eq!(config.metrics, crosswatch_publisher::config::Config::default());
    assert_eq!(config.alerts, crosswatch_alerter::config::Config::default());
    let link = &config.topology.links[0];
    assert_eq!(link.vpns[0].select, VpnSelect::Tag("Name".into(), "x=y".into()));
    assert_eq!((link.vpns[0].every, link.vpns[0].expect_up), (Duration::from_secs(60), 2));
    assert_eq!(&*link.probes[1].name, "web");
    let timing = (link.probes[0].every, link.probes[0].timeout);
    assert_eq!(timing, (Duration::from_secs(1), Duration::from_millis(500)));
    assert_eq!(link.probes[2].every, Duration::from_millis(10));
}

#[test]
fn an_mtu_makes_a_probe_of_its_own_and_an_appliance_is_no_vpn_connection() {
    let config = parse(
        &SMALL
            .replace("icmp = \"10.0.0.2\"", "icmp = \"10.0.0.2\", burst = 5, mtu = 1436")
            .replace("tcp = \"[::1]:443\"", "udp = \"[::1]:862\"")
            .replace(
                "vpn = [",
                "vpn = [{ site = \"z\", strongswan = \"unix:///run/charon.vici\", child = \"net\" }, ",
            ),
    )
    .unwrap();
    let link = &config.topology.links[0];
    let probes: Vec<_> = link.probes.iter().map(|p| (&*p.name, p.burst, p.size, p.every.as_secs())).collect();
    assert_eq!(
        probes[..3],
        [("icmp:10.0.0.2", 5, None, 1), ("icmp:10.0.0.2@1436", 3, Some(1436), 60), ("web", 1, None, 1)]
    );
    assert_eq!(link.probes[2].target, Target::Udp(Host::Address("::1".parse().unwrap()), 862));
    assert_eq!(link.vpns.len(), 1);
    let appliance = Appliance {
        site: "z".into(),
        name: "strongswan:net@z".into(),
        socket: "/run/charon.vici".into(),
        child: "net".into(),
        every: Duration::from_secs(5),
        expect_up: 2,
    };
    assert_eq!(link.appliances, [appliance]);
}

#[test]
fn queues_over_sqs_are_one_or_several_a_stage() {
    let queue = |url: &str, standby: Option<&str>| SqsQueue {
        url: url.to_owned(),
        standby: standby.map(str::to_owned),
        second: None,
    };
    let config = parse(&format!(
        "{SMALL}\n[queue]\nkind = \"sqs\"\npublisher = \"https://sqs/1/p\"\nalerter = [\"https://sqs/1/a\", \"https://sqs/1/b\"]\nstandby = {{ alerter = [\"https://sqs/2/a\", \"https://sqs/2/b\"] }}\nkeep = \"1d\"\nmax_size = \"5MiB\""
    ))
    .unwrap();
    let expected = Queue {
        path: PathBuf::from("data"),
        kind: QueueKind::Sqs {
            publisher: vec![queue("https://sqs/1/p", None)],
            alerter: vec![
                queue("https://sqs/1/a", Some("https://sqs/2/a")),
                queue("https://sqs/1/b", Some("https://sqs/2/b")),
            ],
        },
        keep: Duration::from_hours(24),
        max_bytes: 5 << 20,
    };
    assert_eq!(config.topology.queue, expected);
}

#[test]
fn every_key_of_a_rule_is_taken() {
    let config = parse(&format!(
        r#"{SMALL}
        [[rule]]
        name = "slow"
        metric = "latency_ms"
        above = 200.5
        clear_below = 150
        breach = "2 of 3"
        clear = 5
        period = "30s"
        statistic = "p95"
        deadline = "2m"
        missing = "breach"
        subjects = ["l/?/web", "*"]
        [[rule]]
        name = "tagged"
        metric = "tunnels_up"
        below = 2
        clear_above = 2
        subjects = ["l/vpn-*"]
        [[rule]]
        name = "own"
        metric = "collection_ok"
        below = 1
        subjects = ["a/ec2:*"]
        [[rule]]
        name = "usual"
        metric = "latency_ms"
        above = "1.5 x baseline"
        clear_below = "1.25x baseline"
        fixed = 300
        [[rule]]
        name = "fast"
        metric = "collection_ms"
        below = "0.5 x baseline"
        "#
    ))
    .unwrap();
    let rules: Vec<Rule> = config.alerts.rules.into_iter().map(|rule| rule.rule).collect();
    let expected = [
        Rule {
            clear_threshold: Some(150.0),
            breach: Breach { m: 2, n: 3 },
            clear: Some(5),
            window: Some(Window { period: Duration::from_secs(30), statistic: Statistic::Percentile(95) }),
            deadline: Some(Duration::from_secs(120)),
            missing: Missing::Breach,
            subjects: vec!["l/?/web".into(), "*".into()],
            ..rule("slow", Metric::LatencyMs, Side::Above, 200.5)
        },
        Rule {
            clear_threshold: Some(2.0),
            subjects: vec!["l/vpn-*".into()],
            ..rule("tagged", Metric::TunnelsUp, Side::Below, 2.0)
        },
        Rule { subjects: vec!["a/ec2:*".into()], ..rule("own", Metric::CollectionOk, Side::Below, 1.0) },
        Rule {
            threshold: Threshold::OfBaseline { factor: 1.5, fixed: Some(300.0) },
            clear_threshold: Some(1.25),
            ..rule("usual", Metric::LatencyMs, Side::Above, 0.0)
        },
        Rule {
            threshold: Threshold::OfBaseline { factor: 0.5, fixed: None },
            ..rule("fast", Metric::CollectionMs, Side::Below, 0.0)
        },
    ];
    assert_eq!(rules, expected);
}

#[test]
fn the_starter_watches_loopback_and_the_gateway() {
    let targets = |config: &Config| {
        let targets = config.topology.probes().map(|(link, probe)| format!("{} {}", link.name, probe.name));
        targets.collect::<Vec<_>>()
    };
    let alone = Config::starter(None).unwrap();
    assert_eq!(targets(&alone), ["loopback icmp:127.0.0.1"]);
    let config = Config::starter(Some("10.0.0.1".parse().unwrap())).unwrap();
    assert_eq!(targets(&config), ["loopback icmp:127.0.0.1", "gateway icmp:10.0.0.1"]);
    assert_eq!(
        targets(&Config::starter(Some("fd00::1".parse().unwrap())).unwrap())[1],
        "gateway icmp:fd00::1"
    );
    let rules: Vec<_> = config
        .alerts
        .rules
        .iter()
        .map(|rule| {
            (
                &*rule.rule.name,
                rule.rule.threshold.fixed().unwrap(),
                rule.rule.breach,
                rule.rule.clear,
                &*rule.notify[0],
            )
        })
        .collect();
    let expected = [
        ("ping-failed", 1.0, Breach { m: 3, n: 3 }, Some(10), "console"),
        ("latency-high", 200.0, Breach { m: 10, n: 15 }, Some(30), "console"),
    ];
    assert_eq!(rules, expected);
    assert!(config.alerts.receivers[0].console);
    assert_eq!(config.topology.queue.path, PathBuf::from("data"));
}

#[test]
fn what_the_starter_shows_commented_out_is_valid_too() {
    let text = starter_text(Some("10.0.0.1".parse().unwrap()));
    let mut uncommented = 0;
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(code) if code.starts_with(['[', ']', ' ']) || code.contains(" = ") && !code.contains(": ") => {
            uncommented += 1;
            code
        }
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert!(uncommented >= 24, "{uncommented} lines were commented out");
    assert_eq!(config.topology.sites.len(), 2);
    assert_eq!(config.topology.vpns().count(), 1);
    assert_eq!(config.alerts.rules.len(), 3);
    assert_eq!(config.alerts.receivers[1].sms, ["+15555550100"]);
}

#[test]
fn news_begins_at_the_lowest_threshold_that_covers_a_probe() {
    let rule = |name: &str, metric: &str, threshold: &str, subjects: &str| {
        format!("[[rule]]\nname = \"{name}\"\nmetric = \"{metric}\"\n{threshold}\n{subjects}\n")
    };
    let text = [
        SMALL.to_owned(),
        rule("a", "latency_ms", "above = 200", "subjects = [\"l/a/*\"]"),
        rule("b", "latency_ms", "above = 90.5", "subjects = [\"*/icmp:10.0.0.2\"]"),
        rule("c", "latency_ms", "below = 1", ""),
        rule("d", "jitter_ms", "above = 2\nperiod = \"30s\"", ""),
        // What a baseline is the collector does not know.
        rule("e", "latency_ms", "above = \"1.5 x baseline\"", ""),
        rule("f", "latency_ms", "above = \"1.2 x baseline\"\nfixed = 150", "subjects = [\"*db*\"]"),
    ];
    let thresholds = news_thresholds(&parse(&text.join("\n")).unwrap());
    let of = |site: &str, probe: &str| thresholds.get(&("l".into(), site.into(), probe.into())).copied();
    assert_eq!(of("a", "icmp:10.0.0.2"), Some(90.5));
    assert_eq!(of("a", "icmp:db.example.com"), Some(150.0));
    assert_eq!(of("z", "web"), None);
}

#[test]
fn the_config_of_this_folder_is_taken_before_that_of_the_machine_and_a_hidden_one_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (here, installed) = (folder.path().join("here.toml"), folder.path().join("etc/crosswatch.toml"));
    let found = || first_of(&here, &installed).map_err(|error| error.to_string());
    assert_eq!(found(), Ok(None), "without any the starter does");
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    assert_eq!(found(), Ok(None), "an installed program without a config");
    std::fs::write(&installed, "").unwrap();
    assert_eq!(found(), Ok(Some(installed.clone())));
    std::fs::write(&here, "").unwrap();
    assert_eq!(found(), Ok(Some(here.clone())));
    // One that leads nowhere is somebody's mistake, and is told when it is read.
    std::fs::remove_file(&here).unwrap();
    std::os::unix::fs::symlink("nowhere", &here).unwrap();
    assert_eq!(found(), Ok(Some(here.clone())));
    assert_eq!(super::found(Some(Path::new("named.toml"))).unwrap(), Some(PathBuf::from("named.toml")));
}

#[test]
fn a_config_that_cannot_be_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Config::load(&folder.path().join("crosswatch.toml")).unwrap_err();
    assert!(absent.to_string().contains("crosswatch init"), "{absent}");
    let unreadable = Config::load(folder.path()).unwrap_err();
    assert!(matches!(unreadable, LoadError::Unreadable { .. }), "{unreadable}");
    let file = folder.path().join("c.toml");
    std::fs::write(&file, SMALL).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.topology.queue.path, folder.path().join("data"), "beside the file");
}

/// The example with some of its characters replaced, and whatever else.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let places = prop::collection::vec(
        (any::<prop::sample::Index>(), "[\\[\\]{}=\"',.#\n\r0-9a-z:é\\\\]{0,3}"),
        1..12,
    );
    let mutilated = places.prop_map(|places| {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (place, with) in places {
            let at = place.index(text.len());
            text.splice(at..=at, with.chars());
        }
        text.into_iter().collect::<String>().into_bytes()
    });
    let soup = prop::collection::vec(
        prop::sample::select(vec![
            "[", "]", "[[", "]]", "{", "}", "=", ",", "\n", "\"", "'", "\"\"\"", ".", "#", " ", "link",
            "site", "rule", "notify", "probe", "vpn", "name", "1", "\"1s\"", "\"a\"", "inf", "1e999", "\r",
            "\u{feff}", "é", "0x",
        ]),
        0..60,
    );
    prop_oneof![
        4 => mutilated,
        2 => soup.prop_map(|words| words.concat().into_bytes()),
        1 => ".*".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_is_a_panic_and_every_error_has_its_place(text in damaged()) {
        if let Err(problems) = Config::parse(&text, Path::new("c.toml")) {
            prop_assert!(!problems.list().is_empty());
            let lines: Vec<String> = String::from_utf8_lossy(&text).split('\n').map(str::to_owned).collect();
            for problem in problems.list() {
                let line = lines.get(problem.line - 1);
                prop_assert!(
                    line.is_some_and(|line| problem.column <= line.chars().count() + 1),
                    "{}:{} is outside the file", problem.line, problem.column
                );
            }
        }
    }
}
