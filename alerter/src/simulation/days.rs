//! Incident days: what goes wrong when, and what the sites' collectors see and send of it. Nothing here knows the alerter.
//!
//! A day has a few windows in which things go wrong and the collectors look closely; between them they look now and then,
//! and the simulation jumps.

use std::time::Duration;

use crosswatch_judge::SubjectState;
use crosswatch_judge::rule::Metric;
use crosswatch_shared::config::topology::VpnSelect;
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Origin, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;

use super::hush::Hush;
use super::world::{PROBE, ROUTINE, SOURCE, World};

/// 2026-11-22T00:00:00Z.
const FIRST: i64 = 1_795_305_600;

/// How close the collectors look where something goes wrong.
const CLOSE: Duration = Duration::from_secs(2);

/// How close elsewhere meanwhile.
const NEAR: Duration = Duration::from_secs(20);

/// At the end all is looked at closely for so long, so that what every rule says is what it sees.
const TAIL: Duration = Duration::from_secs(120);

/// How long a probe takes to be decided.
const DECIDED: Duration = Duration::from_secs(1);

/// A day.
pub(crate) struct Day {
    pub(crate) world: World,
    pub(crate) begin: Timestamp,
    /// When things go wrong, each from and to; the last is the tail, in which nothing new does.
    pub(crate) windows: Vec<(Timestamp, Timestamp)>,
    /// What the collectors send, each site's in its order.
    pub(crate) sends: Vec<Sent>,
    /// The link that is down at the end.
    down: Option<Name>,
    /// What is not paged, and when.
    pub(crate) hush: Hush,
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) batch: Batch,
    pub(crate) at: Timestamp,
    /// When the queue shows it.
    pub(crate) visible: Timestamp,
    /// It was damaged on its way.
    pub(crate) damaged: bool,
}

impl Sent {
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut payload = wire::encode_batch(&self.batch).into_bytes();
        if self.damaged {
            payload.truncate(payload.len() / 2);
        }
        payload
    }
}

/// Something that goes wrong, for a time.
#[derive(Clone, Debug)]
struct Fault {
    from: Timestamp,
    to: Timestamp,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Of a link and, unless it is both, one direction; the chance of a loss in percent.
    Lossy(usize, Option<usize>, u8),
    /// Of a link: the round-trip time in milliseconds.
    Slow(usize, f64),
    /// Of a link: lost and back every so many seconds.
    Flaps(usize, i64),
    /// Of a link: how many tunnels are up; none told at all for `None`.
    Tunnels(usize, Option<usize>),
    /// A site's collections fail.
    Blind(usize),
    /// A site's machine is short of what a probe takes.
    Short(usize),
    /// A site's collector is dead.
    Dead(usize),
    /// A site's batches reach the queue only afterwards.
    Cut(usize),
}

/// One life of a collector.
struct Life {
    boot: Name,
    from: Timestamp,
    to: Timestamp,
    /// By how many microseconds its clock is ahead.
    ahead: i64,
}

impl Day {
    pub(crate) fn draw(rng: &mut fastrand::Rng) -> Self {
        let world = World::draw(rng);
        let begin = Timestamp::from_secs(FIRST) + millis(rng.u64(..86_400_000));
        let mut windows = Vec::new();
        let mut at = begin + secs(300);
        for _ in 0..rng.usize(2..7) {
            at = at + secs(rng.u64(90..20_000));
            let to = at + secs(rng.u64(40..140));
            windows.push((at, to));
            at = to;
        }
        let tail = at + secs(rng.u64(90..7_200));
        let mut faults: Vec<Fault> =
            windows.iter().flat_map(|&window| faults(rng, &world, window, tail)).collect();
        windows.push((tail, tail + TAIL));
        let down = if rng.u8(..3) == 0 { lasting(rng, &world, &windows, &mut faults) } else { None };
        let mut sends = Vec::new();
        for site in 0..world.topology.sites.len() {
            let lives = lives(rng, site, begin, &faults, tail + TAIL);
            for (number, life) in lives.iter().enumerate() {
                let looking = Looking { world: &world, windows: &windows, faults: &faults, site, life };
                let seen = looking.look(rng);
                sends.extend(looking.send(rng, number == 0, seen));
            }
        }
        if world.keeps_order {
            keep_order(&mut sends);
        }
        let hush = Hush::draw(rng, &world, &windows);
        Self { world, begin, windows, sends, down, hush }
    }

    /// Whether what is seen at the end decides what a rule says of a subject then. A link that is down has no round-trip times:
    /// what was said of them before stays so, and that depends on the order of arrival.
    pub(crate) fn decides(&self, of: &SubjectState) -> bool {
        let metric =
            self.world.config.rules.iter().find(|rule| rule.rule.name == of.rule).map(|of| of.rule.metric);
        let timed = matches!(metric, Some(Metric::LatencyMs | Metric::JitterMs));
        !timed || of.subject.split('/').next() != self.down.as_deref()
    }

    /// When the tail ends.
    pub(crate) fn end(&self) -> Timestamp {
        self.windows.last().map_or(self.begin, |window| window.1)
    }
}

fn faults(
    rng: &mut fastrand::Rng,
    world: &World,
    (from, to): (Timestamp, Timestamp),
    tail: Timestamp,
) -> Vec<Fault> {
    let (links, sites) = (world.topology.links.len(), world.topology.sites.len());
    let storm = rng.u8(..8) == 0;
    let count = if storm { links } else { rng.usize(1..5) };
    let fault = |number: usize| {
        let (link, site) = (rng.usize(..links), rng.usize(..sites));
        let kind = match rng.u8(..16) {
            _ if storm => Kind::Lossy(number, None, 100),
            0..3 => Kind::Lossy(link, None, 100),
            3 | 4 => Kind::Lossy(link, Some(rng.usize(..2)), 100),
            5 => Kind::Lossy(link, None, rng.u8(10..90)),
            6 | 7 => Kind::Slow(link, 150.0 + f64::from(rng.u8(..120))),
            8 => Kind::Flaps(link, rng.i64(2..15)),
            9..12 => Kind::Tunnels(link, rng.choice([Some(0), Some(1), None]).flatten()),
            12 => Kind::Blind(site),
            13 => Kind::Short(site),
            14 => Kind::Dead(site),
            _ => Kind::Cut(site),
        };
        let begin = from + millis(rng.u64(..20_000));
        let lasts = match rng.u8(..12) {
            // Into the quiet time, where it is looked at now and then.
            0 => secs(rng.u64(300..3_000)),
            _ => millis(rng.u64(3_000..80_000)),
        };
        Fault { from: begin, to: (begin + lasts).min(tail), kind }
    };
    let window = to.since(from);
    (0..count).map(fault).filter(|fault| fault.from.since(from) < window).collect()
}

/// One link is still down, or slow, at the end; gives the one that is down. What it sees before is good, so that nothing of the past speaks for it.
fn lasting(
    rng: &mut fastrand::Rng,
    world: &World,
    windows: &[(Timestamp, Timestamp)],
    faults: &mut Vec<Fault>,
) -> Option<Name> {
    let link = rng.usize(..world.topology.links.len());
    let sites = &world.topology.sites;
    faults.retain(|fault| match fault.kind {
        Kind::Lossy(of, ..) | Kind::Slow(of, _) | Kind::Flaps(of, _) | Kind::Tunnels(of, _) => of != link,
        Kind::Dead(site) | Kind::Short(site) => {
            !world.topology.links[link].between.contains(&sites[site].name)
        }
        Kind::Blind(_) | Kind::Cut(_) => true,
    });
    let &(from, to) = windows.last()?;
    let down = rng.bool();
    let kind = if down { Kind::Lossy(link, None, 100) } else { Kind::Slow(link, 400.0) };
    faults.push(Fault { from, to, kind });
    down.then(|| world.topology.links[link].name.clone())
}

fn lives(
    rng: &mut fastrand::Rng,
    site: usize,
    begin: Timestamp,
    faults: &[Fault],
    end: Timestamp,
) -> Vec<Life> {
    let mut dead: Vec<(Timestamp, Timestamp)> = faults
        .iter()
        .filter(|fault| fault.kind == Kind::Dead(site))
        .map(|fault| (fault.from, fault.to))
        .collect();
    dead.sort();
    let mut lives = Vec::new();
    let mut from = begin;
    for (dies, back) in dead.into_iter().chain([(end, end)]) {
        if dies <= from {
            from = from.max(back);
            continue;
        }
        let millis = u64::try_from(from.as_micros() / 1_000).unwrap_or(0);
        let random: [u8; 10] = std::array::from_fn(|_| rng.u8(..));
        let boot = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let ahead = match rng.u8(..6) {
            0 => rng.i64(-30_000_000..30_000_000),
            _ => rng.i64(-500_000..500_000),
        };
        lives.push(Life { boot: boot.to_string().into(), from, to: dies, ahead });
        from = back;
    }
    lives
}

/// What one life of a site's collector sees.
struct Looking<'a> {
    world: &'a World,
    windows: &'a [(Timestamp, Timestamp)],
    faults: &'a [Fault],
    site: usize,
    life: &'a Life,
}

impl Looking<'_> {
    fn site(&self) -> &Name {
        &self.world.topology.sites[self.site].name
    }

    /// Everything it sees, by when.
    fn look(&self, rng: &mut fastrand::Rng) -> Vec<(Timestamp, Body)> {
        let mut seen = Vec::new();
        for (number, link) in self.world.topology.links.iter().enumerate() {
            for (way, _) in link.probes.iter().enumerate().filter(|(_, probe)| probe.from == *self.site()) {
                for at in self.times(rng, Some(number)) {
                    let outcome = self.outcome(rng, number, way, at);
                    let body =
                        Body::Probe { link: link.name.clone(), probe: PROBE.into(), outcome, detail: None };
                    seen.push((at, body));
                }
            }
            for vpn in link.vpns.iter().filter(|vpn| vpn.site == *self.site()) {
                let id = match &vpn.select {
                    VpnSelect::Id(id) => id.clone(),
                    VpnSelect::Tag(..) => format!("vpn-t{number}").into(),
                };
                for at in self.times(rng, Some(number)) {
                    let tunnels = self.tunnels(number, at);
                    seen.push((at, Body::Tunnels { link: link.name.clone(), vpn: id.clone(), tunnels }));
                }
            }
        }
        for at in self.times(rng, None) {
            let ok = !self.at(at).any(|kind| *kind == Kind::Blind(self.site));
            let error = (!ok).then(|| "RequestLimitExceeded".to_owned());
            seen.push((at, Body::Collection { source: SOURCE.into(), ok, error, took_ms: 100.0 }));
        }
        seen.sort_by_key(|(at, _)| *at);
        seen
    }

    /// When it looks at a link, or at itself.
    fn times(&self, rng: &mut fastrand::Rng, link: Option<usize>) -> Vec<Timestamp> {
        let mut times = Vec::new();
        let mut at = self.life.from + millis(rng.u64(..2_000));
        while at < self.life.to {
            times.push(at);
            let window = self.windows.iter().position(|&(from, to)| at < to && from <= at);
            let close = window.is_some_and(|window| {
                window + 1 == self.windows.len()
                    || self.faults.iter().any(|fault| {
                        let (from, to) = self.windows[window];
                        fault.from < to && from < fault.to && touches(&fault.kind, self.site, link)
                    })
            });
            let step = match (close, window) {
                (true, _) => CLOSE,
                (false, Some(_)) => NEAR,
                (false, None) => ROUTINE,
            };
            let next = at + step;
            // It looks again when a window begins.
            let begins = self.windows.iter().map(|window| window.0).find(|&from| at < from && from < next);
            at = begins.unwrap_or(next) + Duration::from_micros(rng.u64(..50_000));
        }
        times
    }

    fn at(&self, at: Timestamp) -> impl Iterator<Item = &Kind> {
        self.faults.iter().filter(move |fault| fault.from <= at && at < fault.to).map(|fault| &fault.kind)
    }

    fn outcome(&self, rng: &mut fastrand::Rng, link: usize, way: usize, at: Timestamp) -> Outcome {
        let mut rtt_ms = 80.0 + f64::from(rng.u8(..8));
        let mut lost = None;
        for kind in self.at(at) {
            match *kind {
                Kind::Lossy(of, which, percent)
                    if of == link && which.is_none_or(|which| which == way) && rng.u8(..100) < percent =>
                {
                    lost = Some(if rng.u8(..5) == 0 { Lost::Unreachable } else { Lost::Timeout });
                }
                Kind::Flaps(of, every) if of == link && at.as_micros() / 1_000_000 / every % 2 == 0 => {
                    lost = Some(Lost::Timeout);
                }
                Kind::Slow(of, slow) if of == link => rtt_ms = slow + f64::from(rng.u8(..40)),
                Kind::Short(site) if site == self.site => lost = Some(Lost::Local),
                _ => {}
            }
        }
        lost.map_or(Outcome::Reply { rtt_ms }, Outcome::Lost)
    }

    fn tunnels(&self, link: usize, at: Timestamp) -> Vec<Tunnel> {
        let mut up = Some(2);
        for kind in self.at(at) {
            match *kind {
                Kind::Tunnels(of, told) if of == link => up = told,
                _ => {}
            }
        }
        let tunnel = |number: usize, up| Tunnel {
            outside_ip: format!("192.0.2.{number}"),
            up,
            accepted_routes: 0,
            since: None,
            message: String::new(),
        };
        up.map_or_else(Vec::new, |up| (0..2).map(|number| tunnel(number, number < up)).collect())
    }

    /// Sends it: a batch each second or so while it looks closely, else one for each time that it looks.
    fn send(&self, rng: &mut fastrand::Rng, first: bool, seen: Vec<(Timestamp, Body)>) -> Vec<Sent> {
        let beat = self.world.hold.min(secs(5));
        let mut sends = Vec::new();
        let mut seen = seen.into_iter().peekable();
        // The first boot may be joined in its middle.
        let mut number = if first { rng.u64(..3) } else { 0 };
        let mut seq = 0;
        let mut at = self.life.from;
        while at < self.life.to {
            let news = self.at(at).next().is_some();
            let inside =
                |margin| self.windows.iter().any(|&(from, to)| at < to + margin && from < at + margin);
            let step = match (inside(secs(10)), news) {
                (true, true) => millis(1_000),
                (true, false) => beat,
                (false, _) => {
                    let next = self.windows.iter().map(|window| window.0 - secs(9)).find(|&from| at < from);
                    ROUTINE.min(next.map_or(ROUTINE, |next| next.since(at)).max(millis(100)))
                }
            };
            at = (at + step).min(self.life.to);
            let through = at - DECIDED;
            let mut observations = Vec::new();
            while let Some((when, body)) = seen.next_if(|(when, _)| *when < through) {
                observations.push(Observation { at: self.by_its_clock(when), seq, body });
                seq += 1;
            }
            let batch = Batch {
                origin: Origin {
                    site: self.site().clone(),
                    collector: format!("collector-{}", self.site).into(),
                    boot: self.life.boot.clone(),
                },
                number,
                through: self.by_its_clock(through),
                observations,
            };
            number += 1;
            // What is lost in a journal is lost with its number, and no gap.
            let damaged = !self.world.keeps_order && rng.u16(..1_000) == 0;
            sends.push(Sent { batch, at, visible: self.visible(rng, at), damaged });
        }
        sends
    }

    fn by_its_clock(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.as_micros() + self.life.ahead)
    }

    fn visible(&self, rng: &mut fastrand::Rng, at: Timestamp) -> Timestamp {
        let cut = self.faults.iter().filter(|fault| fault.kind == Kind::Cut(self.site));
        let until = cut.filter(|fault| fault.from <= at && at < fault.to).map(|fault| fault.to).max();
        let delay = match rng.u16(..1_000) {
            0 if !self.world.keeps_order => millis(rng.u64(..120_000)),
            1..20 if !self.world.keeps_order => millis(rng.u64(..20_000)),
            20..50 => millis(rng.u64(..2_000)),
            _ => millis(rng.u64(5..100)),
        };
        until.unwrap_or(at).max(at) + delay
    }
}

/// Whether a fault is one of a link, or of what a site sees itself.
fn touches(kind: &Kind, its: usize, link: Option<usize>) -> bool {
    match *kind {
        Kind::Lossy(of, ..) | Kind::Slow(of, _) | Kind::Flaps(of, _) | Kind::Tunnels(of, _) => {
            Some(of) == link
        }
        Kind::Short(site) | Kind::Dead(site) | Kind::Cut(site) => site == its,
        Kind::Blind(site) => site == its && link.is_none(),
    }
}

fn keep_order(sends: &mut [Sent]) {
    let mut newest = std::collections::BTreeMap::new();
    for sent in sends {
        let newest = newest.entry(sent.batch.origin.site.clone()).or_insert(sent.visible);
        *newest = sent.visible.max(*newest);
        sent.visible = *newest;
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
