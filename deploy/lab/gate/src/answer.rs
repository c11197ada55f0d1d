//! Answers, and refusals in the words of each service's protocol.

use hyper::body::Bytes;
use serde_json::json;

use crate::call::Service;
use crate::cbor::Value;

/// What a client gets.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// The error's code, where it is one.
    pub(crate) code: Option<String>,
    /// Why it was refused.
    pub(crate) why: Option<String>,
}

/// A request that a service does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// How a service asks for fewer calls.
    pub(crate) fn throttled(service: &Service) -> Self {
        match service {
            Service::Ec2 => Self::new(503, "RequestLimitExceeded", "Request limit exceeded."),
            Service::Sqs => Self::new(403, "RequestThrottled", "Rate exceeded"),
            Service::Sns => Self::new(429, "Throttled", "Rate exceeded"),
            _ => Self::new(400, "Throttling", "Rate exceeded"),
        }
    }

    pub(crate) fn answer(self, service: &Service) -> Answer {
        let Self { status, code, message } = self;
        let side = if status < 500 { "Sender" } else { "Receiver" };
        let request = uuid::Uuid::now_v7().to_string();
        let mut answer = match service {
            Service::Sqs | Service::Other(_) | Service::Emulator => {
                let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message});
                let mut answer = Answer::new(status, "application/x-amz-json-1.0", body.to_string());
                answer.header("x-amzn-query-error", &format!("{};{side}", legacy(&code)));
                answer
            }
            Service::CloudWatch => {
                let body = Value::Map(vec![
                    ("__type".into(), Value::Text(format!("com.amazonaws.cloudwatch#{code}"))),
                    ("message".into(), Value::Text(message.clone())),
                ]);
                let mut answer = Answer::cbor(&body);
                answer.status = status;
                answer.header("x-amzn-query-error", &format!("{code};{side}"));
                answer
            }
            Service::Ec2 => Answer::xml(
                status,
                &format!(
                    "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>\
                     <RequestID>{request}</RequestID></Response>",
                    escape(&code),
                    escape(&message)
                ),
            ),
            Service::Sns | Service::Sts => Answer::xml(
                status,
                &format!(
                    "<ErrorResponse><Error><Type>{side}</Type><Code>{}</Code><Message>{}</Message></Error>\
                     <RequestId>{request}</RequestId></ErrorResponse>",
                    escape(&code),
                    escape(&message)
                ),
            ),
        };
        answer.header("x-amzn-requestid", &request);
        answer.why = Some(format!("{code}: {message}"));
        answer.code = Some(code);
        answer
    }
}

/// What the query protocol called an error of SQS; clients see this name.
fn legacy(code: &str) -> String {
    match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        "TooManyEntriesInBatchRequest"
        | "EmptyBatchRequest"
        | "BatchEntryIdsNotDistinct"
        | "BatchRequestTooLong"
        | "InvalidBatchEntryId"
        | "MessageNotInflight"
        | "UnsupportedOperation" => format!("AWS.SimpleQueueService.{code}"),
        other => other.to_owned(),
    }
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Self { status, headers, body: body.into(), code: None, why: None }
    }

    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self::new(200, "application/x-amz-json-1.0", body.to_string())
    }

    pub(crate) fn cbor(body: &Value) -> Self {
        let mut answer = Self::new(200, "application/cbor", body.write());
        answer.header("smithy-protocol", "rpc-v2-cbor");
        answer
    }

    pub(crate) fn xml(status: u16, body: &str) -> Self {
        Self::new(status, "text/xml", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"))
    }

    /// What an operation of the query protocol gives, in the namespace of its service.
    pub(crate) fn result(namespace: &str, operation: &str, inner: &str) -> Self {
        Self::xml(
            200,
            &format!(
                "<{operation}Response xmlns=\"{namespace}\"><{operation}Result>{inner}</{operation}Result>\
                 <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{operation}Response>",
                uuid::Uuid::now_v7()
            ),
        )
    }

    pub(crate) fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status < 300
    }
}

/// Text as XML holds it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
