//! Windows: observations to datapoints in event time; pure.
//!
//! [`Windows`] is given observations and each site's event time, and gives out a [`Datapoint`] for every metric, subject
//! and UTC-aligned period once that period is over. It knows neither a clock nor a file: what has to outlive the process
//! it hands over as [`Saved`] and takes back.

mod codec;
mod distribution;
mod metric;
mod tally;
mod values;
mod windows;

pub use metric::{Metric, MetricSet};
pub use values::{MOST_VALUES, Values};
pub use windows::{Datapoint, GRACE, RestoreError, Saved, Taken, Windows};
