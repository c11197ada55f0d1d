//! What one of two alerters tells the other, through the other's queue: that a receiver has accepted something.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The state of what says that nothing was accepted yet: the second alerter is about to tell a receiver something.
pub const ABOUT_TO: &str = "about-to";

/// A receiver has accepted a notification on one of its channels; or, by [`ABOUT_TO`], may do so in a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The id that the receiver knows it by: the incident's, the digest's or the drill's; nothing for what is only about to be.
    pub id: String,
    /// `firing` or `resolved`, or [`ABOUT_TO`].
    pub state: String,
    /// 0 for the first of its state; more for what refines it, or tells that it is worse.
    #[serde(default)]
    pub revision: u32,
    /// The receiver.
    pub receiver: String,
    /// By which of its ways.
    pub channel: String,
    /// The link or site, or `alerter`; nothing for a digest or a drill.
    #[serde(default)]
    pub place: String,
    /// Since when the incident is.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Until when it was, for a `resolved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether it told that something is down altogether.
    #[serde(default)]
    pub down: bool,
    /// When the receiver accepted it, or when this was said, by the alerter's clock.
    pub at: Timestamp,
    /// All of it in one line.
    #[serde(default)]
    pub text: String,
    /// What a digest told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<Member>>,
}

/// A notification that a digest stood for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The incident's id.
    pub id: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// As of [`Told`].
    #[serde(default)]
    pub revision: u32,
    /// As of [`Told`].
    #[serde(default)]
    pub place: String,
    /// As of [`Told`].
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// As of [`Told`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// As of [`Told`].
    #[serde(default)]
    pub down: bool,
}
