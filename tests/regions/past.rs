//! What a collector has seen before the lab was there: observations of a former life, in a site's journal and sent to nobody.

use std::time::Duration;

use crosswatch_journal::Writer;
use crosswatch_lab::{Lab, Site};
use crosswatch_shared::observation::{Batch, Body, Name, Observation, Origin, Outcome};

use crate::world::{PROBES, now};

/// A probe a second each, in a batch a second, for so long until now. The journal's writer is the collectors' own.
pub(crate) fn write(lab: &Lab, site: Site, length: Duration) {
    let data = lab.folder().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let mut writer = Writer::open(&data.join("journal"), site.name()).unwrap();
    let origin = Origin {
        site: Name::from(site.name()),
        collector: Name::from("of-the-past"),
        // A life is known by this alone, whoever's it is.
        boot: Name::from(format!("0193504a-0000-7000-8000-{:012}", site.address().octets()[1])),
    };
    let second = Duration::from_secs(1);
    let of_site: Vec<(Name, Name)> = PROBES
        .iter()
        .filter_map(|subject| {
            let (link, rest) = subject.split_once('/').unwrap();
            let (from, probe) = rest.split_once('/').unwrap();
            (from == site.name()).then(|| (link.into(), probe.into()))
        })
        .collect();
    let end = now().floor(second);
    let mut at = end - length;
    let mut seq = 0;
    let mut batches = Vec::new();
    for number in 0.. {
        let observations = of_site.iter().map(|(link, probe)| {
            // Another value for each, all of them good.
            let outcome = Outcome::Reply { rtt_ms: 80.0 + (seq % 1_000) as f64 / 100.0 };
            let body = Body::Probe { link: link.clone(), probe: probe.clone(), outcome, detail: None };
            let observation = Observation { at, seq, body };
            seq += 1;
            observation
        });
        let observations = observations.collect();
        at = at + second;
        batches.push(Batch { origin: origin.clone(), number, through: at, observations });
        if at >= end {
            break;
        }
    }
    for page in batches.chunks(500) {
        writer.append_all(page, now()).unwrap();
    }
}
