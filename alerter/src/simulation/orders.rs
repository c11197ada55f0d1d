//! Orders of arrival: the batches of one day, given to the alerter's memory in many orders.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Instant;

use crosswatch_judge::Transition;
use crosswatch_queue::Delivery;
use crosswatch_shared::observation::Name;
use rusqlite::Connection;

use super::broker::BOOTS_IN_ORDER;
use super::days::{Day, Sent};
use super::oracle::{self, Told};
use crate::memory::Memory;

/// The days, and the orders of each.
const DAYS: std::ops::Range<u64> = 1_000..1_006;
const ORDERS: u64 = 3;

/// A memory that is now and then written and read again, as over a restart.
struct Life<'a> {
    day: &'a Day,
    file: Connection,
    memory: Memory,
    told: Vec<Transition>,
}

impl<'a> Life<'a> {
    fn new(day: &'a Day) -> Self {
        let file = Connection::open_in_memory().unwrap();
        crate::testing::tables(&file);
        let memory = load(&file, day);
        Self { day, file, memory, told: Vec::new() }
    }

    fn receive(&mut self, page: Vec<Sent>, restarts: bool) {
        let deliveries: Vec<Delivery> =
            page.into_iter().map(|sent| Delivery { batch: sent.batch, sent: sent.at }).collect();
        // It is never read to its end, so that nobody is silent and no gap is skipped.
        let change = self.memory.step(&deliveries, false, Instant::now(), self.day.begin);
        change.write(&self.file, self.day.begin).unwrap();
        self.told.extend(change.transitions);
        if restarts {
            self.memory = load(&self.file, self.day);
        }
    }
}

fn load(file: &Connection, day: &Day) -> Memory {
    let rules = day.world.config.rules.iter().map(|of| of.rule.clone()).collect();
    Memory::load(file, rules, &day.world.topology).unwrap()
}

#[test]
fn every_order_of_arrival_that_keeps_each_sites_own_gives_the_same_transitions() {
    for seed in DAYS {
        let day = day(seed);
        let expected = oracle::judge(&day).told;
        for order in 0..ORDERS {
            let mut rng = fastrand::Rng::with_seed(order);
            let mut sites: BTreeMap<_, VecDeque<&Sent>> = BTreeMap::new();
            for sent in &day.sends {
                sites.entry(&sent.batch.origin.site).or_default().push_back(sent);
            }
            let mut life = Life::new(&day);
            while let Some(site) = rng.choice(sites.keys().copied().collect::<Vec<_>>()) {
                let most = 1 << rng.u32(0..8);
                let count = rng.usize(1..=most);
                let mut page = Vec::new();
                for _ in 0..count {
                    page.extend(sites.get_mut(site).and_then(VecDeque::pop_front).cloned());
                }
                sites.retain(|_, left| !left.is_empty());
                life.receive(page, rng.u8(..20) == 0);
            }
            let found = oracle::by_subject(life.told);
            assert!(found == expected, "day {seed}, order {order}: {found:#?}, and not {expected:#?}");
        }
    }
}

#[test]
fn every_order_of_arrival_at_all_gives_the_same_final_state() {
    for seed in DAYS {
        let day = day(seed);
        let expected = oracle::judge(&day).subjects;
        let before = boots_before(&day);
        for order in 0..ORDERS {
            let mut rng = fastrand::Rng::with_seed(order);
            let mut left = shuffled(&mut rng, &day, order == 0);
            let (mut begun, mut life) = (HashSet::new(), Life::new(&day));
            while !left.is_empty() {
                let mut page = Vec::new();
                let mut later = Vec::new();
                for sent in left.drain(..left.len().min(rng.usize(1..1_000))) {
                    let boot = &sent.batch.origin.boot;
                    if BOOTS_IN_ORDER && before.get(boot).is_some_and(|before| !begun.contains(before)) {
                        later.push(sent);
                        continue;
                    }
                    begun.insert(boot.clone());
                    page.push(sent.clone());
                }
                left.extend(later);
                life.receive(page, rng.u8(..20) == 0);
            }
            let told = oracle::by_subject(life.told);
            for subject in expected.iter().filter(|subject| day.decides(subject)) {
                let of = (subject.rule.to_string(), subject.subject.to_string());
                let last = told.get(&of).and_then(|told| told.last());
                let state = last.map_or("ok", |Told { state, .. }| state.as_str());
                assert_eq!(
                    state,
                    subject.state.word(),
                    "day {seed}, order {order}: {of:?} told {:#?}",
                    told.get(&of)
                );
            }
        }
    }
}

/// A day of which nothing is damaged.
fn day(seed: u64) -> Day {
    let mut day = Day::draw(&mut fastrand::Rng::with_seed(seed));
    day.sends.iter_mut().for_each(|sent| sent.damaged = false);
    day
}

/// All of a day at random, or each batch as late as it likes up to an hour. The first of each site comes first: event time
/// joins a site wherever it first hears of it, and what was before that is late to rules with a period.
fn shuffled<'a>(rng: &mut fastrand::Rng, day: &'a Day, wholly: bool) -> VecDeque<&'a Sent> {
    let mut joined = HashSet::new();
    let (mut first, mut rest) = (VecDeque::new(), Vec::new());
    for sent in &day.sends {
        if joined.insert(&sent.batch.origin.site) {
            first.push_back(sent);
        } else {
            rest.push((sent.at.as_micros() + rng.i64(0..3_600_000_000), sent));
        }
    }
    if wholly {
        rng.shuffle(&mut rest);
    } else {
        rest.sort_by_key(|(at, _)| *at);
    }
    first.extend(rest.into_iter().map(|(_, sent)| sent));
    first
}

/// The boot of the same site before each.
fn boots_before(day: &Day) -> BTreeMap<Name, Name> {
    let mut before = BTreeMap::new();
    for pair in day.sends.windows(2) {
        let [one, next] = [&pair[0].batch.origin, &pair[1].batch.origin];
        if one.site == next.site && one.boot != next.boot {
            before.insert(next.boot.clone(), one.boot.clone());
        }
    }
    before
}
