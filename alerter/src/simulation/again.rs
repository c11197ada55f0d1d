//! A day judged once more: the batches as the journals have them, and what the alerter decided otherwise, come to what was
//! judged live, transition for transition.

use std::path::Path;

use crosswatch_journal::{Content, Reader, file};
use crosswatch_shared::observation::Batch;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;

use super::books::Books;
use super::days::Day;
use super::oracle;
use crate::again::Again;
use crate::history::folder;
use crate::judged;

/// What is wrong with it; gives how many transitions there were, and how many decisions besides batches.
pub(crate) fn compare(
    day: &Day,
    books: &Books,
    queue: &Path,
    wrong: &mut Vec<String>,
) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let decisions = judged::read(&queue.join("alerter.db"))?;
    let decided = decisions.len();
    let parse = Box::new(|_: &str| None);
    let mut again = Again::new(&day.world.config, &day.world.topology, decisions, parse)?;
    let mut out = Vec::new();
    for batch in batches(day, queue)? {
        // The wall clock of the day steps to and fro: what was decided when says nothing here.
        again.take(batch, Timestamp::MIN, &mut out)?;
    }
    again.end(&mut out)?;
    let count = out.len();
    let told = oracle::by_subject(out);
    let subjects = told.keys().chain(books.told.keys()).collect::<std::collections::BTreeSet<_>>();
    for of in subjects {
        let (live, now) = (books.told.get(of), told.get(of));
        if live != now {
            wrong.push(format!("judged again {of:?} tells {now:#?}, and not {live:#?}"));
        }
    }
    Ok((count, decided))
}

/// The batches of each site in the order of its journal: the collectors' own, or with SQS the alerter's history.
fn batches(day: &Day, queue: &Path) -> Result<Vec<Batch>, Box<dyn std::error::Error>> {
    let history = folder(queue);
    if !history.is_dir() {
        let sound = day.sends.iter().filter(|sent| !sent.damaged);
        return Ok(sound.map(|sent| sent.batch.clone()).collect());
    }
    let mut all = Vec::new();
    for site in &day.world.topology.sites {
        let mut reader = Reader::open(&file(&history, &site.name))?;
        let entries =
            reader.stored(Timestamp::MIN, Timestamp::MAX, None, usize::MAX >> 1, usize::MAX >> 1)?;
        for entry in entries {
            all.push(match entry.content {
                Content::Batch(batch) => batch,
                Content::Raw(payload) => wire::decode_batch(&payload, &mut wire::Names::default())?.batch,
            });
        }
    }
    Ok(all)
}
