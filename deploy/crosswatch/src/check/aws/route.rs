//! Whether what is observed would be sent over the very link that is watched: then an outage silences its own report.
//!
//! Two signs are looked for. A route of this machine's main table, other than the default one, that leads both to a queue and
//! to a probe's target. And a queue in another region whose name resolves to a private address: it is reached over private
//! connectivity, most likely the watched one.
//!
//! Not seen are: what is behind the default route (inside a VPC the subnet's route table decides, which an instance
//! cannot see), policy routing, namespaces other than this one, and IPv6.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs as _};

use crosswatch_shared::config::topology::{Host, QueueKind, Topology};

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    destination: Ipv4Addr,
    prefix: u32,
    gateway: Ipv4Addr,
    metric: u32,
}

impl Route {
    fn covers(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
        address.to_bits() & mask == self.destination.to_bits() & mask
    }
}

/// What to warn of. `site` is where this machine is, where that is known.
pub(super) fn warnings(topology: &Topology, site: Option<&str>) -> Vec<String> {
    let QueueKind::Sqs { publisher, alerter } = &topology.queue.kind else {
        return Vec::new();
    };
    let routes = routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
    let region = site.and_then(|site| topology.site(site)?.region.as_deref());
    let targets: Vec<(String, Ipv4Addr)> = topology
        .probes()
        .filter(|(_, probe)| site.is_none_or(|site| *probe.from == *site))
        .flat_map(|(link, probe)| {
            let addresses = match probe.target.host() {
                Host::Address(address) => vec![*address],
                Host::Name(name) => resolve(name),
            };
            let subject = format!("{}/{}/{}", link.name, probe.from, probe.name);
            addresses.into_iter().filter_map(v4).map(move |address| (subject.clone(), address))
        })
        .collect();
    let queues = publisher.iter().chain(alerter);
    let mut warnings = Vec::new();
    for url in queues.flat_map(|queue| std::iter::once(&queue.url).chain(&queue.second)) {
        let Some(host) = host(url) else { continue };
        for address in resolve(host).into_iter().filter_map(v4) {
            warnings.extend(crossing(&routes, url, address, &targets));
            warnings.extend(elsewhere(url, host, address, region));
        }
    }
    warnings.dedup();
    warnings
}

/// A queue that is reached by the route of a target.
fn crossing(routes: &[Route], url: &str, queue: Ipv4Addr, targets: &[(String, Ipv4Addr)]) -> Option<String> {
    let route = best(routes, queue).filter(|route| route.prefix > 0)?;
    let (subject, _) = targets.iter().find(|(_, target)| best(routes, *target) == Some(route))?;
    let mut by = format!("{}/{} by {}", route.destination, route.prefix, route.interface);
    if !route.gateway.is_unspecified() {
        let _ = write!(by, " and {}", route.gateway);
    }
    Some(format!(
        "queue {url} ({queue}) is reached by the route {by}, as the target of {subject} is: an outage of the link \
         would silence its own report; reach SQS another way, or add a standby queue"
    ))
}

/// A queue of another region under a private address.
fn elsewhere(url: &str, host: &str, queue: Ipv4Addr, region: Option<&str>) -> Option<String> {
    let region = region?;
    let of = host.strip_prefix("sqs.")?.split('.').next()?;
    (of != region && queue.is_private()).then(|| {
        format!(
            "queue {url} of {of} has the private address {queue} in {region}: it is reached over private connectivity, \
             most likely the watched one; reach SQS another way, or add a standby queue"
        )
    })
}

/// The route that is taken: the longest prefix, and of those the lowest metric.
fn best(routes: &[Route], address: Ipv4Addr) -> Option<&Route> {
    let covering = routes.iter().filter(|route| route.covers(address));
    covering.min_by_key(|route| (std::cmp::Reverse(route.prefix), route.metric))
}

/// `/proc/net/route` (proc(5)): Iface Destination Gateway Flags RefCnt Use Metric Mask …, where addresses are the bytes in
/// memory, read as one number of the machine's own byte order.
fn routes(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, destination, gateway, flags, _, _, metric, mask, ..] = columns.as_slice() else {
            return None;
        };
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let address = |text: &str| Some(Ipv4Addr::from(hex(text)?.to_ne_bytes()));
        let up = hex(flags)? & 1 == 1;
        up.then_some(Route {
            interface: (*interface).to_owned(),
            destination: address(destination)?,
            prefix: hex(mask)?.count_ones(),
            gateway: address(gateway)?,
            metric: metric.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// The host of a URL that the config admits.
fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1.split('/').next()?;
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    (!host.is_empty()).then_some(host)
}

/// None where the name cannot be resolved: the calls to it tell that.
fn resolve(host: &str) -> Vec<IpAddr> {
    (host, 0).to_socket_addrs().map_or(Vec::new(), |found| found.map(|address| address.ip()).collect())
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A default route by eth0, 10.1.0.0/16 through a tunnel, the own net.
    fn table() -> Vec<Route> {
        let hex = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let line = |interface: &str, to: [u8; 4], by: [u8; 4], metric: u32, mask: [u8; 4]| {
            format!("{interface}\t{}\t{}\t0003\t0\t0\t{metric}\t{}\t0\t0\t0\n", hex(to), hex(by), hex(mask))
        };
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
            .to_owned()
            + &line("eth0", [0; 4], [10, 0, 0, 1], 100, [0; 4])
            + &line("vti0", [10, 1, 0, 0], [0; 4], 50, [255, 255, 0, 0])
            + &line("eth0", [10, 0, 0, 0], [0; 4], 0, [255, 255, 255, 0]);
        routes(&text)
    }

    #[test]
    fn a_queue_behind_the_route_of_a_target_is_warned_of() {
        let routes = table();
        assert_eq!(routes.len(), 3);
        let targets = [("l/s/icmp:10.1.0.10".to_owned(), Ipv4Addr::new(10, 1, 0, 10))];
        let warned = |queue: [u8; 4]| crossing(&routes, "https://q", queue.into(), &targets);
        let warning = warned([10, 1, 7, 7]).unwrap();
        assert!(
            warning.contains("10.1.0.0/16 by vti0") && warning.contains("l/s/icmp:10.1.0.10"),
            "{warning}"
        );
        assert_eq!(warned([10, 0, 0, 9]), None, "its own net");
        assert_eq!(warned([52, 1, 2, 3]), None, "the default route says nothing");
        let by_default = [("l/s/b".to_owned(), Ipv4Addr::new(192, 0, 2, 1))];
        assert_eq!(crossing(&routes, "https://q", [52, 1, 2, 3].into(), &by_default), None);
    }

    #[test]
    fn a_private_address_of_another_region_is_warned_of() {
        let url = "https://sqs.us-east-1.amazonaws.com/1/q";
        let warned =
            |queue: [u8; 4], region| elsewhere(url, host(url).unwrap(), queue.into(), region).is_some();
        assert!(warned([10, 1, 0, 5], Some("eu-west-1")));
        assert!(!warned([10, 1, 0, 5], Some("us-east-1")), "an endpoint of its own region");
        assert!(!warned([52, 1, 0, 5], Some("eu-west-1")));
        assert!(!warned([10, 1, 0, 5], None));
    }
}
