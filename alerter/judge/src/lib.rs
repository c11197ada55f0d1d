//! The judge: rules applied to observations in event time, giving transitions; pure.

pub mod rule;
