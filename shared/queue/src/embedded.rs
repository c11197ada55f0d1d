//! The backend of the one-machine mode: the journals themselves are the queue.
//!
//! A journal keeps no record of its readers, so each starts from the places its consumer has kept. Nothing expires.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_journal::{Entry, Reader, file};
use crosswatch_shared::observation::Name;
use tokio::time::Instant;

use crate::contract::{Backlog, Message, Page, Pending, Place, Queue, Receipt};
use crate::watch::Watch;
use crate::{QueueError, blocking, put_back};

/// How much one page holds at most, beyond its first message.
const PAGE_BYTES: usize = 8 << 20;

/// The journals of some sites, read in turn, each in the order it was written.
#[derive(Debug)]
pub struct Embedded {
    journals: Vec<Journal>,
    /// What replays put back, read while the journals have nothing more.
    put_back: Option<Journal>,
    /// Whose turn it is to be read first.
    turn: usize,
    watch: Watch,
}

#[derive(Debug)]
struct Journal {
    site: Name,
    path: PathBuf,
    reader: Reader,
    /// Of the journal that `committed` is a place in.
    identity: Option<Name>,
    /// All up to here is committed.
    committed: i64,
    /// What is committed beyond a gap.
    ahead: BTreeSet<i64>,
    /// All up to here was given out, for a reader that gets each message once; `None` for one that gets again what it
    /// has not committed.
    given: Option<i64>,
    failing: bool,
}

impl Embedded {
    /// The journals of these sites in `folder`, from these places on; from the beginning where there is none. A
    /// journal, and the folder, may be begun later.
    ///
    /// # Errors
    /// A journal is foreign, newer or damaged, or may not be read.
    pub fn open(folder: &Path, sites: &[Name], places: &[Place]) -> Result<Self, QueueError> {
        let journal = |site: &Name| Journal::open(site, file(folder, site), places);
        Ok(Self {
            journals: sites.iter().map(journal).collect::<Result<_, QueueError>>()?,
            put_back: None,
            turn: 0,
            watch: Watch::new(folder, sites),
        })
    }

    /// With what replays put back into this folder, for a stage.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub fn beside(mut self, folder: &Path, places: &[Place]) -> Result<Self, QueueError> {
        let path = file(folder, put_back::NAME);
        self.put_back = Some(Journal::open(&Name::from(put_back::PLACE), path, places)?);
        Ok(self)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Journal> {
        self.journals.iter_mut().chain(&mut self.put_back)
    }

    /// For a reader that gathers: what it was given does not come again until it is given back, by an extension of zero,
    /// or until the queue is opened again.
    #[must_use]
    pub fn once(mut self) -> Self {
        for journal in &mut self.journals {
            journal.given = Some(0);
        }
        self
    }

    async fn wait_for_page(&mut self, limit: usize, wait: Duration) -> Page {
        let until = Instant::now() + wait;
        loop {
            self.watch.arm();
            let page = blocking(|| self.read(limit));
            if !page.messages.is_empty() || Instant::now() >= until {
                return page;
            }
            self.watch.rung(until).await;
        }
    }

    /// Reads each journal's share of the page, and what room is left from those that have more.
    fn read(&mut self, limit: usize) -> Page {
        let count = self.journals.len();
        let share = limit.div_ceil(count.max(1)).max(1);
        let mut page = Page { empty: true, ..Page::default() };
        let mut bytes = 0;
        // Where each stands, in the order of their turns; those read to their end are taken out.
        let mut standing: Vec<(usize, Option<i64>)> =
            (0..count).map(|step| ((self.turn + step) % count, None)).collect();
        self.turn = (self.turn + 1) % count.max(1);
        while !standing.is_empty() {
            standing.retain_mut(|(index, after)| {
                let room = limit.max(1).saturating_sub(page.messages.len()).min(share);
                let Some(journal) = self.journals.get_mut(*index) else {
                    return false;
                };
                if room == 0 || bytes >= PAGE_BYTES {
                    // Whether there is more is not known.
                    page.empty = false;
                    return false;
                }
                match journal.read(*after, room, PAGE_BYTES - bytes, &mut page.missed) {
                    Ok(messages) => {
                        let more = !messages.is_empty();
                        for (id, message) in messages {
                            *after = Some(id);
                            bytes += message.payload.len();
                            page.messages.push(message);
                        }
                        more
                    }
                    Err(error) => {
                        page.empty = false;
                        if !std::mem::replace(&mut journal.failing, true) {
                            tracing::error!(site = %journal.site, %error, "this site's journal cannot be read");
                        }
                        page.failing = Some(error.to_string());
                        false
                    }
                }
            });
        }
        self.read_put_back(limit, PAGE_BYTES.saturating_sub(bytes), &mut page);
        page
    }

    /// What was put back holds up nobody: it waits until the journals have nothing more, and there being more of it does
    /// not mean that the queue is not read to its end.
    fn read_put_back(&mut self, limit: usize, bytes: usize, page: &mut Page) {
        let room = limit.max(1).saturating_sub(page.messages.len());
        let Some(journal) = self.put_back.as_mut().filter(|_| page.empty && room > 0) else { return };
        match journal.read(None, room, bytes, &mut page.missed) {
            Ok(messages) => page.messages.extend(messages.into_iter().map(|(_, message)| message)),
            Err(error) => {
                if !std::mem::replace(&mut journal.failing, true) {
                    tracing::error!(%error, "what replays put back cannot be read");
                }
                page.failing = Some(error.to_string());
            }
        }
    }

    fn ask(&mut self) -> Result<Backlog, QueueError> {
        let mut sum = Backlog { observations: Some(0), ..Backlog::default() };
        for journal in self.all() {
            journal.follow()?;
            let one = journal.reader.backlog(journal.committed)?;
            sum.batches += one.batches;
            sum.observations = sum.observations.map(|sum| sum + one.observations);
            sum.oldest = sum.oldest.into_iter().chain(one.oldest).min();
        }
        Ok(sum)
    }
}

impl Queue for Embedded {
    fn receive(&mut self, limit: usize, wait: Duration) -> Pending<'_, Page> {
        Box::pin(async move { Ok(self.wait_for_page(limit, wait).await) })
    }

    fn commit<'a>(&'a mut self, receipts: &'a [Receipt]) -> Pending<'a, ()> {
        for receipt in receipts {
            if let Receipt::Place(place) = receipt
                && let Some(journal) = self.all().find(|one| one.site == place.journal)
                && journal.identity.as_ref() == Some(&place.identity)
            {
                journal.commit(place.id);
            }
        }
        Box::pin(async { Ok(()) })
    }

    /// Nothing expires here, and what is not committed comes again at once, or once it is given back.
    fn extend<'a>(&'a mut self, receipts: &'a [Receipt], by: Duration) -> Pending<'a, ()> {
        for receipt in receipts.iter().filter(|_| by.is_zero()) {
            if let Receipt::Place(place) = receipt
                && let Some(journal) = self.all().find(|one| one.site == place.journal)
                && let Some(given) = &mut journal.given
            {
                *given = (*given).min(place.id - 1);
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        Box::pin(async move { blocking(|| self.ask()) })
    }
}

impl Journal {
    fn open(site: &Name, path: PathBuf, places: &[Place]) -> Result<Self, QueueError> {
        let place = places.iter().find(|place| place.journal == *site);
        Ok(Self {
            site: site.clone(),
            reader: Reader::open(&path)?,
            path,
            identity: place.map(|place| place.identity.clone()),
            committed: place.map_or(0, |place| place.id),
            ahead: BTreeSet::new(),
            given: None,
            failing: false,
        })
    }

    fn read(
        &mut self,
        after: Option<i64>,
        limit: usize,
        bytes: usize,
        missed: &mut u64,
    ) -> Result<Vec<(i64, Message)>, QueueError> {
        let Some(identity) = self.follow()? else {
            return Ok(Vec::new());
        };
        let from = self.given.unwrap_or(self.committed).max(self.committed);
        let entries = self.reader.after(after.unwrap_or(from), limit + self.ahead.len(), bytes)?;
        self.failing = false;
        if let (None, Some(first)) = (after, entries.first()) {
            *missed += self.pass_pruned(from, first.id);
        }
        let message = |entry: Entry| {
            let receipt = Receipt::Place(Place {
                journal: self.site.clone(),
                identity: identity.clone(),
                id: entry.id,
            });
            let message =
                Message { receipt, sent: entry.written_at, payload: entry.payload, unreadable: None };
            (entry.id, message)
        };
        let messages: Vec<_> = entries
            .into_iter()
            .filter(|entry| !self.ahead.contains(&entry.id))
            .take(limit)
            .map(message)
            .collect();
        if let (Some(given), Some((last, _))) = (&mut self.given, messages.last()) {
            *given = *last;
        }
        Ok(messages)
    }

    /// Takes note of a journal that was begun anew: a place in the one before means nothing in it.
    fn follow(&mut self) -> Result<Option<Name>, QueueError> {
        let Some(identity) = self.reader.identity()? else {
            return Ok(None);
        };
        if let Some(same) = self.identity.as_ref().filter(|known| ***known == *identity) {
            return Ok(Some(same.clone()));
        }
        if self.identity.is_some() {
            tracing::warn!(journal = %self.path.display(), "the journal was begun anew; it is read from its beginning");
        }
        let identity = Name::from(identity);
        self.identity = Some(identity.clone());
        self.committed = 0;
        self.ahead.clear();
        self.given = self.given.map(|_| 0);
        Ok(Some(identity))
    }

    /// Ids are dense, so a jump is what was pruned: it will not come. Who begins now has not missed what was before.
    fn pass_pruned(&mut self, from: i64, first: i64) -> u64 {
        let pruned = first - from - 1;
        let begins = from == 0;
        if from == self.committed {
            self.committed += pruned;
        } else {
            (from + 1..first).for_each(|id| self.commit(id));
        }
        if begins { 0 } else { u64::try_from(pruned).unwrap_or(0) }
    }

    fn commit(&mut self, id: i64) {
        if id > self.committed {
            self.ahead.insert(id);
        }
        while self.ahead.first().is_some_and(|&first| first <= self.committed + 1) {
            self.committed = self.ahead.pop_first().unwrap_or(self.committed).max(self.committed);
        }
    }
}
