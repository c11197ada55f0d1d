//! Which alarms a silence mutes, and how CloudWatch is told when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::time::Duration;

use crosswatch_alarms::Plan;
use crosswatch_alarms::mutes::mutes;
use crosswatch_judge::mute::{Silence, When};
use crosswatch_judge::rule::{Metric, Side};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;

use world::{World, rule};

const CONFIG: &str = r#"
[site.a]
[site.b]
[site.c]
[[link]]
name = "a-b"
between = ["a", "b"]
probe = [{ from = "a", icmp = "10.1.0.10" }]
[[link]]
name = "a-b2"
between = ["a", "c"]
probe = [{ from = "c", icmp = "10.2.0.10" }]
"#;

fn planned() -> (Topology, Plan) {
    let mut world = World::new(CONFIG, vec![rule("ping-failed", Metric::PingOk, Side::Below, 1.0)]);
    world.sources.clear();
    let plan = world.plan().unwrap();
    (world.topology, plan)
}

fn silence(links: &[&str], sites: &[&str], rules: &[&str], when: When) -> Silence {
    let all = |of: &[&str]| of.iter().map(ToString::to_string).collect();
    Silence {
        id: "1".to_owned(),
        links: all(links),
        subjects: Vec::new(),
        rules: all(rules),
        sites: all(sites),
        when,
        why: "swap".to_owned(),
        by: None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn once(from: &str, until: &str) -> When {
    When::Once { from: Some(at(from)), until: at(until) }
}

#[test]
fn a_silence_mutes_the_alarms_that_page_of_what_it_covers_and_no_others() {
    let (topology, plan) = planned();
    let hour = || once("2026-11-22T07:00:00Z", "2026-11-22T08:00:00Z");
    let now = at("2026-11-22T06:00:00Z");
    let names = |silence: Silence| -> Vec<String> {
        mutes(&plan, &topology, &silence, now).unwrap().into_iter().flat_map(|mute| mute.alarms).collect()
    };
    assert_eq!(names(silence(&["a-b"], &[], &[], hour())), ["a-b broken (Crosswatch)"], "and not a-b2's");
    assert_eq!(
        names(silence(&[], &["b"], &[], hour())),
        ["Crosswatch collector b silent", "a-b broken (Crosswatch)"]
    );
    let paging = plan.places.values().flatten().filter(|alarm| !alarm.alarm_actions.is_empty()).count();
    assert_eq!(names(silence(&[], &[], &["*"], hour())).len(), paging);
    assert_eq!(names(silence(&["other"], &[], &[], hour())), [""; 0]);
    let of_a_rule = silence(&["a-b"], &[], &["ping-failed"], hour());
    assert!(mutes(&plan, &topology, &of_a_rule, now).unwrap_err().contains("all rules and subjects"));
}

#[test]
fn cloudwatch_is_told_in_whole_minutes_that_are_not_over() {
    let (topology, plan) = planned();
    let told = |when: When, now: &str| {
        let mute = mutes(&plan, &topology, &silence(&["a-b"], &[], &[], when), at(now));
        mute.map(|mutes| {
            let expires = mutes[0].expires.map(|at| at.to_string()[..16].to_owned());
            format!("{} {} {} {expires:?}", mutes[0].expression, mutes[0].duration, mutes[0].zone)
        })
    };
    let when = || once("2026-11-22T07:00:30Z", "2026-11-22T09:00:30Z");
    assert_eq!(
        told(when(), "2026-11-22T06:00:00Z").unwrap(),
        "at(2026-11-22T07:01) PT120M UTC Some(\"2026-11-22T09:01\")"
    );
    assert_eq!(
        told(when(), "2026-11-22T08:00:00.1Z").unwrap(),
        "at(2026-11-22T08:01) PT60M UTC Some(\"2026-11-22T09:01\")",
        "it is on already"
    );
    let every = |cron: &str| When::every(cron, "Europe/Berlin", Duration::from_secs(90)).unwrap();
    assert_eq!(
        told(every("0 2  * * SUN"), "2026-11-22T06:00:00Z").unwrap(),
        "cron(0 2 * * SUN) PT2M Europe/Berlin None"
    );
    assert!(told(every("*/5 * * * *"), "2026-11-22T06:00:00Z").unwrap_err().contains("alone"));
    let long = once("2026-11-22T07:00:00Z", "2026-12-22T07:00:00Z");
    assert!(told(long, "2026-11-22T06:00:00Z").unwrap_err().contains("15 days"));
}
