//! Amazon SQS: one queue's messages.
//!
//! Limits, from the service's [quotas]: ten messages a call and 1 MiB of bodies in it, text of the characters that XML
//! has, 20 s of long polling, 12 h of visibility. A call for several messages may succeed for some of them: each has a
//! result of its own.
//!
//! [quotas]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use crosswatch_shared::time::Timestamp;

use crate::cloudwatch::CloudWatch;
use crate::session::CONNECT;
use crate::{Call, Failure, Kind, Session};

/// The most messages a call takes or gives.
pub const MESSAGES: usize = 10;

/// The most bytes of bodies a call takes, in UTF-8.
pub const BYTES: usize = 1 << 20;

/// What is billed as one request, in bytes of bodies.
pub const BILLED: usize = 64 << 10;

/// The longest a call waits for a message.
pub const LONGEST_POLL: Duration = Duration::from_secs(20);

/// How long a call that sends may take where nobody says how long.
const SEND: Duration = Duration::from_secs(10);

/// Longer than any call may take.
const UNREACHED: Duration = Duration::from_secs(3600);

/// How long an answer may take beyond the time it was asked to wait.
const ANSWER: Duration = Duration::from_secs(5);

const ATTRIBUTES: &str = "sqs:GetQueueAttributes";

/// One queue.
#[derive(Clone, Debug)]
pub struct Sqs {
    client: Client,
    url: String,
}

/// A message received. It is the receiver's until its visibility ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it is deleted or extended by; another one each time it is received.
    pub handle: String,
    /// The queue's own id of it.
    pub id: String,
    /// When the queue took it, by the queue's clock.
    pub sent: Timestamp,
    /// How often it was received, this time included.
    pub receives: u32,
    /// Its text.
    pub body: String,
}

/// What lies in a queue, roughly: the service counts over several machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that may be received.
    pub visible: u64,
    /// Messages received and neither deleted nor given back.
    pub in_flight: u64,
    /// Messages that become visible later.
    pub delayed: u64,
}

/// For each message of a call, whether it was done.
pub type Each = Vec<Result<(), Failure>>;

impl Sqs {
    /// The queue of this URL, in the region that the URL names, or else the session's.
    #[must_use]
    pub fn new(session: &Session, url: &str) -> Self {
        Self { client: client(session, url), url: url.to_owned() }
    }

    /// How long its oldest message has waited, as CloudWatch in its region tells; see [`CloudWatch::oldest_message`].
    ///
    /// # Errors
    /// The call failed.
    pub fn oldest<'a>(&'a self, session: &'a Session, now: Timestamp) -> Call<'a, Option<Duration>> {
        Box::pin(async move {
            let name = self.url.rsplit('/').next().unwrap_or_default();
            CloudWatch::new(&home(session, &self.url)).oldest_message(name, now).await
        })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends up to [`MESSAGES`] messages.
    ///
    /// # Errors
    /// The call failed: some or all of them may have been taken nevertheless.
    pub fn send<'a>(&'a self, bodies: &'a [String]) -> Call<'a, Each> {
        self.send_within(bodies, SEND)
    }

    /// The same, in this time with the upload. What was too slow is not tried again in here: the caller may send less, or
    /// give more time.
    ///
    /// # Errors
    /// As [`Self::send`]; [`Kind::Timeout`] where no answer came in time over a connection.
    pub fn send_within<'a>(&'a self, bodies: &'a [String], within: Duration) -> Call<'a, Each> {
        Box::pin(async move {
            const OPERATION: &str = "sqs:SendMessage";
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                // It counts the upload, too, and would be told as a connection's.
                .read_timeout(UNREACHED)
                .operation_attempt_timeout(within)
                .operation_timeout(within)
                .build();
            let mut call = self.client.send_message_batch().queue_url(&self.url);
            for (index, body) in bodies.iter().enumerate() {
                let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body);
                call = call.entries(built(OPERATION, entry.build())?);
            }
            let call = call
                .customize()
                .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(timeouts));
            let answer = call.send().await.map_err(|error| {
                let unconnected = matches!(&error, SdkError::DispatchFailure(why) if why.is_timeout());
                let failure = Failure::of(OPERATION, &error);
                // Nothing was on its way that could have been too much.
                let kind = if unconnected { Kind::Unreachable } else { failure.kind };
                Failure { kind, ..failure }
            })?;
            let done = answer.successful().iter().map(aws_sdk_sqs::types::SendMessageBatchResultEntry::id);
            Ok(each(OPERATION, bodies.len(), done, answer.failed()))
        })
    }

    /// Receives up to [`MESSAGES`] messages, waiting up to `wait` (at most [`LONGEST_POLL`]) for the first; they are this
    /// receiver's for `visibility`. Whole seconds count.
    ///
    /// # Errors
    /// The call failed: messages that were in its answer come again once their visibility ends.
    pub fn receive(&self, wait: Duration, visibility: Duration) -> Call<'_, Vec<Received>> {
        Box::pin(async move {
            const OPERATION: &str = "sqs:ReceiveMessage";
            let within = TimeoutConfig::builder()
                .read_timeout(wait + ANSWER)
                .operation_attempt_timeout(wait + ANSWER)
                .operation_timeout(wait + 2 * ANSWER)
                .build();
            let answer = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(i32::try_from(MESSAGES).unwrap_or(i32::MAX))
                .wait_time_seconds(seconds(wait.min(LONGEST_POLL)))
                .visibility_timeout(seconds(visibility))
                .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
                .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
                .customize()
                .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(within))
                .send()
                .await
                .map_err(|error| Failure::of(OPERATION, &error))?;
            answer
                .messages
                .unwrap_or_default()
                .into_iter()
                .map(|message| received(OPERATION, message))
                .collect()
        })
    }

    /// Deletes up to [`MESSAGES`] messages by their handles.
    ///
    /// # Errors
    /// The call failed: some or all of them may be deleted nevertheless.
    pub fn delete<'a>(&'a self, handles: &'a [&'a str]) -> Call<'a, Each> {
        Box::pin(async move {
            const OPERATION: &str = "sqs:DeleteMessage";
            let mut call = self.client.delete_message_batch().queue_url(&self.url);
            for (index, handle) in handles.iter().enumerate() {
                let entry =
                    DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(*handle);
                call = call.entries(built(OPERATION, entry.build())?);
            }
            let answer = call.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
            let done = answer.successful().iter().map(aws_sdk_sqs::types::DeleteMessageBatchResultEntry::id);
            Ok(each(OPERATION, handles.len(), done, answer.failed()))
        })
    }

    /// Keeps up to [`MESSAGES`] messages for `visibility` from now on; zero gives them back at once.
    ///
    /// # Errors
    /// The call failed: some or all of them may be kept nevertheless.
    pub fn extend<'a>(&'a self, handles: &'a [&'a str], visibility: Duration) -> Call<'a, Each> {
        Box::pin(async move {
            const OPERATION: &str = "sqs:ChangeMessageVisibility";
            let mut call = self.client.change_message_visibility_batch().queue_url(&self.url);
            for (index, handle) in handles.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(*handle)
                    .visibility_timeout(seconds(visibility));
                call = call.entries(built(OPERATION, entry.build())?);
            }
            let answer = call.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
            let done = answer
                .successful()
                .iter()
                .map(aws_sdk_sqs::types::ChangeMessageVisibilityBatchResultEntry::id);
            Ok(each(OPERATION, handles.len(), done, answer.failed()))
        })
    }

    /// How much lies in it.
    ///
    /// # Errors
    /// The call failed.
    pub fn depth(&self) -> Call<'_, Depth> {
        Box::pin(async move {
            use QueueAttributeName::{
                ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
                ApproximateNumberOfMessagesNotVisible,
            };
            const OPERATION: &str = ATTRIBUTES;
            let answer = self
                .client
                .get_queue_attributes()
                .queue_url(&self.url)
                .attribute_names(ApproximateNumberOfMessages)
                .attribute_names(ApproximateNumberOfMessagesNotVisible)
                .attribute_names(ApproximateNumberOfMessagesDelayed)
                .send()
                .await
                .map_err(|error| Failure::of(OPERATION, &error))?;
            let attributes = answer.attributes.unwrap_or_default();
            let number = |name: QueueAttributeName| {
                let text = attributes.get(&name).map(String::as_str);
                text.and_then(|text| text.parse().ok())
                    .ok_or_else(|| Failure::bad_answer(OPERATION, format!("no number for {name}")))
            };
            Ok(Depth {
                visible: number(ApproximateNumberOfMessages)?,
                in_flight: number(ApproximateNumberOfMessagesNotVisible)?,
                delayed: number(ApproximateNumberOfMessagesDelayed)?,
            })
        })
    }

    /// The queue of this ARN.
    ///
    /// # Errors
    /// It is no queue's ARN, or the call failed.
    pub fn of_arn<'a>(session: &'a Session, arn: &'a str) -> Call<'a, Self> {
        Box::pin(async move {
            const OPERATION: &str = "sqs:GetQueueUrl";
            let [_, _, "sqs", region, account, name] = arn.splitn(6, ':').collect::<Vec<_>>()[..] else {
                return Err(Failure::bad_answer(OPERATION, format!("'{arn}' is not the ARN of a queue")));
            };
            let client = Client::new(session.in_region(region).config());
            let call = client.get_queue_url().queue_name(name).queue_owner_aws_account_id(account);
            let answer = call.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
            let url = answer.queue_url.ok_or_else(|| Failure::bad_answer(OPERATION, "no URL"))?;
            Ok(Self { client, url })
        })
    }

    /// The ARN of its dead-letter queue, where its redrive policy names one.
    ///
    /// # Errors
    /// The call failed.
    pub fn dead_letters(&self) -> Call<'_, Option<String>> {
        Box::pin(async move {
            let name = QueueAttributeName::RedrivePolicy;
            let Some(policy) = self.attribute(name).await? else { return Ok(None) };
            let policy: serde_json::Value = serde_json::from_str(&policy).map_err(|error| {
                Failure::bad_answer(ATTRIBUTES, format!("the redrive policy is not JSON: {error}"))
            })?;
            Ok(policy["deadLetterTargetArn"].as_str().map(str::to_owned))
        })
    }

    /// Begins to move all its messages, those of a dead-letter queue, to where they came from. SQS goes on by itself.
    ///
    /// # Errors
    /// The call failed; nothing has begun.
    pub fn move_back(&self) -> Call<'_, ()> {
        Box::pin(async move {
            const OPERATION: &str = "sqs:StartMessageMoveTask";
            let arn = self.attribute(QueueAttributeName::QueueArn).await?;
            let call = self.client.start_message_move_task().set_source_arn(arn);
            call.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
            Ok(())
        })
    }

    async fn attribute(&self, name: QueueAttributeName) -> Result<Option<String>, Failure> {
        let call = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone());
        let answer = call.send().await.map_err(|error| Failure::of(ATTRIBUTES, &error))?;
        Ok(answer.attributes.and_then(|mut attributes| attributes.remove(&name)))
    }
}

/// For the queue of this URL.
pub(crate) fn client(session: &Session, url: &str) -> Client {
    Client::new(home(session, url).config())
}

/// The session in the queue's own region.
fn home(session: &Session, url: &str) -> Session {
    region(url).map_or_else(|| session.clone(), |region| session.in_region(region))
}

/// The region in a queue's URL: `https://sqs.REGION.amazonaws.com/…`, of any partition.
fn region(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.split(['/', ':']).next()?;
    let (region, domain) = host.strip_prefix("sqs.")?.split_once('.')?;
    domain.starts_with("amazonaws.").then_some(region)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn built<T>(operation: &'static str, entry: Result<T, aws_sdk_sqs::error::BuildError>) -> Result<T, Failure> {
    entry.map_err(|error| Failure {
        operation,
        kind: Kind::Refused,
        code: "BadRequest".to_owned(),
        message: error.to_string(),
    })
}

/// What became of each entry of a call, whose ids are their places in it.
fn each<'a>(
    operation: &'static str,
    count: usize,
    done: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Each {
    let unnamed = || Failure::bad_answer(operation, "the answer does not name this message");
    let mut each: Each = (0..count).map(|_| Err(unnamed())).collect();
    let place = |id: &str| id.parse::<usize>().ok();
    for id in done {
        if let Some(entry) = place(id).and_then(|place| each.get_mut(place)) {
            *entry = Ok(());
        }
    }
    for failure in failed {
        if let Some(entry) = place(failure.id()).and_then(|place| each.get_mut(place)) {
            *entry = Err(Failure {
                operation,
                kind: if failure.sender_fault() { Kind::Refused } else { Kind::Service },
                code: failure.code().to_owned(),
                message: failure.message().unwrap_or("the service gave no reason").to_owned(),
            });
        }
    }
    each
}

fn received(operation: &'static str, message: Message) -> Result<Received, Failure> {
    let attribute = |name: &MessageSystemAttributeName| {
        let text = message.attributes().and_then(|attributes| attributes.get(name));
        text.and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| Failure::bad_answer(operation, format!("a message has no {name}")))
    };
    let sent = attribute(&MessageSystemAttributeName::SentTimestamp)?;
    let receives = attribute(&MessageSystemAttributeName::ApproximateReceiveCount)?;
    let absent = |what: &str| Failure::bad_answer(operation, format!("a message has no {what}"));
    Ok(Received {
        handle: message.receipt_handle.ok_or_else(|| absent("receipt handle"))?,
        id: message.message_id.ok_or_else(|| absent("id"))?,
        sent: Timestamp::from_micros(sent.saturating_mul(1_000)),
        receives: u32::try_from(receives).unwrap_or(u32::MAX),
        body: message.body.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_in_the_region_of_its_url() {
        assert_eq!(region("https://sqs.eu-west-1.amazonaws.com/123456789012/q"), Some("eu-west-1"));
        assert_eq!(region("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q"), Some("cn-north-1"));
        assert_eq!(region("http://127.0.0.1:4566/000000000000/q"), None);
        assert_eq!(region("https://example.com/q"), None);
    }

    #[test]
    fn an_entry_that_the_answer_forgets_has_failed() {
        let failed =
            BatchResultErrorEntry::builder().id("2").code("InternalError").sender_fault(false).build();
        let each = each("sqs:SendMessage", 3, ["0"].into_iter(), &[failed.unwrap()]);
        let codes: Vec<_> =
            each.iter().map(|one| one.as_ref().err().map(|failure| failure.code.as_str())).collect();
        assert_eq!(codes, [None, Some("BadAnswer"), Some("InternalError")]);
    }
}
