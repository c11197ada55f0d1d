//! Where observations are replayed from: a file of JSON lines, journals, dead letters. Each gives [`Piece`]s in the order of
//! time, or of the file, and says of what it cannot give that it was skipped and why; none holds more than some pages.

mod ahead;
mod dead;
mod file;
mod journals;

use std::fmt;
use std::path::PathBuf;

use crosswatch_journal::JournalError;
use crosswatch_queue::QueueError;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::WireError;

pub use ahead::each_ahead;
pub use dead::{Dead, Letter};
pub use file::File;
pub use journals::Journals;

/// Gives what was observed, piece by piece.
pub trait Source {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// What follows cannot be read, or means nothing.
    fn next(&mut self) -> Result<Option<Piece>, SourceError>;

    /// How much of it was given, from 0 to 1, where that can be told.
    fn progress(&self) -> Option<f64>;
}

/// What a source gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A row of a file: its site's event time is the largest `at` read of it.
    Row(Origin, Observation),
    /// A batch as a queue gave it, and when that was: its site's event time is what it promises.
    Batch(Batch, Timestamp),
    /// What there was, and is not given.
    Skipped(Skipped),
}

/// Why something is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// A row of a kind that this version does not know.
    UnknownKind(String),
    /// So many in a batch.
    UnknownKinds(u64),
    /// The last line was cut off.
    Torn,
    /// Observations outside of what is wanted.
    Unwanted(u64),
    /// An entry or a message that is no batch.
    Unreadable {
        /// Which.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A site of the config without a journal.
    NoJournal(String),
    /// A journal of a site that the config lacks.
    ForeignJournal(String),
}

/// A source that cannot be read. Trying again helps only where a journal was busy or its disk failing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A row means nothing.
    #[error("{file}:{line}: {source}")]
    Row {
        /// The file's name.
        file: String,
        /// The row's line, from 1.
        line: u64,
        /// What is wrong with it.
        source: WireError,
    },
    /// A file or folder cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// Its name.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A folder has no journal of any site of the config.
    #[error("{}: there is no journal of a site of the config here; it has {}", folder.display(), sites.join(", "))]
    Nothing {
        /// The folder.
        folder: PathBuf,
        /// The sites.
        sites: Vec<String>,
    },
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A stage's file cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl SourceError {
    /// Whether the input itself is wrong.
    #[must_use]
    pub fn is_wrong_input(&self) -> bool {
        matches!(self, Self::Row { .. } | Self::Read { .. } | Self::Nothing { .. })
    }
}

/// Which observations are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Made from here on.
    pub since: Timestamp,
    /// Up to here, not included.
    pub until: Timestamp,
    /// Only this link's; collections belong to no link.
    pub link: Option<String>,
    /// Only this site's.
    pub site: Option<String>,
}

impl Default for Wanted {
    /// Everything.
    fn default() -> Self {
        Self { since: Timestamp::MIN, until: Timestamp::MAX, link: None, site: None }
    }
}

/// The config has no link or site of a name that was asked for. A mistyped name would look like nothing having been seen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the config has no {what} '{name}'; it has {}", known.join(", "))]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: Vec<String>,
}

impl Wanted {
    /// Whether the config has the names.
    ///
    /// # Errors
    /// It lacks one, which is told with those there are.
    pub fn check(&self, topology: &Topology) -> Result<(), UnknownName> {
        let known = |what, name: &Option<String>, known: Vec<String>| match name {
            Some(name) if !known.contains(name) => Err(UnknownName { what, name: name.clone(), known }),
            _ => Ok(()),
        };
        known("site", &self.site, topology.sites.iter().map(|site| site.name.to_string()).collect())?;
        known("link", &self.link, topology.links.iter().map(|link| link.name.to_string()).collect())
    }

    /// The topology as far as it is wanted: what is left out must not look as if nothing came of it.
    #[must_use]
    pub fn narrow(&self, mut topology: Topology) -> Topology {
        if let Some(only) = &self.link {
            topology.links.retain(|link| *link.name == **only);
        }
        topology
    }

    /// Whether an observation of this site is wanted.
    #[must_use]
    pub fn has(&self, site: &str, observation: &Observation) -> bool {
        let of_link = match (&self.link, &observation.body) {
            (None, _) => true,
            (
                Some(only),
                Body::Probe { link, .. } | Body::Tunnels { link, .. } | Body::Evidence { link, .. },
            ) => **link == **only,
            (Some(_), Body::Collection { .. } | Body::Drill { .. }) => false,
        };
        of_link && self.has_site(site) && self.since <= observation.at && observation.at < self.until
    }

    /// Whether anything of this site is.
    #[must_use]
    pub fn has_site(&self, site: &str) -> bool {
        self.site.as_ref().is_none_or(|only| *only == *site)
    }

    /// The batch as far as it is wanted, and how many observations were not. It promises nothing beyond the end.
    fn cut(&self, mut batch: Batch) -> (Batch, u64) {
        let before = batch.observations.len();
        batch.observations.retain(|observation| self.has(&batch.origin.site, observation));
        batch.through = batch.through.min(self.until);
        let left = batch.observations.len();
        (batch, (before - left) as u64)
    }
}

impl fmt::Display for Skipped {
    /// What it is counted under.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => f.write_str(kind),
            Self::UnknownKinds(_) => f.write_str("in batches"),
            Self::Torn => f.write_str("a last line that is cut off"),
            Self::Unwanted(_) => f.write_str("outside of what was asked for"),
            Self::Unreadable { place, reason } => write!(f, "{place}: {reason}"),
            Self::NoJournal(site) | Self::ForeignJournal(site) => f.write_str(site),
        }
    }
}
