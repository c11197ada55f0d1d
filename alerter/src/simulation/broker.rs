//! The queue: the batches of a day, each visible from its own moment on, delivered at least once.
//!
//! One that keeps the order behaves as the journals of one machine do: each site's batches in their order, again and again
//! until they are committed, from the place that the consumer has kept. One that does not behaves as SQS does: any that is
//! visible, some of them twice, for a time; then it comes again unless it was deleted.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosswatch_queue::{Backlog, Message, Page, Pending, Place, Queue, QueueError, Receipt};
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;
use tokio::time::Instant;

use super::days::Sent;
use super::fate::{Fate, Step};
use super::time::Time;

/// A boot of a site before all of which none of the next is given: as long as the engine orders boots by their first
/// appearance, a queue that gives them otherwise changes what they mean.
pub(crate) const BOOTS_IN_ORDER: bool = true;

/// Once the day is over each site goes on to say that it lives, this often.
const PULSE: Duration = Duration::from_secs(1);

/// The queue itself, which outlives whoever reads it. Clones are one.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Mutex<Inner>>);

struct Inner {
    time: Time,
    rng: fastrand::Rng,
    keeps_order: bool,
    /// Sorted by when they become visible; where the order is kept that is each site's own order, too.
    coming: VecDeque<Entry>,
    /// By site, in order.
    logs: BTreeMap<Name, Vec<Entry>>,
    pool: Vec<Lying>,
    /// The last batch of each site, and when it became visible.
    last: BTreeMap<Name, (Batch, Timestamp)>,
    /// Whether the day is over.
    over: bool,
    down: bool,
    /// Everything answers late and in small pieces.
    slow: bool,
    handles: u64,
    /// Boots of which something was given.
    begun: HashSet<Name>,
    pages: Vec<Given>,
    opened: usize,
    /// What was given before, by site, boot and number.
    known: HashSet<(Name, Name, u64)>,
    /// When pages got lost that had something of another alerter in them.
    lost: Vec<Timestamp>,
}

/// A page that was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// What the wall clock of the alerter's machine showed.
    pub(crate) wall: Timestamp,
    /// For how long that machine had run.
    pub(crate) awake: Duration,
    /// To which life, counted by openings.
    pub(crate) life: usize,
    /// Whether it said that there was nothing more.
    pub(crate) empty: bool,
    /// Whose batches were in it.
    pub(crate) sites: HashSet<Name>,
    /// Whose batches were in it for the first time.
    pub(crate) fresh: HashSet<Name>,
    /// For how long the youngest and the oldest of them had lain in the queue, by that clock.
    pub(crate) lay: Option<(Duration, Duration)>,
    /// It is what a call came to, and not a look that was followed by another.
    pub(crate) was_answer: bool,
}

#[derive(Clone)]
struct Entry {
    site: Name,
    /// The boot, and the one before it.
    boots: (Name, Option<Name>),
    sent: Timestamp,
    visible: Timestamp,
    payload: Vec<u8>,
    /// It says only that its site lives.
    pulse: bool,
    /// Another alerter has sent it.
    told: bool,
}

/// A message of a queue that keeps no order.
struct Lying {
    entry: Entry,
    visible: Timestamp,
    handle: u64,
}

impl Broker {
    pub(crate) fn new(seed: u64, time: &Time, keeps_order: bool, sends: &[Sent]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut coming = Vec::new();
        let mut last = BTreeMap::new();
        let mut boots: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        for sent in sends {
            let origin = &sent.batch.origin;
            let known = boots.entry(origin.site.clone()).or_default();
            if known.last() != Some(&origin.boot) {
                known.push(origin.boot.clone());
            }
            let before = known.len().checked_sub(2).map(|before| known[before].clone());
            let entry = Entry {
                site: origin.site.clone(),
                boots: (origin.boot.clone(), before),
                sent: sent.at,
                visible: sent.visible,
                payload: sent.payload(),
                pulse: false,
                told: false,
            };
            last.insert(origin.site.clone(), (sent.batch.clone(), sent.visible));
            // One message in a hundred is there twice.
            if !keeps_order && rng.u8(..100) == 0 {
                coming.push(Entry {
                    visible: entry.visible + Duration::from_secs(rng.u64(..60)),
                    ..entry.clone()
                });
            }
            coming.push(entry);
        }
        coming.sort_by_key(|entry| entry.visible);
        Self(Arc::new(Mutex::new(Inner {
            time: time.clone(),
            rng,
            keeps_order,
            coming: coming.into(),
            logs: BTreeMap::new(),
            pool: Vec::new(),
            last,
            over: false,
            down: false,
            slow: false,
            handles: 0,
            begun: HashSet::new(),
            pages: Vec::new(),
            opened: 0,
            known: HashSet::new(),
            lost: Vec::new(),
        })))
    }

    fn with<T>(&self, of: impl FnOnce(&mut Inner) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a life of the alerter opens.
    pub(crate) fn open(&self, places: &[Place], fate: &Fate) -> Handle {
        self.with(|inner| inner.opened += 1);
        let committed = places.iter().map(|place| (place.journal.clone(), place.id)).collect();
        Handle { broker: self.clone(), fate: fate.clone(), committed }
    }

    /// Another alerter sends it something, which is there soon.
    pub(crate) fn tell(&self, body: &str) {
        self.with(|inner| {
            let now = inner.time.now();
            let payload = crosswatch_sqs::body::decode(body).expect("an alerter writes what can be read");
            let batch = wire::decode_batch(&payload, &mut wire::Names::default());
            let origin = batch.expect("an alerter writes what can be read").batch.origin;
            let entry = Entry {
                site: origin.site,
                boots: (origin.boot, None),
                sent: now,
                visible: now + Duration::from_millis(inner.rng.u64(5..500)),
                payload,
                pulse: false,
                told: true,
            };
            inner.handles += 1;
            inner.pool.push(Lying { visible: entry.visible, entry, handle: inner.handles });
        });
    }

    /// When pages got lost that had something of another alerter in them.
    pub(crate) fn lost(&self) -> Vec<Timestamp> {
        self.with(|inner| inner.lost.clone())
    }

    pub(crate) fn is_down(&self, down: bool) {
        self.with(|inner| inner.down = down);
    }

    pub(crate) fn is_slow(&self, slow: bool) {
        self.with(|inner| inner.slow = slow);
    }

    /// From now on the sites only say that they live.
    pub(crate) fn is_over(&self) {
        self.with(|inner| inner.over = true);
    }

    /// When the last of the day becomes visible.
    pub(crate) fn all_visible(&self) -> Option<Timestamp> {
        self.with(|inner| inner.coming.back().map(|entry| entry.visible))
    }

    /// Whether all of the day was committed, by somebody who has these places.
    pub(crate) fn is_read(&self, places: &BTreeMap<String, i64>) -> bool {
        self.with(|inner| {
            let lying = inner.pool.iter().map(|lying| &lying.entry).chain(&inner.coming);
            let logged = inner.logs.iter().flat_map(|(site, log)| {
                log.iter().skip(places.get(&**site).map_or(0, |&id| usize::try_from(id).unwrap()))
            });
            lying.chain(logged).all(|entry| entry.pulse)
        })
    }

    /// What it gave, in order.
    pub(crate) fn pages(&self) -> Vec<Given> {
        self.with(|inner| inner.pages.clone())
    }
}

impl Inner {
    fn arrive(&mut self) {
        let now = self.time.now();
        if self.over {
            for (batch, at) in self.last.values_mut() {
                if now.since(*at) < PULSE || !self.coming.is_empty() {
                    continue;
                }
                // Its promise stays: the oldest probe is not decided yet.
                batch.number += 1;
                batch.observations.clear();
                *at = now;
                let entry = Entry {
                    site: batch.origin.site.clone(),
                    boots: (batch.origin.boot.clone(), None),
                    sent: now,
                    visible: now,
                    payload: wire::encode_batch(batch).into_bytes(),
                    pulse: true,
                    told: false,
                };
                self.coming.push_back(entry);
            }
        }
        while self.coming.front().is_some_and(|entry| entry.visible <= now) {
            let Some(entry) = self.coming.pop_front() else { return };
            if self.keeps_order {
                self.logs.entry(entry.site.clone()).or_default().push(entry);
            } else {
                self.handles += 1;
                self.pool.push(Lying { visible: entry.visible, entry, handle: self.handles });
            }
        }
    }

    fn next_visible(&self) -> Timestamp {
        let coming = self.coming.front().map(|entry| entry.visible);
        let lying = self.pool.iter().map(|lying| lying.visible);
        let pulse = self.last.values().filter(|_| self.over).map(|(_, at)| *at + PULSE);
        lying.chain(coming).chain(pulse).min().unwrap_or(Timestamp::MAX)
    }

    fn take(&mut self, limit: usize, committed: &BTreeMap<Name, i64>) -> Page {
        self.arrive();
        let limit = match self.rng.u8(..10) {
            0 => self.rng.usize(1..=limit),
            _ if self.slow => self.rng.usize(1..=limit.min(3)),
            _ => limit,
        };
        let mut page = if self.keeps_order { self.read(limit, committed) } else { self.draw(limit) };
        if self.slow && self.rng.bool() {
            page.empty = false;
        }
        let mut given = Given {
            wall: self.time.wall(),
            awake: self.time.awake(),
            life: self.opened,
            empty: page.empty,
            sites: HashSet::new(),
            fresh: HashSet::new(),
            lay: None,
            was_answer: false,
        };
        for message in &page.messages {
            let lay = given.wall.since(message.sent);
            let (youngest, oldest) = given.lay.unwrap_or((lay, lay));
            given.lay = Some((youngest.min(lay), oldest.max(lay)));
            if let Ok(decoded) = wire::decode_batch(&message.payload, &mut wire::Names::default()) {
                let Batch { origin, number, .. } = decoded.batch;
                given.sites.insert(origin.site.clone());
                if self.known.insert((origin.site.clone(), origin.boot, number)) {
                    given.fresh.insert(origin.site);
                }
            }
        }
        self.pages.push(given);
        page
    }

    fn read(&mut self, limit: usize, committed: &BTreeMap<Name, i64>) -> Page {
        let mut page = Page { empty: true, ..Page::default() };
        let mut sites: Vec<Name> = self.logs.keys().cloned().collect();
        self.rng.shuffle(&mut sites);
        if self.rng.u16(..500) == 0 {
            page.failing = sites.pop().map(|site| format!("the journal of '{site}' cannot be read"));
            page.empty = false;
        }
        for site in sites {
            let log = &self.logs[&site];
            let from = committed.get(&site).map_or(0, |&id| usize::try_from(id).unwrap());
            let room = limit - page.messages.len();
            page.empty &= log.len() - from <= room;
            for (place, entry) in log.iter().enumerate().skip(from).take(room) {
                let id = i64::try_from(place).unwrap() + 1;
                let receipt = Receipt::Place(Place { journal: site.clone(), identity: site.clone(), id });
                page.messages.push(entry.message(receipt));
            }
        }
        page
    }

    fn draw(&mut self, limit: usize) -> Page {
        let now = self.time.now();
        let mut page = Page::default();
        let mut visible: Vec<usize> = Vec::new();
        for (index, lying) in self.pool.iter().enumerate() {
            let before = lying.entry.boots.1.as_ref().filter(|_| BOOTS_IN_ORDER);
            if lying.visible <= now && before.is_none_or(|before| self.begun.contains(before)) {
                visible.push(index);
            }
        }
        self.rng.shuffle(&mut visible);
        page.empty = visible.len() <= limit;
        visible.truncate(limit);
        for index in visible {
            let lying = &mut self.pool[index];
            self.handles += 1;
            lying.handle = self.handles;
            lying.visible = now + Duration::from_secs(self.rng.u64(5..40));
            let receipt = Receipt::Handle { queue: "alerter".into(), handle: lying.handle.to_string() };
            page.messages.push(lying.entry.message(receipt));
        }
        // A page may get lost on its way.
        if self.rng.u8(..200) == 0 {
            let handles = page.messages.iter().filter_map(|message| self.find(&message.receipt));
            if handles.into_iter().any(|index| self.pool[index].entry.told) {
                self.lost.push(now);
            }
            page.messages.clear();
            page.empty = false;
        }
        page
    }

    fn delete(&mut self, receipt: &Receipt) {
        if let Some(index) = self.find(receipt) {
            let lying = self.pool.swap_remove(index);
            self.begun.insert(lying.entry.boots.0);
        }
    }

    fn find(&self, receipt: &Receipt) -> Option<usize> {
        let Receipt::Handle { handle, .. } = receipt else { return None };
        let handle: u64 = handle.parse().ok()?;
        self.pool.iter().position(|lying| lying.handle == handle)
    }
}

impl Entry {
    fn message(&self, receipt: Receipt) -> Message {
        Message { receipt, sent: self.sent, payload: self.payload.clone(), unreadable: None }
    }
}

/// What one life has of the queue.
pub(crate) struct Handle {
    broker: Broker,
    fate: Fate,
    committed: BTreeMap<Name, i64>,
}

impl Handle {
    fn unavailable(&self) -> QueueError {
        QueueError::Unavailable { queue: "alerter".to_owned(), source: "out of reach".into() }
    }
}

impl Queue for Handle {
    fn receive(&mut self, limit: usize, wait: Duration) -> Pending<'_, Page> {
        Box::pin(async move {
            self.fate.pass(Step::Queue).await;
            let (slow, down, dice) =
                self.broker.with(|inner| (inner.slow, inner.down, inner.rng.u64(..1_000)));
            let until = Instant::now() + wait;
            let late = match dice {
                0 => 15_000,
                1..10 => 10 * dice,
                _ if slow => 5 * dice,
                _ => 0,
            };
            if late > 0 {
                tokio::time::sleep(Duration::from_millis(late)).await;
                self.fate.pass(Step::Queue).await;
            }
            if down || dice == 999 {
                tokio::time::sleep(wait * u32::try_from(dice % 5).unwrap()).await;
                return Err(self.unavailable());
            }
            loop {
                let page = self.broker.with(|inner| inner.take(limit, &self.committed));
                if !page.messages.is_empty() || Instant::now() >= until {
                    self.broker.with(|inner| {
                        inner.pages.last_mut().into_iter().for_each(|page| page.was_answer = true);
                    });
                    self.fate.pass(Step::Queue).await;
                    return Ok(page);
                }
                let next = self.broker.with(|inner| inner.next_visible().since(inner.time.now()));
                let next = Instant::now() + next.max(Duration::from_millis(1));
                tokio::time::sleep_until(next.min(until)).await;
            }
        })
    }

    fn commit<'a>(&'a mut self, receipts: &'a [Receipt]) -> Pending<'a, ()> {
        Box::pin(async move {
            self.fate.pass(Step::Queue).await;
            let (dice, down) = self.broker.with(|inner| (inner.rng.u8(..100), inner.down));
            if dice == 0 || down {
                return Err(self.unavailable());
            }
            for receipt in receipts {
                match receipt {
                    Receipt::Place(place) => {
                        let committed = self.committed.entry(place.journal.clone()).or_default();
                        *committed = place.id.max(*committed);
                    }
                    handle => self.broker.with(|inner| inner.delete(handle)),
                }
            }
            tokio::time::sleep(Duration::from_millis(u64::from(dice % 4))).await;
            self.fate.pass(Step::Queue).await;
            if dice == 1 { Err(self.unavailable()) } else { Ok(()) }
        })
    }

    fn extend<'a>(&'a mut self, receipts: &'a [Receipt], by: Duration) -> Pending<'a, ()> {
        Box::pin(async move {
            self.fate.pass(Step::Queue).await;
            self.broker.with(|inner| {
                let now = inner.time.now();
                for receipt in receipts {
                    if let Some(index) = inner.find(receipt) {
                        inner.pool[index].visible = now + by;
                    }
                }
            });
            Ok(())
        })
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        Box::pin(async { Ok(Backlog::default()) })
    }
}
