//! The config to start from: what `run` uses without one, and what `init` writes.

use std::net::IpAddr;

/// A commented config that probes loopback and this gateway, and shows, commented out, what else there is.
pub(crate) fn starter_text(gateway: Option<IpAddr>) -> String {
    let gateway = match gateway {
        Some(address) => format!(
            "# This machine's default gateway: the way out of here.\n\
             [[link]]\n\
             name = \"gateway\"\n\
             between = [\"here\"]\n\
             probe = [{{ from = \"here\", icmp = \"{address}\", every = \"1s\", timeout = \"500ms\" }}]\n"
        ),
        None => "# This machine had no default gateway when this was written; its probe would be:\n\
             # [[link]]\n\
             # name = \"gateway\"\n\
             # between = [\"here\"]\n\
             # probe = [{ from = \"here\", icmp = \"192.168.1.1\", every = \"1s\", timeout = \"500ms\" }]\n"
            .to_owned(),
    };
    format!("{SITES}\n{LOOPBACK}\n{gateway}\n{REST}")
}

const SITES: &str = r#"# Crosswatch: what is watched, judged and told. `crosswatch check` says everything that is wrong with it.

# A site is a place with a collector of its own. Its name is in every link, metric and notification.
[site.here]
# region = "us-east-1"              # inside AWS: whose VPN connections its collector polls

# A second site runs `crosswatch collector --site elsewhere`:
# [site.elsewhere]
"#;

const LOOPBACK: &str = r#"# A link is a connection that is watched, by probes from its ends. Loopback is always there: when it fails, it is the
# measuring that is broken.
[[link]]
name = "loopback"
between = ["here"]
probe = [{ from = "here", icmp = "127.0.0.1", every = "1s", timeout = "500ms" }]
"#;

const REST: &str = r#"# A link between two sites is probed from both, and has the tunnels of its VPN connection polled:
# [[link]]
# name = "here-elsewhere"
# between = ["here", "elsewhere"]
# vpn = [{ site = "here", id = "vpn-0a1b2c3d4e5f60718", every = "60s", expect_up = 2 }]   # or tag = "Name=…" for id
# probe = [
#   { from = "here", icmp = "10.1.0.10", every = "1s", timeout = "500ms" },
#   { from = "elsewhere", tcp = "10.0.0.10:443", every = "1s", timeout = "500ms" },
# ]

# What lies between the stages: on one machine the journal itself.
[queue]
kind = "embedded"                   # or "sqs" with publisher = "<url>" and alerter = "<url>"
path = "data"                       # beside this file
keep = "7d"                         # how long the journal keeps what every stage has had
max_size = "1GiB"                   # beyond it the oldest goes

# One datapoint a period of each metric.
[metrics]
kind = "embedded"                   # or "cloudwatch"
namespace = "Crosswatch"
period = "60s"
# publish = ["TunnelsUp", "PingSuccess", "PingLatency", "CollectionSuccess", "CollectionLatency", "PipelineDelay"]

# A rule is a threshold, and how often it must breach. Three pings lost in a row; over after ten answered in a row.
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 10
notify = ["console"]

# Ten of the newest fifteen replies slower than 200 ms; over after thirty faster ones in a row.
[[rule]]
name = "latency-high"
metric = "latency_ms"
above = 200
breach = "10 of 15"
clear = 30
# subjects = ["gateway/*"]          # LINK/SITE/PROBE; * stands for anything
notify = ["console"]

# Fewer tunnels up than there should be:
# [[rule]]
# name = "tunnels-down"
# metric = "tunnels_up"
# below = 2
# notify = ["oncall"]

# Who is told, and how. This one prints each notification as a line on standard output.
[notify.console]
console = true

# Others, each by one way or more:
# [notify.oncall]
# sms = ["+15555550100"]            # through SNS
# topic = "arn:aws:sns:us-east-1:123456789012:oncall"
# webhook = "https://example.com/hook"   # template = "pagerduty", "opsgenie" or "slack" tells it in their words
# command = ["/usr/local/bin/page", "--urgent"]
# at_most = "10 per 1h"             # beyond it one digest

# An outside service that pages when it hears nothing more from here: told while every site is heard.
# [heartbeat]
# url = "https://example.com/ping"
# every = "60s"

# The status page, for this machine's own browsers: http://127.0.0.1:8420, or the address that is printed.
[page]

# Metrics of Crosswatch itself, and whether it is well (/metrics /healthz /readyz) are served on 127.0.0.1:9464, those of
# a publisher or an alerter of its own on 9465 and 9466; to serve them elsewhere:
# [http]
# listen = "0.0.0.0:9464"
"#;
