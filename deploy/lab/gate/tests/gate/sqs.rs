//! What SQS refuses, and what becomes of receipt handles.

use serde_json::{Value as Json, json};

use crate::world::{World, said};

fn entries(count: usize, body: &str) -> Json {
    (0..count).map(|n| json!({"Id": format!("e{n}"), "MessageBody": body})).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sqs_refuses_is_refused_and_recorded() {
    let Some(world) = World::new("what_sqs_refuses_is_refused_and_recorded").await else { return };
    let url = world.queue("q", json!({})).await;
    let mib = 1 << 20;
    let same = json!([{"Id": "a", "MessageBody": "1"}, {"Id": "a", "MessageBody": "2"}]);
    let odd = json!([{"Id": "a b", "MessageBody": "1"}]);
    let refused = [
        ("SendMessage", json!({"MessageBody": "x".repeat(mib + 1)}), "InvalidParameterValue"),
        ("SendMessage", json!({"MessageBody": "a\u{0}b"}), "InvalidMessageContents"),
        ("SendMessage", json!({"MessageBody": "a\u{FFFF}"}), "InvalidMessageContents"),
        ("SendMessage", json!({"MessageBody": ""}), "MissingParameter"),
        ("SendMessage", json!({"MessageBody": "a", "DelaySeconds": 901}), "InvalidParameterValue"),
        ("SendMessageBatch", json!({"Entries": []}), "EmptyBatchRequest"),
        ("SendMessageBatch", json!({"Entries": entries(11, "a")}), "TooManyEntriesInBatchRequest"),
        ("SendMessageBatch", json!({"Entries": entries(2, &"x".repeat(mib / 2 + 1))}), "BatchRequestTooLong"),
        ("SendMessageBatch", json!({"Entries": same}), "BatchEntryIdsNotDistinct"),
        ("SendMessageBatch", json!({"Entries": odd}), "InvalidBatchEntryId"),
        ("SendMessageBatch", json!({"Entries": entries(2, "\u{1b}")}), "InvalidMessageContents"),
        ("DeleteMessageBatch", json!({"Entries": []}), "EmptyBatchRequest"),
        ("ReceiveMessage", json!({"WaitTimeSeconds": 21}), "InvalidParameterValue"),
        ("ReceiveMessage", json!({"MaxNumberOfMessages": 0}), "InvalidParameterValue"),
        ("ReceiveMessage", json!({"MaxNumberOfMessages": 11}), "InvalidParameterValue"),
        ("ReceiveMessage", json!({"VisibilityTimeout": 43_201}), "InvalidParameterValue"),
        ("DeleteMessage", json!({"ReceiptHandle": "no such"}), "ReceiptHandleIsInvalid"),
        (
            "ChangeMessageVisibility",
            json!({"ReceiptHandle": "no such", "VisibilityTimeout": 1}),
            "ReceiptHandleIsInvalid",
        ),
    ];
    for (operation, mut input, code) in refused {
        input["QueueUrl"] = json!(url);
        let answer = world.sqs(operation, input).await;
        assert_eq!((answer.code.as_str(), answer.status), (code, 400), "{operation}: {}", answer.text);
    }
    let page = world.control.record(Some("sqs"), None, 0).unwrap();
    let refused: Vec<_> = page.requests.iter().filter(|request| request.refused.is_some()).collect();
    assert_eq!(refused.len(), 18);
    assert!(refused.iter().all(|request| request.resource == url && request.source == "127.0.0.1"));

    // What is just inside.
    let all = json!({"QueueUrl": url, "Entries": entries(8, &"x".repeat(mib / 8))});
    let answer = world.sqs("SendMessageBatch", all).await;
    assert_eq!(answer.json["Successful"].as_array().map(Vec::len), Some(8), "{}", answer.text);
    let small = json!({"QueueUrl": url, "MessageBody": "a\t\u{10000}"});
    assert_eq!(world.sqs("SendMessage", small).await.status, 200);
    let counts = world.control.counts().unwrap();
    let sent = |operation: &str| {
        let count = counts.iter().find(|count| count.operation == operation).unwrap();
        (count.requests, count.entries, count.billed, count.refused)
    };
    assert_eq!(sent("SendMessageBatch"), (7, 8, 16, 6));
    assert_eq!(sent("SendMessage"), (6, 1, 1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_one_of_its_region_and_nobody_asks_unsigned() {
    let Some(world) = World::new("a_queue_is_one_of_its_region_and_nobody_asks_unsigned").await else {
        return;
    };
    let url = world.queue("q", json!({})).await;
    let send = json!({"QueueUrl": url, "MessageBody": "a"});
    assert_eq!(world.sqs("SendMessage", send.clone()).await.status, 200);
    let elsewhere = world.sqs_in("eu-west-1", "SendMessage", send.clone()).await.unwrap();
    assert_eq!(elsewhere.code, "NonExistentQueue");

    let unsigned = world.unsigned("/").header("x-amz-target", "AmazonSQS.SendMessage").body(send.to_string());
    let unsigned = said(unsigned).await.unwrap();
    assert_eq!((unsigned.status, unsigned.code.as_str()), (403, "MissingAuthenticationTokenException"));
    let other =
        world.request("/", "sns", "us-east-1", "test").header("x-amz-target", "AmazonSQS.SendMessage");
    let other = said(other.body(send.to_string())).await.unwrap();
    assert_eq!(other.code, "SignatureDoesNotMatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_handle_lives_as_long_as_its_visibility() {
    let test = "a_receipt_handle_lives_as_long_as_its_visibility";
    let Some(world) = World::with(test, |options| options.in_flight_limit = 2).await else { return };
    let url = world.queue("q", json!({"VisibilityTimeout": "7"})).await;
    let with = |mut input: Json| {
        input["QueueUrl"] = json!(url);
        input
    };
    let receive = async || {
        let answer =
            world.sqs("ReceiveMessage", with(json!({"VisibilityTimeout": 60, "WaitTimeSeconds": 5}))).await;
        answer.json["Messages"][0]["ReceiptHandle"].as_str().unwrap_or(&answer.code).to_owned()
    };
    for body in ["one", "two", "three"] {
        world.sqs("SendMessage", with(json!({"MessageBody": body}))).await;
    }
    let first = receive().await;
    let change = |handle: &str, seconds: u32| {
        with(json!({"Entries": [{"Id": "x", "ReceiptHandle": handle, "VisibilityTimeout": seconds}]}))
    };
    let answer = world.sqs("ChangeMessageVisibilityBatch", change(&first, 43_000)).await;
    assert_eq!(answer.json["Successful"][0]["Id"], "x", "{}", answer.text);
    // Given back: no longer in flight.
    assert_eq!(world.sqs("ChangeMessageVisibilityBatch", change(&first, 0)).await.status, 200);
    let answer = world.sqs("ChangeMessageVisibilityBatch", change(&first, 10)).await;
    assert_eq!(answer.json["Failed"][0]["Code"], "MessageNotInflight", "{}", answer.text);
    let single = with(json!({"ReceiptHandle": first, "VisibilityTimeout": 10}));
    assert_eq!(world.sqs("ChangeMessageVisibility", single).await.code, "MessageNotInflight");

    // Received again, and another one: two are in flight, and a third may not be.
    let (again, other) = (receive().await, receive().await);
    assert_ne!(again, first);
    assert_eq!(receive().await, "OverLimit");
    // The older handle deletes nothing, and says so to nobody.
    let delete = |handle: &str| with(json!({"Entries": [{"Id": "x", "ReceiptHandle": handle}]}));
    let answer = world.sqs("DeleteMessageBatch", delete(&first)).await;
    assert_eq!((&answer.json["Successful"][0]["Id"], &answer.json["Failed"]), (&json!("x"), &json!([])));
    for handle in [&again, &other, &other] {
        let answer = world.sqs("DeleteMessage", with(json!({"ReceiptHandle": handle}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    receive().await;
    let depth = world.sqs("GetQueueAttributes", with(json!({"AttributeNames": ["All"]}))).await;
    let depth = &depth.json["Attributes"];
    assert_eq!(
        (&depth["ApproximateNumberOfMessages"], &depth["ApproximateNumberOfMessagesNotVisible"]),
        (&json!("0"), &json!("1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_to_where_they_came_from() {
    let Some(world) = World::new("dead_letters_go_back_to_where_they_came_from").await else { return };
    let dead = world.queue("dead", json!({})).await;
    let arn = "arn:aws:sqs:us-east-1:000000000000:dead";
    let start = json!({"SourceArn": arn});
    assert_eq!(world.sqs("StartMessageMoveTask", start.clone()).await.code, "InvalidParameterValue");
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": "1"}).to_string();
    let live = world.queue("live", json!({"RedrivePolicy": policy})).await;
    for n in 0..12 {
        world.sqs("SendMessage", json!({"QueueUrl": dead, "MessageBody": format!("{n}")})).await;
    }
    assert_eq!(world.sqs("StartMessageMoveTask", start).await.status, 200);
    let mut bodies = Vec::new();
    loop {
        let receive = json!({"QueueUrl": live, "MaxNumberOfMessages": 10, "VisibilityTimeout": 60});
        let answer = world.sqs("ReceiveMessage", receive).await;
        let Some(messages) = answer.json["Messages"].as_array() else { break };
        bodies
            .extend(messages.iter().map(|message| message["Body"].as_str().unwrap().parse::<u32>().unwrap()));
    }
    bodies.sort_unstable();
    assert_eq!(bodies, (0..12).collect::<Vec<_>>());
    let tasks = world.sqs("ListMessageMoveTasks", json!({"SourceArn": arn})).await;
    assert_eq!(tasks.json["Results"][0]["ApproximateNumberOfMessagesMoved"], 12);
}
