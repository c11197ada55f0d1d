//! What a config costs a month on AWS, line by line, beside the same probes bought as Network Synthetic Monitor.
//!
//! [`bill`](bill::bill) counts what there is from the config ([`alarms`] counts the alarms) and multiplies it by the dated table in
//! [`prices`]. It knows no clock and asks nobody: the same config gives the same bill.

pub mod alarms;
pub mod bill;
pub mod prices;

#[cfg(test)]
mod tests;

pub use alarms::Alarms;
pub use bill::{Bill, Deployment, Line, Network, Options, bill};
