//! How a call failed: who said what, and whether trying again can help.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// A call that failed, with all its tries. Holds nothing of the answer but the service's own code and sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {code}: {message}")]
pub struct Failure {
    /// The call, such as `ec2:DescribeVpnConnections`, written as IAM writes it.
    pub operation: &'static str,
    /// What kind of failure it is.
    pub kind: Kind,
    /// The service's error code, such as `RequestLimitExceeded`; a word of ours where no answer came: `Timeout`,
    /// `Unreachable`, `NoCredentials`, `BadAnswer`, `BadRequest`.
    pub code: String,
    /// The service's sentence, or ours.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No answer in time.
    Timeout,
    /// The service could not be reached: name, route, connection or TLS.
    Unreachable,
    /// There are no credentials, or they have expired.
    Credentials,
    /// The service asks for fewer calls.
    Throttled,
    /// The caller may not do this.
    Denied,
    /// The service refuses the request as it is.
    Refused,
    /// The service is in trouble, or its answer cannot be read.
    Service,
}

/// Codes with which AWS services ask for fewer calls.
const THROTTLED: [&str; 12] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "KMS.ThrottlingException",
    "LimitExceededException",
    "OverLimit",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttled",
    "Throttling",
    "ThrottlingException",
];

/// Codes that say that the caller may not do this.
const DENIED: [&str; 10] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "AuthorizationError",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];

/// Codes that say that the credentials have run out.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

impl Failure {
    /// Whether the same call may succeed later without anybody changing anything. A denied one may as well, since
    /// permissions are changed while it runs; it is told apart by its kind.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.kind != Kind::Refused
    }

    /// Of an answer that came, but does not hold what it must.
    #[must_use]
    pub fn bad_answer(operation: &'static str, message: impl Into<String>) -> Self {
        Self { operation, kind: Kind::Service, code: "BadAnswer".to_owned(), message: message.into() }
    }

    /// Of what the SDK makes of a call.
    pub fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let own =
            |kind, code: &str, message: String| Self { operation, kind, code: code.to_owned(), message };
        match error {
            SdkError::TimeoutError(_) => own(Kind::Timeout, "Timeout", "no answer in time".to_owned()),
            SdkError::DispatchFailure(failure) => {
                let why = failure.as_connector_error().map_or_else(String::new, |error| because(error));
                if failure.is_timeout() {
                    own(Kind::Timeout, "Timeout", "no connection in time".to_owned())
                // The HTTP client says what kind of trouble it had with a connection, also with one that was closed before
                // the answer; who found no credentials says nothing.
                } else if failure.is_io() || failure.is_user() || failure.as_other().is_some() {
                    own(Kind::Unreachable, "Unreachable", why)
                } else {
                    own(Kind::Credentials, "NoCredentials", why)
                }
            }
            // What the answer held may not be told: it may be what must not travel.
            SdkError::ResponseError(_) => {
                own(Kind::Service, "BadAnswer", "the answer cannot be read".to_owned())
            }
            // An answer of success that the SDK takes for an error is one that it cannot read.
            SdkError::ServiceError(error) if error.raw().status().is_success() => {
                own(Kind::Service, "BadAnswer", "the answer cannot be read".to_owned())
            }
            SdkError::ServiceError(error) => {
                let metadata = error.err();
                let code = metadata.code().unwrap_or("Unknown");
                // SQS names its errors as AWS JSON and as its old query protocol do.
                let code = code.rsplit(['#', '.']).next().unwrap_or(code);
                let message = metadata.message().unwrap_or("the service gave no reason");
                own(kind(code, error.raw().status().as_u16()), code, message.to_owned())
            }
            _ => own(Kind::Refused, "BadRequest", "the request cannot be made".to_owned()),
        }
    }
}

fn kind(code: &str, status: u16) -> Kind {
    match code {
        _ if THROTTLED.contains(&code) || status == 429 => Kind::Throttled,
        _ if DENIED.contains(&code) => Kind::Denied,
        _ if EXPIRED.contains(&code) => Kind::Credentials,
        _ if status >= 500 => Kind::Service,
        _ => Kind::Refused,
    }
}

/// An error with what is behind it, in one line.
fn because(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_by_itself_is_told_from_what_will_not() {
        let cases = [
            ("RequestLimitExceeded", 503, Kind::Throttled, true),
            ("Whatever", 429, Kind::Throttled, true),
            ("UnauthorizedOperation", 403, Kind::Denied, true),
            ("ExpiredToken", 400, Kind::Credentials, true),
            ("Unknown", 502, Kind::Service, true),
            ("InvalidParameterValue", 400, Kind::Refused, false),
        ];
        for (code, status, expected, temporary) in cases {
            let kind = kind(code, status);
            assert_eq!(kind, expected, "{code}");
            let failure =
                Failure { operation: "sqs:SendMessage", kind, code: code.to_owned(), message: String::new() };
            assert_eq!(failure.is_temporary(), temporary, "{code}");
        }
    }
}
