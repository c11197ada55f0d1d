//! The config that the lab's stages are given.

use std::path::PathBuf;
use std::time::Duration;

use crosswatch_ipsec::CHILD;

use crate::Site;
use crate::aws::Resources;
use crate::fault::VPN;
use crate::site::{HOST_PORT, REFLECTOR_PORT};

const HEAD: &str = "\
# The lab's config, written by 'lab up'. Changed by hand it is read when a process is started again.
";

const RULES: &str = r#"
[[rule]]
name = "tunnels-down"
metric = "tunnels_up"
below = 1
notify = ["oncall"]

[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 30
notify = ["oncall"]

[[rule]]
name = "latency-high"
metric = "latency_ms"
above = 200
breach = "10 of 15"
clear = 30
notify = ["oncall"]

[notify.oncall]
"#;

/// What the probe of large packets sends: the tunnels' device takes 1400, and an MTU of 1500 both.
const LARGE: u16 = 1300;

/// The text: over AWS with what was made there, over the embedded queue without. With tunnels there are the VICI sockets to be
/// polled, and a reflector in each region.
pub(crate) fn text(aws: Option<&Resources>, every: Duration, appliances: Vec<(Site, PathBuf)>) -> String {
    let tunnels = !appliances.is_empty();
    let [near, far] = Site::ALL;
    let mut text = HEAD.to_owned();
    for (place, site) in Site::ALL.into_iter().enumerate() {
        text += &format!("\n[site.{site}]\nregion = \"{site}\"\n");
        if let Some(topic) = aws.and_then(|aws| aws.topics.get(place)) {
            text += &format!("topic = \"{topic}\"\n");
        }
    }
    text += &format!("\n[[link]]\nname = \"use1-euw1\"\nbetween = [\"{near}\", \"{far}\"]\n");
    let of_aws = format!("{{ site = \"{near}\", id = \"{VPN}\", every = \"10s\", expect_up = 2 }}");
    let vpns: Vec<_> = (aws.map(|_| of_aws).into_iter())
        .chain(appliances.into_iter().map(|(site, socket)| {
            let socket = socket.display();
            format!("{{ site = \"{site}\", strongswan = \"unix://{socket}\", child = \"{CHILD}\" }}")
        }))
        .collect();
    if !vpns.is_empty() {
        text += &format!("vpn = [{}]\n", vpns.join(", "));
    }
    let every = match every.as_millis() {
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    };
    let probe = |from: Site, target: &str| {
        format!("  {{ from = \"{from}\", {target}, every = \"{every}\", timeout = \"500ms\" }},\n")
    };
    text += "probe = [\n";
    let large = if tunnels { format!(", mtu = {LARGE}") } else { String::new() };
    text += &probe(near, &format!("icmp = \"{}\"{large}", far.address()));
    text += &probe(far, &format!("icmp = \"{}\"", near.address()));
    text += &probe(far, &format!("tcp = \"{}:{HOST_PORT}\"", near.address()));
    if tunnels {
        for site in Site::ALL {
            text += &probe(site, &format!("udp = \"{}:{REFLECTOR_PORT}\"", site.other().address()));
        }
    }
    text += "]\n\n[queue]\n";
    match aws {
        Some(aws) => {
            text += &format!(
                "kind = \"sqs\"\npublisher = \"{}\"\nalerter = \"{}\"\n",
                aws.publisher, aws.alerter
            );
            text += "path = \"data\"\n\n[metrics]\nkind = \"cloudwatch\"\n";
            text += &format!("alarm_topic = \"{}\"\n", aws.alarms);
        }
        None => text += "kind = \"embedded\"\npath = \"data\"\n\n[metrics]\nkind = \"embedded\"\n",
    }
    text += "namespace = \"Crosswatch\"\nperiod = \"60s\"\n";
    text += RULES;
    match aws {
        Some(aws) => text += &format!("sms = [\"+15555550100\"]\ntopic = \"{}\"\n", aws.oncall),
        None => text += "console = true\n",
    }
    text
}
