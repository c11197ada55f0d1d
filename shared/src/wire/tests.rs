use super::*;
use crate::observation::{Body, Detail, Lost, Outcome, Tunnel, Way};
use proptest::prelude::*;

const LINES: [&str; 8] = [
    r#"{"kind":"probe","at":"2026-11-22T07:00:01.000123Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":41,"link":"use1-euw1","probe":"icmp:10.1.0.10","rtt_ms":81.7}"#,
    r#"{"kind":"probe","at":"2026-11-22T07:00:02.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":42,"link":"use1-euw1","probe":"icmp:10.1.0.10","lost":"timeout"}"#,
    r#"{"kind":"tunnels","at":"2026-11-22T07:00:03.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":43,"link":"use1-euw1","vpn":"vpn-0a1b","tunnels":[{"outside_ip":"52.1.2.3","up":true,"accepted_routes":4,"since":"2026-11-21T00:00:00.000000Z","message":""}]}"#,
    r#"{"kind":"collection","at":"2026-11-22T07:00:04.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":44,"source":"ec2:vpn-status","ok":false,"error":"RequestLimitExceeded","took_ms":143.0}"#,
    r#"{"kind":"probe","at":"2026-11-22T07:00:05.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":45,"link":"use1-euw1","probe":"udp:10.1.0.10:862","rtt_ms":81.7,"burst":[81.5,null,81.7],"reordered":1,"jitter_ms":0.2,"forward":{"lost":1,"variation_ms":-0.1},"back":{"lost":0},"late_ms":12.5,"stamped":"user"}"#,
    r#"{"kind":"probe","at":"2026-11-22T07:00:06.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":46,"link":"use1-euw1","probe":"icmp:10.1.0.10@1436","lost":"too-big","mtu":1400}"#,
    r#"{"kind":"evidence","at":"2026-11-22T07:00:08.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":47,"link":"use1-euw1","probe":"icmp:10.1.0.10","evidence":{"at":"2026-11-22T07:00:07.000000Z","took_ms":900.0,"protocol":"icmp","target":"10.1.0.10","route":{"kind":"unicast","source":"10.0.0.10","gateway":"10.0.0.1","interface":"eth0"},"neighbour":{"address":"10.0.0.1","state":"reachable"},"path":{"hops":[{"ttl":1,"address":"10.0.0.1","rtt_ms":0.2,"said":"time-exceeded"}],"reached":false,"hidden_from":2},"sweep":{"absent":"no small packet passes"},"loopback":{"address":"127.0.0.1","rtt_ms":0.1},"gateway":{"address":"10.0.0.1","rtt_ms":0.2}}}"#,
    r#"{"kind":"drill","at":"2026-11-22T07:00:09.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":48,"id":"drill-6437c8a4b2f00-1a2b","rule":"ping-failed"}"#,
];

fn read(line: &str) -> Result<Row, WireError> {
    decode_row(line.as_bytes(), &mut Names::default())
}

#[test]
fn the_documented_lines_are_written_as_they_were_read() {
    for line in LINES {
        let Row::Observation(origin, observation) = read(line).unwrap() else { panic!("{line}") };
        assert_eq!(encode_row(&origin, &observation), line);
    }
}

#[test]
fn a_newer_major_version_is_refused_by_name() {
    let line = LINES[0].replace(r#""seq":41"#, r#""v":2,"seq":41"#);
    assert!(read(&line).unwrap_err().to_string().contains("wire version 2"));
    let batch = br#"{"v":7,"observations":"of another shape"}"#;
    let error = decode_batch(batch, &mut Names::default()).unwrap_err();
    assert!(error.to_string().contains("wire version 7"), "{error}");
}

#[test]
fn unknown_fields_are_skipped_and_unknown_kinds_named() {
    let line = LINES[0].replace(r#""seq":41"#, r#""seq":41,"ttl":[{"deep":1}]"#);
    assert_eq!(read(&line).unwrap(), read(LINES[0]).unwrap());
    assert_eq!(read(r#"{"kind":"weather","at":5}"#).unwrap(), Row::UnknownKind("weather".to_owned()));
}

#[test]
fn what_means_nothing_is_an_error_that_names_the_field() {
    let cases = [
        (LINES[0].replace(r#""link":"use1-euw1","#, ""), "'link' is absent"),
        (LINES[0].replace("81.7", "-1"), "rtt_ms is -1"),
        (LINES[0].replace("81.7", "1e999"), "number out of range"),
        // Two of them in a period would have no mean.
        (LINES[0].replace("81.7", "1e308"), "rtt_ms is 1e308 milliseconds; 1e9 are the most"),
        (LINES[3].replace("143.0", "1000000001"), "took_ms is 1.000000001e9 milliseconds"),
        (LINES[4].replace("[81.5,", "[1e300,"), "burst is 1e300"),
        (LINES[4].replace("-0.1", "-1e300"), "variation_ms of 'forward' is -1e300"),
        (LINES[0].replace(r#","rtt_ms":81.7"#, ""), "one of 'rtt_ms' and 'lost'"),
        (LINES[1].replace("timeout", "tired"), "lost is 'tired', none of timeout, unreachable"),
        (LINES[1].replace("2026-11-22T", "yesterday "), "is not a time"),
        (LINES[3].replace(r#""ok":false,"#, ""), "'ok' is absent"),
        (LINES[0].replace(r#""boot":"0193","#, ""), "'boot' is absent"),
    ];
    for (line, wanted) in cases {
        let error = read(&line).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error} for {line}");
    }
    assert!(read(&LINES[0][..60]).unwrap_err().is_cut_off());
    assert!(!read("{}").unwrap_err().is_cut_off());
}

fn name() -> impl Strategy<Value = Name> {
    "\\PC{0,12}|[\\x00-\\x1f\"\\\\]{1,4}".prop_map(|text| Name::from(text.as_str()))
}

fn body() -> impl Strategy<Value = Body> {
    let outcome = prop_oneof![
        (0.0..1e6).prop_map(|rtt_ms| Outcome::Reply { rtt_ms }),
        (0..Lost::ALL.len()).prop_map(|index| Outcome::Lost(Lost::ALL[index])),
    ];
    let tunnel = (name(), any::<bool>(), any::<u32>(), proptest::option::of(time()), name()).prop_map(
        |(outside_ip, up, accepted_routes, since, message)| Tunnel {
            outside_ip: outside_ip.to_string(),
            up,
            accepted_routes,
            since,
            message: message.to_string(),
        },
    );
    prop_oneof![
        (name(), name(), outcome, proptest::option::of(detail())).prop_map(
            |(link, probe, outcome, detail)| {
                let detail = detail.filter(|detail| *detail != Detail::default()).map(Box::new);
                Body::Probe { link, probe, outcome, detail }
            }
        ),
        (name(), name(), proptest::collection::vec(tunnel, 0..3))
            .prop_map(|(link, vpn, tunnels)| Body::Tunnels { link, vpn, tunnels }),
        (name(), any::<bool>(), proptest::option::of(name()), 0.0..1e6).prop_map(
            |(source, ok, error, took_ms)| Body::Collection {
                source,
                ok,
                error: error.map(|text| text.to_string()),
                took_ms,
            }
        ),
        (name(), proptest::option::of(name())).prop_map(|(id, rule)| Body::Drill { id, rule }),
    ]
}

fn detail() -> impl Strategy<Value = Detail> {
    let ms = || proptest::option::of(0.0..1e6);
    let way = || {
        let way = (any::<i32>(), proptest::option::of(-1e6..1e6));
        proptest::option::of(way.prop_map(|(lost, variation_ms)| Way { lost, variation_ms }))
    };
    let burst = proptest::collection::vec(ms(), 0..6);
    let mtu = proptest::option::of(any::<u32>());
    (burst, any::<u32>(), ms(), mtu, way(), way(), ms(), any::<bool>()).prop_map(
        |(burst, reordered, jitter_ms, mtu, forward, back, late_ms, user_stamped)| Detail {
            burst,
            reordered,
            jitter_ms,
            mtu,
            forward,
            back,
            late_ms,
            user_stamped,
        },
    )
}

fn time() -> impl Strategy<Value = Timestamp> {
    (Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros()).prop_map(Timestamp::from_micros)
}

fn observation() -> impl Strategy<Value = Observation> {
    (time(), any::<u64>(), body()).prop_map(|(at, seq, body)| Observation { at, seq, body })
}

proptest! {
    #[test]
    fn a_batch_survives_the_wire(
        site in name(), collector in name(), boot in name(), number in any::<u64>(), through in time(),
        observations in proptest::collection::vec(observation(), 0..8),
    ) {
        let batch = Batch { origin: Origin { site, collector, boot }, number, through, observations };
        let decoded = decode_batch(encode_batch(&batch).as_bytes(), &mut Names::default()).unwrap();
        prop_assert_eq!(decoded, Decoded { batch, unknown_kinds: 0, told: Vec::new() });
    }

    #[test]
    fn no_input_makes_the_reader_panic(text in "\\PC*", cut in 0..200usize) {
        let _ = read(&text);
        let _ = read(&LINES[2][..cut]);
        let _ = decode_batch(text.as_bytes(), &mut Names::default());
    }
}

#[test]
fn what_is_put_back_is_read_by_who_asks_for_it_and_refused_by_name_by_others() {
    let decoded = |line: &str| match read(line).unwrap() {
        Row::Observation(origin, observation) => (origin, observation),
        Row::UnknownKind(kind) => panic!("{kind}"),
    };
    let (origin, observation) = decoded(LINES[0]);
    let put_back = PutBack { origin, pages: true, observations: vec![observation] };
    let text = encode_put_back(&put_back);
    let message = decode_message(text.as_bytes(), &mut Names::default()).unwrap();
    assert_eq!(message, Message::PutBack(put_back.clone(), 0));
    let error = decode_batch(text.as_bytes(), &mut Names::default()).unwrap_err();
    assert!(matches!(error, WireError::PutBack), "{error}");
    // A program from before it has only the version to go by: what it needs of a batch is not there.
    assert!(text.starts_with(r#"{"v":2,"#) && !text.contains(r#""batch""#) && !text.contains(r#""through""#));

    let strange = text.replace(r#""observations":["#, r#""observations":[{"kind":"weather","at":5},"#);
    let message = decode_message(strange.as_bytes(), &mut Names::default()).unwrap();
    assert_eq!(message, Message::PutBack(put_back, 1));
    let newer = br#"{"v":2,"observations":"of another shape"}"#;
    let error = decode_message(newer, &mut Names::default()).unwrap_err();
    assert!(error.to_string().contains("wire version 2"), "{error}");
}

#[test]
fn what_an_alerter_tells_is_no_observation_and_a_reader_without_the_kind_skips_and_counts_it() {
    let at = Timestamp::from_secs(1_000);
    let told = crate::told::Told {
        id: "0193".to_owned(),
        state: "firing".to_owned(),
        revision: 0,
        receiver: "oncall".to_owned(),
        channel: "webhook".to_owned(),
        place: "use1-euw1".to_owned(),
        since: Some(at),
        until: None,
        down: false,
        at,
        text: "FIRING \u{1F525} \"use1-euw1\"".to_owned(),
        held: None,
    };
    let origin = Origin { site: "".into(), collector: "alerter".into(), boot: "b".into() };
    let text = encode_told(&origin, 7, at, &told);
    let decoded = decode_batch(text.as_bytes(), &mut Names::default()).unwrap();
    assert_eq!((decoded.told, decoded.unknown_kinds, decoded.batch.observations.len()), (vec![told], 0, 0));
    assert_eq!((decoded.batch.number, decoded.batch.origin), (7, origin));
    // To an older reader it is one of the kinds that it does not know, as this is to this one; so is one of a newer form.
    for newer in [text.replace("\"told\"", "\"newer\""), text.replace("\"revision\":0", "\"revision\":{}")] {
        let decoded = decode_batch(newer.as_bytes(), &mut Names::default()).unwrap();
        assert_eq!((decoded.told.len(), decoded.unknown_kinds, decoded.batch.observations.len()), (0, 1, 0));
    }
}
