//! Each service's JSON, whole, for each state and for a digest.

use serde_json::json;

use super::*;
use crate::config::Secret;
use crate::ledger::Held;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn pagerduty() -> Template {
    Template::PagerDuty { key: Secret::Value(KEY.to_owned()), severity: "error" }
}

fn opsgenie(priority: Option<&'static str>) -> Template {
    Template::Opsgenie { key: Secret::Value(KEY.to_owned()), priority }
}

fn body(json: &str) -> Body {
    serde_json::from_str(json).unwrap()
}

fn firing() -> Body {
    body(
        r#"{"id":"92c2ece3-4cbc-5e49-9639-3dffe3259a4a","state":"firing","rule":"latency-high","subject":"use1-euw1/us-east-1/icmp:10.1.0.10","link":"use1-euw1","at":"2026-11-22T07:00:01.250000Z","value":250.5,"reason":"2 of 3 above 200 ms, newest 250.5 ms","text":"FIRING latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 2 of 3 above 200 ms, newest 250.5 ms"}"#,
    )
}

fn resolved() -> Body {
    body(
        r#"{"id":"92c2ece3-4cbc-5e49-9639-3dffe3259a4a","state":"resolved","rule":"latency-high","subject":"use1-euw1/us-east-1/icmp:10.1.0.10","link":"use1-euw1","at":"2026-11-22T07:01:00.000000Z","value":80.0,"reason":"30 in a row not above 200 ms","text":"RESOLVED latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 30 in a row not above 200 ms"}"#,
    )
}

/// Of no link, without a value, and with the characters that Slack gives a meaning.
fn bare() -> Body {
    body(
        r#"{"id":"1","state":"firing","rule":"site-silent","subject":"us-east-1","link":"","at":"2026-11-22T07:00:01.000000Z","value":null,"reason":"<nothing> & no_one","text":"FIRING site-silent us-east-1: <nothing> & no_one"}"#,
    )
}

fn digest() -> Body {
    body(
        r#"{"id":"d","state":"firing","rule":"at-most","subject":"oncall","link":"","at":"2026-11-22T07:00:06.000000Z","value":2.0,"reason":"2 held back, 1 firing: l/a/p, l/a/q","text":"FIRING at-most oncall: 2 held back, 1 firing: l/a/p, l/a/q","held":[{"id":"h1","state":"firing","rule":"ping-failed","subject":"l/a/p","at":"2026-11-22T07:00:01.000000Z"},{"id":"h2","state":"resolved","rule":"ping-failed","subject":"l/a/q","at":"2026-11-22T07:00:03.000000Z"}]}"#,
    )
}

fn told(call: &Call) -> Value {
    serde_json::from_str(&call.json).unwrap()
}

/// What is posted to the webhook itself, and nothing else is.
fn posted(template: &Template, body: &Body) -> Value {
    let calls = render(template, body, KEY);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((&call.method, &call.path), (&Method::POST, &None));
    told(call)
}

/// What a call asks for, of whom.
fn asked(call: &Call, webhook: &str) -> String {
    let mut url = Url::parse(webhook).unwrap();
    call.extend(&mut url);
    format!("{} {url}", call.method)
}

#[test]
fn pagerduty_is_sent_an_event_whose_dedup_key_is_the_incidents_id() {
    let expected = json!({
        "routing_key": "0123456789abcdef0123456789abcdef",
        "event_action": "trigger",
        "dedup_key": "92c2ece3-4cbc-5e49-9639-3dffe3259a4a",
        "client": "Crosswatch",
        "payload": {
            "summary": "latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 2 of 3 above 200 ms, newest 250.5 ms",
            "source": "use1-euw1",
            "severity": "error",
            "timestamp": "2026-11-22T07:00:01.250000Z",
            "component": "use1-euw1/us-east-1/icmp:10.1.0.10",
            "group": "use1-euw1",
            "class": "latency-high",
            "custom_details": {
                "id": "92c2ece3-4cbc-5e49-9639-3dffe3259a4a",
                "state": "firing",
                "rule": "latency-high",
                "subject": "use1-euw1/us-east-1/icmp:10.1.0.10",
                "link": "use1-euw1",
                "at": "2026-11-22T07:00:01.250000Z",
                "value": 250.5,
                "reason": "2 of 3 above 200 ms, newest 250.5 ms",
                "text": "FIRING latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 2 of 3 above 200 ms, newest 250.5 ms",
            },
        },
    });
    assert_eq!(posted(&pagerduty(), &firing()), expected);
    let expected = json!({
        "routing_key": "0123456789abcdef0123456789abcdef",
        "event_action": "resolve",
        "dedup_key": "92c2ece3-4cbc-5e49-9639-3dffe3259a4a",
    });
    assert_eq!(posted(&pagerduty(), &resolved()), expected);
    let expected = json!({
        "routing_key": "0123456789abcdef0123456789abcdef",
        "event_action": "trigger",
        "dedup_key": "d",
        "client": "Crosswatch",
        "payload": {
            "summary": "at-most oncall: 2 held back, 1 firing: l/a/p, l/a/q",
            "source": "oncall",
            "severity": "error",
            "timestamp": "2026-11-22T07:00:06.000000Z",
            "component": "oncall",
            "class": "at-most",
            "custom_details": {
                "id": "d",
                "state": "firing",
                "rule": "at-most",
                "subject": "oncall",
                "link": "",
                "at": "2026-11-22T07:00:06.000000Z",
                "value": 2.0,
                "reason": "2 held back, 1 firing: l/a/p, l/a/q",
                "text": "FIRING at-most oncall: 2 held back, 1 firing: l/a/p, l/a/q",
                "held": [
                    {"id": "h1", "state": "firing", "rule": "ping-failed", "subject": "l/a/p", "at": "2026-11-22T07:00:01.000000Z"},
                    {"id": "h2", "state": "resolved", "rule": "ping-failed", "subject": "l/a/q", "at": "2026-11-22T07:00:03.000000Z"},
                ],
            },
        },
    });
    assert_eq!(posted(&pagerduty(), &digest()), expected);
}

#[test]
fn opsgenie_is_asked_to_make_and_to_close_an_alert_whose_alias_is_the_incidents_id() {
    let expected = json!({
        "message": "latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 2 of 3 above 200 ms, newest 250.5 ms",
        "alias": "92c2ece3-4cbc-5e49-9639-3dffe3259a4a",
        "description": "2 of 3 above 200 ms, newest 250.5 ms",
        "entity": "use1-euw1/us-east-1/icmp:10.1.0.10",
        "source": "Crosswatch",
        "tags": ["latency-high", "use1-euw1"],
        "details": {
            "rule": "latency-high",
            "subject": "use1-euw1/us-east-1/icmp:10.1.0.10",
            "link": "use1-euw1",
            "at": "2026-11-22T07:00:01.250000Z",
            "value": "250.5",
            "reason": "2 of 3 above 200 ms, newest 250.5 ms",
        },
        "priority": "P1",
    });
    assert_eq!(posted(&opsgenie(Some("P1")), &firing()), expected);

    let closing = render(&opsgenie(None), &resolved(), KEY).pop().unwrap();
    let expected = json!({
        "source": "Crosswatch",
        "note": "RESOLVED latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 30 in a row not above 200 ms",
    });
    assert_eq!(told(&closing), expected);
    assert_eq!(closing.authorization.as_deref(), Some("GenieKey 0123456789abcdef0123456789abcdef"));
    for webhook in ["https://api.eu.opsgenie.com/v2/alerts", "https://api.eu.opsgenie.com/v2/alerts/"] {
        assert_eq!(
            asked(&closing, webhook),
            "POST https://api.eu.opsgenie.com/v2/alerts/92c2ece3-4cbc-5e49-9639-3dffe3259a4a/close?identifierType=alias"
        );
    }

    let expected = json!({
        "message": "at-most oncall: 2 held back, 1 firing: l/a/p, l/a/q",
        "alias": "d",
        "description": "2 held back, 1 firing: l/a/p, l/a/q\n\
                        firing ping-failed l/a/p since 2026-11-22T07:00:01.000000Z\n\
                        resolved ping-failed l/a/q since 2026-11-22T07:00:03.000000Z",
        "entity": "oncall",
        "source": "Crosswatch",
        "tags": ["at-most"],
        "details": {
            "rule": "at-most",
            "subject": "oncall",
            "at": "2026-11-22T07:00:06.000000Z",
            "value": "2.0",
            "reason": "2 held back, 1 firing: l/a/p, l/a/q",
        },
    });
    assert_eq!(posted(&opsgenie(None), &digest()), expected);
}

/// They show nothing of the end of what never began there.
#[test]
fn a_digest_of_what_is_over_already_is_made_and_ended_at_once_and_says_what_was() {
    let mut digest = digest();
    digest.state = "resolved".to_owned();
    digest.text = "RESOLVED catch-up oncall: 2 began and ended while the alerter was behind: l, m".to_owned();
    digest.held.iter_mut().flatten().for_each(|held| held.state = "resolved".to_owned());
    let events: Vec<Value> = render(&pagerduty(), &digest, KEY).iter().map(told).collect();
    let [begins, ends] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&begins["event_action"], &begins["dedup_key"]), (&json!("trigger"), &json!("d")));
    let payload = &begins["payload"];
    assert_eq!(payload["severity"], "info", "whatever that of the rest is");
    assert_eq!(payload["summary"], "catch-up oncall: 2 began and ended while the alerter was behind: l, m");
    assert_eq!(payload["custom_details"]["held"].as_array().unwrap().len(), 2);
    assert_eq!(*ends, json!({ "routing_key": KEY, "event_action": "resolve", "dedup_key": "d" }));

    let calls = render(&opsgenie(Some("P1")), &digest, KEY);
    let asks: Vec<String> = calls.iter().map(|call| asked(call, "https://h/v2/alerts")).collect();
    assert_eq!(asks, ["POST https://h/v2/alerts", "POST https://h/v2/alerts/d/close?identifierType=alias"]);
    let alert = told(&calls[0]);
    assert_eq!((&alert["alias"], &alert["priority"]), (&json!("d"), &json!("P5")));
    let description = alert["description"].as_str().unwrap();
    assert!(description.contains("resolved ping-failed l/a/p since 2026-11-22T07:00:01"), "{description}");
}

/// An open alert keeps its texts, however often it is made again: they are written over.
#[test]
fn what_opsgenie_shows_of_an_incident_is_what_is_known_of_it_now() {
    let mut known = body(
        r#"{"id":"1","state":"firing","rule":"ping-failed","subject":"l/a/p","link":"l","at":"2026-11-22T07:00:05.000000Z","value":0.0,"reason":"3 of 3 lost","text":"FIRING black-hole l: 2 of 2 tunnels up after 8 s, 4 of 4 probes lost (ping-failed)","place":"l","verdict":"black-hole","summary":"2 of 2 tunnels up after 8 s, 4 of 4 probes lost","evidence":["a/p: stops after hop 1 (10.0.0.1)"],"revision":2}"#,
    );
    let message = "black-hole l: 2 of 2 tunnels up after 8 s, 4 of 4 probes lost (ping-failed)";
    let description = "black-hole: 2 of 2 tunnels up after 8 s, 4 of 4 probes lost\n\
                       3 of 3 lost\n\
                       a/p: stops after hop 1 (10.0.0.1)";
    let calls = render(&opsgenie(None), &known, KEY);
    let expected = [
        (
            "POST https://h/v2/alerts",
            json!({
                "message": message,
                "alias": "1",
                "description": description,
                "entity": "l/a/p",
                "source": "Crosswatch",
                "tags": ["ping-failed", "l"],
                "details": {
                    "rule": "ping-failed",
                    "subject": "l/a/p",
                    "link": "l",
                    "at": "2026-11-22T07:00:05.000000Z",
                    "value": "0.0",
                    "reason": "3 of 3 lost",
                    "place": "l",
                },
            }),
        ),
        ("PUT https://h/v2/alerts/1/message?identifierType=alias", json!({ "message": message })),
        ("PUT https://h/v2/alerts/1/description?identifierType=alias", json!({ "description": description })),
    ];
    let made: Vec<(String, Value)> =
        calls.iter().map(|call| (asked(call, "https://h/v2/alerts"), told(call))).collect();
    assert_eq!(made, expected.map(|(call, json)| (call.to_owned(), json)));
    assert!(calls.iter().all(|call| call.authorization.as_deref() == Some(&*format!("GenieKey {KEY}"))));

    let note = calls[1].instead.as_deref().unwrap();
    assert_eq!(asked(note, "https://h/v2/alerts"), "POST https://h/v2/alerts/1/notes?identifierType=alias");
    assert_eq!(told(note), json!({ "source": "Crosswatch", "note": known.text }));
    assert!(calls[0].instead.is_none() && calls[2].instead.is_none());

    known.revision = 0;
    assert_eq!(render(&opsgenie(None), &known, KEY).len(), 1, "what is told first needs no second call");
}

/// Of an open alert, which somebody may have acknowledged, these services tell nobody again.
#[test]
fn what_is_worse_is_an_alert_of_its_own_and_the_end_ends_both() {
    let worse = body(
        r#"{"id":"1","state":"firing","rule":"ping-failed","subject":"l/a/p","link":"l","at":"2026-11-22T07:00:05.000000Z","value":0.0,"reason":"3 of 3 lost","text":"WORSE link-lost l: 4 of 4 probes lost (ping-failed)","place":"l","verdict":"link-lost","summary":"4 of 4 probes lost","revision":1,"worse":true}"#,
    );
    let mut known = Body { text: "FIRING black-hole l: 4 of 4 probes lost".to_owned(), ..worse.clone() };
    known.revision = 2;
    for body in [&worse, &known] {
        let event = posted(&pagerduty(), body);
        assert_eq!((&event["event_action"], &event["dedup_key"]), (&json!("trigger"), &json!("1-worse")));
    }
    assert_eq!(posted(&pagerduty(), &worse)["payload"]["summary"], worse.text);
    let alert = posted(&opsgenie(None), &worse);
    assert_eq!((&alert["alias"], &alert["message"]), (&json!("1-worse"), &json!(worse.text)));
    let asks =
        |calls: &[Call]| calls.iter().map(|call| asked(call, "https://h/v2/alerts")).collect::<Vec<_>>();
    assert_eq!(
        asks(&render(&opsgenie(None), &known, KEY)),
        [
            "POST https://h/v2/alerts",
            "PUT https://h/v2/alerts/1-worse/message?identifierType=alias",
            "PUT https://h/v2/alerts/1-worse/description?identifierType=alias"
        ],
        "and what is known since is written there"
    );

    let over = Body { state: "resolved".to_owned(), text: "RESOLVED".to_owned(), worse: false, ..worse };
    let events: Vec<Value> = render(&pagerduty(), &over, KEY).iter().map(told).collect();
    let resolve =
        |id: &str| json!({ "routing_key": KEY, "event_action": "resolve", "dedup_key": id.to_owned() });
    assert_eq!(events, [resolve("1-worse"), resolve("1")]);
    let calls = render(&opsgenie(None), &over, KEY);
    let close = |id: &str| format!("POST https://h/v2/alerts/{id}/close?identifierType=alias");
    assert_eq!(asks(&calls), [close("1-worse"), close("1")]);
    // Most incidents were never worse: that it does not know the one is no reason to keep the other.
    let instead = calls[0].instead.as_deref().unwrap();
    assert_eq!(asked(instead, "https://h/v2/alerts"), close("1"));
}

#[test]
fn slack_is_sent_a_message_that_names_the_incident_and_means_no_markup() {
    let expected = json!({
        "text": "FIRING site-silent us-east-1: &lt;nothing&gt; &amp; no_one",
        "mrkdwn": false,
        "attachments": [{
            "color": "danger",
            "fallback": "FIRING site-silent us-east-1: &lt;nothing&gt; &amp; no_one",
            "text": "&lt;nothing&gt; &amp; no_one",
            "fields": [
                {"title": "Rule", "value": "site-silent", "short": true},
                {"title": "Subject", "value": "us-east-1", "short": true},
            ],
            "footer": "Crosswatch 1",
            "ts": 1_795_330_801,
        }],
    });
    assert_eq!(posted(&Template::Slack, &bare()), expected);
    let expected = json!({
        "text": "RESOLVED latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 30 in a row not above 200 ms",
        "mrkdwn": false,
        "attachments": [{
            "color": "good",
            "fallback": "RESOLVED latency-high use1-euw1/us-east-1/icmp:10.1.0.10: 30 in a row not above 200 ms",
            "text": "30 in a row not above 200 ms",
            "fields": [
                {"title": "Link", "value": "use1-euw1", "short": true},
                {"title": "Rule", "value": "latency-high", "short": true},
                {"title": "Subject", "value": "use1-euw1/us-east-1/icmp:10.1.0.10", "short": true},
                {"title": "Value", "value": "80.0", "short": true},
            ],
            "footer": "Crosswatch 92c2ece3-4cbc-5e49-9639-3dffe3259a4a",
            "ts": 1_795_330_860,
        }],
    });
    assert_eq!(posted(&Template::Slack, &resolved()), expected);
    let expected = json!({
        "text": "FIRING at-most oncall: 2 held back, 1 firing: l/a/p, l/a/q",
        "mrkdwn": false,
        "attachments": [{
            "color": "danger",
            "fallback": "FIRING at-most oncall: 2 held back, 1 firing: l/a/p, l/a/q",
            "text": "2 held back, 1 firing: l/a/p, l/a/q\n\
                     firing ping-failed l/a/p since 2026-11-22T07:00:01.000000Z\n\
                     resolved ping-failed l/a/q since 2026-11-22T07:00:03.000000Z",
            "fields": [
                {"title": "Rule", "value": "at-most", "short": true},
                {"title": "Subject", "value": "oncall", "short": true},
                {"title": "Value", "value": "2.0", "short": true},
            ],
            "footer": "Crosswatch d",
            "ts": 1_795_330_806,
        }],
    });
    assert_eq!(posted(&Template::Slack, &digest()), expected);
}

/// However much a notification holds, each service takes it: PagerDuty up to 512 KB, Opsgenie by field.
#[test]
fn what_is_very_long_is_cut_to_what_the_service_takes() {
    let mut large = digest();
    let held = Held {
        id: "i".repeat(36),
        state: "firing".to_owned(),
        rule: "r".repeat(64),
        subject: "é".repeat(400),
        at: large.at,
        place: String::new(),
        verdict: None,
    };
    large.held = Some(vec![held; 10_000]);
    large.text = format!("FIRING {}", "é".repeat(2_000));
    large.subject = "é".repeat(2_000);
    large.rule = "é".repeat(2_000);
    large.reason = "é".repeat(30_000);

    let event = render(&pagerduty(), &large, KEY).pop().unwrap().json;
    assert!(event.len() < 512_000, "{}", event.len());
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["payload"]["summary"].as_str().unwrap().chars().count(), 1024);
    assert_eq!(event["payload"]["custom_details"]["held"].as_array().unwrap().len(), 50);
    assert_eq!(event["payload"]["custom_details"]["held_left_out"], 9_950);

    let alert = posted(&opsgenie(None), &large);
    let length = |text: &Value| text.as_str().unwrap().chars().count();
    assert_eq!(length(&alert["message"]), 130);
    assert_eq!(length(&alert["description"]), 15_000);
    assert_eq!(length(&alert["entity"]), 512);
    assert!(alert["tags"].as_array().unwrap().iter().all(|tag| length(tag) <= 50));
    let details = alert["details"].as_object().unwrap();
    let all: usize = details.iter().map(|(name, value)| name.len() + length(value)).sum();
    assert!(all <= 8_000, "{all}");

    large.reason = "because".to_owned();
    let message = posted(&Template::Slack, &large);
    let text = message["attachments"][0]["text"].as_str().unwrap();
    assert_eq!(text.lines().count(), 52);
    assert!(text.ends_with("\nand 9950 more"), "{text}");
}
