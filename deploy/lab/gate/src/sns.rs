//! SNS: what `Publish` refuses, what it took, and the state of SMS. Topics and subscriptions are the emulator's.

use std::collections::{BTreeMap, BTreeSet};

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Refusal, escape};
use crate::call::{Call, Input};
use crate::gate::{State, lock};

/// The longest text, and the longest message to a topic.
const TEXT: usize = 1_600;
const BYTES: usize = 256 << 10;

/// A message that SNS accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its number, from 0.
    pub n: u64,
    /// When it was accepted.
    pub at: Timestamp,
    /// `sms` or `topic`.
    pub kind: String,
    /// The phone number, or the topic's ARN.
    pub to: String,
    /// The text; of an alarm's message the text that subscribed phones get.
    pub text: String,
    /// The subject, for mail.
    pub subject: Option<String>,
    /// The message's attributes; of an alarm's message `alarm`, `state` and `message`, the JSON that others get.
    pub attributes: BTreeMap<String, String>,
    /// `direct` or `alarm`.
    pub source: String,
    /// The region that took it.
    pub region: String,
}

/// The state of SMS, the same in all regions; `PUT /sms` sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsState {
    /// Whether the account is in the sandbox. Told, not enforced.
    pub sandbox: bool,
    /// US dollars a month.
    pub spend_limit: String,
    /// Numbers that asked for no more texts: a text to one is refused.
    pub opted_out: BTreeSet<String>,
}

impl Default for SmsState {
    fn default() -> Self {
        Self { sandbox: false, spend_limit: "1".to_owned(), opted_out: BTreeSet::new() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Messages {
    next: u64,
    list: Vec<Message>,
}

impl Messages {
    pub(crate) fn push(&mut self, mut message: Message) {
        message.n = self.next;
        self.next += 1;
        self.list.push(message);
    }

    pub(crate) fn list(&self) -> &[Message] {
        &self.list
    }

    /// Numbers go on.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }
}

pub(crate) async fn answer(gate: &State, call: &Call) -> Result<Answer, Refusal> {
    match call.operation.as_str() {
        "Publish" => publish(gate, call).await,
        "PublishBatch" => Err(Refusal::new(
            400,
            "InvalidAction",
            "the gate does not check PublishBatch, so it does not take it",
        )),
        "GetSMSAttributes" => {
            let limit = escape(&lock(&gate.sms).spend_limit);
            Ok(result(
                "GetSMSAttributes",
                &format!(
                    "<attributes><entry><key>MonthlySpendLimit</key><value>{limit}</value></entry>\
                     <entry><key>DefaultSMSType</key><value>Promotional</value></entry></attributes>"
                ),
            ))
        }
        "GetSMSSandboxAccountStatus" => {
            let sandbox = lock(&gate.sms).sandbox;
            Ok(result("GetSMSSandboxAccountStatus", &format!("<IsInSandbox>{sandbox}</IsInSandbox>")))
        }
        "CheckIfPhoneNumberIsOptedOut" => {
            let number = call.text("phoneNumber").unwrap_or("");
            check_number("PhoneNumber", number)?;
            let out = lock(&gate.sms).opted_out.contains(number);
            Ok(result("CheckIfPhoneNumberIsOptedOut", &format!("<isOptedOut>{out}</isOptedOut>")))
        }
        "ListPhoneNumbersOptedOut" => {
            let numbers = lock(&gate.sms)
                .opted_out
                .iter()
                .map(|number| format!("<member>{number}</member>"))
                .collect::<String>();
            Ok(result("ListPhoneNumbersOptedOut", &format!("<phoneNumbers>{numbers}</phoneNumbers>")))
        }
        _ => Ok(gate.upstream.forward(call, None).await),
    }
}

async fn publish(gate: &State, call: &Call) -> Result<Answer, Refusal> {
    let text = call.text("Message").unwrap_or("");
    let attributes = attributes(call)?;
    let topic = call.text("TopicArn").or_else(|| call.text("TargetArn"));
    let (kind, to) = match (topic, call.text("PhoneNumber")) {
        (Some(arn), None) => ("topic", arn),
        (None, Some(number)) => ("sms", number),
        (Some(_), Some(_)) => {
            return Err(parameter("PhoneNumber", "TopicArn and PhoneNumber exclude each other"));
        }
        (None, None) => return Err(parameter("TopicArn or TargetArn", "no value for required parameter")),
    };
    if kind == "sms" {
        check_number("PhoneNumber", to)?;
        if lock(&gate.sms).opted_out.contains(to) {
            return Err(parameter("PhoneNumber", "the owner of this number has opted out"));
        }
    } else if to.split(':').nth(3) != Some(&call.region) {
        return Err(parameter("TopicArn", "the topic is in another region"));
    }
    if text.is_empty() {
        return Err(parameter("Message", "Empty message"));
    }
    if (kind == "sms" && text.chars().count() > TEXT) || text.len() > BYTES {
        return Err(parameter("Message", "Message too long"));
    }
    let subject = call.text("Subject").map(str::to_owned);
    if let Some(subject) = &subject {
        check_subject(subject)?;
    }
    check_attributes(&attributes)?;
    let answer = gate.upstream.forward(call, None).await;
    if answer.is_success() {
        lock(&gate.messages).push(Message {
            n: 0,
            at: gate.now(),
            kind: kind.to_owned(),
            to: to.to_owned(),
            text: text.to_owned(),
            subject,
            attributes: attributes.into_iter().map(|(name, (_, value))| (name, value)).collect(),
            source: "direct".to_owned(),
            region: call.region.clone(),
        });
    }
    Ok(answer)
}

/// Data type and value of each attribute.
fn attributes(call: &Call) -> Result<BTreeMap<String, (String, String)>, Refusal> {
    let Input::Form(form) = &call.input else { return Ok(BTreeMap::new()) };
    let mut attributes = BTreeMap::new();
    for n in 1.. {
        let field =
            |name: &str| form.get(&format!("MessageAttributes.entry.{n}.{name}")).map_or("", String::as_str);
        let name = field("Name");
        if name.is_empty() {
            break;
        }
        let (kind, value) = (field("Value.DataType"), field("Value.StringValue"));
        let base = kind.split('.').next().unwrap_or("");
        if !["String", "Number", "Binary"].contains(&base) {
            return Err(attribute(name, "must have a data type: String, Number or Binary"));
        }
        if base != "Binary" && value.is_empty() {
            return Err(attribute(name, "must contain a non-empty message attribute value"));
        }
        if base == "Number" && !value.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(attribute(name, "is no number"));
        }
        if attributes.insert(name.to_owned(), (kind.to_owned(), value.to_owned())).is_some() {
            return Err(attribute(name, "is there twice"));
        }
    }
    Ok(attributes)
}

fn check_attributes(attributes: &BTreeMap<String, (String, String)>) -> Result<(), Refusal> {
    for (name, (kind, value)) in attributes {
        let (expected, fine) = match name.as_str() {
            "AWS.SNS.SMS.SMSType" => ("String", ["Promotional", "Transactional"].contains(&value.as_str())),
            "AWS.SNS.SMS.SenderID" => ("String", is_sender_id(value)),
            "AWS.SNS.SMS.MaxPrice" => ("Number", value.parse::<f64>().is_ok_and(|price| price >= 0.0)),
            "AWS.MM.SMS.OriginationNumber" => ("String", is_origination_number(value)),
            other if other.starts_with("AWS.SNS.SMS.") => return Err(attribute(other, "is not known")),
            _ => continue,
        };
        if kind != expected {
            return Err(attribute(name, &format!("has the data type {expected}")));
        }
        if !fine {
            return Err(attribute(name, &format!("has an invalid value: {value}")));
        }
    }
    Ok(())
}

/// 1 to 11 letters, digits and hyphens, a letter among them, no hyphen at either end.
fn is_sender_id(id: &str) -> bool {
    (1..=11).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && id.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !id.starts_with('-')
        && !id.ends_with('-')
}

/// 5 to 14 digits after an optional plus.
fn is_origination_number(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or(number);
    (5..=14).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// As E.164 writes numbers: a plus and 7 to 15 digits, the first not zero.
fn check_number(name: &str, number: &str) -> Result<(), Refusal> {
    let digits = number.strip_prefix('+').unwrap_or("");
    let fine = (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    if fine { Ok(()) } else { Err(parameter(name, &format!("{number} is not valid to publish to"))) }
}

fn check_subject(subject: &str) -> Result<(), Refusal> {
    let printable = subject.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if subject.is_empty() || subject.len() > 100 || !printable || subject.starts_with(' ') {
        return Err(parameter("Subject", "1 to 100 printable ASCII characters, the first no space"));
    }
    Ok(())
}

fn parameter(name: &str, reason: &str) -> Refusal {
    Refusal::new(400, "InvalidParameter", format!("Invalid parameter: {name} Reason: {reason}"))
}

fn attribute(name: &str, reason: &str) -> Refusal {
    Refusal::new(400, "ParameterValueInvalid", format!("The message attribute '{name}' {reason}."))
}

fn result(operation: &str, inner: &str) -> Answer {
    Answer::result("http://sns.amazonaws.com/doc/2010-03-31/", operation, inner)
}
