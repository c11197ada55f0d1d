//! What a lab is to be like.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::lab::Lab;
use crate::record::Cloud;

/// What a lab is to be like.
pub struct Options {
    /// Where config, logs, data and the lab's record go; made if absent. It must be empty, or a lab's that is down,
    /// whose config, logs and data are then replaced.
    pub folder: PathBuf,
    /// `crosswatch`, or what stands in for it.
    pub program: PathBuf,
    /// `lab`, which is also the WAN's forwarder.
    pub lab: PathBuf,
    /// Which AWS there is.
    pub cloud: Cloud,
    /// Whether the regions reach each other over the WAN as it is, instead of by IPsec tunnels, of which both ends are watched,
    /// and without reflectors.
    pub plain: bool,
    /// The delay of the WAN each way.
    pub delay: Duration,
    /// How often each probe is sent.
    pub every: Duration,
    /// Gets the config's text and gives the one that is written.
    pub change_config: Box<dyn FnOnce(String) -> String>,
    /// Called once network, WAN, AWS and config are there, before the stages are started.
    pub prepare: Box<dyn FnOnce(&Lab)>,
}

impl Options {
    /// Tunnels, 40 ms each way, a probe a second, the config as it is, and no AWS.
    #[must_use]
    pub fn new(folder: PathBuf, program: PathBuf, lab: PathBuf) -> Self {
        Self {
            folder,
            program,
            lab,
            cloud: Cloud::None,
            plain: false,
            delay: Duration::from_millis(40),
            every: Duration::from_secs(1),
            change_config: Box::new(|text| text),
            prepare: Box::new(|_| ()),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, program, lab, cloud, plain, delay, every, change_config: _, prepare: _ } = self;
        f.debug_struct("Options")
            .field("folder", folder)
            .field("program", program)
            .field("lab", lab)
            .field("cloud", cloud)
            .field("plain", plain)
            .field("delay", delay)
            .field("every", every)
            .finish_non_exhaustive()
    }
}
