//! Datagrams of senders, of strangers and of nobody in particular, at a reflector without sockets.

#![allow(clippy::disallowed_methods, reason = "a steady clock has no other beginning")]

use super::*;
use proptest::prelude::*;

const RECEIVED: i64 = 1_790_000_000_123_456_789;
const ALLOWED: &str = "10.0.0.1:5000";

struct World {
    mirror: Mirror,
    now: Instant,
}

impl World {
    fn new(sessions: usize) -> Self {
        let allow = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let now = Instant::now();
        Self { mirror: Mirror::new(Policy { sessions, ..Policy::new(allow) }, now), now }
    }

    fn reflect(&mut self, from: &str, bytes: &mut [u8]) -> Result<(), Refused> {
        let (from, to) = (from.parse().unwrap(), "10.0.0.2:862".parse().unwrap());
        self.mirror.reflect(Datagram { from, to, ttl: 61, received: RECEIVED, bytes }, self.now)
    }

    /// The number of the answer to this number.
    fn number(&mut self, from: &str, ssid: u16, sequence: u32) -> u32 {
        let mut bytes = packet(sequence, ssid).bytes();
        self.reflect(from, &mut bytes).unwrap();
        ReflectorPacket::read(&bytes).unwrap().sequence
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn packet(sequence: u32, ssid: u16) -> SenderPacket {
    let error = ErrorEstimate { synchronized: true, scale: 3, multiplier: 9, ..ErrorEstimate::UNKNOWN };
    SenderPacket { sequence, sent: Stamp(0x1234_5678_9abc_def0), error, ssid }
}

#[test]
fn an_answer_holds_what_the_rfc_asks_and_is_as_long_as_the_question() {
    let mut world = World::new(8);
    let mut bytes = vec![0xee; 200];
    bytes[..44].copy_from_slice(&packet(77, 5).bytes());
    world.reflect(ALLOWED, &mut bytes).unwrap();
    packet::set_sent(&mut bytes, Stamp(42));
    let answer = ReflectorPacket {
        sequence: 0,
        sent: Stamp(42),
        error: ErrorEstimate::UNKNOWN,
        ssid: 5,
        received: Stamp::ntp(RECEIVED),
        sender_sequence: 77,
        sender_sent: packet(77, 5).sent,
        sender_error: packet(77, 5).error,
        sender_ttl: 61,
    };
    assert_eq!(bytes[..44], answer.bytes());
    assert_eq!(bytes[44..], [0xee; 156], "what follows goes back as it came");
}

#[test]
fn each_session_has_numbers_of_its_own() {
    let mut world = World::new(8);
    assert_eq!(world.number(ALLOWED, 0, 10), 0);
    assert_eq!(world.number(ALLOWED, 0, 12), 1);
    assert_eq!(world.number("10.0.0.1:5001", 0, 10), 0, "another port");
    assert_eq!(world.number("10.0.0.3:5000", 0, 10), 0, "another address");
    assert_eq!(world.number(ALLOWED, 9, 10), 0, "another identifier");
    assert_eq!(world.number(ALLOWED, 0, 12), 2, "a duplicate is answered, and counted");

    let heard = world.mirror.heard();
    let ours = heard.iter().find(|heard| heard.from == ALLOWED.parse().unwrap() && heard.ssid == 0).unwrap();
    assert_eq!((ours.packets, ours.missing, heard.len()), (3, 1, 4));
    assert_eq!(ours.last, Timestamp::from_micros(RECEIVED / 1_000));
    world.number(ALLOWED, 0, 11);
    let ours = |world: &World| *world.mirror.heard().iter().find(|heard| heard.packets > 3).unwrap();
    assert_eq!(ours(&world).missing, 0, "it was overtaken");
    world.number(ALLOWED, 0, u32::MAX - 500);
    assert_eq!((ours(&world).packets, ours(&world).missing), (5, 0), "a sender that began anew");
}

#[test]
fn who_gets_no_answer_is_counted_by_why() {
    let mut world = World::new(8);
    let mut good = packet(1, 0).bytes();
    for (from, why) in [
        ("192.0.2.1:5000", Refused::Prefix),
        ("[fe80::1]:5000", Refused::Prefix),
        ("10.0.0.1:862", Refused::Loop),
        ("10.0.0.1:0", Refused::NoPort),
    ] {
        assert_eq!(world.reflect(from, &mut good), Err(why), "{from}");
        assert_eq!(good, packet(1, 0).bytes(), "untouched");
    }
    assert_eq!(world.reflect(ALLOWED, &mut good[..43]), Err(Refused::Short));
    assert_eq!(world.reflect(ALLOWED, &mut []), Err(Refused::Short));
    let expected = Counts { received: 6, refused: 2, malformed: 3, looped: 1, ..Counts::default() };
    assert_eq!(world.mirror.counts, expected);
    assert!(world.mirror.heard().is_empty(), "they leave nothing behind");
}

#[test]
fn a_session_that_is_idle_is_forgotten_and_one_that_is_not_stays() {
    let mut world = World::new(8);
    world.number(ALLOWED, 0, 1);
    world.later(900);
    assert_eq!(world.number(ALLOWED, 0, 2), 1);
    world.later(901);
    assert_eq!(world.number(ALLOWED, 0, 3), 0, "begun anew");
    assert_eq!(world.mirror.counts.evicted, 1);
    world.later(901);
    world.mirror.sweep(world.now);
    assert!(world.mirror.heard().is_empty());
    assert_eq!(world.mirror.counts.evicted, 2);
}

#[test]
fn beyond_the_bound_answers_are_stateless_until_others_are_idle() {
    let mut world = World::new(2);
    let capacity = world.mirror.sessions.capacity();
    assert_eq!(world.number("10.0.0.1:1", 0, 50), 0);
    assert_eq!(world.number("10.0.0.1:2", 0, 50), 0);
    assert_eq!(world.number("10.0.0.1:3", 0, 50), 50, "no room: the sender's number");
    assert_eq!(world.number("10.0.0.1:2", 0, 51), 1, "who is in stays in");
    world.later(600);
    assert_eq!(world.number("10.0.0.1:2", 0, 52), 2);
    world.later(600);
    assert_eq!(world.number("10.0.0.1:3", 0, 51), 0, "the first was idle");
    assert_eq!((world.mirror.counts.stateless, world.mirror.counts.evicted), (1, 1));
    for port in 10..10_000 {
        world.number(&format!("10.0.0.1:{}", 863 + port), 0, 7);
        world.later(1);
    }
    assert_eq!(world.mirror.sessions.capacity(), capacity, "no room is ever taken anew");
    assert!(world.mirror.heard().len() <= 2);
}

proptest! {
    /// What a fuzzer does, on stable: any datagram from anybody is answered in its own length, or left as it was, and
    /// counted once.
    #[test]
    fn any_datagram_is_answered_in_its_length_or_left(
        datagrams in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..120), 1_u8..13, any::<u16>(), any::<u8>(), any::<i64>()), 1..40),
    ) {
        let mut world = World::new(4);
        for (octets, first, port, ttl, received) in datagrams {
            let mut bytes = octets.clone();
            let from = SocketAddr::from(([first, 0, 0, 1], port));
            let to = "10.0.0.2:862".parse().unwrap();
            let before = world.mirror.counts;
            let datagram = Datagram { from, to, ttl, received, bytes: &mut bytes };
            let result = world.mirror.reflect(datagram, world.now);
            let counts = world.mirror.counts;
            let refused = |counts: &Counts| counts.refused + counts.malformed + counts.looped;
            prop_assert_eq!(counts.received, before.received + 1);
            prop_assert_eq!(refused(&counts), refused(&before) + u64::from(result.is_err()));
            prop_assert_eq!(bytes.len(), octets.len());
            if result.is_err() {
                prop_assert_eq!(&bytes, &octets);
            } else {
                prop_assert_eq!(first, 10);
                let answer = ReflectorPacket::read(&bytes).unwrap();
                let asked = SenderPacket::read(&octets).unwrap();
                prop_assert_eq!((answer.sender_sequence, answer.sender_sent, answer.ssid, answer.sender_ttl),
                    (asked.sequence, asked.sent, asked.ssid, ttl));
                prop_assert_eq!(&bytes[44..], &octets[44..]);
            }
            prop_assert!(world.mirror.heard().len() <= 4);
        }
    }
}
