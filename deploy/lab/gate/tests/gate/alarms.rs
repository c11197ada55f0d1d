//! Alarms: what is refused, kept and told; that states come from the evaluator, and that changes page.

use std::time::Duration;

use crosswatch_gate::Vpn;
use serde_json::{Value as Json, json};

use crate::cbor::Value;
use crate::world::{World, cbor, seconds_now, until};

fn alarm(name: &str, change: Json) -> Value {
    let mut input = json!({
        "AlarmName": name, "Namespace": "Test", "MetricName": "Up", "Statistic": "Maximum", "Period": 60,
        "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": 1.0,
        "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "ignore",
        "Dimensions": [{"Name": "Link", "Value": "l"}],
    });
    for (name, value) in change.as_object().unwrap() {
        input[name] = value.clone();
    }
    cbor(&input)
}

/// Asks as often as the rate allows.
async fn patient(world: &World, operation: &str, input: Value) -> Result<Value, (String, String)> {
    loop {
        match world.cloudwatch(operation, input.clone()).await {
            Err((code, _)) if code == "Throttling" => tokio::time::sleep(Duration::from_millis(50)).await,
            answer => return answer,
        }
    }
}

fn names(answer: &Value, kind: &str) -> Vec<String> {
    answer.list(kind).iter().map(|alarm| alarm.text("AlarmName").unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_alarm_is_refused() {
    let test = "what_is_no_alarm_is_refused";
    let Some(world) = World::new(test).await else {
        return;
    };
    let arn = "arn:aws:sns:eu-west-1:000000000000:page";
    let bad = [
        json!({"Period": 15}),
        json!({"Period": 90}),
        json!({"Period": 0}),
        json!({"DatapointsToAlarm": 4}),
        json!({"DatapointsToAlarm": 0}),
        json!({"EvaluationPeriods": 0}),
        json!({"EvaluationPeriods": 1_441}),
        json!({"Period": 3_600, "EvaluationPeriods": 169}),
        json!({"Threshold": null}),
        json!({"ComparisonOperator": "Below"}),
        json!({"TreatMissingData": "hold"}),
        json!({"Statistic": "Median"}),
        json!({"Statistic": null}),
        json!({"ExtendedStatistic": "p99"}),
        json!({"Statistic": null, "ExtendedStatistic": "p101"}),
        json!({"Namespace": null}),
        json!({"Dimensions": [{"Name": "Link", "Value": ""}]}),
        json!({"AlarmActions": [arn]}),
        json!({"AlarmActions": ["page me"]}),
        json!({"OKActions": vec!["arn:aws:sns:us-east-1:000000000000:page"; 6]}),
        json!({"AlarmName": ""}),
        json!({"Tags": [{"Key": "aws:x", "Value": "1"}]}),
    ];
    for change in bad {
        let error = patient(&world, "PutMetricAlarm", alarm("a", change.clone())).await.unwrap_err();
        assert_eq!(error.0, "ValidationError", "{change}: {}", error.1);
    }
    // The longest that is allowed.
    for change in [json!({"EvaluationPeriods": 1_440}), json!({"Period": 3_600, "EvaluationPeriods": 168})] {
        patient(&world, "PutMetricAlarm", alarm("a", change)).await.unwrap();
    }
    let many = (0..101).map(|n| format!("ALARM(x{n})")).collect::<Vec<_>>().join(" OR ");
    for rule in ["", "ALARM(", "ALARM(a) OR OK(nobody)", "ALARM(self)", &many, &" ".repeat(10_241)] {
        let input = cbor(&json!({"AlarmName": "self", "AlarmRule": rule}));
        let error = patient(&world, "PutCompositeAlarm", input).await.unwrap_err();
        assert_eq!(error.0, "ValidationError", "{}", error.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_kept_told_tagged_and_deleted() {
    let test = "alarms_are_kept_told_tagged_and_deleted";
    let Some(world) = World::new(test).await else {
        return;
    };
    let tags = json!({"Tags": [{"Key": "made-by", "Value": "crosswatch"}]});
    for name in ["cw-a", "cw-b", "other"] {
        patient(&world, "PutMetricAlarm", alarm(name, tags.clone())).await.unwrap();
    }
    let composite = |name: &str, rule: &str| cbor(&json!({"AlarmName": name, "AlarmRule": rule}));
    patient(&world, "PutCompositeAlarm", composite("cw-link", "ALARM(cw-a) OR ALARM(\"cw-b\")"))
        .await
        .unwrap();
    patient(&world, "PutCompositeAlarm", composite("cw-all", "ALARM(cw-link)")).await.unwrap();
    let cycle =
        patient(&world, "PutCompositeAlarm", composite("cw-link", "ALARM(cw-all)")).await.unwrap_err();
    assert!(cycle.1.contains("cycle"), "{}", cycle.1);

    let both =
        json!({"AlarmNamePrefix": "cw-", "AlarmTypes": ["MetricAlarm", "CompositeAlarm"], "MaxRecords": 3});
    let page = patient(&world, "DescribeAlarms", cbor(&both)).await.unwrap();
    assert_eq!(names(&page, "MetricAlarms").len() + names(&page, "CompositeAlarms").len(), 3);
    let mut second = both.clone();
    second["NextToken"] = json!(page.text("NextToken").unwrap());
    let rest = patient(&world, "DescribeAlarms", cbor(&second)).await.unwrap();
    assert_eq!(names(&page, "MetricAlarms").len() + names(&rest, "MetricAlarms").len(), 2);
    assert_eq!(names(&page, "CompositeAlarms").len() + names(&rest, "CompositeAlarms").len(), 2);
    assert_eq!(rest.text("NextToken"), None);
    // Where no type is asked for, composites are not told.
    let plain = patient(&world, "DescribeAlarms", cbor(&json!({}))).await.unwrap();
    assert_eq!(names(&plain, "MetricAlarms"), ["cw-a", "cw-b", "other"]);
    assert_eq!(names(&plain, "CompositeAlarms"), Vec::<String>::new());
    let told = &plain.list("MetricAlarms")[0];
    assert_eq!((told.text("StateValue"), told.int("Period")), (Some("INSUFFICIENT_DATA"), Some(60)));
    assert_eq!(told.get("Threshold"), Some(&Value::Float(1.0)));
    assert_eq!(told.get("ActionsEnabled"), Some(&Value::Bool(true)));

    let arn = told.text("AlarmArn").unwrap().to_owned();
    let listed = patient(&world, "ListTagsForResource", cbor(&json!({"ResourceARN": arn}))).await.unwrap();
    assert_eq!(listed.list("Tags")[0].text("Value"), Some("crosswatch"));
    let more = json!({"ResourceARN": arn, "Tags": [{"Key": "v", "Value": "2"}]});
    patient(&world, "TagResource", cbor(&more)).await.unwrap();
    let listed = patient(&world, "ListTagsForResource", cbor(&json!({"ResourceARN": arn}))).await.unwrap();
    assert_eq!(listed.list("Tags").len(), 2);
    let nobody = json!({"ResourceARN": format!("{arn}-not")});
    let error = patient(&world, "ListTagsForResource", cbor(&nobody)).await.unwrap_err();
    assert_eq!(error.0, "ResourceNotFoundException");

    let delete = |names: Json| cbor(&json!({"AlarmNames": names}));
    for wrong in [json!([]), json!(["cw-a"]), json!(["cw-link", "cw-all"]), json!(vec!["x"; 101])] {
        let error = patient(&world, "DeleteAlarms", delete(wrong.clone())).await.unwrap_err();
        assert_eq!(error.0, "ValidationError", "{wrong}");
    }
    patient(&world, "DeleteAlarms", delete(json!(["cw-all", "nobody"]))).await.unwrap();
    patient(&world, "DeleteAlarms", delete(json!(["cw-link", "cw-a", "cw-b"]))).await.unwrap();
    let left: Vec<_> = world.control.alarms().unwrap().into_iter().map(|alarm| alarm.name).collect();
    assert_eq!(left, ["other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_three_puts_a_second_are_throttled() {
    let Some(world) = World::new("more_than_three_puts_a_second_are_throttled").await else { return };
    let mut throttled = 0;
    for _ in 0..30 {
        if let Err((code, _)) = world.cloudwatch("PutMetricAlarm", alarm("a", json!({}))).await {
            assert_eq!(code, "Throttling");
            throttled += 1;
        }
    }
    // However slowly this runs, the last before a refusal were served at the rate.
    let counts = world.control.counts().unwrap();
    assert_eq!(counts[0].refused, throttled);
    assert!(throttled > 0, "thirty requests took ten seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_state_pages_once_and_clears_once() {
    let test = "a_change_of_state_pages_once_and_clears_once";
    let quick = |options: &mut crosswatch_gate::Options| {
        options.evaluate_every = Some(Duration::from_millis(20));
        options.tunnel_state_every = Duration::from_millis(20);
    };
    let Some(world) = World::with(test, quick).await else { return };
    let topic = world.topic("page").await;
    let inbox = world.queue("inbox", json!({})).await;
    let subscribe = [
        ("Action", "Subscribe"),
        ("TopicArn", topic.as_str()),
        ("Protocol", "sqs"),
        ("Endpoint", "arn:aws:sqs:us-east-1:000000000000:inbox"),
    ];
    assert_eq!(world.form("sns", "test", &subscribe).await.status, 200);
    // Judged by the last whole period: what is put into it adds up, and what is missing leaves the state as it is.
    let child = json!({"Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "DatapointsToAlarm": 1,
        "Threshold": 0.0, "ComparisonOperator": "GreaterThanThreshold",
        "AlarmActions": ["arn:aws:sns:us-east-1:000000000000:gone"]});
    patient(&world, "PutMetricAlarm", alarm("child", child)).await.unwrap();
    let link = json!({"AlarmName": "use1-euw1 down", "AlarmRule": "ALARM(child)", "AlarmActions": [topic], "OKActions": [topic]});
    patient(&world, "PutCompositeAlarm", cbor(&link)).await.unwrap();
    let put = async |value: i64| {
        let data = json!([{"MetricName": "Up", "Dimensions": [{"Name": "Link", "Value": "l"}], "Value": value,
            "Timestamp": {"at": seconds_now() - 60.0}}]);
        world
            .cloudwatch("PutMetricData", cbor(&json!({"Namespace": "Test", "MetricData": data})))
            .await
            .unwrap();
    };
    let state = |name: &str| {
        world.control.alarms().unwrap().into_iter().find(|alarm| alarm.name == name).unwrap().state
    };
    put(0).await;
    until(|| (state("use1-euw1 down") == "OK" && state("child") == "OK").then_some(())).await;
    put(1).await;
    until(|| (state("use1-euw1 down") == "ALARM").then_some(())).await;
    put(-1).await;
    let texts = || -> Vec<String> {
        let messages = world.control.messages().unwrap();
        messages.into_iter().filter(|message| message.source == "alarm").map(|message| message.text).collect()
    };
    let all = until(|| Some(texts()).filter(|texts| texts.len() >= 3)).await;
    let expected = ["OK", "ALARM", "OK"].map(|state| format!("{state}: \"use1-euw1 down\" in us-east-1"));
    assert_eq!(all, expected);
    let link = world.control.alarms().unwrap().into_iter().find(|alarm| alarm.kind == "composite").unwrap();
    let steps: Vec<_> = link.history.iter().map(|step| (step.from.as_str(), step.to.as_str())).collect();
    assert_eq!(steps, [("INSUFFICIENT_DATA", "OK"), ("OK", "ALARM"), ("ALARM", "OK")]);
    // Through the emulator, to whoever subscribed.
    let receive = json!({"QueueUrl": inbox, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 5});
    let received = world.sqs("ReceiveMessage", receive).await;
    let first: Json = serde_json::from_str(received.json["Messages"][0]["Body"].as_str().unwrap()).unwrap();
    let message: Json = serde_json::from_str(first["Message"].as_str().unwrap()).unwrap();
    assert_eq!((&message["AlarmName"], &message["NewStateValue"]), (&json!("use1-euw1 down"), &json!("OK")));

    let child = world.control.alarms().unwrap().into_iter().find(|alarm| alarm.kind == "metric").unwrap();
    let gone = "arn:aws:sns:us-east-1:000000000000:gone: NotFound";
    assert_eq!(child.failed_actions, [gone], "a topic that is not there is told");

    // AWS's own metric of tunnels follows the table.
    let table: Vec<Vpn> = serde_json::from_value(json!([{"region": "us-east-1", "vpn": "vpn-a", "tunnels": [
        {"outside_ip": "52.1.2.3", "status": "UP", "last_status_change": "2026-11-22T07:00:00Z"},
        {"outside_ip": "52.1.2.4", "status": "DOWN", "last_status_change": "2026-11-22T07:00:00Z"}]}]))
    .unwrap();
    world.control.set_tunnels(&table).unwrap();
    let points = || world.control.datapoints(Some("TunnelState"), &[("VpnId", "vpn-a")]).unwrap();
    let half = until(|| points().into_iter().next()).await;
    assert_eq!(half.values, [0.5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_set_by_hand_pages_at_once() {
    let Some(world) = World::new("a_state_set_by_hand_pages_at_once").await else { return };
    let topic = world.topic("page").await;
    patient(&world, "PutMetricAlarm", alarm("a", json!({"AlarmActions": [topic]}))).await.unwrap();
    let set = |name: &str| cbor(&json!({"AlarmName": name, "StateValue": "ALARM", "StateReason": "a trial"}));
    assert_eq!(patient(&world, "SetAlarmState", set("b")).await.unwrap_err().0, "ResourceNotFound");
    patient(&world, "SetAlarmState", set("a")).await.unwrap();
    let messages = world.control.messages().unwrap();
    assert_eq!((messages.len(), messages[0].text.as_str()), (1, "ALARM: \"a\" in us-east-1"));
}
