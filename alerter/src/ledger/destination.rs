//! Where notifications go.

use std::time::Duration;

use crosswatch_shared::config::values::Rate;
use crosswatch_shared::observation::Name;

use super::Body;
use crate::config::Receiver;

/// Where a notification goes: a receiver and one of its channels.
///
/// A channel is named by its kind, not by its address: what is owed follows an address that was corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The receiver's name.
    pub(crate) receiver: Name,
    /// `webhook`, `command`, `console`, `topic` or `sms:<number>`.
    pub(crate) channel: Name,
    /// How many single notifications it may get.
    pub(crate) at_most: Option<Rate>,
    /// How long the other alerter has to tell it first.
    pub(crate) patience: Duration,
}

/// A channel for whoever looks from outside: its kind, without the phone number.
pub(crate) fn kind_of(channel: &str) -> &str {
    channel.split_once(':').map_or(channel, |(kind, _)| kind)
}

impl Destination {
    /// How long it waits with this for the other alerter's word.
    pub(super) fn patience_with(&self, body: &Body) -> Duration {
        if body.is_own() { Duration::ZERO } else { self.patience }
    }

    /// Every channel of a receiver.
    #[must_use]
    pub(crate) fn of(receiver: &Receiver) -> Vec<Self> {
        let mut channels: Vec<Name> = receiver.sms.iter().map(|to| format!("sms:{to}").into()).collect();
        let others = [
            ("topic", receiver.topic.is_some()),
            ("webhook", receiver.webhook.is_some()),
            ("command", !receiver.command.is_empty()),
            ("console", receiver.console),
        ];
        channels.extend(others.into_iter().filter(|other| other.1).map(|other| other.0.into()));
        channels
            .into_iter()
            .map(|channel| Self { at_most: receiver.at_most, ..Self::unknown(&receiver.name, &channel) })
            .collect()
    }

    /// One that the config need not have.
    pub(super) fn unknown(receiver: &str, channel: &str) -> Self {
        Self { receiver: receiver.into(), channel: channel.into(), at_most: None, patience: Duration::ZERO }
    }
}
