//! What a protocol tells of its packets: the words between the sockets and the loop.

use std::time::Duration;

use crosswatch_shared::observation::{Lost, Way};

use crate::packet::Mark;
use crate::release::Ticket;

/// What came of a packet, or came in without being asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// What became of a packet; told once of each.
    Fate(Mark, Fate),
    /// A reply after its timeout.
    Late,
    /// A reply that came again.
    Duplicate,
    /// A reply to a packet of this process that the socket no longer knows, or under another number than it was sent
    /// with: the outcome of its sending tells which.
    Again(Ticket),
    /// A reply to nothing that was asked, or from somebody else.
    Stray,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It was answered.
    Reply(Reply),
    /// It was not.
    Lost(Lost),
    /// This machine is to blame, for this reason.
    Local(String),
    /// It was larger than the way takes, which is this if anybody said so.
    TooBig(Option<u32>),
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reply {
    /// The round-trip time.
    pub(crate) rtt: Duration,
    /// When it came, in nanoseconds of the wall clock; only good for putting the replies of a burst in order.
    pub(crate) arrived: i64,
    /// Whether the time of sending or of coming is by this process's clock.
    pub(crate) user_stamped: bool,
    /// What the reflector's numbers and clock tell of either direction, where it has any.
    pub(crate) ways: Option<Ways>,
}

/// The way there and the way back, since the reply before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ways {
    pub(crate) forward: Way,
    pub(crate) back: Way,
}
