//! Verdicts against the truth: a link of two sites breaks in a way that is known here, and is seen as collectors see it, by clocks that are
//! apart, in batches that come late and in any order between the sites. What must hold of each story is in `check`.
//!
//! A seed decides everything. `CROSSWATCH_SIM_SEED` asks for one, `CROSSWATCH_SIM_STORIES` for so many from it on.

mod link;

use crosswatch_judge::engine::Engine;
use crosswatch_judge::incident::{Incidents, What as Became};
use crosswatch_judge::verdict::Kind;
use crosswatch_shared::observation::Origin;
use link::{Fault, Link, SECOND, What, clock};

/// So many stories are told in the ordinary run, from the first seed on.
const STORIES: u64 = 100;

/// A verdict that was told.
#[derive(Debug)]
struct Told {
    at: i64,
    /// When what was seen then was sent, if it opened or closed the incident.
    of: i64,
    became: &'static str,
    kind: Kind,
    words: String,
}

/// What goes wrong, and what came of it.
struct Story {
    link: Link,
    faults: Vec<Fault>,
    until: i64,
    told: Vec<Told>,
    /// The longest that anything took from its sending to the judge.
    lag: i64,
}

impl Story {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let link = Link::draw(rng);
        let calm = 4 * link.slowest() + 20 * SECOND;
        let span = 8 * link.slowest() + 90 * SECOND;
        let mut faults = Vec::new();
        let mut until = calm;
        let mut add = |rng: &mut fastrand::Rng, what: What, from: i64, span: i64| {
            let fault = Fault::new(rng, what, from, from + span);
            faults.push(fault);
            from + span
        };
        match rng.u8(0..6) {
            // Only blips.
            0 => {}
            // One thing.
            1 | 2 => {
                let what = What::draw(rng, &link);
                until = add(rng, what, until, span);
            }
            // What stays broken in part while all is lost, once or twice.
            3 => {
                if let Some(part) = What::part(rng, &link) {
                    let from = until;
                    until += span;
                    for _ in 0..rng.u8(1..=2) {
                        let what = What::total(rng, &link);
                        until = add(rng, what, until, span) + span + link.clears();
                    }
                    add(rng, part, from, until - from);
                }
            }
            // One right after the other.
            _ => {
                let first = What::draw(rng, &link);
                until = add(rng, first, until, span) + rng.i64(0..20 * SECOND);
                let second = What::draw(rng, &link);
                until = add(rng, second, until, span);
            }
        }
        let end = until;
        until += link.clears() + span;
        if link.blips {
            let mut at = calm + rng.i64(0..4 * link.slowest());
            while at < end.max(calm + 10 * link.slowest()) {
                let probes: Vec<bool> = link.probes.iter().map(|_| rng.u8(0..3) > 0).collect();
                let packets = rng.i64(1..=2);
                // What is lost right beside what is lost already is no blip: the two are one row.
                let clear = |fault: &Fault| {
                    let beside = 4 * link.slowest();
                    !fault.what.loses() || at + beside < fault.from || at > fault.to + beside
                };
                if faults.iter().all(clear) {
                    let what = What::Blip { packets, probes };
                    faults.push(Fault::new(rng, what, at, at + packets * link.slowest()));
                }
                at += rng.i64(5..12) * link.slowest();
            }
        }
        Self { link, faults, until, told: Vec::new(), lag: 0 }
    }

    /// Lives through it: all that is seen comes to the judge, batch by batch.
    fn live(&mut self, rng: &mut fastrand::Rng) {
        let mut engine = Engine::new(self.link.rules.clone(), &self.link.topology());
        let mut incidents = Incidents::default();
        let mut batches: Vec<_> =
            (0..2).flat_map(|site| self.link.batches(site, &self.faults, self.until, rng)).collect();
        batches.sort_by_key(|batch| batch.arrives);
        for batch in batches {
            let site = link::SITES[batch.site];
            let origin = Origin { site: site.into(), collector: "c".into(), boot: "1".into() };
            let mut out = Vec::new();
            for (sent, observation) in &batch.observations {
                self.lag = self.lag.max(batch.arrives - sent);
                engine.observe(&origin, observation, &mut out);
            }
            engine.advance(site, &origin.boot, batch.through, &mut out);
            for event in engine.tell(&out, &mut incidents) {
                let became = match &event.what {
                    Became::Opened(_) => "opened",
                    Became::Joined(_) => "joined",
                    Became::Left(_) => "left",
                    Became::Closed(_) => "closed",
                    Became::Refined => "refined",
                    Became::Worse => "worse",
                };
                let of = match &event.what {
                    Became::Opened(symptom) => self.link.in_truth(&symptom.subject, symptom.at),
                    Became::Closed(ended) => self.link.in_truth(&ended.symptom.subject, ended.at),
                    _ => batch.arrives,
                };
                let verdict = event.incident.verdict;
                self.told.push(Told {
                    at: batch.arrives,
                    of,
                    became,
                    kind: verdict.kind,
                    words: verdict.words,
                });
            }
        }
        assert_eq!(incidents.open().count(), 0, "all is over: {:#?}", incidents.open().collect::<Vec<_>>());
    }

    /// The verdict after what came until then; `None` while no incident is open.
    fn at(&self, at: i64) -> Option<Kind> {
        let told = self.told.iter().rev().find(|told| told.at <= at)?;
        (told.became != "closed").then_some(told.kind)
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let real: Vec<&Fault> =
            self.faults.iter().filter(|fault| !matches!(fault.what, What::Blip { .. })).collect();
        if real.is_empty() && self.link.blips && !self.told.is_empty() {
            wrong.push("blips that no rule is about are told of".to_owned());
        }
        for fault in &real {
            self.check_course(fault, &real, &mut wrong);
        }
        self.check_pages(&real, &mut wrong);
        self.check_ends(&real, &mut wrong);
        wrong
    }

    /// The verdict is the right one in time, and stays so.
    fn check_course(&self, fault: &Fault, real: &[&Fault], wrong: &mut Vec<String>) {
        let mut right = fault.what.names(&self.link);
        let mut by = fault.from + self.link.tells(&fault.what) + self.lag;
        let others: Vec<&&Fault> = real
            .iter()
            .filter(|of| of.from != fault.from || of.to != fault.to)
            .filter(|of| of.from < fault.to && of.to + self.link.clears() + self.lag > fault.from)
            .collect();
        // What everything is lost by hides what is lost in part, and stays the name until that is over.
        if others.iter().any(|of| of.what.is_total()) && !fault.what.is_total()
            || !fault.what.is_total() && !others.is_empty()
        {
            return;
        }
        // What was told of it before, more than would be known now, stays.
        let before = others.iter().filter(|of| of.from < fault.from && of.what.is_total());
        let before: Vec<Kind> = before.flat_map(|of| of.what.ends(&self.link)).collect();
        if before.contains(&Kind::TunnelsDown) {
            by += 60 * SECOND;
        }
        right.extend(before.iter().filter(|kind| **kind == Kind::OneWay));
        let told = self.told.iter().filter(|told| (by..=fault.to).contains(&told.at));
        let kinds = std::iter::once((by, self.at(by))).chain(told.map(|told| (told.at, Some(told.kind))));
        for (at, kind) in kinds.filter(|(at, _)| *at <= fault.to) {
            let fits = match kind {
                Some(kind) => right.contains(&kind),
                None => !fault.what.is_surely_told(),
            };
            if !fits {
                wrong.push(format!("{} of {fault:?} is {kind:?} and not {right:?}", clock(at)));
                return;
            }
        }
        if !fault.what.is_total() {
            return;
        }
        let from = if before.is_empty() { fault.from } else { by };
        let mut before: Option<Kind> = None;
        for told in self.told.iter().filter(|told| (from..=fault.to).contains(&told.at)) {
            if let Some(before) = before.filter(|before| right.contains(before) && *before != told.kind) {
                let at = clock(told.at);
                wrong.push(format!("{at} of {fault:?}: {before:?} is forgotten, and called {:?}", told.kind));
                return;
            }
            before = (told.became != "closed").then_some(told.kind);
        }
    }

    /// What is down is told once, and nobody is told that it is who was told of it.
    fn check_pages(&self, real: &[&Fault], wrong: &mut Vec<String>) {
        let totals: Vec<&&Fault> = real.iter().filter(|fault| fault.what.is_total()).collect();
        let within = |fault: &Fault, at: i64| {
            let next = totals.iter().map(|of| of.from).filter(|from| *from > fault.from).min();
            (fault.from..=(fault.to + self.lag).min(next.unwrap_or(i64::MAX))).contains(&at)
        };
        for told in self.told.iter().filter(|told| told.became == "worse") {
            // That it is chance shows after some.
            let is_new = |fault: &&&Fault| {
                matches!(fault.what, What::Chance(_))
                    && (fault.from..fault.from + self.link.tells(&fault.what)).contains(&told.at)
            };
            if !totals.iter().any(|fault| within(fault, told.at)) && !real.iter().any(|fault| is_new(&fault))
            {
                wrong.push(format!("{} is WORSE than the truth", clock(told.at)));
            }
        }
        for fault in &totals {
            let pages = |told: &&Told| {
                let is_down = told.became == "opened" && told.kind.is_down() && told.of <= fault.to;
                within(fault, told.at) && (told.became == "worse" || is_down)
            };
            let pages = self.told.iter().filter(pages).count();
            // It is the same trouble while the one before is not over, and that for a while.
            let before = totals.iter().any(|of| {
                of.from < fault.from && fault.from < of.to + self.link.clears().max(90 * SECOND) + self.lag
            });
            // By rules over periods the end of another matter may be decided after all is lost, which it is told as.
            let mixed = self.link.period.is_some()
                && real
                    .iter()
                    .any(|of| of.from < fault.from && of.to + self.link.clears() + self.lag > fault.from);
            if pages > 1 && !mixed || pages == 0 && !before {
                wrong.push(format!("{fault:?} pages {pages} times"));
            }
            let alone = real.iter().all(|of| {
                of.from == fault.from
                    || of.from > fault.to
                    || of.to + self.link.clears() + self.lag < fault.from
            });
            let worse = self.told.iter().any(|told| within(fault, told.at) && told.became == "worse");
            // One tunnel may be called down before the other.
            if alone && worse && fault.what != What::TunnelsDown {
                wrong.push(format!("{fault:?} alone is told as WORSE"));
            }
        }
    }

    /// The name at the end is that of the gravest that it was.
    fn check_ends(&self, real: &[&Fault], wrong: &mut Vec<String>) {
        let mut opened = 0;
        for told in &self.told {
            match told.became {
                "opened" => opened = told.of,
                "closed" => {
                    // Losses by chance are in mind for some packets.
                    let to = |fault: &Fault| match fault.what {
                        What::Chance(_) => fault.to + 32 * self.link.slowest(),
                        _ => fault.to,
                    };
                    let of = real.iter().filter(|fault| fault.from <= told.at && to(fault) >= opened);
                    let of: Vec<&&Fault> = of.collect();
                    let surely = |fault: &&&&Fault| {
                        told.at >= (fault.from + self.link.tells(&fault.what) + self.lag).min(fault.to)
                    };
                    let total = of.iter().filter(|fault| fault.what.is_total()).any(|fault| surely(&fault));
                    let its = of.iter().filter(|fault| fault.what.is_total() || !total);
                    let mut names: Vec<Kind> = its.flat_map(|fault| self.ends(fault)).collect();
                    // That it is chance shows after some.
                    let is_short = |fault: &&&Fault| told.of - opened < self.link.tells(&fault.what);
                    if of.iter().filter(|fault| matches!(fault.what, What::Chance(_))).any(is_short) {
                        names.push(told.kind);
                    }
                    // Blips may be all there is, by rules for periods.
                    if !of.is_empty() && !names.contains(&told.kind) {
                        let (at, kind) = (clock(told.at), told.kind);
                        wrong.push(format!("{at} it ends as {kind:?}, and was {names:?}"));
                    }
                }
                _ => {}
            }
        }
    }

    fn ends(&self, fault: &Fault) -> Vec<Kind> {
        let mut names = fault.what.ends(&self.link);
        // What STAMP would tell is lost as well, or mixed with what was lost shortly before.
        let hidden = |of: &Fault| {
            let shortly = self.link.clears() + self.lag;
            of.from != fault.from && of.from <= fault.to && of.to + shortly >= fault.from
        };
        if self.faults.iter().any(|of| hidden(of) && of.what.loses()) {
            names.extend(fault.what.names(&self.link));
        }
        let chance = |of: &Fault| matches!(of.what, What::Chance(_)) && of.from >= fault.to;
        if fault.what.is_total() && self.faults.iter().any(chance) {
            names.push(Kind::OneWay);
        }
        // Its tunnels may never have been asked while both were called down.
        if fault.what == What::TunnelsDown
            && fault.from + self.link.tells(&fault.what) > fault.to - 20 * SECOND
        {
            names.push(Kind::BlackHole);
        }
        names
    }

    fn tell(&self, seed: u64, wrong: &[String]) -> String {
        let mut text = format!("story {seed}: {}\n{:#?}\n", wrong.join("\n"), self.link);
        for fault in &self.faults {
            text += &format!("{fault:?}\n");
        }
        for Told { at, became, kind, words, .. } in &self.told {
            text += &format!("{} {became}: {} ({words})\n", clock(*at), kind.word());
        }
        text + &format!("lag {:.1} s\n", self.lag as f64 / SECOND as f64)
    }
}

#[test]
fn what_is_told_of_a_link_is_what_it_is() {
    let asked = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (seed, stories) = (asked("CROSSWATCH_SIM_SEED"), asked("CROSSWATCH_SIM_STORIES"));
    let first = seed.unwrap_or(0);
    let count = stories.unwrap_or(if seed.is_some() { 1 } else { STORIES });
    let mut wrong = Vec::new();
    for seed in first..first + count {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut story = Story::draw(&mut rng);
        story.live(&mut rng);
        let found = story.check();
        if !found.is_empty() {
            println!("{}", story.tell(seed, &found));
            wrong.push((seed, found[0].clone()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} stories: {wrong:#?}\nonce more: CROSSWATCH_SIM_SEED={} cargo test -p crosswatch-judge --test verdicts",
        wrong.len(),
        wrong[0].0,
    );
}
