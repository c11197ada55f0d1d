//! What came of a replay, for programs and for people.

use std::fmt::Write as _;

use crosswatch_judge::Transition;
use crosswatch_judge::incident::{Event, What};
use crosswatch_shared::time::Timestamp;
use serde::Serialize;

/// A transition as one line of JSON, without the line's end: the form that the design fixes.
#[must_use]
pub fn line(transition: &Transition) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        at: Timestamp,
        state: &'a str,
        rule: &'a str,
        subject: &'a str,
        value: Option<f64>,
        reason: &'a str,
    }
    let Transition { at, state, rule, subject, value, reason, .. } = transition;
    // A struct of text and numbers: writing it cannot fail.
    serde_json::to_string(&Line { at: *at, state: state.word(), rule, subject, value: *value, reason })
        .unwrap_or_default()
}

/// A timeline: a line a transition, and one for what becomes of an incident, under a heading for each day.
#[derive(Debug, Default)]
pub struct Timeline {
    day: String,
}

impl Timeline {
    /// The lines of a transition, each with its end.
    pub fn transition(&mut self, transition: &Transition) -> String {
        let Transition { at, state, rule, subject, reason, .. } = transition;
        let mut lines = self.heading(*at);
        let state = state.word().to_uppercase();
        let _ = writeln!(lines, "  {}  {state:<8}  {rule}  {subject}: {}", time(*at), plain(reason));
        lines
    }

    /// The lines of what became of an incident, each with its end; none for what a transition has told already.
    pub fn event(&mut self, event: &Event) -> String {
        let Event { incident, what, evidence } = event;
        let (kind, place, words) =
            (incident.verdict.kind.word(), incident.place.name(), &incident.verdict.words);
        let (at, told) = match what {
            What::Opened(symptom) => (Some(symptom.at), format!("begins: {kind}, {words}")),
            What::Closed(ended) => {
                let lasted = ended.at.since(incident.opened);
                (Some(ended.at), format!("is over after {}: {kind}", span(lasted.as_secs_f64())))
            }
            What::Worse => (None, format!("is worse now: {kind}, {words}")),
            What::Refined => (None, format!("is rather {kind}, {words}")),
            What::Joined(_) | What::Left(_) => return String::new(),
        };
        let mut lines = at.map_or_else(String::new, |at| self.heading(at));
        let when = at.map_or_else(|| " ".repeat("00:00:00.000".len()), time);
        let _ = writeln!(lines, "  {when}  incident of {} {}", plain(place), plain(&told));
        for line in evidence.iter().filter(|_| matches!(what, What::Opened(_) | What::Worse)) {
            let _ = writeln!(lines, "  {}    {}", " ".repeat("00:00:00.000".len()), plain(line));
        }
        lines
    }

    /// The lines of transitions in their order, with those of incidents after the transitions of their time.
    pub fn merged(&mut self, transitions: &[Transition], events: &[Event]) -> Vec<String> {
        let mut timed: Vec<(Timestamp, &Event)> = Vec::new();
        let mut last = Timestamp::MIN;
        for event in events {
            // What only refines a verdict has no time of its own: it follows what came before it.
            last = match &event.what {
                What::Opened(symptom) | What::Joined(symptom) => symptom.at,
                What::Left(ended) | What::Closed(ended) => ended.at,
                What::Refined | What::Worse => last.max(event.incident.opened),
            };
            timed.push((last, event));
        }
        timed.sort_by_key(|(at, _)| *at);
        let mut events = timed.into_iter().peekable();
        let mut lines = Vec::new();
        for transition in transitions {
            while let Some((_, event)) = events.next_if(|(at, _)| *at < transition.at) {
                lines.push(self.event(event));
            }
            lines.push(self.transition(transition));
        }
        lines.extend(events.map(|(_, event)| self.event(event)));
        lines
    }

    fn heading(&mut self, at: Timestamp) -> String {
        let day = at.to_string()[..10].to_owned();
        if day == self.day {
            return String::new();
        }
        self.day = day;
        format!("{}\n", self.day)
    }
}

/// The time of day to the millisecond.
fn time(at: Timestamp) -> String {
    at.to_string()[11..23].to_owned()
}

/// A span in the unit that suits it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
#[must_use]
pub fn span(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..120 => format!("{whole} s"),
        120..7_200 => format!("{} min {} s", whole / 60, whole % 60),
        7_200..172_800 => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// A count with its thousands apart: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// Text out of a journal, without what a terminal would take for a command.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
