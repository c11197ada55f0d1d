//! The packets of STAMP's unauthenticated mode, to the octet as RFC 8762 draws them in sections 4.2.1 and 4.3.1; the
//! session identifier is RFC 8972's (section 3), zero where it is not used. Numbers are big-endian. Pure.
//!
//! What follows the 44 octets (padding, or the TLVs of RFC 8972) is not looked at.

use crate::ntp::{Format, Stamp};

/// Octets of either packet without what may follow.
pub const LENGTH: usize = 44;

/// The port that STAMP has by default (RFC 8762, section 4.1).
pub const PORT: u16 = 862;

/// How good a clock is, in its sender's opinion (RFC 4656, section 4.1.2): wrong by
/// `multiplier · 2^scale · 2^-32` seconds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorEstimate {
    /// Whether the clock is set by an external source.
    pub synchronized: bool,
    /// What the timestamps beside it are.
    pub format: Format,
    /// 0 to 63; higher bits are cut off.
    pub scale: u8,
    /// Never zero in what is sent.
    pub multiplier: u8,
}

impl ErrorEstimate {
    /// A clock of which nobody says that it is set: off by a second, for all we know.
    pub const UNKNOWN: Self = Self { synchronized: false, format: Format::Ntp, scale: 32, multiplier: 1 };

    /// Its 16 bits: S, Z, six of scale, eight of multiplier.
    #[must_use]
    pub fn bits(self) -> u16 {
        let [s, z] = [self.synchronized, self.format == Format::Ptp].map(u16::from);
        s << 15 | z << 14 | u16::from(self.scale & 0x3f) << 8 | u16::from(self.multiplier)
    }

    /// From its 16 bits.
    #[must_use]
    pub fn from_bits(bits: u16) -> Self {
        let [high, multiplier] = bits.to_be_bytes();
        Self {
            synchronized: high & 0x80 != 0,
            format: if high & 0x40 == 0 { Format::Ntp } else { Format::Ptp },
            scale: high & 0x3f,
            multiplier,
        }
    }
}

/// What a Session-Sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderPacket {
    /// Its number in the session.
    pub sequence: u32,
    /// When it was sent, by the sender's clock (T1).
    pub sent: Stamp,
    /// How good that clock is.
    pub error: ErrorEstimate,
    /// Which of the sessions between the same two ports; zero is none.
    pub ssid: u16,
}

/// What a Session-Reflector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReflectorPacket {
    /// A stateful reflector's own count of what it sent in the session, from zero; a stateless one copies the sender's.
    pub sequence: u32,
    /// When it was sent, by the reflector's clock (T3).
    pub sent: Stamp,
    /// How good that clock is; its format is that of `received` too.
    pub error: ErrorEstimate,
    /// The sender's session identifier.
    pub ssid: u16,
    /// When the sender's packet came to the reflector, by the reflector's clock (T2).
    pub received: Stamp,
    /// The sender's number.
    pub sender_sequence: u32,
    /// The sender's T1.
    pub sender_sent: Stamp,
    /// What the sender said of its clock, as it stood in the packet.
    pub sender_error: ErrorEstimate,
    /// The TTL or hop limit with which the sender's packet came.
    pub sender_ttl: u8,
}

impl SenderPacket {
    /// The 44 octets of it.
    #[must_use]
    pub fn bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.sent.0.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.error.bits().to_be_bytes());
        bytes[14..16].copy_from_slice(&self.ssid.to_be_bytes());
        bytes
    }

    /// Reads one; `None` when it is shorter than 44 octets. What must be zero is ignored, as the RFC asks.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<LENGTH>()?;
        Some(Self {
            sequence: u32::from_be_bytes(at(bytes, 0)),
            sent: Stamp(u64::from_be_bytes(at(bytes, 4))),
            error: ErrorEstimate::from_bits(u16::from_be_bytes(at(bytes, 12))),
            ssid: u16::from_be_bytes(at(bytes, 14)),
        })
    }
}

impl ReflectorPacket {
    /// The 44 octets of it, which begin as those of a sender's do.
    #[must_use]
    pub fn bytes(&self) -> [u8; LENGTH] {
        let &Self { sequence, sent, error, ssid, .. } = self;
        let mut bytes = SenderPacket { sequence, sent, error, ssid }.bytes();
        bytes[16..24].copy_from_slice(&self.received.0.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.sender_sequence.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.sender_sent.0.to_be_bytes());
        bytes[36..38].copy_from_slice(&self.sender_error.bits().to_be_bytes());
        // 38 and 39 must be zero, as must be 41 to 43.
        bytes[40] = self.sender_ttl;
        bytes
    }

    /// Reads one; `None` when it is shorter than 44 octets. What must be zero is ignored, as the RFC asks.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let SenderPacket { sequence, sent, error, ssid } = SenderPacket::read(bytes)?;
        let bytes = bytes.first_chunk::<LENGTH>()?;
        Some(Self {
            sequence,
            sent,
            error,
            ssid,
            received: Stamp(u64::from_be_bytes(at(bytes, 16))),
            sender_sequence: u32::from_be_bytes(at(bytes, 24)),
            sender_sent: Stamp(u64::from_be_bytes(at(bytes, 28))),
            sender_error: ErrorEstimate::from_bits(u16::from_be_bytes(at(bytes, 36))),
            sender_ttl: bytes[40],
        })
    }
}

/// Sets the time of sending in a packet of either kind that is ready but for it; one too short is left alone.
pub fn set_sent(packet: &mut [u8], sent: Stamp) {
    if let Some(field) = packet.get_mut(4..12) {
        field.copy_from_slice(&sent.0.to_be_bytes());
    }
}

/// The field of this length at this place; the callers' places are constants within the packet.
fn at<const N: usize>(bytes: &[u8; LENGTH], place: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes.get(place + index).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(rows: &[[u8; 4]; 11]) -> [u8; LENGTH] {
        rows.as_flattened().try_into().unwrap()
    }

    /// Figure 2 of RFC 8762, row by row, with the session identifier of RFC 8972's figure 1.
    #[test]
    fn a_sender_packet_is_as_the_rfc_draws_it() {
        let packet = SenderPacket {
            sequence: 0x0102_0304,
            sent: Stamp(0x1112_1314_1516_1718),
            error: ErrorEstimate { synchronized: true, format: Format::Ntp, scale: 0x2a, multiplier: 0xbb },
            ssid: 0xabcd,
        };
        let zero = [0; 4];
        let drawn = bytes(&[
            [0x01, 0x02, 0x03, 0x04], // Sequence Number
            [0x11, 0x12, 0x13, 0x14], // Timestamp
            [0x15, 0x16, 0x17, 0x18],
            [0xaa, 0xbb, 0xab, 0xcd], // Error Estimate: S, Z, Scale, Multiplier; SSID
            zero,
            zero,
            zero,
            zero,
            zero,
            zero,
            zero, // MBZ
        ]);
        assert_eq!(packet.bytes(), drawn);
        assert_eq!(SenderPacket::read(&drawn), Some(packet));
    }

    /// Figure 5 of RFC 8762, row by row.
    #[test]
    fn a_reflector_packet_is_as_the_rfc_draws_it() {
        let packet = ReflectorPacket {
            sequence: 0x0102_0304,
            sent: Stamp(0x1112_1314_1516_1718),
            error: ErrorEstimate { synchronized: false, format: Format::Ptp, scale: 1, multiplier: 2 },
            ssid: 0xabcd,
            received: Stamp(0x2122_2324_2526_2728),
            sender_sequence: 0x3132_3334,
            sender_sent: Stamp(0x4142_4344_4546_4748),
            sender_error: ErrorEstimate { synchronized: true, format: Format::Ntp, scale: 3, multiplier: 4 },
            sender_ttl: 254,
        };
        let drawn = bytes(&[
            [0x01, 0x02, 0x03, 0x04], // Sequence Number
            [0x11, 0x12, 0x13, 0x14], // Timestamp
            [0x15, 0x16, 0x17, 0x18],
            [0x41, 0x02, 0xab, 0xcd], // Error Estimate; SSID
            [0x21, 0x22, 0x23, 0x24], // Receive Timestamp
            [0x25, 0x26, 0x27, 0x28],
            [0x31, 0x32, 0x33, 0x34], // Session-Sender Sequence Number
            [0x41, 0x42, 0x43, 0x44], // Session-Sender Timestamp
            [0x45, 0x46, 0x47, 0x48],
            [0x83, 0x04, 0x00, 0x00], // Session-Sender Error Estimate; MBZ
            [0xfe, 0x00, 0x00, 0x00], // Ses-Sender TTL; MBZ
        ]);
        assert_eq!(packet.bytes(), drawn);
        assert_eq!(ReflectorPacket::read(&drawn), Some(packet));
    }

    #[test]
    fn what_must_be_zero_is_ignored_and_what_follows_too() {
        let mut long = [0xff; 100];
        let packet = SenderPacket { sequence: 7, sent: Stamp(8), error: ErrorEstimate::UNKNOWN, ssid: 9 };
        long[..16].copy_from_slice(&packet.bytes()[..16]);
        assert_eq!(SenderPacket::read(&long), Some(packet));
        assert_eq!(SenderPacket::read(&long[..43]), None);
        assert_eq!(ReflectorPacket::read(&long[..43]), None);
    }

    proptest! {
        #[test]
        fn every_error_estimate_is_read_as_it_was_written(bits in any::<u16>()) {
            prop_assert_eq!(ErrorEstimate::from_bits(bits).bits(), bits);
        }

        /// What a fuzzer does, on stable: any octets are read without a panic, and written as they were but for what
        /// must be zero.
        #[test]
        fn any_octets_are_read_and_written_back(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let base = octets.first_chunk::<LENGTH>().copied();
            prop_assert_eq!(SenderPacket::read(&octets).is_some(), base.is_some());
            if let (Some(mut base), Some(packet)) = (base, ReflectorPacket::read(&octets)) {
                base[38..40].fill(0);
                base[41..44].fill(0);
                prop_assert_eq!(packet.bytes(), base);
            }
            if let (Some(mut base), Some(packet)) = (base, SenderPacket::read(&octets)) {
                base[16..].fill(0);
                prop_assert_eq!(packet.bytes(), base);
            }
        }
    }
}
