//! The alerter: rules judged, incidents kept, notifications sent.

pub mod config;
