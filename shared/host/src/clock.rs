//! The wall clock, read by the loops alone and passed on from there.

use std::time::SystemTime;

use crosswatch_shared::time::Timestamp;

/// The wall clock's time now.
#[must_use]
pub fn now() -> Timestamp {
    SystemTime::now().into()
}
