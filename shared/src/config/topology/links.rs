//! The sections `site` and `link`: where is measured from, and what.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Appliance, Link, Probe, Site, Target, Vpn, VpnSelect, target};
use crate::config::aws;
use crate::config::document::{Named, Place, Table, Unique, Value};
use crate::config::values::{self, LONGEST, short};
use crate::observation::Name;

const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const FASTEST_PROBE: Duration = Duration::from_millis(10);
/// A burst's packets are 5 ms apart, so that the longest takes 100 ms.
const LARGEST_BURST: i64 = 20;
/// RFC 791: what every network takes at least; and what an IPv4 packet's length holds.
const MTUS: RangeInclusive<i64> = 576..=65_535;
/// How often the large packets of a probe with an 'mtu' go out.
const MTU_EVERY: Duration = Duration::from_secs(60);
/// So many each time: one that is lost alone says nothing of its size.
const MTU_BURST: u32 = 3;
const VPN_EVERY: Duration = Duration::from_secs(60);
/// EC2 throttles `DescribeVpnConnections` for the whole account.
const FASTEST_VPN: Duration = Duration::from_secs(10);
/// Asking a daemon of this machine costs it little.
const APPLIANCE_EVERY: Duration = Duration::from_secs(5);
const FASTEST_APPLIANCE: Duration = Duration::from_secs(1);
const ROLE: &str = "arn:aws:iam::123456789012:role/NAME";
/// AWS gives a VPN connection two tunnels.
const TUNNELS: i64 = 2;

/// Takes the sites; also the names of those that are wrong in something else, so that nobody calls them unknown.
pub(super) fn take_sites(root: &mut Table<'_>) -> (Vec<Site>, Vec<String>) {
    let place = root.place();
    let Some(section) = root.section("site") else {
        return (Vec::new(), Vec::new());
    };
    let named = section.map_or(Vec::new(), |section| section.named());
    if named.is_empty() {
        let _: Option<()> = place.missing("no site; add [site.NAME] for each place that a collector runs at");
    }
    let names = named.iter().map(|named| named.name.to_owned()).collect();
    (named.into_iter().filter_map(take_site).collect(), names)
}

fn take_site(named: Named<'_>) -> Option<Site> {
    let name = match values::place_name(named.name) {
        Ok(()) => Some(named.name.into()),
        Err(message) => named.place.wrong(message),
    };
    let mut table = named.value.table("a site")?;
    let region = table.maybe("region", |value| value.parsed("us-east-1", aws::region));
    let role = table.maybe("role", |value| value.parsed(ROLE, aws::role));
    let topic = table.maybe("topic", |value| value.parsed(aws::TOPIC, aws::topic));
    table.finish();
    Some(Site { name: name?, region: region?, role: role?, topic: topic? })
}

/// Takes the links, whose references are checked against the names of the sites.
pub(super) fn take_links(root: &mut Table<'_>, sites: &[String]) -> Vec<Link> {
    let place = root.place();
    let present = root.has("link");
    let tables = root.sections("link");
    if tables.is_empty() && !present {
        let _: Option<()> = place.missing(
            "no link; add [[link]] with name, between and probe for each connection that is watched",
        );
    }
    let mut names = Unique::new("link named", "give one of them another name");
    tables.into_iter().filter_map(|table| take_link(table, sites, &mut names)).collect()
}

fn take_link(mut table: Table<'_>, sites: &[String], names: &mut Unique) -> Option<Link> {
    let place = table.place();
    let name = table.need("name", "\"use1-euw1\"", |value| {
        let name = value.place_name()?;
        names.check(value.place(), &name)?;
        Some(name)
    });
    let between = table.need("between", "[\"us-east-1\", \"eu-west-1\"]", |value| take_between(value, sites));
    let ends = Ends { sites, between: between.as_deref() };
    let mut vpns_seen = Unique::new("VPN connection", "leave this one out");
    let vpns = table.or("vpn", Vec::new(), |value| {
        value.each("[{ site = \"us-east-1\", id = \"vpn-…\" }]", |value| {
            take_vpn(value, &ends, &mut vpns_seen)
        })
    });
    let mut probes_seen = Unique::new("probe", "leave this one out, or give it a name = \"…\" of its own");
    let probes = table.or("probe", Vec::new(), |value| {
        value.each("[{ from = \"us-east-1\", icmp = \"10.1.0.10\" }]", |value| {
            take_probe(value, &ends, &mut probes_seen)
        })
    });
    table.finish();
    let (connections, probes) = (vpns?, probes?);
    let (mut vpns, mut appliances) = (Vec::new(), Vec::new());
    for connection in connections {
        match connection {
            Connection::Vpn(vpn) => vpns.push(vpn),
            Connection::Appliance(appliance) => appliances.push(appliance),
        }
    }
    let probes: Vec<Probe> =
        probes.into_iter().flat_map(|(probe, large)| [Some(probe), large]).flatten().collect();
    if vpns.is_empty() && appliances.is_empty() && probes.is_empty() {
        return place.missing(
            "a link watches nothing; add probe = [{ from = \"SITE\", icmp = \"ADDRESS\" }] or vpn = [{ site = \"SITE\", id = \"vpn-…\" }]",
        );
    }
    Some(Link { name: name?, between: between?, vpns, appliances, probes })
}

fn take_between(value: &Value<'_>, sites: &[String]) -> Option<Vec<Name>> {
    let names = value.each("[\"us-east-1\", \"eu-west-1\"]", |value| take_site_name(value, sites))?;
    match names.as_slice() {
        [_] => Some(names),
        [a, b] if a != b => Some(names),
        [_, _] => value
            .wrong("'between' names one site twice; name the two ends, or one when only one has a collector"),
        _ => value.wrong(format!(
            "'between' names {} sites; name the two ends, or one when only one has a collector",
            names.len()
        )),
    }
}

fn take_site_name(value: &Value<'_>, sites: &[String]) -> Option<Name> {
    let text = value.text()?;
    if sites.iter().any(|site| site == text) {
        return Some(text.into());
    }
    let near = sites.iter().map(String::as_str);
    value.place().dangling("site", text, near, &format!("add [site.{}]", header_key(text)))
}

/// A name as it stands in a header: bare when it may.
fn header_key(name: &str) -> String {
    if values::place_name(name).is_ok() && !name.contains('.') {
        name.to_owned()
    } else {
        format!("\"{}\"", short(name))
    }
}

/// Where a link's VPN connections and probes may be measured from.
struct Ends<'a> {
    sites: &'a [String],
    between: Option<&'a [Name]>,
}

impl Ends<'_> {
    fn take(&self, value: &Value<'_>) -> Option<Name> {
        let name = take_site_name(value, self.sites)?;
        match self.between {
            Some(between) if !between.contains(&name) => value.wrong(format!(
                "'{name}' is not an end of this link; its ends are {} (see 'between')",
                between.join(" and ")
            )),
            _ => Some(name),
        }
    }
}

/// An entry of `vpn`.
enum Connection {
    Vpn(Vpn),
    Appliance(Appliance),
}

fn take_vpn(value: &Value<'_>, ends: &Ends<'_>, seen: &mut Unique) -> Option<Connection> {
    let mut table = value.table("a vpn")?;
    let place = table.place();
    let site = table.need("site", "\"us-east-1\"", |value| ends.take(value));
    let (has_id, has_tag, has_socket) = (table.has("id"), table.has("tag"), table.has("strongswan"));
    let id = table.maybe("id", |value| {
        let id = value.parsed("vpn-0a1b2c3d4e5f60718", vpn_id)?;
        seen.check(value.place(), &id)?;
        Some(VpnSelect::Id(id))
    });
    let tag = table.maybe("tag", |value| {
        let select = value.parsed("Name=use1-euw1", tag)?;
        seen.check(value.place(), value.text()?)?;
        Some(select)
    });
    let socket = table.maybe("strongswan", |value| value.parsed("unix:///run/charon.vici", vici));
    let child = table.maybe("child", |value| {
        if !has_socket {
            return value.wrong("'child' is for a vpn with 'strongswan'; leave it out");
        }
        Some((value.place(), value.name()?))
    });
    let (usual, fastest) =
        if has_socket { (APPLIANCE_EVERY, FASTEST_APPLIANCE) } else { (VPN_EVERY, FASTEST_VPN) };
    let every = table.or("every", usual, |value| value.duration(fastest..=LONGEST));
    let expect_up = table.or("expect_up", TUNNELS, |value| value.integer(1..=TUNNELS));
    let aws_only = |value: &Value<'_>, key: &str| -> Option<()> {
        if has_socket {
            value.wrong(format!("'{key}' is AWS's; leave it out beside 'strongswan'"))
        } else {
            Some(())
        }
    };
    let region = table.maybe("region", |value| {
        aws_only(value, "region")?;
        value.parsed("us-east-1", aws::region)
    });
    let role = table.maybe("role", |value| {
        aws_only(value, "role")?;
        value.parsed(ROLE, aws::role)
    });
    table.finish();
    let select = match (has_id, has_tag, has_socket) {
        (true, false, false) => id.flatten(),
        (false, true, false) => tag.flatten(),
        (false, false, true) => {
            let (socket, child) = (socket??, child?);
            let Some((place, child)) = child else {
                return place.missing(
                    "a vpn of strongSwan needs child = \"NAME\", as swanctl.conf names its children",
                );
            };
            let site = site?;
            let name = Name::from(format!("strongswan:{child}@{site}"));
            seen.check(place, &name)?;
            let expect_up = u32::try_from(expect_up?).ok()?;
            return Some(Connection::Appliance(Appliance {
                site,
                name,
                socket,
                child,
                every: every?,
                expect_up,
            }));
        }
        (false, false, false) => {
            place.missing("a vpn needs id = \"vpn-…\" or tag = \"Name=…\" or strongswan = \"unix:///…\"")
        }
        _ => place.wrong("a vpn has more than one of 'id', 'tag' and 'strongswan'; keep one of them"),
    };
    Some(Connection::Vpn(Vpn {
        site: site?,
        select: select?,
        every: every?,
        expect_up: u32::try_from(expect_up?).ok()?,
        region: region?,
        role: role?,
    }))
}

fn vpn_id(text: &str) -> Result<Name, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match text.strip_prefix("vpn-") {
        Some(rest) if (1..=32).contains(&rest.len()) && rest.chars().all(allowed) => Ok(text.into()),
        _ => Err(format!(
            "'{}' is not the id of a VPN connection; write one such as \"vpn-0a1b2c3d4e5f60718\"",
            short(text)
        )),
    }
}

fn vici(text: &str) -> Result<std::path::PathBuf, String> {
    match text.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') && path.len() > 1 => Ok(path.into()),
        _ => Err(format!(
            "'{}' is not a socket of this machine; write \"unix:///run/charon.vici\"",
            short(text)
        )),
    }
}

fn tag(text: &str) -> Result<VpnSelect, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok(VpnSelect::Tag(key.to_owned(), value.to_owned()))
        }
        _ => Err(format!(
            "'{}' is not a tag with its value; write \"KEY=VALUE\", such as \"Name=use1-euw1\"",
            short(text)
        )),
    }
}

/// A probe; and the one of large packets that goes beside it where an 'mtu' is given.
fn take_probe(value: &Value<'_>, ends: &Ends<'_>, seen: &mut Unique) -> Option<(Probe, Option<Probe>)> {
    let mut table = value.table("a probe")?;
    let place = table.place();
    let from = table.need("from", "\"us-east-1\"", |value| ends.take(value));
    let target = take_target(&mut table);
    let given = table.maybe("name", |value| Some((value.place(), value.name()?)));
    let every = table.or("every", PROBE_EVERY, |value| value.duration(FASTEST_PROBE..=LONGEST));
    let timeout = table
        .or("timeout", PROBE_TIMEOUT, |value| value.duration(Duration::from_millis(1)..=LONGEST_TIMEOUT));
    let is_tcp = table.has("tcp");
    let burst = table.or("burst", 1, |value| {
        let burst = value.integer(1..=LARGEST_BURST)?;
        if is_tcp && burst > 1 {
            return value.wrong("'burst' is for icmp and udp: a connection is opened once; leave it out");
        }
        Some(burst)
    });
    let is_icmp = table.has("icmp");
    let mtu = table.maybe("mtu", |value| {
        if !is_icmp {
            return value.wrong("'mtu' is for icmp; add a probe of its own with icmp and mtu");
        }
        value.integer(MTUS)
    });
    table.finish();
    let (from, (default_name, target), given) = (from?, target?, given?);
    let (place, name): (Place<'_>, Name) = given.unwrap_or((place, default_name));
    seen.check(place, &format!("{name}' from '{from}"))?;
    let (every, timeout, mtu) = (every?, timeout?, mtu?);
    let probe = Probe { name, from, target, every, timeout, burst: u32::try_from(burst?).ok()?, size: None };
    let large = mtu.map(|mtu| Probe {
        name: format!("{}@{mtu}", probe.name).into(),
        every: every.max(MTU_EVERY),
        burst: MTU_BURST,
        size: u16::try_from(mtu).ok(),
        ..probe.clone()
    });
    Some((probe, large))
}

/// The probe's target, and its name unless one is given.
fn take_target(table: &mut Table<'_>) -> Option<(Name, Target)> {
    let place = table.place();
    let protocols = ["icmp", "tcp", "udp"].map(|protocol| table.has(protocol));
    let icmp = table.maybe("icmp", |value| {
        value.parsed("10.1.0.10", |text| Ok((format!("icmp:{text}").into(), target::icmp(text)?)))
    });
    let tcp = table.maybe("tcp", |value| {
        value.parsed("10.0.0.10:443", |text| Ok((format!("tcp:{text}").into(), target::tcp(text)?)))
    });
    let udp = table.maybe("udp", |value| {
        value.parsed("10.0.0.10:862", |text| Ok((format!("udp:{text}").into(), target::udp(text)?)))
    });
    match protocols {
        [true, false, false] => icmp.flatten(),
        [false, true, false] => tcp.flatten(),
        [false, false, true] => udp.flatten(),
        [false, false, false] => place.missing(
            "a probe needs icmp = \"ADDRESS\" or tcp = \"ADDRESS:PORT\" or udp = \"ADDRESS:862\" of a STAMP reflector",
        ),
        _ => place.wrong("a probe has more than one of 'icmp', 'tcp' and 'udp'; make a probe of each"),
    }
}
