//! The second way to a page: CloudWatch's alarms, made by `crosswatch alarms apply`, on the metrics that are really put.

use std::time::Duration;

use crosswatch_lab::{Fault, Tunnel};
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::deployment::wait_within;
use crosswatch_tests::root::require_root;
use serde_json::Value;

use crate::world::{LINK, PROBES, UNDER_WAY, World, now};

/// The composites of the two links: that of the VPN connection is another one here, so that both can be broken at once.
const BROKEN: &str = "vpn broken (Crosswatch)";
const BROKEN_OR_SLOW: &str = "use1-euw1 broken or slow (Crosswatch)";
/// On AWS's own metric, which it makes every five minutes: not of this test.
const OF_AWS: &str = "Crosswatch VPN vpn/vpn-0a1b2c3d4e5f60718: all tunnels down";
const VPN: &str = "vpn/vpn-0a1b2c3d4e5f60718";
const HEARTBEATS: [&str; 4] = [
    "Crosswatch alerter silent",
    "Crosswatch publisher silent",
    "Crosswatch collector us-east-1 silent",
    "Crosswatch collector eu-west-1 silent",
];
const MINUTE: Duration = Duration::from_secs(60);

/// The lab's rules over periods, so that an alarm need not look at a whole minute; and the VPN connection in a link of its
/// own.
fn over_periods(text: String) -> String {
    let link = "name = \"use1-euw1\"\nbetween = [\"us-east-1\", \"eu-west-1\"]\n";
    let vpn = text.lines().find(|line| line.starts_with("vpn = ")).unwrap();
    let text = text.replace(&format!("{vpn}\n"), "");
    let text =
        text.replace(link, &format!("{}{vpn}\n\n[[link]]\n{link}", link.replace("\"use1-euw1\"", "\"vpn\"")));
    let text = text.replace(
        "below = 1\nbreach = \"3 of 3\"\nclear = 5",
        "below = 1\nperiod = \"10s\"\nstatistic = \"maximum\"",
    );
    let text = text.replace(
        "above = 200\nbreach = \"10 of 15\"\nclear = 5",
        "above = 200\nperiod = \"10s\"\nstatistic = \"minimum\"",
    );
    text.replace(
        "metric = \"tunnels_up\"\nbelow = 1",
        "metric = \"tunnels_up\"\nbelow = 1\nperiod = \"10s\"\nstatistic = \"maximum\"",
    )
}

/// What the alarms have told so far: the alarm's state, its name and the text that a phone gets.
fn pages(world: &World) -> Vec<(String, String, String)> {
    let messages = world.list("/messages");
    let topic = |message: &&Value| message["to"].as_str().unwrap().ends_with(":crosswatch-alarms");
    let of_alarms = messages.iter().filter(|message| message["source"] == "alarm").filter(topic);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of_alarms
        .map(|message| {
            let attributes = &message["attributes"];
            (text(&attributes["state"]), text(&attributes["alarm"]), text(&message["text"]))
        })
        .collect()
}

fn page(state: &str, alarm: &str) -> (String, String, String) {
    (state.to_owned(), alarm.to_owned(), format!("{state}: \"{alarm}\" in us-east-1"))
}

/// Whether each stage and collector has given a sign of life in a minute that is over.
fn alive(world: &World) -> bool {
    let signs = [
        ("Heartbeat", "Stage=publisher"),
        ("Heartbeat", "Stage=alerter"),
        ("PipelineDelay", "Site=us-east-1"),
        ("PipelineDelay", "Site=eu-west-1"),
    ];
    let over = now().floor(MINUTE);
    signs.iter().all(|(metric, dimension)| {
        let points = world.list(&format!("/datapoints?metric={metric}&dimension={dimension}"));
        points.iter().any(|point| point["at"].as_str().unwrap().parse::<Timestamp>().unwrap() < over)
    })
}

#[test]
fn each_fault_pages_once_by_cloudwatchs_alarms_too_and_clears_once() {
    if !require_root("each_fault_pages_once_by_cloudwatchs_alarms_too_and_clears_once") {
        return;
    }
    let mut world = World::prepared(over_periods, |_| ());
    wait_within(UNDER_WAY, "signs of life", || alive(&world));
    let applied = world.tool_with_aws(&["alarms", "apply"]);
    assert!(applied.ends_with(" done, 0 failed\n"), "{applied}");
    // That heartbeats and composites are well is said once, when they are made; nothing pages.
    let mut well: Vec<_> =
        HEARTBEATS.iter().chain(&[BROKEN, BROKEN_OR_SLOW]).map(|of| page("OK", of)).collect();
    well.sort_unstable();
    wait_within(UNDER_WAY, "each alarm has judged what there is", || {
        let alarms = world.list("/alarms");
        let unjudged = |alarm: &Value| alarm["state"] == "INSUFFICIENT_DATA" && alarm["name"] != OF_AWS;
        pages(&world).len() >= well.len() && !alarms.iter().any(unjudged)
    });
    let mut at_first = pages(&world);
    at_first.sort_unstable();
    assert_eq!(at_first, well);

    let tunnels = (BROKEN, "vpn", "tunnels-down", &[VPN] as &[&str]);
    let faults = [
        (
            vec![Fault::TunnelDown { tunnel: Tunnel::Both }, Fault::BlackHole],
            vec![tunnels, (BROKEN_OR_SLOW, LINK, "ping-failed", &PROBES)],
        ),
        (
            vec![Fault::Slow { rtt: Duration::from_millis(300) }],
            vec![(BROKEN_OR_SLOW, LINK, "latency-high", &PROBES)],
        ),
    ];
    let mut seen = at_first.len();
    let mut texts = 0;
    for (faults, broken) in faults {
        for (state, told) in [("ALARM", "FIRING"), ("OK", "RESOLVED")] {
            let since = now();
            match state {
                "ALARM" => faults.iter().for_each(|fault| world.lab.fault(fault.clone()).unwrap()),
                _ => world.lab.heal().unwrap(),
            }
            // Each link pages once, the link and what is wrong with it first.
            let mut expected: Vec<_> = broken.iter().map(|(alarm, ..)| page(state, alarm)).collect();
            expected.sort_unstable();
            wait_within(UNDER_WAY, &format!("{state} of {expected:?}"), || {
                pages(&world).len() >= seen + expected.len()
            });
            println!("{state} of {faults:?} by the alarms after {:?}", now().since(since));
            let mut new = pages(&world).split_off(seen);
            new.sort_unstable();
            assert_eq!(new, expected);
            seen += new.len();
            // The alerter pages, too.
            let places: Vec<&str> = broken.iter().map(|(_, place, ..)| *place).collect();
            world.wait_for_texts(&mut texts, told, &places);
            for (_, _, rule, subjects) in &broken {
                world.wait_until_fires(rule, subjects, told == "FIRING");
            }
        }
    }
    assert_eq!(pages(&world).len(), seen, "nothing else pages");
    assert_eq!(world.whole_texts().len(), texts, "{:#?}", world.whole_texts());
    for alarm in world.list("/alarms") {
        assert_eq!(alarm["failed_actions"], Value::Array(Vec::new()), "{alarm}");
        if HEARTBEATS.contains(&alarm["name"].as_str().unwrap()) {
            let history = alarm["history"].as_array().unwrap();
            assert!(history.iter().all(|change| change["to"] == "OK"), "{alarm}");
        }
    }
}
