//! Tells a way that swallows large packets from one that swallows all: a probe of large packets whose sending met with
//! silence is compared with the small ones sent to the same target around that time. Pure.
//!
//! A router that drops what is too large and whose word of it is dropped in turn is the black hole of RFC 2923, section 2.1.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crosswatch_shared::observation::{Lost, Outcome};

use crate::burst::{APART, Decision};
use crate::engine::{Probe, Protocol};

/// What is compared.
#[derive(Debug)]
pub(crate) struct Beside {
    /// By place in the list of probes.
    large: Vec<Option<Large>>,
    small: Vec<Option<Small>>,
    waiting: Vec<Waiting>,
}

/// A probe of large packets.
#[derive(Clone, Copy, Debug)]
struct Large {
    beside: usize,
    /// From the first packet to the last.
    span: Duration,
}

/// A probe of small packets that another is compared with.
#[derive(Debug)]
struct Small {
    every: Duration,
    timeout: Duration,
    /// How long its sendings are remembered.
    keep: Duration,
    sendings: VecDeque<Sending>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    number: u64,
    begun: Instant,
    fate: Option<Went>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Replied,
    Lost,
    /// Says nothing of the way.
    Local,
}

/// A sending of large packets that was lost, and of which it is not yet known why.
#[derive(Debug)]
struct Waiting {
    decision: Decision,
    large: Large,
    until: Instant,
}

impl Beside {
    pub(crate) fn new(probes: &[Probe]) -> Self {
        let large: Vec<Option<Large>> = probes
            .iter()
            .map(|probe| {
                probe.size.filter(|_| probe.protocol == Protocol::Icmp)?;
                let beside =
                    probe.beside.filter(|&place| probes.get(place).is_some_and(|of| of.size.is_none()))?;
                Some(Large { beside, span: APART * probe.burst.saturating_sub(1) })
            })
            .collect();
        let mut small: Vec<Option<Small>> = probes.iter().map(|_| None).collect();
        for (probe, large) in probes.iter().zip(&large) {
            let Some((of, slot)) =
                large.and_then(|large| Some((probes.get(large.beside)?, small.get_mut(large.beside)?)))
            else {
                continue;
            };
            let keep = probe.timeout + of.timeout + of.every * 3 + APART * (probe.burst + of.burst);
            let before = slot.as_ref().map_or(Duration::ZERO, |small| small.keep);
            let timeout = of.timeout + APART * of.burst;
            *slot =
                Some(Small { every: of.every, timeout, keep: keep.max(before), sendings: VecDeque::new() });
        }
        Self { large, small, waiting: Vec::new() }
    }

    /// A sending begins.
    pub(crate) fn begin(&mut self, probe: usize, number: u64, begun: Instant) {
        if let Some(Some(small)) = self.small.get_mut(probe) {
            while small.sendings.pop_front_if(|sending| sending.begun + small.keep < begun).is_some() {}
            small.sendings.push_back(Sending { number, begun, fate: None });
        }
    }

    /// A sending is decided. Gives it back if there is nothing to compare; else it is given by [`Beside::settle`].
    pub(crate) fn decide(&mut self, decision: Decision) -> Option<Decision> {
        let probe = decision.ticket.probe as usize;
        if let Some(Some(small)) = self.small.get_mut(probe)
            && let Some(sending) =
                small.sendings.iter_mut().find(|sending| sending.number == decision.ticket.number)
        {
            sending.fate = Some(match decision.outcome {
                Outcome::Reply { .. } => {
                    let whole = decision.detail.as_ref().is_none_or(|detail| !detail.burst.contains(&None));
                    match (whole, decision.local) {
                        (false, _) => Went::Lost,
                        (true, 0) => Went::Replied,
                        // Not all of them were on the way.
                        (true, _) => Went::Local,
                    }
                }
                Outcome::Lost(Lost::Local) => Went::Local,
                Outcome::Lost(_) => Went::Lost,
            });
        }
        let large = self.large.get(probe).copied().flatten();
        match large {
            Some(large) if decision.outcome == Outcome::Lost(Lost::Timeout) => {
                let small = self.small.get(large.beside).and_then(Option::as_ref);
                let patience = small.map_or(Duration::ZERO, |small| large.span + small.every + small.timeout);
                let until = decision.begun + patience;
                self.waiting.push(Waiting { decision, large, until });
                None
            }
            _ => Some(decision),
        }
    }

    /// Those of which it is known by now why they were lost.
    pub(crate) fn settle(&mut self, now: Instant, mut each: impl FnMut(Decision)) {
        let small = &self.small;
        self.waiting.retain_mut(|waiting| {
            let compared = small.get(waiting.large.beside).and_then(Option::as_ref);
            let Some(lost) = compared.map_or(Some(Lost::Timeout), |small| small.judge(waiting, now)) else {
                return true;
            };
            waiting.decision.outcome = Outcome::Lost(lost);
            each(waiting.decision.clone());
            false
        });
    }

    /// When one must be settled.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }
}

impl Small {
    /// Why it was lost, once that is known: too big, where all small ones sent from an interval before to an interval after
    /// were answered, one of them at least that was sent after the large ones began.
    fn judge(&self, waiting: &Waiting, now: Instant) -> Option<Lost> {
        let begun = waiting.decision.begun;
        let ended = begun + waiting.large.span;
        let around = || {
            let sendings = self.sendings.iter();
            sendings.filter(move |of| of.begun + self.every >= begun && of.begun <= ended + self.every)
        };
        let went = |which| around().any(|of| of.fate == which);
        if went(Some(Went::Lost)) {
            return Some(Lost::Timeout);
        }
        let after = around().any(|of| of.begun >= begun && of.fate == Some(Went::Replied));
        let open = around().any(|of| of.begun <= ended && of.fate.is_none());
        if after && !open {
            Some(Lost::TooBig)
        } else if now >= waiting.until {
            Some(if went(Some(Went::Replied)) && !went(None) { Lost::TooBig } else { Lost::Timeout })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Ticket;

    const REPLY: Outcome = Outcome::Reply { rtt_ms: 1.0 };
    const TIMEOUT: Outcome = Outcome::Lost(Lost::Timeout);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn probes() -> Vec<Probe> {
        let small = Probe {
            protocol: Protocol::Icmp,
            address: None,
            every: ms(100),
            timeout: ms(300),
            burst: 1,
            size: None,
            beside: None,
        };
        let large = Probe { burst: 3, size: Some(1400), beside: Some(0), ..small.clone() };
        vec![small, large]
    }

    fn decision(probe: u32, number: u64, begun: Instant, outcome: Outcome) -> Decision {
        Decision { ticket: Ticket { probe, number }, begun, outcome, detail: None, local: 0, why: None }
    }

    /// Large ones sent at 1,000 ms and silent; small ones as given, by (sent, answered). What is settled of the large
    /// one, at `at` ms.
    fn settled(smalls: &[(u64, Option<bool>)], at: u64) -> Option<Lost> {
        let start = Instant::now();
        let mut beside = Beside::new(&probes());
        for (number, &(sent, answered)) in (0..).zip(smalls) {
            let begun = start + ms(sent);
            beside.begin(0, number, begun);
            if let Some(answered) = answered {
                let outcome = if answered { REPLY } else { TIMEOUT };
                assert!(beside.decide(decision(0, number, begun, outcome)).is_some());
            }
        }
        assert_eq!(beside.decide(decision(1, 0, start + ms(1000), TIMEOUT)), None);
        let mut found = None;
        beside.settle(start + ms(at), |decision| found = Some(decision.outcome));
        found.map(|outcome| match outcome {
            Outcome::Lost(lost) => lost,
            Outcome::Reply { .. } => panic!("{outcome:?}"),
        })
    }

    #[test]
    fn silence_beside_answers_is_too_big() {
        assert_eq!(settled(&[(950, Some(true)), (1050, Some(true))], 1300), Some(Lost::TooBig));
    }

    #[test]
    fn silence_beside_silence_is_a_timeout_whichever_was_first() {
        assert_eq!(settled(&[(950, Some(true)), (1050, Some(false))], 1300), Some(Lost::Timeout));
        assert_eq!(settled(&[(950, Some(false)), (1050, Some(true))], 1300), Some(Lost::Timeout));
        assert_eq!(settled(&[], 1500), Some(Lost::Timeout), "nothing to compare with");
    }

    #[test]
    fn an_outage_that_begins_with_the_large_ones_is_waited_for() {
        assert_eq!(settled(&[(950, Some(true)), (1050, None)], 1300), None);
        assert_eq!(settled(&[(950, Some(true)), (1050, None)], 1500), Some(Lost::Timeout));
    }

    #[test]
    fn what_was_sent_at_another_time_says_nothing() {
        let long_ago = [(700, Some(false)), (950, Some(true)), (1050, Some(true)), (1250, Some(false))];
        assert_eq!(settled(&long_ago, 1310), Some(Lost::TooBig));
    }
}
