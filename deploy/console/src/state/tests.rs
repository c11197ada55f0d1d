//! What is shown of links, by what was seen of them.

use crosswatch_shared::config::topology::{Host, Probe, Queue, Site, Target};
use crosswatch_shared::observation::{Batch, Lost, Name, Origin, Outcome};

use super::*;
use crosswatch_alerter::story::{Incident, Symptom};

pub(crate) const REPLY: Outcome = Outcome::Reply { rtt_ms: 80.0 };
pub(crate) const LOSS: Outcome = Outcome::Lost(Lost::Timeout);

pub(crate) fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

/// Links between `a` and `b`, each with a probe `p` from both.
pub(crate) fn topology(links: &[&str]) -> Topology {
    let probe = |from: &str| Probe {
        name: "p".into(),
        from: from.into(),
        target: Target::Tcp(Host::Name("there".to_owned()), 443),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        burst: 1,
        size: None,
    };
    Topology {
        sites: ["a", "b"]
            .map(|name| Site { name: name.into(), region: None, role: None, topic: None })
            .to_vec(),
        links: links
            .iter()
            .map(|name| Link {
                name: (*name).into(),
                between: vec!["a".into(), "b".into()],
                vpns: Vec::new(),
                appliances: Vec::new(),
                probes: vec![probe("a"), probe("b")],
            })
            .collect(),
        queue: Queue {
            path: "data".into(),
            kind: QueueKind::Embedded,
            keep: Duration::MAX,
            max_bytes: u64::MAX,
        },
        listen: None,
    }
}

/// A site's sign of life just now.
pub(crate) fn heard(live: &mut Live, site: &str, at: Timestamp) {
    let origin = Origin { site: site.into(), collector: "c".into(), boot: "1".into() };
    live.heard(&Batch { origin, number: 0, through: at, observations: Vec::new() }, at);
}

pub(crate) fn saw(live: &mut Live, link: &str, site: &str, outcomes: &[Outcome]) {
    let key: Key = (link.into(), site.into(), "p".into());
    for (place, outcome) in outcomes.iter().enumerate() {
        let ago = u32::try_from(outcomes.len() - 1 - place).unwrap();
        live.probe(&key, now() - Duration::from_secs(1) * ago, *outcome, None);
    }
    heard(live, site, now());
}

fn view(topology: &Topology, live: &Live, judged: Option<&Standing>) -> Overview {
    overview(topology, live, judged, &HashMap::new(), Vec::new(), now())
}

pub(crate) fn incident(link: &str, verdict: &str, subject: &str) -> Incident {
    Incident {
        id: format!("id-of-{link}"),
        place: link.to_owned(),
        link: link.to_owned(),
        verdict: verdict.to_owned(),
        summary: "2 of 2 probes lost".to_owned(),
        opened_at: now() - Duration::from_secs(60),
        resolved_at: None,
        resolved_reason: None,
        muted: None,
        symptoms: vec![Symptom {
            rule: "ping-failed".to_owned(),
            subject: subject.to_owned(),
            fired_at: now() - Duration::from_secs(60),
            value: Some(0.0),
            reason: "3 of 3 lost".to_owned(),
            resolved_at: None,
            resolved_reason: None,
        }],
    }
}

fn states(overview: &Overview, link: &str) -> (State, Vec<State>) {
    let link = overview.links.iter().find(|of| of.link == link).unwrap();
    (link.state, link.directions.iter().map(|of| of.state).collect())
}

#[test]
fn each_direction_is_what_its_own_site_sees() {
    let topology = topology(&["l"]);
    let mut live = Live::default();
    saw(&mut live, "l", "a", &[REPLY, REPLY]);
    saw(&mut live, "l", "b", &[REPLY, LOSS, LOSS, LOSS]);
    assert_eq!(states(&view(&topology, &live, None), "l"), (State::Down, vec![State::Up, State::Down]));
    saw(&mut live, "l", "b", &[REPLY, LOSS]);
    // What was overtaken changes nothing.
    assert_eq!(states(&view(&topology, &live, None), "l").1, [State::Up, State::Down]);
}

#[test]
fn one_loss_is_no_outage_and_not_up() {
    let topology = topology(&["l"]);
    let mut live = Live::default();
    saw(&mut live, "l", "a", &[REPLY, LOSS]);
    saw(&mut live, "l", "b", &[REPLY]);
    assert_eq!(states(&view(&topology, &live, None), "l").1, [State::Degraded, State::Up]);
}

#[test]
fn what_is_silent_never_seen_or_not_seen_for_long_is_never_up() {
    let topology = topology(&["l"]);
    let mut live = Live::default();
    assert_eq!(states(&view(&topology, &live, None), "l").0, State::Unknown);
    saw(&mut live, "l", "a", &[REPLY]);
    saw(&mut live, "l", "b", &[REPLY]);
    let later = |seconds| {
        overview(&topology, &live, None, &HashMap::new(), Vec::new(), now() + Duration::from_secs(seconds))
    };
    assert_eq!(states(&later(4), "l").0, State::Up);
    assert_eq!(states(&later(6), "l").0, State::Silent);
    // The collector lives and says nothing of the probe.
    for site in ["a", "b"] {
        heard(&mut live, site, now() + Duration::from_secs(60));
    }
    let at = now() + Duration::from_secs(60);
    let seen = overview(&topology, &live, None, &HashMap::new(), Vec::new(), at);
    assert_eq!(states(&seen, "l"), (State::Unknown, vec![State::Unknown, State::Unknown]));
    // The alerter's word counts first.
    let judged = Standing { silent: vec!["a".to_owned()], ..Standing::default() };
    let seen = overview(&topology, &live, Some(&judged), &HashMap::new(), Vec::new(), at);
    assert_eq!(states(&seen, "l").1, [State::Silent, State::Unknown]);
}

#[test]
fn what_fires_is_not_up_and_the_worst_comes_first() {
    let topology = topology(&["well", "slow", "gone"]);
    let mut live = Live::default();
    for link in ["well", "slow", "gone"] {
        saw(&mut live, link, "a", &[REPLY]);
        saw(&mut live, link, "b", &[REPLY]);
    }
    let judged = Standing {
        incidents: vec![incident("slow", "slow", "slow/a/p"), incident("gone", "black-hole", "gone/a/p")],
        ..Standing::default()
    };
    let seen = view(&topology, &live, Some(&judged));
    let order: Vec<_> = seen.links.iter().map(|of| (&*of.link, of.state)).collect();
    assert_eq!(order, [("gone", State::Down), ("slow", State::Degraded), ("well", State::Up)]);
    assert_eq!(
        seen.links[1].directions.iter().map(|of| of.state).collect::<Vec<_>>(),
        [State::Degraded, State::Up]
    );
    let verdicts: Vec<_> = seen.judged.unwrap().incidents.iter().map(|of| of.verdict.clone()).collect();
    assert_eq!(verdicts, ["black-hole", "slow"]);
}

#[test]
fn latency_is_held_against_the_baseline() {
    let topology = topology(&["l"]);
    let mut live = Live::default();
    saw(&mut live, "l", "a", &[REPLY; 5]);
    let key: Key = ("l".into(), "a".into(), Name::from("p"));
    let baselines = HashMap::from([(key, 40.0)]);
    let seen = overview(&topology, &live, None, &baselines, Vec::new(), now());
    assert_eq!(seen.links[0].directions[0].over_baseline, Some(2.0));
    assert_eq!(seen.links[0].directions[1].over_baseline, None);
}
