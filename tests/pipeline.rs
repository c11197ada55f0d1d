//! The whole program in one process on real packets: what is cut is told once, and every tool agrees on what happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use crosswatch_tests::deployment::{BOUND, Deployment, OUTAGE_RULE, assert_each_once, terminate, wait_until};
use crosswatch_tests::hook::{CommandHook, Hook};
use crosswatch_tests::inbox::{Inbox, Message};
use crosswatch_tests::judged;
use crosswatch_tests::netns::{Pair, Reject};
use crosswatch_tests::root::require_root;
use serde_json::{Value, json};

/// An echo over each family, and a connection.
const SUBJECTS: [&str; 3] =
    ["cable/a/icmp:192.0.2.2", "cable/a/icmp:2001:db8::2", "cable/a/tcp:192.0.2.2:8443"];

/// Three probes over the cable from `a`; each lost three times in a row fires, and connections slower than half a second.
fn config(notify: &str) -> String {
    format!(
        r#"
        [site.a]

        [[link]]
        name = "cable"
        between = ["a"]
        probe = [
          {{ from = "a", icmp = "192.0.2.2", every = "200ms", timeout = "500ms" }},
          {{ from = "a", icmp = "2001:db8::2", every = "200ms", timeout = "500ms" }},
          {{ from = "a", tcp = "192.0.2.2:8443", every = "200ms", timeout = "1500ms" }},
        ]

        [metrics]
        period = "1s"

        {OUTAGE_RULE}

        # A connection begun less than a second before the cable heals is slow too: up to six of them.
        [[rule]]
        name = "latency-high"
        metric = "latency_ms"
        above = 500
        breach = "10 of 10"
        clear = 5
        notify = ["oncall"]

        [notify.oncall]
        {notify}

        [http]
        listen = "127.0.0.1:0"
        "#
    )
}

/// The messages of one rule and state, by subject; panics if one came twice.
fn told(messages: &[Message], rule: &str, state: &str) -> BTreeMap<String, Value> {
    let mut by_subject = BTreeMap::new();
    for message in messages.iter().map(Message::json) {
        if message["rule"] == rule && message["state"] == state {
            let subject = message["subject"].as_str().unwrap().to_owned();
            assert!(by_subject.insert(subject, message).is_none(), "told twice: {messages:#?}");
        }
    }
    by_subject
}

/// Waits until as many subjects of a rule are in a state.
fn wait_told(inbox: &Inbox, rule: &str, state: &str, subjects: usize) -> BTreeMap<String, Value> {
    inbox
        .wait_until(BOUND, |messages| Some(told(messages, rule, state)).filter(|told| told.len() >= subjects))
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_else(|| panic!("{key}: {row}")).to_owned()
}

/// A time up to its second.
fn second(row: &Value, key: &str) -> String {
    text(row, key)[.."2026-11-22T07:00:01".len()].to_owned()
}

/// The subject of an observation.
fn subject_of(row: &Value) -> String {
    let keys: &[&str] = if row["kind"] == "probe" { &["link", "site", "probe"] } else { &["site", "source"] };
    keys.iter().map(|key| text(row, key)).collect::<Vec<_>>().join("/")
}

#[test]
fn an_outage_is_told_once_and_every_tool_agrees_on_it() {
    if !require_root("an_outage_is_told_once_and_every_tool_agrees_on_it") {
        return;
    }
    let pair = Pair::new();
    pair.a.allow_ping_sockets(0..=i32::MAX as u32);
    let _listener = pair.b.enter(|| std::net::TcpListener::bind((pair.b.v4, 8443)).unwrap());
    let (webhook, command) = (Hook::inside(&pair.a), CommandHook::new());
    let notify = format!("webhook = \"{}\"\ncommand = [\"{}\"]", webhook.url(), command.path().display());
    let deployment = Deployment::new(&config(&notify));

    let run = deployment.start(&pair.a, &["run"]);
    deployment.wait_for_probes("up");
    assert_eq!(deployment.status()["incidents"], json!([]));

    pair.b.cut();
    let firing = wait_told(&webhook, "ping-failed", "firing", 1);
    deployment.wait_for_probes("down");
    let fires = |status: &Value| status["incidents"][0]["symptoms"].as_array().map_or(0, Vec::len);
    wait_until("all three fire", || fires(&deployment.status()) == 3);
    let down = deployment.status();
    for probe in down["links"][0]["probes"].as_array().unwrap() {
        assert_eq!(
            (&probe["firing"], &probe["lost"]),
            (&json!(["ping-failed"]), &json!("timeout")),
            "{down:#}"
        );
    }
    let incidents = down["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "one for the link: {down:#}");
    assert_eq!((&incidents[0]["verdict"], &incidents[0]["link"]), (&json!("link-lost"), &json!("cable")));
    assert_eq!(incidents[0]["symptoms"].as_array().unwrap().len(), 3, "{down:#}");

    // What the machine saw meanwhile, once for the link.
    let seen = |row: &&Value| row["kind"] == "evidence";
    wait_until("evidence of the loss", || deployment.export().iter().any(|row| seen(&row)));
    let status = deployment.status();
    let probes = status["links"][0]["probes"].as_array().unwrap();
    let told: Vec<_> = probes.iter().filter_map(|probe| probe["evidence"].as_str()).collect();
    assert!(matches!(told[..], [told] if told.contains("no hop answers")), "{status:#}");

    pair.b.heal();
    let resolved = wait_told(&webhook, "ping-failed", "resolved", 1);
    deployment.wait_for_probes("up");

    pair.b.slow_connects();
    let slow = wait_told(&webhook, "latency-high", "firing", 1);
    pair.b.heal();
    wait_told(&webhook, "latency-high", "resolved", 1);

    // A round of collections takes ten seconds; then one more second, so that the publisher has something of everything.
    let mut published = Vec::new();
    wait_until("a round of collections is published", || {
        published = deployment.rows(&["metrics", "--format", "json"]);
        published.iter().any(|row| row["metric"] == "CollectionLatency" && row["dimensions"]["Site"] == "a")
    });
    terminate(run);

    let (fired, resolved) = (firing.values().next().unwrap(), resolved.values().next().unwrap());
    notified(fired, "link-lost", "firing");
    notified(resolved, "link-lost", "resolved");
    assert_eq!((&fired["value"], &resolved["value"]), (&json!(0.0), &json!(1.0)));
    assert_eq!(fired["id"], resolved["id"]);
    assert_eq!(fired["reason"], "3 of 3 lost");
    let slow = &slow[SUBJECTS[2]];
    notified(slow, "slow", "firing");
    assert!((1_000.0..1_500.0).contains(&slow["value"].as_f64().unwrap()), "{slow}");

    let observations = deployment.export();
    each_observation_once(&observations);
    let evidence: Vec<_> = observations.iter().filter(seen).collect();
    assert_eq!(evidence.len(), 1, "at most one a minute and link: {evidence:#?}");
    let evidence = &evidence[0]["evidence"];
    assert_eq!(
        (&evidence["route"]["kind"], &evidence["path"]["reached"]),
        (&json!("unicast"), &json!(false))
    );
    ranges_part_the_export(&deployment, &observations, &text(slow, "at"));
    both_receivers_were_told_the_same(&webhook.all(), &command.all(), 4);
    replay_says_what_was_judged(&deployment, &observations);
    a_report_tells_of_the_outage(&deployment, fired);
    metrics_are_those_of_the_observations(&deployment.rows(&["metrics", "--format", "json"]), &observations);
}

/// A notification has the fields of the design, and what is known of the incident; its text has the important words in front.
fn notified(message: &Value, verdict: &str, state: &str) {
    let keys: BTreeSet<_> = message.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = BTreeSet::from([
        "at", "id", "link", "place", "reason", "rule", "since", "state", "subject", "summary", "text",
        "value", "verdict",
    ]);
    assert!(wanted.is_subset(&keys), "{message}");
    let more: Vec<_> = keys.difference(&wanted).collect();
    assert!(more.iter().all(|key| ["evidence", "symptoms"].contains(key)), "{message}");
    for (key, value) in [("verdict", verdict), ("place", "cable"), ("state", state), ("link", "cable")] {
        assert_eq!(message[key], value, "{message}");
    }
    assert!(SUBJECTS.contains(&message["subject"].as_str().unwrap()), "{message}");
    let (reason, text) = (message["reason"].as_str().unwrap(), message["text"].as_str().unwrap());
    assert!(!message["id"].as_str().unwrap().is_empty() && !reason.is_empty(), "{message}");
    let text_begins = format!("{} {verdict} cable: ", state.to_uppercase());
    assert!(text.starts_with(&text_begins) && text.chars().count() <= 160, "{message}");
}

/// Nothing is missing or there twice, and each probe's times only grow.
fn each_observation_once(observations: &[Value]) {
    assert_eq!(assert_each_once(observations), 1, "one life of one collector");
    let mut newest: BTreeMap<String, &str> = BTreeMap::new();
    for row in observations {
        if row["kind"] == "probe" {
            let at = row["at"].as_str().unwrap();
            if let Some(before) = newest.insert(subject_of(row), at) {
                assert!(before < at, "{before} before {row}");
            }
        }
    }
    assert_eq!(newest.keys().collect::<Vec<_>>(), SUBJECTS);
    let sources: BTreeSet<_> = observations.iter().filter_map(|row| row["source"].as_str()).collect();
    assert_eq!(sources, BTreeSet::from(["icmp", "journal", "tcp"]));
    let collections = observations.iter().filter(|row| row["kind"] == "collection");
    for row in collections {
        assert!(row["ok"] == true && row["took_ms"].as_f64().unwrap() >= 0.0, "{row}");
    }
}

/// What is before a moment and what is from it on are all there is.
fn ranges_part_the_export(deployment: &Deployment, observations: &[Value], moment: &str) {
    let parts =
        [["--until", moment], ["--since", moment]].map(|[key, at]| deployment.rows(&["export", key, at]));
    assert!(parts.iter().all(|part| !part.is_empty()), "{moment} is in the midst of it");
    assert!(parts[0].iter().all(|row| text(row, "at").as_str() < moment));
    assert!(parts[1].iter().all(|row| text(row, "at").as_str() >= moment));
    let sorted = |rows: Vec<Value>| rows.iter().map(Value::to_string).collect::<BTreeSet<_>>();
    assert_eq!(sorted(parts.concat()), sorted(observations.to_vec()));
}

fn both_receivers_were_told_the_same(webhook: &[Message], command: &[Message], messages: usize) {
    let bodies =
        |messages: &[Message]| messages.iter().map(|message| message.body.clone()).collect::<BTreeSet<_>>();
    assert_eq!((webhook.len(), command.len()), (messages, messages));
    assert_eq!(bodies(webhook), bodies(command));
}

fn replay_says_what_was_judged(deployment: &Deployment, observations: &[Value]) {
    let replayed = deployment.replay(observations);
    let replayed: BTreeSet<_> =
        replayed.iter().map(|row| ["at", "rule", "subject", "state"].map(|key| text(row, key))).collect();
    let judged = judged::transitions(&deployment.path().join("data/alerter.db"));
    assert_eq!(judged, replayed);
    let of_the_journal = deployment.rows(&["replay"]);
    let of_the_journal: BTreeSet<_> = of_the_journal
        .iter()
        .map(|row| ["at", "rule", "subject", "state"].map(|key| text(row, key)))
        .collect();
    assert_eq!(judged, of_the_journal);
}

fn a_report_tells_of_the_outage(deployment: &Deployment, told: &Value) {
    let id = text(told, "id");
    let report = ["report", &id[..12], "--out", "outage.html"];
    assert_eq!(deployment.tool(&report), "outage.html\n");
    let written = std::fs::read_to_string(deployment.path().join("outage.html")).unwrap();
    let drawn = SUBJECTS.map(|subject| subject.trim_start_matches("cable/").to_owned());
    let verdict = text(told, "verdict");
    let words = [&id, &verdict, "by webhook", "by command", "accepted 20", "<svg"];
    for words in words.into_iter().chain(drawn.each_ref().map(String::as_str)) {
        assert!(written.contains(words), "{words}: {written}");
    }
    // What is there already is kept.
    assert_eq!(deployment.output(&report).status.code(), Some(1));
    assert_eq!(deployment.output(&["report", "no-such-id"]).status.code(), Some(1));
}

/// The samples of one metric of one subject in one second.
#[derive(Debug, Default, PartialEq)]
struct Samples {
    count: u64,
    sum: f64,
    minimum: f64,
    maximum: f64,
}

impl Samples {
    fn add(&mut self, value: f64) {
        (self.minimum, self.maximum) = match self.count {
            0 => (value, value),
            _ => (self.minimum.min(value), self.maximum.max(value)),
        };
        self.count += 1;
        self.sum += value;
    }
}

/// Every datapoint is what the observations of its second come to, and no second that is over is missing.
fn metrics_are_those_of_the_observations(published: &[Value], observations: &[Value]) {
    // By site, second, metric and subject.
    let mut wanted: BTreeMap<(String, String, &str, String), Samples> = BTreeMap::new();
    for row in observations {
        let truth = |fact: bool| Some(f64::from(u8::from(fact)));
        let samples = match row["kind"].as_str().unwrap() {
            "probe" => {
                [("PingSuccess", truth(row["rtt_ms"].is_f64())), ("PingLatency", row["rtt_ms"].as_f64())]
            }
            "collection" => [
                ("CollectionSuccess", truth(row["ok"] == true)),
                ("CollectionLatency", row["took_ms"].as_f64()),
            ],
            "evidence" => continue,
            kind => panic!("{kind}"),
        };
        for (metric, value) in samples {
            let key = (text(row, "site"), second(row, "at"), metric, subject_of(row));
            value.into_iter().for_each(|value| wanted.entry(key.clone()).or_default().add(value));
        }
    }

    // The newest second that was over, by site.
    let mut over: BTreeMap<String, String> = BTreeMap::new();
    for row in published.iter().filter(|row| row["metric"] != "PipelineDelay") {
        let dimension = |name: &str| row["dimensions"][name].as_str();
        let subject: Vec<_> = ["Link", "Site", "Probe", "Source"].into_iter().filter_map(dimension).collect();
        let (site, start) = (text(&row["dimensions"], "Site"), second(row, "start"));
        let metric = row["metric"].as_str().unwrap();
        let key = (site.clone(), start.clone(), metric, subject.join("/"));
        let samples = wanted.remove(&key).unwrap_or_else(|| panic!("nothing was observed for {row}"));
        assert_eq!((&row["period_s"], &row["count"]), (&json!(1.0), &json!(samples.count)), "{row}");
        // A distribution keeps each value within 1 %.
        let within = if metric.ends_with("Success") { 0.0 } else { 0.01 };
        for (key, exact) in [("sum", samples.sum), ("minimum", samples.minimum), ("maximum", samples.maximum)]
        {
            let value = row[key].as_f64().unwrap();
            assert!((value - exact).abs() <= within * exact, "{key} of {row}: {samples:?}");
        }
        let newest = over.entry(site).or_default();
        *newest = start.max(std::mem::take(newest));
    }
    for ((site, start, metric, subject), samples) in &wanted {
        let is_over = over.get(site).is_some_and(|newest| start <= newest);
        assert!(!is_over, "{metric} of {subject} at {start} is missing: {samples:?}");
    }
    let metrics: BTreeSet<_> = published.iter().map(|row| row["metric"].as_str().unwrap()).collect();
    let all = ["CollectionLatency", "CollectionSuccess", "PingLatency", "PingSuccess", "PipelineDelay"];
    assert_eq!(metrics, BTreeSet::from(all));
}

#[test]
fn each_kind_of_loss_has_its_name() {
    if !require_root("each_kind_of_loss_has_its_name") {
        return;
    }
    // No ping sockets here: raw ones are used.
    let pair = Pair::new();
    pair.b.unlimited_icmp_errors();
    let _listener = pair.b.enter(|| std::net::TcpListener::bind((pair.b.v4, 8443)).unwrap());
    let webhook = Hook::inside(&pair.a);
    let deployment = Deployment::new(&config(&format!("webhook = \"{}\"", webhook.url())));
    let run = deployment.start(&pair.a, &["run"]);
    deployment.wait_for_probes("up");

    let mut told = BTreeSet::new();
    let file = deployment.path().join("data/alerter.db");
    // Breaks the cable, waits until it is told and all of it fires, heals it: what fired, from when to when.
    let mut outage = |break_it: &dyn Fn(), heal: &dyn Fn(), subjects: &[&str]| {
        let of_state = |messages: &[Message], state: &str| {
            let messages = messages.iter().map(Message::json).filter(|message| message["state"] == state);
            messages.map(|message| message["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        break_it();
        let id = webhook.wait_until(BOUND, |messages| {
            of_state(messages, "firing").into_iter().find(|id| !told.contains(id))
        });
        told.insert(id.clone());
        let of_incident = || {
            let mut symptoms = judged::symptoms(&file);
            symptoms.retain(|symptom| symptom.incident == id);
            symptoms
        };
        wait_until("all of it fires", || of_incident().len() == subjects.len());
        heal();
        webhook.wait_until(BOUND, |messages| of_state(messages, "resolved").contains(&id).then_some(()));
        let symptoms = of_incident();
        let of: BTreeSet<_> = symptoms.iter().map(|symptom| symptom.subject.as_str()).collect();
        assert_eq!(of, subjects.iter().copied().collect(), "{symptoms:#?}");
        symptoms
            .into_iter()
            .map(|symptom| (symptom.subject, symptom.fired_at, symptom.resolved_at.unwrap()))
            .collect::<Vec<_>>()
    };
    let heal = || pair.b.heal();
    let outages = [
        ("unreachable", outage(&|| pair.b.reject(Reject::HostUnreachable), &heal, &SUBJECTS)),
        ("unreachable", outage(&|| pair.b.reject(Reject::AdminProhibited), &heal, &SUBJECTS)),
        ("refused", outage(&|| pair.b.reject(Reject::TcpReset), &heal, &SUBJECTS[2..])),
        ("unreachable", outage(&|| pair.a.withdraw_routes(), &|| pair.a.restore_routes(), &SUBJECTS)),
    ];
    terminate(run);

    let observations = deployment.export();
    for (kind, incidents) in outages {
        for (subject, from, to) in incidents {
            let within = |row: &&Value| {
                row["kind"] == "probe"
                    && subject == subject_of(row)
                    && (from.as_str()..to.as_str()).contains(&row["at"].as_str().unwrap())
            };
            let kinds: BTreeSet<_> =
                observations.iter().filter(within).filter_map(|row| row["lost"].as_str()).collect();
            assert_eq!(kinds, BTreeSet::from([kind]), "{subject} from {from} to {to}");
        }
    }
}
