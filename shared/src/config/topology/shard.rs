//! Which of a stage's queues a link's observations go to.

/// The place of a link's queue among `count` of them: FNV-1a 64 of its name, modulo `count`; 0 where there are none.
///
/// Every collector must come to the same queue, since the verdicts of a link need both of its directions; so this is
/// part of the wire form, and not changed.
#[must_use]
pub fn shard(link: &str, count: usize) -> usize {
    // http://www.isthe.com/chongo/tech/comp/fnv/
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = link.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(hash % count).unwrap_or(0)
}

/// What the process that reads a stage's queue at this place is called, the queue with it: `alerter`, and `alerter-2` for
/// the second of several.
#[must_use]
pub fn worker(stage: &str, place: usize) -> String {
    if place == 0 { stage.to_owned() } else { format!("{stage}-{}", place + 1) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::topology::{Link, Queue, QueueKind, Topology};

    #[test]
    fn a_link_has_the_queue_that_it_always_had() {
        // The vectors of the function's authors: "" is the basis, "a" 0xaf63dc4c8601ec8c, "foobar" 0x85944171f73967e8.
        let million = 1_000_000;
        assert_eq!(shard("", million), (0xcbf2_9ce4_8422_2325_u64 % 1_000_000) as usize);
        assert_eq!(shard("a", million), (0xaf63_dc4c_8601_ec8c_u64 % 1_000_000) as usize);
        assert_eq!(shard("foobar", million), (0x8594_4171_f739_67e8_u64 % 1_000_000) as usize);
        assert_eq!((shard("use1-euw1", 1), shard("use1-euw1", 0)), (0, 0));
    }

    #[test]
    fn each_link_is_of_one_worker_and_the_first_has_the_stages_name() {
        let link = |number: u32| Link {
            name: format!("link-{number}").into(),
            between: Vec::new(),
            vpns: Vec::new(),
            appliances: Vec::new(),
            probes: Vec::new(),
        };
        let topology = Topology {
            sites: Vec::new(),
            links: (0..100).map(link).collect(),
            queue: Queue {
                path: "data".into(),
                kind: QueueKind::Embedded,
                keep: Duration::from_secs(1),
                max_bytes: 1,
            },
            listen: None,
        };
        let shares = (0..3).map(|place| topology.clone().of_queue(place, 3).links);
        let mut links: Vec<_> = shares.flatten().map(|link| link.name).collect();
        links.sort();
        let mut all: Vec<_> = topology.links.iter().map(|link| link.name.clone()).collect();
        all.sort();
        assert_eq!(links, all);
        assert_eq!([0, 1].map(|place| worker("alerter", place)), ["alerter", "alerter-2"]);
    }

    #[test]
    fn links_are_spread() {
        let mut counts = [0; 4];
        for number in 0..1_000 {
            counts[shard(&format!("link-{number}"), 4)] += 1;
        }
        assert!(counts.iter().all(|&count| count > 150), "{counts:?}");
    }
}
