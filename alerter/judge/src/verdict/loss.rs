//! Lost probes: all of them or some, and what tells the difference.

use std::time::Duration;

use crosswatch_shared::observation::Lost;
use crosswatch_shared::time::Timestamp;

use super::{Course, Kind, SKEW, Symptom, Verdict, is_of, is_of_large};
use crate::facts::{LinkFacts, Looked, Outcomes, ProbeFacts};

/// On a link where losses and replies take turns, fewer lost in a row are chance.
const ROW: u32 = 5;
/// And so are those of all probes that would come of losses as they were before more often than this. Every second is a chance.
const RARE: f64 = 1e-8;
/// What is broken in part stays what it is while a probe that was answered meanwhile loses fewer in a row.
const FEW: u32 = 3;
/// One in so many packets that was lost the other way, such as shortly before, makes it no loss both ways.
const HARDLY: i64 = 10;
/// What is lost for so long while the rest is answered is broken in part. And tunnels that are back for so long swallow what is lost.
const LONG: Duration = Duration::from_secs(60);

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
    let failing: Vec<&ProbeFacts> = facts.small().filter(|probe| probe.is_lost()).collect();
    let before_of_loss = before.filter(|before| is_of_loss(before.kind));
    if failing.is_empty() {
        let one_way = course.total.then(|| one_way(facts, course)).flatten();
        // What is lost after all was answered for a while is another matter.
        course.total &= !facts.small().all(|probe| probe.seen.as_ref().is_some_and(Outcomes::is_calm));
        return Some(match before_of_loss {
            // It ends, or a reply came in between; what is lost each way is told with the replies.
            Some(before) => one_way.unwrap_or_else(|| before.clone()),
            // Large packets are lost, and nothing is known of small ones since.
            None if is_of_large(facts, first) => {
                let words = format!("{} lost, nothing is known of small packets since", first.subject);
                before.cloned().unwrap_or(Verdict { kind: Kind::LinkLost, words })
            }
            None => partial(facts, first),
        });
    }
    // What is newest of a site may be of long before: that it was lost says nothing of now.
    let last = failing.iter().filter_map(|probe| Some(probe.seen.as_ref()?.since)).max();
    let is_now = |seen: &Outcomes| seen.lost.is_some() && Some(seen.at() + SKEW) >= last;
    let now: Vec<&ProbeFacts> =
        failing.iter().copied().filter(|probe| probe.seen.as_ref().is_some_and(is_now)).collect();
    course.lose(&now);
    let began = course.began()?;
    let first_began = *course.began.get_or_insert(began);
    let flaky = is_flaky(facts);
    if course.total {
        let mut no_longer = Course { total: false, ..course.clone() };
        no_longer.lose(&now);
        if is_over(facts, &failing, &no_longer, flaky) {
            *course = no_longer;
        }
    }
    let in_part = before_of_loss.filter(|before| !course.total && !before.kind.is_down());
    let later: Vec<&ProbeFacts> =
        failing.iter().copied().filter(|probe| broke_later(probe, first_began)).collect();
    let is_blip = is_blip(&later) && (in_part.is_some() || !flaky);
    if let Some(before) = before_of_loss.filter(|_| !course.total && is_blip) {
        return Some(before.clone());
    }
    if !course.total
        && let Some(refused) = refused(facts, &failing)
    {
        return Some(refused);
    }
    let answers = facts.small().filter(|probe| state(probe, course) == State::Answers).count();
    let all_lost = facts.small().filter_map(|probe| probe.seen.as_ref()).all(is_now);
    // What is told to work less well is told to be down once that is seen of all of it.
    let lost = match before {
        Some(before) if before.kind == Kind::Lossy => all_lost && is_beyond_chance(failing.iter().copied()),
        Some(before) if !before.kind.is_down() => all_lost && is_no_chance(facts, failing.iter().copied()),
        Some(_) if before_of_loss.is_some() => answers == 0,
        _ => answers == 0 && is_no_chance(facts, failing.iter().copied()),
    };
    if course.total || lost {
        if in_part.is_some() && !later.is_empty() {
            // What was known while a part of it was lost says nothing of what has happened to the rest.
            course.lose(&later);
        }
        let all_lost = all_lost && facts.small().all(|probe| probe.seen.is_some());
        course.total |= all_lost;
        course.sure |= all_lost && failing.iter().all(|probe| run(probe) >= ROW);
        let blind = blind(&failing, began);
        return Some(blind.unwrap_or_else(|| total(facts, &failing, course, before_of_loss, answers > 0)));
    }
    if let Some(blind) = blind(&failing, began) {
        return Some(blind);
    }
    if flaky {
        return Some(partial(facts, first));
    }
    // While its end is seen of one probe before it is seen of the next, what is left says nothing.
    if let Some(before) = in_part.filter(|_| is_ending(facts, symptoms, &failing)) {
        return Some(before.clone());
    }
    let structural = if answers == 0 {
        None
    } else {
        structural(facts, &failing, |probe| state(probe, course) == State::Answers)
    };
    structural
        .or_else(|| before.filter(|before| !before.kind.is_down()).cloned())
        .or_else(|| Some(partial(facts, first)))
}

/// Whether what was lost altogether is lost in part now: losses and replies take turns, or something has been answered for long
/// while other is lost on.
fn is_over(facts: &LinkFacts, failing: &[&ProbeFacts], course: &Course, flaky: bool) -> bool {
    let newest_lost = failing.iter().filter_map(|probe| Some(probe.seen.as_ref()?.at())).max();
    let mut answering = facts.small().filter(|probe| state(probe, course) == State::Answers).peekable();
    if flaky && answering.peek().is_some() && !is_no_chance(facts, failing.iter().copied()) {
        return true;
    }
    let since = answering.filter_map(|probe| Some(probe.seen.as_ref()?.since)).min();
    since.zip(newest_lost).is_some_and(|(since, lost)| lost > since + LONG)
}

/// Whether a probe for which the rule fires is answered again, and not for long, while another is lost on.
fn is_ending(facts: &LinkFacts, symptoms: &[&Symptom], failing: &[&ProbeFacts]) -> bool {
    let fires = |probe: &&ProbeFacts| symptoms.iter().any(|symptom| is_of(symptom, probe));
    let seen = facts.small().filter(fires).filter_map(|probe| probe.seen.as_ref());
    let lost_on = |since: Timestamp| {
        let mut lost = failing.iter().filter_map(|probe| probe.seen.as_ref());
        lost.any(|lost| lost.since < since && lost.at() <= since + LONG)
    };
    seen.filter(|seen| seen.lost.is_none()).any(|seen| lost_on(seen.since))
}

/// Whether losses and replies took turns on the link of late.
fn is_flaky(facts: &LinkFacts) -> bool {
    facts.small().filter_map(|probe| probe.seen.as_ref()).any(Outcomes::is_flaky)
}

/// Whether that these probes are lost is more than what was lost of the link before explains.
pub(super) fn is_no_chance<'a>(facts: &LinkFacts, failing: impl Iterator<Item = &'a ProbeFacts>) -> bool {
    !is_flaky(facts) || is_beyond_chance(failing)
}

/// Whether more of these was lost in a row than comes of the losses before.
fn is_beyond_chance<'a>(failing: impl Iterator<Item = &'a ProbeFacts>) -> bool {
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

/// Whether a probe was still answered when the loss had begun. What breaks at once for all is not seen by all at the same moment.
fn broke_later(probe: &ProbeFacts, began: Timestamp) -> bool {
    probe.seen.as_ref().and_then(|seen| seen.answered).is_some_and(|at| at > began + SKEW)
}

/// Whether these have lost no more than a packet or two.
fn is_blip(later: &[&ProbeFacts]) -> bool {
    !later.is_empty() && later.iter().all(|probe| run(probe) < FEW)
}

fn run(probe: &ProbeFacts) -> u32 {
    probe.seen.as_ref().map_or(0, Outcomes::run)
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
        Some(seen) if course.is_through(seen.at(), &probe.site) => State::Answers,
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
fn total(
    facts: &LinkFacts,
    failing: &[&ProbeFacts],
    course: &mut Course,
    before: Option<&Verdict>,
    is_ending: bool,
) -> Verdict {
    let all = facts.small().count();
    let lost = match failing.len() {
        count if count == all && all == 1 => "the only probe lost".to_owned(),
        count => format!("{count} of {all} probes lost"),
    };
    if let Some(one_way) = one_way(facts, course) {
        return one_way;
    }
    let before_is = |kind: Kind| before.filter(|before| before.kind == kind);
    // Two ends tell of the same tunnels, and the one that says down is right.
    let newer = |end: &crate::facts::End<'_>| course.is_after(end.at, end.site);
    let asked = facts.ends().count();
    let Some(worst) = facts.ends().filter(newer).min_by_key(|end| (end.up, end.total)) else {
        let words = match asked {
            0 => lost,
            _ => format!("{lost}, tunnels not asked since"),
        };
        let link_lost = Verdict { kind: Kind::LinkLost, words };
        let known = before.filter(|before| before.kind.is_down() && before.kind != Kind::LinkLost);
        return known.cloned().unwrap_or(link_lost);
    };
    let (up, total) = (worst.up, worst.total);
    if up == 0 {
        course.back = None;
        return Verdict { kind: Kind::TunnelsDown, words: format!("0 of {total} tunnels up, {lost}") };
    }
    // Tunnels that are up while something is answered swallow nothing, whatever was before.
    if let Some(before) = before.filter(|_| is_ending).or(before_is(Kind::OneWay)) {
        return before.clone();
    }
    // Routes and replies come some time after the tunnels.
    let told = facts.ends().map(|end| end.at).max().unwrap_or(worst.at);
    let lost_until = failing.iter().filter_map(|probe| Some(probe.seen.as_ref()?.at())).max();
    if let Some(before) = before_is(Kind::TunnelsDown)
        && lost_until <= Some(*course.back.get_or_insert(told) + LONG)
    {
        return before.clone();
    }
    let began = course.lost_since.get(worst.site).copied().or_else(|| course.began());
    let after = began.map_or(0, |began| worst.at.since(began).as_secs());
    Verdict { kind: Kind::BlackHole, words: format!("{up} of {total} tunnels up after {after} s, {lost}") }
}

/// Only what STAMP tells of each direction shows that one of them works: packets that were lost on the way back had arrived
/// over there. What was lost on the way there says nothing of the way back, on which there was nothing to lose. It is told with
/// a reply, which is after the loss.
fn one_way(facts: &LinkFacts, course: &Course) -> Option<Verdict> {
    let lost_on_the_way_back = |probe: &&ProbeFacts| {
        let seen = probe.seen.as_ref().filter(|_| state(probe, course) == State::Answers);
        seen.is_some_and(|Outcomes { ways: (there, back), .. }| *back >= 2 && there * HARDLY <= *back)
    };
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
