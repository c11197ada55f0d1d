//! Faults against the real program: it is killed, stopped, starved of disk and fed what it cannot read, and afterwards
//! every observation, datapoint and notification is accounted for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "faults/audit.rs"]
mod audit;
#[path = "faults/bad_input.rs"]
mod bad_input;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/kill.rs"]
mod kill;
#[path = "faults/poison.rs"]
mod poison;
#[path = "faults/stop.rs"]
mod stop;
#[path = "faults/world.rs"]
mod world;
