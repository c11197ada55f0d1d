//! Webhooks with templates, each before a real server: what it gets, what its answers mean, and where its key is.

use crate::config::Secret;

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

const FIRING: &str = r#"{"id":"a/b","state":"firing","rule":"r","subject":"s","link":"l","at":"2026-11-22T07:00:01.000000Z","value":null,"reason":"lost","text":"FIRING r s: lost"}"#;

fn notifier(url: &str, template: Template) -> Notifier {
    let url = Secret::Value(url.to_owned());
    Notifier::Webhook(webhook::Webhook::new(&url, &template, BOUND).unwrap())
}

fn pagerduty(key: Secret) -> Template {
    Template::PagerDuty { key, severity: "critical" }
}

fn opsgenie() -> Template {
    Template::Opsgenie { key: Secret::Value(KEY.to_owned()), priority: None }
}

#[tokio::test]
async fn a_service_accepts_with_202_and_opsgenie_gets_its_key_in_a_header_alone() {
    let accepted = || Answer::Status(202, "", r#"{"status":"success"}"#);
    let mut endpoint = Endpoint::start([accepted(), accepted(), accepted()]).await;
    let url = endpoint.url.split('?').next().unwrap().to_owned();
    notifier(&url, pagerduty(Secret::Value(KEY.to_owned()))).send(FIRING).await.unwrap();
    let request = endpoint.requests.recv().await.unwrap();
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!(r#""routing_key":"{KEY}""#)), "{request}");

    let opsgenie = notifier(&url, opsgenie());
    opsgenie.send(FIRING).await.unwrap();
    let request = endpoint.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("authorization: GenieKey {KEY}\r\n")), "{head}");
    assert!(!body.contains(KEY), "{body}");
    opsgenie.send(&FIRING.replace("firing", "resolved")).await.unwrap();
    let request = endpoint.requests.recv().await.unwrap();
    let wanted = "POST /hook/a%2Fb/close?identifierType=alias HTTP/1.1\r\n";
    assert!(request.starts_with(wanted), "{request}");
}

/// A receiver has accepted once it has all that it is told: what was refused on the way is told again from the beginning. A
/// service that has no call for the texts gets a note.
#[tokio::test]
async fn what_becomes_known_of_an_open_alert_is_told_to_opsgenie_and_as_a_note_where_it_cannot_be_written_over()
 {
    let revised = FIRING.replace(r#""state""#, r#""revision":1,"state""#);
    let status = |status| Answer::Status(status, "", "");
    let answers = [200, 202, 503, 202, 202, 202, 202, 404, 202, 202, 405, 500, 202, 403];
    let mut endpoint = Endpoint::start(answers.map(status)).await;
    let opsgenie = notifier(endpoint.url.split('?').next().unwrap(), opsgenie());
    let (made, message) = ("POST /hook ", "PUT /hook/a%2Fb/message?identifierType=alias ");
    let description = "PUT /hook/a%2Fb/description?identifierType=alias ";
    let note = "POST /hook/a%2Fb/notes?identifierType=alias ";
    let tries: [(&[&str], Result<(), &str>); 6] = [
        (&[made, message, description], Err("refused with status 503: ")),
        (&[made, message, description], Ok(())),
        (&[made, message, note], Ok(())),
        (&[made, message, note], Err("refused with status 500: ")),
        (
            &[made, message],
            Err(
                "refused with status 403: ; see that the key is that of an API integration that may create, update and close alerts, and that the webhook is of the account's region",
            ),
        ),
        (&[made, message, description], Ok(())),
    ];
    for (calls, outcome) in tries {
        let told = opsgenie.send(&revised).await.map_err(|error| error.to_string());
        assert_eq!(told, outcome.map_err(str::to_owned), "{calls:?}");
        for call in calls {
            let request = endpoint.requests.try_recv().unwrap();
            assert!(request.starts_with(call), "{request} is not {call}");
        }
        assert!(endpoint.requests.is_empty());
    }
}

#[tokio::test]
async fn who_asks_for_fewer_calls_is_left_alone_as_long_as_he_says_a_minute_at_most() {
    let cases = [
        (429, "retry-after: 7\r\n", 7),
        (429, "", 30),
        (429, "retry-after: 86400\r\n", 60),
        (429, "retry-after: tomorrow\r\n", 30),
        // By a date, of the service's own clock, in each of HTTP's forms.
        (429, "date: Sun, 22 Nov 2026 07:00:00 GMT\r\nretry-after: Sun, 22 Nov 2026 07:00:09 GMT\r\n", 9),
        (503, "date: Sun, 22 Nov 2026 06:59:48 GMT\r\nretry-after: Sunday, 22-Nov-26 07:00:00 GMT\r\n", 12),
        (503, "date: Sun Nov 22 07:00:00 2026\r\nretry-after: Sun Nov 22 07:00:20 2026\r\n", 20),
        (429, "date: Sun, 22 Nov 2026 07:00:00 GMT\r\nretry-after: Sun, 22 Nov 2026 06:00:00 GMT\r\n", 0),
        (429, "date: Sun, 22 Nov 2026 07:00:00 GMT\r\nretry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n", 60),
        // Without the service's own time by ours.
        (429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0),
        (503, "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n", 60),
        (503, "retry-after: 3\r\n", 3),
        (500, "", 0),
    ];
    let answers = cases.map(|(status, headers, _)| Answer::Status(status, headers, ""));
    let endpoint = Endpoint::start(answers.clone().into_iter().chain(answers)).await;
    for template in [Template::Plain, Template::Slack] {
        let notifier = notifier(&endpoint.url, template);
        for (status, headers, seconds) in cases {
            let error = notifier.send(FIRING).await.unwrap_err();
            let rest = Duration::from_secs(seconds);
            assert_eq!((error.rest_of_all(), error.rest()), (rest, rest), "{status} {headers}");
            assert!(!error.needs_somebody(), "{error}");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_never_repeats_the_key() {
    let said = format!("{{\"errors\":[\"bad key {KEY}\"],\"more\":\"{}\"}}", "x ".repeat(400));
    let answers = [400, 404].map(|status| Answer::Status(status, "", said.clone().leak()));
    let endpoint = Endpoint::start(answers.into_iter().chain([Answer::Status(404, "", "")])).await;
    let error =
        notifier(&endpoint.url, pagerduty(Secret::Value(KEY.to_owned()))).send(FIRING).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("refused with status 400: {\"errors\":[\"bad key KEY\"]"), "{text}");
    assert!(text.contains("x; see that the key is that of an Events API v2 integration"), "{text}");
    assert!(!text.contains(KEY) && !format!("{error:?}").contains(KEY), "{error:?}");
    assert!(error.needs_somebody());
    assert_eq!((error.rest(), error.rest_of_all()), (Duration::from_secs(60), Duration::ZERO));

    let error = notifier(&endpoint.url, opsgenie()).send(FIRING).await.unwrap_err();
    assert!(error.needs_somebody() && !error.to_string().contains(KEY), "{error}");
    let error = notifier(&endpoint.url, Template::Plain).send(FIRING).await.unwrap_err();
    assert!(!error.needs_somebody(), "what a webhook of anybody refuses it may take later: {error}");
}

#[tokio::test]
async fn a_key_in_a_file_is_needed_at_the_start_and_read_anew_for_each_try() {
    let folder = tempfile::tempdir().unwrap();
    let (key, url) = (folder.path().join("key"), folder.path().join("url"));
    let mut endpoint = Endpoint::start([]).await;
    let template = pagerduty(Secret::File(key.clone()));
    let open = || webhook::Webhook::new(&Secret::File(url.clone()), &template, BOUND);
    std::fs::write(&url, &endpoint.url).unwrap();
    let error = open().unwrap_err();
    assert!(error.contains("key: No such file") && error.contains("alerter's user"), "{error}");
    std::fs::write(&key, "s3cret\n").unwrap();
    let error = open().unwrap_err();
    assert!(error.ends_with("key: what it holds is not an integration key of PagerDuty, which is 32 letters and digits; copy it whole"), "{error}");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let webhook = open().unwrap();
    assert!(!format!("{webhook:?}").contains("secret"), "{webhook:?}");
    webhook.send(FIRING).await.unwrap();
    std::fs::write(&key, "f".repeat(32)).unwrap();
    webhook.send(FIRING).await.unwrap();
    for key in [KEY, &"f".repeat(32)] {
        let request = endpoint.requests.recv().await.unwrap();
        assert!(request.contains(&format!(r#""routing_key":"{key}""#)), "{request}");
    }
    std::fs::remove_file(&url).unwrap();
    let error = webhook.send(FIRING).await.unwrap_err();
    assert!(error.to_string().contains("url: No such file"), "{error}");
    assert!(!error.needs_somebody(), "it is tried again");
}
