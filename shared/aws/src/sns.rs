//! Amazon SNS: a text to a phone, or to a topic's subscribers.
//!
//! A text is accepted, not delivered, and there is no idempotency token: a repetition after a lost answer may arrive
//! twice. [SMS]: 160 characters of GSM-7 are one billed part.
//!
//! A publication is therefore tried **once** a call, within [`WITHIN`]: the SDK's own retries would repeat a text whose answer was
//! lost within a tenth of a second, and whoever calls could neither see nor pace it.
//!
//! [SMS]: https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html

use std::time::Duration;

use aws_sdk_sns::Client;
use aws_sdk_sns::config::retry::RetryConfig;
use aws_sdk_sns::config::timeout::TimeoutConfig;
use aws_sdk_sns::types::MessageAttributeValue;

use crate::{Call, Failure, Kind, Session};

const OPERATION: &str = "sns:Publish";

/// How long a publication may take, finding credentials included.
pub const WITHIN: Duration = Duration::from_secs(9);

/// How SMS are sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sms {
    /// Shown as the sender, where the country allows it: 1 to 11 letters and digits.
    pub sender_id: Option<String>,
    /// The number it is sent from, as E.164 writes it.
    pub origination_number: Option<String>,
    /// The most that one text may cost, in US dollars.
    pub max_price: Option<f64>,
}

/// SNS in one region.
#[derive(Clone, Debug)]
pub struct Sns {
    client: Client,
}

impl Sns {
    /// In the session's region.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let within =
            TimeoutConfig::builder().operation_attempt_timeout(WITHIN).operation_timeout(WITHIN).build();
        let config = aws_sdk_sns::config::Builder::from(session.config())
            .timeout_config(within)
            .retry_config(RetryConfig::disabled())
            .build();
        Self { client: Client::from_conf(config) }
    }

    /// Sends a text, as Transactional, to a phone number as E.164 writes it.
    ///
    /// # Errors
    /// The call failed: the text may have been accepted nevertheless.
    pub fn sms<'a>(&'a self, number: &'a str, text: &'a str, sms: &'a Sms) -> Call<'a, ()> {
        Box::pin(async move {
            let price = sms.max_price.map(|price| format!("{price:.5}"));
            let attributes = [
                ("AWS.SNS.SMS.SMSType", "String", Some("Transactional")),
                ("AWS.SNS.SMS.SenderID", "String", sms.sender_id.as_deref()),
                ("AWS.MM.SMS.OriginationNumber", "String", sms.origination_number.as_deref()),
                ("AWS.SNS.SMS.MaxPrice", "Number", price.as_deref()),
            ];
            let mut call = self.client.publish().phone_number(number).message(text);
            for (name, kind, value) in attributes {
                if let Some(value) = value {
                    let value = MessageAttributeValue::builder().data_type(kind).string_value(value).build();
                    call = call.message_attributes(name, built(value)?);
                }
            }
            call.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
            Ok(())
        })
    }

    /// Publishes a message to a topic; subscribers by e-mail get the subject, too. The topic is in the session's region.
    ///
    /// # Errors
    /// The call failed: the message may have been accepted nevertheless.
    pub fn topic<'a>(&'a self, arn: &'a str, subject: &'a str, text: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let call = self.client.publish().topic_arn(arn).subject(subject).message(text);
            call.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
            Ok(())
        })
    }
}

fn built<T>(value: Result<T, aws_sdk_sns::error::BuildError>) -> Result<T, Failure> {
    value.map_err(|error| Failure {
        operation: OPERATION,
        kind: Kind::Refused,
        code: "BadRequest".to_owned(),
        message: error.to_string(),
    })
}
