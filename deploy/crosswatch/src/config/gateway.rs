//! This machine's default gateway, as Linux tells it in `/proc/net/route` and `/proc/net/ipv6_route` (proc(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `RTF_UP` and `RTF_GATEWAY` of `linux/route.h`: the route is usable and leads to a gateway.
const USABLE: u32 = 0x0001 | 0x0002;

/// The gateway of the default route with the lowest metric, of IPv4 if there is one.
///
/// None outside Linux, without a default route, and where the gateway is known only by a link-local address, which
/// means nothing without its interface.
pub(crate) fn default_gateway() -> Option<IpAddr> {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    of_ipv4(&text("/proc/net/route"))
        .map(IpAddr::V4)
        .or_else(|| of_ipv6(&text("/proc/net/ipv6_route")).map(IpAddr::V6))
}

/// Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask …; addresses are the bytes in memory, read as one
/// number of the machine's own byte order.
fn of_ipv4(text: &str) -> Option<Ipv4Addr> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, flags, _, _, metric, mask, ..] = columns.as_slice() else {
            return None;
        };
        let usable = u32::from_str_radix(flags, 16).ok()? & USABLE == USABLE;
        let default = hex(destination)? == 0 && hex(mask)? == 0;
        let gateway = Ipv4Addr::from(hex(gateway)?.to_ne_bytes());
        let probed = !gateway.is_unspecified() && !gateway.is_link_local();
        (usable && default && probed).then_some((metric.parse::<u32>().ok()?, gateway))
    };
    text.lines().skip(1).filter_map(route).min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

/// Columns: destination, its prefix length, source, its prefix length, next hop, metric, two counts, flags, interface;
/// all in base 16, addresses in network order.
fn of_ipv6(text: &str) -> Option<Ipv6Addr> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, _, _, next_hop, metric, _, _, flags, ..] = columns.as_slice() else {
            return None;
        };
        let usable = hex(flags)? & USABLE == USABLE;
        let default = u128::from_str_radix(destination, 16).ok()? == 0 && hex(length)? == 0;
        let gateway = Ipv6Addr::from(u128::from_str_radix(next_hop, 16).ok()?);
        let probed = !gateway.is_unspecified() && !gateway.is_unicast_link_local();
        (usable && default && probed).then_some((hex(metric)?, gateway))
    };
    text.lines().filter_map(route).min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    /// As the kernel of this machine would write the address.
    fn written(address: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(address))
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_wins() {
        let gateway = |address| written(address);
        let text = format!(
            "{HEADER}wlan0\t00000000\t{}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t{}\t00000000\t0001\t0\t0\t100\t{}\t0\t0\t0\n",
            gateway([192, 168, 2, 1]),
            gateway([10, 0, 0, 1]),
            written([10, 0, 0, 0]),
            written([255, 255, 255, 0]),
        );
        assert_eq!(of_ipv4(&text), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn routes_that_lead_to_no_gateway_are_none() {
        let down =
            format!("{HEADER}eth0\t00000000\t{}\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", written([10, 0, 0, 1]));
        let point_to_point = format!("{HEADER}tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n");
        let half = format!(
            "{HEADER}tun0\t00000000\t{}\t0003\t0\t0\t0\t{}\t0\t0\t0\n",
            written([10, 0, 0, 1]),
            written([128, 0, 0, 0])
        );
        for text in ["", HEADER, &down, &point_to_point, &half] {
            assert_eq!(of_ipv4(text), None, "{text}");
        }
    }

    #[test]
    fn an_ipv6_gateway_counts_unless_it_is_link_local() {
        let route = |hop: &str, metric: &str, flags: &str| {
            format!("{0} 00 {0} 00 {hop} {metric} 00000001 00000000 {flags}     eth0\n", "0".repeat(32))
        };
        let local = route("fe800000000000000000000000000001", "00000400", "00000003");
        let global = route("20010db8000000000000000000000001", "00000800", "00000003");
        let reject = route(&"0".repeat(32), "ffffffff", "00200200");
        assert_eq!(of_ipv6(&format!("{reject}{local}")), None);
        assert_eq!(of_ipv6(&format!("{local}{reject}{global}")), Some("2001:db8::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(.*\n?)*") {
            let _ = (of_ipv4(&text), of_ipv6(&text));
        }
    }
}
