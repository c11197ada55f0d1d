//! ICMP echo, built and read: RFC 792 for IPv4, RFC 4443 for IPv6. Pure.
//!
//! The payload names the sending it belongs to and proves it with a keyed hash, so that nobody who has not seen the
//! request can answer it, and a stray never counts.

use std::hash::{BuildHasher, RandomState};

use crate::family::Family;
use crate::release::Ticket;

/// Bytes of a request: 8 of header, 24 of payload (probe, place in the burst, number, proof; big-endian). More may
/// follow, which counts for nothing; it must be zero.
pub const LENGTH: usize = HEADER + PAYLOAD;

/// The same without the ICMP header.
pub const PAYLOAD: usize = 24;

const HEADER: usize = 8;

/// One packet of one sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// Of which sending.
    pub ticket: Ticket,
    /// Its place in the burst, from 0.
    pub index: u32,
}

/// Proves marks; random for each process.
#[derive(Clone, Debug, Default)]
pub struct Secret(RandomState);

impl Secret {
    fn proof(&self, mark: Mark) -> u64 {
        self.0.hash_one(mark)
    }
}

/// Which way an echo message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Asks.
    Request,
    /// Answers.
    Reply,
}

/// An echo message read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// The identifier: which socket.
    pub id: u16,
    /// The sequence number.
    pub sequence: u16,
    /// What follows the header; cut short where a router quotes it.
    pub payload: &'a [u8],
}

/// Writes a request. On a raw IPv4 socket the checksum is ours to compute; ping sockets and raw `ICMPv6` sockets
/// have the kernel's, which overwrites this one.
#[must_use]
pub fn request(family: Family, id: u16, sequence: u16, mark: Mark, secret: &Secret) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = kind(family, Direction::Request);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..12].copy_from_slice(&mark.ticket.probe.to_be_bytes());
    packet[12..16].copy_from_slice(&mark.index.to_be_bytes());
    packet[16..24].copy_from_slice(&mark.ticket.number.to_be_bytes());
    packet[24..32].copy_from_slice(&secret.proof(mark).to_be_bytes());
    if family == Family::V4 {
        let checksum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&checksum);
    }
    packet
}

/// Reads an echo message that begins at the ICMP header; `None` when it is none of that direction.
#[must_use]
pub fn read(family: Family, direction: Direction, packet: &[u8]) -> Option<Echo<'_>> {
    let (header, payload) = packet.split_first_chunk::<HEADER>()?;
    let &[kind_read, code, _, _, id_high, id_low, sequence_high, sequence_low] = header;
    (kind_read == kind(family, direction) && code == 0).then_some(Echo {
        id: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([sequence_high, sequence_low]),
        payload,
    })
}

impl Echo<'_> {
    /// Which packet it is or answers; `None` when the payload is cut short, or is not of this process.
    #[must_use]
    pub fn mark(&self, secret: &Secret) -> Option<Mark> {
        let (probe, rest) = self.payload.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (proof, _) = rest.split_first_chunk()?;
        let ticket = Ticket { probe: u32::from_be_bytes(*probe), number: u64::from_be_bytes(*number) };
        let mark = Mark { ticket, index: u32::from_be_bytes(*index) };
        (secret.proof(mark) == u64::from_be_bytes(*proof)).then_some(mark)
    }
}

/// What follows an IPv4 header (RFC 791), which raw sockets put before each message.
#[must_use]
pub fn after_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let &first = packet.first()?;
    let length = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && length >= 20).then(|| packet.get(length..)).flatten()
}

const fn kind(family: Family, direction: Direction) -> u8 {
    match (family, direction) {
        (Family::V4, Direction::Request) => 8,
        (Family::V4, Direction::Reply) => 0,
        (Family::V6, Direction::Request) => 128,
        (Family::V6, Direction::Reply) => 129,
    }
}

/// The internet checksum (RFC 1071).
fn checksum(packet: &[u8]) -> u16 {
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u32::from(u16::from_be_bytes([high, low])),
            [high] => u32::from(high) << 8,
            _ => 0,
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn family() -> impl Strategy<Value = Family> {
        prop::sample::select(vec![Family::V4, Family::V6])
    }

    fn answered(mut packet: [u8; LENGTH], family: Family) -> [u8; LENGTH] {
        packet[0] = kind(family, Direction::Reply);
        packet
    }

    #[test]
    fn a_request_looks_as_the_rfc_draws_it() {
        let mark = Mark { ticket: Ticket { probe: 3, number: 0x0102_0304_0506_0708 }, index: 4 };
        let packet = request(Family::V4, 0xabcd, 0x1234, mark, &Secret::default());
        assert_eq!(packet[..2], [8, 0]);
        assert_eq!(packet[4..24], [0xab, 0xcd, 0x12, 0x34, 0, 0, 0, 3, 0, 0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(checksum(&packet), 0, "a packet with its checksum sums to zero");
    }

    #[test]
    fn a_checksum_of_the_rfc() {
        // RFC 1071, section 3: the bytes sum to ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    proptest! {
        #[test]
        fn a_reply_leads_back_to_its_sending(family in family(), id: u16, sequence: u16, probe: u32, number: u64, index: u32) {
            let (mark, secret) = (Mark { ticket: Ticket { probe, number }, index }, Secret::default());
            let packet = answered(request(family, id, sequence, mark, &secret), family);
            let echo = read(family, Direction::Reply, &packet).unwrap();
            prop_assert_eq!((echo.id, echo.sequence), (id, sequence));
            prop_assert_eq!(echo.mark(&secret), Some(mark));
            prop_assert_eq!(echo.mark(&Secret::default()), None, "another process's");
            for length in 0..LENGTH {
                let cut = read(family, Direction::Reply, &packet[..length]);
                prop_assert_eq!(cut.and_then(|echo| echo.mark(&secret)), None);
            }
        }

        #[test]
        fn a_changed_payload_is_a_stray(place in 8..LENGTH, bits in 1u8..) {
            let (mark, secret) = (Mark { ticket: Ticket { probe: 1, number: 2 }, index: 0 }, Secret::default());
            let mut packet = answered(request(Family::V4, 1, 1, mark, &secret), Family::V4);
            packet[place] ^= bits;
            prop_assert_eq!(read(Family::V4, Direction::Reply, &packet).unwrap().mark(&secret), None);
        }

        /// The fuzz target `packet` asks the same, of bytes that it has learnt.
        #[test]
        fn hostile_bytes_are_never_taken_for_ours(
            first in prop::sample::select(vec![0u8, 8, 128, 129, 0x45, 0x4f, 0xff]),
            rest in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let secret = Secret::default();
            let bytes = [vec![first], rest].concat();
            let inner = after_ipv4_header(&bytes);
            prop_assert!(inner.is_none_or(|inner| inner.len() + 20 <= bytes.len()));
            for message in [Some(&bytes[..]), inner].into_iter().flatten() {
                for family in [Family::V4, Family::V6] {
                    for direction in [Direction::Request, Direction::Reply] {
                        let echo = read(family, direction, message);
                        prop_assert!(echo.is_none_or(|echo| echo.payload.len() + HEADER == message.len()));
                        prop_assert_eq!(echo.and_then(|echo| echo.mark(&secret)), None);
                    }
                }
            }
        }
    }
}
