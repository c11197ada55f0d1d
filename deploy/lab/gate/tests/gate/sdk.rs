//! The real SDK at the gate, through the crate that the program uses.

use std::process::Command;
use std::time::Duration;

use crosswatch_aws::alarms::{Alarms, MetricAlarm};
use crosswatch_aws::mutes::MuteRule;
use crosswatch_aws::sns::{Sms, Sns};
use crosswatch_aws::sqs::Sqs;
use crosswatch_aws::{Kind, Session};
use serde_json::json;

use crate::world::{World, seconds_now};

const QUEUE: &str = "GATE_TEST_QUEUE";

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_understands_the_gate() {
    // The SDK takes its endpoint from the environment, and an environment is set for a process of its own.
    if let Ok(url) = std::env::var(QUEUE) {
        return asks(&url).await;
    }
    let Some(world) = World::new("the_sdk_understands_the_gate").await else { return };
    let url = world.queue("q", json!({})).await;
    world.order(json!({"id": "once", "match": {"operation": "SendMessageBatch"}, "effect": {"lose_answer": true}, "times": 1}));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sdk::the_sdk_understands_the_gate", "--nocapture"])
        .env(QUEUE, &url)
        .env("AWS_ENDPOINT_URL", world.gate.url())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    // The first answer was lost after its effect: the SDK sent it again, and both are there.
    let page = world.control.record(Some("sqs"), Some("SendMessageBatch"), 0).unwrap();
    let codes: Vec<_> = page.requests.iter().map(|request| request.code.clone()).collect();
    assert_eq!(codes[..2], [Some("AnswerLost".to_owned()), None]);
    // Who asks under a role asks as the role's account.
    let page = world.control.record(Some("sqs"), Some("GetQueueAttributes"), 0).unwrap();
    assert_eq!(page.requests.last().unwrap().account, "444455556666");
}

async fn asks(url: &str) {
    let session = Session::load().await;
    let sqs = Sqs::new(&session, url);
    assert!(sqs.send(&["one".to_owned()]).await.unwrap()[0].is_ok());
    let refused = sqs.send(&["\u{1}".to_owned()]).await.unwrap_err();
    assert_eq!((refused.kind, refused.code.as_str()), (Kind::Refused, "InvalidMessageContents"));
    let received = sqs.receive(Duration::from_secs(1), Duration::from_secs(60)).await.unwrap();
    let handles: Vec<_> = received.iter().map(|message| message.handle.as_str()).collect();
    assert_eq!(received.len(), 2);
    assert!(sqs.extend(&handles, Duration::ZERO).await.unwrap().iter().all(Result::is_ok));
    let late = &sqs.extend(&handles, Duration::from_secs(9)).await.unwrap()[0];
    assert_eq!(late.as_ref().unwrap_err().code, "MessageNotInflight");

    let elsewhere = Sqs::new(&session.in_region("eu-west-1"), url).depth().await.unwrap_err();
    assert_eq!((elsewhere.kind, elsewhere.code.as_str()), (Kind::Refused, "NonExistentQueue"));
    let other = session.assuming("arn:aws:iam::444455556666:role/crosswatch", "test").await;
    Sqs::new(&other, url).depth().await.unwrap();

    mutes(&session).await;
    let sns = Sns::new(&session);
    sns.sms("+15555550100", "hello", &Sms::default()).await.unwrap();
    let refused = sns.sms("0100", "hello", &Sms::default()).await.unwrap_err();
    assert_eq!((refused.kind, refused.code.as_str()), (Kind::Refused, "InvalidParameter"));
    let absent = sns.topic("arn:aws:sns:us-east-1:000000000000:not", "s", "t").await.unwrap_err();
    assert_eq!(absent.code, "NotFound");
}

/// A mute rule by the SDK: taken, refused where it names an alarm that is not there, and gone.
async fn mutes(session: &Session) {
    let alarms = Alarms::new(session);
    let alarm = MetricAlarm {
        name: "a".to_owned(),
        description: String::new(),
        alarm_actions: Vec::new(),
        ok_actions: Vec::new(),
        namespace: "Test".to_owned(),
        metric: "Up".to_owned(),
        dimensions: Vec::new(),
        statistic: "Maximum".to_owned(),
        period: 60,
        comparison: "LessThanThreshold".to_owned(),
        threshold: 1.0,
        datapoints: 1,
        periods: 1,
        missing: "ignore".to_owned(),
    };
    alarms.put_metric_alarm(&alarm, ("crosswatch", "Test")).await.unwrap();
    let rule = |alarm: &str| MuteRule {
        name: "Test silence 1".to_owned(),
        description: "swap".to_owned(),
        expression: "cron(0 2 * * SUN)".to_owned(),
        duration: "PT120M".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        alarms: vec![alarm.to_owned()],
        expires: Some(seconds_now() as i64 + 3_600),
    };
    let tag = ("crosswatch", "Test");
    alarms.put_mute_rule(&rule("a"), tag).await.unwrap();
    let refused = alarms.put_mute_rule(&rule("b"), tag).await.unwrap_err();
    assert!(refused.kind == Kind::Refused && refused.message.contains("b does not exist"), "{refused}");
    alarms.delete_mute_rule("Test silence 1").await.unwrap();
    alarms.delete_mute_rule("Test silence 1").await.unwrap();
}
