//! A request as the gate sees it: who asks which service of which region for what.
//!
//! Signatures are not verified: the credential scope is taken at its word, but it must be there and name the service.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::GzDecoder;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use serde_json::Value as Json;

use crate::answer::Refusal;
use crate::cbor;

/// The account of credentials that name none.
pub(crate) const ACCOUNT: &str = "000000000000";

/// Where the SDKs post calls of CloudWatch.
const CLOUDWATCH: &str = "/service/GraniteServiceVersion20100801/operation/";

/// The most that a compressed body may hold.
const LARGEST: u64 = 32 << 20;

/// The services that the gate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Sqs,
    CloudWatch,
    Sns,
    Ec2,
    Sts,
    /// By its name in the credential scope.
    Other(String),
    /// The emulator's own pages, which nobody signs.
    Emulator,
}

impl Service {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Sqs => "sqs",
            Self::CloudWatch => "cloudwatch",
            Self::Sns => "sns",
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
            Self::Other(name) => name,
            Self::Emulator => "emulator",
        }
    }
}

/// What a call asks, as its protocol writes it.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Json(Json),
    Cbor(cbor::Value),
    Form(BTreeMap<String, String>),
    Opaque,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) source: String,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) service: Service,
    pub(crate) operation: String,
    pub(crate) region: String,
    /// The access key's id, by which callers are told apart.
    pub(crate) key: String,
    pub(crate) account: String,
    /// The session token of assumed credentials.
    pub(crate) session: Option<String>,
    pub(crate) input: Input,
}

impl Call {
    /// Reads a request; a flaw that refuses it comes beside it, so that it can be recorded all the same.
    pub(crate) fn read(source: String, parts: Parts, body: Bytes) -> (Self, Option<Refusal>) {
        let Parts { method, uri, headers, .. } = parts;
        let path = uri.path().to_owned();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let scope = Scope::of(header("authorization"));
        let target = header("x-amz-target").to_owned();
        let session = headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());

        let (service, mut operation) = if path.starts_with("/_ministack") {
            (Service::Emulator, path.clone())
        } else if let Some(operation) = target.strip_prefix("AmazonSQS.") {
            (Service::Sqs, operation.to_owned())
        } else if let Some(operation) = path.strip_prefix(CLOUDWATCH) {
            (Service::CloudWatch, operation.to_owned())
        } else {
            let service = match scope.as_ref().map_or("", |scope| scope.service.as_str()) {
                "sqs" => Service::Sqs,
                "monitoring" => Service::CloudWatch,
                "sns" => Service::Sns,
                "ec2" => Service::Ec2,
                "sts" => Service::Sts,
                other => Service::Other(other.to_owned()),
            };
            (service, target)
        };
        let (input, mut flaw) = match read_input(&service, &path, header("content-encoding"), &body) {
            Ok(input) => (input, None),
            Err(flaw) => (Input::Opaque, Some(flaw)),
        };
        if operation.is_empty() {
            operation = match &input {
                Input::Form(form) => form.get("Action").cloned().unwrap_or_default(),
                _ => format!("{method} {path}"),
            };
        }
        if service != Service::Emulator {
            flaw = unsigned(&service, scope.as_ref()).or(flaw);
        }
        let call = Self {
            source,
            target: uri.path_and_query().map_or(path, |target| target.as_str().to_owned()),
            region: scope.as_ref().map_or_else(String::new, |scope| scope.region.clone()),
            key: scope.as_ref().map_or_else(String::new, |scope| scope.key.clone()),
            account: scope.as_ref().map_or_else(|| ACCOUNT.to_owned(), |scope| account(&scope.key)),
            session: session.map(str::to_owned),
            method,
            headers,
            body,
            service,
            operation,
            input,
        };
        (call, flaw)
    }

    /// A text of the input's top level.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.input {
            Input::Json(json) => json.get(name).and_then(Json::as_str),
            Input::Cbor(value) => value.text(name),
            Input::Form(form) => form.get(name).map(String::as_str),
            Input::Opaque => None,
        }
    }

    /// What the call is about: a queue's URL, a topic, a phone number, VPN connections, an alarm, a namespace, a role.
    pub(crate) fn resource(&self) -> String {
        let names: &[&str] = match self.service {
            Service::Sqs => &["QueueUrl", "QueueName", "SourceArn"],
            Service::CloudWatch => &["AlarmName", "Namespace", "ResourceARN", "AlarmNamePrefix"],
            Service::Sns => &["TopicArn", "TargetArn", "PhoneNumber", "phoneNumber", "Name"],
            Service::Sts => &["RoleArn"],
            Service::Ec2 => return self.numbered("VpnConnectionId").join(","),
            Service::Other(_) | Service::Emulator => &[],
        };
        names.iter().find_map(|name| self.text(name)).unwrap_or("").to_owned()
    }

    /// The values `PREFIX.1`, `PREFIX.2` … of a form.
    pub(crate) fn numbered(&self, prefix: &str) -> Vec<String> {
        let Input::Form(form) = &self.input else { return Vec::new() };
        (1..).map_while(|n| form.get(&format!("{prefix}.{n}")).cloned()).collect()
    }
}

struct Scope {
    key: String,
    region: String,
    service: String,
}

impl Scope {
    fn of(authorization: &str) -> Option<Self> {
        let credential = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?.split("Credential=").nth(1)?;
        let mut parts = credential.split([',', ' ']).next()?.split('/');
        let key = parts.next()?.to_owned();
        let (_date, region, service) = (parts.next()?, parts.next()?.to_owned(), parts.next()?.to_owned());
        let whole = parts.next() == Some("aws4_request") && !key.is_empty() && !region.is_empty();
        (whole && authorization.contains("Signature=")).then_some(Self { key, region, service })
    }
}

/// As the emulator has it: a key of twelve digits is the account's number.
fn account(key: &str) -> String {
    let number = key.len() == 12 && key.bytes().all(|byte| byte.is_ascii_digit());
    if number { key.to_owned() } else { ACCOUNT.to_owned() }
}

fn unsigned(service: &Service, scope: Option<&Scope>) -> Option<Refusal> {
    let expected = match service {
        Service::CloudWatch => "monitoring",
        other => other.name(),
    };
    match scope {
        None => {
            let code = match service {
                Service::Sqs | Service::CloudWatch => "MissingAuthenticationTokenException",
                _ => "MissingAuthenticationToken",
            };
            Some(Refusal::new(403, code, "Request is missing Authentication Token"))
        }
        Some(scope) if scope.service != expected => Some(Refusal::new(
            403,
            "SignatureDoesNotMatch",
            format!("Credential should be scoped to correct service: '{expected}'."),
        )),
        Some(_) => None,
    }
}

fn read_input(service: &Service, path: &str, encoding: &str, body: &Bytes) -> Result<Input, Refusal> {
    let unreadable = |what: &str| Refusal::new(400, "SerializationException", what);
    match service {
        Service::Sqs => serde_json::from_slice(body).map(Input::Json).map_err(|error| {
            unreadable(&format!("{error}; the gate takes SQS as AWS JSON 1.0 with X-Amz-Target alone"))
        }),
        Service::CloudWatch if !path.starts_with(CLOUDWATCH) => {
            Err(Refusal::new(400, "InvalidAction", "the gate takes CloudWatch as rpc-v2-cbor alone"))
        }
        Service::CloudWatch => {
            let plain = match encoding {
                "" => body.to_vec(),
                "gzip" => {
                    let mut plain = Vec::new();
                    GzDecoder::new(&body[..])
                        .take(LARGEST)
                        .read_to_end(&mut plain)
                        .map_err(|error| unreadable(&error.to_string()))?;
                    plain
                }
                other => return Err(unreadable(&format!("content-encoding {other}"))),
            };
            cbor::Value::read(&plain).map(Input::Cbor).map_err(|_| unreadable("the body is no CBOR"))
        }
        Service::Sns | Service::Ec2 | Service::Sts => {
            if std::str::from_utf8(body).is_err() {
                return Err(unreadable("the body is no UTF-8"));
            }
            let pairs = form_urlencoded::parse(body);
            Ok(Input::Form(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()))
        }
        Service::Other(_) | Service::Emulator => Ok(Input::Opaque),
    }
}
