//! Rules edited while they are judged: by example, and that an edit touches no other rule.

mod notation;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};

use crosswatch_judge::edit::{Edit, Meaning, edits};
use crosswatch_judge::rule::Rule;
use crosswatch_judge::{Engine, Saved, Transition};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Observation, Origin};
use crosswatch_shared::time::Timestamp;
use proptest::prelude::*;

/// What the notation makes of a line.
mod model {
    pub(crate) type Line = (crosswatch_shared::time::Timestamp, &'static str, String, String, Option<f64>);
}

use notation::{expected, parts, rows, rule, written};
use worlds::World;

/// An engine with other rules, that goes on from what a former one saved, as the alerter has it do.
fn edited(
    store: &BTreeMap<String, Vec<u8>>,
    before: &[Rule],
    now: &[Rule],
    topology: &Topology,
    at: Timestamp,
    out: &mut Vec<Transition>,
) -> Engine {
    let before = before.iter().map(|rule| (rule.name.to_string(), Meaning::of(rule))).collect();
    let (mut begins, mut rejudged) = (Vec::new(), BTreeSet::new());
    for (rule, edit) in edits(&before, now) {
        match edit {
            Edit::Removed | Edit::Replaced(_) => begins.push(format!("series/{rule}/")),
            Edit::Rejudged(_) => drop(rejudged.insert(rule)),
            Edit::Added => {}
        }
    }
    let kept = store.iter().filter(|(key, _)| !begins.iter().any(|prefix| key.starts_with(prefix)));
    let mut engine = Engine::new(now.to_vec(), topology);
    let saved = kept.map(|(key, value)| Saved { key: key.clone(), value: value.clone() });
    assert!(engine.restore(saved).is_ok());
    engine.rejudge(&rejudged, at, out);
    engine
}

fn judge(
    engine: &mut Engine,
    rows: &[(Origin, Observation)],
    store: &mut BTreeMap<String, Vec<u8>>,
    out: &mut Vec<Transition>,
) {
    for (origin, observation) in rows {
        engine.row(origin, observation, out);
    }
    store.extend(engine.changed().into_iter().map(|saved| (saved.key, saved.value)));
}

/// What is told, of every rule, when the rules become others after so many rows.
fn through_an_edit(world: &World, now: &[Rule], after: usize) -> Vec<Transition> {
    let (first, rest) = world.rows.split_at(after.min(world.rows.len()));
    let (mut store, mut out) = (BTreeMap::new(), Vec::new());
    judge(&mut Engine::new(world.rules.clone(), &world.topology), first, &mut store, &mut out);
    let at = first.last().map_or(Timestamp::MIN, |(_, observation)| observation.at);
    let mut engine = edited(&store, &world.rules, now, &world.topology, at, &mut out);
    judge(&mut engine, rest, &mut store, &mut out);
    out
}

struct Story {
    name: &'static str,
    before: &'static str,
    rows: &'static str,
    /// Comes into force at 100 s.
    now: &'static str,
    after: &'static str,
    lines: &'static str,
}

const STORIES: &[Story] = &[
    Story {
        name: "a lower threshold fires for what was seen already, at the edit",
        before: "latency_ms above 200, 2 of 3",
        rows: "0 p 150; 1 p 160; 2 p 170",
        now: "latency_ms above 155, 2 of 3",
        after: "101 p 170",
        lines: "100 firing 170",
    },
    Story {
        name: "a higher threshold resolves what fires",
        before: "latency_ms above 100, 2 of 3",
        rows: "0 p 150; 1 p 160; 2 p 170",
        now: "latency_ms above 200, 2 of 3",
        after: "101 p 170; 102 p 210; 103 p 210",
        lines: "1 firing 160; 100 resolved 170; 103 firing 210",
    },
    Story {
        name: "fewer of them suffice",
        before: "ping_ok below 1, 3 of 3",
        rows: "0 p 5; 1 p x; 2 p x",
        now: "ping_ok below 1, 2 of 2",
        after: "",
        lines: "100 firing 0",
    },
    Story {
        name: "what fires goes on as long as the row to clear it is too short, and ends with its last",
        before: "ping_ok below 1",
        rows: "0 p 5; 1 p x",
        now: "ping_ok below 1, clear 2",
        after: "101 p 5; 102 p 5; 103 p x",
        lines: "1 firing 0; 102 resolved 1; 103 firing 0",
    },
    Story {
        name: "a row to clear it that is long enough is over with the edit, and counts anew",
        before: "latency_ms above 100, 1 of 4",
        rows: "0 p 150; 1 p 90; 2 p 90",
        now: "latency_ms above 100, 1 of 4, clear 2",
        after: "101 p 90; 102 p 150",
        lines: "0 firing 150; 100 resolved 90; 102 firing 150",
    },
    Story {
        name: "what is unknown is judged with its next datapoint",
        before: "latency_ms above 200, deadline 5",
        rows: "0 p 150; 60 q 150",
        now: "latency_ms above 100, deadline 5, only *p",
        after: "101 p 150",
        lines: "5 unknown; 5 unknown l/a/q; 60 ok l/a/q 150; 101 firing 150",
    },
    Story {
        name: "a shorter deadline counts from the last datapoint",
        before: "ping_ok below 1, deadline 200, only *p",
        rows: "0 p 5; 60 q 5",
        now: "ping_ok below 1, deadline 90, only *p",
        after: "101 q 5",
        lines: "90 unknown",
    },
    Story {
        name: "a rule on something else begins anew and says nothing of what was before",
        before: "ping_ok below 1, deadline 900, only *p",
        rows: "0 p x",
        now: "latency_ms above 100, deadline 900, only *p",
        after: "101 p 150",
        lines: "0 firing 0; 101 firing 150",
    },
    Story {
        name: "datapoints for missing data go where they are no more",
        before: "ping_ok below 1, deadline 5, missing breach, 2 of 2, only *p",
        rows: "0 p x; 4 q 5; 5 q 5; 5.5 p x",
        now: "ping_ok below 1, deadline 5, 2 of 2, only *p",
        after: "",
        lines: "5 unknown; 5 firing; 5.5 firing 0; 100 resolved 0",
    },
];

#[test]
fn an_edited_rule_tells_what_was_worked_out_by_hand() {
    let topology = notation::world();
    let mut wrong = Vec::new();
    for story in STORIES {
        let all = format!("{}; {}", story.rows, story.after);
        let (count, rows) = (rows(story.rows).len(), rows(&all));
        let (mut store, mut out) = (BTreeMap::new(), Vec::new());
        // Unless a story is about deadlines, none is reached, and one probe is judged.
        let rule = |text: &str| match text.contains("deadline") {
            true => rule(text),
            false => rule(&format!("{text}, deadline 900, only *p")),
        };
        let (before, now) = ([rule(story.before)], [rule(story.now)]);
        judge(&mut Engine::new(before.to_vec(), &topology), &rows[..count], &mut store, &mut out);
        let mut engine = edited(&store, &before, &now, &topology, Timestamp::from_secs(100), &mut out);
        judge(&mut engine, &rows[count..], &mut store, &mut out);
        out.sort_by(|a, b| (a.at, &a.subject).cmp(&(b.at, &b.subject)));
        let line = |of: &Transition| {
            let Transition { at, state, rule, subject, value, .. } = of.clone();
            written(&(at, state.word(), rule.to_string(), subject.to_string(), value))
        };
        let lines: Vec<String> = out.iter().map(line).collect();
        let expected: Vec<String> = parts(story.lines, ';').map(expected).collect();
        if lines != expected {
            wrong.push(format!("{}\n  expected {expected:?}\n  found    {lines:?}", story.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever becomes of the others, and whenever, a rule that stays as it was says what it would have said.
    #[test]
    fn an_edit_touches_no_rule_that_stays(
        world in worlds::world(),
        other in worlds::world(),
        after in 0..70_usize,
    ) {
        let mut now = other.rules.clone();
        now[0] = world.rules[0].clone();
        let of_the_first = |out: Vec<Transition>| -> Vec<_> {
            let its = out.into_iter().filter(|of| of.rule == world.rules[0].name);
            its.map(|of| (of.at, of.state, of.subject, of.value, of.reason)).collect()
        };
        let expected = of_the_first(through_an_edit(&world, &world.rules, after));
        prop_assert_eq!(of_the_first(through_an_edit(&world, &now, after)), expected);
    }

    /// Taking the same edit twice is taking it once.
    #[test]
    fn what_was_judged_anew_is_not_judged_otherwise_once_more(
        world in worlds::world(),
        other in worlds::world(),
    ) {
        let (mut store, mut out) = (BTreeMap::new(), Vec::new());
        judge(&mut Engine::new(world.rules.clone(), &world.topology), &world.rows, &mut store, &mut out);
        let at = Timestamp::from_secs(10_000);
        let mut engine = edited(&store, &world.rules, &other.rules, &world.topology, at, &mut out);
        let names: BTreeSet<_> = other.rules.iter().map(|rule| rule.name.clone()).collect();
        let mut again = Vec::new();
        engine.rejudge(&names, at, &mut again);
        let kept = |of: &&Transition| world.rules.iter().any(|rule| rule.name == of.rule);
        prop_assert_eq!(again.iter().filter(kept).collect::<Vec<_>>(), Vec::<&Transition>::new());
    }
}
