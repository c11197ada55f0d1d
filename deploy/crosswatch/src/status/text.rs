//! The status for people: a few aligned columns.

use std::fmt::Write as _;
use std::time::Duration;

use crosswatch_alerter::status::Owed;
use crosswatch_console::spell;
use crosswatch_shared::time::Timestamp;

use super::{BaselineStatus, LinkStatus, State, Status};

/// A notification that was owed just now, and has not failed, is not worth a line.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// The status as lines; with colours where a terminal shows them.
pub(super) fn show(status: &Status, colours: bool) -> String {
    let mut text = String::new();
    let width = status.links.iter().flat_map(subjects).map(str::len).max().unwrap_or(0);
    for site in &status.sites {
        let heard = site
            .last_at
            .map_or("never heard of".to_owned(), |at| format!("heard {} ago", ago(status.at, at)));
        if site.state != State::Up {
            line(&mut text, &site.site, width, site.state, &heard, colours);
        }
    }
    for link in &status.links {
        for probe in &link.probes {
            let measured = probe.measured();
            let since = match (probe.state, probe.since, probe.last_at) {
                // How it was is not how it is.
                (State::Silent | State::Unknown, _, Some(last)) => format!("  {} ago", ago(status.at, last)),
                (_, Some(since), _) => {
                    let more = if probe.since_or_longer { " or longer" } else { "" };
                    format!("  for {}{more}", ago(status.at, since))
                }
                (_, None, _) => String::new(),
            };
            let usual = match &probe.baseline {
                Some(BaselineStatus { ms: Some(ms), .. }) => format!("  baseline {ms:.3} ms"),
                Some(_) => "  no baseline yet".to_owned(),
                None => String::new(),
            };
            let rest = format!("{measured:<18}{since}{usual}{}", firing(&probe.firing));
            line(&mut text, &probe.subject, width, probe.state, &rest, colours);
            if let (State::Down, Some(evidence)) = (probe.state, &probe.evidence) {
                let _ = writeln!(text, "{:width$}    {evidence}", "");
            }
        }
        for vpn in &link.vpns {
            line(
                &mut text,
                &vpn.subject,
                width,
                vpn.state,
                &(vpn.measured() + &firing(&vpn.firing)),
                colours,
            );
        }
    }
    match &status.incidents {
        None => text.push_str("no alerter has run here: nothing is judged\n"),
        Some(incidents) if incidents.is_empty() => text.push_str("no open incidents\n"),
        Some(incidents) => {
            for incident in incidents {
                let muted = incident.muted.as_ref().map(|by| format!("  muted: {by}")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "incident {} {} since {}: {}{muted}",
                    incident.verdict, incident.place, incident.opened_at, incident.summary
                );
            }
        }
    }
    for silence in &status.silences {
        let by = silence.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "silence {} of {} until {}: {}{by}",
            silence.id, silence.covers, silence.until, silence.why
        );
    }
    for incident in &status.silenced {
        let lasted = ago(incident.resolved_at.unwrap_or(status.at), incident.opened_at);
        let _ = writeln!(
            text,
            "muted {} {} since {}, over after {lasted}: {}",
            incident.verdict,
            incident.place,
            incident.opened_at,
            incident.muted.as_deref().unwrap_or_default()
        );
    }
    let on_its_way = |owed: &Owed| owed.error.is_none() && status.at.since(owed.created) < ON_ITS_WAY;
    let overdue: Vec<&Owed> = status.owed.iter().filter(|owed| !on_its_way(owed)).collect();
    if let Some(oldest) = overdue.iter().map(|owed| owed.created).min() {
        let all = |is: fn(&Owed) -> bool| overdue.iter().all(|owed| is(owed));
        let why = match (all(|owed| owed.held), all(|owed| owed.behind)) {
            (true, _) => "held back by at_most",
            (_, true) => "kept back until the alerter has caught up",
            _ if all(|owed| owed.held || owed.behind) => {
                "held back by at_most or until the alerter has caught up"
            }
            _ => "not tried yet",
        };
        let error = overdue.iter().find_map(|owed| owed.error.as_deref()).unwrap_or(why);
        let _ = writeln!(
            text,
            "notifications not delivered: {}, the oldest for {}: {error}",
            overdue.len(),
            ago(status.at, oldest)
        );
    }
    text
}

fn subjects(link: &LinkStatus) -> impl Iterator<Item = &str> {
    let probes = link.probes.iter().map(|probe| probe.subject.as_str());
    probes.chain(link.vpns.iter().map(|vpn| vpn.subject.as_str()))
}

fn line(text: &mut String, subject: &str, width: usize, state: State, rest: &str, colours: bool) {
    let (word, colour) = match state {
        State::Up => ("up", 32),
        State::Down => ("DOWN", 31),
        State::Unknown => ("unknown", 33),
        State::Silent => ("silent", 35),
    };
    let word = if colours { format!("\x1b[{colour}m{word:<8}\x1b[0m") } else { format!("{word:<8}") };
    let _ = writeln!(text, "{subject:<width$}  {word} {}", rest.trim_end());
}

fn firing(rules: &[String]) -> String {
    if rules.is_empty() { String::new() } else { format!("  firing: {}", rules.join(", ")) }
}

/// How long ago that was.
fn ago(now: Timestamp, then: Timestamp) -> String {
    spell(now.since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, owed: Vec<Owed>) -> Status {
        let at = Timestamp::from_secs(1_000);
        let probe = super::super::ProbeStatus {
            subject: "l/s/p".to_owned(),
            state,
            since: Some(Timestamp::from_secs(400)),
            since_or_longer: false,
            last_at: Some(Timestamp::from_secs(990)),
            rtt_ms: Some(1.5),
            baseline: None,
            lost: None,
            evidence: Some("stops after hop 2 (10.0.0.1)".to_owned()),
            firing: Vec::new(),
        };
        let link =
            LinkStatus { link: "l".into(), between: Vec::new(), probes: vec![probe], vpns: Vec::new() };
        let (silences, silenced) = (Vec::new(), Vec::new());
        Status {
            at,
            sites: Vec::new(),
            links: vec![link],
            incidents: Some(Vec::new()),
            owed,
            silences,
            silenced,
        }
    }

    #[test]
    fn the_last_outcome_of_a_silent_probe_is_not_told_as_how_it_is() {
        let line = |state| show(&status(state, Vec::new()), false).lines().next().unwrap().to_owned();
        assert_eq!(line(State::Up), "l/s/p  up       1.500 ms            for 10m 0s");
        for (state, word) in [(State::Silent, "silent "), (State::Unknown, "unknown")] {
            assert_eq!(line(state), format!("l/s/p  {word}  1.500 ms            10s ago"));
        }
    }

    #[test]
    fn what_is_usual_is_told_where_a_rule_asks_for_it() {
        let line = |ms| {
            let mut status = status(State::Up, Vec::new());
            status.links[0].probes[0].baseline = Some(BaselineStatus { ms, since: None });
            show(&status, false).lines().next().unwrap().to_owned()
        };
        assert_eq!(line(Some(80.25)), "l/s/p  up       1.500 ms            for 10m 0s  baseline 80.250 ms");
        assert_eq!(line(None), "l/s/p  up       1.500 ms            for 10m 0s  no baseline yet");
    }

    #[test]
    fn evidence_is_told_of_what_is_down_alone() {
        let text = |state| show(&status(state, Vec::new()), false);
        assert!(text(State::Down).lines().nth(1).unwrap().trim_start().starts_with("stops after hop 2"));
        assert!(!text(State::Up).contains("stops"));
    }

    #[test]
    fn what_became_owed_just_now_is_not_told_as_undelivered() {
        let owed = |created, error: Option<&str>| Owed {
            id: "1".into(),
            state: "firing".into(),
            receiver: "me".into(),
            channel: "command".into(),
            created: Timestamp::from_secs(created),
            held: false,
            behind: false,
            attempts: 0,
            error: error.map(str::to_owned),
        };
        let last = |owed| show(&status(State::Up, vec![owed]), false).lines().last().unwrap().to_owned();
        assert_eq!(last(owed(999, None)), "no open incidents");
        let told = "notifications not delivered: 1, the oldest for";
        assert_eq!(last(owed(990, None)), format!("{told} 10s: not tried yet"));
        assert_eq!(last(owed(999, Some("exit 1"))), format!("{told} 1s: exit 1"));
        let waits = |held, behind| last(Owed { held, behind, ..owed(990, None) });
        assert_eq!(waits(true, false), format!("{told} 10s: held back by at_most"));
        assert_eq!(waits(false, true), format!("{told} 10s: kept back until the alerter has caught up"));
    }
}
