//! VPN connections from the table, and roles.

use crosswatch_gate::Vpn;
use serde_json::json;

use crate::world::{World, between};

fn table() -> Vec<Vpn> {
    serde_json::from_value(json!([
        {"region": "us-east-1", "vpn": "vpn-a", "tags": {"Name": "use1-euw1", "Env": "prod"}, "gateway": "vgw-1",
         "configuration": "<psk>canary</psk>", "tunnels": [
            {"outside_ip": "52.1.2.3", "status": "UP", "last_status_change": "2026-11-22T07:00:00Z",
             "message": "4 BGP ROUTES", "accepted_routes": 4},
            {"outside_ip": "52.1.2.4", "status": "DOWN", "last_status_change": "2026-11-22T07:00:00Z",
             "message": "IPSEC IS DOWN"}]},
        {"region": "us-east-1", "vpn": "vpn-b", "tags": {"Name": "other"}, "state": "deleted"},
        {"region": "us-east-1", "vpn": "vpn-c", "account": "444455556666"},
        {"region": "eu-west-1", "vpn": "vpn-d"},
    ]))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vpn_connections_are_told_from_the_table() {
    let Some(world) = World::new("vpn_connections_are_told_from_the_table").await else { return };
    world.control.set_tunnels(&table()).unwrap();
    assert_eq!(world.control.tunnels().unwrap(), table());
    let ask = async |account: &str, pairs: &[(&str, &str)]| {
        let all = [&[("Action", "DescribeVpnConnections")], pairs].concat();
        let answer = world.form("ec2", account, &all).await;
        let mut ids: Vec<String> = answer
            .text
            .split("<vpnConnectionId>")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().to_owned())
            .collect();
        ids.push(answer.code);
        ids.join(" ").trim_end().to_owned()
    };
    assert_eq!(ask("test", &[]).await, "vpn-a vpn-b");
    assert_eq!(ask("444455556666", &[]).await, "vpn-a vpn-b vpn-c");
    assert_eq!(ask("test", &[("VpnConnectionId.1", "vpn-b")]).await, "vpn-b");
    let one_unknown = [("VpnConnectionId.1", "vpn-a"), ("VpnConnectionId.2", "vpn-d")];
    assert_eq!(ask("test", &one_unknown).await, "InvalidVpnConnectionID.NotFound");
    let filter = |name, value| [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
    assert_eq!(ask("test", &filter("tag:Name", "use1-*")).await, "vpn-a");
    assert_eq!(ask("test", &filter("state", "available")).await, "vpn-a");
    assert_eq!(ask("test", &filter("vpn-connection-id", "vpn-x")).await, "");
    assert_eq!(ask("test", &filter("nonsense", "1")).await, "InvalidParameterValue");
    assert_eq!(ask("test", &[("DryRun", "true")]).await, "DryRunOperation");
    assert_eq!(world.form("ec2", "test", &[("Action", "RunInstances")]).await.code, "InvalidAction");
    let whole = world.form("ec2", "test", &[("Action", "DescribeVpnConnections")]).await.text;
    assert_eq!(between(&whole, "<customerGatewayConfiguration>", "</"), "&lt;psk&gt;canary&lt;/psk&gt;");

    let mut bad = table();
    bad[0].tunnels[0].status = "MAYBE".to_owned();
    assert!(world.control.set_tunnels(&bad).unwrap_err().to_string().contains("UP or DOWN, not 'MAYBE'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assumed_role_is_another_account() {
    let Some(world) = World::new("an_assumed_role_is_another_account").await else { return };
    let assume = |arn, name| [("Action", "AssumeRole"), ("RoleArn", arn), ("RoleSessionName", name)];
    let role = "arn:aws:iam::444455556666:role/net/crosswatch";
    let given = world.form("sts", "test", &assume(role, "crosswatch-eu")).await;
    let key = between(&given.text, "<AccessKeyId>", "</AccessKeyId>");
    assert_eq!(key, "444455556666");
    let token = between(&given.text, "<SessionToken>", "</SessionToken>");
    assert_eq!(token, "arn:aws:sts::444455556666:assumed-role/crosswatch/crosswatch-eu");
    let caller = world.form("sts", &key, &[("Action", "GetCallerIdentity")]).await.text;
    assert_eq!(between(&caller, "<Account>", "</Account>"), "444455556666");
    for (arn, name) in [("arn:aws:iam::1:role/x", "name"), (role, "a b"), ("crosswatch", "name")] {
        assert_eq!(
            world.form("sts", "test", &assume(arn, name)).await.code,
            "ValidationError",
            "{arn} {name}"
        );
    }
}
