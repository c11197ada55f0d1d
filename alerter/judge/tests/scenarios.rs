//! The rule semantics by example: short stories and the lines that follow from the text, worked out by hand.
//!
//! Their world and notation are told in `notation`.

mod model;
mod notation;
mod replayed;

use crosswatch_judge::rule::Rule;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Observation, Origin};

use model::{Line, model};
use notation::{expected, parts, rows, rule, world, written};
use replayed::{replayed, replayed_in_lives};

struct Scenario {
    name: &'static str,
    rule: &'static str,
    rows: &'static str,
    lines: &'static str,
}

const fn scenario(
    name: &'static str,
    rule: &'static str,
    rows: &'static str,
    lines: &'static str,
) -> Scenario {
    Scenario { name, rule, rows, lines }
}

/// The probe `p` has a default deadline of 3 · 1 s + 5 s = 8 s.
const SCENARIOS: &[Scenario] = &[
    // Thresholds, M of N
    scenario(
        "one of one fires at the loss and resolves at the reply",
        "ping_ok below 1",
        "0 p 5; 1 p x; 2 p x; 3 p 5",
        "1 firing 0; 3 resolved 1",
    ),
    scenario(
        "a value that equals the threshold does not breach",
        "latency_ms above 200",
        "0 p 200; 1 p 200.5; 2 p 200",
        "1 firing 200.5; 2 resolved 200",
    ),
    scenario(
        "fewer than N known datapoints count as they are",
        "ping_ok below 1, 2 of 5",
        "0 p x; 1 p x",
        "1 firing 0",
    ),
    scenario(
        "three of three needs three in a row, and one reply resolves",
        "ping_ok below 1, 3 of 3",
        "0 p x; 1 p x; 2 p 5; 3 p x; 4 p x; 5 p x; 6 p x; 7 p 5",
        "5 firing 0; 7 resolved 1",
    ),
    scenario(
        "without clear it resolves when fewer than M of the newest N breach",
        "latency_ms above 10, 2 of 3",
        // The newest three: 20 | 20 5 | 20 5 20 fires | 5 20 5 resolves
        "0 p 20; 1 p 5; 2 p 20; 3 p 5; 4 p 5",
        "2 firing 20; 3 resolved 5",
    ),
    scenario(
        "clear counts datapoints in a row that do not breach",
        "ping_ok below 1, clear 3",
        "0 p x; 1 p 5; 2 p 5; 3 p x; 4 p 5; 5 p 5; 6 p 5; 7 p 5",
        "0 firing 0; 6 resolved 1",
    ),
    scenario(
        "after a clear the count starts anew: old breaches are forgotten",
        "ping_ok below 1, 2 of 5, clear 1",
        // At 4 s the newest five would hold three breaches, but only the one at 3 s came after the clear.
        "0 p x; 1 p x; 2 p 5; 3 p x; 4 p 5; 5 p x",
        "1 firing 0; 2 resolved 1; 5 firing 0",
    ),
    scenario(
        "without clear old breaches go on to count",
        "ping_ok below 1, 2 of 3",
        // x x | x x 5 fires on | x 5 5 resolves | 5 5 x | 5 x x fires
        "0 p x; 1 p x; 2 p 5; 3 p 5; 4 p x; 5 p x",
        "1 firing 0; 3 resolved 1; 5 firing 0",
    ),
    scenario(
        "while firing of an above rule only what is under clear_below does not breach",
        "latency_ms above 200, clear_below 100",
        "0 p 150; 1 p 201; 2 p 150; 3 p 100; 4 p 99.5; 5 p 150",
        "1 firing 201; 4 resolved 99.5",
    ),
    scenario(
        "while firing of a below rule only what is over clear_above does not breach",
        "tunnels_up below 1, clear_above 1",
        "0 v --; 10 v +-; 20 v ++; 30 v +-",
        "0 firing l/v 0; 20 resolved l/v 2",
    ),
    scenario(
        "all of the newest N are judged by the threshold of the present state",
        "latency_ms above 200, 2 of 3, clear_below 100",
        // At 2 s it fires: 250 150 250. From then 150 breaches too: 150 250 50, at 3 s, still holds two; 250 50 50 one.
        "0 p 250; 1 p 150; 2 p 250; 3 p 50; 4 p 50",
        "2 firing 250; 4 resolved 50",
    ),
    // Metrics and subjects
    scenario(
        "what is local says nothing about the link",
        "ping_ok below 1, 2 of 2",
        "0 p x; 1 p local; 2 p x",
        "2 firing 0",
    ),
    scenario(
        "every other loss counts",
        "ping_ok below 1, 3 of 3",
        "0 p unreachable; 1 p refused; 2 p timeout",
        "2 firing 0",
    ),
    scenario(
        "an empty answer about tunnels is no datapoint",
        "tunnels_up below 2",
        "0 v .; 10 v ++; 20 v .; 30 v +-",
        "30 firing l/v 1",
    ),
    scenario(
        "latency leaves losses out",
        "latency_ms above 10, 2 of 2",
        "0 p 20; 1 p x; 2 p 20",
        "2 firing 20",
    ),
    scenario(
        "any VPN connection that the tag selects is a subject",
        "tunnels_up below 1",
        "0 t1 --; 0 t2 ++; 1 t2 --",
        "0 firing m/t1 0; 1 firing m/t2 0",
    ),
    scenario(
        "a collection is judged for its site and source",
        "collection_ok below 1",
        "0 icmp ok 3; 0 ec2:vpn bad 90; 1 b:icmp bad 3; 2 ec2:vpn ok 80",
        "0 firing a/ec2:vpn 0; 1 firing b/icmp 0; 2 resolved a/ec2:vpn 1",
    ),
    scenario(
        "a collection that failed took time as well",
        "collection_ms above 50",
        "0 icmp bad 60",
        "0 firing a/icmp 60",
    ),
    scenario(
        "globs choose subjects, and a star passes over slashes",
        "ping_ok below 1, only l*q, only ?/b/*",
        "0 p x; 0 q x; 0 r x",
        "0 firing l/a/q 0; 0 firing l/b/r 0",
    ),
    scenario(
        "what the config lacks has no effect, not even on event time or deadlines",
        "ping_ok below 1",
        "0 p x; 100 w ++; 100 stranger x; 100 l/z/p x; 100 nolink x; 100 b/v ++; 7 p x",
        "0 firing 0",
    ),
    // Periods
    scenario(
        "a period's datapoint stands at its end and comes once the end is passed by the grace",
        "ping_ok below 1, period 10",
        "1 p 5; 2 p x; 9 p x; 9 p 5; 11.999999 q 5; 12 q 5",
        "10 firing 0.5",
    ),
    scenario("the end of the input closes nothing", "ping_ok below 1, period 10", "1 p x; 11.999999 q 5", ""),
    scenario(
        "a row at the end of a period belongs to the next one",
        "ping_ok below 1, period 10",
        "9 p 5; 10 p x; 12 q 5; 22 q 5",
        "20 firing 0",
    ),
    scenario(
        "what comes after the close of its period is late",
        "latency_ms above 10, period 10, maximum",
        "1 p 5; 11.9 p 5; 9 p 7; 12 q 5; 9 p 50; 22 q 5",
        "",
    ),
    scenario(
        "what comes within the grace still counts",
        "latency_ms above 10, period 10, maximum",
        "1 p 5; 11.9 p 5; 9 p 50; 12 q 5; 22 q 5",
        "10 firing 50; 20 resolved 5",
    ),
    scenario(
        "percentiles are exact nearest ranks",
        "latency_ms above 3, period 10, p50",
        // The second of 1 3 4 5 is rank 2 (0.5 · 4); the third of 1 3 4 4 9 is rank 3 (2.5 rounded up).
        "0 p 5; 1 p 1; 2 p 4; 3 p 3; 10 p 9; 11 p 4; 12 p 1; 13 p 4; 14 p 3; 22 q 5",
        "20 firing 4",
    ),
    scenario(
        "loss counts every loss but local ones",
        "loss_percent above 30, period 10",
        "0 p 5; 1 p x; 2 p local; 3 p unreachable; 4 p 5; 12 p local; 24 q 5",
        "10 firing 50",
    ),
    scenario(
        "jitter goes by consecutive replies in the order of sending",
        "jitter_ms above 5, period 10",
        // Sent in the order 10 20 14: steps of 10 and 6. One reply alone gives none.
        "0 p 10; 2 p 14; 1 p 20; 3 p x; 11 p 99; 12 q 5; 22 q 5",
        "10 firing 8",
    ),
    scenario(
        "in a period each packet of a burst counts for the loss",
        "loss_percent above 30, period 10",
        // Two of four lost, in bursts that both had replies; then one of four.
        "0 p 5|x; 1 p x|5; 10 p 5|x; 11 p 5|5; 24 q 5",
        "10 firing 50; 20 resolved 25",
    ),
    scenario(
        "so does each of a burst that was wholly lost",
        "loss_percent above 46, period 10",
        // Four of eight packets; then five of eleven, of which the last was alone.
        "0 p 5|5|5|5; 1 p x|x|x|x; 10 p 5|x|5|5; 11 p x|x|x|x; 12 p 5|5; 13 p 5; 24 q 5",
        "10 firing 50; 20 resolved 45.45454545454545",
    ),
    scenario(
        "and for the rate of answers",
        "ping_ok below 0.6, period 10",
        "0 p 5|5; 1 p x|x|x; 2 p 5; 12 q 5",
        "10 firing 0.5",
    ),
    scenario(
        "a burst for which this machine is to blame counts for nothing",
        "loss_percent above 30, period 10",
        "0 p 5|x|5; 1 p local|local|local; 2 p x|local|5; 12 q 5",
        "10 firing 40",
    ),
    scenario(
        "a wholly lost burst has no time to be judged, and puts off the deadline as one loss does",
        "latency_ms above 10, period 2, deadline 5",
        "0 p 20|20; 2 q 5; 4 p x|x|x; 6 q 5; 9.5 q 5",
        "2 firing 20; 9 unknown",
    ),
    scenario(
        "and for the jitter, in the order of sending",
        "jitter_ms above 5, period 10",
        "0 p 10|x|20|14; 12 q 5; 22 q 5",
        "10 firing 8",
    ),
    scenario(
        "without a period a burst is one datapoint: up if any replied, its latency their median",
        "latency_ms above 15, 2 of 2",
        "0 p 10|20|30; 1 p 20|x|99; 2 p x|x|x; 3 p 9|x|8; 4 q 5",
        "1 firing 20; 3 resolved 8",
    ),
    scenario(
        "a period with nothing to count gives no datapoint",
        "latency_ms above 10, period 2, 2 of 2",
        "0 p 20; 2 p x; 4 p 20; 8 q 5",
        "6 firing 20",
    ),
    // Late data, boots, what was seen
    scenario(
        "a datapoint takes its place by time",
        "ping_ok below 1, 3 of 3",
        // In order: x5 from 0 s to 4 s is 0 x x x 0 only once the 2 s one has come.
        "0 p 5; 1 p x; 3 p x; 2 p x",
        "2 firing 0",
    ),
    scenario(
        "a datapoint older than the newest N is late and changes nothing",
        "ping_ok below 1, 2 of 2",
        "1 p 5; 2 p x; 3 p 5; 0 p x; 1.5 p x; 4 p x",
        "",
    ),
    scenario(
        "clear widens what is remembered",
        "ping_ok below 1, clear 3, only *p",
        // The loss at 2.5 s comes late, but among the newest three, so the row starts after it.
        "0 p x; 1 p 5; 2 p 5; 3 p 5; 4 p x; 5 p 5; 6 p 5; 5.5 p x; 7 p 5; 8 p 5",
        "0 firing 0; 3 resolved 1; 4 firing 0; 8 resolved 1",
    ),
    scenario(
        "a new boot's datapoints follow the former's, even with an earlier clock",
        "ping_ok below 1, 2 of 2",
        "100 p x; 50@B p x; 51@B p 5; 101 p x",
        "50 firing 0; 51 resolved 1",
    ),
    scenario(
        "what was seen already is ignored, even if it differs",
        "ping_ok below 1, 2 of 2",
        "0#0 p x; 0#0 p x; 1#0 p x; 1#1@B p 5; 2#1 p x",
        "",
    ),
    scenario(
        "what was seen already does not move event time",
        "ping_ok below 1, deadline 3",
        "0#0 p 5; 9#0 q 5; 2.9#1 p 5",
        "",
    ),
    scenario(
        "at equal times the number decides",
        "ping_ok below 1",
        // The reply, number 1, is the newer one; so the loss, number 0, that comes after it is late.
        "0#1 p 5; 0#0 p x",
        "",
    ),
    // Missing data
    scenario(
        "no datapoint for the deadline makes the subject unknown, once",
        "ping_ok below 1, only *p",
        "0 p 5; 7.999999 q 5; 8 q 5; 30 q 5",
        "8 unknown",
    ),
    scenario(
        "each site has its own event time",
        "ping_ok below 1",
        "0 p 5; 0 q 5; 0 r 5; 100 r 5; 1 p 5",
        "8 unknown l/b/r; 100 ok l/b/r 1",
    ),
    scenario(
        "the deadline is three times the longer of period and interval, and 5 s",
        "tunnels_up below 1, period 2",
        "0 v ++; 36.999999 q 5; 37 q 5",
        "37 unknown l/v",
    ),
    scenario(
        "a subject never seen has its deadline from its site's first observation",
        "ping_ok below 1, deadline 4",
        "10 icmp ok 1; 14 icmp ok 1",
        "14 unknown l/a/p; 14 unknown l/a/q",
    ),
    scenario(
        "when data returns and nothing fires it says ok",
        "ping_ok below 1, deadline 3, only *p",
        "0 p 5; 5 p 5; 6 p 5",
        "3 unknown; 5 ok 1",
    ),
    scenario(
        "a row at the deadline comes after it",
        "ping_ok below 1, deadline 3, only *p",
        "0 p 5; 3 p 5",
        "3 unknown; 3 ok 1",
    ),
    scenario(
        "a firing incident stays firing while unknown, and says so again when data returns",
        "ping_ok below 1, deadline 3, clear 2, only *p",
        "0 p x; 5 p 5; 9 p 5; 10 p 5",
        "0 firing 0; 3 unknown; 5 firing 1; 8 unknown; 9 resolved 1",
    ),
    scenario(
        "data that returns can fire at once",
        "ping_ok below 1, deadline 3, only *p",
        "0 p 5; 5 p x; 6 p 5",
        "3 unknown; 5 firing 0; 6 resolved 1",
    ),
    scenario(
        "a loss restarts the deadline of the latency, what is local does not",
        "latency_ms above 10, deadline 3, only *p",
        "0 p 5; 2 p x; 4 p x; 5 p local; 7 q 5",
        "7 unknown",
    ),
    scenario(
        "a loss does not end unknown",
        "latency_ms above 10, deadline 3, only *p",
        "0 p 5; 4 p x; 6 p x; 8 p 5",
        "3 unknown; 8 ok 5",
    ),
    scenario(
        "a reply restarts the deadline of a period's latency before the period closes",
        "latency_ms above 10, period 10, deadline 3, only *p",
        "0 p 5; 2 p 5; 4 p 5; 6 p 5; 8 p 5; 10 p 5; 12 p x; 14 p x",
        "",
    ),
    scenario(
        "a period's datapoint at the moment of the deadline comes first",
        "ping_ok below 1, period 2, deadline 4, only *p",
        // The deadline of 0 s + 4 s meets the close of the period from 0 s to 2 s; the next is 2 s + 4 s.
        "0 p 5; 5.5 q 5; 6 q 5",
        "6 unknown",
    ),
    scenario(
        "missing data may breach",
        "ping_ok below 1, 2 of 2, deadline 3, missing breach, only *p",
        // Datapoints for missing data at 3 s, 4 s, 5 s, 6 s; the reply at 6 s follows the last of them.
        "0 p 5; 6 p 5; 7 p 5",
        "3 unknown; 4 firing null; 6 resolved 1",
    ),
    scenario(
        "missing data may resolve",
        "ping_ok below 1, clear 2, deadline 3, missing ok, only *p",
        "0 p x; 6 p 5",
        "0 firing 0; 3 unknown; 4 resolved null; 6 ok 1",
    ),
    scenario(
        "real data for the span of missing data is late",
        "ping_ok below 1, deadline 3, missing breach, only *p",
        "0 p 5; 5.5 q 5; 4.9 p 5; 5 p 5",
        "3 unknown; 3 firing null; 5 resolved 1",
    ),
    scenario("no deadline passes a moment too early", "ping_ok below 1, only *p", "0 p 5; 7.999999 q 5", ""),
    scenario(
        "missing data that goes on firing is not said again",
        "ping_ok below 1, deadline 3, missing breach, only *p",
        "0 p x; 9 q 5",
        "0 firing 0; 3 unknown",
    ),
    scenario(
        "a loss puts off the missing data of the latency",
        "latency_ms above 10, 3 of 3, deadline 3, missing breach, only *p",
        // Missing at 3 s and 4 s; the loss at 4.5 s moves the next to 7.5 s.
        "0 p 5; 4.5 p x; 7.4 q 5; 7.5 q 5",
        "3 unknown; 7.5 firing null",
    ),
    scenario(
        "real data at the time of the newest missing data comes after it",
        "ping_ok below 1, 2 of 2, deadline 3, missing breach, only *p",
        "0 p 5; 4.5 q 5; 4 p 5",
        "3 unknown; 4 firing null; 4 resolved 1",
    ),
    scenario(
        "a subject that only its data makes known has its deadline from then",
        "collection_ok below 1, period 10, deadline 3",
        "0 q 5; 1 icmp ok 1; 4 q 5",
        "4 unknown a/icmp",
    ),
    scenario(
        "a new boot's slow data for the span of missing data is late as well",
        "ping_ok below 1, deadline 3, missing breach, only *p",
        "0 p 5; 1@B q 5; 5@B q 5; 4.9@B p 5; 5@B p 5",
        "3 unknown; 3 firing null; 5 resolved 1",
    ),
    scenario(
        "a boot newer than the missing data follows it, even with an earlier clock",
        "ping_ok below 1, deadline 3, missing breach, only *p",
        "100 p 5; 105 q 5; 50@B p 5",
        "50 resolved 1; 103 unknown; 103 firing null",
    ),
    scenario(
        "what comes after the close of its period restarts no deadline",
        "latency_ms above 10, period 1, deadline 8, only *p",
        // The datapoint stands at 1 s.
        "0 p 5; 8 q 5; 4.5 p 5; 5 p x; 9 q 5",
        "9 unknown",
    ),
    scenario(
        "a loss that is late puts off no missing data",
        "latency_ms above 10, 3 of 3, deadline 3, missing breach, only *p",
        "0 p 5; 4 q 5; 3.5 p x; 5 q 5",
        "3 unknown; 5 firing null",
    ),
    scenario(
        "a datapoint does not resolve because of newer ones that came before it",
        "ping_ok below 1, 1 of 3, clear 2, only *p",
        "2 p 5; 3 p 5; 1 p x; 1.5 p x; 4 p 5",
        "1 firing 0; 4 resolved 1",
    ),
    scenario(
        "what came slowly, from before the gap, does not end unknown",
        "ping_ok below 1, 1 of 3, deadline 3, only *p",
        "0 p 5; 1 p 5; 5 q 5; 0.5 p 5; 6 p 5",
        "4 unknown; 6 ok 1",
    ),
    scenario(
        "a tag's VPN connections belong to the site that saw them",
        "tunnels_up below 1",
        "0 t3 ++; 1 q 5; 30 q 5; 30 t3 ++",
        "8 unknown m/t3; 30 ok m/t3 2",
    ),
    scenario(
        "a period's missing data comes each period",
        "ping_ok below 1, period 4, 2 of 2, deadline 3, missing breach, only *p",
        // A period from 0 s to 4 s would close at 6 s, but nothing was seen in it: 0 s + 3 s, then 7 s.
        "0 q 5; 6.9 q 5; 7 q 5",
        "3 unknown; 7 firing null",
    ),
];

#[test]
fn the_model_tells_every_scenario_as_worked_out_by_hand() {
    tell(model);
}

#[test]
fn the_engine_tells_every_scenario_as_worked_out_by_hand() {
    tell(replayed);
}

#[test]
fn an_engine_that_is_stopped_and_restored_after_every_row_tells_them_too() {
    tell(|rules, topology, rows| replayed_in_lives(rules, topology, rows, 1));
}

fn tell(judge: impl Fn(&[Rule], &Topology, &[(Origin, Observation)]) -> Vec<Line>) {
    let topology = world();
    let mut wrong = Vec::new();
    for scenario in SCENARIOS {
        let rule = rule(scenario.rule);
        let lines: Vec<String> =
            judge(&[rule], &topology, &rows(scenario.rows)).iter().map(written).collect();
        let expected: Vec<String> = parts(scenario.lines, ';').map(expected).collect();
        if lines != expected {
            wrong.push(format!("{}\n  expected {expected:?}\n  found    {lines:?}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
