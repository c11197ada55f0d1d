//! Batches to write.

use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;

/// A batch of `observations` probes, made in the seconds from `at` on, one each.
pub(crate) fn batch(number: u64, at: i64, observations: u64) -> Batch {
    let observation = |index: u64| Observation {
        at: Timestamp::from_secs(at + index as i64),
        seq: number * 1_000 + index,
        body: Body::Probe {
            link: "a-b".into(),
            probe: "icmp:10.1.0.10".into(),
            outcome: Outcome::Reply { rtt_ms: 81.7 },
            detail: None,
        },
    };
    Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "0193".into() },
        number,
        through: Timestamp::from_secs(at + observations as i64),
        observations: (0..observations).map(observation).collect(),
    }
}
