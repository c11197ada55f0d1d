//! What to do about a call to a queue that failed.

use crosswatch_aws::{Failure, Kind};

/// The way out, as the end of a sentence that tells the failure.
#[must_use]
pub fn way_out(failure: &Failure) -> &'static str {
    match failure.kind {
        Kind::Timeout | Kind::Unreachable => {
            "look at the route to SQS (a VPC endpoint, NAT, DNS) and at AWS_ENDPOINT_URL, if that is set"
        }
        Kind::Credentials => {
            "look at the credentials: the environment, the profile, or the role of the instance or task"
        }
        Kind::Throttled => "it is tried again more slowly",
        Kind::Denied => {
            "allow sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes on this \
             queue, and its KMS key, to the role this runs as"
        }
        Kind::Refused if failure.code.contains("NonExistent") || failure.code.contains("DoesNotExist") => {
            "correct its URL in [queue], or make the queue"
        }
        Kind::Refused => "look at its URL in [queue] and at the queue's settings",
        Kind::Service => "SQS is in trouble; it is tried again",
    }
}
