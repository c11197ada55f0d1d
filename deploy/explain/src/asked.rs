//! What is asked for: a name found among links, subjects, sites and incidents, or the nearest of them.

use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::config::values::{nearest, short};

/// The least of an incident's id that is taken for its beginning.
const BEGINNING: usize = 4;

/// Something that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Link(String),
    /// A rule's subject, with the link it belongs to; a site's and the alerter's own belong to none.
    Subject {
        subject: String,
        link: Option<String>,
    },
    /// An id, or the beginning of one.
    Incident(String),
}

/// There is nothing of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is called '{}': no link, no subject of a rule, no incident; {way_out}", short(asked))]
pub struct NotKnown {
    asked: String,
    way_out: String,
}

/// Finds a name. `seen` are the subjects that exist only since they were observed.
pub(crate) fn find(asked: &str, topology: &Topology, seen: &[String]) -> Asked {
    if topology.links.iter().any(|link| &*link.name == asked) {
        return Asked::Link(asked.to_owned());
    }
    let found = subjects(topology).into_iter().find(|(subject, _)| subject == asked);
    let of_seen = || {
        let subject = seen.iter().find(|subject| *subject == asked)?;
        let (first, _) = subject.split_once('/')?;
        let link = topology.links.iter().find(|link| &*link.name == first);
        Some((subject.clone(), link.map(|link| link.name.to_string())))
    };
    match found.or_else(of_seen) {
        Some((subject, link)) => Asked::Subject { subject, link },
        None => Asked::Incident(asked.to_owned()),
    }
}

/// What the config names, with the link it belongs to.
fn subjects(topology: &Topology) -> Vec<(String, Option<String>)> {
    let probes = topology.probes().map(|(link, probe)| (link, format!("{}/{}", probe.from, probe.name)));
    let vpns = topology.vpns().filter_map(|(link, vpn)| match &vpn.select {
        VpnSelect::Id(id) => Some((link, id.to_string())),
        VpnSelect::Tag(..) => None,
    });
    let appliances = topology.appliances().map(|(link, of)| (link, of.name.to_string()));
    let of_links = probes
        .chain(vpns)
        .chain(appliances)
        .map(|(link, rest)| (format!("{}/{rest}", link.name), Some(link.name.to_string())));
    let sites = topology.sites.iter().map(|site| (site.name.to_string(), None));
    of_links.chain(sites).chain([("alerter".to_owned(), None)]).collect()
}

/// Whether it may be the beginning of an incident's id.
pub(crate) fn may_be_id(asked: &str) -> bool {
    asked.len() >= BEGINNING && asked.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

impl NotKnown {
    /// With the nearest of all there is.
    pub(crate) fn new(asked: &str, topology: &Topology, seen: &[String], ids: &[String]) -> Self {
        let mut known: Vec<String> = topology.links.iter().map(|link| link.name.to_string()).collect();
        known.extend(subjects(topology).into_iter().map(|(subject, _)| subject));
        known.extend(seen.iter().chain(ids).cloned());
        let way_out = match nearest(asked, known.iter().map(String::as_str)) {
            Some(nearest) => format!("the nearest is '{nearest}'"),
            None => "'crosswatch status' lists links and their subjects, notifications have an incident's id"
                .to_owned(),
        };
        Self { asked: asked.to_owned(), way_out }
    }

    /// Several incidents' ids begin like this.
    pub(crate) fn several(asked: &str) -> Self {
        Self {
            asked: asked.to_owned(),
            way_out: "several incidents' ids begin so: write more of it".to_owned(),
        }
    }
}
