//! Why it paged, or why not: datapoints, thresholds, evidence and ledger entries behind the state of a subject, a link or an
//! incident.
//!
//! ```text
//! alerter's file ─┐
//!                 ├► explanation (data) ─► words
//! journals ─► rehearsal (the alerter's own, in virtual time) ─┘
//! ```
//!
//! [`explain`] makes an [`Explanation`], which is data for a page or a program; [`words()`] tells it to a person. As things are now
//! the alerter's own file says it. What is past is judged anew from the journals by the same code; what was told then still
//! comes from the alerter's file. All of it only reads, beside running stages or after them.

mod asked;
mod explanation;
mod history;
mod made;
mod words;

pub use asked::NotKnown;
pub use explanation::{
    Baseline, Basis, Breach, Datapoint, Explanation, Judged, Kind, Moment, Site, Subject, Transition,
};
pub use made::{Ask, ExplainError, explain};
pub use words::words;
