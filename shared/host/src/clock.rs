//! The clocks, read by the loops alone and passed on from there.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crosswatch_shared::time::Timestamp;

/// The clocks of a loop that can be simulated: the machine's, or others. Clones are one.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn machine() -> Self {
        Self::with_wall(now)
    }

    /// With another wall clock.
    pub fn with_wall(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(wall) }
    }

    /// The wall clock's time now.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// Steady time now. It is the runtime's, so that it and the runtime's timers never disagree: a simulation that stops and
    /// moves the one does so with the other.
    #[must_use]
    pub fn steady(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.wall()).finish()
    }
}

/// The wall clock's time now.
#[must_use]
pub fn now() -> Timestamp {
    SystemTime::now().into()
}
