//! Moving what lies in a dead-letter queue, which the emulator has not.

use serde_json::{Value as Json, json};

use super::limits::invalid;
use crate::answer::{Answer, Refusal};
use crate::call::Call;
use crate::gate::{State, lock};

/// Moves what lies in a dead-letter queue to where it was, or to the queue named. Done before it is answered.
pub(super) async fn start_move(gate: &State, call: &Call, input: &Json) -> Result<Answer, Refusal> {
    let missing = |what: &str| {
        Refusal::new(
            404,
            "ResourceNotFoundException",
            format!("The resource that you specified for the {what} parameter doesn't exist."),
        )
    };
    let source = input["SourceArn"].as_str().unwrap_or("");
    let (source_url, source_queue) =
        queue_url(gate, call, source).await.ok_or_else(|| missing("SourceArn"))?;
    let listed = gate.upstream.sqs(call, "ListQueues", &json!({})).await;
    let mut origin = None;
    for url in listed["QueueUrls"].as_array().into_iter().flatten() {
        let asked = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let attributes = gate.upstream.sqs(call, "GetQueueAttributes", &asked).await;
        let redrive = attributes["Attributes"]["RedrivePolicy"].as_str().unwrap_or("");
        let redrive: Json = serde_json::from_str(redrive).unwrap_or_default();
        if redrive["deadLetterTargetArn"] == source {
            origin = url.as_str().map(str::to_owned);
        }
    }
    let Some(origin) = origin else {
        return Err(invalid("Source queue must be configured as a Dead Letter Queue."));
    };
    let destination = match input["DestinationArn"].as_str() {
        Some(arn) => queue_url(gate, call, arn).await.ok_or_else(|| missing("DestinationArn"))?.0,
        None => origin,
    };
    let mut moved = 0;
    loop {
        let asked = json!({
            "QueueUrl": source_url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 30,
            "MessageAttributeNames": ["All"],
        });
        let received = gate.upstream.sqs(call, "ReceiveMessage", &asked).await;
        let messages = received["Messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            let mut sent = json!({"QueueUrl": destination, "MessageBody": message["Body"]});
            if let Some(attributes) = message.get("MessageAttributes") {
                sent["MessageAttributes"] = attributes.clone();
            }
            gate.upstream.sqs(call, "SendMessage", &sent).await;
            let delete = json!({"QueueUrl": source_url, "ReceiptHandle": message["ReceiptHandle"]});
            gate.upstream.sqs(call, "DeleteMessage", &delete).await;
            moved += 1;
        }
    }
    let task = uuid::Uuid::now_v7().to_string();
    lock(&gate.moves).push(json!({
        "TaskHandle": task, "Status": "COMPLETED", "SourceArn": source, "Queue": source_queue,
        "DestinationArn": input["DestinationArn"], "ApproximateNumberOfMessagesMoved": moved,
        "ApproximateNumberOfMessagesToMove": moved, "StartedTimestamp": gate.now().as_micros() / 1_000,
    }));
    Ok(Answer::json(&json!({"TaskHandle": task})))
}

/// URL and name of a queue of the caller's region.
async fn queue_url(gate: &State, call: &Call, arn: &str) -> Option<(String, String)> {
    let mut parts = arn.strip_prefix("arn:aws:sqs:")?.splitn(3, ':');
    let (region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
    if region != call.region {
        return None;
    }
    let asked = json!({"QueueName": name, "QueueOwnerAWSAccountId": account});
    let answer = gate.upstream.sqs(call, "GetQueueUrl", &asked).await;
    Some((answer["QueueUrl"].as_str()?.to_owned(), name.to_owned()))
}
