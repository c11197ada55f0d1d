//! Metric alarms, by the tables of "Configuring how CloudWatch alarms treat missing data" (Amazon CloudWatch User Guide).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use std::time::Duration;

use crosswatch_evaluator::State::{self, Alarm, InsufficientData, Ok};
use crosswatch_evaluator::{Comparison, Datum, Evaluation, MetricAlarm, Missing, Statistic, acts, evaluate};
use crosswatch_shared::time::Timestamp;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const MISSINGS: [Missing; 4] = [Missing::Missing, Missing::Ignore, Missing::Breaching, Missing::NotBreaching];

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn alarm(n: u32, m: u32, missing: Missing) -> MetricAlarm {
    MetricAlarm {
        period: MINUTE * 5,
        evaluation_periods: n,
        datapoints_to_alarm: m,
        statistic: Statistic::Average,
        comparison: Comparison::Greater,
        threshold: 0.5,
        missing,
    }
}

/// Data as the tables write them, the newest last: `0`, `X` or `-`.
fn data(text: &str, period: Duration) -> Vec<Datum> {
    let points: Vec<_> = text.split_whitespace().collect();
    let mut data = Vec::new();
    for (back, point) in points.iter().rev().enumerate() {
        let at = now() - period * u32::try_from(back + 1).unwrap();
        match *point {
            "-" => {}
            "0" => data.push(Datum { at, values: vec![(0.0, 1.0)] }),
            "X" => data.push(Datum { at, values: vec![(1.0, 1.0)] }),
            other => panic!("{other}"),
        }
    }
    data
}

/// `None`: the present state stays, whichever it is.
fn holds(n: u32, m: u32, text: &str, missing: Missing, expected: Option<State>) {
    for present in [Ok, Alarm, InsufficientData] {
        let Evaluation { state, reason } =
            evaluate(&alarm(n, m, missing), &data(text, MINUTE * 5), now(), present);
        assert_eq!(
            state,
            expected.unwrap_or(present),
            "{text}, {m} of {n}, {missing:?}, {present:?}: {reason}"
        );
    }
}

#[test]
fn three_of_three_as_the_first_table_has_it() {
    let rows = [
        ("0 - X - X", [Some(Ok); 4]),
        ("0 - - - -", [Some(Ok); 4]),
        ("- - - - -", [Some(InsufficientData), None, Some(Alarm), Some(Ok)]),
        ("0 X X - X", [Some(Alarm); 4]),
        ("- - X - -", [Some(Alarm), None, Some(Alarm), Some(Ok)]),
    ];
    for (text, expected) in rows {
        MISSINGS.iter().zip(expected).for_each(|(missing, state)| holds(3, 3, text, *missing, state));
    }
}

#[test]
fn two_of_three_as_the_second_table_has_it() {
    let rows = [
        ("0 - X - X", [Some(Alarm); 4]),
        ("0 0 X 0 X", [Some(Alarm); 4]),
        ("0 - X - -", [Some(Ok), Some(Ok), Some(Alarm), Some(Ok)]),
        ("- - - - 0", [Some(Ok), Some(Ok), Some(Alarm), Some(Ok)]),
        ("- - - X -", [Some(Alarm), None, Some(Alarm), Some(Ok)]),
    ];
    for (text, expected) in rows {
        MISSINGS.iter().zip(expected).for_each(|(missing, state)| holds(3, 2, text, *missing, state));
    }
}

/// "Avoiding premature transitions to alarm state", of the same page.
#[test]
fn what_comes_intermittently_is_no_alarm_too_early() {
    for text in ["- - - - X", "- - - X -"] {
        let evaluation = evaluate(&alarm(3, 3, Missing::Missing), &data(text, MINUTE * 5), now(), Ok);
        assert_eq!(evaluation.state, Ok, "{text}: {}", evaluation.reason);
    }
    for text in ["- - - X 0", "- - X - 0"] {
        holds(3, 3, text, Missing::Missing, Some(Ok));
    }
    holds(3, 3, "- - X - -", Missing::Missing, Some(Alarm));
}

#[test]
fn a_non_breaching_point_leaves_the_range_with_the_next_evaluation() {
    let later = now() + MINUTE * 5;
    let evaluation = evaluate(&alarm(3, 3, Missing::Breaching), &data("0 - - - -", MINUTE * 5), later, Ok);
    assert_eq!(evaluation.state, Alarm, "{}", evaluation.reason);
}

#[test]
fn each_comparison_and_statistic_is_as_its_name_says() {
    let data = [
        Datum { at: now() - MINUTE, values: vec![(10.0, 1.0), (20.0, 2.0)] },
        Datum { at: now() - Duration::from_secs(1), values: vec![(30.0, 97.0), (0.0, 0.0)] },
    ];
    let value = |word: &str, comparison: &str, threshold: f64| {
        let alarm = MetricAlarm {
            period: MINUTE,
            evaluation_periods: 1,
            datapoints_to_alarm: 1,
            statistic: Statistic::parse(word).unwrap(),
            comparison: Comparison::parse(comparison).unwrap(),
            threshold,
            missing: Missing::parse("ignore").unwrap(),
        };
        evaluate(&alarm, &data, now(), InsufficientData).state
    };
    let of = [
        ("Average", 29.6),
        ("Minimum", 10.0),
        ("Maximum", 30.0),
        ("Sum", 2960.0),
        ("SampleCount", 100.0),
        ("p1", 10.0),
        ("p3", 20.0),
        ("p3.1", 30.0),
        ("p100", 30.0),
    ];
    for (word, expected) in of {
        assert_eq!(value(word, "GreaterThanOrEqualToThreshold", expected), Alarm, "{word}");
        assert_eq!(value(word, "LessThanOrEqualToThreshold", expected), Alarm, "{word}");
        assert_eq!(value(word, "GreaterThanThreshold", expected), Ok, "{word}");
        assert_eq!(value(word, "LessThanThreshold", expected), Ok, "{word}");
    }
    assert!(
        ["p", "p101", "p-1", "pinf", "Median", "average"].iter().all(|word| Statistic::parse(word).is_none())
    );
}

#[test]
fn a_period_counts_when_it_is_over_and_holds_its_start_and_not_its_end() {
    let alarm = MetricAlarm { period: MINUTE, ..alarm(1, 1, Missing::Missing) };
    let one = |at| [Datum { at, values: vec![(1.0, 1.0)] }];
    let state = |at, now| evaluate(&alarm, &one(at), now, Ok).state;
    assert_eq!(state(now(), now() + Duration::from_secs(59)), InsufficientData, "not over");
    assert_eq!(state(now(), now() + MINUTE), Alarm);
    assert_eq!(state(now() + Duration::from_millis(59_999), now() + MINUTE), Alarm);
    assert_eq!(state(now() - MINUTE * 4, now()), InsufficientData, "out of the range of three");
}

#[test]
fn what_is_older_than_three_hours_is_not_seen() {
    let alarm = MetricAlarm { period: MINUTE * 60, ..alarm(4, 1, Missing::Missing) };
    let one = |back| [Datum { at: now() - MINUTE * back, values: vec![(1.0, 1.0)] }];
    assert_eq!(evaluate(&alarm, &one(180), now(), Ok).state, Alarm);
    assert_eq!(evaluate(&alarm, &one(181), now(), Ok).state, InsufficientData);
}

#[test]
fn actions_are_due_when_the_state_changes_and_they_are_enabled() {
    assert!(acts(Ok, Alarm, true) && acts(Alarm, Ok, true));
    assert!(!acts(Alarm, Alarm, true) && !acts(Ok, Alarm, false));
}

proptest! {
    /// With every period there, missing data cannot matter, and M of N is all there is.
    #[test]
    fn without_missing_data_all_treatments_agree(points in proptest::collection::vec(any::<bool>(), 12), n in 1..10u32, m in 1..10u32) {
        let m = m.min(n);
        let text: Vec<_> = points.iter().map(|breaches| if *breaches { "X" } else { "0" }).collect();
        let breaching = points.iter().rev().take(n as usize).filter(|breaches| **breaches).count();
        let expected = if breaching >= m as usize { Alarm } else { Ok };
        for missing in MISSINGS {
            let state = evaluate(&alarm(n, m, missing), &data(&text.join(" "), MINUTE * 5), now(), InsufficientData).state;
            prop_assert_eq!(state, expected);
        }
    }
}
