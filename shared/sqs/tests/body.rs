//! What is sent is what is read, through the real wire form; and nothing that is read fills memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crosswatch_aws::sqs::{BILLED, BYTES};
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Origin, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch, encode_batch};
use crosswatch_sqs::body::{LONGEST, decode, encode, fitting};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}|[\\x00-\\x1f\"\\\\\u{fffe}\u{ffff}]{1,4}"
}

fn body() -> impl Strategy<Value = Body> {
    let tunnel =
        (text(), any::<bool>(), any::<u32>(), text()).prop_map(|(ip, up, accepted_routes, message)| Tunnel {
            outside_ip: ip,
            up,
            accepted_routes,
            since: None,
            message,
        });
    prop_oneof![
        (text(), text(), 0.0..1e6).prop_map(|(link, probe, rtt_ms)| Body::Probe {
            link: link.as_str().into(),
            probe: probe.as_str().into(),
            outcome: Outcome::Reply { rtt_ms },
            detail: None,
        }),
        (text(), 0..Lost::ALL.len()).prop_map(|(link, lost)| Body::Probe {
            link: link.as_str().into(),
            probe: "p".into(),
            outcome: Outcome::Lost(Lost::ALL[lost]),
            detail: None,
        }),
        (text(), prop::collection::vec(tunnel, 0..3)).prop_map(|(vpn, tunnels)| Body::Tunnels {
            link: "l".into(),
            vpn: vpn.as_str().into(),
            tunnels,
        }),
        (text(), any::<bool>(), prop::option::of(text()), 0.0..1e6).prop_map(
            |(source, ok, error, took_ms)| {
                Body::Collection { source: source.as_str().into(), ok, error, took_ms }
            }
        ),
    ]
}

proptest! {
    #[test]
    fn a_batch_survives_as_text(
        number in 0..u64::MAX >> 1, through in -1_000_000_000_000_000..4_000_000_000_000_000_i64,
        bodies in prop::collection::vec(body(), 0..6), times in prop_oneof![Just(1_usize), Just(400)],
    ) {
        let all = bodies.iter().cycle().take(bodies.len() * times).enumerate();
        let observations = all.map(|(seq, body)| Observation {
            at: Timestamp::from_micros(through + seq as i64),
            seq: seq as u64,
            body: body.clone(),
        });
        let batch = Batch {
            origin: Origin { site: "s".into(), collector: "c".into(), boot: "b".into() },
            number,
            through: Timestamp::from_micros(through),
            observations: observations.collect(),
        };
        let wire = encode_batch(&batch);
        let plain = wire.len() <= BILLED && !wire.contains(['\u{fffe}', '\u{ffff}']);
        let text = encode(wire);
        prop_assert_eq!(text.starts_with('{'), plain);
        // https://www.w3.org/TR/REC-xml/#charsets, which is what SQS takes.
        let taken = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        prop_assert!(text.chars().all(taken));
        let decoded = decode_batch(&decode(&text).unwrap(), &mut Names::default()).unwrap();
        prop_assert_eq!(decoded.batch, batch);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(zstd:)?[A-Za-z0-9+/]{0,200}") {
        let _ = decode(&text);
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

fn read(compressed: &[u8]) -> Result<Vec<u8>, String> {
    decode(&format!("zstd:{}", STANDARD_NO_PAD.encode(compressed))).map_err(|error| error.to_string())
}

#[test]
fn a_bomb_is_refused_by_what_it_says_of_itself() {
    let bomb = compressed(&vec![b' '; LONGEST + 1]);
    assert!(bomb.len() < 4_096, "{} bytes would become {}", bomb.len(), LONGEST + 1);
    assert!(read(&bomb).unwrap_err().contains("16777217 bytes"), "{:?}", read(&bomb));
    assert_eq!(read(&compressed(&vec![b' '; LONGEST])).unwrap().len(), LONGEST);
}

#[test]
fn a_bomb_that_lies_or_is_silent_about_its_length_is_refused() {
    // A frame in a stream does not tell its length: https://www.rfc-editor.org/rfc/rfc8878#name-frame-header
    let mut stream = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    stream.include_contentsize(false).unwrap();
    stream.write_all(&vec![b' '; 100_000]).unwrap();
    let error = read(&stream.finish().unwrap()).err().unwrap();
    assert!(error.contains("does not tell"), "{error}");
    // Its length as four bytes after the magic number and the descriptor, made small.
    let mut liar = compressed(&vec![b' '; 1 << 20]);
    let place = liar.windows(4).position(|bytes| bytes == (1_u32 << 20).to_le_bytes()).unwrap();
    liar[place..place + 4].copy_from_slice(&70_000_u32.to_le_bytes());
    assert!(read(&liar).is_err(), "more than it says");
    assert!(read(b"what is no zstd").is_err());
    assert!(decode("zstd:???").unwrap_err().to_string().contains("not base64"));
}

#[test]
fn what_is_too_much_for_a_message_is_told() {
    // Digits of a generator: nothing that compresses to less than four bits a digit.
    let mut state = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 10).unwrap())
    })
    .take(2 * BYTES)
    .collect();
    assert!(fitting(noise[..BYTES].to_owned()).is_some());
    assert_eq!(fitting(noise), None);
    assert_eq!(fitting(" ".repeat(LONGEST + 1)), None, "who receives it would refuse it");
}
