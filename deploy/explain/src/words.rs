//! An explanation in words.

use std::fmt::Write as _;

use crosswatch_alerter::status::ActiveSilence;
use crosswatch_alerter::story::{Incident, Notice, Story};
use crosswatch_shared::time::Timestamp;

use crate::explanation::{Baseline, Basis, Datapoint, Explanation, Judged, Kind, Site, Subject};

/// How many datapoints are told.
const DATAPOINTS: usize = 10;

/// How many symptoms of an incident are told.
const SYMPTOMS: usize = 10;

/// So many seconds behind a site may be without a word: with SQS routine takes ten.
const BEHIND: u64 = 30;

/// The explanation as lines for a person.
#[must_use]
pub fn words(of: &Explanation) -> String {
    let mut text = String::new();
    let kind = match of.kind {
        Kind::Subject => "",
        Kind::Link => "link ",
        Kind::Incident => "incident ",
    };
    let basis = match &of.basis {
        Basis::Alerter => "as the alerter has it".to_owned(),
        Basis::History { from: Some(from), observations } => {
            format!("judged anew from {observations} observations since {from}")
        }
        Basis::History { from: None, .. } => {
            "the journals hold no observation of that time: nothing can be judged".to_owned()
        }
    };
    let _ = writeln!(text, "{kind}{} at {}, {basis}", of.asked, of.at);
    for site in &of.sites {
        text += &site_words(site, of.at);
    }
    if !matches!(of.basis, Basis::History { from: None, .. }) {
        for subject in &of.subjects {
            subject_words(&mut text, subject, of);
        }
    }
    if of.incidents.is_empty() {
        text += "no incident of it is known\n";
    }
    for incident in &of.incidents {
        incident_words(&mut text, incident, of.at);
    }
    text
}

/// Only where it explains why nothing is judged.
fn site_words(site: &Site, at: Timestamp) -> String {
    let Site { site, event_time, silent_since, silence } = site;
    match (silent_since, event_time) {
        (Some(since), _) => {
            let told = match silence {
                Some(silence) => format!("is muted {}", muted_until(silence)),
                None => "tells everybody".to_owned(),
            };
            format!(
                "site {site} is silent since {since}: no rule can be judged for what it observes, and site-silent {told}\n"
            )
        }
        (None, None) => format!("site {site} was never heard of: nothing is judged for what it observes\n"),
        (None, Some(known)) => {
            let behind = at.since(*known).as_secs();
            if behind < BEHIND {
                return String::new();
            }
            format!(
                "site {site} is known up to {known}, {behind} s before: what came later is not judged yet\n"
            )
        }
    }
}

fn subject_words(text: &mut String, subject: &Subject, of: &Explanation) {
    let _ = writeln!(text, "{}", subject.subject);
    if subject.judged.is_empty() {
        let is_site = of.sites.iter().any(|site| site.site == subject.subject);
        *text += if is_site {
            "  no rule of the config; the built-in site-silent watches it, and alerter-blind all of them at once\n"
        } else {
            "  no rule covers it: it pages nobody\n"
        };
    }
    for judged in &subject.judged {
        // Of a link what is in order is told in a line.
        if of.kind == Kind::Link && judged.state == "ok" {
            let _ = writeln!(text, "  {}: ok; {}{}", judged.rule, counted(judged), quiet(judged));
        } else {
            judged_words(text, judged, &subject.subject, of);
        }
    }
    if let Some(evidence) = &subject.evidence {
        let _ = writeln!(text, "  evidence: {evidence}");
    }
}

/// Why a rule that is in order would tell nobody even if it were not.
fn quiet(judged: &Judged) -> String {
    let baseline = match judged.baseline {
        Some(Baseline { value: None, fixed: None, .. }) => "; no baseline yet, until then it does not fire",
        Some(Baseline { value: None, .. }) => "; no baseline yet",
        _ => "",
    };
    let silence = judged.silence.as_ref().filter(|_| !judged.notify.is_empty());
    let muted = silence.map(|of| format!("; muted {}", muted_until(of)));
    format!("{baseline}{}", muted.unwrap_or_default())
}

/// `until 2026-11-22T09:00:00.000000Z by the silence 3f9a01c7 of link use1-euw1: router swap`.
fn muted_until(silence: &ActiveSilence) -> String {
    let ActiveSilence { id, covers, until, why, by } = silence;
    let by = by.as_ref().map(|by| format!(", says {by}")).unwrap_or_default();
    format!("until {until} by the silence {id} of {covers}: {why}{by}")
}

fn judged_words(text: &mut String, judged: &Judged, subject: &str, of: &Explanation) {
    let state = match (&*judged.state, judged.firing) {
        ("unknown", true) => "unknown, and firing on".to_owned(),
        ("firing", _) => "FIRING".to_owned(),
        (state, _) => state.to_owned(),
    };
    let since = judged.since.as_ref().map_or_else(String::new, |since| {
        let why = if since.reason.is_empty() { String::new() } else { format!(": {}", since.reason) };
        format!(" since {}{why}", since.at)
    });
    let _ = writeln!(text, "  {}: {state}{since}", judged.rule);
    let _ = writeln!(text, "    fires when {}", fires_when(judged));
    if let Some(baseline) = &judged.baseline {
        let _ = writeln!(text, "    {}", baseline_words(judged, baseline));
    }
    let _ = writeln!(text, "    {}", counted(judged));
    if !judged.datapoints.is_empty() {
        let _ = writeln!(text, "    {}", datapoints(judged));
    }
    if judged.state == "unknown" {
        let last =
            judged.last_at.map_or_else(|| "it was never seen".to_owned(), |at| format!("the last at {at}"));
        let missing = match &*judged.missing {
            "breach" => "counts as breaching",
            "ok" => "counts as not breaching",
            _ => "neither fires nor resolves",
        };
        let _ = writeln!(
            text,
            "    no data for {} s makes it unknown ({last}), which tells nobody; missing data {missing}",
            judged.deadline_s
        );
    }
    let _ = writeln!(text, "    {}", pages(judged, subject, of));
    if let (Some(silence), false) = (&judged.silence, judged.notify.is_empty()) {
        let _ = writeln!(text, "    muted {}; what still fires then pages then", muted_until(silence));
    }
    if let Some(otherwise) = &judged.otherwise {
        let _ = writeln!(
            text,
            "    the alerter last judged by another rule of this name, which was {otherwise} since; it takes that up once it has read the config"
        );
    }
    for transition in &judged.transitions {
        let _ = writeln!(text, "    {} {}: {}", transition.at, transition.state, transition.reason);
    }
}

/// `3 of the newest 3 of ping_ok are below 1`.
fn fires_when(judged: &Judged) -> String {
    let metric = match (&judged.statistic, judged.period_s) {
        (Some(statistic), Some(period)) => format!("the {statistic} of {} over {period} s", judged.metric),
        (None, Some(period)) => format!("{} over {period} s", judged.metric),
        _ => judged.metric.clone(),
    };
    let factor = judged.baseline.map_or_else(String::new, |of| format!("{} x baseline", of.factor));
    let limit = match (judged.threshold, judged.baseline.and_then(|of| of.value)) {
        (Some(threshold), Some(_)) => format!("{} {} ({factor})", judged.side, value(judged, threshold)),
        (Some(threshold), None) => format!("{} {}", judged.side, value(judged, threshold)),
        (None, _) => format!("{} {factor}", judged.side),
    };
    let fires = if judged.breach.n == 1 {
        format!("{metric} is {limit}")
    } else {
        format!("{} of the newest {} of {metric} are {limit}", judged.breach.m, judged.breach.n)
    };
    let clear = judged.clear_threshold.or(judged.threshold).map(|clear| value(judged, clear));
    let over = match (judged.clear, clear) {
        (Some(count), Some(clear)) => format!("{count} in a row are not {} {clear}", judged.side),
        (Some(count), None) => format!("{count} in a row are not"),
        (None, Some(clear)) if judged.clear_threshold.is_some() => {
            format!("fewer than {} are not on the far side of {clear}", judged.breach.m)
        }
        (None, _) => format!("fewer than {} are", judged.breach.m),
    };
    format!("{fires}; over when {over}")
}

/// `baseline 80.2 ms, the median since 2026-11-22T07:00:00.000000Z of seven days at the most`.
fn baseline_words(judged: &Judged, baseline: &Baseline) -> String {
    match (baseline.value, baseline.since, baseline.fixed) {
        (Some(usual), since, _) => format!(
            "baseline {}, the median over seven days{}",
            value(judged, usual),
            since.map_or_else(String::new, |since| format!(", since {since}"))
        ),
        (None, since, fixed) => {
            let since =
                since.map_or_else(|| "there is none yet".to_owned(), |since| format!("it began at {since}"));
            let until = match fixed {
                Some(fixed) => format!("until then the threshold is {}", value(judged, fixed)),
                None => "until then it does not fire".to_owned(),
            };
            format!("no baseline yet: it takes a whole hour of history, and {since}; {until}")
        }
    }
}

/// How far it is from its next transition.
fn counted(judged: &Judged) -> String {
    let known = judged.datapoints.len().min(judged.breach.n);
    let breach = judged.breach;
    if judged.datapoints.is_empty() {
        return "there is no datapoint yet that counts".to_owned();
    }
    let breaching = format!("{} of the newest {known} breach", judged.breaching);
    match (judged.firing, judged.clear) {
        (false, _) => format!("{breaching}; it takes {}", breach.m),
        (true, Some(clear)) => format!("{breaching}; {} of {clear} in a row do not", judged.good.min(clear)),
        (true, None) => format!("{breaching}; it ends below {}", breach.m),
    }
}

/// `16:46:29.806 lost!, …`, the newest last; what breaches has an exclamation mark.
fn datapoints(judged: &Judged) -> String {
    let more = judged.datapoints.len().saturating_sub(DATAPOINTS);
    let told = judged.datapoints.iter().skip(more).map(|of| datapoint(judged, of));
    let told: Vec<String> = told.collect();
    let before = if more == 0 { String::new() } else { format!("{more} more, ") };
    format!("datapoints: {before}{}", told.join(", "))
}

fn datapoint(judged: &Judged, of: &Datapoint) -> String {
    let at = of.at.to_string();
    // The time of day, to the millisecond; the day is that of the states beside it.
    let time = at.get(11..23).unwrap_or(&at);
    let what = of.value.map_or_else(
        || "missing".to_owned(),
        |of| match (&*judged.metric, of, judged.period_s) {
            ("ping_ok", 0.0, None) => "lost".to_owned(),
            ("ping_ok", 1.0, None) => "reply".to_owned(),
            (_, of, _) => value(judged, of),
        },
    );
    format!("{time} {what}{}", if of.breaches { "!" } else { "" })
}

fn value(judged: &Judged, value: f64) -> String {
    let unit = match &*judged.metric {
        "latency_ms" | "jitter_ms" | "collection_ms" => " ms",
        "loss_percent" => " %",
        _ => "",
    };
    format!("{}{unit}", (value * 1e3).round() / 1e3)
}

/// Why it paged, or why not.
fn pages(judged: &Judged, subject: &str, of: &Explanation) -> String {
    let whom = judged.notify.join(", ");
    let is_it = |rule: &str, its: &str| rule == judged.rule && its == subject;
    let open = |incident: &&Incident| {
        incident.symptoms.iter().any(|symptom| {
            let ended = symptom.resolved_at.is_some_and(|end| end <= of.at);
            is_it(&symptom.rule, &symptom.subject) && symptom.fired_at <= of.at && !ended
        })
    };
    let Some(incident) = of.incidents.iter().map(|of| &of.incident).find(open) else {
        return match (judged.firing, &of.basis) {
            (true, Basis::History { .. }) => {
                "the alerter has no incident of this: the rules were others then, or it was not judging"
                    .to_owned()
            }
            (true, Basis::Alerter) => "its incident is not recorded yet".to_owned(),
            (false, _) if judged.notify.is_empty() => "it pages nobody: the rule has no notify".to_owned(),
            (false, _) => format!("it pages {whom} when it fires; it does not"),
        };
    };
    let its = format!("incident {} ({})", incident.verdict, short(&incident.id));
    let opened_it = incident.symptoms.first().is_some_and(|first| is_it(&first.rule, &first.subject));
    match (judged.notify.is_empty(), opened_it) {
        (true, _) => format!("it is a symptom of {its}, and pages nobody itself: the rule has no notify"),
        (false, true) => match &incident.muted {
            Some(muted) => format!("it opened {its}, of which nobody was told: muted by {muted}"),
            None => format!("it opened {its}, which pages {whom}"),
        },
        (false, false) => {
            format!("it joined {its}, which was open: who of {whom} had been told of that is not told again")
        }
    }
}

fn incident_words(text: &mut String, story: &Story, at: Timestamp) {
    let incident = &story.incident;
    let Incident { id, place, verdict, summary, opened_at, resolved_at, .. } = incident;
    let until = match resolved_at {
        Some(end) => format!("from {opened_at} to {end}, {} s", end.since(*opened_at).as_secs()),
        None => format!("open since {opened_at}, for {} s", at.since(*opened_at).as_secs()),
    };
    let _ = writeln!(text, "incident {verdict} {place} ({id}) {until}: {summary}");
    for symptom in incident.symptoms.iter().take(SYMPTOMS) {
        let end = symptom.resolved_at.map_or_else(
            || ", and still does".to_owned(),
            |end| format!(", until {end}: {}", symptom.resolved_reason.as_deref().unwrap_or_default()),
        );
        let _ = writeln!(
            text,
            "  {} fired for {} at {}: {}{end}",
            symptom.rule, symptom.subject, symptom.fired_at, symptom.reason
        );
    }
    let more = incident.symptoms.len().saturating_sub(SYMPTOMS);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    for line in &story.evidence {
        let _ = writeln!(text, "  evidence: {line}");
    }
    if story.told.is_empty() {
        *text += "  nobody was told: none of its rules has a notify\n";
    }
    for of in &story.told {
        let _ = writeln!(text, "  {}", told_words(of));
    }
}

/// One entry of the ledger.
fn told_words(of: &Notice) -> String {
    let what = match (of.is_digest, of.revision) {
        (true, _) => format!("a digest's {}", of.state),
        (false, 0) => of.state.clone(),
        (false, revision) => format!("{}, revision {revision}", of.state),
    };
    let tries = if of.attempts == 1 { "1 try".to_owned() } else { format!("{} tries", of.attempts) };
    let error = of.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    let standing = match (&*of.standing, of.accepted_at, of.next_try) {
        ("accepted", Some(at), _) => format!("accepted at {at} after {tries}"),
        ("told-by-other", Some(at), _) => format!("accepted at {at}, of the other alerter"),
        ("owed", _, Some(next)) if of.attempts > 0 => {
            format!("not accepted after {tries}{error}; tried again at {next}")
        }
        ("owed", ..) => "not tried yet".to_owned(),
        ("held", ..) => "held back by at_most until its digest".to_owned(),
        ("behind", ..) => {
            "kept back until the queue was read to its end: it fired by what had lain there".to_owned()
        }
        ("digested", ..) => "held back, and told by a digest".to_owned(),
        ("muted" | "silenced", ..) => {
            let by = of.muted_by.as_deref().unwrap_or("a silence");
            let then = if of.standing == "muted" {
                "told once that is over, if it still fires"
            } else {
                "over before that was"
            };
            format!("muted by {by}, {then}")
        }
        ("abandoned", ..) => {
            "given up: something newer was to be told, or the config lost the receiver".to_owned()
        }
        (standing, ..) => standing.to_owned(),
    };
    format!("{} by {}, {what}, written at {}: {standing}", of.receiver, of.channel, of.created)
}

/// The beginning of an id, enough to ask for it.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
