//! What the rules become, within the limits of CloudWatch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use crosswatch_alarms::{Alarm, Counts, Impossible, Mode, Plan, Watch, diff, plan_text, summary};
use crosswatch_judge::Engine;
use crosswatch_judge::rule::{Breach, Metric as Judging, Missing, Rule, Side, Statistic, Threshold, Window};
use crosswatch_shared::config::topology::{shard, worker};
use proptest::prelude::*;

use world::{CLASSIC, TOPIC, World, classic_rules, rule};

fn text(plan: &Plan) -> String {
    let places: Vec<_> =
        plan.places.iter().map(|(place, alarms)| (place.clone(), diff(alarms, &[], |_| false))).collect();
    format!("{}{}\n", plan_text(&places, &plan.differences), summary(&places))
}

fn composite<'a>(alarms: &'a [Alarm], start: &str) -> &'a str {
    let found = alarms.iter().find(|alarm| alarm.name.starts_with(start)).expect(start);
    let Watch::Composite(composite) = &found.watch else { panic!("{found:?}") };
    &composite.rule
}

fn measured<'a>(alarms: &'a [Alarm], rule: &str) -> &'a crosswatch_alarms::Measured {
    let start = format!("Crosswatch rule {rule} ");
    let found = alarms.iter().find(|alarm| alarm.name.starts_with(&start)).expect(rule);
    let Watch::Metric(measured) = &found.watch else { panic!("{found:?}") };
    measured
}

#[test]
fn the_classic_config_becomes_these_alarms() {
    let plan = World::new(CLASSIC, classic_rules()).plan().unwrap();
    let shown = text(&plan);
    let expected = include_str!("classic.txt");
    assert_eq!(shown, expected, "\n{shown}");
    assert_eq!(plan.counts(), Counts { standard: 10, high_resolution: 0, composite: 1 });
}

#[test]
fn the_subjects_are_those_of_the_judge() {
    let config = r#"
[site.a]
[site.b]
[[link]]
name = "l1"
between = ["a", "b"]
vpn = [{ site = "a", id = "vpn-1" }, { site = "b", id = "vpn-2" }, { site = "b", tag = "Name=x" }]
probe = [{ from = "a", icmp = "10.0.0.1" }, { from = "b", tcp = "db.example.com:5432", name = "db" }]
[[link]]
name = "l2"
between = ["a"]
probe = [{ from = "a", icmp = "::1" }]
"#;
    let globs: [&[&str]; 6] = [&[], &["*"], &["l1/*"], &["l?/a/*"], &["*/db", "*vpn-2"], &["l1/vpn-1"]];
    let mut rules = Vec::new();
    for (index, subjects) in globs.iter().enumerate() {
        for metric in [Judging::TunnelsUp, Judging::PingOk, Judging::LatencyMs, Judging::LossPercent] {
            rules.push(Rule {
                subjects: subjects.iter().map(ToString::to_string).collect(),
                window: metric
                    .needs_period()
                    .then_some(Window { period: Duration::from_secs(60), statistic: Statistic::Average }),
                ..rule(&format!("r{index}-{}", metric.word()), metric, Side::Below, 1.0)
            });
        }
    }
    let world = World::new(config, rules.clone());
    let of_judge: BTreeSet<_> = Engine::new(rules, &world.topology)
        .subjects()
        .into_iter()
        .map(|state| format!("Crosswatch rule {} on {}", state.rule, state.subject))
        .collect();
    let of_alarms: BTreeSet<_> = world
        .alarms()
        .into_iter()
        .map(|alarm| alarm.name)
        .filter(|name| name.starts_with("Crosswatch rule"))
        .collect();
    assert!(of_judge.len() > 10);
    assert_eq!(of_alarms, of_judge);
}

#[test]
fn a_rule_with_a_period_is_its_statistic_over_that_period() {
    let over = |seconds, statistic| Some(Window { period: Duration::from_secs(seconds), statistic });
    let mut world = World::new(
        CLASSIC,
        vec![
            Rule {
                window: over(120, Statistic::Percentile(95)),
                breach: Breach { m: 2, n: 3 },
                ..rule("p95", Judging::LatencyMs, Side::Above, 150.0)
            },
            Rule {
                window: over(60, Statistic::Average),
                ..rule("loss", Judging::LossPercent, Side::Above, 20.0)
            },
            Rule {
                window: over(30, Statistic::Minimum),
                ..rule("half", Judging::LatencyMs, Side::Above, 9.0)
            },
            Rule {
                window: over(90, Statistic::Maximum),
                ..rule("odd", Judging::LatencyMs, Side::Below, 9.0)
            },
        ],
    );
    let alarms = world.alarms();
    let p95 = measured(&alarms, "p95");
    assert_eq!((&*p95.statistic, p95.period, p95.m, p95.n, p95.below), ("p95", 120, 2, 3, false));
    let loss = measured(&alarms, "loss");
    assert_eq!(
        (&*loss.metric, &*loss.statistic, loss.below, loss.threshold),
        ("PingSuccess", "Average", true, 0.8)
    );
    assert_eq!(measured(&alarms, "half").period, 60);
    assert_eq!(measured(&alarms, "odd").period, 120);
    assert_eq!(
        world.notes().lines().take(3).collect::<Vec<_>>(),
        [
            "note: rule loss: loss_percent above 20 is an average of PingSuccess below 0.8",
            "note: rule half: its period of 30s becomes 60 s, with metrics every 1m",
            "note: rule odd: its period of 90s becomes 120 s, with metrics every 1m",
        ]
    );
    world.period = Duration::from_secs(10);
    assert_eq!(measured(&world.alarms(), "half").period, 30);
    assert_eq!(world.plan().unwrap().counts().high_resolution, 2, "one a probe");
}

/// One sample a minute is no more than the rule asks for: its M of N stays.
#[test]
fn a_rule_over_sparse_observations_keeps_its_m_of_n() {
    let three = Rule { breach: Breach { m: 2, n: 3 }, ..rule("down", Judging::TunnelsUp, Side::Below, 1.0) };
    let world = World::new(CLASSIC, vec![three]);
    let alarms = world.alarms();
    let down = measured(&alarms, "down");
    assert_eq!((&*down.statistic, down.period, down.m, down.n), ("Maximum", 60, 2, 3));
}

/// An alarm on one period of 10 s looks back on half a minute: it would not see most of what is observed once a minute.
#[test]
fn a_rule_over_periods_shorter_than_the_interval_looks_at_as_many_as_its_observations_take() {
    let text = CLASSIC.replace("icmp = \"10.1.0.10\"", "icmp = \"10.1.0.10\", mtu = 1300");
    let lost = |period, name| Rule {
        window: Some(Window { period: Duration::from_secs(period), statistic: Statistic::Maximum }),
        breach: Breach { m: 2, n: 3 },
        subjects: vec!["*/icmp:*".to_owned()],
        ..rule(name, Judging::PingOk, Side::Below, 1.0)
    };
    let mut world = World::new(&text, vec![lost(10, "lost"), lost(120, "long")]);
    world.period = Duration::from_secs(10);
    let alarms = world.alarms();
    let of = |rule: &str, probe: &str| {
        let name = format!("Crosswatch rule {rule} on use1-euw1/us-east-1/{probe}");
        let found = alarms.iter().find(|alarm| alarm.name == name).expect(&name);
        let Watch::Metric(measured) = &found.watch else { panic!("{found:?}") };
        (measured.period, measured.m, measured.n)
    };
    assert_eq!(of("lost", "icmp:10.1.0.10"), (10, 2, 3));
    assert_eq!(of("lost", "icmp:10.1.0.10@1300"), (10, 2, 21));
    assert_eq!(of("long", "icmp:10.1.0.10@1300"), (120, 2, 3));
    let note = "note: rule lost: 2 of 3 observations 1m apart are looked for in 21 periods of 10 s\n";
    assert!(world.notes().starts_with(note), "{}", world.notes());
}

#[test]
fn a_link_with_alarms_of_seconds_and_of_minutes_may_page_twice_and_that_is_told() {
    let short = Rule {
        window: Some(Window { period: Duration::from_secs(10), statistic: Statistic::Maximum }),
        ..rule("short", Judging::PingOk, Side::Below, 1.0)
    };
    let mut world = World::new(CLASSIC, vec![short, rule("raw", Judging::TunnelsUp, Side::Below, 1.0)]);
    let note = "note: link use1-euw1: it has alarms of 10 s and of 60 s: what lasts shorter than the longer may page twice, once by each\n";
    assert!(!world.notes().contains("twice"), "with windows of a minute there are none shorter");
    world.period = Duration::from_secs(10);
    assert!(world.notes().ends_with(note), "{}", world.notes());
    world.rules.pop();
    assert_eq!(world.notes(), "");
}

#[test]
fn what_an_appliance_tells_is_collected_and_alarmed_of_where_it_is_published() {
    let text = CLASSIC.replace(
        "expect_up = 2 }]",
        "expect_up = 2 }, { site = \"eu-west-1\", strongswan = \"unix:///run/charon.vici\", child = \"net\" }]",
    );
    let collecting = Rule {
        subjects: vec!["*/strongswan:*".to_owned()],
        ..rule("collecting", Judging::CollectionOk, Side::Below, 1.0)
    };
    let mut world = World::new(&text, vec![collecting]);
    let source = "eu-west-1/strongswan:tunnels";
    let note = format!("note: rule collecting: {source} is not published, so there is no alarm for it\n");
    assert_eq!(world.notes(), note);
    world.sources.push("strongswan:*".to_owned());
    let alarms = world.alarms();
    let expected = format!("ALARM(\"Crosswatch rule collecting on {source}\")");
    assert_eq!(composite(&alarms, "collecting fails"), expected);
}

#[test]
fn what_an_alarm_cannot_say_is_told() {
    let world = World::new(
        &CLASSIC.replace("id = \"vpn-0a1b2c3d4e5f60718\"", "tag = \"Name=x\""),
        vec![
            Rule {
                clear_threshold: Some(2.0),
                deadline: Some(Duration::from_secs(10)),
                missing: Missing::Breach,
                ..rule("tunnels", Judging::TunnelsUp, Side::Below, 1.0)
            },
            Rule {
                window: Some(Window { period: Duration::from_secs(60), statistic: Statistic::Average }),
                ..rule("jitter", Judging::JitterMs, Side::Above, 5.0)
            },
            rule("collecting", Judging::CollectionOk, Side::Below, 1.0),
            Rule {
                threshold: Threshold::OfBaseline { factor: 1.5, fixed: None },
                ..rule("usual", Judging::LatencyMs, Side::Above, 0.0)
            },
            Rule {
                threshold: Threshold::OfBaseline { factor: 1.5, fixed: Some(300.0) },
                clear_threshold: Some(1.25),
                window: Some(Window { period: Duration::from_secs(60), statistic: Statistic::Average }),
                ..rule("with", Judging::LatencyMs, Side::Above, 0.0)
            },
        ],
    );
    let expected = "\
note: rule tunnels: link use1-euw1: the VPN connections with tag Name=x have no alarm, since their ids are not in the config; name them by id to have one
note: rule tunnels: clear_above = 2 can't be said: the alarm clears at its one threshold
note: rule tunnels: deadline = \"10s\" can't be said: missing data leaves the alarm as it is, and the heartbeats tell of it
note: rule tunnels: missing = \"breach\" can't be said: missing data leaves the alarm as it is
note: rule jitter: Jitter is not published, so there is no alarm; add it to publish in [metrics]
note: rule collecting: us-east-1/icmp is not published, so there is no alarm for it
note: rule collecting: us-east-1/journal is not published, so there is no alarm for it
note: rule collecting: eu-west-1/tcp is not published, so there is no alarm for it
note: rule collecting: eu-west-1/journal is not published, so there is no alarm for it
note: rule usual: 1.5 x baseline can't be said: an alarm has no baseline, so there is none of it; with 'fixed' there is one with that threshold
note: rule with: 1.5 x baseline can't be said: the alarm has fixed = 300 as its threshold always
note: rule with: clear_below = \"1.25 x baseline\" can't be said: the alarm clears at its one threshold
note: link use1-euw1: VPN connections found by tag have no alarm on AWS's own TunnelState; name them by id to have one
";
    assert_eq!(world.notes(), expected);
    let alarms = world.alarms();
    assert_eq!(measured(&alarms, "with").threshold, 300.0);
    let collecting = composite(&alarms, "collecting fails");
    assert_eq!(collecting, "ALARM(\"Crosswatch rule collecting on us-east-1/ec2:vpn-status\")");
}

#[test]
fn each_worker_has_its_heartbeat_and_a_link_asks_for_that_of_its_own_alerter() {
    let queues = "[queue]\nkind = \"sqs\"\npublisher = [\"https://sqs/1/p\", \"https://sqs/1/q\"]\n\
                  alerter = [\"https://sqs/1/a\", \"https://sqs/1/b\", \"https://sqs/1/c\"]\n";
    let mut world = World::new(&format!("{CLASSIC}{queues}"), classic_rules());
    world.mode = Mode::Backup;
    let alarms = world.alarms();
    for worker in ["publisher", "publisher-2", "alerter", "alerter-2", "alerter-3"] {
        let name = format!("Crosswatch {worker} silent");
        assert!(alarms.iter().any(|alarm| alarm.name == name), "{name}");
    }
    let own = worker("alerter", shard("use1-euw1", 3));
    let link = composite(&alarms, "use1-euw1 broken or slow");
    assert!(link.starts_with(&format!("ALARM(\"Crosswatch {own} silent\") AND (")), "{own}: {link}");
    let stages = composite(&alarms, "collector or publisher silent");
    let publishers =
        "ALARM(\"Crosswatch publisher silent\") OR ALARM(\"Crosswatch publisher-2 silent\") OR (";
    assert!(stages.starts_with(publishers), "{stages}");
}

#[test]
fn the_second_of_two_alerters_has_an_alarm_of_its_own_where_its_heartbeat_comes_to() {
    let queues = "[queue]\nkind = \"sqs\"\npublisher = \"https://sqs/1/p\"\nalerter = [\"https://sqs/1/a\", \"https://sqs/1/b\"]\n\
                  second_alerter = [\"https://sqs/2/a\", \"https://sqs/2/b\"]\n";
    let mut world = World::new(&format!("{CLASSIC}{queues}"), classic_rules());
    for mode in [Mode::Both, Mode::Backup] {
        world.mode = mode;
        let alarms = world.alarms();
        for worker in ["second-alerter", "second-alerter-2"] {
            let name = format!("Crosswatch {worker} silent");
            let alarm = alarms.iter().find(|alarm| alarm.name == name).expect(worker);
            assert_eq!(alarm.alarm_actions, [TOPIC]);
            let Watch::Metric(measured) = &alarm.watch else { panic!("{alarm:?}") };
            assert_eq!(measured.metric, "Heartbeat");
            assert_eq!(measured.dimensions, [("Stage".to_owned(), worker.to_owned())]);
        }
        let asks = |alarm: &&Alarm| matches!(&alarm.watch, Watch::Composite(of) if of.rule.contains("second-alerter"));
        assert_eq!(alarms.iter().find(asks), None, "what pages for links waits for the first alone");
    }
    assert!(!world.notes().contains("second alerter"), "{}", world.notes());

    // It would be in another region than its alarm, which would go off for ever.
    world.region_is_named = false;
    assert!(!world.alarms().iter().any(|alarm| alarm.name.contains("second-alerter")));
    assert!(world.notes().contains("no alarm tells that the second alerter is dead"), "{}", world.notes());
}

#[test]
fn as_backup_links_page_only_while_the_alerter_is_silent() {
    let mut world = World::new(CLASSIC, classic_rules());
    world.mode = Mode::Backup;
    let alarms = world.alarms();
    let link = composite(&alarms, "use1-euw1 broken or slow");
    assert!(
        link.starts_with("ALARM(\"Crosswatch alerter silent\") AND (ALARM(\"Crosswatch rule tunnels-down"),
        "{link}"
    );
    assert_eq!(
        composite(&alarms, "collector or publisher silent"),
        "ALARM(\"Crosswatch publisher silent\") OR (ALARM(\"Crosswatch alerter silent\") AND \
         (ALARM(\"Crosswatch collector us-east-1 silent\") OR ALARM(\"Crosswatch collector eu-west-1 silent\")))"
    );
}

#[test]
fn off_leaves_no_alarm_but_looks_where_some_may_be() {
    let mut world = World::new(CLASSIC, classic_rules());
    world.mode = Mode::Off;
    let plan = world.plan().unwrap();
    assert_eq!(plan.counts(), Counts::default());
    assert!(plan.places.keys().any(|place| place.region == "us-east-1"));
}

/// A heartbeat that nothing sends would page at once.
#[test]
fn without_metrics_in_cloudwatch_there_are_only_the_alarms_that_need_nothing_of_ours() {
    let mut world = World::new(CLASSIC, classic_rules());
    world.to_cloudwatch = false;
    let alarms = world.alarms();
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].name, "Crosswatch VPN use1-euw1/vpn-0a1b2c3d4e5f60718: all tunnels down");
}

#[test]
fn an_alarm_on_tunnels_is_in_the_vpns_region_and_account_and_asks_what_the_rules_ask() {
    let text = CLASSIC
        .replace("us-east-1:123456789012:site", "ap-south-1:123456789012:site")
        .replace("expect_up = 2", "region = \"ap-south-1\", role = \"arn:aws:iam::210987654321:role/watch\"");
    let both = rule("both", Judging::TunnelsUp, Side::Below, 2.0);
    let plan = World::new(&text, vec![both]).plan().unwrap();
    let (place, alarms) = plan.places.iter().find(|(place, _)| place.region == "ap-south-1").unwrap();
    assert_eq!(place.role.as_deref(), Some("arn:aws:iam::210987654321:role/watch"));
    let [alarm] = &**alarms else { panic!("{alarms:?}") };
    let Watch::Metric(measured) = &alarm.watch else { panic!("{alarm:?}") };
    assert_eq!((measured.threshold, &*measured.namespace, measured.period), (1.0, "AWS/VPN", 300));
    assert_eq!(alarm.alarm_actions, ["arn:aws:sns:ap-south-1:123456789012:site"]);

    let elsewhere = CLASSIC.replace("us-east-1:123456789012:site", "eu-west-1:123456789012:site");
    assert!(
        World::new(&elsewhere, Vec::new())
            .notes()
            .contains("the topic of site us-east-1 is not in us-east-1")
    );
}

#[test]
fn a_topic_in_another_region_is_refused() {
    let mut world = World::new(CLASSIC, classic_rules());
    world.topic = Some("arn:aws:sns:eu-west-1:123456789012:pages");
    assert!(matches!(world.plan(), Err(Impossible::TopicElsewhere { .. })));
}

fn wide(probes: usize, name_length: usize) -> String {
    let mut text =
        format!("[site.a]\n[[link]]\nname = \"{}\"\nbetween = [\"a\"]\nprobe = [\n", "l".repeat(name_length));
    for index in 0..probes {
        let name = format!("{index:0>name_length$}");
        text.push_str(&format!("  {{ from = \"a\", icmp = \"10.0.0.1\", name = \"{name}\" }},\n"));
    }
    text + "]\n"
}

fn within_the_limits(probes: usize, length: usize, namespace: usize, mode: Mode) {
    let name = "r".repeat(length);
    let mut world = World::new(&wide(probes, length), vec![rule(&name, Judging::PingOk, Side::Below, 1.0)]);
    world.namespace = "n".repeat(namespace);
    world.mode = mode;
    let alarms = world.alarms();
    let names: BTreeSet<_> = alarms.iter().map(|alarm| &*alarm.name).collect();
    assert_eq!(names.len(), alarms.len());
    let marks = world.plan().unwrap().marks;
    let mut paged = BTreeSet::new();
    for alarm in &alarms {
        assert!(alarm.name.len() <= 255 && alarm.name.is_ascii(), "{}", alarm.name);
        assert!(alarm.description.len() <= 1_024);
        match &alarm.watch {
            Watch::Metric(_) => assert!(marks.is_metric_alarm(&alarm.name)),
            Watch::Composite(composite) => {
                assert!(marks.is_composite(&alarm.name));
                assert!(composite.rule.len() <= 10_240, "{}", composite.rule.len());
                let children: Vec<_> = composite.rule.split('"').skip(1).step_by(2).collect();
                assert!(children.len() <= 100, "{}", children.len());
                for child in children {
                    assert!(names.contains(child), "{child}");
                    paged.insert(child);
                }
            }
        }
    }
    // Whatever is watched can page.
    for alarm in alarms.iter().filter(|alarm| !alarm.is_composite() && alarm.alarm_actions.is_empty()) {
        assert!(paged.contains(&*alarm.name), "{}", alarm.name);
    }
}

/// With names so short that it is the count of alarms which limits a composite.
#[test]
fn a_composite_of_short_names_takes_no_more_than_a_hundred() {
    within_the_limits(250, 4, 1, Mode::Both);
    within_the_limits(250, 4, 1, Mode::Backup);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_alarm_is_within_the_limits(
        probes in 1..260usize,
        length in 4..=64usize,
        namespace in 1..=255usize,
        backup: bool,
    ) {
        within_the_limits(probes, length, namespace, if backup { Mode::Backup } else { Mode::Both });
    }
}
