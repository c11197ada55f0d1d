//! What crosses a process boundary in Crosswatch: observations, their wire form, event time, and the configuration.
//!
//! Begin with [`observation`]: what a collector saw, and the batches it is sent in. [`wire`] is their JSON, [`event_time`]
//! how far a site's observations are known to be complete, [`config`] how the one TOML file is read,
//! [`evidence`] what was seen of a target when a probe to it was lost, [`told`] what one alerter says to the other. [`time`] and
//! [`ranges`] are what all of these count with.
//!
//! Everything here is pure: no clock, no socket, no file.

pub mod config;
pub mod event_time;
pub mod evidence;
pub mod observation;
pub mod ranges;
pub mod time;
pub mod told;
pub mod wire;
