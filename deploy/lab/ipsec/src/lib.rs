//! Real IPsec tunnels on one machine: two strongSwans in two network namespaces, and two tunnels between them, as a VPN
//! connection of AWS has.
//!
//! The namespaces, and how they reach each other's outside addresses, are the caller's. ESP goes in UDP and is made in
//! user space (charon's plugin kernel-libipsec), so that the kernel needs nothing but TUN. Needs root, and Debian's
//! strongswan-charon, strongswan-swanctl, libcharon-extra-plugins, iproute2 and nftables.
//!
//! ```text
//! link: both ends, routes, faults ─► charon: one daemon and its files ─► connection: what it is told ─► secret
//! ```
//!
//! Which tunnel is used is a matter of the longest prefix, as between routes: the first has the halves of the network at
//! the other end as its traffic selectors, the second the whole. While the first is up everything goes through it, either
//! way; without it, through the second; without both, nowhere.

mod charon;
mod connection;
mod error;
mod link;
mod network;
mod secret;

pub use charon::{Charon, DEVICE, missing};
pub use connection::{CHILD, Connection, Detection};
pub use error::Error;
pub use link::{Fault, Link, Side, TUNNELS};
pub use network::{Network, NotANetwork};
pub use secret::Secret;
