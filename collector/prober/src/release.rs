//! Lets outcomes out in the order of sending, probe by probe. Pure.
//!
//! An outcome that is decided waits until all older ones of its probe are decided. What is decided stays decided:
//! a reply after the timeout is late, a second reply is a duplicate, and neither changes anything.

use std::collections::VecDeque;

use crosswatch_shared::observation::{Detail, Outcome};
use crosswatch_shared::time::Timestamp;

/// One sending of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Its place in the list of probes.
    pub probe: u32,
    /// Its number among the probe's sendings, from 0.
    pub number: u64,
}

/// An outcome let out.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// Its place in the list of probes.
    pub probe: usize,
    /// When it was sent.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// What more there is to tell.
    pub detail: Option<Box<Detail>>,
    /// In which epoch of the clock `at` was read.
    pub epoch: u32,
    /// Whether whoever spawned the engine calls it pressing.
    pub pressing: bool,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is the outcome.
    Counted,
    /// A reply was counted before.
    Duplicate,
    /// A loss was counted before.
    Late,
    /// Nothing of the kind was sent.
    Unknown,
}

/// How many released outcomes are kept until they are taken; beyond that the oldest go, counted.
pub const KEPT: usize = 100_000;

/// The outcomes of all probes.
#[derive(Debug)]
pub struct Release {
    lines: Vec<Line>,
    /// Every sending, in order; those let out are removed once they come to the front.
    order: VecDeque<(Timestamp, Ticket)>,
    released: VecDeque<Released>,
    dropped: u64,
    let_out: u64,
    epoch: u32,
}

/// The sendings of one probe that are not let out.
#[derive(Debug, Default)]
struct Line {
    /// The number of the oldest.
    first: u64,
    held: VecDeque<Held>,
    /// Which of the 64 newest that were let out had a reply, the newest in the lowest bit.
    replied: u64,
}

/// A sending that is not let out.
#[derive(Debug)]
struct Held {
    at: Timestamp,
    outcome: Option<Outcome>,
    detail: Option<Box<Detail>>,
}

impl Release {
    /// For so many probes.
    #[must_use]
    pub fn new(probes: usize) -> Self {
        Self {
            lines: (0..probes).map(|_| Line::default()).collect(),
            order: VecDeque::new(),
            released: VecDeque::new(),
            dropped: 0,
            let_out: 0,
            epoch: 0,
        }
    }

    /// A probe is sent. `at` must not be before that of any sending before it.
    pub fn sent(&mut self, probe: usize, at: Timestamp) -> Option<Ticket> {
        let line = self.lines.get_mut(probe)?;
        let ticket =
            Ticket { probe: u32::try_from(probe).ok()?, number: line.first + line.held.len() as u64 };
        line.held.push_back(Held { at, outcome: None, detail: None });
        self.order.push_back((at, ticket));
        Some(ticket)
    }

    /// What became of a sending.
    pub fn decide(&mut self, ticket: Ticket, outcome: Outcome) -> Decided {
        self.decide_with(ticket, outcome, None)
    }

    /// The same, and what more there is to tell.
    pub fn decide_with(&mut self, ticket: Ticket, outcome: Outcome, detail: Option<Box<Detail>>) -> Decided {
        let Some(line) = self.lines.get_mut(ticket.probe as usize) else {
            return Decided::Unknown;
        };
        let Some(place) = ticket.number.checked_sub(line.first) else {
            return line.former(ticket.number);
        };
        let held = usize::try_from(place).ok().and_then(|place| line.held.get_mut(place));
        let Some(held) = held else { return Decided::Unknown };
        match held.outcome {
            Some(Outcome::Reply { .. }) => return Decided::Duplicate,
            Some(Outcome::Lost(_)) => return Decided::Late,
            None => (held.outcome, held.detail) = (Some(outcome), detail),
        }
        while let Some(Held { at, outcome: Some(outcome), detail }) =
            line.held.pop_front_if(|held| held.outcome.is_some())
        {
            line.first += 1;
            line.replied = line.replied << 1 | u64::from(matches!(outcome, Outcome::Reply { .. }));
            if self.released.len() >= KEPT {
                self.released.pop_front();
                self.dropped += 1;
            }
            self.let_out += 1;
            self.released.push_back(Released {
                probe: ticket.probe as usize,
                at,
                outcome,
                detail,
                epoch: self.epoch,
                pressing: false,
            });
        }
        Decided::Counted
    }

    /// Whether nothing is known of it yet.
    #[must_use]
    pub fn in_flight(&self, ticket: Ticket) -> bool {
        let undecided = || {
            let line = self.lines.get(ticket.probe as usize)?;
            let place = usize::try_from(ticket.number.checked_sub(line.first)?).ok()?;
            Some(line.held.get(place)?.outcome.is_none())
        };
        undecided().unwrap_or(false)
    }

    /// When the oldest sending was made whose outcome has not been let out.
    pub fn oldest_in_flight(&mut self) -> Option<Timestamp> {
        while let Some(&(at, ticket)) = self.order.front() {
            let line = self.lines.get(ticket.probe as usize)?;
            if ticket.number >= line.first {
                return Some(at);
            }
            self.order.pop_front();
        }
        None
    }

    /// The outcomes let out since the last time, and how many of them had to be dropped for want of room.
    pub fn take(&mut self) -> (VecDeque<Released>, u64) {
        (std::mem::take(&mut self.released), std::mem::take(&mut self.dropped))
    }

    /// How many were ever let out.
    pub(crate) fn let_out(&self) -> u64 {
        self.let_out
    }

    /// What was let out since so many had been.
    pub(crate) fn since(&mut self, let_out: u64) -> impl Iterator<Item = &mut Released> {
        let new = usize::try_from(self.let_out - let_out).unwrap_or(usize::MAX);
        self.released.range_mut(self.released.len().saturating_sub(new)..)
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.released.is_empty()
    }

    /// A new epoch: the wall clock has stepped by so many microseconds, and what is not let out yet was, by the clock
    /// that counts from now on, sent that much later.
    pub fn step(&mut self, micros: i64) {
        self.epoch = self.epoch.wrapping_add(1);
        let moved = |at: &mut Timestamp| {
            *at = Timestamp::from_micros(at.as_micros().saturating_add(micros));
        };
        let held = self.lines.iter_mut().flat_map(|line| &mut line.held);
        held.for_each(|held| moved(&mut held.at));
        self.order.iter_mut().for_each(|(at, _)| moved(at));
    }

    /// The epoch of what is let out now.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl Line {
    /// What a second reply to a sending that was let out is. Of those long gone it is not known: they count as late.
    fn former(&self, number: u64) -> Decided {
        let age = self.first.saturating_sub(number).saturating_sub(1);
        if age < 64 && self.replied >> age & 1 == 1 { Decided::Duplicate } else { Decided::Late }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_shared::observation::Lost;
    use proptest::prelude::*;

    const REPLY: Outcome = Outcome::Reply { rtt_ms: 1.0 };
    const TIMEOUT: Outcome = Outcome::Lost(Lost::Timeout);

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_reply_waits_for_the_older_ones_of_its_probe_only() {
        let mut release = Release::new(2);
        let first = release.sent(0, at(1)).unwrap();
        let second = release.sent(0, at(2)).unwrap();
        let other = release.sent(1, at(3)).unwrap();
        release.decide(second, REPLY);
        release.decide(other, REPLY);
        let sent: Vec<_> = release.take().0.iter().map(|out| out.at).collect();
        assert_eq!(sent, [at(3)]);
        assert_eq!(release.oldest_in_flight(), Some(at(1)));
        release.decide(first, TIMEOUT);
        let sent: Vec<_> = release.take().0.iter().map(|out| (out.at, out.outcome)).collect();
        assert_eq!(sent, [(at(1), TIMEOUT), (at(2), REPLY)]);
        assert_eq!(release.oldest_in_flight(), None);
    }

    #[test]
    fn what_comes_twice_or_too_late_is_named_and_changes_nothing() {
        let mut release = Release::new(1);
        let lost = release.sent(0, at(1)).unwrap();
        let replied = release.sent(0, at(2)).unwrap();
        assert_eq!(release.decide(replied, REPLY), Decided::Counted);
        assert_eq!(release.decide(replied, REPLY), Decided::Duplicate, "while it is held");
        assert_eq!(release.decide(lost, TIMEOUT), Decided::Counted);
        assert_eq!(release.decide(replied, REPLY), Decided::Duplicate);
        assert_eq!(release.decide(lost, REPLY), Decided::Late);
        assert_eq!(release.decide(Ticket { probe: 0, number: 2 }, REPLY), Decided::Unknown);
        assert_eq!(release.decide(Ticket { probe: 7, number: 0 }, REPLY), Decided::Unknown);
        let outcomes: Vec<_> = release.take().0.iter().map(|out| out.outcome).collect();
        assert_eq!(outcomes, [TIMEOUT, REPLY]);
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let mut release = Release::new(1);
        for sent in 0..KEPT as i64 + 5 {
            let ticket = release.sent(0, at(sent)).unwrap();
            release.decide(ticket, REPLY);
        }
        let (outcomes, dropped) = release.take();
        assert_eq!((outcomes.len(), dropped), (KEPT, 5));
        assert_eq!(outcomes[0].at, at(5), "the newest are kept");
    }

    #[test]
    fn a_step_moves_what_is_in_flight_into_the_new_epoch() {
        let mut release = Release::new(1);
        let done = release.sent(0, at(1_000)).unwrap();
        let flying = release.sent(0, at(2_000)).unwrap();
        release.decide(done, REPLY);
        release.step(-500);
        assert_eq!(release.oldest_in_flight(), Some(at(1_500)));
        release.decide(flying, REPLY);
        let out: Vec<_> = release.take().0.iter().map(|out| (out.at, out.epoch)).collect();
        assert_eq!(out, [(at(1_000), 0), (at(1_500), 1)]);
    }

    proptest! {
        /// Against the obvious model: outcomes per probe in order of sending, all of them, once; and nothing is let
        /// out that was sent before what `oldest_in_flight` had said.
        #[test]
        fn in_order_complete_and_true_to_the_promise(
            moves in prop::collection::vec((0usize..4, any::<prop::sample::Index>(), any::<bool>()), 1..300)
        ) {
            let mut release = Release::new(4);
            let mut open: Vec<(Ticket, Timestamp)> = Vec::new();
            let mut sent: Vec<Vec<Timestamp>> = vec![Vec::new(); 4];
            let mut out: Vec<Vec<Timestamp>> = vec![Vec::new(); 4];
            let mut promise = Timestamp::MIN;
            for (turn, (probe, which, send)) in moves.into_iter().enumerate() {
                let now = at(turn as i64);
                if send || open.is_empty() {
                    let ticket = release.sent(probe, now).unwrap();
                    prop_assert!(release.in_flight(ticket));
                    sent[probe].push(now);
                    open.push((ticket, now));
                } else {
                    let (ticket, _) = open.remove(which.index(open.len()));
                    prop_assert_eq!(release.decide(ticket, REPLY), Decided::Counted);
                    prop_assert!(!release.in_flight(ticket));
                }
                for released in release.take().0 {
                    prop_assert!(released.at >= promise);
                    out[released.probe].push(released.at);
                }
                let oldest = release.oldest_in_flight();
                prop_assert_eq!(oldest.is_none(), open.is_empty());
                if let Some(oldest) = oldest {
                    prop_assert!(open.iter().all(|(_, at)| *at >= oldest));
                    promise = oldest;
                }
            }
            for (ticket, _) in open {
                release.decide(ticket, TIMEOUT);
            }
            for released in release.take().0 {
                out[released.probe].push(released.at);
            }
            prop_assert_eq!(out, sent);
        }
    }
}
