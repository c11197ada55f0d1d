//! Known losses, duplicates and reordering in both directions, and what is made of them.

use super::*;
use proptest::prelude::*;

const FIRST: u32 = 1_000;

/// Takes replies as (packet, reflector's number), packets counted from `FIRST`; the change with each.
fn changes(path: &mut Path, replies: &[(u32, u32)]) -> Vec<Change> {
    let hear = |&(number, reflector): &(u32, u32)| path.heard(FIRST + number, reflector, FIRST + 20, None);
    replies.iter().map(hear).collect()
}

fn lost(forward: i64, back: i64, unknown: i64) -> Totals {
    Totals { lost: ByDirection { forward, back, unknown }, ..Totals::default() }
}

#[test]
fn a_gap_is_told_with_the_next_reply_by_direction() {
    let mut path = Path::new(FIRST);
    let told: Vec<_> =
        changes(&mut path, &[(0, 0), (2, 1), (4, 3), (7, 4), (10, 6)]).iter().map(|c| c.since).collect();
    assert_eq!(told, [lost(0, 0, 0), lost(1, 0, 0), lost(0, 1, 0), lost(2, 0, 0), lost(1, 1, 0)]);
    assert_eq!(path.mode(), Mode::Stateful);
    assert_eq!(path.totals(), lost(4, 2, 0));
}

#[test]
fn what_was_lost_before_the_first_reply_is_known_for_a_new_session_begins_at_zero() {
    let mut path = Path::new(FIRST);
    changes(&mut path, &[(5, 2)]);
    assert_eq!(path.totals(), lost(3, 2, 0));

    // A reflector that still remembers this port's former session tells nothing of what was before.
    let mut path = Path::new(FIRST);
    changes(&mut path, &[(5, 70_000), (7, 70_002)]);
    assert_eq!(path.totals(), lost(0, 1, 5));
}

#[test]
fn one_that_was_overtaken_takes_its_loss_back() {
    let mut path = Path::new(FIRST);
    // On the way out: the reflector had it later.
    let told = changes(&mut path, &[(0, 0), (2, 1), (1, 2), (3, 3)]);
    assert_eq!(told[2].since, lost(-1, 0, 0));
    assert!(told[2].reordered_forward && !told[2].reordered_back);
    // On the way back: the reflector had it first.
    let told = changes(&mut path, &[(5, 5), (4, 4), (6, 6)]);
    assert_eq!(told[1].since, lost(0, -1, 0));
    assert!(told[1].reordered_back && !told[1].reordered_forward);
    assert_eq!(path.totals(), Totals::default());
}

#[test]
fn a_duplicate_is_of_the_way_on_which_it_was_made() {
    let mut path = Path::new(FIRST);
    changes(&mut path, &[(0, 0), (0, 0), (1, 1), (1, 2), (2, 3)]);
    let duplicated = ByDirection { forward: 1, back: 1, unknown: 0 };
    assert_eq!(path.totals(), Totals { lost: ByDirection::default(), duplicated });
    // Doubled on the way out, and the one reply lost on the way back.
    changes(&mut path, &[(3, 5)]);
    let duplicated = ByDirection { forward: 2, back: 1, unknown: 0 };
    assert_eq!(path.totals(), Totals { lost: ByDirection { back: 1, ..ByDirection::default() }, duplicated });
}

#[test]
fn a_restart_is_told_and_what_it_hides_is_unknown() {
    let mut path = Path::new(FIRST);
    changes(&mut path, &[(0, 0), (1, 1), (3, 2)]);
    let told = changes(&mut path, &[(10, 1), (11, 2)]);
    assert!(told[0].restarted && !told[1].restarted);
    // Six between: one the new life had counted, five of whose fate nobody knows.
    assert_eq!(told[0].since, lost(0, 1, 5));
    assert_eq!(path.totals(), lost(1, 1, 5));
    // One of the former life straggles in: nothing begins anew.
    assert_eq!(changes(&mut path, &[(4, 1_000_000)])[0], Change::default());
    assert_eq!(changes(&mut path, &[(12, 3)])[0], Change::default());
}

#[test]
fn another_address_of_the_senders_is_another_count_and_what_was_between_is_unknown() {
    let [own, other] = [1, 2].map(|host| Some(IpAddr::from([10, 0, 0, host])));
    let mut path = Path::new(FIRST);
    let mut hear = |number: u32, reflector: u32, own: Option<IpAddr>| {
        path.heard(FIRST + number, reflector, FIRST + 40, own)
    };
    for number in 0..10 {
        assert_eq!(hear(number, number, own), Change::default());
    }
    // Its count for the other begins at zero; one of the five before may have been lost either way.
    let told = hear(15, 0, other);
    assert!(told.restarted);
    assert_eq!(told.since, lost(0, 0, 5));
    assert_eq!(hear(17, 2, other).since, lost(0, 1, 0));
    // Back to the first, whose count has stood still, and which by itself would be a jump that is possible.
    let told = hear(18, 12, own);
    assert!(told.restarted);
    assert_eq!(told.since, lost(0, 0, 0));
    // One that was asked from the other straggles in.
    assert_eq!(hear(16, 1, other), Change::default());
    // What is lost now is found in its direction.
    assert_eq!(hear(24, 13, own).since, lost(5, 0, 0));
    assert_eq!(hear(25, 16, own).since, lost(-2, 2, 0));

    // Whoever copies the number counts for nobody.
    let mut path = Path::new(FIRST);
    for (number, own) in [(0, own), (2, other), (3, own)] {
        let told = path.heard(FIRST + number, FIRST + number, FIRST + 40, own);
        assert!(!told.restarted);
    }
    assert_eq!(path.totals(), lost(0, 0, 1));
}

#[test]
fn a_stateless_reflector_hides_the_direction_and_may_become_stateful() {
    let mut path = Path::new(FIRST);
    changes(&mut path, &[(1, FIRST + 1), (4, FIRST + 4), (3, FIRST + 3), (4, FIRST + 4)]);
    assert_eq!(path.mode(), Mode::Stateless);
    let duplicated = ByDirection { unknown: 1, ..ByDirection::default() };
    assert_eq!(path.totals(), Totals { duplicated, ..lost(0, 0, 2) });
    let told = changes(&mut path, &[(5, 0), (7, 1)]);
    assert!(told[0].restarted);
    assert_eq!((told[1].since, path.mode()), (lost(1, 0, 0), Mode::Stateful));
    assert!(changes(&mut path, &[(8, FIRST + 8)])[0].restarted);
    assert_eq!(path.mode(), Mode::Stateless);
}

/// What befalls one packet on one way.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// How many come out: none is a loss.
    copies: u64,
    /// By how many places each may be late.
    late: [u64; 2],
}

fn fate(may_double: bool, may_reorder: bool) -> impl Strategy<Value = Fate> {
    let copies = prop_oneof![6 => Just(1), 2 => Just(0), 1 => Just(if may_double { 2 } else { 1 })];
    let late = if may_reorder { 0..12_u64 } else { 0..1 };
    (copies, late.clone(), late).prop_map(|(copies, one, other)| Fate { copies, late: [one, other] })
}

/// Sends things over a way: what comes out, in order. The last always does, after all others.
fn carry(things: &[u32], fates: &[Fate]) -> Vec<u32> {
    let mut out: Vec<(u64, usize, u32)> = Vec::new();
    let last = things.len() - 1;
    for (index, &thing) in things.iter().enumerate() {
        let Fate { copies, late } = fates[index % fates.len()];
        if index == last {
            out.push((u64::MAX, index, thing));
        } else {
            out.extend(late.iter().take(copies as usize).map(|late| (index as u64 + late, index, thing)));
        }
    }
    out.sort_by_key(|&(at, index, _)| (at, index));
    out.into_iter().map(|(_, _, thing)| thing).collect()
}

/// What the replies can tell of what was done, computed from the sets alone.
struct Injected {
    replies: Vec<(u32, u32)>,
    totals: Totals,
    /// Whether each packet doubled on the way out was answered twice, so that nothing is to be guessed.
    plain: bool,
}

fn inject(first: u32, first_reflector: u32, count: u32, out: &[Fate], back: &[Fate]) -> Injected {
    let sent: Vec<u32> = (0..count).map(|index| first.wrapping_add(index)).collect();
    let arrived = carry(&sent, out);
    let indexes: Vec<u32> = (0..u32::try_from(arrived.len()).unwrap()).collect();
    let returned = carry(&indexes, back);
    let replies: Vec<_> = returned
        .iter()
        .map(|&index| (arrived[index as usize], first_reflector.wrapping_add(index)))
        .collect();
    let distinct = |all: &[u32]| {
        let mut all = all.to_vec();
        all.sort_unstable();
        all.dedup();
        i64::try_from(all.len()).unwrap()
    };
    let length = |all: &[u32]| i64::try_from(all.len()).unwrap();
    let answered: Vec<u32> = replies.iter().map(|reply| reply.0).collect();
    let doubled_forward = length(&arrived) - distinct(&arrived);
    let totals = Totals {
        lost: ByDirection {
            forward: length(&sent) - distinct(&arrived),
            back: length(&arrived) - distinct(&returned),
            unknown: 0,
        },
        duplicated: ByDirection {
            forward: doubled_forward,
            back: length(&returned) - distinct(&returned),
            unknown: 0,
        },
    };
    let plain = distinct(&returned) - distinct(&answered) == doubled_forward;
    Injected { replies, totals, plain }
}

fn hear(first: u32, last: u32, replies: &[(u32, u32)]) -> Totals {
    let mut path = Path::new(first);
    let mut sum = Totals::default();
    for &(number, reflector) in replies {
        let change = path.heard(number, reflector, last, None);
        assert!(!change.restarted, "restarted by ({number}, {reflector})");
        sum += change.since;
    }
    assert_eq!(sum, path.totals(), "the changes add up to the totals");
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Without doubling on the way out each loss and each double is found, in its direction, whatever is overtaken.
    #[test]
    fn what_was_injected_is_found_exactly(
        first in prop_oneof![Just(u32::MAX - 40), Just(1 << 16), any::<u32>()],
        count in 2_u32..150,
        out in prop::collection::vec(fate(false, true), 1..60),
        back in prop::collection::vec(fate(true, true), 1..60),
    ) {
        let injected = inject(first, 0, count, &out, &back);
        // By chance the two numbers are equal: then it is stateless for all that anybody can tell.
        prop_assume!(injected.replies.iter().all(|(number, reflector)| number != reflector));
        prop_assert_eq!(hear(first, first.wrapping_add(count - 1), &injected.replies), injected.totals);
    }

    /// With doubling on the way out everything is found exactly where both replies came; else what came back, and the
    /// difference of lost and doubled on the way out, are exact still, and no loss is made up.
    #[test]
    fn doubled_on_the_way_out_is_found_as_far_as_replies_tell(
        count in 2_u32..100,
        out in prop::collection::vec(fate(true, true), 1..60),
        back in prop::collection::vec(fate(true, true), 1..60),
    ) {
        let first = 1 << 16;
        let Injected { replies, totals, plain } = inject(first, 0, count, &out, &back);
        let found = hear(first, first + count - 1, &replies);
        prop_assert_eq!(found.lost.back, totals.lost.back);
        prop_assert_eq!(found.duplicated.back, totals.duplicated.back);
        let net = |totals: Totals| totals.lost.forward - totals.duplicated.forward;
        prop_assert_eq!(net(found), net(totals));
        prop_assert!((0..=totals.lost.forward).contains(&found.lost.forward));
        if plain {
            prop_assert_eq!(found, totals);
        }
    }

    /// The same replies in another order give the same totals.
    #[test]
    fn totals_do_not_depend_on_the_order_of_replies(
        (replies, shuffled) in prop::collection::vec(fate(true, true), 60).prop_flat_map(|fates| {
            let replies = inject(1 << 16, 0, 60, &fates, &fates[30..]).replies;
            (Just(replies.clone()), Just(replies).prop_shuffle())
        })
    ) {
        let last = (1 << 16) + 59;
        prop_assert_eq!(hear(1 << 16, last, &shuffled), hear(1 << 16, last, &replies));
    }

    /// The reflector's number wraps too, as late in a session that it remembers from before.
    #[test]
    fn both_numbers_may_wrap(
        count in 2_u32..100,
        mut out in prop::collection::vec(fate(false, false), 1..60),
        mut back in prop::collection::vec(fate(false, false), 1..60),
    ) {
        // The first comes through: all after it is counted from there.
        (out[0].copies, back[0].copies) = (1, 1);
        let first = u32::MAX - 30;
        let injected = inject(first, u32::MAX - 20, count, &out, &back);
        prop_assert_eq!(hear(first, first.wrapping_add(count - 1), &injected.replies), injected.totals);
    }

    /// Whatever a hostile reflector says, no count of losses goes below zero by it, and nothing panics.
    #[test]
    fn any_numbers_are_borne(replies in prop::collection::vec((0_u32..40, prop_oneof![0_u32..60, any::<u32>()]), 0..100)) {
        let mut path = Path::new(FIRST);
        for (number, reflector) in replies {
            path.heard(FIRST + number, reflector, FIRST + 40, None);
        }
        let Totals { lost, duplicated } = path.totals();
        prop_assert!(lost.forward >= 0 && lost.back >= 0, "{:?}", lost);
        prop_assert!(duplicated.forward >= 0 && duplicated.back >= 0, "{:?}", duplicated);
    }
}
