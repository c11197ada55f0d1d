//! Verdicts: what kind of broken a link is, out of all that is known of it. Pure, and says why.
//!
//! Only what is newer than the beginning of the loss counts as evidence about it: a reply from before, or a tunnel's state from
//! before, says nothing. Clocks of two sites may be 2 s apart.

mod loss;

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_shared::observation::{Lost, Name};
use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{Facts, LinkFacts, ProbeFacts};
use crate::rule::Metric;

/// How far the clocks of two sites may be apart.
pub(crate) const SKEW: Duration = Duration::from_secs(2);

/// A tunnel that is back within this time was replaced; AWS's own maintenance takes minutes.
const REPLACED: Duration = Duration::from_secs(15 * 60);

/// Large packets are no matter of their size if as many small ones in a row would be lost as often as this.
const OF_NO_SIZE: f64 = 0.001;

/// What kind of broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Probes are lost; nothing newer is known of the tunnels.
    LinkLost,
    /// No tunnel is up.
    TunnelsDown,
    /// Tunnels are up, and every probe is lost.
    BlackHole,
    /// Only what goes one way is lost, as STAMP tells.
    OneWay,
    /// A site's collector is not heard of.
    SiteSilent,
    /// No site is heard of.
    AlerterBlind,
    /// One protocol or one side is lost, the rest passes.
    Filtered,
    /// One target is lost, others of its site answer.
    TargetDown,
    /// A part of what is sent is lost.
    Lossy,
    /// Large packets are lost, small ones pass.
    TooBig,
    /// Fewer tunnels are up than should be.
    RedundancyLost,
    /// One tunnel at a time was down for minutes, and is back.
    TunnelReplaced,
    /// Replies take too long.
    Slow,
    /// Collections fail, or the collector's own machine is at fault.
    CollectorBlind,
    /// A file of the configuration was edited, and is not taken over.
    ConfigRefused,
}

impl Kind {
    /// Every kind, in the order of their declaration: what is down first, and of that a link before who watches it.
    pub const ALL: [Self; 15] = [
        Self::LinkLost,
        Self::TunnelsDown,
        Self::BlackHole,
        Self::OneWay,
        Self::SiteSilent,
        Self::AlerterBlind,
        Self::Filtered,
        Self::TargetDown,
        Self::Lossy,
        Self::TooBig,
        Self::RedundancyLost,
        Self::TunnelReplaced,
        Self::Slow,
        Self::CollectorBlind,
        Self::ConfigRefused,
    ];

    /// The word in notifications.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LinkLost => "link-lost",
            Self::TunnelsDown => "tunnels-down",
            Self::BlackHole => "black-hole",
            Self::OneWay => "one-way",
            Self::SiteSilent => "site-silent",
            Self::AlerterBlind => "alerter-blind",
            Self::Filtered => "filtered",
            Self::TargetDown => "target-down",
            Self::Lossy => "lossy",
            Self::TooBig => "too-big",
            Self::RedundancyLost => "redundancy-lost",
            Self::TunnelReplaced => "tunnel-replaced",
            Self::Slow => "slow",
            Self::CollectorBlind => "collector-blind",
            Self::ConfigRefused => "config-refused",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether nothing gets through, or nobody can tell; otherwise something works less well than it should.
    #[must_use]
    pub const fn is_down(self) -> bool {
        matches!(
            self,
            Self::LinkLost
                | Self::TunnelsDown
                | Self::BlackHole
                | Self::OneWay
                | Self::SiteSilent
                | Self::AlerterBlind
        )
    }
}

/// What is broken, in a word and in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The kind.
    pub kind: Kind,
    /// What it rests on, most important first: `2 of 2 tunnels up, 4 of 4 probes lost`.
    pub words: String,
}

/// A rule that fires for a subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symptom {
    /// The rule.
    pub rule: Name,
    /// What it judges; `None` for a built-in rule.
    pub metric: Option<Metric>,
    /// Whom it fires for.
    pub subject: Name,
    /// The deciding datapoint's time.
    pub at: Timestamp,
    /// The deciding datapoint's value, in the metric's unit; `None` where there was none.
    pub value: Option<f64>,
    /// Why it fires.
    pub reason: String,
}

impl Symptom {
    /// Whether it is this rule firing for this subject.
    #[must_use]
    pub fn is(&self, rule: &str, subject: &str) -> bool {
        *self.rule == *rule && *self.subject == *subject
    }
}

/// What was settled of a link's incident before, and stays so while it lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// When the first loss of all began.
    #[serde(default)]
    pub(crate) began: Option<Timestamp>,
    /// When the first of each site's probes that fail began to, by the site's clock.
    #[serde(default)]
    pub(crate) lost_since: BTreeMap<Name, Timestamp>,
    /// And by when that was broken which they are lost by.
    #[serde(default)]
    pub(crate) broke: BTreeMap<Name, Timestamp>,
    /// Every probe was lost at one time: that some answer afterwards is its end, and makes it no smaller.
    pub(crate) total: bool,
    /// And for so long that it was no chance: that is what it was, whatever it turns into.
    #[serde(default)]
    pub(crate) sure: bool,
    /// None of the tunnels was up, and since then some are.
    #[serde(default)]
    pub(crate) back: Option<Timestamp>,
}

impl Course {
    /// These probes are lost. While everything is, the beginning stays: that one was lost for longer says nothing of the rest.
    fn lose(&mut self, failing: &[&ProbeFacts]) {
        let of_old = self.began().filter(|_| self.total);
        if of_old.is_none() {
            self.lost_since.clear();
            self.broke.clear();
        }
        for (probe, seen) in failing.iter().filter_map(|probe| Some((probe, probe.seen.as_ref()?))) {
            let (since, broke) = (seen.since, seen.broke());
            if of_old.is_none_or(|began| broke + SKEW > began) {
                for (times, at) in [(&mut self.lost_since, since), (&mut self.broke, broke)] {
                    let first = times.entry(probe.site.clone()).or_insert(at);
                    *first = at.min(*first);
                }
            }
        }
    }

    /// When the loss began.
    fn began(&self) -> Option<Timestamp> {
        self.lost_since.values().min().copied()
    }

    /// Whether what a site tells of this time is from after the beginning of the loss: by its own clock, if it loses something, or
    /// else by that of another.
    fn is_after(&self, at: Timestamp, site: &str) -> bool {
        is_after(&self.lost_since, at, site)
    }

    /// Whether what a site sent at this time, and was answered, got through what is broken.
    fn is_through(&self, at: Timestamp, site: &str) -> bool {
        is_after(&self.broke, at, site)
    }
}

fn is_after(times: &BTreeMap<Name, Timestamp>, at: Timestamp, site: &str) -> bool {
    times.get(site).is_some_and(|began| at > *began)
        || times.values().min().is_some_and(|began| at > *began + SKEW)
}

/// The verdict on a link, out of its symptoms and all that is known of it. `before` stands where nothing tells more.
pub(crate) fn of_link(
    facts: &LinkFacts,
    symptoms: &[Symptom],
    before: Option<&Verdict>,
    course: &mut Course,
) -> Verdict {
    let lost = |metric: Metric| matches!(metric, Metric::PingOk | Metric::LossPercent);
    let sized = |symptom: &Symptom| is_of_large(facts, symptom);
    let (mut losses, mut large, mut tunnels, mut slow, mut other) = (vec![], vec![], vec![], vec![], vec![]);
    for symptom in symptoms {
        let list = match symptom.metric {
            Some(metric) if lost(metric) && sized(symptom) => &mut large,
            Some(metric) if lost(metric) => &mut losses,
            Some(Metric::TunnelsUp) => &mut tunnels,
            Some(Metric::LatencyMs | Metric::JitterMs) => &mut slow,
            _ => &mut other,
        };
        list.push(symptom);
    }
    // A rule for large packets may fire first while small ones are lost as well, or nothing is known of them yet.
    let size_matters = !losses.is_empty() || small_ones_pass(facts);
    let losses = if size_matters { &losses } else { &large };
    let mut found = loss::judge(facts, losses, before, course);
    if found.as_ref().is_none_or(|found| !found.kind.is_down()) && !tunnels.is_empty() {
        let of_tunnels = of_tunnels(facts, &tunnels, before);
        if found.is_none() || of_tunnels.kind.is_down() {
            found = Some(of_tunnels);
        }
    }
    let too_big = || too_big(facts, &large, before);
    let found = found.map(|mut found| {
        let silent = other.iter().filter(|of| of.metric.is_none() && *of.rule == *Kind::SiteSilent.word());
        silent.for_each(|of| found.words += &format!("; {} is silent", of.subject));
        found
    });
    found.or_else(too_big).or_else(|| of_latency(&slow)).or_else(|| of_others(&other)).unwrap_or_else(|| {
        before
            .cloned()
            .unwrap_or_else(|| Verdict { kind: Kind::LinkLost, words: "nothing is known".to_owned() })
    })
}

/// Whether it is a probe's.
fn is_of(symptom: &Symptom, probe: &ProbeFacts) -> bool {
    symptom.subject.ends_with(&*format!("/{}", probe.label()))
}

/// Whether it is of a probe of large packets.
fn is_of_large(facts: &LinkFacts, symptom: &Symptom) -> bool {
    facts.probes.iter().any(|probe| probe.size.is_some() && is_of(symptom, probe))
}

/// The verdict on a site's collector, or on the alerter itself.
pub(crate) fn of_site(facts: &Facts, site: &str, symptoms: &[Symptom], before: Option<&Verdict>) -> Verdict {
    if let Some(verdict) = of_others(&symptoms.iter().collect::<Vec<_>>()) {
        return verdict;
    }
    let failing = facts.collector(site).into_iter().flat_map(|of| &of.sources).filter(|(_, round)| !round.ok);
    let failing: Vec<String> = failing
        .map(|(source, round)| match &round.error {
            Some(error) => format!("{source} fails: {error}"),
            None => format!("{source} fails"),
        })
        .collect();
    let words = match (symptoms.first(), before) {
        (_, Some(before)) if failing.is_empty() => return before.clone(),
        (Some(first), None) if failing.is_empty() => format!("{} {}", of_source(first), first.reason),
        _ => failing.join("; "),
    };
    Verdict { kind: Kind::CollectorBlind, words }
}

/// `<source>` of `<site>/<source>`.
fn of_source(symptom: &Symptom) -> &str {
    symptom.subject.split_once('/').map_or(&*symptom.subject, |(_, source)| source)
}

/// Built-in rules say it themselves.
fn of_others(symptoms: &[&Symptom]) -> Option<Verdict> {
    let built_in = |kind: Kind| symptoms.iter().find(|of| of.metric.is_none() && *of.rule == *kind.word());
    [Kind::AlerterBlind, Kind::SiteSilent, Kind::ConfigRefused].into_iter().find_map(|kind| {
        let symptom = built_in(kind)?;
        let words = match kind {
            Kind::SiteSilent => format!("{}: {}", symptom.subject, symptom.reason),
            _ => symptom.reason.clone(),
        };
        Some(Verdict { kind, words })
    })
}

fn of_tunnels(facts: &LinkFacts, symptoms: &[&Symptom], before: Option<&Verdict>) -> Verdict {
    let worst = facts.ends().min_by_key(|end| (end.up, end.total));
    let Some(worst) = worst else {
        let words = symptoms.first().map_or_else(String::new, |first| first.reason.clone());
        return Verdict { kind: Kind::RedundancyLost, words };
    };
    if worst.up == 0 {
        return Verdict { kind: Kind::TunnelsDown, words: format!("0 of {} tunnels up", worst.total) };
    }
    if worst.up < worst.expected {
        let down = facts.vpns.iter().filter(|((site, _), _)| site == worst.site);
        let down = down.flat_map(|(_, vpn)| &vpn.tunnels).filter(|(_, up)| !**up).map(|(ip, _)| ip.as_str());
        let down: Vec<&str> = down.collect();
        let words = format!("{} of {} tunnels up, {} down", worst.up, worst.total, down.join(" and "));
        return Verdict { kind: Kind::RedundancyLost, words };
    }
    // All are back.
    let troubles = || facts.vpns.values().filter_map(|vpn| vpn.trouble.as_ref());
    let one_at_a_time = troubles().all(|trouble| !trouble.all);
    let longest = troubles().filter_map(|of| Some(of.ended?.since(of.began))).max();
    if let Some(longest) = longest.filter(|longest| one_at_a_time && *longest <= REPLACED) {
        let down = troubles().flat_map(|trouble| &trouble.down).map(String::as_str);
        let mut down: Vec<&str> = down.collect();
        down.sort_unstable();
        down.dedup();
        let words = format!("{} was down for {} s and is back", down.join(" and "), longest.as_secs());
        return Verdict { kind: Kind::TunnelReplaced, words };
    }
    before.cloned().unwrap_or_else(|| Verdict {
        kind: Kind::RedundancyLost,
        words: format!("{} of {} tunnels up", worst.up, worst.total),
    })
}

/// Whether it may be their size by which large packets are lost: small ones are answered, or are lost by chance.
fn small_ones_pass(facts: &LinkFacts) -> bool {
    let large = facts.probes.iter().filter(|of| of.size.is_some() && of.is_lost());
    let large: Vec<&ProbeFacts> = large.collect();
    // The prober says so only by a router's word, or beside small ones that were answered.
    let is_said = |probe: &&ProbeFacts| probe.seen.as_ref().is_some_and(|of| of.lost == Some(Lost::TooBig));
    if large.iter().any(is_said) {
        return true;
    }
    let mut course = Course::default();
    course.lose(&large);
    let passes = |probe: &ProbeFacts| {
        let answered = probe.seen.as_ref().and_then(|seen| seen.answered);
        answered.is_some_and(|at| course.is_through(at, &probe.site))
    };
    let none_passes = !facts.small().any(passes) || facts.small().all(ProbeFacts::is_lost);
    large.is_empty()
        || facts.small().next().is_none()
        || !none_passes
        || !loss::is_no_chance(facts, facts.small().filter(|of| of.is_lost()))
}

fn too_big(facts: &LinkFacts, symptoms: &[&Symptom], before: Option<&Verdict>) -> Option<Verdict> {
    symptoms.first()?;
    let fires =
        |probe: &&ProbeFacts| probe.size.is_some() && symptoms.iter().any(|symptom| is_of(symptom, probe));
    let lost = facts
        .probes
        .iter()
        .filter(fires)
        .filter_map(|probe| Some((probe, probe.seen.as_ref()?)))
        .find(|(_, seen)| seen.lost.is_some());
    let Some((probe, seen)) = lost else {
        // Large packets pass again.
        return before.cloned();
    };
    // Where small ones are lost in part, a few large ones may have been lost as they are.
    let share = |(lost, of): (u32, u32)| f64::from(lost) / f64::from(of);
    let shares = facts.small().filter_map(|probe| probe.seen.as_ref()).map(|seen| share(seen.lost_of()));
    if shares.fold(0.0, f64::max).powf(seen.run().into()) > OF_NO_SIZE {
        return Some(loss::partial(facts, symptoms.first()?));
    }
    let size = probe.size.unwrap_or_default();
    let learned = seen.mtu.map_or_else(String::new, |mtu| format!(", the way takes {mtu}"));
    Some(Verdict {
        kind: Kind::TooBig,
        words: format!("packets of {size} bytes lost, small ones pass{learned}"),
    })
}

fn of_latency(symptoms: &[&Symptom]) -> Option<Verdict> {
    let newest = symptoms.iter().max_by_key(|symptom| symptom.at)?;
    let subject = newest.subject.split_once('/').map_or(&*newest.subject, |(_, subject)| subject);
    let words = match symptoms.len() {
        1 => format!("{subject} {}", newest.reason),
        count => format!("{count} probes, {subject} {}", newest.reason),
    };
    Some(Verdict { kind: Kind::Slow, words })
}
