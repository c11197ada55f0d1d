//! Any octets as a packet of either kind: what is read and written again is what was there, but for what must be zero.
//!
//! `cargo fuzz run -s none packet`, in the folder above; with nightly Rust without `-s none`.
#![no_main]

use crosswatch_stamp::ntp::Format;
use crosswatch_stamp::packet::{LENGTH, ReflectorPacket, SenderPacket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let base = octets.first_chunk::<LENGTH>();
    assert_eq!(SenderPacket::read(octets).is_some(), base.is_some());
    if let (Some(packet), Some(base)) = (SenderPacket::read(octets), base) {
        assert_eq!(packet.bytes()[..16], base[..16]);
        assert_eq!(packet.bytes()[16..], [0; 28]);
    }
    if let (Some(packet), Some(base)) = (ReflectorPacket::read(octets), base) {
        assert_eq!(packet.bytes()[..38], base[..38]);
        assert_eq!(packet.bytes()[40], base[40]);
        for format in [Format::Ntp, Format::Ptp] {
            let near = i64::from_ne_bytes(packet.sent.0.to_ne_bytes());
            let _ = packet.received.unix_nanos(format, near);
        }
    }
});
