//! A strict gate before a local AWS emulator, for tests and for the lab.
//!
//! An emulator is kinder than AWS: it takes what AWS refuses, never fails, and evaluates alarms wrongly. The gate stands
//! before one and refuses what AWS refuses, fails when it is told to, records what it is asked, keeps the alarms itself,
//! and answers for VPN tunnels from a table. What it does not know goes to the emulator as it came.
//!
//! The limits are those of the AWS documentation of each service. Signatures and permissions are not checked.

mod alarm_calls;
mod alarm_puts;
mod alarm_store;
mod alarms;
mod answer;
mod buckets;
mod call;
mod calls;
mod cbor;
mod client;
mod control;
mod ec2;
pub mod faults;
mod gate;
mod metrics;
mod mutes;
pub mod record;
mod sns;
mod sqs;
mod sts;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use alarm_store::{AlarmView, Transition};
pub use client::Control;
pub use ec2::{Tunnel, Vpn};
pub use gate::{Gate, Options};
pub use metrics::Datapoint;
pub use sns::{Message, SmsState};
pub use upstream::Emulator;

/// Why the gate does not start, or its control does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Trying again helps once the address is free.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Trying again helps once the socket can be made, or is no longer in use.
    #[error("cannot make the control socket {path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is called cannot be written down; trying again helps once the folder can be written to.
    #[error("cannot write down calls in {folder}: {source}")]
    Calls {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The emulator cannot be started; trying again does not help.
    #[error("cannot start {program}: {source}; tests/run installs it, or name one with --ministack")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The emulator started and does not answer; trying again may help.
    #[error("{program} does not answer: {why}\n{said}")]
    Emulator {
        /// The program.
        program: PathBuf,
        /// How it ended, or that it did not.
        why: String,
        /// The end of its log.
        said: String,
    },
    /// No client for the emulator can be made; trying again does not help.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// A call on the control socket failed; trying again helps where the gate was not up.
    #[error("{call} on the gate's socket {path}: {why}")]
    Control {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        call: String,
        /// Why it was not done.
        why: String,
    },
}
