//! The WAN between the regions: a forwarder that copies packets between the two regions' TUN devices, late or not at all,
//! and the socket by which it is told how.
//!
//! It is a process of its own, `lab wan`. Besides it has in each region the host that probes reach: the kernel answers
//! pings, and this process takes TCP connections, so that neither depends on a collector.

mod control;
mod forward;
mod line;
mod record;
mod tun;

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

pub use control::{Report, Wan};
pub use line::{Counts, LONGEST_QUEUE, Policy};
pub use record::{Passage, read};

use crate::Site;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::site::HOST_PORT;

/// The name of each region's TUN device.
pub(crate) const DEVICE: &str = "wan";

/// The longest delay of one direction.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// What the process is started with.
#[derive(Debug)]
pub struct Options {
    /// The namespaces of [`Site::ALL`]; the devices and addresses are there already.
    pub namespaces: [String; 2],
    /// The control socket, made here.
    pub socket: PathBuf,
    /// What it does each way until it is told otherwise.
    pub policy: Policy,
    /// Makes its choices those of another run with the same packets; `None`: chance.
    pub seed: Option<u64>,
    /// Where each packet that was handed over is written down, as [`Passage`] says; `None`: nowhere.
    pub record: Option<PathBuf>,
}

/// Forwards until the process is ended. It is ready when its socket answers.
///
/// # Errors
/// A device or an address cannot be had, or broke: the namespaces are gone, or another process has them. The policy is out of
/// range, or the record cannot be written.
pub fn serve(options: Options) -> Result<std::convert::Infallible> {
    let range = |range| Error::Range { what: "the WAN's policy", range };
    control::check(&options.policy).map_err(range)?;
    let recorder = options.record.map(record::Recorder::create).transpose()?;
    let namespaces = options.namespaces.map(Namespace::named);
    let mut devices = Vec::new();
    for (site, namespace) in Site::ALL.into_iter().zip(&namespaces) {
        let open = || Ok((tun::attach(DEVICE)?, TcpListener::bind((site.address(), HOST_PORT))?));
        let (device, listener) = namespace.enter(open)?.map_err(|source: std::io::Error| Error::File {
            path: PathBuf::from(format!("{DEVICE} in {}", namespace.name())),
            source,
        })?;
        devices.push(device);
        thread::spawn(move || take_connections(&listener));
    }
    let [near, far] = <[_; 2]>::try_from(devices)
        .map_err(|_| Error::Range { what: "the WAN's devices", range: "two".to_owned() })?;
    let shared = control::Shared::new([options.policy; 2]);
    control::listen(&options.socket, shared.clone())?;
    let source = forward::run([near, far], options.seed, recorder, &shared);
    Err(Error::Service { service: "the WAN", what: "forwarding".to_owned(), why: source.to_string() })
}

/// A host that takes what comes and hangs up: enough for a probe.
fn take_connections(listener: &TcpListener) {
    loop {
        match listener.accept() {
            Ok(connection) => drop(connection),
            // Short of descriptors, or a connection that was gone already: the next may do.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
