//! `dashboard cloudwatch`: the body of a CloudWatch dashboard made from the config, for who looks there anyway.

use std::io::{self, Write};

use anyhow::ensure;
use crosswatch_publisher::config::Kind;
use crosswatch_shared::config::topology::{Link, VpnSelect};
use serde_json::{Value, json};

use crate::config::Config;

/// How wide a dashboard is, and how high a graph, in CloudWatch's units.
const WIDE: u64 = 24;
const HIGH: u64 = 6;
/// How many metrics a dashboard has at most.
const METRICS: usize = 2_500;

/// Prints the body, for `aws cloudwatch put-dashboard --dashboard-body`.
pub(crate) fn cloudwatch(config: &Config) -> anyhow::Result<()> {
    let metrics = &config.metrics;
    ensure!(
        metrics.kind == Kind::CloudWatch,
        "a dashboard of CloudWatch needs [metrics] kind = \"cloudwatch\"; the status page ([page]) needs nothing"
    );
    let region = metrics.region.clone().or_else(|| std::env::var("AWS_REGION").ok());
    let Some(region) = region else {
        anyhow::bail!("no region is known; write region = \"us-east-1\" in [metrics], or set AWS_REGION");
    };
    let body = body(&config.topology.links, &metrics.namespace, metrics.period.as_secs(), &region);
    let count = body["widgets"].as_array().into_iter().flatten().map(count).sum::<usize>();
    ensure!(
        count <= METRICS,
        "{count} metrics are more than the {METRICS} a dashboard of CloudWatch may have; give it a config with fewer links"
    );
    writeln!(io::stdout().lock(), "{body}")?;
    Ok(())
}

fn count(widget: &Value) -> usize {
    widget["properties"]["metrics"].as_array().map_or(0, Vec::len)
}

/// A row of three graphs a link: latency, replies, tunnels.
fn body(links: &[Link], namespace: &str, period: u64, region: &str) -> Value {
    let mut widgets = Vec::new();
    for (place, link) in links.iter().enumerate() {
        let y = place as u64 * HIGH;
        let of_probes = |metric: &str, statistic: &str| -> Vec<Value> {
            let probes = link.probes.iter();
            probes
                .map(|probe| {
                    let label = format!("{} {} {statistic}", probe.from, probe.name);
                    json!([
                        namespace, metric, "Link", &*link.name, "Site", &*probe.from, "Probe", &*probe.name,
                        { "stat": statistic, "label": label }
                    ])
                })
                .collect()
        };
        let mut latency = of_probes("PingLatency", "p50");
        latency.extend(of_probes("PingLatency", "p99"));
        let by_id = link.vpns.iter().filter_map(|vpn| match &vpn.select {
            VpnSelect::Id(id) => Some(id),
            VpnSelect::Tag(..) => None,
        });
        let vpns = by_id.chain(link.appliances.iter().map(|of| &of.name));
        let tunnels: Vec<Value> = vpns
            .map(|vpn| {
                json!([namespace, "TunnelsUp", "Link", &*link.name, "Vpn", &**vpn, { "stat": "Minimum", "label": &**vpn }])
            })
            .collect();
        let graphs = [
            ("latency, ms", latency, json!({ "min": 0 })),
            ("part answered", of_probes("PingSuccess", "Average"), json!({ "min": 0, "max": 1 })),
            ("tunnels up", tunnels, json!({ "min": 0 })),
        ];
        let shown: Vec<_> = graphs.into_iter().filter(|(_, metrics, _)| !metrics.is_empty()).collect();
        let width = WIDE / (shown.len() as u64).max(1);
        for (column, (title, metrics, axis)) in shown.into_iter().enumerate() {
            widgets.push(json!({
                "type": "metric", "x": column as u64 * width, "y": y, "width": width, "height": HIGH,
                "properties": {
                    "title": format!("{}: {title}", link.name), "region": region, "view": "timeSeries",
                    "period": period, "metrics": metrics, "yAxis": { "left": axis }
                }
            }));
        }
    }
    json!({ "widgets": widgets })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_probe_and_vpn_connection_of_the_config_is_on_it_and_no_graph_lies_over_another() {
        let text = r#"
            [site.a]
            region = "us-east-1"
            [site.b]
            [[link]]
            name = "l"
            between = ["a", "b"]
            vpn = [{ site = "a", id = "vpn-0a1b2c3d4e5f60718" }, { site = "a", tag = "Name=x" }]
            probe = [{ from = "a", icmp = "10.0.0.1" }, { from = "b", name = "web", tcp = "10.0.0.2:443" }]
            [[link]]
            name = "m"
            between = ["a", "b"]
            probe = [{ from = "a", icmp = "10.0.0.1" }]
        "#;
        let config = Config::parse(text.as_bytes(), Path::new("c.toml")).unwrap();
        let body = body(&config.topology.links, "Crosswatch", 60, "us-east-1");
        let widgets = body["widgets"].as_array().unwrap();
        let shown: Vec<_> =
            widgets.iter().map(|of| (of["properties"]["title"].as_str().unwrap(), count(of))).collect();
        let expected = [
            ("l: latency, ms", 4),
            ("l: part answered", 2),
            ("l: tunnels up", 1),
            ("m: latency, ms", 2),
            ("m: part answered", 1),
        ];
        assert_eq!(shown, expected);
        let web = json!(["Crosswatch", "PingSuccess", "Link", "l", "Site", "b", "Probe", "web",
            { "stat": "Average", "label": "b web Average" }]);
        assert_eq!(widgets[1]["properties"]["metrics"][1], web);
        let place = |of: &Value| ["x", "y", "width"].map(|key| of[key].as_u64().unwrap());
        let places: Vec<_> = widgets.iter().map(place).collect();
        assert_eq!(places, [[0, 0, 8], [8, 0, 8], [16, 0, 8], [0, 6, 12], [12, 6, 12]]);
    }
}
