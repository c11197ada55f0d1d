//! The status for people: a few aligned columns.

use std::fmt::Write as _;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use super::{LinkStatus, State, Status};

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
            let measured = match (probe.rtt_ms, probe.lost) {
                (Some(rtt_ms), _) => format!("{rtt_ms:.3} ms"),
                (None, Some(lost)) => format!("lost: {lost}"),
                (None, None) => "no outcome yet".to_owned(),
            };
            let since = probe.since.map_or(String::new(), |since| {
                let more = if probe.since_or_longer { " or longer" } else { "" };
                format!("  for {}{more}", ago(status.at, since))
            });
            let rest = format!("{measured:<18}{since}{}", firing(&probe.firing));
            line(&mut text, &probe.subject, width, probe.state, &rest, colours);
        }
        for vpn in &link.vpns {
            let tunnels = match vpn.up {
                Some(up) => format!("{up} tunnels up, {} expected", vpn.expected),
                None => "not polled yet".to_owned(),
            };
            line(&mut text, &vpn.subject, width, vpn.state, &(tunnels + &firing(&vpn.firing)), colours);
        }
    }
    match &status.incidents {
        None => text.push_str("no alerter has run here: nothing is judged\n"),
        Some(incidents) if incidents.is_empty() => text.push_str("no open incidents\n"),
        Some(incidents) => {
            for incident in incidents {
                let _ = writeln!(
                    text,
                    "incident {} {} since {}: {}",
                    incident.rule, incident.subject, incident.fired_at, incident.reason
                );
            }
        }
    }
    if let Some(oldest) = status.owed.iter().map(|owed| owed.created).min() {
        let error = status.owed.iter().find_map(|owed| owed.error.as_deref()).unwrap_or("not tried yet");
        let _ = writeln!(
            text,
            "{} notifications not delivered, the oldest for {}: {error}",
            status.owed.len(),
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

/// `41s`, `3m 20s`, `5h 7m`, `12d 3h`.
fn ago(now: Timestamp, then: Timestamp) -> String {
    spell(now.since(then))
}

fn spell(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in [(41, "41s"), (200, "3m 20s"), (18_420, "5h 7m"), (1_047_600, "12d 3h")] {
            assert_eq!(spell(Duration::from_secs(seconds)), text);
        }
    }
}
