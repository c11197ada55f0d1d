//! Rules whose threshold is of the subject's own baseline: when there is one, what it makes of an incident, and that a replay,
//! a restart and the size of batches leave no trace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side, Statistic, Threshold, Window};
use crosswatch_judge::{Engine, Saved, Transition};
use crosswatch_shared::config::topology::{Host, Link, Probe, Queue, QueueKind, Site, Target, Topology};
use crosswatch_shared::observation::{Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;

/// The start of an hour.
const START: i64 = 1_700_000 * 3_600;

/// How far apart the probes are, so that days go by in a moment.
const EVERY: u64 = 30;

fn topology() -> Topology {
    let probe = Probe {
        name: "p".into(),
        from: "a".into(),
        target: Target::Icmp(Host::Address([10, 0, 0, 1].into())),
        every: Duration::from_secs(EVERY),
        timeout: Duration::from_millis(200),
        burst: 1,
        size: None,
    };
    Topology {
        sites: vec![Site { name: "a".into(), region: None, role: None, topic: None }],
        links: vec![Link {
            name: "l".into(),
            between: vec!["a".into()],
            vpns: Vec::new(),
            appliances: Vec::new(),
            probes: vec![probe],
        }],
        queue: Queue { path: "".into(), kind: QueueKind::Embedded, keep: Duration::MAX, max_bytes: 0 },
        listen: None,
    }
}

fn rule(name: &str, factor: f64, fixed: Option<f64>) -> Rule {
    Rule {
        name: name.into(),
        metric: Metric::LatencyMs,
        side: Side::Above,
        threshold: Threshold::OfBaseline { factor, fixed },
        clear_threshold: None,
        breach: Breach { m: 2, n: 3 },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}

fn origin() -> Origin {
    Origin { site: "a".into(), collector: "c".into(), boot: "b".into() }
}

fn observation(number: u64, rtt_ms: Option<f64>) -> Observation {
    let outcome = rtt_ms.map_or(Outcome::Lost(Lost::Timeout), |rtt_ms| Outcome::Reply { rtt_ms });
    let at = Timestamp::from_secs(START) + Duration::from_secs(number * EVERY);
    Observation {
        at,
        seq: number,
        body: Body::Probe { link: "l".into(), probe: "p".into(), outcome, detail: None },
    }
}

/// What a replay says of these round-trip times.
fn replayed(rules: Vec<Rule>, seen: &[Option<f64>]) -> (Vec<Transition>, Engine) {
    let mut engine = Engine::new(rules, &topology());
    let mut out = Vec::new();
    for (number, rtt_ms) in (0..).zip(seen) {
        engine.row(&origin(), &observation(number, *rtt_ms), &mut out);
    }
    (out, engine)
}

/// When each began and ended, as the number of the observation, with its reason.
fn told(transitions: &[Transition], rule: &str) -> Vec<(i64, &'static str, String)> {
    let of_rule = transitions.iter().filter(|of| *of.rule == *rule);
    of_rule
        .map(|of| {
            ((of.at.as_micros() / 1_000_000 - START) / EVERY as i64, of.state.word(), of.reason.clone())
        })
        .collect()
}

/// So many hours of this.
fn hours(hours: u64, rtt_ms: f64) -> Vec<Option<f64>> {
    vec![Some(rtt_ms); usize::try_from(hours * 3_600 / EVERY).unwrap()]
}

#[test]
fn it_is_judged_by_what_is_usual_of_the_subject_itself() {
    let seen = [hours(3, 200.0), hours(1, 290.0), vec![Some(310.0); 4], vec![Some(200.0); 3]].concat();
    let (transitions, engine) = replayed(vec![rule("slow", 1.5, None)], &seen);
    assert_eq!(
        told(&transitions, "slow"),
        [
            (481, "firing", "2 of 3 above 300 ms (1.5 x baseline), newest 310 ms".to_owned()),
            (485, "resolved", "1 of 3 above 300 ms (1.5 x baseline), fewer than 2".to_owned()),
        ]
    );
    let judgement = engine.judgements(|_| true).remove(0);
    assert_eq!(judgement.usual.unwrap().value, Some(200.0));
    assert_eq!(judgement.limits.unwrap().threshold, 300.0);
}

#[test]
fn until_there_is_history_it_does_not_fire_or_counts_by_its_fixed_threshold() {
    // From the middle of an hour: the first whole one is over at 180, and counts ten observations later.
    let before: Vec<Option<f64>> = hours(1, 100.0)[..60].to_vec();
    let seen =
        [before, vec![Some(900.0); 3], hours(1, 100.0), vec![Some(170.0); 3], hours(1, 100.0)].concat();
    let shifted: Vec<Option<f64>> = [vec![None; 60], seen].concat();
    let (transitions, _) = replayed(vec![rule("slow", 1.5, None), rule("with", 1.5, Some(500.0))], &shifted);
    let slow = told(&transitions, "slow");
    assert!(slow.iter().all(|(at, ..)| *at > 240), "{slow:?}");
    let with = told(&transitions, "with");
    assert_eq!((with[0].0, with[0].1, &*with[0].2), (121, "firing", "2 of 3 above 500 ms, newest 900 ms"));
    assert_eq!((with[1].0, with[1].1), (124, "resolved"));
}

#[test]
fn an_incident_stays_one_for_three_days_and_then_is_what_is_usual() {
    let seen = [hours(7 * 24, 80.0), hours(7 * 24, 200.0)].concat();
    let (transitions, _) = replayed(vec![rule("slow", 1.5, None)], &seen);
    let told = told(&transitions, "slow");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].0, 7 * 24 * 120 + 1);
    let (resolved, state, reason) = &told[1];
    assert_eq!(*state, "resolved", "{reason}");
    // Half of the seven days, five minutes after an hour.
    let lasted = *resolved - 7 * 24 * 120;
    assert!((3 * 24 * 120..=4 * 24 * 120).contains(&lasted), "{lasted}");
}

#[test]
fn losses_are_no_values_and_an_outage_leaves_the_baseline_as_it_was() {
    let seen = [hours(3, 80.0), vec![None; 12 * 120], vec![Some(130.0); 2]].concat();
    let (transitions, _) = replayed(vec![rule("slow", 1.5, None)], &seen);
    let told = told(&transitions, "slow");
    assert_eq!(told.last().unwrap().2, "2 of 3 above 120 ms (1.5 x baseline), newest 130 ms");
}

#[test]
fn what_a_replay_says_is_said_live_in_batches_of_any_size_and_across_restarts() {
    let windowed = Rule {
        window: Some(Window { period: Duration::from_secs(60), statistic: Statistic::Percentile(50) }),
        ..rule("windowed", 1.3, None)
    };
    let cleared = Rule { clear: Some(4), clear_threshold: Some(1.2), ..rule("cleared", 1.4, Some(150.0)) };
    let rules = vec![rule("slow", 1.5, None), windowed, cleared];
    // Slow stretches that begin and end about the hour, where the baseline turns.
    let mut seen = Vec::new();
    for hour in 0..30_u64 {
        let (usual, slow) = (80.0 + hour as f64, 140.0 + hour as f64);
        let length = (hour * 7 % 20) as usize;
        seen.extend(vec![Some(slow); length]);
        seen.extend(vec![Some(usual); 120 - 2 * length]);
        seen.extend(vec![Some(slow); length]);
    }
    let (mut wanted, _) = replayed(rules.clone(), &seen);
    assert!(wanted.len() > 40, "{}", wanted.len());
    for size in [1_usize, 2, 9] {
        let mut engine = Engine::new(rules.clone(), &topology());
        let mut kept = std::collections::BTreeMap::new();
        let mut out = Vec::new();
        for (number, batch) in (0..).zip(seen.chunks(size)) {
            let first = number * size as u64;
            for (seq, rtt_ms) in (first..).zip(batch) {
                engine.observe(&origin(), &observation(seq, *rtt_ms), &mut out);
            }
            // The promise is of what was sent before the newest.
            let through = observation(first + batch.len() as u64 - 1, None).at;
            engine.advance("a", &"b".into(), through, &mut out);
            kept.extend(engine.changed().into_iter().map(|Saved { key, value }| (key, value)));
            if number % 50 == 49 {
                engine = Engine::new(rules.clone(), &topology());
                engine
                    .restore(kept.iter().map(|(key, value)| Saved { key: key.clone(), value: value.clone() }))
                    .unwrap();
            }
        }
        // The last periods are closed by what comes after them.
        let order = |of: &Transition| (of.at, of.rule_index);
        wanted.sort_by_key(order);
        out.sort_by_key(order);
        let end = observation(seen.len() as u64 - 10, None).at;
        let until = |all: &[Transition]| all.iter().filter(|of| of.at < end).cloned().collect::<Vec<_>>();
        assert_eq!(until(&out), until(&wanted), "in batches of {size}");
    }
}
