//! The configuration: one TOML file that describes everything, of which each stage takes its own sections.
//!
//! [`document`] reads the text and collects all that is wrong with it; [`topology`] is what every stage needs. The
//! publisher's and the alerter's sections are read in their own crates, by the same means.

pub mod aws;
pub mod document;
pub mod problem;
mod repair;
mod report;
pub mod topology;
mod value;
pub mod values;

pub use document::read;
pub use problem::{Problem, Problems};
