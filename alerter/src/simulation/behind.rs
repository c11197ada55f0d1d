//! Catching up, as the queue's own record has it: what pages were kept back, for how long, and how they were told then.
//!
//! The file keeps how each page stood, one after the other, and each stands so from a moment that is the time of a page of the
//! queue by the alerter's clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::books::Lives;
use super::broker::Given;
use crate::catch_up::{KEPT, OLD};
use crate::silence::{ALERTER_BLIND, SITE_SILENT};

/// A firing, or its end, as one channel of a receiver was to be told of it.
#[derive(Debug)]
struct Page {
    #[allow(dead_code, reason = "for whoever reads of what is wrong")]
    said: String,
    to: (String, String),
    is_first: bool,
    rule: String,
    digest: Option<String>,
    /// How it stood, and since when.
    stood: Vec<(String, Timestamp)>,
}

/// Gives how many were kept back.
pub(crate) fn check(
    file: &Path,
    pages: &[Given],
    lives: &Lives,
    wrong: &mut Vec<String>,
) -> rusqlite::Result<usize> {
    let mut count = 0;
    let pages: Vec<Given> = pages.iter().filter(|given| given.was_answer).cloned().collect();
    let pages = pages.as_slice();
    // What is released together is told together.
    let mut digests: BTreeMap<((String, String), Timestamp), Option<String>> = BTreeMap::new();
    for page in read(file)? {
        let Page { to, stood, .. } = &page;
        if let Some((standing, at)) = stood.first()
            && ["owed", "held"].contains(&standing.as_str())
            && is_of_the_past(&page, pages, *at)
        {
            wrong.push(format!(
                "it was of the past, and was told before the queue was read to its end: {page:?}"
            ));
        }
        for (place, (_, from)) in stood.iter().enumerate().filter(|(_, (standing, _))| standing == "behind") {
            count += 1;
            let begin = pages.iter().position(|given| given.wall == *from && given.lay.is_some());
            let Some(begin) =
                begin.filter(|_| pages.iter().any(|given| given.wall == *from && is_old(given)))
            else {
                wrong.push(format!("kept back as of the past, by what was fresh: {page:?}"));
                continue;
            };
            let next = stood.get(place + 1);
            let end = next.map_or(pages.len(), |(_, until)| {
                pages
                    .iter()
                    .skip(begin)
                    .position(|given| given.wall == *until)
                    .map_or(begin, |after| begin + after)
            });
            // The step after a page that was the last has begun: the former one is done.
            let done = |given: &usize| {
                let (here, after) = (&pages[*given], pages.get(given + 1));
                let unwell = lives.unwell.iter().any(|&(from, to)| from <= here.awake && here.awake <= to);
                here.empty && !unwell && after.is_some_and(|after| after.life == here.life)
            };
            if let Some(missed) = (begin..end).find(done) {
                wrong.push(format!("all was read by {:?}, and it was kept back: {page:?}", pages[missed]));
            }
            let Some((standing, until)) = next else { continue };
            let set_back =
                pages[begin..=end.min(pages.len() - 1)].windows(2).any(|two| two[1].wall < two[0].wall);
            let lasted = until.since(*from);
            // By the end of the queue, or since a rule that fires in the present has joined it.
            let may = |given: &Given| {
                given.wall == *until
                    && (given.empty || given.lay.is_some_and(|(youngest, _)| youngest <= OLD))
            };
            if standing == "owed" && !set_back && lasted < KEPT && !pages.iter().any(may) {
                wrong.push(format!("told before all was read, after {lasted:?}: {page:?}"));
            }
            if standing == "held" {
                let digest = digests.entry((to.clone(), *until)).or_insert_with(|| page.digest.clone());
                if *digest != page.digest {
                    wrong.push(format!("released together with what {digest:?} tells: {page:?}"));
                }
            }
        }
    }
    Ok(count)
}

fn is_old(given: &Given) -> bool {
    given.lay.is_some_and(|(_, oldest)| oldest > OLD)
}

/// Whether a first page was decided by nothing but old batches, with more to come.
fn is_of_the_past(page: &Page, pages: &[Given], at: Timestamp) -> bool {
    let built_in = [SITE_SILENT, ALERTER_BLIND].contains(&&*page.rule);
    let mut then = pages.iter().filter(|given| given.wall == at).peekable();
    let past =
        |given: &Given| given.lay.is_some_and(|(youngest, _): (Duration, _)| youngest > OLD) && !given.empty;
    page.is_first && !built_in && then.peek().is_some() && then.all(past)
}

fn read(file: &Path) -> rusqlite::Result<Vec<Page>> {
    let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut stood =
        file.prepare("SELECT standing, created FROM stood WHERE notification = ? ORDER BY number")?;
    let mut rows = file.prepare(
        "SELECT number, state || ' ' || revision || ' of ' || id, receiver, channel, state = 'firing' AND revision = 0,
                json_extract(body, '$.rule'), digest
         FROM notification WHERE NOT is_digest AND json_extract(body, '$.held') IS NULL ORDER BY number",
    )?;
    let mut rows = rows.query([])?;
    let mut pages = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let stood =
            stood.query_map([number], |row| Ok((row.get(0)?, Timestamp::from_micros(row.get(1)?))))?;
        pages.push(Page {
            said: row.get(1)?,
            to: (row.get(2)?, row.get(3)?),
            is_first: row.get(4)?,
            rule: row.get(5)?,
            digest: row.get(6)?,
            stood: stood.collect::<rusqlite::Result<_>>()?,
        });
    }
    Ok(pages)
}
