//! Replies of a hostile reflector at a session: none harms the counts.
//!
//! An input is a row of replies: to which packet (1), and 24 octets that a reflector may choose.
//!
//! `cargo fuzz run -s none replies`, in the folder above; with nightly Rust without `-s none`.
#![no_main]
#![allow(clippy::disallowed_methods, reason = "what is fuzzed takes the time as an argument; some time must be the first")]

use std::time::{Duration, Instant};

use crosswatch_stamp::packet::ReflectorPacket;
use crosswatch_stamp::session::{FIRST, Session};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let start = Instant::now();
    let mut session = Session::new(FIRST);
    let mut sent = Vec::new();
    for chunk in input.chunks_exact(25) {
        let wall = 1_790_000_000_000_000_000 + i64::try_from(sent.len()).unwrap();
        sent.push(session.packet(wall).unwrap());
        session.sent((), start, wall);
        let (&which, chosen) = chunk.split_first().unwrap();
        let asked = sent[sent.len() - 1 - usize::from(which) % sent.len()];
        let mut bytes = [0; 44];
        bytes[..24].copy_from_slice(chosen);
        bytes[24..28].copy_from_slice(&asked.sequence.to_be_bytes());
        bytes[28..36].copy_from_slice(&asked.sent.0.to_be_bytes());
        let read = start + Duration::from_millis(which.into());
        let packet = ReflectorPacket::read(&bytes).unwrap();
        if let Some(told) = session.reply(&packet, read, Some(wall + i64::from(which)), None) {
            assert!(told.rtt <= Duration::from_millis(255));
        }
        let totals = session.totals();
        assert!(totals.lost.forward >= 0 && totals.lost.back >= 0, "{totals:?}");
        assert!(totals.duplicated.forward >= 0 && totals.duplicated.back >= 0, "{totals:?}");
    }
});
