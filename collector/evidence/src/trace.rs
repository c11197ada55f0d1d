//! A traceroute: which TTLs are still wanted, and what the answers make of the path. Pure.

use std::net::IpAddr;
use std::time::Duration;

use crosswatch_shared::evidence::{HOPS, Hop, Path, Said};

/// An answer to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The TTL it was sent with.
    pub ttl: u8,
    /// Who answered; none where this machine did, of its own.
    pub from: Option<IpAddr>,
    /// What.
    pub said: Said,
    /// The MTU that was named, in bytes.
    pub mtu: Option<u32>,
    /// How long after sending; none where it is not certain which packet was answered.
    pub rtt: Option<Duration>,
}

/// What is known of a path so far.
#[derive(Clone, Debug)]
pub struct Trace {
    target: IpAddr,
    own: Option<IpAddr>,
    /// By TTL; the first is this machine.
    hops: Vec<Option<Hop>>,
}

impl Trace {
    /// Nothing is known of the path to the target, from this address of our own.
    #[must_use]
    pub fn new(target: IpAddr, own: Option<IpAddr>) -> Self {
        Self { target, own, hops: vec![None; usize::from(HOPS) + 1] }
    }

    /// Takes an answer; the first for a TTL counts.
    pub fn answered(&mut self, answer: Answer) {
        let Answer { ttl, from, said, mtu, rtt } = answer;
        let by_us =
            from != Some(self.target) && from.is_none_or(|from| Some(from) == self.own || from.is_loopback());
        // Our own kernel speaks where the packet never left, whatever its TTL.
        let ttl = if by_us { 0 } else { ttl };
        let address = from.or(self.own);
        if let Some(place @ None) = self.hops.get_mut(usize::from(ttl)) {
            // How long our own kernel asked for a neighbour is no round trip.
            let rtt_ms = rtt.filter(|_| !by_us).map(crate::milliseconds);
            *place = Some(Hop { ttl, address, rtt_ms, said, mtu });
        }
    }

    /// Whether a packet with this TTL could tell something new.
    #[must_use]
    pub fn wants(&self, ttl: u8) -> bool {
        (1..=HOPS).contains(&ttl)
            && self.end().is_none_or(|end| ttl < end)
            && self.hops.get(usize::from(ttl)).is_some_and(Option::is_none)
    }

    /// Whether there is nothing more to learn.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_ended() && (1..=HOPS).all(|ttl| !self.wants(ttl))
    }

    /// Whether it is known where packets end up.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.end().is_some()
    }

    /// The path as far as it is known.
    #[must_use]
    pub fn finish(mut self) -> Path {
        let last = self.hops.iter().flatten().map(|hop| hop.ttl).max();
        let Some(last) = self.end().or(last) else {
            return Path { hidden_from: Some(1), ..Path::default() };
        };
        let hidden_from = (!self.is_ended()).then_some(last.saturating_add(1)).filter(|&ttl| ttl <= HOPS);
        let hidden = |ttl| Hop { ttl, address: None, rtt_ms: None, said: Said::Hidden, mtu: None };
        let mut hops: Vec<_> = (last.min(1)..=last)
            .filter_map(|ttl| Some(self.hops.get_mut(usize::from(ttl))?.take().unwrap_or(hidden(ttl))))
            .collect();
        let reached = hops.last().is_some_and(|hop| hop.address == Some(self.target));
        if !reached && let Some(end) = hops.pop_if(|hop| hop.said.is_final()) {
            // A router that refuses does so whatever TTL reaches it, and says so only so often a second: it may be any
            // of the hidden ones before.
            while hops.pop_if(|hop| hop.said == Said::Hidden).is_some() {}
            hops.push(end);
        }
        Path { hops, reached, hidden_from }
    }

    /// The least TTL whose packet came no further.
    fn end(&self) -> Option<u8> {
        self.hops.iter().flatten().find(|hop| hop.said.is_final()).map(|hop| hop.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn router(ttl: u8) -> IpAddr {
        [192, 0, 2, ttl].into()
    }

    fn answer(ttl: u8, from: IpAddr, said: Said) -> Answer {
        Answer { ttl, from: Some(from), said, mtu: None, rtt: Some(Duration::from_micros(1500)) }
    }

    fn traced(answers: &[Answer]) -> (Trace, Path) {
        let mut trace = Trace::new(TARGET, Some(OWN));
        answers.iter().for_each(|&answer| trace.answered(answer));
        (trace.clone(), trace.finish())
    }

    #[test]
    fn it_ends_at_the_first_that_reaches_the_target() {
        let (trace, path) = traced(&[
            answer(4, TARGET, Said::Reply),
            answer(3, TARGET, Said::Reply),
            answer(1, router(1), Said::TimeExceeded),
        ]);
        assert!(trace.wants(2) && !trace.wants(1) && !trace.wants(3) && !trace.wants(9));
        assert!(!trace.is_settled());
        let seen: Vec<_> = path.hops.iter().map(|hop| (hop.ttl, hop.address, hop.said)).collect();
        assert_eq!(
            seen,
            [
                (1, Some(router(1)), Said::TimeExceeded),
                (2, None, Said::Hidden),
                (3, Some(TARGET), Said::Reply)
            ]
        );
        assert_eq!((path.reached, path.hidden_from, path.hops[0].rtt_ms), (true, None, Some(1.5)));
    }

    #[test]
    fn what_is_hidden_at_the_end_is_one_number() {
        let (trace, path) = traced(&[answer(2, router(2), Said::TimeExceeded)]);
        assert!(!trace.is_ended() && trace.wants(1) && trace.wants(30) && !trace.wants(31));
        assert_eq!((path.hops.len(), path.reached, path.hidden_from), (2, false, Some(3)));
        assert_eq!(traced(&[]).1, Path { hops: vec![], reached: false, hidden_from: Some(1) });
    }

    #[test]
    fn what_our_own_kernel_says_is_hop_0_and_the_end() {
        for from in [Some(OWN), None, Some([127, 0, 0, 1].into())] {
            let said = Answer { from, ..answer(5, OWN, Said::HostUnreachable) };
            let (trace, path) = traced(&[said]);
            assert!(trace.is_settled());
            assert_eq!((path.hops.len(), path.hops[0].ttl, path.reached), (1, 0, false), "{from:?}");
            assert_eq!(path.hops[0].rtt_ms, None);
        }
    }

    #[test]
    fn a_target_that_refuses_is_reached() {
        let (_, path) = traced(&[answer(1, TARGET, Said::PortUnreachable)]);
        assert!(path.reached);
        let (trace, path) = traced(&[answer(1, router(1), Said::NetUnreachable)]);
        assert!(trace.is_settled() && !path.reached);
    }

    #[test]
    fn a_refusal_heard_of_late_is_one_hop_not_many_hidden_ones() {
        let (_, path) =
            traced(&[answer(2, router(2), Said::TimeExceeded), answer(7, router(3), Said::HostUnreachable)]);
        let seen: Vec<_> = path.hops.iter().map(|hop| (hop.ttl, hop.address)).collect();
        assert_eq!(seen, [(1, None), (2, Some(router(2))), (7, Some(router(3)))]);
    }

    proptest! {
        #[test]
        fn any_answers_make_a_path_within_bounds(
            answers in prop::collection::vec((any::<u8>(), 0u8..4, prop::sample::select(vec![
                Said::TimeExceeded, Said::Reply, Said::HostUnreachable, Said::Other,
            ])), 0..60)
        ) {
            let answers: Vec<_> = answers
                .into_iter()
                .map(|(ttl, from, said)| answer(ttl, [TARGET, OWN, router(1), router(2)][usize::from(from)], said))
                .collect();
            let (trace, path) = traced(&answers);
            prop_assert!(path.hops.len() <= usize::from(HOPS));
            prop_assert!(path.hops.is_sorted_by_key(|hop| hop.ttl));
            prop_assert_eq!(trace.is_ended(), path.hops.last().is_some_and(|hop| hop.said.is_final()));
            prop_assert!(path.hops.iter().rev().skip(1).all(|hop| !hop.said.is_final()));
            prop_assert!(path.hops.last().is_none_or(|hop| hop.said != Said::Hidden));
        }
    }
}
