//! Amazon EC2: VPN connections and the state of their tunnels.
//!
//! The answer of [`DescribeVpnConnections`] holds each connection's pre-shared keys, in `CustomerGatewayConfiguration`. They
//! end here: what is given on has no place for them, and nothing here logs.
//!
//! Connections are asked for by filters and not by ids, since one unknown id would fail the whole call. The call has no
//! pages. EC2 throttles it for the whole account and region (`RequestLimitExceeded`).
//!
//! [`DescribeVpnConnections`]: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpnConnections.html

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::types::{Filter, VgwTelemetry};
use crosswatch_aws::{Call, Failure, Session};
use crosswatch_shared::time::Timestamp;

const OPERATION: &str = "ec2:DescribeVpnConnections";

/// The most values that one filter takes.
pub const VALUES: usize = 200;

/// EC2 in one region, for one account.
#[derive(Clone, Debug)]
pub struct Ec2 {
    client: Client,
}

/// Which connections are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// Those with one of these ids.
    Ids(Vec<String>),
    /// Those that have this tag with one of these values.
    Tag {
        /// The tag's key.
        key: String,
        /// Its values, letter by letter.
        values: Vec<String>,
    },
}

/// A VPN connection, as far as Crosswatch is concerned with it. Nothing of it is certain to be there: a connection to a
/// transit gateway has no gateway id, one just made no telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnConnection {
    /// Its id, `vpn-…`.
    pub id: Option<String>,
    /// `pending`, `available`, `deleting` or `deleted`; empty where the answer lacks it.
    pub state: String,
    /// Its tags: key and value.
    pub tags: Vec<(String, String)>,
    /// Its tunnels.
    pub telemetry: Vec<Telemetry>,
}

/// A tunnel's [`VgwTelemetry`], each field as the answer has it.
///
/// [`VgwTelemetry`]: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VgwTelemetry.html
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The outside address of AWS's end.
    pub outside_ip: Option<String>,
    /// `UP` or `DOWN`.
    pub status: Option<String>,
    /// When the status last changed: of IKE, IPsec or BGP.
    pub last_change: Option<Timestamp>,
    /// What is wrong; may say 'IPSEC IS UP' while BGP is down.
    pub message: Option<String>,
    /// Routes accepted over it by BGP.
    pub accepted_routes: Option<i32>,
    /// The certificate of AWS's end, by ARN, where there is one.
    pub certificate: Option<String>,
}

impl Ec2 {
    /// In the session's region and account.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        Self { client: Client::new(session.config()) }
    }

    /// The connections that are selected and exist; those deleted are there for a while, too. Nothing selected asks
    /// nothing.
    ///
    /// # Errors
    /// The call failed, or its answer cannot be read (`BadAnswer`): one field that is not what it must be makes the
    /// whole answer so.
    pub fn vpn_connections<'a>(&'a self, select: &'a Select) -> Call<'a, Vec<VpnConnection>> {
        Box::pin(async move {
            let (name, values) = match select {
                Select::Ids(ids) => ("vpn-connection-id".to_owned(), ids),
                Select::Tag { key, values } => (format!("tag:{key}"), values),
            };
            let mut connections = Vec::new();
            for values in values.chunks(VALUES) {
                let values = values.iter().map(|value| literal(value)).collect();
                let filter = Filter::builder().name(&name).set_values(Some(values)).build();
                let answer = self.client.describe_vpn_connections().filters(filter).send().await;
                let answer = answer.map_err(|error| Failure::of(OPERATION, &error))?;
                connections.extend(answer.vpn_connections.unwrap_or_default().into_iter().map(connection));
            }
            Ok(connections)
        })
    }
}

/// Whether VPN connections may be described in the session's region: a dry run, which is harmless.
///
/// # Errors
/// They may not, or EC2 cannot be reached.
pub fn may_describe(session: &Session) -> Call<'_, ()> {
    Box::pin(async move {
        let client = Client::new(session.config());
        match client.describe_vpn_connections().dry_run(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("DryRunOperation") => Ok(()),
            Err(error) => Err(Failure::of(OPERATION, &error)),
        }
    })
}

/// Takes what is wanted, and drops the rest with the keys in it.
fn connection(connection: aws_sdk_ec2::types::VpnConnection) -> VpnConnection {
    let tags = connection.tags.unwrap_or_default().into_iter();
    VpnConnection {
        id: connection.vpn_connection_id.filter(|id| !id.is_empty()),
        state: connection.state.map_or_else(String::new, |state| state.as_str().to_owned()),
        tags: tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect(),
        telemetry: connection.vgw_telemetry.unwrap_or_default().into_iter().map(telemetry).collect(),
    }
}

fn telemetry(telemetry: VgwTelemetry) -> Telemetry {
    Telemetry {
        outside_ip: telemetry.outside_ip_address.filter(|ip| !ip.is_empty()),
        status: telemetry.status.map(|status| status.as_str().to_owned()),
        last_change: telemetry.last_status_change.and_then(|at| {
            let micros =
                at.secs().checked_mul(1_000_000)?.checked_add(i64::from(at.subsec_nanos() / 1_000))?;
            Some(Timestamp::from_micros(micros))
        }),
        message: telemetry.status_message,
        accepted_routes: telemetry.accepted_route_count,
        certificate: telemetry.certificate_arn,
    }
}

/// A filter's value stands for itself only where its wildcards are escaped.
fn literal(value: &str) -> String {
    let mut literal = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '*' | '?' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_for_itself_alone() {
        assert_eq!(literal(r"use1-*?\"), r"use1-\*\?\\");
    }

    #[test]
    fn the_keys_have_no_place_in_what_is_given_on() {
        let odd = aws_sdk_ec2::types::VpnConnection::builder()
            .customer_gateway_configuration("<pre_shared_key>canary</pre_shared_key>")
            .build();
        let given = connection(odd);
        assert_eq!((given.id.as_deref(), &*given.state, given.telemetry.len()), (None, "", 0));
        assert!(!format!("{given:?}").contains("canary"));
    }
}
