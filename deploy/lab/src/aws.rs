//! What the lab makes in the local AWS before the stages start: queues, dead-letter queues and topics.
//!
//! Plain requests, whose signature nobody checks: the emulator reads from it which service and region is meant.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::{self, Answer, Request};
use crate::site::{AWS, Site};

/// How often a message is received before it goes to the dead letters.
const RECEIVES: u32 = 100;

/// Fourteen days, the longest that SQS keeps a message, in seconds.
const RETENTION: u32 = 14 * 24 * 3_600;

/// What a config needs to know of what was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// The URL of the publisher's queue.
    pub publisher: String,
    /// The URL of the alerter's queue.
    pub alerter: String,
    /// The ARN of the topic that pages, in us-east-1.
    pub oncall: String,
    /// The ARN of the topic that CloudWatch's alarms page through, in us-east-1.
    pub alarms: String,
    /// The ARN of each site's own topic, in the order of [`Site::ALL`].
    pub topics: [String; 2],
}

/// Makes all of it; to be called in the centre.
pub(crate) fn make() -> Result<Resources> {
    Ok(Resources {
        publisher: make_queue("crosswatch-publisher")?,
        alerter: make_queue("crosswatch-alerter")?,
        oncall: make_topic(Site::UsEast1, "crosswatch-oncall")?,
        alarms: make_topic(Site::UsEast1, "crosswatch-alarms")?,
        topics: [
            make_topic(Site::UsEast1, "crosswatch-site-us-east-1")?,
            make_topic(Site::EuWest1, "crosswatch-site-eu-west-1")?,
        ],
    })
}

/// A queue with one for its dead letters; its URL.
fn make_queue(name: &str) -> Result<String> {
    let keep = RETENTION.to_string();
    let dead = json!({"QueueName": format!("{name}-dead"), "Attributes": {"MessageRetentionPeriod": keep}});
    let dead = text(&sqs("CreateQueue", &dead)?, "/QueueUrl", "CreateQueue")?;
    let attributes = json!({"QueueUrl": dead, "AttributeNames": ["QueueArn"]});
    let attributes = sqs("GetQueueAttributes", &attributes)?;
    let arn = text(&attributes, "/Attributes/QueueArn", "GetQueueAttributes")?;
    let redrive = json!({"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES}).to_string();
    let attributes = json!({"MessageRetentionPeriod": keep, "RedrivePolicy": redrive});
    let made = sqs("CreateQueue", &json!({"QueueName": name, "Attributes": attributes}))?;
    // Whatever host the emulator believes to be: we know where it listens.
    let url = text(&made, "/QueueUrl", "CreateQueue")?;
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    Ok(format!("http://{AWS}/{path}"))
}

fn sqs(operation: &str, input: &Value) -> Result<Value> {
    let target = format!("AmazonSQS.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", &*target)];
    let body = send("SQS", Site::UsEast1, operation, &headers, &input.to_string())?;
    serde_json::from_str(&body).map_err(|error| failed("SQS", operation, format!("{error} in '{body}'")))
}

fn text(answer: &Value, pointer: &str, operation: &str) -> Result<String> {
    let text = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| failed("SQS", operation, format!("no {pointer} in '{answer}'")))
}

/// A topic's ARN.
fn make_topic(site: Site, name: &str) -> Result<String> {
    const OPERATION: &str = "CreateTopic";
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("Action={OPERATION}&Name={name}&Version=2010-03-31");
    let answer = send("SNS", site, OPERATION, &headers, &body)?;
    let arn = answer.split_once("<TopicArn>").and_then(|(_, rest)| Some(rest.split_once("</TopicArn>")?.0));
    arn.map(str::to_owned).ok_or_else(|| failed("SNS", OPERATION, format!("no TopicArn in '{answer}'")))
}

fn send(
    service: &'static str,
    site: Site,
    operation: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<String> {
    let scope = format!("20260101/{site}/{}/aws4_request", service.to_ascii_lowercase());
    let signed = format!("AWS4-HMAC-SHA256 Credential=test/{scope}, SignedHeaders=host, Signature=0");
    let mut headers = headers.to_vec();
    headers.push(("authorization", &signed));
    headers.push(("x-amz-date", "20260101T000000Z"));
    let request = Request { method: "POST", path: "/", headers: &headers, body };
    let answer = http::over_tcp(AWS.into(), request).map_err(|error| error.to_string());
    answer.and_then(Answer::ok).map_err(|why| failed(service, operation, why))
}

fn failed(service: &'static str, operation: &str, why: String) -> Error {
    Error::Service { service, what: operation.to_owned(), why }
}
