//! What an operator relies on: each observation in one datapoint, whatever happens in between.

mod aggregate;
mod cloudwatch;
mod put_back;
mod run;
mod standin;

use std::time::Duration;

use crosswatch_shared::config::topology::{
    Host, Link, Probe, Queue, QueueKind, Site, Target, Topology, Vpn, VpnSelect,
};
use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::Metric;
use rusqlite::Connection;

use crate::config::Config;
use crate::sink::Keep;

fn topology() -> Topology {
    let every = Duration::from_secs(1);
    let probe = |from: &str| Probe {
        name: "p".into(),
        from: from.into(),
        target: Target::Icmp(Host::Name("peer".to_owned())),
        every,
        timeout: every,
        burst: 1,
        size: None,
    };
    Topology {
        sites: ["a", "b"]
            .map(|name| Site { name: name.into(), region: None, role: None, topic: None })
            .into(),
        links: vec![Link {
            name: "l".into(),
            between: vec!["a".into(), "b".into()],
            appliances: Vec::new(),
            vpns: vec![Vpn {
                site: "a".into(),
                select: VpnSelect::Id("vpn-0".into()),
                every,
                expect_up: 2,
                region: None,
                role: None,
            }],
            probes: vec![probe("a"), probe("b")],
        }],
        queue: Queue { path: "data".into(), kind: QueueKind::Embedded, keep: every, max_bytes: 0 },
        listen: None,
    }
}

fn config() -> Config {
    Config { publish: Metric::ALL.into(), ..Config::default() }
}

const KEEP: Keep = Keep { time: Duration::from_secs(90 * 24 * 3600), max_bytes: None };

fn secs(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// 2026-11-22, a whole hour.
const BEGIN: i64 = 1_795_330_800;
const NOW: Timestamp = Timestamp::from_secs(BEGIN + 3_600);

fn batch(site: &str, boot: &str, number: u64, through: i64, observations: Vec<Observation>) -> Batch {
    Batch {
        origin: Origin { site: site.into(), collector: "c".into(), boot: boot.into() },
        number,
        through: secs(BEGIN + through),
        observations,
    }
}

fn reply(at: i64, rtt_ms: f64) -> Observation {
    probe("l", at, Outcome::Reply { rtt_ms })
}

fn probe(link: &str, at: i64, outcome: Outcome) -> Observation {
    let body = Body::Probe { link: link.into(), probe: "p".into(), outcome, detail: None };
    Observation { at: secs(BEGIN + at), seq: at.cast_unsigned(), body }
}

/// Everything the file holds, bit for bit.
fn contents(db: &Connection) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT metric || dimensions || start || ' ' || period || ' ' || part || ' ' || count || hex(samples)
             FROM datapoint JOIN series ON series = id ORDER BY metric, dimensions, start, period, part",
        "SELECT key || hex(value) FROM window_state ORDER BY key",
        "SELECT site || state FROM event_time ORDER BY site",
    ] {
        let mut rows = db.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        all.extend(rows.map(Result::unwrap));
    }
    all
}
