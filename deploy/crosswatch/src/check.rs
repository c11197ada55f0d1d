//! `check`: validates a config, and says what it would do; `--aws` and `--probe` try it.

pub(crate) mod aws;
pub(crate) mod probe;

use std::io::{self, Write};

use crosswatch_alerter::config::{Secret, Template};
use crosswatch_alerter::silences;
use crosswatch_shared::config::topology::{Appliance, QueueKind, VpnSelect};

use crate::config::Config;
use crate::silence;

/// Prints what a valid config watches, judges and tells, and what of it may not be as it is meant.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let Config { topology, metrics, alerts, .. } = config;
    for link in &topology.links {
        writeln!(out, "link {} between {}", link.name, link.between.join(" and "))?;
        for probe in &link.probes {
            writeln!(
                out,
                "  probe {}/{}/{} every {:?}, waiting {:?}",
                link.name, probe.from, probe.name, probe.every, probe.timeout
            )?;
        }
        for vpn in &link.vpns {
            let id = match &vpn.select {
                VpnSelect::Id(id) => id.to_string(),
                VpnSelect::Tag(key, value) => format!("with tag {key}={value}"),
            };
            writeln!(out, "  VPN connection {id} from {} every {:?}", vpn.site, vpn.every)?;
        }
        for appliance in &link.appliances {
            let Appliance { socket, child, site, every, .. } = appliance;
            writeln!(
                out,
                "  tunnels of strongSwan's {child} at {} from {site} every {every:?}",
                socket.display()
            )?;
        }
    }
    for configured in &alerts.rules {
        let notify = match configured.notify.as_slice() {
            [] => "nobody (on trial)".to_owned(),
            names => names.join(", "),
        };
        writeln!(out, "rule {} on {} tells {notify}", configured.rule.name, configured.rule.metric.word())?;
    }
    for silence in silence::all(config)? {
        writeln!(out, "silence {} of {}: {}", silence.id, silences::covers(&silence), silence.why)?;
    }
    let publish: Vec<_> = metrics.publish.iter().map(|name| name.word()).collect();
    writeln!(out, "metrics every {:?}: {}", metrics.period, publish.join(" "))?;
    if let Some(page) = &config.page {
        let to_whom = if page.token_file.is_some() { "to who has the token" } else { "to this machine" };
        writeln!(out, "status page {to_whom}")?;
    }
    let token = config.page.iter().filter_map(|page| page.token_file.as_deref());
    let token =
        token.filter_map(|file| crosswatch_console::config::token(file).err()).map(|error| error.to_string());
    for warning in warnings(config).into_iter().chain(unreadable(&config.alerts)).chain(token) {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "the config is valid")?;
    Ok(())
}

/// The secrets in files that cannot be read here. Where the alerter runs elsewhere, nothing is wrong with that.
fn unreadable(alerts: &crosswatch_alerter::config::Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut look = |of: &str, secret: &Secret| {
        if let Err(error) = secret.read() {
            warnings.push(format!("{of}: {error}"));
        }
    };
    for receiver in &alerts.receivers {
        let key = match &receiver.template {
            Template::PagerDuty { key, .. } | Template::Opsgenie { key, .. } => Some(key),
            Template::Plain | Template::Slack => None,
        };
        for secret in receiver.webhook.iter().chain(key) {
            look(&format!("notify.{}", receiver.name), secret);
        }
    }
    for url in alerts.heartbeat.iter().flat_map(|heartbeat| &heartbeat.urls) {
        look("heartbeat", url);
    }
    warnings
}

/// What a valid config asks for that cannot be done, or not as it may be meant.
pub(crate) fn warnings(Config { topology, .. }: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if topology.queue.kind != QueueKind::Embedded {
        for site in topology.sites.iter().filter(|site| site.topic.is_none()) {
            warnings.push(format!(
                "site {0}: its collector can tell nobody when it reaches no alerter: give [site.{0}] topic an SNS topic of \
                 its own region",
                site.name
            ));
        }
    }
    for (link, vpn) in topology.vpns().filter(|(_, vpn)| topology.account(vpn).0.is_none()) {
        warnings.push(format!(
            "link {}: no region is given for the VPN connection at {}: it is polled in the one that the environment \
             names; [site.{}] region = \"…\" sets one",
            link.name, vpn.site, vpn.site
        ));
    }
    warnings
}
