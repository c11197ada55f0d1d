//! A laboratory: two regions, a WAN between them and a centre with a local AWS, on one machine.
//!
//! Each region is a network namespace with its collector, and so is the centre, with publisher, alerter and the local
//! AWS. The regions reach each other only over the WAN, a forwarder that delays, by two IPsec tunnels, and each reaches the
//! centre over a way of its own. Parts of it can be broken and healed. Needs root, and Debian's iproute2 and nftables, and
//! strongSwan for the tunnels.
//!
//! ```text
//! us-east-1 (10.0.0.10) ══ two tunnels over the wan: 40 ms each way ══ (10.1.0.10) eu-west-1
//!          │                                                                 │
//!          └────────────────── centre: AWS at 172.31.0.1:4566 ───────────────┘
//! ```

mod aws;
mod config;
mod error;
mod fault;
mod folder;
mod gate;
mod http;
mod lab;
mod lives;
mod namespace;
mod network;
mod options;
mod process;
mod record;
mod site;
mod status;
mod tunnels;
pub mod wan;

pub use aws::Resources;
pub use error::Error;
pub use fault::{Fault, SERVICES, Tunnel, VPN};
pub use gate::Gate;
pub use lab::Lab;
pub use namespace::Namespace;
pub use options::Options;
pub use process::Process;
pub use record::Cloud;
pub use site::{AWS, HOST_PORT, REFLECTOR_PORT, Site};
pub use status::Status;
pub use tunnels::{follow, missing};
