//! A report is one file that loads nothing, and in which names are text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::time::Duration;

use crosswatch_replay::report::{Incident, Seen, html};
use crosswatch_replay::source::Piece;
use crosswatch_shared::observation::{Body, Observation, Tunnel};

use world::{at, batches, origin, outcome_of, trouble};

const HOSTILE: &str = "<script>alert('x')</script>\"&";

fn incident(word: &str) -> Incident {
    Incident {
        id: word.to_owned(),
        place: word.to_owned(),
        verdict: word.to_owned(),
        summary: word.to_owned(),
        opened: at(22),
        resolved: Some((at(30), word.to_owned())),
        symptoms: vec![(word.to_owned(), word.to_owned(), at(22), word.to_owned(), Some(at(30)))],
        told: vec![(at(23), word.to_owned(), "accepted".to_owned(), word.to_owned(), Some(at(24)))],
    }
}

fn tunnel(up: bool) -> Body {
    Body::Tunnels {
        link: "l".into(),
        vpn: "vpn-1".into(),
        tunnels: vec![Tunnel {
            outside_ip: "52.1.2.3".to_owned(),
            up,
            accepted_routes: 0,
            since: None,
            message: "IPSEC IS DOWN".to_owned(),
        }],
    }
}

#[test]
fn a_report_has_what_was_judged_told_and_seen_in_the_order_of_time() {
    let mut seen = Seen::new(at(0), at(60));
    for site in ["a", "b"] {
        for batch in batches(site, trouble(20, (6, None), 34)) {
            seen.take(&Piece::Batch(batch.clone(), batch.through));
        }
    }
    for (second, up) in [(5, true), (21, false), (25, false), (40, true), (90, false)] {
        seen.take(&Piece::Row(origin("a"), Observation { at: at(second), seq: 0, body: tunnel(up) }));
    }
    let report = html("black-hole l", &[incident("black-hole")], &seen).unwrap();
    assert!(report.contains("124 observations"), "what is outside of its time is left out");
    let places =
        ["tunnel l/vpn-1 52.1.2.3 down", "fires for black-hole", "told black-hole", "52.1.2.3 up: IPSEC"];
    let timeline = report.split("<h3>Timeline</h3>").nth(1).unwrap();
    let found: Vec<_> =
        places.map(|words| timeline.find(words).unwrap_or_else(|| panic!("{words}"))).to_vec();
    // Of a tunnel's polls its changes alone.
    assert_eq!(timeline.split("</table>").next().unwrap().matches("52.1.2.3").count(), 3);
    assert!(found[..3].is_sorted(), "{found:?}");
    // Both directions in one drawing, with their names, and the losses below.
    assert_eq!(report.matches("<svg").count(), 1);
    for words in ["a/p", "b/q", "round trip, ms", "lost, %", "07:00:"] {
        assert!(report.contains(words), "{words}");
    }
}

#[test]
fn names_are_text_and_nothing_is_loaded() {
    let mut seen = Seen::new(at(0), at(60));
    let body = outcome_of(HOSTILE, HOSTILE, Some(1.0));
    for second in 0..10 {
        let at = at(0) + Duration::from_secs(second);
        seen.take(&Piece::Row(origin(HOSTILE), Observation { at, seq: second, body: body.clone() }));
    }
    let report = html(HOSTILE, &[incident(HOSTILE)], &seen).unwrap();
    assert!(!report.contains("<script") && !report.contains("alert('"), "{report}");
    assert!(report.matches("&lt;script&gt;").count() > 10);
    for loads in ["src=", "href=", "url(", "@import", "http://", "https://"] {
        let found = report.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!found.contains(loads), "{loads}");
    }
}

#[test]
fn no_line_is_drawn_through_what_was_lost() {
    let drawn = |lost: std::ops::Range<u64>| {
        let mut seen = Seen::new(at(0), at(60));
        for second in 0..60 {
            let rtt = (!lost.contains(&second)).then_some(80.0);
            let body = outcome_of("l", "p", rtt);
            let at = at(0) + Duration::from_secs(second);
            seen.take(&Piece::Row(origin("a"), Observation { at, seq: second, body }));
        }
        let report = html("l", &[], &seen).unwrap();
        (report.matches("<polyline").count(), report.matches("<circle").count())
    };
    let (lines, dots) = drawn(0..0);
    assert_eq!(drawn(20..40), (lines + 1, dots), "in two parts");
    assert_eq!(drawn(1..40), (lines, dots + 1), "one reply alone is a dot");
}

#[test]
fn nothing_seen_and_nothing_judged_is_said() {
    let report = html("empty", &[], &Seen::new(at(0), at(0))).unwrap();
    assert!(report.contains("no incident of this time") && report.contains(" 0 observations"));
}
