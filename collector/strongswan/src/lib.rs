//! The tunnels of a strongSwan, the IKE daemon at the end of a link that is not AWS's.
//!
//! charon, the daemon, is asked over the Unix socket of its [VICI] plugin: which connections it has been given, and which
//! security associations there are. Both calls only list, and neither answer has a place for a secret; nothing else of
//! what an answer holds is kept. It decides nothing about when to ask.
//!
//! ```text
//! client: a connection, its calls ─► packet: what goes over it ─► message: what is in a packet
//!    └─► endpoint: connections and associations to tunnels, pure
//! ```
//!
//! [VICI]: https://github.com/strongswan/strongswan/blob/master/src/libcharon/plugins/vici/README.md

mod client;
mod endpoint;
mod failure;
pub mod message;
pub mod packet;

use std::path::Path;
use std::time::Duration;

pub use client::{Client, Version};
use crosswatch_shared::observation::Tunnel;
use crosswatch_shared::time::Timestamp;
use endpoint::Children;
pub use failure::{Failure, Kind};

/// How long a poll waits for charon where nobody says otherwise. It answers within milliseconds, but waits itself for an
/// IKE SA that another of its threads has in hand, which a name server or RADIUS can hold for seconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often charon is asked for its associations before a tunnel is called down. Its answer is no snapshot: it walks
/// through its IKE SAs one by one, and one that has just replaced another may stand where it has been already. Asked again
/// it has settled.
const ASKED: u32 = 3;

/// The tunnels that carry, or should carry, the child SAs of this name: one for each connection that is configured with
/// such a child and each of its remote addresses, and one for each further peer that has such a child SA. Sorted by
/// outside address.
///
/// `child` may be a glob (`*`, `?`). `now` is the time of the asking, from which the ages in the answer count;
/// `patience` bounds the whole of it. No tunnel at all is an answer, too: nothing of that name is configured.
///
/// - `outside_ip`: the peer's address as the IKE SA has it. Without one as the configuration has it, which may be a name, a
///   network or `%any`.
/// - `up`: a child SA is installed on an established IKE SA. While either is rekeyed, what is being replaced still carries
///   the traffic, and counts.
/// - `accepted_routes`: how many different remote traffic selectors the installed child SAs have. They are what is sent
///   into the tunnel, as AWS's accepted routes are; one whose child SA is being replaced counts once.
/// - `since`: when the oldest of the child SAs that carry was installed, to about a second; rekeying makes it newer.
///   Unknown while down.
/// - `message`: the connection's name and the IKE SA's state, and what is missing or going on.
///
/// # Errors
/// charon could not be asked, or did not answer as VICI is written. The failure's [`Kind`] says in a word what it was.
pub async fn tunnels(
    socket: &Path,
    child: &str,
    now: Timestamp,
    patience: Duration,
) -> Result<Vec<Tunnel>, Failure> {
    let children = Children::new(child);
    let ask = async {
        let mut client = Client::connect(socket, patience).await?;
        let connections = client.list_conns(&children).await?;
        let mut seen = Vec::new();
        for _ in 0..ASKED {
            seen = endpoint::tunnels(&connections, &client.list_sas(&children).await?, now);
            if seen.iter().all(|tunnel| tunnel.up) {
                break;
            }
        }
        Ok(seen)
    };
    // Each step has the same bound: this one is for all of them together.
    match tokio::time::timeout(patience, ask).await {
        Ok(done) => done,
        Err(_) => Err(Failure::timeout(socket, patience)),
    }
}
