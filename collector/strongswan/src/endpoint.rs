//! From connections and security associations to tunnels. Pure.
//!
//! A connection has endpoints: the peers' addresses as it is configured. An IKE SA has the peer's address as it is, which
//! is one of those, or another: the configuration may have a name, a network or `%any`, and a peer may move (MOBIKE). One
//! from elsewhere takes the place of an endpoint of its connection that has none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crosswatch_shared::observation::Tunnel;
use crosswatch_shared::time::Timestamp;
use wildmatch::WildMatch;

use crate::message::Section;

/// Which child SAs are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Children {
    name: String,
    glob: WildMatch,
}

/// A connection of charon's configuration that has such children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    name: String,
    /// The peers' addresses, or what stands for them.
    remotes: Vec<String>,
}

/// An IKE SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Association {
    connection: String,
    remote: String,
    state: String,
    /// The child SAs that were asked for.
    children: Vec<Child>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Child {
    state: String,
    remote_ts: Vec<String>,
    /// How many seconds ago it was installed.
    installed: Option<i64>,
}

/// How far an IKE SA has come, from what tells least to what tells most. Which states there are: `ike_sa_state_t` in
/// strongSwan's `ike_sa.h`, `child_sa_state_t` in `child_sa.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Anything else: on its way out, replaced, or kept for another node.
    Other,
    /// Not agreed yet.
    Connecting,
    /// Agreed, and without such a child SA.
    Agreed,
    /// Carries, by a child SA that is being replaced.
    Rekeying,
    /// Carries.
    Carries,
}

impl Children {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), glob: WildMatch::new(name) }
    }

    /// The one name there is, if it is no glob: charon then sends nothing of the others.
    pub(crate) fn exact(&self) -> Option<&str> {
        (!self.name.contains(['*', '?'])).then_some(&*self.name)
    }

    fn has(&self, name: &str) -> bool {
        self.glob.matches(name)
    }
}

impl Connection {
    /// From a section of `list-conn`; `None` if it has no such child.
    pub(crate) fn read(name: &str, section: &Section, children: &Children) -> Option<Self> {
        section.section("children")?.sections().find(|(child, _)| children.has(child))?;
        let mut remotes = Vec::new();
        for remote in section.list("remote_addrs") {
            if !remotes.contains(remote) {
                remotes.push(remote.clone());
            }
        }
        if remotes.is_empty() {
            remotes.push("%any".to_owned());
        }
        Some(Self { name: name.to_owned(), remotes })
    }
}

impl Association {
    /// From a section of `list-sa`.
    pub(crate) fn read(name: &str, section: &Section, children: &Children) -> Result<Self, String> {
        let field = |field| {
            let text = section.text(field).map(str::to_owned);
            text.ok_or_else(|| format!("the IKE SA of connection {name} has no {field}"))
        };
        let mut of = Vec::new();
        for (unique, child) in section.section("child-sas").into_iter().flat_map(Section::sections) {
            // charon before 5.3.3 gave no name and no unique names of sections.
            if children.has(child.text("name").unwrap_or(unique)) {
                of.push(Child::read(unique, child)?);
            }
        }
        Ok(Self {
            connection: name.to_owned(),
            remote: field("remote-host")?,
            state: field("state")?,
            children: of,
        })
    }

    fn stage(&self) -> Stage {
        let carrying = |state: &str| self.children.iter().any(|child| child.state == state);
        match &*self.state {
            "ESTABLISHED" if carrying("INSTALLED") => Stage::Carries,
            // Its child SAs move to the new one once that is there. UPDATING is a child SA whose addresses change.
            "ESTABLISHED" | "REKEYING" if self.carrying().next().is_some() => Stage::Rekeying,
            "ESTABLISHED" | "REKEYING" => Stage::Agreed,
            "CREATED" | "CONNECTING" => Stage::Connecting,
            _ => Stage::Other,
        }
    }

    /// The child SAs through which packets go, provided that the IKE SA stands.
    fn carrying(&self) -> impl Iterator<Item = &Child> {
        self.children.iter().filter(|child| matches!(&*child.state, "INSTALLED" | "REKEYING" | "UPDATING"))
    }
}

impl Child {
    fn read(name: &str, section: &Section) -> Result<Self, String> {
        let state = section.text("state").ok_or_else(|| format!("the child SA {name} has no state"))?;
        Ok(Self {
            state: state.to_owned(),
            remote_ts: section.list("remote-ts").to_vec(),
            installed: section.text("install-time").and_then(|seconds| seconds.parse().ok()),
        })
    }
}

/// One for each endpoint of each connection, and one for each peer beyond them that has such a child SA.
pub(crate) fn tunnels(
    connections: &[Connection],
    associations: &[Association],
    now: Timestamp,
) -> Vec<Tunnel> {
    // By connection and by the peer's address as charon writes it.
    let mut peers: BTreeMap<&str, BTreeMap<&str, Vec<&Association>>> = BTreeMap::new();
    for association in associations {
        let of = peers.entry(&association.connection).or_default();
        of.entry(&association.remote).or_default().push(association);
    }
    let mut found: Vec<(&str, Tunnel)> = Vec::new();
    for connection in connections {
        let mut peers = peers.remove(&*connection.name).unwrap_or_default();
        let mut vacant = Vec::new();
        for remote in &connection.remotes {
            match take(&mut peers, remote) {
                Some((remote, of)) => {
                    found.push((&connection.name, tunnel(remote, &connection.name, &of, now)))
                }
                None => vacant.push(remote),
            }
        }
        // What is no address is taken first: it stands for whichever peer there is.
        vacant.sort_by_key(|remote| remote.parse::<IpAddr>().is_ok());
        let mut vacant = vacant.into_iter();
        for (remote, of) in peers {
            vacant.next();
            found.push((&connection.name, tunnel(remote, &connection.name, &of, now)));
        }
        for remote in vacant {
            found.push((&connection.name, tunnel(remote, &connection.name, &[], now)));
        }
    }
    // Of connections that are configured no more.
    for (name, peers) in peers {
        for (remote, of) in peers {
            if of.iter().any(|association| !association.children.is_empty()) {
                found.push((name, tunnel(remote, name, &of, now)));
            }
        }
    }
    found.sort_by(|(name, tunnel), (other, than)| (&tunnel.outside_ip, name).cmp(&(&than.outside_ip, other)));
    found.into_iter().map(|(_, tunnel)| tunnel).collect()
}

/// The associations with this endpoint. An address may be written in two ways.
fn take<'a>(
    peers: &mut BTreeMap<&'a str, Vec<&'a Association>>,
    remote: &str,
) -> Option<(&'a str, Vec<&'a Association>)> {
    let address = remote.parse::<IpAddr>().ok();
    let is = |peer: &str| peer == remote || (address.is_some() && peer.parse().ok() == address);
    let peer = peers.keys().copied().find(|peer| is(peer))?;
    peers.remove_entry(peer)
}

fn tunnel(remote: &str, connection: &str, of: &[&Association], now: Timestamp) -> Tunnel {
    let best = of.iter().max_by_key(|association| association.stage());
    let stage = best.map(|best| best.stage());
    let carrying = || {
        let standing = of.iter().filter(|association| association.stage() >= Stage::Rekeying);
        standing.flat_map(|association| association.carrying())
    };
    let routes: BTreeSet<&String> = carrying().flat_map(|child| &child.remote_ts).collect();
    let oldest = carrying().filter_map(|child| child.installed).max();
    let state = match (best, stage) {
        (Some(best), Some(Stage::Rekeying)) => format!("IKE {}, rekeying", best.state),
        (Some(best), Some(Stage::Agreed)) => match best.children.first() {
            Some(child) => format!("IKE {}, child SA {}", best.state, child.state),
            None => format!("IKE {}, no child SA", best.state),
        },
        (Some(best), _) => format!("IKE {}", best.state),
        (None, _) => "no IKE SA".to_owned(),
    };
    Tunnel {
        outside_ip: remote.to_owned(),
        up: stage >= Some(Stage::Rekeying),
        accepted_routes: u32::try_from(routes.len()).unwrap_or(u32::MAX),
        since: oldest.map(|seconds| {
            Timestamp::from_micros(now.as_micros().saturating_sub(seconds.saturating_mul(1_000_000)))
        }),
        message: format!("{connection}: {state}"),
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
