//! Datagrams at a reflector, one after the other: each is answered in its own length, or left as it was.
//!
//! An input is a row of datagrams: length, last octet of the source's address, port (2), TTL, then the octets.
//!
//! `cargo fuzz run -s none datagram`, in the folder above; with nightly Rust without `-s none`.
#![no_main]
#![allow(clippy::disallowed_methods, reason = "what is fuzzed takes the time as an argument; some time must be the first")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crosswatch_stamp::mirror::{Datagram, Mirror, Policy};
use crosswatch_stamp::packet::{ReflectorPacket, SenderPacket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let policy = Policy { sessions: 4, ..Policy::new(vec!["10.0.0.0/25".parse().unwrap()]) };
    let mut mirror = Mirror::new(policy, now);
    let to: SocketAddr = ([10, 0, 0, 1], 862).into();
    let mut rest = input;
    while let Some((&[length, host, high, low, ttl], after)) = rest.split_first_chunk::<5>() {
        let (octets, after) = after.split_at(after.len().min(length.into()));
        rest = after;
        now += Duration::from_secs(u64::from(ttl) * 10);
        let from: SocketAddr = ([10, 0, 0, host], u16::from_be_bytes([high, low])).into();
        let mut bytes = octets.to_vec();
        let received = i64::from_be_bytes([high, low, ttl, host, high, low, ttl, host]);
        let result = mirror.reflect(Datagram { from, to, ttl, received, bytes: &mut bytes }, now);
        assert_eq!(bytes.len(), octets.len());
        if result.is_ok() {
            let (answer, asked) =
                (ReflectorPacket::read(&bytes).unwrap(), SenderPacket::read(octets).unwrap());
            assert!(host < 128);
            assert_eq!((answer.sender_sequence, answer.sender_sent), (asked.sequence, asked.sent));
            assert_eq!(bytes[44..], octets[44..]);
        } else {
            assert_eq!(bytes, octets);
        }
        assert!(mirror.heard().len() <= 4);
    }
});
