//! What a charon is told of one tunnel: a section of swanctl.conf.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::network::Network;

/// The name of each connection's child.
pub const CHILD: &str = "net";

/// One tunnel, from one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name at this end.
    pub name: String,
    /// What tells its policies from those of the other tunnels of this charon: not 0.
    pub reqid: u32,
    /// The own outside address.
    pub local: Ipv4Addr,
    /// The other's.
    pub remote: Ipv4Addr,
    /// The networks at this end.
    pub local_networks: Vec<Network>,
    /// Those at the other.
    pub remote_networks: Vec<Network>,
    /// When the peer is dead.
    pub detection: Detection,
    /// Whether this end tries for ever to have the tunnel up again after the peer was dead; one end should.
    pub persistent: bool,
}

/// How the death of a peer is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// So long after the last sign of life the peer is asked; whole seconds.
    pub every: Duration,
    /// So long after that, without an answer to any question, it is dead.
    pub give_up: Duration,
    /// So many questions are put in that time, evenly; at least one.
    pub questions: u32,
}

impl Default for Detection {
    /// A death is found within 4 s. AWS takes 30 to 40 s.
    fn default() -> Self {
        Self { every: Duration::from_secs(1), give_up: Duration::from_secs(2), questions: 4 }
    }
}

impl Connection {
    /// As swanctl.conf has it. Algorithms are those of which Debian's own package of libstrongswan is capable.
    pub(crate) fn section(&self) -> String {
        let Self { name, reqid, local, remote, local_networks, remote_networks, detection, persistent } =
            self;
        let (local_ts, remote_ts) = (list(local_networks), list(remote_networks));
        let every = detection.every.as_secs().max(1);
        let action = if *persistent { "restart" } else { "clear" };
        format!(
            " {name} {{\n  version = 2\n  proposals = aes128-sha256-modp2048\n  local_addrs = {local}\n  \
             remote_addrs = {remote}\n  encap = yes\n  mobike = no\n  keyingtries = 0\n  dpd_delay = {every}s\n  \
             local {{\n   auth = psk\n   id = {local}\n  }}\n  remote {{\n   auth = psk\n   id = {remote}\n  }}\n  \
             children {{\n   {CHILD} {{\n    esp_proposals = aes128-sha256\n    mode = tunnel\n    reqid = {reqid}\n    \
             local_ts = {local_ts}\n    remote_ts = {remote_ts}\n    dpd_action = {action}\n   }}\n  }}\n }}\n"
        )
    }
}

fn list(networks: &[Network]) -> String {
    networks.iter().map(Network::to_string).collect::<Vec<_>>().join(",")
}
