//! Any bytes as a packet: `cargo +nightly fuzz run packet`, in `collector/strongswan`.

#![no_main]

use crosswatch_strongswan::message::Section;
use crosswatch_strongswan::packet::Packet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let read = Packet::decode(bytes);
    if let Ok(Packet::Response(message) | Packet::Event { message, .. }) = read {
        // Odd bytes were replaced, which may have made a name too long; else what was read is written and read again.
        if let Ok(again) = message.encode() {
            assert_eq!(Section::decode(&again), Ok(message));
        }
    }
});
