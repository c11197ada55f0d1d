//! What a reviewer of a changed rule is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use crosswatch_judge::rule::Rule;
use crosswatch_replay::backtest::{Comparison, Rules, compare, judge};
use crosswatch_replay::sweep::{self, Sweep, SweepError, points};
use crosswatch_shared::observation::Batch;

use world::{Made, batches, lost, paging, slow, topology, trouble};

fn judged(seen: &[Batch], sets: Vec<Rules>) -> Vec<crosswatch_replay::backtest::Judged> {
    judge(&mut Made::of(seen.to_vec()), sets, &topology(), |_, _| ()).unwrap()
}

fn compared(seen: &[Batch], old: Rules, new: Rules) -> Comparison {
    let judged = judged(seen, vec![old, new]);
    compare(&judged[0], &judged[1])
}

/// Four losses in a row, long after that one of twenty.
fn two_outages() -> Vec<Batch> {
    let first = trouble(20, (4, None), 200);
    batches("a", first.into_iter().chain(trouble(0, (20, None), 40)))
}

#[test]
fn what_would_page_no_more_and_what_would_page_later_is_told_by_how_much() {
    let seen = two_outages();
    let comparison = compared(&seen, paging(vec![lost("lost", 3)]), paging(vec![lost("lost", 6)]));
    assert_eq!((comparison.old.pages, comparison.new.pages), (2, 1));
    assert_eq!((comparison.lost.len(), comparison.gained.len(), comparison.same), (1, 0, 0));
    assert_eq!(comparison.shifted.iter().map(|shift| shift.later_s).collect::<Vec<_>>(), [3.0]);
    let told = comparison.to_string();
    assert!(told.contains("pages                              2       1  -1\n"), "{told}");
    assert!(told.contains("lost    2026-11-22T07:00:22.000000Z link-lost l, 2.0 s (lost l/a/p)\n"), "{told}");
    assert!(
        told.contains("later   2026-11-22T07:03:46.000000Z link-lost l, 18 s (lost l/a/p): later by 3.0 s\n"),
        "{told}"
    );

    let back = compared(&seen, paging(vec![lost("lost", 6)]), paging(vec![lost("lost", 3)]));
    assert_eq!((back.lost.len(), back.gained.len()), (0, 1));
    assert_eq!(back.shifted.iter().map(|shift| shift.later_s).collect::<Vec<_>>(), [-3.0]);
    let same = compared(&seen, paging(vec![lost("lost", 3)]), paging(vec![lost("renamed", 3)]));
    assert_eq!((same.lost.len(), same.gained.len(), same.shifted.len(), same.same), (0, 0, 0, 2));
}

#[test]
fn each_receiver_is_paged_once_for_what_is_down_however_often_it_is() {
    let slow_one = || std::iter::repeat_n(Some(300.0), 10);
    let lost_one = || std::iter::repeat_n(None, 10);
    let stretches = slow_one().chain(lost_one()).chain(slow_one()).chain(lost_one());
    let good = |count| std::iter::repeat_n(Some(80.0), count);
    let seen = batches("a", good(20).chain(stretches).chain(good(40)));
    let notify = |rule: &str, to: &[&str]| (rule.into(), to.iter().map(|&name| name.into()).collect());
    let rules = Rules {
        rules: vec![slow("slow", 200.0), lost("lost", 3)],
        notify: [notify("slow", &["early"]), notify("lost", &["early", "late"])].into(),
    };
    let judged = judged(&seen, vec![rules]);
    let [incident] = &judged[0].incidents[..] else { panic!("{judged:?}") };
    // That it is slow and that it is worse; and who was told nothing before, that it is down.
    let pages: Vec<(&str, u64)> = incident.pages.iter().map(|(name, pages)| (&**name, *pages)).collect();
    assert_eq!(pages, [("early", 2), ("late", 1)]);
}

/// A rule that waits so long that it begins when the other has ended tells of the same outage.
#[test]
fn a_trouble_is_one_also_where_one_rule_has_ended_before_the_other_begins() {
    let seen = batches("a", trouble(20, (5, Some(300.0)), 100));
    let slower = Rule {
        window: Some(crosswatch_judge::rule::Window {
            period: std::time::Duration::from_secs(30),
            statistic: crosswatch_judge::rule::Statistic::Maximum,
        }),
        breach: crosswatch_judge::rule::Breach { m: 1, n: 1 },
        ..slow("slow", 200.0)
    };
    let comparison = compared(&seen, paging(vec![slow("slow", 200.0)]), paging(vec![slower]));
    assert_eq!((comparison.lost.len(), comparison.gained.len()), (0, 0), "{comparison}");
    assert_eq!(comparison.shifted.len(), 1, "{comparison}");
}

#[test]
fn only_what_pages_counts() {
    let seen = two_outages();
    let silent = Rules { notify: Default::default(), ..paging(vec![lost("lost", 3)]) };
    let comparison = compared(&seen, paging(vec![lost("lost", 3)]), silent);
    assert_eq!((comparison.lost.len(), comparison.new.pages, comparison.new.unpaged), (2, 0, 2));
}

#[test]
fn a_sweep_counts_pages_and_how_much_later_each_value_pages() {
    let sweep: Sweep = "slow.above=100..400/4".parse().unwrap();
    assert_eq!(sweep.values, [100.0, 200.0, 300.0, 400.0]);
    // Slower and slower: 100 ms is passed 10 s before 200 ms is, and so on, up to 350 ms.
    let ramp = [80.0, 150.0, 250.0, 350.0].into_iter().flat_map(|rtt| std::iter::repeat_n(Some(rtt), 10));
    let seen = batches("a", ramp.chain(trouble(0, (0, None), 100)));
    // What another rule pages for says nothing of this one.
    let seen: Vec<Batch> = seen.into_iter().chain(batches("b", trouble(200, (5, None), 20))).collect();
    let other = Rule { subjects: vec!["*/q".to_owned()], ..lost("lost", 3) };
    let swept = Rule { subjects: vec!["*/p".to_owned()], ..slow("slow", 200.0) };
    let judged = judged(&seen, sweep.sets(&paging(vec![swept, other])).unwrap());
    let points = points(&sweep, &judged);
    assert_eq!(points.iter().map(|point| point.pages).collect::<Vec<_>>(), [2, 2, 2, 1]);
    let later: Vec<_> = points.iter().map(|point| point.later_s).collect();
    assert_eq!(later, [Some(0.0), Some(10.0), Some(20.0), None]);
    let table = sweep::table(&sweep, &points);
    assert!(table.contains("       200       2          2    1/1     10 s  ####"), "{table}");
    assert!(table.contains("       400       1          1    0/1    never  ####"), "{table}");
    let svg = sweep::svg(&sweep, &points).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("slow.above"), "{svg}");
}

#[test]
fn a_sweep_that_means_nothing_says_how_it_is_written() {
    for text in
        ["", "slow", "slow.above", "slow.above=1", "slow.above=3..1", "slow.above=1..2/1", "slow.above=a..b"]
    {
        let told = text.parse::<Sweep>().unwrap_err();
        assert!(matches!(told, SweepError::Form(_)), "{text}: {told}");
    }
    let rules = paging(vec![slow("slow", 200.0)]);
    let wrong =
        |text: &str| text.parse::<Sweep>().and_then(|sweep| sweep.sets(&rules)).unwrap_err().to_string();
    assert_eq!(wrong("fast.above=1..2"), "--sweep: there is no rule 'fast'; there are slow");
    assert_eq!(
        wrong("slow.below=1..2"),
        "--sweep: rule 'slow' has no 'below'; it breaches on the other side"
    );
    assert!(wrong("slow.colour=1..2").contains("cannot be swept"));
    let whole: Sweep = "slow.breach=1..3".parse().unwrap();
    assert_eq!(whole.values, [1.0, 2.0, 3.0]);
    assert!(whole.sets(&rules).is_ok());
}
