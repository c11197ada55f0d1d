//! Lost probes: all of them or some, and what tells the difference.

use crosswatch_shared::observation::Lost;
use crosswatch_shared::time::Timestamp;

use super::{Course, Kind, SKEW, Symptom, Verdict};
use crate::facts::{LinkFacts, Looked, Outcomes, ProbeFacts};

/// On a link where losses and replies take turns, fewer lost in a row are chance.
const ROW: u32 = 5;
/// And so are those of all probes that would come of losses as they were before more often than this. Every second is a chance.
const RARE: f64 = 1e-8;
/// What is broken in part stays what it is while a probe that was answered meanwhile loses fewer in a row.
const FEW: u32 = 3;

/// What of the loss so far is known of a probe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Lost,
    /// It was answered since the loss began.
    Answers,
    /// Nothing newer than the loss.
    Unknown,
}

/// The verdict, if a rule fires for lost probes.
pub(super) fn judge(
    facts: &LinkFacts,
    symptoms: &[&Symptom],
    before: Option<&Verdict>,
    course: &mut Course,
) -> Option<Verdict> {
    let first = symptoms.first()?;
    let lost = |probe: &&ProbeFacts| probe.seen.as_ref().is_some_and(|seen| seen.lost.is_some());
    let failing: Vec<&ProbeFacts> = facts.small().filter(lost).collect();
    let before_of_loss = before.filter(|before| is_of_loss(before.kind));
    if failing.is_empty() {
        return Some(match before_of_loss {
            // It ends, or a reply came in between; what is lost each way is told with the replies.
            Some(before) if course.total => one_way(facts).unwrap_or_else(|| before.clone()),
            Some(before) => before.clone(),
            None => partial(facts, first),
        });
    }
    for (probe, seen) in failing.iter().filter_map(|probe| Some((probe, probe.seen.as_ref()?))) {
        let since = course.lost_since.entry(probe.site.clone()).or_insert(seen.since);
        *since = seen.since.min(*since);
    }
    let began = course.began()?;
    if !course.total
        && let Some(before) = before_of_loss.filter(|before| !before.kind.is_down())
        && is_blip(&failing, began)
    {
        return Some(before.clone());
    }
    let state = |probe: &ProbeFacts| state(probe, course);
    let flaky = is_flaky(facts);
    let answers = facts.small().filter(|probe| state(probe) == State::Answers).count();
    if !course.total
        && let Some(refused) = refused(facts, &failing)
    {
        return Some(refused);
    }
    if course.total || (answers == 0 && is_no_chance(facts, failing.iter().copied())) {
        course.total |= facts.small().all(|probe| state(probe) == State::Lost);
        let at_its_end = before_of_loss.filter(|_| answers > 0);
        let total = || total(facts, &failing, course, at_its_end);
        return Some(blind(&failing, began).unwrap_or_else(total));
    }
    if let Some(blind) = blind(&failing, began) {
        return Some(blind);
    }
    if flaky {
        return Some(partial(facts, first));
    }
    Some(
        structural(facts, &failing, |probe| state(probe) == State::Answers)
            .unwrap_or_else(|| partial(facts, first)),
    )
}

/// Whether losses and replies took turns on the link of late.
fn is_flaky(facts: &LinkFacts) -> bool {
    facts.small().filter_map(|probe| probe.seen.as_ref()).any(Outcomes::is_flaky)
}

/// Whether that these probes are lost is more than what was lost of the link before explains.
pub(super) fn is_no_chance<'a>(facts: &LinkFacts, failing: impl Iterator<Item = &'a ProbeFacts>) -> bool {
    if !is_flaky(facts) {
        return true;
    }
    let seen: Vec<&Outcomes> = failing.filter_map(|probe| probe.seen.as_ref()).collect();
    let row: u32 = seen.iter().map(|seen| seen.run()).sum();
    let (lost, of) = seen.iter().fold((0, 0), |(lost, of), seen| {
        let (lost_of_it, of_it) = seen.lost_of();
        (lost + lost_of_it, of + of_it)
    });
    // The rule of succession: of none and of all no share is certain.
    let share = f64::from(lost - row + 1) / f64::from(of - row + 2);
    seen.iter().all(|seen| seen.run() >= ROW) && share.powf(row.into()) <= RARE
}

/// Whether of the probes that fail some were still answered when the loss had begun, and those have lost no more than a packet or
/// two since. What breaks at once for all is not seen by all at the same moment.
fn is_blip(failing: &[&ProbeFacts], began: Timestamp) -> bool {
    let seen = failing.iter().filter_map(|probe| probe.seen.as_ref());
    let answered = |seen: &&Outcomes| seen.answered.is_some_and(|at| at > began + SKEW);
    let mut runs = seen.filter(answered).map(Outcomes::run).peekable();
    runs.peek().is_some() && runs.all(|run| run < FEW)
}

fn is_of_loss(kind: Kind) -> bool {
    use Kind::{BlackHole, CollectorBlind, Filtered, LinkLost, Lossy, OneWay, TargetDown, TunnelsDown};
    matches!(
        kind,
        LinkLost | TunnelsDown | BlackHole | OneWay | Filtered | TargetDown | Lossy | CollectorBlind
    )
}

fn state(probe: &ProbeFacts, course: &Course) -> State {
    match &probe.seen {
        Some(Outcomes { lost: Some(_), .. }) => State::Lost,
        Some(seen) if course.is_after(seen.at(), &probe.site) => State::Answers,
        _ => State::Unknown,
    }
}

/// Whether the machines that see losses are themselves at fault, all of them.
fn blind(failing: &[&ProbeFacts], began: Timestamp) -> Option<Verdict> {
    let looked = |probe: &&ProbeFacts| probe.looked.clone().filter(|looked| looked.at + SKEW > began);
    let site = &failing.first()?.site;
    let evidence: Vec<Looked> = failing.iter().filter_map(looked).collect();
    let at_fault = evidence.iter().find(|looked| looked.blind)?;
    let alone = failing.iter().all(|probe| probe.site == *site) && evidence.iter().all(|looked| looked.blind);
    alone.then(|| Verdict { kind: Kind::CollectorBlind, words: format!("{site}: {}", at_fault.summary) })
}

/// Nothing gets through, or nothing did until some replies came: then `before` is what it was, unless more is known now.
fn total(facts: &LinkFacts, failing: &[&ProbeFacts], course: &Course, before: Option<&Verdict>) -> Verdict {
    let all = facts.small().count();
    let lost = match failing.len() {
        count if count == all && all == 1 => "the only probe lost".to_owned(),
        count => format!("{count} of {all} probes lost"),
    };
    if let Some(one_way) = one_way(facts) {
        return one_way;
    }
    // Two ends tell of the same tunnels, and the one that says down is right.
    let newer = |end: &crate::facts::End<'_>| course.is_after(end.at, end.site);
    let asked = facts.ends().count();
    let Some(worst) = facts.ends().filter(newer).min_by_key(|end| (end.up, end.total)) else {
        let words = match asked {
            0 => lost,
            _ => format!("{lost}, tunnels not asked since"),
        };
        return Verdict { kind: Kind::LinkLost, words };
    };
    let (up, total) = (worst.up, worst.total);
    if up == 0 {
        return Verdict { kind: Kind::TunnelsDown, words: format!("0 of {total} tunnels up, {lost}") };
    }
    // Tunnels that are up while something is answered swallow nothing, whatever was before.
    if let Some(before) = before {
        return before.clone();
    }
    let began = course.lost_since.get(worst.site).copied().or_else(|| course.began());
    let after = began.map_or(0, |began| worst.at.since(began).as_secs());
    Verdict { kind: Kind::BlackHole, words: format!("{up} of {total} tunnels up after {after} s, {lost}") }
}

/// Only what STAMP tells of each direction shows that one of them works: packets that were lost on the way back had arrived
/// over there. What was lost on the way there says nothing of the way back, on which there was nothing to lose.
fn one_way(facts: &LinkFacts) -> Option<Verdict> {
    let lost_on_the_way_back =
        |probe: &&ProbeFacts| probe.seen.as_ref().is_some_and(|seen| seen.ways.0 <= 0 && seen.ways.1 >= 2);
    let mut proofs = facts.small().filter(lost_on_the_way_back);
    let first = proofs.next()?;
    if proofs.any(|probe| probe.site != first.site) {
        return None;
    }
    let to = &first.site;
    let from = facts.between.iter().find(|site| *site != to)?;
    let lost = first.seen.as_ref().map_or(0, |seen| seen.ways.1);
    Some(Verdict {
        kind: Kind::OneWay,
        words: format!("lost from {from} to {to} only: {lost} packets, those the other way arrived"),
    })
}

/// Some probes are lost and others are not: what those that are lost have in common.
fn structural(
    facts: &LinkFacts,
    failing: &[&ProbeFacts],
    answers: impl Fn(&ProbeFacts) -> bool,
) -> Option<Verdict> {
    let first = failing.first()?;
    let answering: Vec<&ProbeFacts> = facts.small().filter(|probe| answers(probe)).collect();
    let same = |what: fn(&ProbeFacts) -> &str| {
        let of_first = what(first);
        failing.iter().all(|probe| what(probe) == of_first)
            && !answering.iter().any(|probe| what(probe) == of_first)
    };
    let (host, site, protocol) = (first.host.as_str(), &first.site, first.protocol);
    let from_there = answering.iter().filter(|probe| probe.site == *site).count();
    if same(|probe| &probe.host) && failing.iter().all(|probe| probe.site == *site) && from_there > 0 {
        let others = if from_there == 1 { "another target answers" } else { "other targets answer" };
        return Some(Verdict { kind: Kind::TargetDown, words: format!("{host} lost from {site}, {others}") });
    }
    let filtered = |words: String| Some(Verdict { kind: Kind::Filtered, words });
    if same(|probe| probe.protocol) {
        return filtered(format!("{protocol} lost, {} answers", protocols(&answering)));
    }
    if same(|probe| &probe.site) {
        let others: Vec<&str> = facts.between.iter().filter(|of| *of != site).map(|of| &**of).collect();
        return filtered(format!(
            "all probes from {site} lost, those from {} answered",
            others.join(" and ")
        ));
    }
    let same_host_answers = failing
        .iter()
        .all(|lost| answering.iter().any(|probe| probe.host == lost.host && probe.site == lost.site));
    same_host_answers.then(|| {
        let lost: Vec<String> = failing.iter().map(|probe| probe.label()).collect();
        Verdict {
            kind: Kind::Filtered,
            words: format!("{} lost, the same targets answer otherwise", lost.join(" and ")),
        }
    })
}

/// Who refuses is reached: the way is open, and the target is not.
fn refused(facts: &LinkFacts, failing: &[&ProbeFacts]) -> Option<Verdict> {
    let is_refused =
        |probe: &&ProbeFacts| probe.seen.as_ref().is_some_and(|seen| seen.lost == Some(Lost::Refused));
    if !failing.iter().all(is_refused) {
        return None;
    }
    let labels: Vec<String> = failing.iter().map(|probe| probe.label()).collect();
    let others = if labels.len() < facts.small().count() { ", other probes are answered" } else { "" };
    Some(Verdict { kind: Kind::TargetDown, words: format!("{} refused{others}", labels.join(" and ")) })
}

fn protocols(probes: &[&ProbeFacts]) -> String {
    let mut words: Vec<&str> = probes.iter().map(|probe| probe.protocol).collect();
    words.sort_unstable();
    words.dedup();
    words.join(" and ")
}

/// A part is lost, and no more can be said.
pub(super) fn partial(facts: &LinkFacts, first: &Symptom) -> Verdict {
    let worst = facts.small().filter_map(|probe| Some((probe.seen.as_ref()?.lost_of(), probe)));
    let worst = worst.max_by(|(a, _), (b, _)| (a.0 * b.1).cmp(&(b.0 * a.1)));
    let words = match worst {
        Some(((lost, of), probe)) if lost > 0 => format!("{lost} of the last {of} lost of {}", probe.label()),
        _ => {
            let subject = first.subject.split_once('/').map_or(&*first.subject, |(_, subject)| subject);
            format!("{subject}: {}", first.reason)
        }
    };
    Verdict { kind: Kind::Lossy, words }
}
