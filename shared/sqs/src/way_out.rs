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
        Kind::Denied if failure.operation == "sqs:SendMessage" => {
            "allow sqs:SendMessage on this queue, and kms:GenerateDataKey and kms:Decrypt on its KMS key, to the role this runs as"
        }
        Kind::Denied if failure.operation == "sqs:StartMessageMoveTask" => {
            "allow sqs:StartMessageMoveTask, sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes on this queue, and \
             sqs:SendMessage on the one that its messages came from, to the role this runs as"
        }
        Kind::Denied if failure.operation == "sqs:GetQueueUrl" => {
            "allow sqs:GetQueueUrl on this queue to the role this runs as"
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_do_something_is_told_to_allow_that() {
        for (operation, other) in [
            ("sqs:SendMessage", "sqs:ReceiveMessage"),
            ("sqs:ReceiveMessage", "sqs:SendMessage"),
            ("sqs:DeleteMessage", "sqs:SendMessage"),
            ("sqs:ChangeMessageVisibility", "sqs:SendMessage"),
            ("sqs:GetQueueAttributes", "sqs:SendMessage"),
            ("sqs:StartMessageMoveTask", "sqs:ChangeMessageVisibility"),
            ("sqs:GetQueueUrl", "sqs:SendMessage"),
        ] {
            let failure = Failure {
                operation,
                kind: Kind::Denied,
                code: "AccessDenied".to_owned(),
                message: String::new(),
            };
            let way_out = way_out(&failure);
            assert!(way_out.contains(operation) && !way_out.contains(other), "{operation}: {way_out}");
        }
    }
}
