//! What crosses a process boundary in Crosswatch: observations, their wire form, event time, and the configuration.
//!
//! Everything here is pure: no clock, no socket, no file.

pub mod config;
pub mod event_time;
pub mod observation;
pub mod ranges;
pub mod time;
pub mod wire;
