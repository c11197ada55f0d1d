//! The stages as separate processes over one folder: both directions watched, what is killed is missed, and an alerter
//! that was away tells exactly what it owes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use crosswatch_tests::deployment::{BOUND, Deployment, OUTAGE_RULE, assert_each_once, terminate, wait_until};
use crosswatch_tests::hook::Hook;
use crosswatch_tests::inbox::{Inbox, Message};
use crosswatch_tests::netns::Pair;
use crosswatch_tests::process::Process;
use crosswatch_tests::root::require_root;
use nix::sys::signal::Signal;
use serde_json::json;

/// The cable watched from both its ends.
fn config(webhook: &Hook) -> String {
    format!(
        r#"
        [site.a]
        [site.b]

        [[link]]
        name = "cable"
        between = ["a", "b"]
        probe = [
          {{ from = "a", name = "forth", icmp = "192.0.2.2", every = "200ms", timeout = "500ms" }},
          {{ from = "b", name = "back", icmp = "2001:db8::1", every = "200ms", timeout = "500ms" }},
        ]

        [metrics]
        period = "1s"

        {OUTAGE_RULE}

        [notify.oncall]
        webhook = "{}"

        [http]
        listen = "127.0.0.1:0"
        "#,
        webhook.url()
    )
}

/// What was told, but for what only refines it, in the order it came: place and state.
fn told(messages: &[Message]) -> Vec<String> {
    let text = |json: &serde_json::Value, key: &str| json[key].as_str().unwrap().to_owned();
    first(messages).iter().map(|json| format!("{} {}", text(json, "place"), text(json, "state"))).collect()
}

/// The messages that do not only refine what was told.
fn first(messages: &[Message]) -> Vec<serde_json::Value> {
    messages.iter().map(Message::json).filter(|json| json.get("revision").is_none()).collect()
}

/// Waits for `n` messages more than before, and gives these, sorted.
fn wait_more(inbox: &Inbox, before: &mut usize, n: usize) -> Vec<String> {
    let told =
        inbox.wait_until(BOUND, |messages| Some(told(messages)).filter(|told| told.len() >= *before + n));
    let mut more = told[*before..].to_vec();
    *before = told.len();
    more.sort();
    more
}

fn kill(processes: [Process; 2]) {
    // Both at once, before either is waited for.
    processes.iter().for_each(|process| process.signal(Signal::SIGKILL));
    processes.into_iter().for_each(Process::kill);
}

#[test]
fn sites_that_are_killed_are_silent_and_all_of_them_at_once_are_one_page() {
    if !require_root("sites_that_are_killed_are_silent_and_all_of_them_at_once_are_one_page") {
        return;
    }
    let pair = Pair::new();
    // The central stages share a network with neither the probes nor, but for the webhook, anything.
    let centre = Pair::new();
    let webhook = Hook::inside(&centre.a);
    let deployment = Deployment::new(&config(&webhook));
    let collector_a = || deployment.start(&pair.a, &["collector", "--site", "a"]);
    let collector_b = || deployment.start(&pair.b, &["collector", "--site", "b"]);

    // In an order nobody should depend on: the consumers first, when there is no journal yet.
    let alerter = deployment.start(&centre.a, &["alerter"]);
    let publisher = deployment.start(&centre.a, &["publisher"]);
    let (a, b) = (collector_a(), collector_b());
    deployment.wait_for_probes("up");
    // What the machine was too busy for at the start, if anything, is over.
    wait_until("nothing is open", || deployment.status()["incidents"] == json!([]));
    let mut seen = told(&webhook.all()).len();

    pair.b.cut();
    // Both directions are one incident of their link.
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable firing"]);
    wait_until("both fire", || {
        deployment.status()["incidents"][0]["symptoms"].as_array().map_or(0, Vec::len) == 2
    });
    pair.b.heal();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable resolved"]);

    a.kill();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["a firing"]);
    assert_eq!(deployment.probe_states(), ["silent", "up"]);
    let a = collector_a();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["a resolved"]);

    kill([a, b]);
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["alerter firing"]);
    let (a, b) = (collector_a(), collector_b());
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["alerter resolved"]);
    deployment.wait_for_probes("up");

    [a, b, publisher, alerter].into_iter().for_each(terminate);
    assert_eq!(told(&webhook.all())[seen..], [""; 0]);

    // What every life of a collector wrote is there, also where it was killed, and the publisher counted it.
    let boots = assert_each_once(&deployment.export());
    assert_eq!(boots, 5, "three lives of one collector and two of the other");
    for probe in ["forth", "back"] {
        let dimension = format!("Probe={probe}");
        let published = deployment.rows(&["metrics", "PingSuccess", "-d", &dimension, "--format", "json"]);
        let some = |key: &str, value: f64| published.iter().any(|row| row[key] == value);
        assert!(some("minimum", 0.0) && some("minimum", 1.0), "{probe}: {published:#?}");
    }
}

#[test]
fn an_alerter_that_was_away_tells_exactly_what_it_owes() {
    if !require_root("an_alerter_that_was_away_tells_exactly_what_it_owes") {
        return;
    }
    let pair = Pair::new();
    let webhook = Hook::inside(&pair.a);
    let deployment = Deployment::new(&config(&webhook).replace("{ from = \"b\"", "# { from = \"b\""));
    let collector = deployment.start(&pair.a, &["collector", "--site", "a"]);
    let alerter = || deployment.start(&pair.a, &["alerter"]);
    let transitions = || deployment.replay(&deployment.export()).len();
    let away = alerter();
    deployment.wait_for_probes("up");
    wait_until("the alerter has judged", || deployment.status()["incidents"] == json!([]));
    terminate(away);
    assert_eq!(told(&webhook.all()), [""; 0]);

    // An outage that nobody watched from its beginning to its end.
    pair.b.cut();
    wait_until("the outage is in the journal", || transitions() == 1);
    pair.b.heal();
    wait_until("its end is too", || transitions() == 2);
    let mut seen = 0;
    let back = alerter();
    assert_eq!(wait_more(&webhook, &mut seen, 2), ["cable firing", "cable resolved"]);
    terminate(back);

    // One that lasts longer than the alerter's absence.
    pair.b.cut();
    wait_until("the second outage is in the journal", || transitions() == 3);
    let back = alerter();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable firing"]);
    pair.b.heal();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable resolved"]);

    // One during which it was killed and came back.
    pair.b.cut();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable firing"]);
    // Killed before it has written that its page was accepted, it would send it again.
    wait_until("the page is known to be accepted", || deployment.status()["owed"] == json!([]));
    back.kill();
    let back = alerter();
    pair.b.heal();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable resolved"]);

    terminate(back);
    terminate(collector);
    let messages = webhook.all();
    let ids: Vec<_> = first(&messages).iter().map(|message| message["id"].to_string()).collect();
    assert_eq!(ids.len(), 6, "{:?}", told(&messages));
    assert!(ids.chunks(2).all(|pair| pair[0] == pair[1]) && ids[0] != ids[2] && ids[2] != ids[4], "{ids:?}");
    assert_eq!(deployment.status()["owed"], json!([]));
}

#[test]
fn an_outage_that_outlives_the_program_is_still_one_incident() {
    if !require_root("an_outage_that_outlives_the_program_is_still_one_incident") {
        return;
    }
    let pair = Pair::new();
    let webhook = Hook::inside(&pair.a);
    // Both collectors are on this side: what the other site probes is here, and is not cut.
    let deployment = Deployment::new(&config(&webhook));
    let mut seen = 0;
    let start = || deployment.start(&pair.a, &["run"]);
    let run = start();
    deployment.wait_for_probes("up");
    pair.b.cut();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable firing"]);
    wait_until("the pages are known to be accepted", || deployment.status()["owed"] == json!([]));
    run.kill();
    // Still cut: it is not told again, whatever is measured.
    let run = start();
    wait_until("the second life sees it too", || {
        let observations = deployment.export();
        let lost = observations.iter().filter(|row| row["lost"].is_string());
        lost.map(|row| row["boot"].to_string()).collect::<BTreeSet<_>>().len() == 2
    });
    assert_eq!(deployment.probe_states(), ["down", "up"]);
    terminate(run);
    pair.b.heal();
    let run = start();
    assert_eq!(wait_more(&webhook, &mut seen, 1), ["cable resolved"]);
    terminate(run);
    let messages = first(&webhook.all());
    let ids: BTreeSet<_> = messages.iter().map(|message| message["id"].to_string()).collect();
    assert_eq!((messages.len(), ids.len()), (2, 1), "{messages:#?}");
}
