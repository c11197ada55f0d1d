//! Cases as their users write them: what passes, what is told of what fails, and what is wrong with a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use crosswatch_alerter::config::Config;
use crosswatch_judge::Transition;
use crosswatch_replay::source::Wanted;
use crosswatch_ruletest::{Played, play, read};
use crosswatch_shared::config::document;
use crosswatch_shared::config::topology::Topology;
use proptest::prelude::*;

const CONFIG: &str = r#"
[site.east]
[site.west]
[[link]]
name = "l"
between = ["east", "west"]
probe = [
  { from = "east", name = "p", icmp = "10.1.0.10", every = "1s" },
  { from = "east", name = "q", icmp = "10.1.0.11", every = "1s" },
  { from = "west", name = "r", icmp = "10.0.0.10", every = "500ms" },
]
vpn = [{ site = "east", id = "vpn-1", every = "10s" }]
[[link]]
name = "tagged"
between = ["west"]
vpn = [{ site = "west", tag = "Name=x", every = "60s" }]
[[rule]]
name = "lost"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 2
notify = ["oncall", "desk"]
[[rule]]
name = "slow"
metric = "latency_ms"
period = "5s"
above = 200
notify = ["desk"]
[[rule]]
name = "tunnels"
metric = "tunnels_up"
below = 2
notify = ["oncall"]
[[rule]]
name = "collecting"
metric = "collection_ok"
below = 1
missing = "breach"
[notify.oncall]
sms = ["+15555550100", "+15555550101"]
webhook = "https://example.com/hook"
at_most = "2 per 1h"
[notify.desk]
console = true
"#;

fn config(text: &str) -> (Topology, Config) {
    let read = document::read(Path::new("crosswatch.toml"), text.as_bytes(), |root| {
        let topology = Topology::take(root)?;
        let config = Config::take(root, Some(&topology))?;
        Some((topology, config))
    });
    read.unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a file of cases comes to: a line each, and what differs.
fn tested(cases: &str) -> String {
    let (topology, config) = config(CONFIG);
    let cases = match read(Path::new("rules.test.toml"), cases.as_bytes(), &topology, &config) {
        Ok(cases) => cases,
        Err(problems) => return problems.to_string(),
    };
    let mut out = String::new();
    for case in cases {
        match case.differs(&play(&case, &topology, &config).unwrap()) {
            None => writeln!(out, "ok {}", case.name).unwrap(),
            Some(differences) => write!(out, "FAILED {}\n{differences}", case.name).unwrap(),
        }
    }
    out
}

#[test]
fn cases_of_every_kind_of_subject_pass_when_they_say_what_comes() {
    let cases = r#"
[[case]]
name = "probes, at their own pace"
series = { "l/east/p" = "80x5 lost x3 80x5", "l/west/r" = "80x4 lost:unreachable x4 80" }
transitions = [
  { at = "+3s", state = "firing", rule = "lost", subject = "l/west/r", value = 0, reason = "3 of 3 lost" },
  { at = "+4500ms", state = "resolved", rule = "lost", subject = "l/west/r" },
  { at = "+7s", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+9s", state = "resolved", rule = "lost", subject = "l/east/p", value = 1 },
]
notifications = [
  { at = "+3s", to = "oncall", state = "firing", rule = "lost", subject = "l/west/r", text = "FIRING link-lost l: 1 of 3 probes lost (lost)" },
  { at = "+3s", to = "desk", state = "firing", rule = "lost", subject = "l/west/r" },
  { at = "+4500ms", to = "desk", state = "resolved", rule = "lost", subject = "l/west/r" },
  { at = "+4500ms", to = "oncall", state = "resolved", rule = "lost", subject = "l/west/r" },
  { at = "+7s", to = "desk", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+9s", to = "desk", state = "resolved", rule = "lost", subject = "l/east/p" },
  { at = "+12s", to = "oncall", state = "resolved", rule = "at-most", subject = "oncall" },
]

[[case]]
name = "tunnels, also of a connection that a tag finds"
series = { "l/vpn-1" = "2x2 1 2", "tagged/vpn-9" = "2 0" }
transitions = [
  { at = "+20s", state = "firing", rule = "tunnels", subject = "l/vpn-1", value = 1 },
  { at = "+30s", state = "resolved", rule = "tunnels", subject = "l/vpn-1" },
  { at = "+60s", state = "firing", rule = "tunnels", subject = "tagged/vpn-9", value = 0 },
]

[[case]]
name = "a period is judged once it is over, at its end"
start = "2026-11-22T07:00:00Z"
series = { "l/east/p" = "180+20x5 80x7" }
transitions = [
  { at = "+5s", state = "firing", rule = "slow", subject = "l/east/p", value = 220 },
  { at = "+10s", state = "resolved", rule = "slow", subject = "l/east/p", value = 80.0 },
]
notifications = [
  { at = "+7s", to = "desk", state = "firing", rule = "slow", subject = "l/east/p" },
  { at = "+12s", to = "desk", state = "resolved", rule = "slow", subject = "l/east/p" },
]
rules = ["slow"]

[[case]]
name = "rounds of collecting; missing ones breach only where the case has a series of them"
series = { "east/icmp" = "ok failed:Timeout ok", "east/ec2:vpn-status" = "ok" }
lasts = "40s"
transitions = [
  { at = "+10s", state = "firing", rule = "collecting", subject = "east/icmp", value = 0 },
  { at = "+20s", state = "resolved", rule = "collecting", subject = "east/icmp" },
]
"#;
    let expected = "\
ok probes, at their own pace
ok tunnels, also of a connection that a tag finds
ok a period is judged once it is over, at its end
ok rounds of collecting; missing ones breach only where the case has a series of them
";
    assert_eq!(tested(cases), expected);
}

#[test]
fn a_failure_shows_what_is_missing_and_what_came_instead_where_it_happened() {
    let cases = r#"
[[case]]
name = "off by one"
series = { "l/east/p" = "80x5 lost x3 80x5" }
transitions = [
  { at = "+6s", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+9s", state = "resolved", rule = "lost", subject = "l/east/p" },
]
notifications = [
  { at = "+7s", to = "desk", state = "firing", rule = "lost", subject = "l/east/p", text = "FIRING lost: all of it" },
  { at = "+7s", to = "oncall", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+9s", to = "desk", state = "resolved", rule = "lost", subject = "l/east/p" },
]
[[case]]
name = "nothing is expected"
series = { "l/east/p" = "80 lost x3" }
transitions = []
[[case]]
name = "twice what comes once"
series = { "l/east/p" = "80 lost x3" }
transitions = [
  { at = "+3s", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+3s", state = "firing", rule = "lost", subject = "l/east/p" },
]
"#;
    let expected = "\
FAILED off by one
  transitions:
  - +6s firing lost l/east/p
  + +7s firing lost l/east/p, value 0: 3 of 3 lost
    +9s resolved lost l/east/p, value 1: 2 in a row not below 1
  notifications:
    +7s to oncall firing lost l/east/p: FIRING link-lost l: 1 of 3 probes lost (lost)
  - +7s to desk firing lost l/east/p: FIRING lost: all of it
  + +7s to desk firing lost l/east/p: FIRING link-lost l: 1 of 3 probes lost (lost)
    +9s to desk resolved lost l/east/p: RESOLVED link-lost l: over after 2 s: 2 in a row not below 1 (lost)
  + +9s to oncall resolved lost l/east/p: RESOLVED link-lost l: over after 2 s: 2 in a row not below 1 (lost)
FAILED nothing is expected
  transitions:
  + +3s firing lost l/east/p, value 0: 3 of 3 lost
FAILED twice what comes once
  transitions:
    +3s firing lost l/east/p, value 0: 3 of 3 lost
  - +3s firing lost l/east/p
";
    assert_eq!(tested(cases), expected);
}

#[test]
fn a_collector_may_die_or_be_cut_off_and_what_it_kept_comes_once_it_can() {
    let cases = r#"
[[case]]
name = "dead: nothing was seen meanwhile"
series = { "l/east/p" = "80x10 lost x10 80x5", east = "alive x10 dead x10 alive" }
transitions = [
  { at = "+13s", state = "firing", rule = "site-silent", subject = "east" },
  { at = "+17s", state = "unknown", rule = "lost", subject = "l/east/p" },
  { at = "+20s", state = "ok", rule = "lost", subject = "l/east/p" },
  { at = "+20s", state = "resolved", rule = "site-silent", subject = "east" },
]
[[case]]
name = "cut off: what was seen is judged late, at its own time"
series = { "l/east/p" = "80x10 lost x10 80x5", east = "alive x10 cut x10 alive" }
transitions = [
  { at = "+12s", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+13s", state = "firing", rule = "site-silent", subject = "east" },
  { at = "+20s", state = "resolved", rule = "site-silent", subject = "east" },
  { at = "+21s", state = "resolved", rule = "lost", subject = "l/east/p" },
]
rules = ["lost", "site-silent"]
notifications = [
  { at = "+13s", to = "oncall", state = "firing", rule = "site-silent", subject = "east" },
  { at = "+13s", to = "desk", state = "firing", rule = "site-silent", subject = "east" },
  { at = "+20s", to = "oncall", state = "resolved", rule = "site-silent", subject = "east" },
  { at = "+20s", to = "desk", state = "firing", rule = "lost", subject = "l/east/p" },
  { at = "+20s", to = "desk", state = "resolved", rule = "site-silent", subject = "east" },
  { at = "+21s", to = "desk", state = "resolved", rule = "lost", subject = "l/east/p" },
]
[[case]]
name = "all of them: the alerter is blind"
series = { east = "alive x3 dead x10", west = "alive x3 dead x10" }
transitions = [{ at = "+6s", state = "firing", rule = "alerter-blind", subject = "alerter" }]
"#;
    assert_eq!(
        tested(cases),
        "ok dead: nothing was seen meanwhile\n\
         ok cut off: what was seen is judged late, at its own time\n\
         ok all of them: the alerter is blind\n"
    );
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_at_once_each_with_its_place() {
    let cases = r#"confg = "x.toml"
[[case]]
name = "one"
series = { "l/east/pp" = "80", "l/east/q" = "eighty", "l/vpn-1" = "2x0", "weast" = "alive" }
transitions = [{ at = "3s", state = "fires", rule = "losst", subject = "l/east/q" }]
[[case]]
name = "one"
series = { "l/east/p" = "80x10" }
lasts = "5s"
start = "yesterday"
transitions = []
[[case]]
name = "two"
series = { "l/east/p" = "80x10" }
transitions = [
  { at = "+5s", state = "ok", rule = "lost", subject = "l/east/q" },
  { at = "+4s", state = "ok", rule = "lost", subject = "l/east/p", colour = 1 },
  { at = "+11s", state = "ok", rule = "lost", subject = "l/east/p" },
  { state = "ok", rule = "lost", subject = "l/east/p" },
]
notifications = [{ at = "+1s", to = "nobody", state = "unknown", rule = "lost", subject = "l" }]
rules = []
[[case]]
name = "three"
series = {}
[[case]]
series = { "l/east/p" = "80x10" }
"#;
    let expected = r#"rules.test.toml:1:1: unknown section 'confg'; did you mean 'config'?
rules.test.toml:4:12: the config has no subject 'l/east/pp'; did you mean 'l/east/p'? Otherwise write LINK/SITE/PROBE, LINK/VPN, SITE/SOURCE, or SITE for its collector
rules.test.toml:4:45: 'eighty' is not an outcome of a probe; write a reply's milliseconds (81.7, or 80+1.5x10, growing), lost, lost:timeout, lost:unreachable, lost:refused, lost:local, lost:too-big, or _ for nothing
rules.test.toml:4:67: '2x0': a word may stand from 1 to 1000000 times
rules.test.toml:4:74: the config has no subject 'weast'; did you mean 'east'? Otherwise write LINK/SITE/PROBE, LINK/VPN, SITE/SOURCE, or SITE for its collector
rules.test.toml:5:23: '3s' is not a time from the case's start; write one such as "+62s"
rules.test.toml:5:37: 'state' can't be 'fires'; did you mean 'firing'? known: firing, resolved, unknown, ok
rules.test.toml:5:53: there is no rule 'losst'; did you mean 'lost'? Otherwise the config has lost, slow, tunnels, collecting, site-silent, alerter-blind, at-most, catch-up, config-refused
rules.test.toml:7:8: a second case named 'one', the first is on line 3; give one of them another name
rules.test.toml:9:9: 'lasts' is shorter than the longest series, which is 10s; leave it out, or make it longer
rules.test.toml:10:9: 'yesterday' is not a time as RFC 3339 writes it, such as 2026-11-22T07:00:01.000123Z
rules.test.toml:16:56: there is no such subject in this case: 'l/east/q'; did you mean 'l/east/p'? Otherwise write a series for it
rules.test.toml:17:10: +4s comes before the one above, at +5s; write them in the order of their times
rules.test.toml:17:68: unknown key 'colour' in a transition; known: at, state, rule, subject, value, reason
rules.test.toml:18:10: +11s is after the case's end at +10s; make a series longer, or write lasts = "11s"
rules.test.toml:19:3: a transition needs 'at', such as at = "+3s"
rules.test.toml:21:37: there is no receiver 'nobody'; the config has oncall, desk
rules.test.toml:21:55: 'state' can't be 'unknown'; known: firing, resolved
rules.test.toml:22:9: 'rules' names none; write a rule, such as ["ping-failed"], or leave it out for all
rules.test.toml:23:1: the case expects nothing; add transitions = [] or notifications = [], with what is to come, or none
rules.test.toml:25:10: a case without a series shows nothing; write "LINK/SITE/PROBE" = "80x10 lost x3"
rules.test.toml:26:1: a case needs 'name', such as name = "three losses page"
rules.test.toml:26:1: the case expects nothing; add transitions = [] or notifications = [], with what is to come, or none"#;
    assert_eq!(tested(cases), expected);
    assert_eq!(
        tested("# nothing\n"),
        "rules.test.toml:1:1: the file has no case; write [[case]] with name, series and transitions"
    );
    let torn = tested("[[case]]\nname = \"one\nseries = 1\n");
    assert!(torn.starts_with("rules.test.toml:2:"), "{torn}");
}

/// What a case's probe sees, as rows for a replay, up to a last one of another probe at the case's very end.
fn rows(words: &[(Option<f64>, bool)], start: i64) -> String {
    let mut rows = String::new();
    let mut seq = 0;
    let mut row = |place: usize, probe: &str, outcome: &str| {
        let at = crosswatch_shared::time::Timestamp::from_secs(start + place as i64);
        writeln!(
            rows,
            r#"{{"kind":"probe","at":"{at}","site":"east","collector":"c","boot":"b","seq":{seq},"link":"l","probe":"{probe}",{outcome}}}"#
        )
        .unwrap();
        seq += 1;
    };
    for (place, (rtt_ms, seen)) in words.iter().enumerate() {
        row(place, "q", r#""rtt_ms":1.0"#);
        match rtt_ms {
            _ if !seen => {}
            Some(rtt_ms) => row(place, "p", &format!(r#""rtt_ms":{rtt_ms:.1}"#)),
            None => row(place, "p", r#""lost":"timeout""#),
        }
    }
    row(words.len(), "q", r#""rtt_ms":1.0"#);
    rows
}

fn lines(transitions: &[Transition]) -> Vec<String> {
    transitions.iter().map(crosswatch_replay::line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What a case judges is what a replay of the same observations does.
    #[test]
    fn a_case_judges_as_a_replay_of_the_same_observations(
        words in proptest::collection::vec(
            (proptest::option::weighted(0.6, (0..40u32).prop_map(|tens| f64::from(tens) * 10.0)), prop::bool::weighted(0.8), 1..12usize),
            1..12,
        ),
        start in 1_795_330_800..1_795_330_900_i64,
    ) {
        let text = CONFIG.replace("metric = \"ping_ok\"", "metric = \"ping_ok\"\nsubjects = [\"l/east/p\"]");
        let text = text.replace("metric = \"latency_ms\"", "metric = \"latency_ms\"\nsubjects = [\"l/east/p\"]\nmissing = \"breach\"");
        let (topology, config) = config(&text);
        let expanded: Vec<_> = words
            .iter()
            .flat_map(|(rtt_ms, seen, count)| std::iter::repeat_n((*rtt_ms, *seen), *count))
            .collect();
        // Before its first observation nothing is known of a site, which a silent probe alone would not be.
        let series: Vec<String> = words
            .iter()
            .map(|(rtt_ms, seen, count)| match rtt_ms {
                _ if !seen => format!("_x{count}"),
                Some(rtt_ms) => format!("{rtt_ms:.1}x{count}"),
                None => format!("lost x{count}"),
            })
            .collect();
        let at = crosswatch_shared::time::Timestamp::from_secs(start);
        let case = format!(
            "[[case]]\nname = 'c'\nstart = '{at}'\nseries = {{ 'l/east/p' = '{}', 'l/east/q' = '1' }}\ntransitions = []\n",
            series.join(" ")
        );
        let cases = read(Path::new("t"), case.as_bytes(), &topology, &config).unwrap();
        let Played { transitions, .. } = play(&cases[0], &topology, &config).unwrap();

        let rules = config.rules.into_iter().filter(|of| ["lost", "slow"].contains(&&*of.rule.name));
        let rules = rules.map(|of| of.rule).collect();
        let rows = rows(&expanded, start);
        let mut rows = crosswatch_replay::source::File::new(rows.as_bytes(), "rows", None, Wanted::default());
        let replayed = crosswatch_replay::replay(rules, &topology, &mut rows).unwrap();
        prop_assert_eq!(lines(&transitions), lines(&replayed.transitions), "{}", case);
    }
}
