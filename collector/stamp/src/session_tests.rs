//! A session against a reflector whose clock, dwell and ways are given.

#![allow(clippy::disallowed_methods, reason = "a steady clock has no other beginning")]

use super::*;
use crate::ntp::Format;
use crate::path::ByDirection;
use proptest::prelude::*;

const MS: i64 = 1_000_000;
const WALL: i64 = 1_790_000_000_000 * MS;

/// A sender, and a reflector that is wrong by so much.
struct World {
    session: Session<u32>,
    start: Instant,
    wrong: i64,
    counted: u32,
    format: Format,
}

/// How a packet fared, in nanoseconds: sent at, there after, kept for, back after.
type Way = (i64, i64, i64, i64);

impl World {
    fn new(wrong: i64) -> Self {
        Self { session: Session::new(FIRST), start: Instant::now(), wrong, counted: 0, format: Format::Ntp }
    }

    fn steady(&self, at: i64) -> Instant {
        self.start + Duration::from_nanos(at.unsigned_abs())
    }

    fn send(&mut self, at: i64) -> SenderPacket {
        let packet = self.session.packet(WALL + at).unwrap();
        let steady = self.steady(at);
        assert_eq!(self.session.sent(packet.sequence, steady, WALL + at), packet.sequence);
        packet
    }

    /// The reflector's answer, of this number of its own.
    fn answer(&self, to: &SenderPacket, sequence: u32, (at, there, kept, _): Way) -> ReflectorPacket {
        let received = WALL + at + there + self.wrong;
        let stamp = |nanos: i64| match self.format {
            Format::Ntp => Stamp::ntp(nanos),
            Format::Ptp => Stamp(
                (nanos.div_euclid(1_000 * MS).unsigned_abs() & 0xffff_ffff) << 32
                    | nanos.rem_euclid(1_000 * MS).unsigned_abs(),
            ),
        };
        ReflectorPacket {
            sequence,
            sent: stamp(received + kept),
            error: ErrorEstimate { format: self.format, ..ErrorEstimate::UNKNOWN },
            ssid: 0,
            received: stamp(received),
            sender_sequence: to.sequence,
            sender_sent: to.sent,
            sender_error: to.error,
            sender_ttl: 64,
        }
    }

    fn hear(&mut self, answer: &ReflectorPacket, (at, there, kept, back): Way) -> Option<Told<u32>> {
        let arrived = at + there + kept + back;
        let read = self.steady(arrived + 3 * MS);
        self.session.reply(answer, read, Some(WALL + arrived), None)
    }

    /// Sends one that comes back.
    fn round_trip(&mut self, way: Way) -> Told<u32> {
        let packet = self.send(way.0);
        let answer = self.answer(&packet, self.counted, way);
        self.counted += 1;
        self.hear(&answer, way).unwrap()
    }
}

#[test]
fn the_round_trip_is_without_the_dwell_and_by_the_kernels_stamp() {
    let mut world = World::new(0);
    let told = world.round_trip((0, 40 * MS, 7 * MS, 41 * MS));
    assert_eq!(
        (told.rtt, told.dwell, told.stamped),
        (Duration::from_millis(81), Some(Duration::from_millis(7)), true)
    );
    assert_eq!((told.kind, told.number, told.variation), (Kind::First, FIRST, None));

    // Without a stamp, or when the wall clock was set meanwhile, it ends with the reading, 3 ms after.
    let way = (1_000 * MS, 40 * MS, 0, 41 * MS);
    for arrived in [None, Some(WALL + 5_000 * MS), Some(WALL - 5_000 * MS)] {
        let packet = world.send(1_000 * MS);
        let answer = world.answer(&packet, 1, way);
        let told = world.session.reply(&answer, world.steady(1_084 * MS), arrived, None).unwrap();
        assert_eq!((told.rtt, told.stamped), (Duration::from_millis(84), false), "{arrived:?}");
    }
}

#[test]
fn a_dwell_that_makes_no_sense_is_left_in() {
    let mut world = World::new(0);
    for kept in [-MS, 90 * MS, 3_600_000 * MS] {
        let way = (0, 40 * MS, kept, 41 * MS);
        let packet = world.send(0);
        let answer = world.answer(&packet, 0, way);
        let told = world.hear(&answer, (0, 40 * MS, 0, 41 * MS)).unwrap();
        assert_eq!((told.rtt, told.dwell), (Duration::from_millis(81), None), "{kept}");
    }
    let mut answer = world.answer(&world.session.packet(WALL).unwrap(), 0, (0, 0, 0, 0));
    answer.error.format = Format::Ptp;
    answer.received = Stamp(u64::MAX);
    world.send(0);
    assert_eq!(world.hear(&answer, (0, 40 * MS, 0, 41 * MS)).unwrap().dwell, None, "no time at all");
}

#[test]
fn a_reflector_that_stamps_by_ptp_is_understood() {
    let mut world = World::new(37_000 * MS);
    world.format = Format::Ptp;
    assert_eq!(world.round_trip((0, 40 * MS, 7 * MS, 41 * MS)).dwell, Some(Duration::from_millis(7)));
    let told = world.round_trip((MS, 43 * MS, 7 * MS, 40 * MS));
    assert_eq!(told.variation, Some(Variation { forward: 3 * MS, back: -MS }));
}

#[test]
fn a_clock_that_is_set_makes_no_variation() {
    let mut world = World::new(0);
    world.round_trip((0, 40 * MS, 0, 41 * MS));
    world.wrong = 500 * MS;
    assert_eq!(world.round_trip((1_000 * MS, 40 * MS, 0, 41 * MS)).variation, None);
    let told = world.round_trip((2_000 * MS, 41 * MS, 0, 41 * MS));
    assert_eq!(told.variation, Some(Variation { forward: MS, back: 0 }));
}

#[test]
fn late_duplicate_reordered_and_strangers_are_told_apart() {
    let mut world = World::new(0);
    let way = (0, MS, 0, MS);
    let packets: Vec<_> = (0..4).map(|_| world.send(0)).collect();
    assert_eq!(world.session.give_up(FIRST), Some(FIRST));
    assert_eq!(world.session.give_up(FIRST), None, "given up already");
    let hear = |world: &mut World, packet: usize, sequence| {
        let answer = world.answer(&packets[packet], sequence, way);
        world.hear(&answer, way).unwrap()
    };
    assert_eq!(hear(&mut world, 1, 1).path.since.lost, ByDirection { back: 1, ..ByDirection::default() });
    let late = hear(&mut world, 0, 0);
    assert_eq!((late.kind, late.ticket, late.variation), (Kind::Late, FIRST, None));
    assert_eq!(late.path.since.lost, ByDirection { back: -1, ..ByDirection::default() });
    assert!(late.path.reordered_back);
    assert_eq!(hear(&mut world, 1, 1).kind, Kind::Duplicate);
    assert_eq!(world.session.give_up(FIRST + 1), None, "answered");
    assert_eq!(world.session.only_in_flight(), None);
    assert_eq!(hear(&mut world, 2, 2).kind, Kind::First);
    assert_eq!(world.session.only_in_flight(), Some(FIRST + 3));

    let mut strange = world.answer(&packets[3], 3, way);
    strange.sender_sent = Stamp(strange.sender_sent.0 + 1);
    assert_eq!(world.hear(&strange, way), None, "somebody who has not seen the packet");
    strange = world.answer(&packets[3], 3, way);
    strange.sender_sequence = FIRST + 4;
    assert_eq!(world.hear(&strange, way), None, "not sent yet");
    strange.sender_sequence = FIRST - 1;
    assert_eq!(world.hear(&strange, way), None, "never sent");
    assert_eq!(hear(&mut world, 3, 3).kind, Kind::First, "they did no harm");
}

#[test]
fn what_is_kept_is_bounded_and_what_is_in_flight_is_kept() {
    let mut world = World::new(0);
    let first = world.send(0);
    for at in 1..10_000 {
        let packet = world.send(at * MS);
        world.session.give_up(packet.sequence);
    }
    let way = (0, MS, 0, 10_000 * MS);
    let answer = world.answer(&first, 0, way);
    assert_eq!(world.hear(&answer, way).unwrap().kind, Kind::First);
    world.round_trip((10_001 * MS, MS, 0, MS));
    assert!(world.session.flights.len() <= KEPT);
    assert_eq!(world.hear(&answer, way), None, "long forgotten");

    for at in 0..=MOST {
        if world.session.packet(WALL).is_none() {
            assert!(at > MOST - KEPT - 1);
            return;
        }
        world.send(20_000 * MS);
    }
    panic!("no bound");
}

proptest! {
    /// However wrong the reflector's clock is, delay variation by direction is exact, and its sum that of the round trip.
    #[test]
    fn variation_needs_no_synchronised_clocks(
        wrong in -60 * 31_557_600_000 * MS..60 * 31_557_600_000 * MS,
        ways in prop::collection::vec((1_i64..50 * MS, 0_i64..10 * MS, 1_i64..50 * MS), 2..40),
    ) {
        let mut world = World::new(wrong);
        let mut before: Option<Way> = None;
        for (index, (there, kept, back)) in ways.into_iter().enumerate() {
            let way = (i64::try_from(index).unwrap() * 10 * MS, there, kept, back);
            let told = world.round_trip(way);
            prop_assert_eq!(told.rtt, Duration::from_nanos((there + back).unsigned_abs()));
            let expected = before.map(|before| Variation { forward: there - before.1, back: back - before.3 });
            prop_assert_eq!(told.variation, expected);
            before = Some(way);
        }
    }

    /// Numbers wrap without a trace.
    #[test]
    fn a_session_goes_on_over_the_wrap(lost in prop::collection::vec(any::<bool>(), 40)) {
        let mut world = World::new(0);
        world.session = Session::new(u32::MAX - 20);
        let way = (0, MS, 0, MS);
        for &lost in lost.iter().chain(&[false]) {
            let packet = world.send(0);
            if lost {
                prop_assert!(world.session.give_up(packet.sequence).is_some());
            } else {
                let answer = world.answer(&packet, world.counted, way);
                world.counted += 1;
                prop_assert_eq!(world.hear(&answer, way).unwrap().kind, Kind::First);
            }
        }
        let forward = i64::try_from(lost.iter().filter(|&&lost| lost).count()).unwrap();
        prop_assert_eq!(world.session.totals().lost, ByDirection { forward, ..ByDirection::default() });
    }
}
