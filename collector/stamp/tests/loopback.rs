//! A reflector and senders over the loopback: real sockets, real stamps, and what a hostile peer may try.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test's helpers fail by panicking"
)]

mod world;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use crosswatch_shared::observation::Lost;
use crosswatch_stamp::mirror::{Counts, Policy};
use crosswatch_stamp::ntp::Stamp;
use crosswatch_stamp::packet::{ErrorEstimate, ReflectorPacket, SenderPacket};
use crosswatch_stamp::session::{FIRST, Kind};
use crosswatch_stamp::{Error, Family, Heard, Options, Reflector, Sender, Totals};
use world::{BOUND, hear, reflector, told, until};

fn packet(sequence: u32) -> [u8; 44] {
    SenderPacket { sequence, sent: Stamp(7), error: ErrorEstimate::UNKNOWN, ssid: 0 }.bytes()
}

/// A plain socket, as anybody may have one.
fn anybody(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket
}

fn closed_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_round_trip_is_timed_by_the_kernel_and_by_both_ends() {
    for (family, listen, allow) in
        [(Family::V4, "127.0.0.1:0", "127.0.0.0/8"), (Family::V6, "[::1]:0", "::1")]
    {
        let reflector = reflector(&[listen], allow);
        let to = reflector.addresses()[0];
        let mut sender = Sender::open(family).unwrap();
        for ticket in 0..20_u32 {
            let key = sender.send(ticket, to).unwrap();
            let told = told(&mut sender);
            assert_eq!((told.ticket, told.number, told.kind), (ticket, key.number, Kind::First));
            assert!(told.stamped, "by the kernel");
            assert!(told.dwell.is_some(), "both stamps of the reflector make sense");
            assert!(told.rtt < BOUND);
            assert_eq!(told.variation.is_some(), ticket > 0);
        }
        assert_eq!(sender.totals(to), Some(Totals::default()));
        let heard = reflector.heard().unwrap();
        assert_eq!((heard.len(), heard[0].packets, heard[0].missing, heard[0].to), (1, 20, 0, to));
        assert!(heard[0].first <= heard[0].last);
        let counts = Counts { received: 20, reflected: 20, ..Counts::default() };
        until("all are counted", || reflector.counts().unwrap() == counts);
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked_with_the_ttl_that_came() {
    let reflector = reflector(&["0.0.0.0:0"], "127.0.0.0/8");
    let port = reflector.addresses()[0].port();
    let socket = anybody("127.0.0.1:0");
    socket.set_ttl(33).unwrap();
    // To several addresses of the machine at once, so that a batch has answers from each.
    for round in 0..50 {
        for host in 1..=4 {
            socket.send_to(&packet(round), (format!("127.0.0.{host}"), port)).unwrap();
        }
    }
    let mut from = [0; 5];
    for _ in 0..200 {
        let mut room = [0; 100];
        let (length, source) = socket.recv_from(&mut room).unwrap();
        let answer = ReflectorPacket::read(&room[..length]).unwrap();
        assert_eq!(answer.sender_ttl, 33);
        let SocketAddr::V4(source) = source else { panic!("IPv4") };
        let host = usize::from(source.ip().octets()[3]);
        assert_eq!(answer.sequence, from[host], "each address has a session");
        from[host] += 1;
    }
    assert_eq!(from, [0, 50, 50, 50, 50]);
}

#[test]
fn nobody_gets_more_than_he_sent_whatever_he_sends() {
    let reflector = reflector(&["127.0.0.1:0"], "127.0.0.0/8");
    let to = reflector.addresses()[0];
    let socket = anybody("127.0.0.1:0");
    let mut room = [0; 65_535];
    let mut expected = Counts::default();
    for length in (0..=200).chain([1_000, 1_472, 9_000, 9_216, 9_217, 20_000, 65_507]) {
        let sent: Vec<u8> = (0..length).map(|index: usize| index.to_le_bytes()[0] ^ 0xa5).collect();
        socket.send_to(&sent, to).unwrap();
        expected.received += 1;
        if (44..=9_216).contains(&length) {
            expected.reflected += 1;
            let (came, from) = socket.recv_from(&mut room).unwrap();
            assert_eq!((came, from), (length, to));
            assert_eq!(room[44..came], sent[44..], "what follows the packet goes back as it came");
        } else {
            expected.malformed += 1;
        }
    }
    until("all are counted", || reflector.counts().unwrap() == expected);
    // Nothing was left behind in the socket: the next answer is to the next packet.
    socket.send_to(&packet(4_242), to).unwrap();
    let (came, _) = socket.recv_from(&mut room).unwrap();
    assert_eq!(ReflectorPacket::read(&room[..came]).unwrap().sender_sequence, 4_242);
}

#[test]
fn a_flood_of_anything_leaves_it_working_and_is_answered_at_most_once_each() {
    const EACH: u64 = 20_000;
    let reflector = reflector(&["127.0.0.1:0"], "127.0.0.0/8");
    let to = reflector.addresses()[0];
    let flood = |seed: u64| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (mut state, mut octets_out, mut octets_in) = (seed, 0, 0);
        let mut room = [0; 2_048];
        let mut drain = |octets_in: &mut usize| {
            loop {
                match socket.recv(&mut room) {
                    Ok(length) => *octets_in += length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        for _ in 0..EACH {
            // xorshift: any octets, of any length up to 127.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let octets = [state.to_le_bytes(); 16];
            let length = usize::try_from(state % 128).unwrap();
            octets_out += socket.send_to(&octets.as_flattened()[..length], to).unwrap();
            drain(&mut octets_in);
        }
        assert!(octets_in <= octets_out, "{octets_in} of {octets_out}");
    };
    thread::scope(|scope| {
        scope.spawn(|| flood(1));
        scope.spawn(|| flood(2));
    });
    let mut sender = Sender::open(Family::V4).unwrap();
    let mut heard = Vec::new();
    until("it works still, once it has read what was left in its socket", || {
        sender.send((), to).unwrap();
        sender.receive(&mut heard);
        !heard.is_empty()
    });
    assert!(heard.iter().all(|heard| matches!(heard, Heard::Reply(_))), "{heard:?}");
    until("each is counted once", || {
        let now = reflector.counts().unwrap();
        now.received == now.reflected + now.refused + now.malformed + now.looped + now.send_errors
    });
}

#[test]
fn two_reflectors_are_not_set_on_each_other() {
    let first = reflector(&["127.0.0.1:0"], "127.0.0.0/8");
    let port = first.addresses()[0].port();
    let second = reflector(&[&format!("127.0.0.2:{port}")], "127.0.0.0/8");
    // As if the other had asked: from its port, of another address of this machine.
    let forger = anybody(&format!("127.0.0.3:{port}"));
    forger.send_to(&packet(1), first.addresses()[0]).unwrap();
    forger.send_to(&packet(1), second.addresses()[0]).unwrap();
    for reflector in [&first, &second] {
        until("it was refused", || reflector.counts().unwrap().looped == 1);
        assert_eq!(reflector.counts().unwrap().reflected, 0);
    }
}

#[test]
fn who_is_not_allowed_gets_no_answer() {
    let reflector = reflector(&["0.0.0.0:0"], "127.0.0.2/31");
    let to = SocketAddr::from(([127, 0, 0, 1], reflector.addresses()[0].port()));
    let [stranger, friend] = ["127.0.0.1:0", "127.0.0.3:0"].map(anybody);
    stranger.send_to(&packet(1), to).unwrap();
    until("it was refused", || reflector.counts().unwrap().refused == 1);
    friend.send_to(&packet(1), to).unwrap();
    let mut room = [0; 64];
    assert_eq!(friend.recv_from(&mut room).unwrap(), (44, to));
    stranger.set_nonblocking(true).unwrap();
    assert_eq!(stranger.recv_from(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_reflector_for_nobody_nowhere_or_elsewhere_says_what_to_do() {
    let spawn = |listen: &[&str], allow: &[&str]| {
        let policy = Policy::new(allow.iter().map(|prefix| prefix.parse().unwrap()).collect());
        Reflector::spawn(Options { listen: listen.iter().map(|at| at.parse().unwrap()).collect(), policy })
            .unwrap_err()
    };
    assert!(matches!(spawn(&["127.0.0.1:0"], &[]), Error::NobodyAllowed));
    assert!(matches!(spawn(&[], &["10.0.0.0/8"]), Error::NowhereToListen));
    let error = spawn(&["192.0.2.77:8620"], &["10.0.0.0/8"]).to_string();
    assert!(error.contains("192.0.2.77:8620") && error.contains("one of this machine's"), "{error}");
    let taken = anybody("127.0.0.1:0");
    let error = spawn(&[&taken.local_addr().unwrap().to_string()], &["10.0.0.0/8"]).to_string();
    assert!(error.contains("port free"), "{error}");
    assert_eq!(Options::new(Policy::new(Vec::new())).listen, ["127.0.0.1:862".parse().unwrap()]);
}

#[test]
fn it_stops_when_dropped_and_its_port_is_free_again() {
    let first = reflector(&["127.0.0.1:0", "127.0.0.2:0"], "127.0.0.0/8");
    let addresses = first.addresses().to_vec();
    drop(first);
    for at in addresses {
        UdpSocket::bind(at).unwrap();
    }
}

#[test]
fn a_restarted_reflector_is_noticed_and_a_dead_one_refuses() {
    let first = reflector(&["127.0.0.1:0"], "127.0.0.0/8");
    let to = first.addresses()[0];
    let mut sender = Sender::open(Family::V4).unwrap();
    for ticket in 0..5_u32 {
        sender.send(ticket, to).unwrap();
        assert!(!told(&mut sender).path.restarted);
    }
    drop(first);
    sender.send(5, to).unwrap();
    assert_eq!(hear(&mut sender), Heard::Lost(5, Lost::Refused));
    // What another target left pending fails no other packet.
    let closed = closed_port();
    sender.send(6, closed).unwrap();
    let _second = reflector(&[&to.to_string()], "127.0.0.0/8");
    sender.send(7, to).unwrap();
    let mut said = [hear(&mut sender), hear(&mut sender)];
    said.sort_by_key(|heard| matches!(heard, Heard::Reply(_)));
    assert_eq!(said[0], Heard::Lost(6, Lost::Refused));
    let Heard::Reply(told) = said[1] else { panic!("{said:?}") };
    assert_eq!((told.ticket, told.kind, told.path.restarted), (7, Kind::First, true));
    assert_eq!(told.path.since.lost.unknown, 1, "the one that was refused");
}

#[test]
fn what_answers_nothing_is_counted_and_counts_for_nothing() {
    let reflector = anybody("127.0.0.1:0");
    let to = reflector.local_addr().unwrap();
    let mut sender = Sender::open(Family::V4).unwrap();
    let key = sender.send("one", to).unwrap();
    assert_eq!((key.to, key.number), (to, FIRST));
    let mut room = [0; 100];
    let (length, back) = reflector.recv_from(&mut room).unwrap();
    let asked = SenderPacket::read(&room[..length]).unwrap();
    let good = ReflectorPacket {
        sequence: asked.sequence,
        sent: asked.sent,
        error: ErrorEstimate::UNKNOWN,
        ssid: 0,
        received: asked.sent,
        sender_sequence: asked.sequence,
        sender_sent: asked.sent,
        sender_error: asked.error,
        sender_ttl: 64,
    };
    let back = SocketAddr::from(([127, 0, 0, 1], back.port()));
    reflector.send_to(&good.bytes()[..43], back).unwrap();
    reflector.send_to(&ReflectorPacket { sender_sent: Stamp(1), ..good }.bytes(), back).unwrap();
    reflector.send_to(&ReflectorPacket { sender_sequence: 9, ..good }.bytes(), back).unwrap();
    anybody("127.0.0.1:0").send_to(&good.bytes(), back).unwrap();
    anybody("127.0.0.2:0").send_to(&good.bytes(), back).unwrap();
    // Longer than the packet, and last, so that all before it have come.
    reflector.send_to(&[&good.bytes()[..], &[1; 400]].concat(), back).unwrap();
    assert_eq!(told(&mut sender).kind, Kind::First);
    let strays = sender.strays();
    assert_eq!((strays.malformed, strays.unasked, strays.port, strays.address), (1, 2, 1, 1));
    assert_eq!(strays.total(), 5);

    // It copied the number, as a stateless one does; of one lost since then nobody knows the direction.
    let lost = sender.send("two", to).unwrap();
    sender.forget(lost);
    let third = sender.send("three", to).unwrap();
    let _ = reflector.recv_from(&mut room).unwrap();
    let (length, _) = reflector.recv_from(&mut room).unwrap();
    let asked = SenderPacket::read(&room[..length]).unwrap();
    assert_eq!(asked.sequence, third.number);
    let sent = asked.sent;
    let answer = ReflectorPacket {
        sequence: asked.sequence,
        sender_sequence: asked.sequence,
        sender_sent: sent,
        ..good
    };
    reflector.send_to(&answer.bytes(), back).unwrap();
    assert_eq!(told(&mut sender).path.since.lost.unknown, 1);
    let late = ReflectorPacket { sequence: lost.number, sender_sequence: lost.number, ..good };
    reflector.send_to(&late.bytes(), back).unwrap();
    until("the timestamp is not that packet's", || {
        sender.receive(&mut Vec::new());
        sender.strays().unasked == 3
    });
    sender.close(to);
    assert_eq!(sender.totals(to), None);
}

#[test]
fn an_address_of_the_other_family_is_refused_at_once() {
    let mut sender = Sender::open(Family::V4).unwrap();
    assert!(sender.send((), "[::1]:862".parse().unwrap()).is_err());
    assert_eq!(sender.totals("[::1]:862".parse().unwrap()), None);
}
