//! The collector: probes on schedule, observations into the journal.
//!
//! [`Collector`] is one site's. The prober's outcomes become observations ([`pack`]), and so do the state of the tunnels
//! that EC2 is asked for ([`tunnels`]) and what is seen once a probe is lost; news goes at once and routine in bulk ([`news`], [`pace`]), how the collecting itself
//! goes is observed too ([`rounds`]), and everything goes to the journal first ([`Journal`], on disk [`journal::SiteJournal`]),
//! whose failures are waited out with bounded memory. Where no process can stay, it runs [`once`]. From there [`forward`] sends it on to queues of Amazon SQS, where
//! the stages are elsewhere.

pub mod drill;
pub mod forward;
pub mod journal;
pub mod metrics;
pub mod news;
pub mod once;
pub mod pace;
pub mod pack;
pub mod rounds;
pub mod tunnels;

mod appliances;
mod boot;
mod captures;
mod poll;
mod resolve;
mod run;
mod spool;

pub use run::{Collector, Config};
pub use spool::{Journal, JournalError, Pruned};

use crosswatch_shared::observation::Name;

/// Why a collector cannot work, or works no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The site it is to be for is not in the config.
    #[error("collector: the config has no site '{site}'; name one that it has")]
    UnknownSite {
        /// As asked for.
        site: Name,
    },
    /// The prober cannot send.
    #[error("collector of {site}: {source}")]
    Prober {
        /// Whose.
        site: Name,
        /// Why.
        source: crosswatch_prober::Error,
    },
    /// Targets are given by name, but names cannot be resolved here at all.
    #[error(
        "collector of {site}: names cannot be resolved: /etc/resolv.conf: {why}; correct it, or give addresses"
    )]
    Resolver {
        /// Whose.
        site: Name,
        /// As the resolver says it.
        why: String,
    },
    /// The journal cannot be read.
    #[error(
        "collector of {site}: the journal cannot be read: {why}; see that its folder and disk can be used"
    )]
    Journal {
        /// Whose.
        site: Name,
        /// As the journal says it.
        why: String,
    },
    /// The site's collector cannot be run once.
    #[error("collector of {site}: {why}")]
    NotOnce {
        /// Whose.
        site: Name,
        /// Why, and the way out.
        why: &'static str,
    },
    /// The journal panicked.
    #[error("collector of {site}: the journal ended by a defect: {why}; restart the process")]
    Defect {
        /// Whose.
        site: Name,
        /// As the runtime tells it.
        why: String,
    },
    /// A forwarder's file or the journal cannot be used.
    #[error("collector of {site}, forwarding to the {queue}: {source}")]
    Forwarder {
        /// Whose.
        site: Name,
        /// To which queue: `publisher`, `alerter`, or with a number one more of them.
        queue: String,
        /// As the queue says it.
        source: Box<crosswatch_queue::QueueError>,
    },
    /// The process ends with observations that the journal would not take.
    #[error(
        "collector of {site}: {lost} observations are lost at the end, since the journal takes nothing: {why}"
    )]
    Unwritten {
        /// Whose.
        site: Name,
        /// How many.
        lost: usize,
        /// As the journal says it.
        why: JournalError,
    },
}
