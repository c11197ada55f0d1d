//! Harmless calls that tell whether a permission is there: each is refused for what it lacks once it is allowed.
//!
//! AWS judges the permission before the request's contents as far as is known; a service that did otherwise would let a
//! missing permission pass here, never a present one fail.

use crate::{Call, Failure, Kind, Session};

/// Who calls, by ARN.
///
/// # Errors
/// There are no credentials, or STS cannot be reached.
pub fn identity(session: &Session) -> Call<'_, String> {
    Box::pin(async move {
        const OPERATION: &str = "sts:GetCallerIdentity";
        let client = aws_sdk_sts::Client::new(session.config());
        let answer =
            client.get_caller_identity().send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        answer.arn.ok_or_else(|| Failure::bad_answer(OPERATION, "no ARN"))
    })
}

/// What a stage does with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Sends to it.
    Send,
    /// Receives from it.
    Receive,
    /// Keeps what it received.
    Extend,
    /// Deletes what it received.
    Delete,
    /// Asks how much lies in it.
    Depth,
}

/// Whether a queue may be used so: batches without an entry, and a receive of no message.
///
/// # Errors
/// It may not, there is no such queue, or SQS cannot be reached.
pub fn queue<'a>(session: &'a Session, url: &'a str, as_what: Use) -> Call<'a, ()> {
    Box::pin(async move {
        let client = crate::sqs::client(session, url);
        match as_what {
            Use::Send => {
                let sent =
                    client.send_message_batch().queue_url(url).set_entries(Some(Vec::new())).send().await;
                allowed(sent.map_err(|error| Failure::of("sqs:SendMessage", &error)))
            }
            Use::Receive => {
                let received = client.receive_message().queue_url(url).max_number_of_messages(0).send().await;
                allowed(received.map_err(|error| Failure::of("sqs:ReceiveMessage", &error)))
            }
            Use::Extend => {
                let call =
                    client.change_message_visibility_batch().queue_url(url).set_entries(Some(Vec::new()));
                allowed(call.send().await.map_err(|error| Failure::of("sqs:ChangeMessageVisibility", &error)))
            }
            Use::Delete => {
                let call = client.delete_message_batch().queue_url(url).set_entries(Some(Vec::new()));
                allowed(call.send().await.map_err(|error| Failure::of("sqs:DeleteMessage", &error)))
            }
            Use::Depth => crate::sqs::Sqs::new(session, url).depth().await.map(|_| ()),
        }
    })
}

/// Whether metrics may be put into a namespace: a request without a datum.
///
/// # Errors
/// They may not, or CloudWatch cannot be reached.
pub fn put_metric_data<'a>(session: &'a Session, namespace: &'a str) -> Call<'a, ()> {
    Box::pin(async move {
        let client = aws_sdk_cloudwatch::Client::new(session.config());
        let put =
            client.put_metric_data().namespace(namespace).set_metric_data(Some(Vec::new())).send().await;
        allowed(put.map_err(|error| Failure::of("cloudwatch:PutMetricData", &error)))
    })
}

/// Whether alarms may be described.
///
/// # Errors
/// They may not, or CloudWatch cannot be reached.
pub fn describe_alarms(session: &Session) -> Call<'_, ()> {
    Box::pin(async move {
        let client = aws_sdk_cloudwatch::Client::new(session.config());
        let described = client.describe_alarms().max_records(1).send().await;
        described.map(|_| ()).map_err(|error| Failure::of("cloudwatch:DescribeAlarms", &error))
    })
}

/// Whether a text may be sent to a number, or published to a topic: one without a message.
///
/// # Errors
/// It may not, there is no such topic, or SNS cannot be reached.
pub fn publish<'a>(session: &'a Session, to: Recipient<'a>) -> Call<'a, ()> {
    Box::pin(async move {
        let client = aws_sdk_sns::Client::new(session.config());
        let call = client.publish().message("");
        let call = match to {
            Recipient::Number(number) => call.phone_number(number),
            Recipient::Topic(arn) => call.topic_arn(arn),
        };
        allowed(call.send().await.map_err(|error| Failure::of("sns:Publish", &error)))
    })
}

/// To whom SNS sends.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'a> {
    /// A phone number as E.164 writes it.
    Number(&'a str),
    /// A topic's ARN.
    Topic(&'a str),
}

/// Whether the account may send SMS in the session's region only to numbers that it has verified: the [sandbox].
///
/// [sandbox]: https://docs.aws.amazon.com/sns/latest/dg/sns-sms-sandbox.html
///
/// # Errors
/// It may not be read, or SNS cannot be reached.
pub fn sms_sandbox(session: &Session) -> Call<'_, bool> {
    Box::pin(async move {
        let client = aws_sdk_sns::Client::new(session.config());
        let answer = client.get_sms_sandbox_account_status().send().await;
        let answer = answer.map_err(|error| Failure::of("sns:GetSMSSandboxAccountStatus", &error))?;
        Ok(answer.is_in_sandbox())
    })
}

/// The most that SMS may cost in a month in the session's region, in US dollars: `MonthlySpendLimit`. `None` where it is not
/// set, which is 1 $.
///
/// # Errors
/// It may not be read, or SNS cannot be reached.
pub fn sms_spend_limit(session: &Session) -> Call<'_, Option<f64>> {
    Box::pin(async move {
        const OPERATION: &str = "sns:GetSMSAttributes";
        const LIMIT: &str = "MonthlySpendLimit";
        let client = aws_sdk_sns::Client::new(session.config());
        let answer = client.get_sms_attributes().attributes(LIMIT).send().await;
        let answer = answer.map_err(|error| Failure::of(OPERATION, &error))?;
        let limit = answer.attributes().and_then(|attributes| attributes.get(LIMIT));
        let number = |text: &String| {
            text.parse().map_err(|_| Failure::bad_answer(OPERATION, format!("{LIMIT} is no number")))
        };
        limit.map(number).transpose()
    })
}

/// Whether a number has opted out of SMS from the account, in the session's region.
///
/// # Errors
/// It may not be read, or SNS cannot be reached.
pub fn opted_out<'a>(session: &'a Session, number: &'a str) -> Call<'a, bool> {
    Box::pin(async move {
        let client = aws_sdk_sns::Client::new(session.config());
        let answer = client.check_if_phone_number_is_opted_out().phone_number(number).send().await;
        let answer = answer.map_err(|error| Failure::of("sns:CheckIfPhoneNumberIsOptedOut", &error))?;
        Ok(answer.is_opted_out())
    })
}

/// Codes that say that what is called for is not there.
const ABSENT: [&str; 4] = ["InvalidAddress", "NonExistentQueue", "NotFound", "QueueDoesNotExist"];

/// A call that lacks something on purpose is allowed when it is refused for that.
fn allowed<T>(answer: Result<T, Failure>) -> Result<(), Failure> {
    match answer {
        Ok(_) => Ok(()),
        Err(failure)
            if failure.kind == Kind::Refused
                && failure.code != "BadRequest"
                && !ABSENT.contains(&&*failure.code) =>
        {
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_what_it_lacks_is_allowed() {
        let failure = |kind, code: &str| {
            allowed::<()>(Err(Failure {
                operation: "sqs:SendMessage",
                kind,
                code: code.to_owned(),
                message: String::new(),
            }))
        };
        assert_eq!(failure(Kind::Refused, "EmptyBatchRequest"), Ok(()));
        assert_eq!(failure(Kind::Refused, "InvalidParameter"), Ok(()));
        for (kind, code) in [
            (Kind::Refused, "QueueDoesNotExist"),
            (Kind::Refused, "NotFound"),
            (Kind::Refused, "BadRequest"),
            (Kind::Denied, "AccessDenied"),
            (Kind::Service, "InternalError"),
            (Kind::Unreachable, "Unreachable"),
        ] {
            assert!(failure(kind, code).is_err(), "{code}");
        }
    }
}
