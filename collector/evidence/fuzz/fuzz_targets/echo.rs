//! What comes in over an ICMP socket: any bytes are nobody's reply.
#![no_main]

use crosswatch_evidence::said;
use crosswatch_prober::Family;
use crosswatch_prober::packet::{self, Direction, Secret};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let secret = Secret::default();
    for family in [Family::V4, Family::V6] {
        for bytes in [Some(bytes), packet::after_ipv4_header(bytes)].into_iter().flatten() {
            for direction in [Direction::Request, Direction::Reply] {
                let echo = packet::read(family, direction, bytes);
                assert!(echo.and_then(|echo| echo.mark(&secret)).is_none());
            }
        }
        if let &[kind, code, ..] = bytes {
            let _ = said::of(family, kind, code);
        }
    }
});
