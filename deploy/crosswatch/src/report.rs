//! `report`: an incident, or all of a time, as one HTML file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use crosswatch_alerter::story::{self, Notice, Story, Symptom, Which};
use crosswatch_host::clock;
use crosswatch_replay::report::{Incident, Seen, html};
use crosswatch_replay::source::{Source, SourceError, Wanted};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;

use crate::cli::RangeArgs;
use crate::config::Config;
use crate::input;
use crate::run::ALERTER_FILE;

/// How much is shown before an incident and after it.
const AROUND: Duration = Duration::from_mins(5);

/// What is asked.
pub(crate) struct Options {
    pub(crate) incident: Option<String>,
    pub(crate) range: RangeArgs,
    pub(crate) link: Option<String>,
    pub(crate) out: Option<PathBuf>,
}

/// Writes the file, and says where it is.
pub(crate) fn run(config: &Config, options: &Options) -> anyhow::Result<()> {
    let now = clock::now();
    let file = config.topology.queue.path.join(ALERTER_FILE);
    let (since, until) = options.range.at(now);
    let until = until.min(now);
    let which = match &options.incident {
        Some(id) => Which::Id(id),
        None => Which::Between { from: since, to: until, link: None, limit: usize::MAX },
    };
    let mut found = story::stories(&file, which)?;
    found.reverse();
    if let Some(id) = &options.incident {
        match found.as_slice() {
            [_] => {}
            [] => bail!(
                "{}: there is no incident {id}; notifications and 'crosswatch status' have ids",
                file.display()
            ),
            several => {
                let ids: Vec<_> = several.iter().map(|of| of.incident.id.as_str()).collect();
                bail!("{id} is the start of several incidents' ids: {}", ids.join(", "));
            }
        }
    }
    if let Some(link) = &options.link {
        found.retain(|of| of.incident.link.is_empty() || of.incident.link == *link);
    }
    let of_one = found.first().map(|of| &of.incident).filter(|_| options.incident.is_some());
    let (from, until) = match of_one {
        Some(of) => around(of, now),
        None => (since, until),
    };
    let link =
        options.link.clone().or_else(|| of_one.map(|of| of.link.clone()).filter(|link| !link.is_empty()));
    // A link that the config lacks today may be the one of an incident of then; one that was asked for may not.
    let known = link.filter(|link| {
        options.link.is_some() || config.topology.links.iter().any(|known| *known.name == **link)
    });
    let (seen, problem) = seen(&config.topology, from, until, known)?;
    if let Some(problem) = problem {
        eprintln!("{problem}");
    }

    let title = match of_one {
        Some(of) => titled(of),
        None => format!("{} to {}", second(from), second(until)),
    };
    let default = of_one.map_or_else(
        || "report.html".to_owned(),
        |of| format!("incident-{}.html", of.id.get(..8).unwrap_or(&of.id)),
    );
    let incidents: Vec<Incident> = found.into_iter().map(incident).collect();
    let report = html(&title, &incidents, &seen)?;
    let path = options.out.clone().unwrap_or_else(|| PathBuf::from(default));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(report.as_bytes()))
        .with_context(|| {
            format!("{}: the report cannot be written; name another file with --out", path.display())
        })?;
    println!("{}", path.display());
    Ok(())
}

/// The report of an incident, as a page.
pub(crate) fn of_incident(topology: &Topology, story: Story, now: Timestamp) -> anyhow::Result<String> {
    let of = &story.incident;
    let (from, until) = around(of, now);
    let known = |link: &String| topology.links.iter().any(|known| *known.name == **link);
    let (seen, _) = seen(topology, from, until, Some(of.link.clone()).filter(known))?;
    let title = titled(of);
    Ok(html(&title, &[incident(story)], &seen)?)
}

/// The time that is shown of an incident.
fn around(of: &story::Incident, now: Timestamp) -> (Timestamp, Timestamp) {
    let end = of.resolved_at.unwrap_or(now);
    (of.opened_at - AROUND, (end + AROUND).min(now))
}

fn titled(of: &story::Incident) -> String {
    format!("{} {}, {}", of.verdict, of.place, second(of.opened_at))
}

/// What was seen in that time, of one link or of all; and why that is nothing, where there is no journal of it.
fn seen(
    topology: &Topology,
    from: Timestamp,
    until: Timestamp,
    link: Option<String>,
) -> anyhow::Result<(Seen, Option<SourceError>)> {
    let wanted = Wanted { since: from, until, link, site: None };
    wanted.check(topology)?;
    let mut seen = Seen::new(from, until);
    let mut source = match input::journals(topology, None, wanted) {
        // What was judged can be told without what was seen.
        Err(error @ SourceError::Nothing { .. }) => return Ok((seen, Some(error))),
        source => source?,
    };
    while let Some(piece) = source.next()? {
        seen.take(&piece);
    }
    Ok((seen, None))
}

/// A time to its second.
fn second(at: Timestamp) -> String {
    at.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

fn incident(story: Story) -> Incident {
    let Story { incident: of, told, .. } = story;
    let symptom = |of: Symptom| (of.rule, of.subject, of.fired_at, of.reason, of.resolved_at);
    let message = |of: Notice| {
        let words = std::iter::once(of.text).chain(of.evidence).collect::<Vec<_>>().join("; ");
        (of.created, format!("{} by {}", of.receiver, of.channel), of.standing, words, of.accepted_at)
    };
    Incident {
        id: of.id,
        place: of.place,
        verdict: of.verdict,
        summary: of.summary,
        opened: of.opened_at,
        resolved: of.resolved_at.map(|at| (at, of.resolved_reason.unwrap_or_default())),
        symptoms: of.symptoms.into_iter().map(symptom).collect(),
        told: told.into_iter().filter(|of| !of.is_digest).map(message).collect(),
    }
}
