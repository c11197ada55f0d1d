//! The `sms` and `topic` notifiers: the notification's one line through Amazon SNS, accepted when SNS has taken it.
//!
//! SNS knows no repetition for what it is: a text whose answer was lost may arrive twice. So a try is one request
//! ([`crosswatch_aws::sns`]), and one of which nobody knows whether it was taken is repeated late
//! ([`super::NotifyError::rest`]).
//!
//! The session is loaded once for all receivers, beside everything else: where no metadata service answers that takes
//! seconds.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crosswatch_aws::sns::{Sms, Sns};
use crosswatch_aws::{Failure, Kind, Session};
use crosswatch_shared::config::aws::region_of;
use tokio::sync::OnceCell;

use super::NotifyError;
use crate::config::Receiver;
use crate::ledger::Body;
use crate::text;

/// Who calls AWS: loaded by the first who needs it, for all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aws(Arc<OnceCell<Session>>);

impl Aws {
    /// The session, once it is loaded. Whoever gives up waiting for it while another waits too does not undo the loading.
    pub(crate) async fn session(&self) -> &Session {
        self.0.get_or_init(Session::load).await
    }

    #[cfg(test)]
    pub(crate) fn of(session: Session) -> Self {
        Self(Arc::new(OnceCell::new_with(Some(session))))
    }
}

/// One number, or one topic.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    aws: Aws,
    to: To,
    region: Option<String>,
    sns: Arc<OnceCell<Sns>>,
    within: Duration,
}

#[derive(Clone, Debug)]
enum To {
    Number(String, Sms),
    Topic(String),
}

impl Publish {
    /// To this phone number, as the receiver's SMS are sent.
    pub(super) fn sms(aws: &Aws, receiver: &Receiver, number: &str, within: Duration) -> Self {
        let texting = receiver.texting.clone();
        let sms = Sms {
            sender_id: texting.sender_id,
            origination_number: texting.origination_number,
            max_price: texting.max_price,
        };
        Self::new(aws, To::Number(number.to_owned(), sms), texting.region, within)
    }

    /// To this topic, in the region of its ARN.
    pub(super) fn topic(aws: &Aws, arn: &str, within: Duration) -> Self {
        Self::new(aws, To::Topic(arn.to_owned()), region_of(arn).map(str::to_owned), within)
    }

    fn new(aws: &Aws, to: To, region: Option<String>, within: Duration) -> Self {
        Self { aws: aws.clone(), to, region, sns: Arc::default(), within }
    }

    pub(super) async fn send(&self, body: &str) -> Result<(), NotifyError> {
        let body: Body =
            serde_json::from_str(body).map_err(|error| NotifyError::NoAnswer(error.to_string()))?;
        let publish = async {
            let sns = self.sns.get_or_try_init(|| self.open()).await?;
            match &self.to {
                To::Number(number, sms) => sns.sms(number, &body.text, sms).await,
                To::Topic(arn) => sns.topic(arn, &text::subject(&body.text), &body.text).await,
            }
        };
        let late = || Failure {
            operation: "sns:Publish",
            kind: Kind::Timeout,
            code: "Timeout".to_owned(),
            message: "no answer in time".to_owned(),
        };
        let published = tokio::time::timeout(self.within, publish).await;
        published.unwrap_or_else(|_| Err(late())).map_err(NotifyError::Sns)
    }

    async fn open(&self) -> Result<Sns, Failure> {
        let session = self.aws.session().await;
        match (&self.region, session.region()) {
            (Some(region), _) => Ok(Sns::new(&session.in_region(region))),
            (None, Some(_)) => Ok(Sns::new(session)),
            (None, None) => Err(Failure {
                operation: "sns:Publish",
                kind: Kind::Refused,
                code: "NoRegion".to_owned(),
                message: "no AWS region is known: write 'region' for the receiver, or set AWS_REGION"
                    .to_owned(),
            }),
        }
    }
}
