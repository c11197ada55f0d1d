//! The packets in flight over one ICMP socket, found by sequence number. Pure.
//!
//! A ring of slots, as many as the probes can have in flight, and some more: what is decided stays in its slot until the
//! slot is used again, so that a late reply and a duplicate are known for what they are.

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::Mark;
use crate::stamp::Moment;

/// The most slots a socket can use: its sequence numbers.
pub(crate) const MOST: usize = 1 << 16;

/// So many slots in flight are passed over for a free one; then the socket counts as full.
const TRIES: usize = 64;

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) mark: Mark,
    pub(crate) to: IpAddr,
    pub(crate) timeout: Duration,
    pub(crate) sent: Moment,
    /// The kernel's stamp of sending.
    pub(crate) tx: Option<i64>,
    pub(crate) stage: Stage,
}

/// What is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Flying,
    Replied,
    Lost,
}

#[derive(Debug)]
pub(crate) struct Flights {
    /// By the lower bits of the sequence number; allocated at the first use.
    slots: Vec<Option<(u16, Flight)>>,
    /// By the lower bits of the kernel's count of packets: which sequence number that packet had.
    keys: Vec<u16>,
    capacity: usize,
    next: u16,
    /// What the kernel will call the next packet (`SOF_TIMESTAMPING_OPT_ID`).
    next_key: u32,
}

impl Flights {
    /// With room for so many, rounded up to a power of two and held between 256 and [`MOST`].
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(256, MOST).next_power_of_two();
        Self { slots: Vec::new(), keys: Vec::new(), capacity, next: 0, next_key: 0 }
    }

    /// Whether there ever was one.
    pub(crate) fn is_used(&self) -> bool {
        !self.slots.is_empty()
    }

    /// A packet is about to be sent; under which sequence number. `None`: too many are in flight.
    pub(crate) fn add(&mut self, flight: Flight) -> Option<u16> {
        if self.slots.is_empty() {
            self.slots = vec![None; self.capacity];
            self.keys = vec![0; self.capacity];
        }
        for _ in 0..TRIES {
            let sequence = self.next;
            self.next = self.next.wrapping_add(1);
            let place = self.place(usize::from(sequence));
            let slot = self.slots.get_mut(place)?;
            if !matches!(slot, Some((_, Flight { stage: Stage::Flying, .. }))) {
                *slot = Some((sequence, flight));
                return Some(sequence);
            }
        }
        None
    }

    /// It was sent: the next of the kernel's numbers is its.
    pub(crate) fn sent(&mut self, sequence: u16) {
        let place = self.place(self.next_key as usize);
        if let Some(key) = self.keys.get_mut(place) {
            *key = sequence;
        }
        self.next_key = self.next_key.wrapping_add(1);
    }

    /// It was not sent.
    pub(crate) fn remove(&mut self, sequence: u16) {
        let place = self.place(usize::from(sequence));
        if let Some(slot) =
            self.slots.get_mut(place).filter(|slot| slot.is_some_and(|(of, _)| of == sequence))
        {
            *slot = None;
        }
    }

    /// The kernel counts from 0 again.
    pub(crate) fn recount(&mut self) {
        self.next_key = 0;
    }

    /// The kernel stamped the sending of the packet that it calls so. A stamp of before the sending belongs to another
    /// packet, from before the kernel counted anew.
    pub(crate) fn stamped(&mut self, key: u32, tx: i64) {
        let Some(&sequence) = self.keys.get(self.place(key as usize)) else { return };
        if let Some(flight) = self.get(sequence)
            && flight.tx.is_none()
            && tx >= flight.sent.wall
        {
            flight.tx = Some(tx);
        }
    }

    /// The packet last sent under this number.
    pub(crate) fn get(&mut self, sequence: u16) -> Option<&mut Flight> {
        let place = self.place(usize::from(sequence));
        let (of, flight) = self.slots.get_mut(place)?.as_mut()?;
        (*of == sequence).then_some(flight)
    }

    fn place(&self, number: usize) -> usize {
        number & (self.capacity - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Ticket;
    use std::net::Ipv4Addr;

    fn flight(number: u64) -> Flight {
        Flight {
            mark: Mark { ticket: Ticket { probe: 0, number }, index: 0 },
            to: Ipv4Addr::LOCALHOST.into(),
            timeout: Duration::from_secs(1),
            sent: Moment { steady: std::time::Instant::now(), wall: 1_000 },
            tx: None,
            stage: Stage::Flying,
        }
    }

    #[test]
    fn a_slot_in_flight_is_never_given_away() {
        let mut flights = Flights::new(MOST);
        let sequences: Vec<_> = (0..MOST as u64).map(|number| flights.add(flight(number)).unwrap()).collect();
        assert_eq!(flights.add(flight(0)), None, "all 65,536 are in flight");
        flights.get(70).unwrap().stage = Stage::Replied;
        assert_eq!(flights.add(flight(99)), Some(70));
        assert_eq!(flights.get(71).unwrap().mark.ticket.number, 71);
        assert_eq!(sequences.len(), MOST);
    }

    #[test]
    fn a_number_of_an_older_turn_is_unknown() {
        let mut flights = Flights::new(256);
        for number in 0..300 {
            let sequence = flights.add(flight(number)).unwrap();
            flights.get(sequence).unwrap().stage = Stage::Lost;
        }
        assert!(flights.get(43).is_none(), "its slot was used again");
        assert_eq!(flights.get(299).unwrap().mark.ticket.number, 299);
    }

    #[test]
    fn stamps_find_their_packets_also_past_one_that_was_not_sent() {
        let mut flights = Flights::new(256);
        let [first, failed, last] = [0, 1, 2].map(|number| flights.add(flight(number)).unwrap());
        flights.sent(first);
        flights.remove(failed);
        flights.sent(last);
        // A stamp may be read after the reply.
        flights.get(last).unwrap().stage = Stage::Replied;
        flights.stamped(1, 1_500);
        flights.stamped(0, 999);
        assert_eq!(flights.get(last).unwrap().tx, Some(1_500));
        assert_eq!(flights.get(first).unwrap().tx, None, "of before it was sent");
        assert!(flights.get(failed).is_none());
    }
}
