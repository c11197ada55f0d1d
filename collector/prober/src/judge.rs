//! Outcomes made of what was heard, and the accounts kept of it.

use std::time::Instant;

use crosswatch_shared::observation::{Lost, Outcome};

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
        let silent = matches!(decision.outcome, Outcome::Lost(Lost::Timeout | Lost::TooBig));
        if silent && self.suspended.is_some_and(|at| at >= decision.begun) {
            decision.outcome = Outcome::Lost(Lost::Local);
            decision.why =
                Some("the machine was suspended, or its clock set, while it was waited for".to_owned());
        }
        if decision.outcome == Outcome::Lost(Lost::Local) {
            let account = self.account(protocol);
            account.local += 1;
            account.local_error = decision.why;
        }
        self.release.decide_with(decision.ticket, decision.outcome, decision.detail);
    }
}
