//! How many CloudWatch alarms a config has.

use std::collections::HashSet;

use crosswatch_shared::config::topology::Topology;
use serde::Serialize;

/// Alarms by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alarms {
    /// Of 60 s or longer.
    pub standard: usize,
    /// Of less than 60 s.
    pub high_resolution: usize,
    /// Made of other alarms.
    pub composite: usize,
}

/// The sites that poll EC2.
pub(crate) fn polling(topology: &Topology) -> HashSet<&str> {
    topology.vpns().map(|(_, vpn)| &*vpn.site).collect()
}
