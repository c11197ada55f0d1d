//! A collector that runs once: it polls the site's VPN connections, writes what it saw to the journal, and ends. For where no
//! process can stay, such as a function that a schedule calls.
//!
//! Each run is a boot of its own with one batch. Nothing is probed: a probe's loss means something only beside the probes before
//! and after it.

use crosswatch_aws::Session;
use crosswatch_host::clock;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Body, Name, Origin};

use crate::Error;
use crate::boot;
use crate::pack::{Packer, WAITING};
use crate::poll::Polls;
use crate::rounds::{self, Source};
use crate::run::host_name;
use crate::spool::Journal;
use crate::tunnels::{Plan, Seen};

/// Polls all VPN connections of the site once, and has the journal keep what came of it: the tunnels, and how each account was
/// asked. What EC2 refuses is observed, and no error.
///
/// # Errors
/// The site is not one that [`check`] lets be run once, or the journal takes nothing.
pub async fn poll(
    site: &Name,
    topology: &Topology,
    session: Session,
    journal: &mut dyn Journal,
) -> Result<(), Error> {
    check(site, topology)?;
    let unwritten = |why, lost| Error::Unwritten { site: site.clone(), lost, why };
    let former = journal
        .newest_boot()
        .map_err(|source| Error::Journal { site: site.clone(), why: source.to_string() })?;
    let origin = Origin { site: site.clone(), collector: host_name(), boot: boot::begin(former.as_deref()) };
    let mut packer = Packer::new(origin, WAITING);
    // Nobody else does it where no collector stays. First, so that this run tells of a gap.
    match journal.prune_all(clock::now()) {
        Ok(gaps) => {
            for gap in gaps {
                tracing::error!(%site, "{gap}");
                packer.observe(
                    clock::now(),
                    rounds::collection(Source::Journal, Some(gap), std::time::Duration::ZERO),
                );
            }
        }
        Err(error) => {
            tracing::warn!(%site, %error, "the journal could not be pruned; the next run tries again")
        }
    }

    #[allow(clippy::disallowed_methods, reason = "polls follow the steady clock")]
    let plan = Plan::new(topology, site, std::time::Instant::now());
    let accounts = plan.accounts().count();
    let mut polls = Polls::new(site.clone(), plan);
    polls.set_session(session);
    for _ in 0..accounts {
        // Each call has its own bound.
        let polled = polls.next().await;
        let at = clock::now();
        for Seen { link, vpn, tunnels } in polled.seen {
            packer.observe(at, Body::Tunnels { link, vpn, tunnels });
        }
        packer.observe(at, rounds::collection(Source::Vpn, polled.fault, polled.took));
    }
    packer.promise(clock::now());
    while let Some(batch) = packer.batch() {
        journal.append(&batch).map_err(|why| unwritten(why, batch.observations.len()))?;
        if packer.waiting() == 0 {
            break;
        }
    }
    Ok(())
}

/// Whether the site is one that can be run once.
///
/// # Errors
/// It is not in the config, has other things to do than to poll VPN connections, or has nothing to poll.
pub fn check(site: &Name, topology: &Topology) -> Result<(), Error> {
    if topology.site(site).is_none() {
        return Err(Error::UnknownSite { site: site.clone() });
    }
    let why = if topology.probes().any(|(_, probe)| probe.from == *site) {
        "it sends probes, which takes a process that stays: run its collector without --once, or poll from a site of its own"
    } else if topology.appliances().any(|(_, appliance)| appliance.site == *site) {
        "it asks a strongSwan, which is beside a process that stays: run its collector without --once"
    } else if !topology.vpns().any(|(_, vpn)| vpn.site == *site) {
        "it has no VPN connection to poll: add vpn = [{ site = \"…\", id = \"vpn-…\" }] to a link"
    } else {
        return Ok(());
    };
    Err(Error::NotOnce { site: site.clone(), why })
}
