//! Drills: an observation that was asked for, of which a test page is made. It changes no rule's state and no incident.

use std::time::Duration;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

/// What a drill's id begins with, its text, and the name of its rule where it is for everybody.
pub const DRILL: &str = "drill";

/// An older one is passed over: nobody waits for it any more, and it may be night by now.
pub const PASSED: Duration = Duration::from_secs(600);

/// A drill that came in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drill {
    /// Begins with [`DRILL`], so that no incident is called so.
    pub(crate) id: Name,
    /// The rule whose receivers are told; without one all are.
    pub(crate) rule: Option<Name>,
    /// The site whose collector observed it.
    pub(crate) site: Name,
    /// When it did.
    pub(crate) at: Timestamp,
}

impl Drill {
    /// What an observation asks for, unless it is too old or its id is not one of a drill.
    pub(crate) fn of(
        id: &Name,
        rule: Option<&Name>,
        site: &Name,
        at: Timestamp,
        now: Timestamp,
    ) -> Option<Self> {
        if now.since(at) > PASSED || !id.starts_with("drill-") {
            tracing::warn!(%id, %site, %at, "a drill is passed over: it is older than ten minutes, or its id is none");
            return None;
        }
        Some(Self { id: id.clone(), rule: rule.cloned(), site: site.clone(), at })
    }
}
