//! With an implementation that is not ours, both ways: `stamp-suite`, which `tests/run` installs and `STAMP_SUITE` names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod world;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};

use crosswatch_stamp::session::{FIRST, Kind};
use crosswatch_stamp::{ByDirection, Family, Heard, Mode, Sender, Totals};
use world::{Pair, drop_incoming, inside, not_run, pass, reflector, root, told, until, wait};

/// The program; `None` after saying that the test does not run.
fn stamp_suite(test: &str) -> Option<String> {
    let program = std::env::var("STAMP_SUITE").ok();
    if program.is_none() {
        not_run(test, "STAMP_SUITE names no stamp-suite; tests/run installs it");
    }
    program
}

/// Its reflector, killed when this is dropped.
struct Theirs(Child);

impl Theirs {
    fn start(command: &mut Command, at: SocketAddr, more: &[&str]) -> Self {
        let (address, port) = (at.ip().to_string(), at.port().to_string());
        command.args(["--is-reflector", "--local-addr", &address, "--local-port", &port]).args(more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let theirs = Self(child);
        let listening = said.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(listening, "it ended before it listened");
        // Read on, or it would stand still at a full pipe.
        std::thread::spawn(move || said.for_each(drop));
        theirs
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address with a port that was free a moment ago.
fn free(host: &str) -> SocketAddr {
    UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn our_sender_understands_their_reflector() {
    let Some(program) = stamp_suite("our_sender_understands_their_reflector") else { return };
    for (family, host) in [(Family::V4, "127.0.0.1"), (Family::V6, "::1")] {
        for format in ["NTP", "PTP"] {
            for stateful in [true, false] {
                let to = free(host);
                let mut more = vec!["--clock-source", format];
                more.extend(stateful.then_some("--stateful-reflector"));
                let _theirs = Theirs::start(&mut Command::new(&program), to, &more);
                let mut sender = Sender::open(family).unwrap();
                for ticket in 0..20_u32 {
                    sender.send(ticket, to).unwrap();
                    let told = told(&mut sender);
                    assert_eq!((told.ticket, told.number, told.kind), (ticket, FIRST + ticket, Kind::First));
                    assert!(told.dwell.is_some() && told.stamped, "{format}: {told:?}");
                    assert_eq!(told.path.since, Totals::default());
                }
                let mode = if stateful { Mode::Stateful } else { Mode::Stateless };
                assert_eq!(sender.mode(to), Some(mode), "from the first reply on");
                assert_eq!(sender.strays().total(), 0);
            }
        }
    }
}

#[test]
fn their_sender_understands_our_reflector() {
    let Some(program) = stamp_suite("their_sender_understands_our_reflector") else { return };
    for (listen, allow, options) in [
        ("127.0.0.1:0", "127.0.0.0/8", &[][..]),
        ("[::1]:0", "::1", &["--local-addr", "::"]),
        ("127.0.0.1:0", "127.0.0.0/8", &["--ssid", "7"]),
        ("127.0.0.1:0", "127.0.0.0/8", &["--clock-source", "PTP"]),
        // With TLVs, which go back as they came.
        ("127.0.0.1:0", "127.0.0.0/8", &["--ssid", "8", "--timestamp-info", "--location"]),
    ] {
        let reflector = reflector(&[listen], allow);
        let at = reflector.addresses()[0];
        let (address, port) = (at.ip().to_string(), at.port().to_string());
        let out = Command::new(&program)
            .args(["--remote-addr", &address, "--remote-port", &port, "--count", "50", "--send-delay", "2"])
            .args(["--timeout", "2", "--output-format", "json"])
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{options:?}: {said}");
        for expected in [
            "\"packets_sent\":50,",
            "\"packets_received\":50,",
            "\"packets_lost\":0,",
            "\"duplicate_replies\":0,",
            "\"unknown_replies\":0,",
            "\"last_reflector_sequence\":49,",
            "\"invalid_estimate\":0,",
        ] {
            assert!(said.contains(expected), "{options:?}: no {expected} in {said}");
        }
        let heard = reflector.heard().unwrap();
        assert_eq!((heard.len(), heard[0].packets, heard[0].missing), (1, 50, 0), "{options:?}");
    }
}

#[test]
fn losses_before_and_after_their_reflector_are_found_exactly() {
    let test = "losses_before_and_after_their_reflector_are_found_exactly";
    if !root(test) {
        return;
    }
    let Some(program) = stamp_suite(test) else { return };
    let pair = Pair::new();
    let to: SocketAddr = "10.78.0.2:862".parse().unwrap();
    for stateful in [true, false] {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &pair.far, &program]);
        let more = stateful.then_some("--stateful-reflector");
        let _theirs = Theirs::start(&mut command, to, more.as_slice());
        let mut sender = inside(&pair.near, || Sender::open(Family::V4).unwrap());
        sender.send(0, to).unwrap();
        told(&mut sender);
        drop_incoming(&pair.far, "udp dport 862 numgen random mod 100 < 20");
        drop_incoming(&pair.near, "udp sport 862 numgen random mod 100 < 30");
        for ticket in 1..100_u32 {
            sender.send(ticket, to).unwrap();
        }
        let (out, back) = (pass(&pair.far), pass(&pair.near));
        let last = sender.send(100, to).unwrap();
        let mut heard = Vec::new();
        while !heard.iter().any(|heard| matches!(heard, Heard::Reply(told) if told.number == last.number)) {
            wait(&sender);
            sender.receive(&mut heard);
        }
        let [out, back] = [out, back].map(|count| i64::try_from(count).unwrap());
        assert!(out > 0 && back > 0, "{out} and {back}");
        let lost = if stateful {
            ByDirection { forward: out, back, unknown: 0 }
        } else {
            ByDirection { forward: 0, back: 0, unknown: out + back }
        };
        let expected = Totals { lost, ..Totals::default() };
        until(&format!("stateful: {stateful}: {expected:?}"), || {
            // Two processors may let the last overtake one before it, which takes its loss back when it comes.
            sender.receive(&mut Vec::new());
            sender.totals(to) == Some(expected)
        });
    }
}
