//! What PutMetricData refuses, and what is kept of what it takes.

use serde_json::{Value as Json, json};

use crate::cbor::Value;
use crate::world::{World, cbor, seconds_now};

fn put(data: Json) -> Value {
    cbor(&json!({"Namespace": "Test", "MetricData": data}))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_datum_refuses_the_whole_request() {
    let Some(world) = World::new("one_bad_datum_refuses_the_whole_request").await else { return };
    let (invalid, combination, missing) =
        ("InvalidParameterValue", "InvalidParameterCombination", "MissingParameter");
    let many = |count: usize| vec![1.5; count];
    let dimensions = |count: usize| -> Json {
        (0..count).map(|n| json!({"Name": format!("d{n}"), "Value": "v"})).collect()
    };
    let now = seconds_now();
    let two_weeks = 14.0 * 86_400.0;
    let bad = [
        (json!({"MetricName": "m"}), missing),
        (json!({"MetricName": "", "Value": 1}), missing),
        (json!({"Value": 1}), missing),
        (json!({"MetricName": "m", "Value": 1e109}), invalid),
        (json!({"MetricName": "m", "Value": 1, "Values": [1]}), combination),
        (json!({"MetricName": "m", "Values": []}), invalid),
        (json!({"MetricName": "m", "Values": many(151)}), invalid),
        (json!({"MetricName": "m", "Values": [1, 2], "Counts": [1]}), combination),
        (json!({"MetricName": "m", "Values": [1, 2], "Counts": [1, 0]}), invalid),
        (json!({"MetricName": "m", "Values": [1], "Counts": [-1]}), invalid),
        (json!({"MetricName": "m", "Value": 1, "Dimensions": dimensions(31)}), invalid),
        (json!({"MetricName": "m", "Value": 1, "Dimensions": [{"Name": "a", "Value": ""}]}), missing),
        (json!({"MetricName": "m", "Value": 1, "Dimensions": [{"Name": "a", "Value": "ä"}]}), invalid),
        (
            json!({"MetricName": "m", "Value": 1, "Dimensions": [{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]}),
            invalid,
        ),
        (json!({"MetricName": "m", "Value": 1, "StorageResolution": 5}), invalid),
        (json!({"MetricName": "m", "Value": 1, "Unit": "Furlongs"}), invalid),
        (json!({"MetricName": "m", "Value": 1, "Timestamp": {"at": now - two_weeks - 60.0}}), invalid),
        (json!({"MetricName": "m", "Value": 1, "Timestamp": {"at": now + 2.0 * 3600.0 + 60.0}}), invalid),
    ];
    let good = json!({"MetricName": "good", "Value": 1});
    for (datum, code) in bad {
        let (said, message) = world.cloudwatch("PutMetricData", put(json!([good, datum]))).await.unwrap_err();
        assert_eq!(said, code, "{datum}: {message}");
        assert!(
            message.contains("MetricData.member.2") || message.contains("dimension name twice"),
            "{message}"
        );
    }
    for number in [f64::NAN, f64::INFINITY] {
        let datum =
            Value::Map(vec![("MetricName".into(), "m".into()), ("Value".into(), Value::Float(number))]);
        let all = Value::Map(vec![
            ("Namespace".into(), "Test".into()),
            ("MetricData".into(), Value::List(vec![cbor(&good), datum])),
        ]);
        assert_eq!(world.cloudwatch("PutMetricData", all).await.unwrap_err().0, invalid);
    }
    let requests = [
        (put(json!([])), missing),
        (put(vec![good.clone(); 1_001].into()), invalid),
        (cbor(&json!({"Namespace": "AWS/EC2", "MetricData": [good]})), invalid),
        (cbor(&json!({"Namespace": "a?b", "MetricData": [good]})), invalid),
        (cbor(&json!({"MetricData": [good]})), missing),
    ];
    for (request, code) in requests {
        assert_eq!(world.cloudwatch("PutMetricData", request).await.unwrap_err().0, code);
    }
    // Uncompressed, a thousand datums of 150 values are over 1 MB.
    let large = json!({"MetricName": "m", "Values": many(150)});
    let error = world.cloudwatch("PutMetricData", put(vec![large; 1_000].into())).await.unwrap_err();
    assert_eq!(error.0, "RequestEntityTooLarge");
    assert_eq!(world.control.datapoints(None, &[]).unwrap(), [], "nothing of all this was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_can_be_asked_for() {
    let Some(world) = World::new("what_is_taken_can_be_asked_for").await else { return };
    let at = (seconds_now() - 13.9 * 86_400.0).floor();
    let site = |name: &str| json!([{"Name": "Site", "Value": name}, {"Name": "Link", "Value": "l"}]);
    let data = json!([
        {"MetricName": "Rtt", "Dimensions": site("a"), "Values": [1.5, 2.5], "Counts": [3, 1],
         "Timestamp": {"at": at}, "Unit": "Milliseconds", "StorageResolution": 1},
        {"MetricName": "Rtt", "Dimensions": site("b"), "Value": 9},
        {"MetricName": "Loss", "Dimensions": site("a"), "Value": 0},
    ]);
    world.cloudwatch("PutMetricData", put(data)).await.unwrap();
    world
        .cloudwatch("PutMetricData", put(vec![json!({"MetricName": "n", "Value": 1}); 1_000].into()))
        .await
        .unwrap();
    let found = world.control.datapoints(Some("Rtt"), &[("Site", "a")]).unwrap();
    let [point] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&point.values[..], &point.counts[..]), (&[1.5, 2.5][..], &[3.0, 1.0][..]));
    assert_eq!(point.at.as_micros() as f64 / 1e6, at);
    assert_eq!(
        (point.resolution, point.unit.as_deref(), point.region.as_str()),
        (1, Some("Milliseconds"), "us-east-1")
    );
    assert_eq!(world.control.datapoints(None, &[("Link", "l")]).unwrap().len(), 3);
    let count = &world.control.counts().unwrap()[0];
    assert_eq!((count.requests, count.entries), (2, 1_003));
    world.control.clear().unwrap();
    assert_eq!(world.control.datapoints(None, &[]).unwrap().len(), 0);
    assert_eq!(world.control.counts().unwrap(), []);
    assert_eq!(world.control.record(None, None, 0).unwrap().next, 2, "numbers go on");
}
