//! Receivers in trouble, with the whole program and real packets: nothing owed to them is lost, its order is kept, and a
//! flood is held back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use crosswatch_tests::deployment::{BOUND, Deployment, OUTAGE_RULE, terminate, wait_until};
use crosswatch_tests::hook::{Answer, Hook};
use crosswatch_tests::inbox::Message;
use crosswatch_tests::netns::Pair;
use crosswatch_tests::root::require_root;
use serde_json::{Value, json};

/// So many links over the cable with a probe each, whose failure one receiver is told.
fn config(links: usize, webhook: &Hook, more: &str) -> String {
    let links: String = (1..=links)
        .map(|n| {
            format!(
                "[[link]]\nname = 'cable{n:02}'\nbetween = ['a']\n\
                 probe = [{{ from = 'a', icmp = '192.0.2.2', every = '200ms', timeout = '500ms' }}]\n"
            )
        })
        .collect();
    format!(
        r#"
        [site.a]
        {links}

        {OUTAGE_RULE}

        [notify.oncall]
        webhook = "{}"
        {more}

        [http]
        listen = "127.0.0.1:0"
        "#,
        webhook.url()
    )
}

fn states(messages: &[Message]) -> Vec<(String, bool)> {
    let state = |message: &Message| message.json()["state"].as_str().unwrap().to_owned();
    messages.iter().map(|message| (state(message), message.accepted)).collect()
}

#[test]
fn a_receiver_in_trouble_gets_everything_later_in_order() {
    if !require_root("a_receiver_in_trouble_gets_everything_later_in_order") {
        return;
    }
    let pair = Pair::new();
    let webhook = Hook::inside(&pair.a);
    let deployment = Deployment::new(&config(1, &webhook, ""));
    let run = deployment.start(&pair.a, &["run"]);
    deployment.wait_for_probes("up");
    let incidents = || deployment.status()["incidents"].as_array().map_or(0, Vec::len);
    let owed = || -> Vec<String> {
        let status = deployment.status();
        let owed = status["owed"].as_array().expect("a list");
        owed.iter().map(|owed| owed["state"].as_str().unwrap().to_owned()).collect()
    };

    webhook.answer(Answer::Hang);
    pair.b.cut();
    let _ = webhook.wait_for(1, BOUND);
    webhook.answer(Answer::Status(500));
    pair.b.heal();
    wait_until("the outage is over", || incidents() == 0);
    assert_eq!(owed(), ["firing", "resolved"], "what is over is still owed");
    // Given up and tried again.
    assert_eq!(states(&webhook.wait_for(2, BOUND)), [("firing".into(), false), ("firing".into(), false)]);
    webhook.answer(Answer::Status(204));
    wait_until("all is accepted", || owed().is_empty());
    terminate(run);

    let messages = webhook.all();
    let ids: BTreeSet<_> = messages.iter().map(|message| message.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{messages:#?}");
    let (refused, accepted): (Vec<_>, Vec<_>) =
        states(&messages).into_iter().partition(|(_, accepted)| !accepted);
    assert!(
        refused.iter().all(|(state, _)| state == "firing"),
        "no resolved before its firing: {messages:#?}"
    );
    assert_eq!(accepted, [("firing".into(), true), ("resolved".into(), true)]);
}

#[test]
fn a_flood_is_some_pages_and_one_digest() {
    if !require_root("a_flood_is_some_pages_and_one_digest") {
        return;
    }
    let pair = Pair::new();
    let webhook = Hook::inside(&pair.a);
    let deployment = Deployment::new(&config(12, &webhook, "at_most = \"3 per 1h\""));
    let run = deployment.start(&pair.a, &["run"]);
    deployment.wait_for_probes("up");

    pair.b.cut();
    let firing: Vec<Value> = webhook.wait_for(4, BOUND).iter().map(Message::json).collect();
    let (pages, digest) = firing.split_at(3);
    let digest = &digest[0];
    assert!(
        pages.iter().all(|page| page["rule"] == "ping-failed" && page["state"] == "firing"),
        "{firing:#?}"
    );
    assert_eq!(
        (&digest["rule"], &digest["subject"], &digest["state"]),
        (&json!("at-most"), &json!("oncall"), &json!("firing"))
    );
    assert_eq!(digest["value"], 9.0, "{digest}");
    // Each link is told of exactly once, here or there.
    let held = digest["held"].as_array().expect("what was held back");
    let places: Vec<_> =
        pages.iter().chain(held).map(|told| told["place"].as_str().unwrap().to_owned()).collect();
    let all: BTreeSet<_> = (1..=12).map(|n| format!("cable{n:02}")).collect();
    assert_eq!((places.len(), places.into_iter().collect::<BTreeSet<_>>()), (12, all));

    pair.b.heal();
    wait_until("every incident is over", || deployment.status()["incidents"] == json!([]));
    terminate(run);
    // Beyond the limit nothing more is told; what is over, each page and the digest, waits for the next digest.
    assert_eq!(webhook.all().len(), 4);
    let status = deployment.status();
    let owed = status["owed"].as_array().expect("a list");
    assert_eq!(owed.len(), 4, "{status:#}");
    assert!(owed.iter().all(|owed| owed["state"] == "resolved" && owed["held"] == true), "{status:#}");
}
