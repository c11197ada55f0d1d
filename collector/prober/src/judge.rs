//! Outcomes made of what was heard, and the accounts kept of it.

use std::time::Instant;

use crosswatch_shared::observation::{Detail, Lost, Outcome};

use crate::burst::Decision;
use crate::engine::{Protocol, State};
use crate::heard::{Fate, Heard};
use crate::release::Decided;
use crate::run::Loop;

impl Loop {
    pub(crate) fn judge(&mut self, state: &mut State, heard: Vec<Heard>, now: Instant) {
        for heard in heard {
            match heard {
                Heard::Fate(mark, fate) => {
                    let place = mark.ticket.probe as usize;
                    if let Fate::Reply(reply) = &fate
                        && reply.user_stamped
                    {
                        state.account(self.protocol(place)).user_stamped += 1;
                    }
                    let decision = self.bursts.get_mut(place).and_then(|bursts| bursts.hear(mark, fate));
                    if let Some(decision) = decision.and_then(|decision| self.beside.decide(decision)) {
                        state.release(self.protocol(place), decision);
                    }
                }
                Heard::Late => state.icmp.late += 1,
                Heard::Duplicate => state.icmp.duplicate += 1,
                Heard::Stray => state.icmp.stray += 1,
                // Of what is in flight it came under another sequence number than it was sent with.
                Heard::Again(ticket) if state.release.in_flight(ticket) => state.icmp.stray += 1,
                // It is decided, so this only tells late from duplicate.
                Heard::Again(ticket) => match state.release.decide(ticket, Outcome::Lost(Lost::Timeout)) {
                    Decided::Duplicate => state.icmp.duplicate += 1,
                    Decided::Late => state.icmp.late += 1,
                    Decided::Counted | Decided::Unknown => state.icmp.stray += 1,
                },
            }
        }
        let mut settled = Vec::new();
        self.beside.settle(now, |decision| settled.push(decision));
        for decision in settled {
            state.release(self.protocol(decision.ticket.probe as usize), decision);
        }
    }

    fn protocol(&self, place: usize) -> Protocol {
        self.probes.get(place).map_or(Protocol::Icmp, |probe| probe.protocol)
    }
}

impl State {
    fn release(&mut self, protocol: Protocol, mut decision: Decision) {
        // That a packet is too big may be a router's word, which comes with the size that passes.
        let has_word = decision.detail.as_ref().is_some_and(|detail| detail.mtu.is_some());
        let silent = match decision.outcome {
            Outcome::Lost(Lost::Timeout) => true,
            Outcome::Lost(Lost::TooBig) => !has_word,
            _ => false,
        };
        let why = if self.suspended.is_some_and(|at| at >= decision.begun) {
            Some("the machine was suspended, or its clock set, while it was waited for")
        } else if self.stood_still.is_some_and(|until| until > decision.begun) {
            Some("this machine stood still while it was waited for")
        } else {
            None
        };
        if let Some(why) = why {
            let unanswered = decision.forget_silence(silent);
            if unanswered > 0 {
                decision.local += unanswered;
                decision.why = Some(why.to_owned());
            }
        }
        if decision.local > 0 {
            let account = self.account(protocol);
            account.local += u64::from(decision.local);
            account.local_error = decision.why;
        }
        self.decide(decision.ticket, decision.outcome, decision.detail);
    }
}

impl Decision {
    /// Takes what was not answered for this machine's own fault: packets of a burst that was answered in part, or the
    /// `whole` sending. Gives how many packets that are.
    fn forget_silence(&mut self, whole: bool) -> u32 {
        let Outcome::Reply { .. } = self.outcome else {
            if !whole {
                return 0;
            }
            self.outcome = Outcome::Lost(Lost::Local);
            let burst =
                self.detail.as_mut().map(|detail| std::mem::take(&mut detail.burst)).unwrap_or_default();
            self.detail.take_if(|detail| **detail == Detail::default());
            return u32::try_from(burst.len()).unwrap_or(u32::MAX).max(1);
        };
        let Some(detail) = &mut self.detail else { return 0 };
        let before = detail.burst.len();
        detail.burst.retain(Option::is_some);
        u32::try_from(before - detail.burst.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Probe;
    use crosswatch_shared::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn silence_over_a_suspension_or_a_standstill_is_local_and_a_reply_or_a_routers_word_is_not() {
        let start = Instant::now();
        let probe = Probe {
            protocol: Protocol::Icmp,
            address: None,
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            burst: 1,
            size: None,
            beside: None,
        };
        let mut state = State::new(&[probe], Box::new(|_, _| true), Timestamp::from_secs(1), start);
        state.suspended = Some(start + Duration::from_millis(500));
        state.stood_still = Some(start + Duration::from_millis(700));
        let (reply, silence) = (Outcome::Reply { rtt_ms: 1.0 }, Outcome::Lost(Lost::Timeout));
        let unreachable = Outcome::Lost(Lost::Unreachable);
        let cases = [
            (100, silence, Outcome::Lost(Lost::Local)),
            (100, reply, reply),
            (100, unreachable, unreachable),
            (600, silence, Outcome::Lost(Lost::Local)),
            (600, reply, reply),
            // What was sent at its end was not waited for while it lasted.
            (700, silence, silence),
        ];
        for (begun_ms, outcome, _) in cases {
            let begun = start + Duration::from_millis(begun_ms);
            let ticket = state.release.sent(0, Timestamp::from_secs(2)).unwrap();
            let decision = Decision { ticket, begun, outcome, detail: None, local: 0, why: None };
            state.release(Protocol::Icmp, decision);
        }
        let (released, _) = state.release.take();
        let outcomes: Vec<Outcome> = released.iter().map(|released| released.outcome).collect();
        assert_eq!(outcomes, cases.map(|(_, _, expected)| expected));
        assert_eq!(state.icmp.local, 2);
        assert!(state.icmp.local_error.as_ref().unwrap().contains("stood still"), "{:?}", state.icmp);
        let decision = Decision {
            ticket: state.release.sent(0, Timestamp::from_secs(2)).unwrap(),
            begun: start + Duration::from_millis(100),
            outcome: reply,
            detail: Some(Box::new(Detail { burst: vec![Some(1.0), None, None], ..Detail::default() })),
            local: 1,
            why: Some("full".to_owned()),
        };
        state.release(Protocol::Icmp, decision);
        let (released, _) = state.release.take();
        assert_eq!(released[0].detail.as_ref().unwrap().burst, [Some(1.0)], "of a burst what was answered");
        assert_eq!(state.icmp.local, 5);
        assert!(state.icmp.local_error.as_ref().unwrap().contains("suspended"), "{:?}", state.icmp);

        // A router's word, and silence beside what was answered.
        for (mtu, expected) in [(Some(1300), Lost::TooBig), (None, Lost::Local)] {
            let decision = Decision {
                ticket: state.release.sent(0, Timestamp::from_secs(2)).unwrap(),
                begun: start + Duration::from_millis(600),
                outcome: Outcome::Lost(Lost::TooBig),
                detail: mtu.map(|mtu| Box::new(Detail { mtu: Some(mtu), ..Detail::default() })),
                local: 0,
                why: None,
            };
            state.release(Protocol::Icmp, decision);
            assert_eq!(state.release.take().0[0].outcome, Outcome::Lost(expected));
        }
    }
}
