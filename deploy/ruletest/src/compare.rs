//! What came compared with what was expected, and the difference for a person to read.

use std::fmt::Write as _;
use std::time::Duration;

use crosswatch_alerter::rehearsal::Told;
use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use crate::expected::{Notification, Verdict, seconds};
use crate::{Case, Played};

impl Case {
    /// How what came differs from what was expected: lines that begin with `-` for what is missing, with `+` for what was
    /// not expected, and neither for what is as it should be; `None` when nothing differs.
    #[must_use]
    pub fn differs(&self, played: &Played) -> Option<String> {
        let mut out = String::new();
        if let Some(expected) = &self.transitions {
            let came: Vec<&Transition> =
                played.transitions.iter().filter(|came| self.compares(&came.rule)).collect();
            let is_it = |expected: &Verdict, came: &&Transition| self.is_verdict(expected, came);
            let missing = |expected: &Verdict| (expected.at, verdict_line(expected));
            let found = |came: &&Transition| (came.at.since(self.start), self.transition_line(came));
            differences(&mut out, "transitions", expected, &came, is_it, missing, found);
        }
        if let Some(expected) = &self.notifications {
            let came = self.notifications_of(played);
            let is_it = |expected: &Notification, came: &&Told| self.is_notification(expected, came);
            let missing = |expected: &Notification| (expected.at, notification_line(expected));
            let found = |came: &&Told| (came.at.since(self.start), self.told_line(came));
            differences(&mut out, "notifications", expected, &came, is_it, missing, found);
        }
        (!out.is_empty()).then_some(out)
    }

    fn compares(&self, rule: &str) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.iter().any(|known| **known == *rule))
    }

    /// What each receiver was told: by however many ways, it counts once.
    fn notifications_of<'a>(&self, played: &'a Played) -> Vec<&'a Told> {
        let mut came: Vec<&Told> = Vec::new();
        for told in played.told.iter().filter(|told| self.compares(&told.rule)) {
            // A digest is made for each way of its own.
            let id = |told: &Told| (!["at-most", "catch-up"].contains(&&*told.rule)).then(|| told.id.clone());
            let key = |told: &Told| {
                (told.at, told.receiver.clone(), id(told), told.state.clone(), told.text.clone())
            };
            if !came.iter().rev().take_while(|other| other.at == told.at).any(|other| key(other) == key(told))
            {
                came.push(told);
            }
        }
        came
    }

    fn is_at(&self, at: Duration, came: Timestamp) -> bool {
        self.start + at == came
    }

    fn is_verdict(&self, expected: &Verdict, came: &Transition) -> bool {
        self.is_at(expected.at, came.at)
            && (expected.state, &expected.rule, &expected.subject) == (came.state, &came.rule, &came.subject)
            && expected.value.is_none_or(|value| came.value.is_some_and(|came| same(value, came)))
            && expected.reason.as_ref().is_none_or(|reason| *reason == came.reason)
    }

    fn is_notification(&self, expected: &Notification, came: &Told) -> bool {
        self.is_at(expected.at, came.at)
            && expected.to == came.receiver
            && expected.state.word() == came.state
            && (&*expected.rule, &*expected.subject) == (&*came.rule, &*came.subject)
            && expected.text.as_ref().is_none_or(|text| *text == came.text)
    }

    fn transition_line(&self, came: &Transition) -> String {
        let Transition { at, state, rule, subject, value, reason, .. } = came;
        line(at.since(self.start), *state, rule, subject, *value, Some(reason))
    }

    fn told_line(&self, came: &Told) -> String {
        let Told { at, receiver, state, rule, subject, text, .. } = came;
        told_line(at.since(self.start), receiver, state, rule, subject, Some(text))
    }
}

/// Equal but for what reckoning loses.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

fn verdict_line(Verdict { at, state, rule, subject, value, reason }: &Verdict) -> String {
    line(*at, *state, rule, subject, *value, reason.as_deref())
}

fn line(
    at: Duration,
    state: State,
    rule: &Name,
    subject: &Name,
    value: Option<f64>,
    reason: Option<&str>,
) -> String {
    let value = value.map(|value| format!(", value {value}")).unwrap_or_default();
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("+{} {} {rule} {subject}{value}{reason}", seconds(at), state.word())
}

fn notification_line(Notification { at, to, state, rule, subject, text }: &Notification) -> String {
    told_line(*at, to, state.word(), rule, subject, text.as_deref())
}

fn told_line(at: Duration, to: &str, state: &str, rule: &str, subject: &str, text: Option<&str>) -> String {
    let text = text.map(|text| format!(": {text}")).unwrap_or_default();
    format!("+{} to {to} {state} {rule} {subject}{text}", seconds(at))
}

/// Writes the lines of both in the order of time, unless all is as it should be. Whatever came twice is to be expected twice.
fn differences<E, C>(
    out: &mut String,
    what: &str,
    expected: &[E],
    came: &[C],
    is_it: impl Fn(&E, &C) -> bool,
    missing: impl Fn(&E) -> (Duration, String),
    found: impl Fn(&C) -> (Duration, String),
) {
    let mut unmatched: Vec<Option<&E>> = expected.iter().map(Some).collect();
    let mut lines: Vec<(Duration, u8, String)> = Vec::new();
    for one in came {
        let place =
            unmatched.iter_mut().find(|expected| expected.is_some_and(|expected| is_it(expected, one)));
        let (at, line) = found(one);
        match place {
            Some(place) => {
                *place = None;
                lines.push((at, 0, format!("    {line}")));
            }
            None => lines.push((at, 2, format!("  + {line}"))),
        }
    }
    for one in unmatched.into_iter().flatten() {
        let (at, line) = missing(one);
        lines.push((at, 1, format!("  - {line}")));
    }
    if lines.iter().all(|(_, kind, _)| *kind == 0) {
        return;
    }
    // What came keeps its order within a moment; what is missing then stands before what came instead.
    lines.sort_by_key(|(at, kind, _)| (*at, *kind));
    let _ = writeln!(out, "  {what}:");
    for (_, _, line) in lines {
        let _ = writeln!(out, "{line}");
    }
}
