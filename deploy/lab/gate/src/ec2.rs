//! EC2, as far as VPN connections go: `DescribeVpnConnections` is answered from the table, and nothing else.

use std::collections::BTreeMap;

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Refusal, escape};
use crate::call::{Call, Input};

/// A VPN connection of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpn {
    /// Its region.
    pub region: String,
    /// Its id.
    pub vpn: String,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// `pending`, `available`, `deleting` or `deleted`.
    #[serde(default = "available")]
    pub state: String,
    /// The virtual private gateway; none for one at a transit gateway.
    #[serde(default)]
    pub gateway: Option<String>,
    /// The account that it belongs to; none: every caller sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What `CustomerGatewayConfiguration` holds: on AWS the pre-shared keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// Its tunnels; none: the answer has no telemetry.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
}

/// A tunnel of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Its outside address.
    pub outside_ip: String,
    /// `UP` or `DOWN`.
    pub status: String,
    /// When its status changed.
    pub last_status_change: Timestamp,
    /// AWS's own words.
    #[serde(default)]
    pub message: String,
    /// How many routes the peer gave.
    #[serde(default)]
    pub accepted_routes: i32,
}

fn available() -> String {
    "available".to_owned()
}

/// What is wrong with a table.
pub(crate) fn check(table: &[Vpn]) -> Result<(), String> {
    for (index, vpn) in table.iter().enumerate() {
        let id = &vpn.vpn;
        if !["pending", "available", "deleting", "deleted"].contains(&vpn.state.as_str()) {
            return Err(format!("{id}: no state is called '{}'", vpn.state));
        }
        if let Some(tunnel) =
            vpn.tunnels.iter().find(|tunnel| !["UP", "DOWN"].contains(&tunnel.status.as_str()))
        {
            return Err(format!("{id}: a tunnel is UP or DOWN, not '{}'", tunnel.status));
        }
        if table[..index].iter().any(|other| other.vpn == *id) {
            return Err(format!("{id} is in the table twice"));
        }
    }
    Ok(())
}

pub(crate) fn answer(call: &Call, table: &[Vpn]) -> Result<Answer, Refusal> {
    if call.operation != "DescribeVpnConnections" {
        let message = format!("The action {} is not valid for this web service.", call.operation);
        return Err(Refusal::new(400, "InvalidAction", message));
    }
    let filters = filters(call)?;
    let theirs: Vec<_> = table
        .iter()
        .filter(|vpn| vpn.region == call.region)
        .filter(|vpn| vpn.account.as_ref().is_none_or(|account| *account == call.account))
        .collect();
    let ids = call.numbered("VpnConnectionId");
    let unknown: Vec<_> =
        ids.iter().filter(|id| !theirs.iter().any(|vpn| vpn.vpn == **id)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let message = format!("The vpnConnection ID '{}' does not exist", unknown.join(", "));
        return Err(Refusal::new(400, "InvalidVpnConnectionID.NotFound", message));
    }
    if call.text("DryRun") == Some("true") {
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Err(Refusal::new(412, "DryRunOperation", message));
    }
    let items: String = theirs
        .iter()
        .filter(|vpn| ids.is_empty() || ids.contains(&vpn.vpn))
        .filter(|vpn| filters.iter().all(|filter| filter.holds(vpn)))
        .map(|vpn| item(vpn))
        .collect();
    Ok(Answer::xml(
        200,
        &format!(
            "<DescribeVpnConnectionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
             <requestId>{}</requestId><vpnConnectionSet>{items}</vpnConnectionSet></DescribeVpnConnectionsResponse>",
            uuid::Uuid::now_v7()
        ),
    ))
}

struct Filter {
    name: String,
    values: Vec<String>,
}

fn filters(call: &Call) -> Result<Vec<Filter>, Refusal> {
    let Input::Form(form) = &call.input else { return Ok(Vec::new()) };
    let names = (1..).map_while(|n| form.get(&format!("Filter.{n}.Name")).map(|name| (n, name)));
    names
        .map(|(n, name)| {
            let known = ["vpn-connection-id", "state", "tag-key", "vpn-gateway-id", "type"]
                .contains(&name.as_str())
                || name.strip_prefix("tag:").is_some_and(|key| !key.is_empty());
            let values = call.numbered(&format!("Filter.{n}.Value"));
            match values.is_empty() {
                _ if !known => {
                    Err(Refusal::new(400, "InvalidParameterValue", format!("The filter '{name}' is invalid")))
                }
                true => Err(Refusal::new(
                    400,
                    "InvalidParameterValue",
                    format!("The filter '{name}' must have a value"),
                )),
                false => Ok(Filter { name: name.clone(), values }),
            }
        })
        .collect()
}

impl Filter {
    fn holds(&self, vpn: &Vpn) -> bool {
        let any = |value: &str| self.values.iter().any(|pattern| like(pattern, value));
        match self.name.as_str() {
            "vpn-connection-id" => any(&vpn.vpn),
            "state" => any(&vpn.state),
            "type" => any("ipsec.1"),
            "tag-key" => vpn.tags.keys().any(|key| any(key)),
            "vpn-gateway-id" => vpn.gateway.as_deref().is_some_and(any),
            name => {
                name.strip_prefix("tag:").and_then(|key| vpn.tags.get(key)).is_some_and(|value| any(value))
            }
        }
    }
}

/// Whether a filter's value fits: `*` stands for any characters, `?` for one.
fn like(pattern: &str, value: &str) -> bool {
    match pattern.chars().next() {
        None => value.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            let mut starts = value.char_indices().map(|(at, _)| at).chain([value.len()]);
            starts.any(|at| like(rest, &value[at..]))
        }
        Some(c) => {
            let mut chars = value.chars();
            chars.next().is_some_and(|first| c == '?' || c == first)
                && like(&pattern[c.len_utf8()..], chars.as_str())
        }
    }
}

fn item(vpn: &Vpn) -> String {
    let element = |name: &str, value: &str| format!("<{name}>{}</{name}>", escape(value));
    let mut xml = String::from("<item>");
    xml += &element("vpnConnectionId", &vpn.vpn);
    xml += &element("state", &vpn.state);
    if let Some(configuration) = &vpn.configuration {
        xml += &element("customerGatewayConfiguration", configuration);
    }
    xml += &element("type", "ipsec.1");
    xml += &element("customerGatewayId", "cgw-0123456789abcdef0");
    if let Some(gateway) = &vpn.gateway {
        xml += &element("vpnGatewayId", gateway);
    }
    xml += &element("category", "VPN");
    if !vpn.tags.is_empty() {
        let tags = vpn
            .tags
            .iter()
            .map(|(key, value)| format!("<item>{}{}</item>", element("key", key), element("value", value)));
        xml += &format!("<tagSet>{}</tagSet>", tags.collect::<String>());
    }
    if !vpn.tunnels.is_empty() {
        let tunnels = vpn.tunnels.iter().map(|tunnel| {
            format!(
                "<item>{}{}{}{}{}</item>",
                element("outsideIpAddress", &tunnel.outside_ip),
                element("status", &tunnel.status),
                element("lastStatusChange", &tunnel.last_status_change.to_string()),
                element("statusMessage", &tunnel.message),
                element("acceptedRouteCount", &tunnel.accepted_routes.to_string()),
            )
        });
        xml += &format!("<vgwTelemetry>{}</vgwTelemetry>", tunnels.collect::<String>());
    }
    xml + "</item>"
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn filters_take_wildcards() {
        for (pattern, value, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("?ä", "xä", true),
            ("?", "", false),
        ] {
            assert_eq!(like(pattern, value), expected, "{pattern} {value}");
        }
    }
}
