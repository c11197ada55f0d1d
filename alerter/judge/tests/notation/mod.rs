//! The world of the scenarios, and how they are written.
//!
//! Site `a` sends the probes `p` and `q` each second and polls the VPN connection `v` each
//! 10 s on the link `l`; site `b` sends `r` each second on `l`. Both poll whatever VPN connections a tag selects each
//! second on the link `m`: `t1` and `t2` at `a`, `t3` at `b`.
//!
//! A rule is written `<metric> below|above <threshold>`, then options, parted by commas. A row is written
//! `<seconds>[@<boot>][#<seq>] <who> <what>`: a reply's milliseconds, `x` for a timeout or another kind of loss, `+-` for
//! one tunnel up and one down, `.` for none, `ok 12` or `bad 12` for a collection. Numbers count up by themselves. A
//! line is written `<seconds> <state> [<subject>] [<value>]`; the subject is `l/a/p` unless written.

#![allow(clippy::unwrap_used, clippy::panic)] // a scenario that can't be read must stop the test

use std::collections::HashMap;
use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side, Statistic, Threshold, Window};
use crosswatch_shared::config::topology::{
    Host, Link, Probe, Queue, QueueKind, Site, Target, Topology, Vpn, VpnSelect,
};
use crosswatch_shared::observation::{Body, Detail, Lost, Observation, Origin, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;

use crate::model::Line;

pub(crate) fn world() -> Topology {
    let probe = |from: &str, name: &str| Probe {
        name: name.into(),
        from: from.into(),
        target: Target::Icmp(Host::Name(name.into())),
        every: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        burst: 1,
        size: None,
    };
    let vpn = |site: &str, select, every| Vpn {
        site: site.into(),
        select,
        every: Duration::from_secs(every),
        expect_up: 2,
        region: None,
        role: None,
    };
    Topology {
        sites: ["a", "b"]
            .map(|name| Site { name: name.into(), region: None, role: None, topic: None })
            .into(),
        links: vec![
            Link {
                name: "l".into(),
                between: vec!["a".into(), "b".into()],
                appliances: Vec::new(),
                vpns: vec![vpn("a", VpnSelect::Id("v".into()), 10)],
                probes: vec![probe("a", "p"), probe("a", "q"), probe("b", "r")],
            },
            Link {
                name: "m".into(),
                between: vec!["a".into(), "b".into()],
                appliances: Vec::new(),
                vpns: ["a", "b"].map(|site| vpn(site, VpnSelect::Tag("Name".into(), "t".into()), 1)).into(),
                probes: Vec::new(),
            },
        ],
        queue: Queue {
            path: "data".into(),
            kind: QueueKind::Embedded,
            keep: Duration::from_secs(86_400),
            max_bytes: 1 << 30,
        },
        listen: None,
    }
}

pub(crate) fn parts(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).map(str::trim).filter(|part| !part.is_empty())
}

pub(crate) fn rule(text: &str) -> Rule {
    let mut options = parts(text, ',').map(|option| option.split(' ').collect::<Vec<_>>());
    let head = options.next().unwrap();
    let [metric, side, threshold] = head[..] else {
        panic!("no rule: {text}");
    };
    let mut rule = Rule {
        name: "rule".into(),
        metric: Metric::ALL.into_iter().find(|known| known.word() == metric).unwrap(),
        side: if side == "below" { Side::Below } else { Side::Above },
        threshold: Threshold::Fixed(threshold.parse().unwrap()),
        clear_threshold: None,
        breach: Breach { m: 1, n: 1 },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    };
    let statistic = |rule: &mut Rule, statistic| rule.window.as_mut().unwrap().statistic = statistic;
    for option in options {
        match option[..] {
            [m, "of", n] => rule.breach = Breach { m: m.parse().unwrap(), n: n.parse().unwrap() },
            ["clear", k] => rule.clear = Some(k.parse().unwrap()),
            ["clear_below" | "clear_above", value] => rule.clear_threshold = Some(value.parse().unwrap()),
            ["period", secs] => {
                let period = Duration::from_secs(secs.parse().unwrap());
                rule.window = Some(Window { period, statistic: Statistic::Average });
            }
            ["maximum"] => statistic(&mut rule, Statistic::Maximum),
            ["p50"] => statistic(&mut rule, Statistic::Percentile(50)),
            ["deadline", secs] => rule.deadline = Some(Duration::from_secs(secs.parse().unwrap())),
            ["missing", "breach"] => rule.missing = Missing::Breach,
            ["missing", "ok"] => rule.missing = Missing::Ok,
            ["only", glob] => rule.subjects.push(glob.into()),
            _ => panic!("no option: {option:?}"),
        }
    }
    rule
}

pub(crate) fn rows(text: &str) -> Vec<(Origin, Observation)> {
    let mut next = HashMap::new();
    parts(text, ';').map(|text| row(text, &mut next)).collect()
}

fn row(text: &str, next: &mut HashMap<String, u64>) -> (Origin, Observation) {
    let words: Vec<&str> = text.split(' ').collect();
    let when = words[0];
    let mark = when.find(['@', '#']).unwrap_or(when.len());
    let tag = |tag: char| {
        let rest = &when[when.find(tag)? + 1..];
        Some(&rest[..rest.find(['@', '#']).unwrap_or(rest.len())])
    };
    let (site, link, name) = match words[1] {
        "t1" | "t2" => ("a", "m", words[1]),
        "nolink" => ("a", "nolink", "p"),
        "r" => ("b", "l", "r"),
        "t3" => ("b", "m", "t3"),
        "b/v" => ("b", "l", "v"),
        "l/z/p" => ("z", "l", "p"),
        "b:icmp" => ("b", "", "icmp"),
        name => ("a", "l", name),
    };
    let boot = format!("{site}-{}", tag('@').unwrap_or("A"));
    let next = next.entry(boot.clone()).or_default();
    let seq = tag('#').map_or(*next, |seq| seq.parse().unwrap());
    *next = seq + 1;
    let origin = Origin { site: site.into(), collector: "c".into(), boot: boot.as_str().into() };
    let body = match words[2..] {
        [ok @ ("ok" | "bad"), took] => Body::Collection {
            source: name.into(),
            ok: ok == "ok",
            error: (ok == "bad").then(|| "Throttled".into()),
            took_ms: took.parse().unwrap(),
        },
        [what] if what == "." || what.starts_with(['+', '-']) => Body::Tunnels {
            link: link.into(),
            vpn: name.into(),
            tunnels: what.chars().filter(|&c| c != '.').map(tunnel).collect(),
        },
        [what] => {
            let (outcome, detail) = probed(what);
            Body::Probe { link: link.into(), probe: name.into(), outcome, detail }
        }
        _ => panic!("no row: {text}"),
    };
    (origin, Observation { at: time(&when[..mark]), seq, body })
}

fn tunnel(state: char) -> Tunnel {
    Tunnel {
        outside_ip: "192.0.2.1".into(),
        up: state == '+',
        accepted_routes: 0,
        since: None,
        message: String::new(),
    }
}

/// A burst is written as its packets, `10|x|30`; its outcome is the median of its replies. Packets that are `local` are not
/// told of.
fn probed(what: &str) -> (Outcome, Option<Box<Detail>>) {
    if !what.contains('|') {
        return (outcome(what), None);
    }
    let told = what.split('|').filter(|packet| *packet != "local");
    let burst: Vec<Option<f64>> = told.map(|packet| packet.parse().ok()).collect();
    if burst.is_empty() {
        return (Outcome::Lost(Lost::Local), None);
    }
    let mut replies: Vec<f64> = burst.iter().flatten().copied().collect();
    replies.sort_by(f64::total_cmp);
    let median = replies.get(replies.len().div_ceil(2).wrapping_sub(1));
    let outcome = median.map_or(Outcome::Lost(Lost::Timeout), |&rtt_ms| Outcome::Reply { rtt_ms });
    (outcome, Some(Box::new(Detail { burst, ..Detail::default() })))
}

fn outcome(what: &str) -> Outcome {
    let what = if what == "x" { "timeout" } else { what };
    match Lost::ALL.into_iter().find(|lost| lost.word() == what) {
        Some(lost) => Outcome::Lost(lost),
        None => Outcome::Reply { rtt_ms: what.parse().unwrap() },
    }
}

fn time(secs: &str) -> Timestamp {
    let secs: f64 = secs.parse().unwrap();
    Timestamp::from_micros((secs * 1e6).round() as i64)
}

/// A line of a scenario in full.
pub(crate) fn expected(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    if !words.get(2).is_some_and(|word| word.contains('/')) {
        words.insert(2, "l/a/p");
    }
    if words.len() < 4 {
        words.push("null");
    }
    words.join(" ")
}

pub(crate) fn written((at, state, _, subject, value): &Line) -> String {
    let secs = at.as_micros() as f64 / 1e6;
    let value = value.map_or("null".to_owned(), |value| value.to_string());
    format!("{secs} {state} {subject} {value}")
}
