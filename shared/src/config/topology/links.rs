//! The sections `site` and `link`: where is measured from, and what.

use std::time::Duration;

use super::{Link, Probe, Site, Target, Vpn, VpnSelect, target};
use crate::config::aws;
use crate::config::document::{Named, Place, Table, Unique, Value};
use crate::config::values::{self, LONGEST, short};
use crate::observation::Name;

const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const FASTEST_PROBE: Duration = Duration::from_millis(10);
const VPN_EVERY: Duration = Duration::from_secs(60);
/// EC2 throttles `DescribeVpnConnections` for the whole account.
const FASTEST_VPN: Duration = Duration::from_secs(10);
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
    let (vpns, probes) = (vpns?, probes?);
    if vpns.is_empty() && probes.is_empty() {
        return place.missing(
            "a link watches nothing; add probe = [{ from = \"SITE\", icmp = \"ADDRESS\" }] or vpn = [{ site = \"SITE\", id = \"vpn-…\" }]",
        );
    }
    Some(Link { name: name?, between: between?, vpns, probes })
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

fn take_vpn(value: &Value<'_>, ends: &Ends<'_>, seen: &mut Unique) -> Option<Vpn> {
    let mut table = value.table("a vpn")?;
    let place = table.place();
    let site = table.need("site", "\"us-east-1\"", |value| ends.take(value));
    let (has_id, has_tag) = (table.has("id"), table.has("tag"));
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
    let select = match (has_id, has_tag) {
        (true, true) => place.wrong("a vpn has both 'id' and 'tag'; keep one of them"),
        (false, false) => place.missing("a vpn needs id = \"vpn-…\" or tag = \"Name=…\""),
        (true, false) => id.flatten(),
        (false, true) => tag.flatten(),
    };
    let every = table.or("every", VPN_EVERY, |value| value.duration(FASTEST_VPN..=LONGEST));
    let expect_up = table.or("expect_up", TUNNELS, |value| value.integer(1..=TUNNELS));
    let region = table.maybe("region", |value| value.parsed("us-east-1", aws::region));
    let role = table.maybe("role", |value| value.parsed(ROLE, aws::role));
    table.finish();
    Some(Vpn {
        site: site?,
        select: select?,
        every: every?,
        expect_up: u32::try_from(expect_up?).ok()?,
        region: region?,
        role: role?,
    })
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

fn take_probe(value: &Value<'_>, ends: &Ends<'_>, seen: &mut Unique) -> Option<Probe> {
    let mut table = value.table("a probe")?;
    let place = table.place();
    let from = table.need("from", "\"us-east-1\"", |value| ends.take(value));
    let target = take_target(&mut table);
    let given = table.maybe("name", |value| Some((value.place(), value.name()?)));
    let every = table.or("every", PROBE_EVERY, |value| value.duration(FASTEST_PROBE..=LONGEST));
    let timeout = table
        .or("timeout", PROBE_TIMEOUT, |value| value.duration(Duration::from_millis(1)..=LONGEST_TIMEOUT));
    table.finish();
    let (from, (default_name, target), given) = (from?, target?, given?);
    let (place, name): (Place<'_>, Name) = given.unwrap_or((place, default_name));
    seen.check(place, &format!("{name}' from '{from}"))?;
    Some(Probe { name, from, target, every: every?, timeout: timeout? })
}

/// The probe's target, and its name unless one is given.
fn take_target(table: &mut Table<'_>) -> Option<(Name, Target)> {
    let place = table.place();
    let (has_icmp, has_tcp) = (table.has("icmp"), table.has("tcp"));
    let icmp = table.maybe("icmp", |value| {
        value.parsed("10.1.0.10", |text| Ok((format!("icmp:{text}").into(), target::icmp(text)?)))
    });
    let tcp = table.maybe("tcp", |value| {
        value.parsed("10.0.0.10:443", |text| Ok((format!("tcp:{text}").into(), target::tcp(text)?)))
    });
    match (has_icmp, has_tcp) {
        (true, true) => place.wrong("a probe has both 'icmp' and 'tcp'; make two probes of it"),
        (false, false) => place.missing("a probe needs icmp = \"ADDRESS\" or tcp = \"ADDRESS:PORT\""),
        (true, false) => icmp.flatten(),
        (false, true) => tcp.flatten(),
    }
}
