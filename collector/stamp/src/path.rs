//! Which way packets were lost and duplicated, from the two sequence numbers of each reply. Pure.
//!
//! A stateful reflector numbers what it sends. Of the packets up to the newest answered one, those that its numbers did
//! not reach were lost on the way out; numbers of its that never came were lost on the way back. Both are differences of
//! counts, so the totals depend on which replies came and not on their order, and a reply that was overtaken takes back
//! the loss it was counted as. A packet duplicated on the way out raises the reflector's number as one more packet would:
//! where its second reply is not heard, the totals are the fewest losses and duplicates that explain what was.
//!
//! A reflector counts for each address that it is asked from. Where the sender's changes, as when a route does, its numbers are
//! another count, which may have begun long ago: they say nothing of what was between, and a new life begins.
//!
//! A stateless reflector copies the sender's number, so each reply's two numbers are equal, and the direction is unknown.

use std::net::IpAddr;
use std::ops::{AddAssign, Sub};

use crate::recent::{Place, Recent};

/// Beyond what was sent the reflector's number may run ahead by so many duplicates of the way out; if further, it is not
/// the count it was.
const SURPLUS: i64 = 64;

/// Packets, by the direction in which something befell them. In a change, negative takes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByDirection {
    /// On the way from the sender to the reflector.
    pub forward: i64,
    /// On the way from the reflector to the sender.
    pub back: i64,
    /// On one of the two: the reflector is stateless, or began anew.
    pub unknown: i64,
}

/// What befell packets up to the newest that was answered; what was sent after it is not judged yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that did not come through.
    pub lost: ByDirection,
    /// Packets that came once more than they were sent.
    pub duplicated: ByDirection,
}

/// What a reply says of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// By how much the totals changed since the reply before it.
    pub since: Totals,
    /// It was overtaken by one sent later: on the way to the reflector (RFC 4737).
    pub reordered_forward: bool,
    /// It was overtaken by one sent later: on the way back, or by a stateless reflector on either.
    pub reordered_back: bool,
    /// The reflector's numbers begin anew: it was restarted, had forgotten the session, or was asked from another address.
    pub restarted: bool,
}

/// What is known of the reflector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing yet.
    Unheard,
    /// It counts what it sends.
    Stateful,
    /// It copies the sender's number.
    Stateless,
}

/// The path between a sender and a reflector.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// The sender's numbers that were answered.
    answered: Recent,
    newest: u32,
    life: Life,
    /// Which of the sender's addresses this life's replies came to, where that is known.
    own: Option<IpAddr>,
    /// Of the reflector's lives before this one.
    before: Totals,
}

/// As long as the reflector's numbers go on.
#[derive(Clone, Copy, Debug)]
enum Life {
    Unheard,
    Stateful(Counted),
    /// With what was lost and duplicated.
    Stateless(i64, i64),
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    /// The reflector's numbers that came.
    heard: Recent,
    /// Packets sent that it could have counted, and how far it has counted.
    sent: i64,
    counted: i64,
    /// How many different numbers of it came.
    came: i64,
    /// Replies that were the second to a packet, by the way on which it was doubled.
    doubled_forward: i64,
    doubled_back: i64,
    /// Lost where this life met the one before.
    unknown: i64,
}

impl Path {
    /// `first` is the number of the first packet.
    pub(crate) fn new(first: u32) -> Self {
        Self {
            answered: Recent::before(first),
            newest: first.wrapping_sub(1),
            life: Life::Unheard,
            own: None,
            before: Totals::default(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.life {
            Life::Unheard => Mode::Unheard,
            Life::Stateful(_) => Mode::Stateful,
            Life::Stateless(..) => Mode::Stateless,
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.before;
        totals += self.life.totals();
        totals
    }

    /// A reply came to this address of the sender's: to the packet of this number, under this number of the reflector, while the
    /// newest sent was this.
    pub(crate) fn heard(
        &mut self,
        number: u32,
        reflector: u32,
        newest_sent: u32,
        own: Option<IpAddr>,
    ) -> Change {
        let earlier = self.totals();
        let place = self.answered.place(number);
        let ahead = if let Place::Ahead(by) = place { i64::from(by) } else { 0 };
        let mut change = Change::default();
        let moved = own != self.own;
        let goes_on = match &mut self.life {
            Life::Unheard => false,
            Life::Stateful(_) if moved => false,
            Life::Stateless(lost, doubled) => {
                let goes_on = reflector == number;
                match place {
                    Place::Ahead(_) if goes_on => *lost += ahead - 1,
                    Place::Behind if goes_on => {
                        *lost -= 1;
                        change.reordered_back = true;
                    }
                    Place::Again if goes_on => *doubled += 1,
                    _ => {}
                }
                goes_on
            }
            Life::Stateful(counted) => {
                let in_flight = i64::from(newest_sent.wrapping_sub(self.newest));
                counted.takes(place, reflector, in_flight, &mut change)
            }
        };
        // A straggler of a former life begins no new one.
        if !goes_on && ahead > 0 {
            change.restarted = !matches!(self.life, Life::Unheard);
            self.before += self.life.totals();
            let begun = match (change.restarted, moved) {
                (false, _) => Begun::First,
                (true, false) => Begun::Anew,
                (true, true) => Begun::Elsewhere,
            };
            self.life = Life::begin(number, reflector, ahead, begun);
            self.own = own;
        }
        self.answered.mark(number);
        if ahead > 0 {
            self.newest = number;
        }
        change.since = self.totals() - earlier;
        change
    }
}

/// What a life of the reflector's numbers begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// The session's first reply.
    First,
    /// A count that is not the one it was.
    Anew,
    /// The reflector's count for another address of the sender's.
    Elsewhere,
}

impl Life {
    /// `ahead` is how many packets were sent since the last that was answered, this one included.
    fn begin(number: u32, reflector: u32, ahead: i64, begun: Begun) -> Self {
        if reflector == number {
            return Self::Stateless(ahead - 1, 0);
        }
        let from_zero = i64::from(reflector) + 1;
        // A new session's count begins at zero, so all before this reply is known; after a restart nobody knows which
        // packets the reflector's former life had. One that does not begin at zero tells nothing of what was before.
        let (heard, counted, sent) = if begun == Begun::First && from_zero <= ahead + SURPLUS {
            (Recent::before(0), from_zero, ahead)
        } else if begun == Begun::Anew && from_zero <= ahead {
            (Recent::before(0), from_zero, from_zero)
        } else {
            (Recent::before(reflector), 1, 1)
        };
        let mut life = Counted {
            heard,
            sent,
            counted,
            came: 1,
            doubled_forward: 0,
            doubled_back: 0,
            unknown: ahead - sent,
        };
        life.heard.mark(reflector);
        Self::Stateful(life)
    }

    fn totals(&self) -> Totals {
        match self {
            Self::Unheard => Totals::default(),
            Self::Stateless(lost, doubled) => Totals {
                lost: ByDirection { unknown: *lost, ..ByDirection::default() },
                duplicated: ByDirection { unknown: *doubled, ..ByDirection::default() },
            },
            Self::Stateful(counted) => counted.totals(),
        }
    }
}

impl Counted {
    /// Counts a reply, unless it cannot be of this life.
    fn takes(&mut self, number: Place, reflector: u32, in_flight: i64, change: &mut Change) -> bool {
        let place = self.heard.place(reflector);
        let plausible = match (number, place) {
            (Place::Old, _) => false,
            (_, Place::Ahead(by)) => i64::from(by) <= in_flight + SURPLUS,
            (_, Place::Behind) => true,
            // One number of the reflector for two packets.
            (Place::Ahead(_) | Place::Behind, _) => false,
            (Place::Again, _) => true,
        };
        if !plausible {
            return false;
        }
        self.heard.mark(reflector);
        if let Place::Ahead(by) = number {
            self.sent += i64::from(by);
        }
        if let Place::Ahead(by) = place {
            self.counted += i64::from(by);
        }
        let new = matches!(place, Place::Ahead(_) | Place::Behind);
        self.came += i64::from(new);
        if number == Place::Again {
            *(if new { &mut self.doubled_forward } else { &mut self.doubled_back }) += 1;
        }
        change.reordered_forward = number == Place::Behind && matches!(place, Place::Ahead(_));
        change.reordered_back = place == Place::Behind;
        true
    }

    fn totals(&self) -> Totals {
        // Lost on the way out less doubled there is certain; of each as few as explain it.
        let certain = self.sent - self.counted;
        let lost = (certain + self.doubled_forward).max(0);
        Totals {
            lost: ByDirection { forward: lost, back: self.counted - self.came, unknown: self.unknown },
            duplicated: ByDirection { forward: lost - certain, back: self.doubled_back, unknown: 0 },
        }
    }
}

impl AddAssign for ByDirection {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.back += other.back;
        self.unknown += other.unknown;
    }
}

impl Sub for ByDirection {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            forward: self.forward - other.forward,
            back: self.back - other.back,
            unknown: self.unknown - other.unknown,
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
    }
}

impl Sub for Totals {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { lost: self.lost - other.lost, duplicated: self.duplicated - other.duplicated }
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
