//! The past: what the journals hold of it, judged anew by the alerter's own rehearsal.

use std::path::PathBuf;
use std::time::Duration;

use crosswatch_alerter::config::Config;
use crosswatch_alerter::rehearsal::Rehearsal;
use crosswatch_journal::{Entry, Reader, file};
use crosswatch_judge::Transition;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch};

use crate::ExplainError;

/// How much is read at a time.
const PAGE_BATCHES: usize = 256;
const PAGE_BYTES: usize = 8 << 20;

/// The rhythm in which an alerter reads a queue that is empty, as far as silence asks for it.
const SECOND: Duration = Duration::from_secs(1);

/// For how much of a time without batches that rhythm is kept: longer than any silence needs to be told.
const QUIET: u32 = 120;

/// What came of judging anew.
pub(crate) struct Past {
    pub(crate) rehearsal: Rehearsal,
    /// When the first observation was made, whether it was judged or not.
    pub(crate) from: Option<Timestamp>,
    pub(crate) observations: u64,
    /// In the order in which they were decided.
    pub(crate) transitions: Vec<Transition>,
}

/// What is judged anew.
pub(crate) struct Span<'a> {
    pub(crate) topology: Topology,
    pub(crate) config: &'a Config,
    /// The journals to read, with their sites.
    pub(crate) journals: Vec<(Name, PathBuf)>,
    /// The link whose observations are wanted beside those of collections; nothing for collections alone.
    pub(crate) link: Option<Name>,
    pub(crate) from: Timestamp,
    /// The last moment of which observations are judged.
    pub(crate) to: Timestamp,
}

/// Judges what the journals hold of a span.
pub(crate) fn judge(span: &Span<'_>) -> Result<Past, ExplainError> {
    let Span { topology, config, from, to, .. } = span;
    let mut sites: Vec<Pages> = Vec::new();
    for (site, folder) in &span.journals {
        sites.push(Pages::open(span, site, folder)?);
    }
    let mut past = None;
    let mut names = Names::default();
    let mut now = *from;
    loop {
        let mut next: Option<(Timestamp, usize)> = None;
        for (place, site) in sites.iter_mut().enumerate() {
            if let Some(at) = site.peek(span)?
                && next.is_none_or(|(other, _)| at < other)
            {
                next = Some((at, place));
            }
        }
        let Some(entry) = next.and_then(|(_, place)| sites.get_mut(place)?.take()) else { break };
        let written = entry.written_at;
        let past = match &mut past {
            Some(past) => past,
            None => {
                let rehearsal = Rehearsal::new(config, topology, written)?;
                now = written;
                past.insert(Past { rehearsal, from: None, observations: 0, transitions: Vec::new() })
            }
        };
        past.wait(&mut now, written)?;
        // What cannot be read is the consumers' matter, who keep it as a dead letter.
        if let Ok(decoded) = decode_batch(&entry.payload, &mut names) {
            past.read(span, decoded.batch, now)?;
        }
    }
    match past {
        Some(mut past) => {
            past.wait(&mut now, *to)?;
            Ok(past)
        }
        None => Ok(Past {
            rehearsal: Rehearsal::new(config, topology, *from)?,
            from: None,
            observations: 0,
            transitions: Vec::new(),
        }),
    }
}

impl Past {
    fn read(&mut self, span: &Span<'_>, mut batch: Batch, now: Timestamp) -> Result<(), ExplainError> {
        let wanted = |body: &Body| match body {
            Body::Probe { link, .. } | Body::Tunnels { link, .. } | Body::Evidence { link, .. } => {
                span.link.as_ref() == Some(link)
            }
            Body::Collection { .. } => true,
            Body::Drill { .. } => false,
        };
        batch.through = batch.through.min(span.to);
        // A batch without observations stands for the time it promises.
        let first = batch.observations.iter().map(|of| of.at).min().unwrap_or(batch.through);
        self.from = Some(self.from.map_or(first, |from| from.min(first)));
        batch.observations.retain(|of| of.at <= span.to && wanted(&of.body));
        self.observations += batch.observations.len() as u64;
        self.transitions.extend(self.rehearsal.read(vec![batch], now)?);
        Ok(())
    }

    /// Lets time pass until then, in which nothing comes.
    fn wait(&mut self, now: &mut Timestamp, until: Timestamp) -> Result<(), ExplainError> {
        for _ in 0..QUIET {
            if *now + SECOND >= until {
                break;
            }
            *now = *now + SECOND;
            self.transitions.extend(self.rehearsal.read(Vec::new(), *now)?);
        }
        *now = until.max(*now);
        Ok(())
    }
}

/// One site's journal, page by page.
struct Pages {
    site: Name,
    reader: Reader,
    entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
    last: Option<Entry>,
    ended: bool,
}

impl Pages {
    fn open(span: &Span<'_>, site: &Name, folder: &std::path::Path) -> Result<Self, ExplainError> {
        let of = |source| ExplainError::Journal { site: site.clone(), source };
        let reader = Reader::open(&file(folder, site)).map_err(of)?;
        let mut pages = Self {
            site: site.clone(),
            reader,
            entries: Vec::new().into_iter().peekable(),
            last: None,
            ended: false,
        };
        pages.turn(span)?;
        Ok(pages)
    }

    fn turn(&mut self, span: &Span<'_>) -> Result<(), ExplainError> {
        let to = span.to + Duration::from_micros(1);
        let page = self
            .reader
            .range(span.from, to, self.last.as_ref(), PAGE_BATCHES, PAGE_BYTES)
            .map_err(|source| ExplainError::Journal { site: self.site.clone(), source })?;
        self.ended = page.is_empty();
        self.entries = page.into_iter().peekable();
        Ok(())
    }

    /// When the next entry was written.
    fn peek(&mut self, span: &Span<'_>) -> Result<Option<Timestamp>, ExplainError> {
        if self.entries.peek().is_none() && !self.ended {
            self.turn(span)?;
        }
        Ok(self.entries.peek().map(|entry| entry.written_at))
    }

    fn take(&mut self) -> Option<Entry> {
        let entry = self.entries.next()?;
        // Where the next page begins.
        self.last = Some(Entry { payload: Vec::new(), ..entry.clone() });
        Some(entry)
    }
}
