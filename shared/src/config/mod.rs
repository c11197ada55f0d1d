//! The configuration.

pub mod topology;
