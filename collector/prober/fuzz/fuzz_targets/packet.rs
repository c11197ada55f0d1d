//! Whatever comes in: nothing panics, nothing is read past its end, and nothing that this process did not make is taken
//! for its own. `hostile_bytes_are_never_taken_for_ours` in `packet.rs` asks the same of random bytes.
#![no_main]

use crosswatch_prober::Family;
use crosswatch_prober::packet::{Direction, Secret, after_ipv4_header, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let secret = Secret::default();
    let inner = after_ipv4_header(bytes);
    assert!(inner.is_none_or(|inner| inner.len() + 20 <= bytes.len()));
    for message in [Some(bytes), inner].into_iter().flatten() {
        for family in [Family::V4, Family::V6] {
            for direction in [Direction::Request, Direction::Reply] {
                let echo = read(family, direction, message);
                assert!(echo.is_none_or(|echo| echo.payload.len() + 8 == message.len()));
                assert_eq!(echo.and_then(|echo| echo.mark(&secret)), None);
            }
        }
    }
});
