//! What the packets of one sending come to: one outcome, and what more there is to tell of it. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crosswatch_shared::observation::{Detail, Lost, Outcome, Way};

use crate::heard::{Fate, Reply, Ways};
use crate::packet::Mark;
use crate::release::Ticket;
use crate::schedule::TICK;

/// Between the packets of a burst.
pub(crate) const APART: Duration = Duration::from_millis(5);

/// What the sendings of one probe have come to so far.
#[derive(Debug, Default)]
pub(crate) struct Bursts {
    /// The number of the first.
    first: u64,
    open: VecDeque<Burst>,
    /// The interarrival jitter, in milliseconds.
    jitter: f64,
}

/// One sending.
#[derive(Debug)]
struct Burst {
    begun: Instant,
    late: Duration,
    fates: Fates,
    done: bool,
}

/// By place in the burst; most probes send one packet, which needs no list.
#[derive(Debug)]
enum Fates {
    One,
    Many { fates: Vec<Option<Fate>>, open: usize },
}

/// A sending that is decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) ticket: Ticket,
    /// When its first packet was sent.
    pub(crate) begun: Instant,
    pub(crate) outcome: Outcome,
    pub(crate) detail: Option<Box<Detail>>,
    /// How many of its packets this machine is to blame for. They tell nothing of the link, and stand in no detail.
    pub(crate) local: u32,
    /// The reason of the last of them.
    pub(crate) why: Option<String>,
}

impl Bursts {
    /// A sending of so many packets begins, so much too late. Sendings are numbered from 0 without a gap.
    pub(crate) fn begin(&mut self, packets: u32, begun: Instant, late: Duration) {
        let fates = match packets {
            0 | 1 => Fates::One,
            packets => Fates::Many { fates: vec![None; packets as usize], open: packets as usize },
        };
        self.open.push_back(Burst { begun, late, fates, done: false });
    }

    /// What became of a packet; the decision if it was the last of its sending that was open.
    pub(crate) fn hear(&mut self, mark: Mark, fate: Fate) -> Option<Decision> {
        let place = usize::try_from(mark.ticket.number.checked_sub(self.first)?).ok()?;
        let burst = self.open.get_mut(place).filter(|burst| !burst.done)?;
        let several = !matches!(burst.fates, Fates::One);
        let fates = match &mut burst.fates {
            Fates::One if mark.index == 0 => vec![fate],
            Fates::One => return None,
            Fates::Many { fates, open } => {
                let slot = fates.get_mut(mark.index as usize).filter(|slot| slot.is_none())?;
                *slot = Some(fate);
                *open -= 1;
                if *open > 0 {
                    return None;
                }
                std::mem::take(fates).into_iter().flatten().collect()
            }
        };
        burst.done = true;
        let (begun, late) = (burst.begun, burst.late);
        while self.open.pop_front_if(|burst| burst.done).is_some() {
            self.first += 1;
        }
        let mut detail = Detail::default();
        if late > TICK {
            detail.late_ms = Some(millis(late));
        }
        let replies: Vec<Reply> = fates.iter().filter_map(reply).collect();
        detail.user_stamped = replies.iter().any(|reply| reply.user_stamped);
        (detail.forward, detail.back) = ways(&replies);
        if several {
            let told = fates.iter().filter(|fate| !matches!(fate, Fate::Local(_)));
            detail.burst = told.map(|fate| reply(fate).map(|reply| millis(reply.rtt))).collect();
            detail.reordered = reordered(&replies);
            detail.jitter_ms = self.jitter(&replies);
        }
        let outcome = match median(&replies) {
            Some(rtt) => Outcome::Reply { rtt_ms: millis(rtt) },
            None => loss(&fates, &mut detail),
        };
        let (mut local, mut why) = (0, None);
        for fate in fates {
            if let Fate::Local(reason) = fate {
                (local, why) = (local + 1, Some(reason));
            }
        }
        let detail = (detail != Detail::default()).then(|| Box::new(detail));
        Some(Decision { ticket: mark.ticket, begun, outcome, detail, local, why })
    }

    /// RFC 3550, section 6.4.1, over the replies in the order of their coming; `None` where there are less than two.
    fn jitter(&mut self, replies: &[Reply]) -> Option<f64> {
        let mut replies = replies.to_vec();
        replies.sort_by_key(|reply| reply.arrived);
        for pair in replies.windows(2) {
            let [before, after] = pair else { continue };
            let difference = before.rtt.abs_diff(after.rtt).as_secs_f64() * 1e3;
            self.jitter += (difference - self.jitter) / 16.0;
        }
        // To the microsecond, as round-trip times are.
        (replies.len() > 1).then(|| (self.jitter * 1e3).round() / 1e3)
    }
}

fn reply(fate: &Fate) -> Option<Reply> {
    match fate {
        Fate::Reply(reply) => Some(*reply),
        _ => None,
    }
}

/// The lower one of two in the middle.
fn median(replies: &[Reply]) -> Option<Duration> {
    let mut rtts: Vec<Duration> = replies.iter().map(|reply| reply.rtt).collect();
    rtts.sort_unstable();
    rtts.get(rtts.len().checked_sub(1)? / 2).copied()
}

/// What befell packets either way since the sending before: losses add up, and the last reply has the delay's change.
fn ways(replies: &[Reply]) -> (Option<Way>, Option<Way>) {
    let ways = || replies.iter().filter_map(|reply| reply.ways);
    let sum = |of: fn(Ways) -> Way| {
        let add = |sum: Way, way: Way| Way { lost: sum.lost.saturating_add(way.lost), ..way };
        ways().map(of).reduce(add)
    };
    (sum(|ways| ways.forward), sum(|ways| ways.back))
}

/// How many came after one that was sent later (RFC 4737, section 3).
fn reordered(in_order_of_sending: &[Reply]) -> u32 {
    let mut first_of_later = i64::MAX;
    let mut count = 0;
    for reply in in_order_of_sending.iter().rev() {
        count += u32::from(reply.arrived > first_of_later);
        first_of_later = first_of_later.min(reply.arrived);
    }
    count
}

/// Of several losses the one that says most of the way counts: what somebody said before silence, and silence before what
/// this machine is to blame for.
fn loss(fates: &[Fate], detail: &mut Detail) -> Outcome {
    let mut worst = Lost::Local;
    let rank = |lost| match lost {
        Lost::Local => 0,
        Lost::Timeout => 1,
        Lost::Unreachable => 2,
        Lost::Refused => 3,
        Lost::TooBig => 4,
    };
    for fate in fates {
        let lost = match fate {
            Fate::Reply(_) => continue,
            Fate::Lost(lost) => *lost,
            Fate::Local(_) => Lost::Local,
            Fate::TooBig(mtu) => {
                detail.mtu = match (detail.mtu, *mtu) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                Lost::TooBig
            }
        };
        if rank(lost) > rank(worst) {
            worst = lost;
        }
    }
    Outcome::Lost(worst)
}

/// To the microsecond: what is finer is this machine's noise, and would double a message's size.
fn millis(time: Duration) -> f64 {
    let micros = u32::try_from((time.as_nanos() + 500) / 1_000).unwrap_or(u32::MAX);
    f64::from(micros) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(number: u64, index: u32) -> Mark {
        Mark { ticket: Ticket { probe: 0, number }, index }
    }

    /// A reply to the packet sent at `index` times 5 ms.
    fn reply_of(index: u32, rtt_ms: u64) -> Fate {
        let arrived = i64::from(index) * 5_000_000 + i64::try_from(rtt_ms).unwrap() * 1_000_000;
        Fate::Reply(Reply { rtt: Duration::from_millis(rtt_ms), arrived, user_stamped: false, ways: None })
    }

    fn decide(fates: Vec<Fate>) -> Decision {
        let mut bursts = Bursts::default();
        bursts.begin(u32::try_from(fates.len()).unwrap(), Instant::now(), Duration::ZERO);
        let mut decided = None;
        for (index, fate) in (0..).zip(fates) {
            assert_eq!(decided, None, "before the last is known");
            decided = bursts.hear(mark(0, index), fate);
        }
        decided.unwrap()
    }

    #[test]
    fn one_packet_in_time_has_nothing_more_to_tell() {
        let decision = decide(vec![reply_of(0, 7)]);
        assert_eq!((decision.outcome, decision.detail), (Outcome::Reply { rtt_ms: 7.0 }, None));
    }

    #[test]
    fn a_burst_is_its_median_and_tells_of_each() {
        // The fourth overtakes the third, the first comes last.
        let fates = vec![reply_of(0, 40), Fate::Lost(Lost::Timeout), reply_of(2, 20), reply_of(3, 10)];
        let decision = decide(fates);
        assert_eq!(decision.outcome, Outcome::Reply { rtt_ms: 20.0 });
        let detail = decision.detail.unwrap();
        assert_eq!(detail.burst, [Some(40.0), None, Some(20.0), Some(10.0)]);
        assert_eq!(detail.reordered, 2);
        // In the order of coming 10, 20, 40: J = 10/16, then J += (20 - J)/16.
        let jitter = 10.0 / 16.0;
        assert!((detail.jitter_ms.unwrap() - (jitter + (20.0 - jitter) / 16.0)).abs() < 0.001);
        assert_eq!(
            decide(vec![reply_of(0, 3), reply_of(1, 9)]).outcome,
            Outcome::Reply { rtt_ms: 3.0 },
            "the lower"
        );
    }

    #[test]
    fn a_packet_that_this_machine_lost_is_none_of_the_bursts_but_is_counted_with_its_reason() {
        let local = || Fate::Local("sending: ENOBUFS".to_owned());
        let decision = decide(vec![reply_of(0, 4), local(), Fate::Lost(Lost::Timeout), local()]);
        assert_eq!(decision.outcome, Outcome::Reply { rtt_ms: 4.0 });
        assert_eq!(decision.detail.unwrap().burst, [Some(4.0), None]);
        assert_eq!((decision.local, decision.why.as_deref()), (2, Some("sending: ENOBUFS")));
        let decision = decide(vec![local(), Fate::Lost(Lost::Timeout), local()]);
        assert_eq!(decision.outcome, Outcome::Lost(Lost::Timeout));
        assert_eq!(decision.detail.unwrap().burst, [None], "one packet tells of the link, and it was lost");
        assert_eq!(decision.local, 2);
        let decision = decide(vec![local(), local()]);
        assert_eq!((decision.outcome, decision.detail), (Outcome::Lost(Lost::Local), None));
        assert_eq!(decision.local, 2);
    }

    #[test]
    fn what_somebody_said_counts_before_silence_and_silence_before_our_own_fault() {
        let (timeout, local) = (Fate::Lost(Lost::Timeout), Fate::Local("full".to_owned()));
        let lost = |fates| decide(fates).outcome;
        assert_eq!(lost(vec![timeout.clone(), local.clone()]), Outcome::Lost(Lost::Timeout));
        assert_eq!(
            lost(vec![Fate::Lost(Lost::Unreachable), timeout.clone()]),
            Outcome::Lost(Lost::Unreachable)
        );
        let too_big = decide(vec![Fate::TooBig(None), Fate::TooBig(Some(1400)), timeout]);
        assert_eq!((too_big.outcome, too_big.detail.unwrap().mtu), (Outcome::Lost(Lost::TooBig), Some(1400)));
        let local = decide(vec![local.clone(), local]);
        assert_eq!((local.outcome, local.why.as_deref()), (Outcome::Lost(Lost::Local), Some("full")));
    }

    #[test]
    fn lateness_is_told_from_a_tick_on() {
        for (late, told) in [(10, None), (11, Some(11.0))] {
            let mut bursts = Bursts::default();
            bursts.begin(1, Instant::now(), Duration::from_millis(late));
            let decision = bursts.hear(mark(0, 0), reply_of(0, 1)).unwrap();
            assert_eq!(decision.detail.and_then(|detail| detail.late_ms), told);
        }
    }

    proptest! {
        /// In whatever order the fates come, of however many sendings: each is decided once, by its last.
        #[test]
        fn each_is_decided_once(
            sendings in prop::collection::vec(1u32..6, 1..20),
            order in prop::collection::vec(any::<prop::sample::Index>(), 120),
        ) {
            let mut bursts = Bursts::default();
            let mut open = Vec::new();
            for (number, &packets) in (0..).zip(&sendings) {
                bursts.begin(packets, Instant::now(), Duration::ZERO);
                open.extend((0..packets).map(|index| mark(number, index)));
            }
            let mut decided = Vec::new();
            for which in order {
                if open.is_empty() {
                    break;
                }
                let mark = open.remove(which.index(open.len()));
                let last = open.iter().all(|of| of.ticket != mark.ticket);
                let decision = bursts.hear(mark, reply_of(mark.index, 1));
                prop_assert_eq!(decision.is_some(), last);
                prop_assert_eq!(bursts.hear(mark, reply_of(mark.index, 1)), None, "twice");
                decided.extend(decision.map(|decision| decision.ticket.number));
            }
            decided.sort_unstable();
            prop_assert_eq!(decided, (0..sendings.len() as u64).collect::<Vec<_>>());
            prop_assert!(bursts.open.is_empty());
        }
    }
}
