//! Every fault, seen by a client.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{World, cbor};

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_strikes_what_it_is_for_and_is_counted() {
    let Some(world) = World::new("each_fault_strikes_what_it_is_for_and_is_counted").await else { return };
    let url = world.queue("q", json!({})).await;
    let send = async |region: &str| {
        let sent = world.sqs_in(region, "SendMessage", json!({"QueueUrl": url, "MessageBody": "a"})).await;
        sent.map_or("reset".to_owned(), |said| format!("{} {}", said.status, said.code))
    };
    let matching = json!({"service": "sqs", "operation": "SendMessage", "region": "us-east-1", "resource": "/q",
        "source": "127.0.0.1"});
    let order =
        |id: &str, effect| world.order(json!({"id": id, "match": matching, "effect": effect, "one_in": 3}));

    order("one-in-three", json!({"status": 503, "code": "InternalFailure"}));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(send("us-east-1").await);
    }
    assert_eq!(seen, ["200 ", "200 ", "503 InternalFailure", "200 ", "200 ", "503 InternalFailure"]);
    assert_eq!(send("eu-west-1").await, "400 NonExistentQueue");
    let [fault] = &world.control.faults().unwrap()[..] else { panic!() };
    assert_eq!((fault.matched, fault.struck), (6, 2));
    world.control.heal("one-in-three").unwrap();
    assert!(world.control.heal("one-in-three").is_err());

    world.order(json!({"id": "t", "match": matching, "effect": {"throttle": true}, "times": 1}));
    assert_eq!(send("us-east-1").await, "403 RequestThrottled");
    assert_eq!(send("us-east-1").await, "200 ", "once was asked for");
    world.control.heal_all().unwrap();

    let depth = async || {
        let asked = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let attributes = world.sqs("GetQueueAttributes", asked).await;
        attributes.json["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().parse::<u32>().unwrap()
    };
    let before = depth().await;
    world.order(json!({"id": "r", "match": matching, "effect": {"reset": true}, "times": 1}));
    assert_eq!(send("us-east-1").await, "reset");
    assert_eq!(depth().await, before, "a reset has no effect");
    world.order(json!({"id": "l", "match": matching, "effect": {"lose_answer": true}, "times": 1}));
    assert_eq!(send("us-east-1").await, "reset");
    assert_eq!(depth().await, before + 1, "a lost answer has one");

    world.order(json!({"id": "slow", "match": matching, "effect": {"latency_ms": 200}, "times": 1}));
    let start = Instant::now();
    send("us-east-1").await;
    assert!(start.elapsed() >= Duration::from_millis(200));

    let page = world.control.record(Some("sqs"), Some("SendMessage"), 0).unwrap();
    let codes: Vec<_> = page.requests.iter().filter_map(|request| request.code.as_deref()).collect();
    let expected = [
        "InternalFailure",
        "InternalFailure",
        "QueueDoesNotExist",
        "RequestThrottled",
        "Reset",
        "AnswerLost",
    ];
    assert_eq!(codes, expected);
    let refused: Vec<_> = page.requests.iter().filter(|request| request.refused.is_some()).collect();
    assert_eq!(refused.len(), 1, "what was ordered is no refusal");
    let later = world.control.record(None, None, page.next).unwrap();
    assert_eq!(later.requests, []);

    for bad in [
        json!({"id": "x", "effect": {}}),
        json!({"id": "a b", "effect": {"reset": true}}),
        json!({"id": "x", "effect": {"reset": false}}),
        json!({"id": "x", "effect": {"reset": true}, "one_in": 0}),
        json!({"id": "x", "effect": {"status": 200}}),
        json!({"id": "x", "match": {"servce": "sqs"}, "effect": {"reset": true}}),
    ] {
        let ordered = serde_json::from_value(bad.clone()).map(|fault| world.control.order(&fault));
        assert!(!matches!(ordered, Ok(Ok(()))), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_each_second_entry_fails_and_a_message_may_come_twice() {
    let test = "of_a_batch_each_second_entry_fails_and_a_message_may_come_twice";
    let Some(world) = World::new(test).await else { return };
    let url = world.queue("q", json!({})).await;
    world.order(json!({"id": "p", "match": {"operation": "SendMessageBatch"}, "effect": {"partial": true}}));
    let batch = |ids: &[&str]| {
        let entries: Vec<_> = ids.iter().map(|id| json!({"Id": id, "MessageBody": id})).collect();
        json!({"QueueUrl": url, "Entries": entries})
    };
    let answer = world.sqs("SendMessageBatch", batch(&["a", "b", "c"])).await;
    assert_eq!(answer.status, 200);
    let failed: Vec<_> =
        answer.json["Failed"].as_array().unwrap().iter().map(|entry| entry["Id"].clone()).collect();
    assert_eq!(failed, ["a", "c"]);
    assert_eq!(answer.json["Failed"][0]["SenderFault"], false);
    // Tried again alone it gets through: entries are counted over the requests.
    let answer = world.sqs("SendMessageBatch", batch(&["a"])).await;
    assert_eq!(answer.json["Successful"][0]["Id"], "a", "{}", answer.text);

    world.order(json!({"id": "d", "match": {"operation": "ReceiveMessage"}, "effect": {"duplicate": true}, "times": 1}));
    let receive =
        json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 60, "WaitTimeSeconds": 1});
    let first = world.sqs("ReceiveMessage", receive.clone()).await;
    assert_eq!(first.json["Messages"].as_array().unwrap().len(), 2);
    let second = world.sqs("ReceiveMessage", receive).await;
    assert_eq!(second.json["Messages"][0]["Body"], first.json["Messages"][0]["Body"]);
    assert_ne!(second.json["Messages"][0]["ReceiptHandle"], first.json["Messages"][0]["ReceiptHandle"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_throttles_in_its_own_words() {
    let Some(world) = World::new("each_service_throttles_in_its_own_words").await else { return };
    world.order(json!({"id": "t", "effect": {"throttle": true}}));
    let form = async |service: &str| world.form(service, "test", &[("Action", "Any")]).await.code;
    assert_eq!(form("ec2").await, "RequestLimitExceeded");
    assert_eq!(form("sns").await, "Throttled");
    assert_eq!(form("sts").await, "Throttling");
    assert_eq!(world.sqs("SendMessage", json!({})).await.code, "RequestThrottled");
    assert_eq!(world.cloudwatch("PutMetricData", cbor(&json!({}))).await.unwrap_err().0, "Throttling");
}
