//! Notifiers: one try to tell one receiver. Whether and when to try is the ledger's business.

mod command;
mod console;
#[cfg(test)]
mod tests;
mod webhook;

use std::time::Duration;

use crate::config::Receiver;
use crate::error::Error;
use crate::ledger::Destination;

/// How long a receiver has to accept.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a receiver's own words about a failure is kept, in bytes.
const WORDS: usize = 500;

/// A way to tell one receiver.
#[derive(Clone, Debug)]
pub(crate) enum Notifier {
    /// A URL that is posted to.
    Webhook(webhook::Webhook),
    /// A program that is run.
    Command(command::Command),
    /// Standard output.
    Console(Duration),
    /// A way that the config may name and this version does not have: what is owed on it stays owed.
    Missing,
}

/// A try that failed: the receiver has not accepted, or its answer was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The receiver could not be reached or did not answer in time. The address is left out: it may hold a secret.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The receiver answered otherwise than with 2xx.
    #[error("refused with status {status}: {words}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        words: String,
    },
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
    /// This version cannot send so.
    #[error(
        "sms and topic need Amazon SNS, which this version cannot send to; add webhook, command or console"
    )]
    Missing,
}

impl Notifier {
    /// The notifier of a destination of this receiver, which has `within` to accept.
    ///
    /// # Errors
    /// The webhook's URL cannot be used, or TLS could not be set up.
    pub(crate) fn new(receiver: &Receiver, to: &Destination, within: Duration) -> Result<Self, Error> {
        match &*to.channel {
            "webhook" => {
                let url = receiver.webhook.as_deref().unwrap_or_default();
                let webhook = webhook::Webhook::new(url, within)
                    .map_err(|problem| Error::Webhook { receiver: receiver.name.clone(), problem })?;
                Ok(Self::Webhook(webhook))
            }
            "command" => Ok(Self::Command(command::Command::new(&receiver.command, within))),
            "console" => Ok(Self::Console(within)),
            _ => Ok(Self::Missing),
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
            Self::Missing => Err(NotifyError::Missing),
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
