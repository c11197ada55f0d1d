//! SQS: the emulator holds the messages, the gate the limits and which receipt handles are alive.
//!
//! Of standard queues: a message is deleted with any handle that it was received by, and deleting with an older one
//! succeeds without effect; its visibility is changed only while it is in flight.
//!
//! Here is what becomes of each call; `limits` has what a call may ask for, `handles` who has received what, `moves` the redriving of
//! dead letters.

mod handles;
mod limits;
mod moves;

use std::time::{Duration, Instant};

use limits::{
    BYTES, LONGEST_VISIBILITY, check_batch, check_message, check_visibility, in_range, invalid, list, size,
};
use moves::start_move;
use serde_json::{Value as Json, json};

use crate::answer::{Answer, Refusal};
use crate::call::{Call, Input};
use crate::faults::Strike;
use crate::gate::{State, lock};

pub(crate) use handles::Handles;

/// What of a payload is billed as one request, in bytes.
const CHUNK: u64 = 64 << 10;

/// How many messages a call is about.
pub(crate) fn entries(call: &Call) -> u64 {
    list(&call.input).map_or(1, |entries| entries.len() as u64)
}

/// What SQS bills for a call.
pub(crate) fn billed(call: &Call) -> u64 {
    let Input::Json(input) = &call.input else { return 1 };
    let bytes: usize = match list(&call.input) {
        Some(entries) => entries.iter().map(size).sum(),
        None => size(input),
    };
    (bytes as u64).div_ceil(CHUNK).max(1)
}

pub(crate) fn summary(call: &Call, answer: &Answer) -> Json {
    let Input::Json(input) = &call.input else { return Json::Null };
    let sizes = |entries: &[Json]| -> Vec<usize> { entries.iter().map(size).collect() };
    let said = || serde_json::from_slice::<Json>(&answer.body).unwrap_or_default();
    match call.operation.as_str() {
        "SendMessage" => json!({"sizes": [size(input)]}),
        "SendMessageBatch" => json!({
            "sizes": sizes(list(&call.input).unwrap_or(&[])),
            "failed": said()["Failed"].as_array().map_or(0, Vec::len),
        }),
        "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => {
            json!({"failed": said()["Failed"].as_array().map_or(0, Vec::len)})
        }
        "ReceiveMessage" => json!({
            "messages": said()["Messages"].as_array().map_or(0, Vec::len),
            "wait": input["WaitTimeSeconds"],
            "visibility": input["VisibilityTimeout"],
        }),
        _ => Json::Null,
    }
}

pub(crate) async fn answer(gate: &State, call: &Call, strike: &Strike) -> Result<Answer, Refusal> {
    let Input::Json(input) = &call.input else { return Err(invalid("no input")) };
    let url = input["QueueUrl"].as_str().unwrap_or("");
    let queue = queue_key(call, url);
    match call.operation.as_str() {
        "SendMessage" => {
            check_message(input)?;
            if size(input) > BYTES {
                return Err(invalid(
                    "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
                ));
            }
            Ok(gate.upstream.forward(call, None).await)
        }
        "SendMessageBatch" => {
            let entries = check_batch(&call.input)?;
            let total: usize = entries.iter().map(size).sum();
            if total > BYTES {
                let message = format!(
                    "Batch requests cannot be longer than 1048576 bytes. You have sent {total} bytes."
                );
                return Err(Refusal::new(400, "BatchRequestTooLong", message));
            }
            // A character that is not allowed anywhere in a batch refuses all of it.
            entries.iter().try_for_each(check_message)?;
            batch(gate, call, strike, |_| Ok(())).await
        }
        "ReceiveMessage" => receive(gate, call, strike, &queue).await,
        "DeleteMessage" => {
            let handle = input["ReceiptHandle"].as_str().unwrap_or("");
            let answer = gate.upstream.forward(call, None).await;
            let mut handles = lock(&gate.handles);
            let known = handles.is_known(&queue, handle);
            handles.end(handle, Instant::now());
            // The emulator forgets the handles of what is gone, SQS does not mind.
            Ok(if known && answer.code.as_deref() == Some("ReceiptHandleIsInvalid") {
                Answer::json(&json!({}))
            } else {
                answer
            })
        }
        "DeleteMessageBatch" => {
            let entries = check_batch(&call.input)?.to_vec();
            let answer = batch(gate, call, strike, |_| Ok(())).await?;
            let mut handles = lock(&gate.handles);
            Ok(forgive(answer, |id| {
                let handle =
                    entries.iter().find(|entry| entry["Id"] == id).map(|entry| &entry["ReceiptHandle"]);
                handle.and_then(Json::as_str).is_some_and(|handle| {
                    handles.end(handle, Instant::now());
                    handles.is_known(&queue, handle)
                })
            }))
        }
        "ChangeMessageVisibility" => {
            let (handle, seconds) = check_visibility(input)?;
            lock(&gate.handles).check_change(&queue, handle, Instant::now(), seconds)?;
            let answer = gate.upstream.forward(call, None).await;
            if answer.is_success() {
                lock(&gate.handles).change(handle, Instant::now(), seconds);
            }
            Ok(answer)
        }
        "ChangeMessageVisibilityBatch" => {
            check_batch(&call.input)?;
            batch(gate, call, strike, |entry| {
                let (handle, seconds) = check_visibility(entry)?;
                let mut handles = lock(&gate.handles);
                let now = Instant::now();
                handles.check_change(&queue, handle, now, seconds)?;
                handles.change(handle, now, seconds);
                Ok(())
            })
            .await
        }
        "StartMessageMoveTask" => start_move(gate, call, input).await,
        "ListMessageMoveTasks" => {
            let source = input["SourceArn"].as_str().unwrap_or("");
            let tasks: Vec<_> =
                lock(&gate.moves).iter().rev().filter(|task| task["SourceArn"] == source).cloned().collect();
            Ok(Answer::json(&json!({"Results": tasks})))
        }
        "CancelMessageMoveTask" => {
            // Moves are done before they are answered.
            Err(Refusal::new(404, "ResourceNotFoundException", "The task does not exist or has ended."))
        }
        _ => Ok(gate.upstream.forward(call, None).await),
    }
}

/// A queue in its region: the same URL is another queue elsewhere.
fn queue_key(call: &Call, url: &str) -> String {
    let path =
        url.split_once("://").map_or(url, |(_, rest)| rest.split_once('/').map_or(rest, |(_, path)| path));
    format!("{}/{path}", call.region)
}

async fn receive(gate: &State, call: &Call, strike: &Strike, queue: &str) -> Result<Answer, Refusal> {
    let Input::Json(input) = &call.input else { return Err(invalid("no input")) };
    in_range(input, "WaitTimeSeconds", 0, 20)?;
    in_range(input, "MaxNumberOfMessages", 1, 10)?;
    in_range(input, "VisibilityTimeout", 0, LONGEST_VISIBILITY)?;
    if lock(&gate.handles).in_flight(queue, Instant::now()) >= gate.in_flight_limit {
        return Err(Refusal::new(
            403,
            "OverLimit",
            "Too many messages are in flight: delete some, or let their visibility end.",
        ));
    }
    let visibility = match input["VisibilityTimeout"].as_i64() {
        Some(seconds) => seconds,
        None => {
            let asked = json!({"QueueUrl": input["QueueUrl"], "AttributeNames": ["VisibilityTimeout"]});
            let answer = gate.upstream.sqs(call, "GetQueueAttributes", &asked).await;
            let text = answer["Attributes"]["VisibilityTimeout"].as_str().unwrap_or("30");
            text.parse().unwrap_or(30)
        }
    };
    let answer = gate.upstream.forward(call, None).await;
    let said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let handles: Vec<_> = said["Messages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|message| message["ReceiptHandle"].as_str())
        .collect();
    let now = Instant::now();
    {
        let mut held = lock(&gate.handles);
        for handle in &handles {
            held.add(queue, handle, now, Duration::from_secs(visibility.unsigned_abs()));
        }
    }
    if strike.duplicate
        && let Some(handle) = handles.first()
    {
        let again = json!({"QueueUrl": input["QueueUrl"], "ReceiptHandle": handle, "VisibilityTimeout": 0});
        gate.upstream.sqs(call, "ChangeMessageVisibility", &again).await;
    }
    Ok(answer)
}

/// Sends a batch on, without the entries that fail, and puts their failures into the answer.
async fn batch(
    gate: &State,
    call: &Call,
    strike: &Strike,
    mut check: impl FnMut(&Json) -> Result<(), Refusal>,
) -> Result<Answer, Refusal> {
    let Input::Json(input) = &call.input else { return Err(invalid("no input")) };
    let mut failed = Vec::new();
    let mut rest = Vec::new();
    for entry in list(&call.input).unwrap_or(&[]) {
        let outcome = if strike.partial && gate.every_second() {
            Err(Refusal::new(500, "InternalError", "We encountered an internal error. Please try again."))
        } else {
            check(entry)
        };
        match outcome {
            Ok(()) => rest.push(entry.clone()),
            Err(refusal) => failed.push(json!({
                "Id": entry["Id"],
                "Code": refusal.code,
                "Message": refusal.message,
                "SenderFault": refusal.status < 500,
            })),
        }
    }
    if failed.is_empty() {
        return Ok(gate.upstream.forward(call, None).await);
    }
    if rest.is_empty() {
        return Ok(Answer::json(&json!({"Successful": [], "Failed": failed})));
    }
    let mut shorter = input.clone();
    shorter["Entries"] = Json::Array(rest);
    let mut answer = gate.upstream.forward(call, Some(shorter.to_string().into_bytes())).await;
    if answer.is_success() {
        let mut said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        if let Some(others) = said["Failed"].as_array() {
            failed.extend(others.iter().cloned());
        }
        said["Failed"] = Json::Array(failed);
        answer.body = said.to_string().into();
    }
    Ok(answer)
}

/// Turns failures for an invalid handle into successes, where `known` says so of an entry's id.
fn forgive(mut answer: Answer, mut known: impl FnMut(&str) -> bool) -> Answer {
    let mut said: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut failed = Vec::new();
    let mut done = said["Successful"].as_array().cloned().unwrap_or_default();
    for entry in done.iter() {
        known(entry["Id"].as_str().unwrap_or(""));
    }
    for entry in said["Failed"].as_array().cloned().unwrap_or_default() {
        let invalid = entry["Code"] == "ReceiptHandleIsInvalid";
        match entry["Id"].as_str() {
            Some(id) if invalid && known(id) => done.push(json!({"Id": id})),
            _ => failed.push(entry),
        }
    }
    if answer.is_success() {
        said["Successful"] = Json::Array(done);
        said["Failed"] = Json::Array(failed);
        answer.body = said.to_string().into();
    }
    answer
}
