//! `collector --once`: one poll of a site's VPN connections, written down and forwarded, and the end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use crosswatch_collector::once;
use crosswatch_host::health::Health;
use crosswatch_host::telemetry;
use crosswatch_shared::config::topology::QueueKind;
use crosswatch_shared::observation::Name;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::{aws, forward, run};

/// How long the queues may take. What they have not taken then stays in the journal, for the next run.
const FORWARDING: Duration = Duration::from_secs(20);

/// A queue did not take everything.
#[derive(Debug, thiserror::Error)]
#[error("not everything was taken within {} s by: {queues}; what is left stays in the journal for the next run", FORWARDING.as_secs())]
pub(crate) struct Left {
    queues: String,
}

/// Polls, writes, forwards. The journal is in `data`, or where the config says, which a function's machine may not have.
pub(crate) fn run(mut config: Config, site: Name, data: Option<PathBuf>) -> anyhow::Result<()> {
    telemetry::logs().map_err(anyhow::Error::msg)?;
    let site = run::known_site(&config, site)?;
    once::check(&site, &config.topology)?;
    let named = if data.is_some() { "--data" } else { "[queue] path" };
    if let Some(data) = data {
        config.topology.queue.path = data;
    }
    let folder = &config.topology.queue.path;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {} of {named}", folder.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(poll_and_forward(&config, &site))
}

async fn poll_and_forward(config: &Config, site: &Name) -> anyhow::Result<()> {
    let topology = &config.topology;
    let session = aws::session().await;
    let mut journal = run::journal(&topology.queue, site)?;
    once::poll(site, topology, session.clone(), &mut journal).await?;
    if topology.queue.kind == QueueKind::Embedded {
        return Ok(());
    }
    let mut registry = telemetry::registry();
    let metrics = crosswatch_collector::forward::metrics::Metrics::register(&mut registry);
    let forwarding = forward::open(topology, site, &HashMap::new(), session, &metrics, &Health::default())?;
    let mut tasks = JoinSet::new();
    let mut left: Vec<String> = Vec::new();
    for (name, forwarder) in forwarding.forwarders {
        left.push(name.clone());
        tasks.spawn(async move { (name, forwarder.drain().await) });
    }
    let draining = async {
        while let Some(drained) = tasks.join_next().await {
            let (name, drained) = drained.context("a forwarder ended by a defect")?;
            drained?;
            left.retain(|of| *of != name);
        }
        anyhow::Ok(())
    };
    if let Ok(drained) = tokio::time::timeout(FORWARDING, draining).await {
        return drained;
    }
    Err(Left { queues: left.join(", ") }.into())
}
