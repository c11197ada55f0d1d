//! Mute rules: what is refused, and that an alarm that is muted tells nobody until it is muted no more.

use crosswatch_shared::time::Timestamp;
use serde_json::{Value as Json, json};

use crate::cbor::Value;
use crate::world::{World, cbor, seconds_now};

/// The minute that begins so many seconds from now, as `at` has it.
fn minute(seconds: f64) -> String {
    let at = Timestamp::from_secs((seconds_now() + seconds) as i64 / 60 * 60);
    at.to_string()[..16].to_owned()
}

fn rule(change: Json) -> Value {
    let mut input = json!({
        "Name": "Crosswatch silence 1",
        "Rule": {"Schedule": {"Expression": format!("at({})", minute(120.0)), "Duration": "PT60M", "Timezone": "UTC"}},
        "MuteTargets": {"AlarmNames": ["a"]},
    });
    for (path, value) in change.as_object().unwrap() {
        *input.pointer_mut(path).unwrap() = value.clone();
    }
    cbor(&input)
}

async fn alarm(world: &World) {
    let input = json!({
        "AlarmName": "a", "Namespace": "Test", "MetricName": "Up", "Statistic": "Maximum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "LessThanThreshold",
    });
    world.cloudwatch("PutMetricAlarm", cbor(&input)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_mute_rule_is_refused() {
    let Some(world) = World::new("what_is_no_mute_rule_is_refused").await else { return };
    alarm(&world).await;
    let schedule = "/Rule/Schedule";
    let bad = [
        json!({"/Name": ""}),
        json!({"/Name": "x".repeat(256)}),
        json!({"/Rule": null}),
        json!({format!("{schedule}/Expression"): "at(2020-01-01T00:00)"}),
        json!({format!("{schedule}/Expression"): format!("at({}:00)", minute(120.0))}),
        json!({format!("{schedule}/Expression"): "cron(*/5 * * * *)"}),
        json!({format!("{schedule}/Expression"): "rate(5 minutes)"}),
        json!({format!("{schedule}/Duration"): "PT30S"}),
        json!({format!("{schedule}/Duration"): "P16D"}),
        json!({format!("{schedule}/Timezone"): ""}),
        json!({"/MuteTargets/AlarmNames": []}),
        json!({"/MuteTargets/AlarmNames": vec!["a"; 101]}),
        json!({"/MuteTargets/AlarmNames": ["a", "nobody"]}),
    ];
    for change in bad {
        let error = world.cloudwatch("PutAlarmMuteRule", rule(change.clone())).await.unwrap_err();
        assert_eq!(error.0, "ValidationError", "{change}: {}", error.1);
    }
    let name = || cbor(&json!({"AlarmMuteRuleName": "Crosswatch silence 1"}));
    for operation in ["GetAlarmMuteRule", "DeleteAlarmMuteRule"] {
        let error = world.cloudwatch(operation, name()).await.unwrap_err();
        assert_eq!(error.0, "ResourceNotFoundException", "{operation}");
    }
    for change in [json!({}), json!({format!("{schedule}/Expression"): "cron(0 2 * * SUN)"})] {
        world.cloudwatch("PutAlarmMuteRule", rule(change)).await.unwrap();
        let told = world.cloudwatch("GetAlarmMuteRule", name()).await.unwrap();
        assert_eq!(told.text("Status"), Some("SCHEDULED"));
    }
    world.cloudwatch("DeleteAlarmMuteRule", name()).await.unwrap();
}
