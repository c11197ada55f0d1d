//! The sink that ends in CloudWatch: datapoints are kept as the embedded sink keeps them, what is owed to CloudWatch is
//! recorded in the same transaction ([`owed`]), and a [`Sender`] puts it afterwards.
//!
//! A window is put whole, in one request. A put whose answer was lost, or that a death followed, is repeated whole.

mod owed;
mod pack;
mod sender;
mod telemetry;

use crosswatch_shared::time::Timestamp;
use crosswatch_window::{Datapoint, Metric};
use rusqlite::Transaction;
use wildmatch::WildMatch;

use super::{Embedded, Keep, Sink, embedded};
pub(crate) use owed::SCHEMA;
pub(crate) use sender::Sender;

/// Keeps datapoints, and records what of them is owed.
pub(crate) struct Owing {
    sources: Vec<WildMatch>,
    kept: Embedded,
}

impl Owing {
    pub(crate) fn new(sources: &[String], keep: Keep) -> Self {
        Self { sources: sources.iter().map(|glob| WildMatch::new(glob)).collect(), kept: Embedded::new(keep) }
    }

    /// Each metric is billed: those of the collectors' own sources go there as far as asked for.
    fn is_wanted(&self, datapoint: &Datapoint) -> bool {
        let of_source = matches!(datapoint.metric, Metric::CollectionSuccess | Metric::CollectionLatency);
        let mut sources = datapoint.dimensions.iter().filter(|(name, _)| *name == "Source");
        !of_source || sources.any(|(_, source)| self.sources.iter().any(|glob| glob.matches(source)))
    }
}

impl Sink for Owing {
    fn put(&self, tx: &Transaction<'_>, datapoints: &[Datapoint], now: Timestamp) -> rusqlite::Result<()> {
        for datapoint in datapoints {
            let put = embedded::put(tx, datapoint)?;
            if self.is_wanted(datapoint) {
                owed::add(tx, put)?;
            }
        }
        self.kept.forget(tx, now, datapoints.len())
    }
}
