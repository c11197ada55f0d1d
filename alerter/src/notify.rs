//! Notifiers: one try to tell one receiver. Whether and when to try is the ledger's business.

mod command;
mod console;
mod sns;
mod template;
#[cfg(test)]
mod tests;
mod webhook;

use std::time::Duration;

use crosswatch_aws::{Failure, Kind};

use crate::config::{Receiver, Secret};
use crate::error::Error;
use crate::ledger::Destination;

pub(crate) use sns::Aws;

/// How long a receiver has to accept. SNS has a second less, so that its failure is told in its own words.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a receiver's own words about a failure is kept, in bytes.
const WORDS: usize = 500;

/// What stands behind the notifiers: the world, or a simulation of it.
#[derive(Clone, Debug)]
pub(crate) enum World {
    /// AWS, and all that answers by itself; each has so long to accept.
    Real(Aws, Duration),
    /// Receivers that a test plays.
    #[cfg(test)]
    Simulated(crate::simulation::Receivers),
}

impl World {
    /// Who calls AWS in it, if anybody does.
    pub(crate) fn aws(&self) -> Option<&Aws> {
        match self {
            Self::Real(aws, _) => Some(aws),
            #[cfg(test)]
            Self::Simulated(_) => None,
        }
    }
}

/// A way to tell one receiver.
#[derive(Clone, Debug)]
pub(crate) enum Notifier {
    /// A URL that is posted to.
    Webhook(webhook::Webhook),
    /// A program that is run.
    Command(command::Command),
    /// A phone number or a topic, through Amazon SNS.
    Sns(sns::Publish),
    /// Standard output.
    Console(Duration),
    /// A receiver that a test plays.
    #[cfg(test)]
    Simulated(crate::simulation::Receivers, Destination),
}

/// A try that failed: the receiver has not accepted, or its answer was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The receiver could not be reached or did not answer in time. The address is left out: it may hold a secret.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The receiver answered otherwise than with 2xx.
    #[error("refused with status {status}: {words}{}", .way_out.map(|way_out| format!("; {way_out}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        words: String,
        /// How long it asks to be left alone.
        rest: Option<Duration>,
        /// What somebody must do, where it will refuse until then.
        way_out: Option<&'static str>,
    },
    /// Where it goes or by which key cannot be told: the file that holds it cannot be read.
    #[error("its secrets cannot be had: {0}")]
    Address(String),
    /// The ledger holds what this program does not understand.
    #[error("the notification in the ledger cannot be read: {0}")]
    Unreadable(String),
    /// The program could not be started.
    #[error("cannot run '{program}': {source}; see that it exists and may be executed")]
    Spawn {
        /// Its name in the config.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The program ended otherwise than with exit 0.
    #[error("'{program}' ended with {status}: {words}")]
    Exit {
        /// Its name in the config.
        program: String,
        /// The exit status or signal.
        status: String,
        /// The start of what it wrote to standard error.
        words: String,
    },
    /// The program did not end in time; it was killed, with all that it started.
    #[error("'{program}' did not end within {} s and was killed", .within.as_secs())]
    TooLong {
        /// Its name in the config.
        program: String,
        /// How long it had.
        within: Duration,
    },
    /// Standard output could not be written to.
    #[error("cannot write to standard output: {0}")]
    Console(String),
    /// Amazon SNS did not take it, as far as is known.
    #[error("{}{}", .0, way_out(.0.kind))]
    Sns(Failure),
}

impl NotifyError {
    /// Whether it will fail until somebody changes something.
    pub(crate) fn needs_somebody(&self) -> bool {
        match self {
            Self::Sns(failure) => matches!(failure.kind, Kind::Refused | Kind::Denied | Kind::Credentials),
            Self::Refused { way_out, .. } => way_out.is_some(),
            _ => false,
        }
    }

    /// The least to wait before this notification is tried again. One that SNS may have taken is repeated late, since a
    /// repeated text is worse than a late one; one that it refuses stays refused until somebody changes something.
    pub(crate) fn rest(&self) -> Duration {
        match self {
            Self::Sns(failure) => match failure.kind {
                Kind::Refused => Duration::from_secs(60),
                Kind::Timeout | Kind::Service => UNSURE,
                Kind::Throttled => THROTTLED,
                // So the HTTP client names a connection that did not come about: nothing can have been taken.
                Kind::Unreachable if failure.message.contains("(Connect)") => Duration::ZERO,
                Kind::Unreachable => UNSURE,
                Kind::Credentials | Kind::Denied => Duration::ZERO,
            },
            Self::Refused { way_out: Some(_), .. } => Duration::from_secs(60),
            _ => self.rest_of_all(),
        }
    }

    /// How long nothing at all may be tried on its channel.
    pub(crate) fn rest_of_all(&self) -> Duration {
        match self {
            Self::Sns(Failure { kind: Kind::Throttled, .. }) => THROTTLED,
            Self::Refused { rest: Some(rest), .. } => *rest,
            _ => Duration::ZERO,
        }
    }
}

/// How long to wait where a text may have been taken.
const UNSURE: Duration = Duration::from_secs(15);

/// How long SNS is left alone that asks for fewer calls; it counts them by the second.
const THROTTLED: Duration = Duration::from_secs(3);

/// What to do about a failure of SNS that does not pass by itself.
fn way_out(kind: Kind) -> &'static str {
    match kind {
        Kind::Refused => {
            "; it stays owed and is tried once a minute: correct the number, the topic or how SMS are sent, or take the \
             number off SNS's list of those who opted out"
        }
        Kind::Denied => "; allow the alerter's role to call it",
        Kind::Credentials => "; give the alerter credentials, such as an instance role",
        Kind::Timeout | Kind::Service => "; whether it was taken is not known",
        Kind::Unreachable | Kind::Throttled => "",
    }
}

impl Notifier {
    /// The notifier of a destination of this receiver.
    ///
    /// # Errors
    /// The webhook's URL cannot be used, or TLS could not be set up.
    pub(crate) fn new(receiver: &Receiver, to: &Destination, world: &World) -> Result<Self, Error> {
        let (aws, within) = match world {
            World::Real(aws, within) => (aws, *within),
            #[cfg(test)]
            World::Simulated(receivers) => return Ok(Self::Simulated(receivers.clone(), to.clone())),
        };
        if let Some(number) = to.channel.strip_prefix("sms:") {
            return Ok(Self::Sns(sns::Publish::sms(aws, receiver, number, within)));
        }
        match &*to.channel {
            "webhook" => {
                let none = Secret::Value(String::new());
                let url = receiver.webhook.as_ref().unwrap_or(&none);
                let webhook = webhook::Webhook::new(url, &receiver.template, within)
                    .map_err(|problem| Error::Webhook { receiver: receiver.name.clone(), problem })?;
                Ok(Self::Webhook(webhook))
            }
            "command" => Ok(Self::Command(command::Command::new(&receiver.command, within))),
            "topic" => {
                let arn = receiver.topic.as_deref().unwrap_or_default();
                Ok(Self::Sns(sns::Publish::topic(aws, arn, within)))
            }
            // A destination has no other channel.
            _ => Ok(Self::Console(within)),
        }
    }

    /// Whether it can tell a refusal, which somebody must do something about, from a failure that passes.
    pub(crate) fn tells_refusals(&self) -> bool {
        match self {
            Self::Sns(_) => true,
            Self::Webhook(webhook) => webhook.is_of_a_service(),
            Self::Command(_) | Self::Console(_) => false,
            #[cfg(test)]
            Self::Simulated(..) => false,
        }
    }

    /// Tries once. `body` is the notification as JSON.
    ///
    /// # Errors
    /// The receiver did not accept it, as far as is known.
    pub(crate) async fn send(&self, body: &str) -> Result<(), NotifyError> {
        match self {
            Self::Webhook(webhook) => webhook.send(body).await,
            Self::Command(command) => command.send(body).await,
            Self::Console(within) => console::send(body, *within).await,
            Self::Sns(sns) => sns.send(body).await,
            #[cfg(test)]
            Self::Simulated(receivers, to) => receivers.send(to, body).await,
        }
    }
}

/// What a receiver said, as one line of bounded length.
fn words(said: &[u8]) -> String {
    let said = said.get(..WORDS).unwrap_or(said);
    let said = String::from_utf8_lossy(said);
    let said: Vec<&str> = said.split_whitespace().collect();
    said.join(" ")
}
