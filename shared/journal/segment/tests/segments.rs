//! What goes into a segment comes out of it, and a segment that is not as it was written is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crosswatch_segment::{Content, Entry, Segment, SegmentError, encode};
use crosswatch_shared::observation::{Batch, Body, Detail, Lost, Observation, Origin, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Vec<Entry>, SegmentError> {
    let segment = Segment::decode(bytes)?;
    (0..segment.len()).map(|place| segment.entry(place)).collect()
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (1_795_330_800_000_000..1_795_330_900_000_000_i64).prop_map(Timestamp::from_micros),
        any::<i64>().prop_map(Timestamp::from_micros),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let name = prop_oneof![Just("l"), Just("m"), Just("a \"name\" in\nquotes")];
    let rtt = prop_oneof![
        (0..400_000_000_u32).prop_map(|whole| f64::from(whole) / 1e6),
        0.0..1e9_f64,
        Just(0.0),
        // The most there is.
        Just(1e9),
    ];
    let outcome = prop_oneof![
        6 => rtt.prop_map(|rtt_ms| Outcome::Reply { rtt_ms }),
        2 => prop::sample::select(Lost::ALL.to_vec()).prop_map(Outcome::Lost),
    ];
    let detail = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Box::new(Detail { user_stamped: true, ..Detail::default() }))),
        1 => Just(Some(Box::new(Detail { late_ms: Some(12.5), ..Detail::default() }))),
    ];
    let probe = (name, outcome, detail).prop_map(|(name, outcome, detail)| Body::Probe {
        link: name.into(),
        probe: format!("icmp:{name}").as_str().into(),
        outcome,
        detail,
    });
    let tunnels = (0..3_usize).prop_map(|count| Body::Tunnels {
        link: "l".into(),
        vpn: "vpn-1".into(),
        tunnels: vec![
            Tunnel {
                outside_ip: "52.1.2.3".to_owned(),
                up: true,
                accepted_routes: 4,
                since: None,
                message: "\u{e9}".to_owned(),
            };
            count
        ],
    });
    let collection = any::<bool>().prop_map(|ok| Body::Collection {
        source: "icmp".into(),
        ok,
        error: (!ok).then(|| "no\nroom".to_owned()),
        took_ms: 0.25,
    });
    prop_oneof![8 => probe, 1 => tunnels, 1 => collection]
}

fn entry() -> impl Strategy<Value = Entry> {
    let observation =
        (time(), any::<u64>(), body()).prop_map(|(at, seq, body)| Observation { at, seq, body });
    let origin = prop::sample::select(vec!["boot-1", "boot-2"]).prop_map(|boot| Origin {
        site: "a".into(),
        collector: "c".into(),
        boot: boot.into(),
    });
    let batch = (origin, any::<u64>(), time(), vec(observation, 0..12))
        .prop_map(|(origin, number, through, observations)| Batch { origin, number, through, observations });
    let content = prop_oneof![
        8 => batch.prop_map(Content::Batch),
        1 => vec(any::<u8>(), 0..40).prop_map(Content::Raw),
    ];
    (time(), content).prop_map(|(written_at, content)| Entry { written_at, content })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn entries_come_out_as_they_went_in(entries in vec(entry(), 0..30)) {
        let bytes = encode(&entries).unwrap();
        prop_assert_eq!(read(&bytes).unwrap(), entries);
    }

    #[test]
    fn a_segment_that_was_changed_or_cut_off_is_refused(
        entries in vec(entry(), 1..6), place in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>(),
    ) {
        let mut bytes = encode(&entries).unwrap();
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] ^= 1 << bit;
        }
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn a_newer_segment_and_another_file_are_told_apart_from_a_damaged_one() {
    let mut bytes = encode(&[]).unwrap();
    bytes[4] = 2;
    assert!(matches!(read(&bytes), Err(SegmentError::Newer { found: 2 })));
    assert!(matches!(read(b"SQLite format 3\0"), Err(SegmentError::Foreign)));
    assert!(matches!(read(b"CWSG\x01\0\0\0"), Err(SegmentError::Damaged(_))));
}
