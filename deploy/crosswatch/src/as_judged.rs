//! `replay --as-judged`: what was judged live, judged once more from the journals and what the alerter wrote down of its own
//! decisions.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crosswatch_alerter::again::Again;
use crosswatch_alerter::judged::{self, Decision};
use crosswatch_host::clock;
use crosswatch_judge::Transition;
use crosswatch_replay::print::{Timeline, line};
use crosswatch_replay::source::{Piece, Source, Wanted};
use crosswatch_replay::{Counts, sort};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use crate::cli::{InputArgs, Printed};
use crate::config::{Config, FILE};
use crate::input;
use crate::progress::Progress;
use crate::queue::Stage;

/// Prints the transitions as they were.
pub(crate) fn run(config: &Config, args: &InputArgs, format: Printed) -> anyhow::Result<()> {
    let (now, topology) = (clock::now(), &config.topology);
    let mut decisions = judged::read(&Stage::Alerter.file(&topology.queue))?;
    // Of sites that the config lacks today no journal is read: nothing of theirs is waited for.
    let known = |site: &Name| topology.sites.iter().any(|of| of.name == *site);
    for decision in &mut decisions {
        decision.places.retain(|site, _| known(site));
        if let Decision::Page(page) = &mut decision.decision {
            page.retain(|(site, _)| known(site));
        }
    }
    let folder = args.journal.as_ref().and_then(Option::as_deref);
    let mut source = input::journals(topology, folder, Wanted::default())?;

    let of_then = |text: &str| {
        let config = Config::parse(text.as_bytes(), Path::new(FILE)).ok()?;
        Some((config.alerts, config.topology))
    };
    // The first config that is written down is the one that what was before it was judged by.
    let first = decisions.iter().find_map(|of| match &of.decision {
        Decision::Config(text) => Some(text),
        _ => None,
    });
    let first = first.and_then(|text| of_then(text));
    let (alerts, then) = first.unwrap_or_else(|| (config.alerts.clone(), topology.clone()));
    let mut again = Again::new(&alerts, &then, decisions, Box::new(of_then))?;

    let (mut counts, mut progress) = (Counts::default(), Progress::begin());
    let mut out = Vec::new();
    while let Some(piece) = source.next()? {
        match piece {
            Piece::Batch(batch, written) => {
                counts.judged += batch.observations.len() as u64;
                again.take(batch, written, &mut out)?;
            }
            Piece::Skipped(skipped) => counts.skip(&skipped),
            Piece::Row(..) => {}
        }
        progress.tell(counts.judged, source.progress());
    }
    let unread = again.end(&mut out)?;
    progress.end();
    eprint!("{counts}");
    if unread > 0 {
        eprintln!(
            "{unread} configs of then mean nothing to this version: what they judged is judged by the ones before them"
        );
    }
    let since = args.since.map_or(Timestamp::MIN, |when| when.at(now));
    let until = args.until.map_or(Timestamp::MAX, |when| when.at(now));
    out.retain(|of| since <= of.at && of.at < until);
    sort(&mut out);
    print(&out, format)?;
    Ok(())
}

fn print(all: &[Transition], format: Printed) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        Printed::Jsonl => all.iter().try_for_each(|of| writeln!(out, "{}", line(of)))?,
        Printed::Text => {
            for told in Timeline::default().merged(all, &[]) {
                write!(out, "{told}")?;
            }
        }
    }
    out.flush()
}
