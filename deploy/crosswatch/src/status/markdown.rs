//! The status as Markdown, to paste into a ticket or a chat.

use std::fmt::Write as _;

use super::{State, Status};

/// A table of what is watched, and the open incidents.
pub(super) fn show(status: &Status) -> String {
    let mut text = format!("**Crosswatch**, {}\n\n", status.at);
    match &status.incidents {
        None => text.push_str("No alerter has run here: nothing is judged.\n"),
        Some(incidents) if incidents.is_empty() => text.push_str("No open incidents.\n"),
        Some(incidents) => {
            for of in incidents {
                let _ = writeln!(
                    text,
                    "- **{}** {} since {}: {}",
                    plain(&of.verdict),
                    plain(&of.place),
                    of.opened_at,
                    plain(&of.summary)
                );
            }
        }
    }
    text.push_str("\n| subject | state | measured | since |\n| --- | --- | --- | --- |\n");
    for site in status.sites.iter().filter(|site| site.state != State::Up) {
        let heard = site.last_at.map_or("never heard of".to_owned(), |at| format!("heard {at}"));
        row(&mut text, &site.site, site.state, &heard, "");
    }
    for link in &status.links {
        for probe in &link.probes {
            let since = probe.since.map_or_else(String::new, |at| at.to_string());
            row(&mut text, &probe.subject, probe.state, &probe.measured(), &since);
        }
        for vpn in &link.vpns {
            row(&mut text, &vpn.subject, vpn.state, &vpn.measured(), "");
        }
    }
    text
}

fn row(text: &mut String, subject: &str, state: State, measured: &str, since: &str) {
    let word = match state {
        State::Up => "up",
        State::Down => "**DOWN**",
        State::Unknown => "unknown",
        State::Silent => "silent",
    };
    let _ = writeln!(text, "| {} | {word} | {} | {since} |", plain(subject), plain(measured));
}

/// Text that is no markup, whatever it holds.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' | '#' | '~' => plain.extend(['\\', c]),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use crosswatch_shared::time::Timestamp;

    use super::super::{LinkStatus, ProbeStatus};
    use super::*;

    #[test]
    fn each_subject_is_a_row_and_nothing_in_it_is_markup() {
        let probe = ProbeStatus {
            subject: "l/s/a|b\n<script>".to_owned(),
            state: State::Down,
            since: Some(Timestamp::from_secs(0)),
            since_or_longer: false,
            last_at: None,
            rtt_ms: None,
            baseline: None,
            lost: Some("timeout"),
            evidence: None,
            firing: Vec::new(),
        };
        let link =
            LinkStatus { link: "l".into(), between: Vec::new(), probes: vec![probe], vpns: Vec::new() };
        let status = Status {
            at: Timestamp::from_secs(1),
            sites: Vec::new(),
            links: vec![link],
            incidents: Some(Vec::new()),
            owed: Vec::new(),
            silences: Vec::new(),
            silenced: Vec::new(),
        };
        let shown = show(&status);
        let last = "| l/s/a\\|b \\<script\\> | **DOWN** | lost: timeout | 1970-01-01T00:00:00.000000Z |";
        assert_eq!(shown.lines().last(), Some(last));
        assert!(shown.contains("No open incidents."));
    }
}
