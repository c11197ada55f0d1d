//! Composite alarms: what their rule expressions mean, and which are refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use crosswatch_evaluator::State::{self, Alarm, InsufficientData, Ok};
use crosswatch_evaluator::composite::{Error, parse};
use proptest::prelude::*;

/// `a` is in alarm, `o` is OK, anything else is unknown.
fn state(name: &str) -> State {
    match name {
        "a" => Alarm,
        "o" => Ok,
        _ => InsufficientData,
    }
}

#[test]
fn a_rule_is_in_alarm_when_it_holds_of_its_children() {
    let cases = [
        ("ALARM(a)", true),
        ("ALARM(\"o\")", false),
        ("OK(o) AND INSUFFICIENT_DATA(\"x y (z)\")", true),
        ("TRUE", true),
        ("NOT FALSE AND NOT NOT TRUE", true),
        // AND before OR, NOT before both.
        ("ALARM(a) OR ALARM(o) AND FALSE", true),
        ("(ALARM(a) OR ALARM(o)) AND FALSE", false),
        ("NOT ALARM(o) OR ALARM(a)", true),
        ("NOT (ALARM(o) OR ALARM(a))", false),
        ("NOT(ALARM(a))AND TRUE", false),
        ("\n OK ( o )\tAND ALARM( \"a\" ) ", true),
        ("ALARM(arn:aws:cloudwatch:us-east-1:123456789012:alarm:x)", false),
    ];
    for (text, holds) in cases {
        let expected = if holds { Alarm } else { Ok };
        assert_eq!(parse(text).unwrap().evaluate(state), expected, "{text}");
    }
}

#[test]
fn children_are_told_once_each_and_without_quotes() {
    let rule = parse(r#"ALARM("b: \"x\"") OR OK(a) OR ALARM("a") AND TRUE"#).unwrap();
    assert_eq!(rule.children().into_iter().collect::<Vec<_>>(), ["a", "b: \"x\""]);
}

#[test]
fn what_is_not_of_the_grammar_is_refused_with_its_place() {
    let cases = [
        ("", 1),
        ("ALARM", 6),
        ("ALARM()", 7),
        ("ALARM(\"\")", 7),
        ("ALARM(a", 8),
        ("ALARM(a b)", 9),
        ("ALARM(\"a", 7),
        ("alarm(a)", 1),
        ("ALARM(a) ALARM(b)", 10),
        ("ALARM(a) AND", 13),
        ("AND ALARM(a)", 1),
        ("(ALARM(a)", 10),
        ("ALARM(a))", 9),
        ("AT_LEAST(1, ALARM: (a))", 1),
    ];
    for (text, place) in cases {
        match parse(text) {
            Err(Error::Syntax { at, .. }) => assert_eq!(at, place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn the_limits_are_held() {
    let many = |count: usize| (0..count).map(|n| format!("ALARM(a{n})")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(parse(&many(100)).unwrap().children().len(), 100);
    assert_eq!(parse(&many(101)), Err(Error::Children { children: 101 }));
    assert!(parse(&vec!["TRUE"; 500].join(" OR ")).is_ok());
    assert_eq!(parse(&vec!["TRUE"; 501].join(" OR ")), Err(Error::Elements));
    assert_eq!(parse(&format!("TRUE{}", " ".repeat(10_237))), Err(Error::Long { length: 10_241 }));
    assert!(parse(&format!("TRUE{}", " ".repeat(10_236))).is_ok());
    // Nor does depth end the process.
    assert_eq!(parse(&"(".repeat(10_000)), Err(Error::Elements));
    assert_eq!(parse(&"NOT ".repeat(2_500)), Err(Error::Elements));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ANDORTUEFLS()\" \\\\a]{0,60}") {
        let _ = parse(&text);
    }
}
