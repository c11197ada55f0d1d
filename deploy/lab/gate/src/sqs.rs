//! SQS: the emulator holds the messages, the gate the limits and which receipt handles are alive.
//!
//! Of standard queues: a message is deleted with any handle that it was received by, and deleting with an older one
//! succeeds without effect; its visibility is changed only while it is in flight.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::answer::{Answer, Refusal};
use crate::call::{Call, Input};
use crate::faults::Strike;
use crate::gate::{State, lock};

const BATCH: usize = 10;
const BYTES: usize = 1 << 20;
const CHUNK: u64 = 64 << 10;
const LONGEST_VISIBILITY: i64 = 43_200;
/// How many handles the gate remembers, beyond those in flight.
const REMEMBERED: usize = 250_000;

/// What was received and by which handle.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    held: HashMap<String, Held>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Held {
    queue: String,
    received: Instant,
    /// Until when it is in flight.
    until: Instant,
}

impl Handles {
    fn add(&mut self, queue: &str, handle: &str, now: Instant, visibility: Duration) {
        let held = Held { queue: queue.to_owned(), received: now, until: now + visibility };
        if self.held.insert(handle.to_owned(), held).is_none() {
            self.order.push_back(handle.to_owned());
        }
        while self.order.len() > REMEMBERED {
            match self.order.pop_front() {
                // One still in flight is looked at again later.
                Some(oldest) if self.held.get(&oldest).is_some_and(|held| held.until > now) => {
                    self.order.push_back(oldest);
                    break;
                }
                Some(oldest) => {
                    self.held.remove(&oldest);
                }
                None => break,
            }
        }
    }

    fn in_flight(&self, queue: &str, now: Instant) -> usize {
        self.held.values().filter(|held| held.queue == queue && held.until > now).count()
    }

    fn is_known(&self, queue: &str, handle: &str) -> bool {
        self.held.get(handle).is_some_and(|held| held.queue == queue)
    }

    fn end(&mut self, handle: &str, now: Instant) {
        if let Some(held) = self.held.get_mut(handle) {
            held.until = held.until.min(now);
        }
    }

    fn check_change(&self, queue: &str, handle: &str, now: Instant, seconds: i64) -> Result<(), Refusal> {
        let held = self.held.get(handle).filter(|held| held.queue == queue).ok_or_else(bad_handle)?;
        if held.until <= now {
            return Err(Refusal::new(400, "MessageNotInflight", "The message referred to isn't in flight."));
        }
        let total = now.duration_since(held.received) + Duration::from_secs(seconds.unsigned_abs());
        if total > Duration::from_secs(LONGEST_VISIBILITY.unsigned_abs()) {
            return Err(invalid(
                "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
            ));
        }
        Ok(())
    }

    fn change(&mut self, handle: &str, now: Instant, seconds: i64) {
        if let Some(held) = self.held.get_mut(handle) {
            held.until = now + Duration::from_secs(seconds.unsigned_abs());
        }
    }
}

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

/// Moves what lies in a dead-letter queue to where it was, or to the queue named. Done before it is answered.
async fn start_move(gate: &State, call: &Call, input: &Json) -> Result<Answer, Refusal> {
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

fn list(input: &Input) -> Option<&[Json]> {
    match input {
        Input::Json(json) => json.get("Entries")?.as_array().map(Vec::as_slice),
        _ => None,
    }
}

/// The bytes that count: body and attributes.
fn size(message: &Json) -> usize {
    let length = |value: &Json| value.as_str().map_or(0, str::len);
    let attributes = message["MessageAttributes"].as_object().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| {
        name.len()
            + length(&value["DataType"])
            + length(&value["StringValue"])
            + length(&value["BinaryValue"])
    });
    length(&message["MessageBody"]) + attributes.sum::<usize>()
}

fn check_message(message: &Json) -> Result<(), Refusal> {
    let body = message["MessageBody"].as_str().unwrap_or("");
    if body.is_empty() {
        let message = "The request must contain the parameter MessageBody.";
        return Err(Refusal::new(400, "MissingParameter", message));
    }
    if let Some(bad) = body.chars().find(|c| !in_xml(*c)) {
        let message = format!("Invalid character U+{:04X} was found in the message body", u32::from(bad));
        return Err(Refusal::new(400, "InvalidMessageContents", message));
    }
    if message["MessageAttributes"].as_object().is_some_and(|attributes| attributes.len() > 10) {
        return Err(invalid("Number of message attributes exceeds the allowed maximum [10]."));
    }
    in_range(message, "DelaySeconds", 0, 900)
}

/// The characters of XML 1.0, which are all that a message may hold.
fn in_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn check_batch(input: &Input) -> Result<&[Json], Refusal> {
    let entries = list(input).unwrap_or(&[]);
    if entries.is_empty() {
        return Err(Refusal::new(
            400,
            "EmptyBatchRequest",
            "There should be at least one entry in the request.",
        ));
    }
    if entries.len() > BATCH {
        return Err(Refusal::new(
            400,
            "TooManyEntriesInBatchRequest",
            format!("Maximum number of entries per request are 10. You have sent {}.", entries.len()),
        ));
    }
    let mut seen = HashSet::new();
    for entry in entries {
        let id = entry["Id"].as_str().unwrap_or("");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=80).contains(&id.len()) || !id.bytes().all(allowed) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                           It can be at most 80 letters long.";
            return Err(Refusal::new(400, "InvalidBatchEntryId", message));
        }
        if !seen.insert(id) {
            return Err(Refusal::new(400, "BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
        }
    }
    Ok(entries)
}

fn check_visibility(entry: &Json) -> Result<(&str, i64), Refusal> {
    in_range(entry, "VisibilityTimeout", 0, LONGEST_VISIBILITY)?;
    let seconds = entry["VisibilityTimeout"].as_i64().ok_or_else(|| {
        Refusal::new(400, "MissingParameter", "The request must contain the parameter VisibilityTimeout.")
    })?;
    let handle =
        entry["ReceiptHandle"].as_str().filter(|handle| !handle.is_empty()).ok_or_else(bad_handle)?;
    Ok((handle, seconds))
}

fn in_range(input: &Json, name: &str, least: i64, most: i64) -> Result<(), Refusal> {
    match &input[name] {
        Json::Null => Ok(()),
        value if value.as_i64().is_some_and(|value| (least..=most).contains(&value)) => Ok(()),
        value => Err(invalid(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be >= {least} and <= {most}, if provided."
        ))),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "InvalidParameterValue", message)
}

fn bad_handle() -> Refusal {
    Refusal::new(400, "ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
}
