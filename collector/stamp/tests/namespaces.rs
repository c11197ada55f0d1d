//! Packets lost on a real path, in one direction or both, are found in that direction, to the last one. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod world;

use std::net::SocketAddr;

use crosswatch_shared::observation::Lost;
use crosswatch_stamp::{ByDirection, Family, Heard, Key, Sender, Totals};
use world::{Pair, drop_incoming, hear, inside, pass, reflector, root, succeed, until, wait};

const PACKETS: u64 = 60 * BATCH;
/// So many are sent at once. The last of them is never dropped and waited for, so that no queue of the kernel overflows,
/// which would be a loss that no rule counts: the first number ends in 0 and every 16th in f, in hexadecimal.
const BATCH: u64 = 16;
/// All but those, by the last octet of the number: on the way out 11 octets after the beginning of UDP's header, on the way
/// back, where the number is copied, 35.
const OUT: &str = "udp dport 862 @th,88,8 & 0x0f != 0x0f numgen random mod 100 < 20";
const BACK: &str = "udp sport 862 @th,280,8 & 0x0f != 0x0f numgen random mod 100 < 30";

fn lost(forward: u64, back: u64) -> Totals {
    let [forward, back] = [forward, back].map(|count| i64::try_from(count).unwrap());
    Totals { lost: ByDirection { forward, back, unknown: 0 }, ..Totals::default() }
}

/// Sends this many, and waits for the last one's reply.
fn send(sender: &mut Sender<u64>, to: SocketAddr, count: u64) {
    let keys: Vec<Key> = (0..count).map(|ticket| sender.send(ticket, to).unwrap()).collect();
    let is_last = |heard: &Heard<u64>| matches!(heard, Heard::Reply(told) if told.number == keys.last().unwrap().number);
    let mut heard = Vec::new();
    while !heard.iter().any(is_last) {
        wait(sender);
        sender.receive(&mut heard);
    }
}

#[test]
fn what_is_lost_one_way_is_found_on_that_way_and_no_other() {
    if !root("what_is_lost_one_way_is_found_on_that_way_and_no_other") {
        return;
    }
    let pair = Pair::new();
    for (family, far, allow) in
        [(Family::V4, "10.78.0.2", "10.78.0.0/24"), (Family::V6, "fd78::2", "fd78::/64")]
    {
        let to: SocketAddr = (far.parse::<std::net::IpAddr>().unwrap(), 862).into();
        for (out, back) in [(true, false), (false, true), (true, true)] {
            let reflector = inside(&pair.far, || reflector(&[&to.to_string()], allow));
            let mut sender = inside(&pair.near, || Sender::open(family).unwrap());
            if out {
                drop_incoming(&pair.far, OUT);
            }
            if back {
                drop_incoming(&pair.near, BACK);
            }
            for _ in 0..PACKETS / BATCH {
                send(&mut sender, to, BATCH);
            }
            let dropped_out = if out { pass(&pair.far) } else { 0 };
            let dropped_back = if back { pass(&pair.near) } else { 0 };
            assert_eq!((dropped_out > 0, dropped_back > 0), (out, back));
            send(&mut sender, to, 1);
            let expected = lost(dropped_out, dropped_back);
            until(&format!("{family}, {out}, {back}: {expected:?}"), || {
                // Two processors may let the last overtake one before it, which takes its loss back when it comes.
                sender.receive(&mut Vec::new());
                sender.totals(to) == Some(expected)
            });
            let heard = reflector.heard().unwrap();
            // The reflector knows of those after the first that came.
            assert!(heard[0].missing <= dropped_out);
            assert_eq!(heard[0].packets, PACKETS + 1 - dropped_out);
        }
    }
}

#[test]
fn a_reflector_answers_its_networks_and_no_other() {
    if !root("a_reflector_answers_its_networks_and_no_other") {
        return;
    }
    let pair = Pair::new();
    succeed(&format!("ip -n {} addr add 10.79.0.1/24 dev cable", pair.near));
    succeed(&format!("ip -n {} route add 10.79.0.0/24 dev cable", pair.far));
    let reflector = inside(&pair.far, || reflector(&["10.78.0.2:862"], "10.79.0.0/24"));
    let to = reflector.addresses()[0];
    let mut sender = inside(&pair.near, || Sender::open(Family::V4).unwrap());
    for ticket in 0..10 {
        sender.send(ticket, to).unwrap();
    }
    until("they are refused", || reflector.counts().unwrap().refused == 10);
    // From its other address it is answered, so the silence above was the reflector's.
    succeed(&format!("ip -n {} route replace 10.78.0.0/24 dev cable src 10.79.0.1", pair.near));
    sender.send(10, to).unwrap();
    assert!(matches!(hear(&mut sender), Heard::Reply(told) if told.ticket == 10));
    assert_eq!(reflector.counts().unwrap().refused, 10);
    assert_eq!(reflector.heard().unwrap().len(), 1);
}

/// A route that changes, as when a tunnel comes up again by another, may change the source of what is sent.
#[test]
fn losses_are_found_in_their_direction_though_the_senders_address_changes() {
    if !root("losses_are_found_in_their_direction_though_the_senders_address_changes") {
        return;
    }
    let pair = Pair::new();
    for (family, far, network, [own, other]) in [
        (Family::V4, "10.78.0.2", "10.78.0.0/24", ["10.78.0.1", "10.78.0.9"]),
        (Family::V6, "fd78::2", "fd78::/64", ["fd78::1", "fd78::9"]),
    ] {
        let to: SocketAddr = (far.parse::<std::net::IpAddr>().unwrap(), 862).into();
        let length = if family == Family::V4 { 24 } else { 64 };
        let nodad = if family == Family::V4 { "" } else { " nodad" };
        succeed(&format!("ip -n {} addr add {other}/{length} dev cable{nodad}", pair.near));
        let from = |own: &str| {
            succeed(&format!("ip -n {} route replace {far} dev cable src {own}", pair.near));
        };
        let reflector = inside(&pair.far, || reflector(&[&to.to_string()], network));
        let mut sender = inside(&pair.near, || Sender::open(family).unwrap());
        // The reflector's count for the first is ahead of that for the second when it is asked from the first again.
        for (own, batches, sessions) in [(own, 3, 1), (other, 1, 2), (own, 1, 2)] {
            from(own);
            (0..batches).for_each(|_| send(&mut sender, to, BATCH));
            assert_eq!(reflector.heard().unwrap().len(), sessions, "{family}");
            assert_eq!(sender.totals(to), Some(Totals::default()), "{family}: nothing was lost from {own}");
        }
        drop_incoming(&pair.far, OUT);
        send(&mut sender, to, BATCH);
        send(&mut sender, to, BATCH);
        let dropped = pass(&pair.far);
        send(&mut sender, to, 1);
        until(&format!("{family}: {dropped} on the way out"), || {
            sender.receive(&mut Vec::new());
            sender.totals(to) == Some(lost(dropped, 0))
        });
    }
}

#[test]
fn what_the_kernel_or_a_router_says_is_a_loss_with_its_reason() {
    if !root("what_the_kernel_or_a_router_says_is_a_loss_with_its_reason") {
        return;
    }
    let pair = Pair::new();
    for (family, far) in [(Family::V4, "10.78.0.2:862"), (Family::V6, "[fd78::2]:862")] {
        let to: SocketAddr = far.parse().unwrap();
        let mut sender = inside(&pair.near, || Sender::open(family).unwrap());
        sender.send(1, to).unwrap();
        assert_eq!(hear(&mut sender), Heard::Lost(1, Lost::Refused), "{family}: nobody listens");
    }
    let reject = "table inet r { chain c { type filter hook input priority 0; udp dport 862 reject with icmpx type host-unreachable\n}\n}";
    let out =
        std::process::Command::new("ip").args(["netns", "exec", &pair.far, "nft", reject]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for (family, far) in [(Family::V4, "10.78.0.2:862"), (Family::V6, "[fd78::2]:862")] {
        let mut sender = inside(&pair.near, || Sender::open(family).unwrap());
        sender.send(2, far.parse().unwrap()).unwrap();
        assert_eq!(hear(&mut sender), Heard::Lost(2, Lost::Unreachable), "{family}: no way");
    }
    let mut sender = inside(&pair.near, || Sender::open(Family::V4).unwrap());
    assert_eq!(sender.send(3, "10.99.0.1:862".parse().unwrap()), Err(nix::errno::Errno::ENETUNREACH));
}
