//! The publisher: observations from the queue, aggregated into metrics.

pub mod config;
