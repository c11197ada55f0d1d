//! The namespaces of a lab and what joins them.

use crate::Site;
use crate::error::Result;
use crate::namespace::Namespace;
use crate::site::AWS;
use crate::wan::DEVICE;

/// The device of a region that leads to the centre; the centre's other end has the region's name.
const TO_CENTRE: &str = "centre";
const DROP: &str = "drop";
const TABLE: &str = "inet crosswatch_lab";

/// Two regions and the centre.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    regions: [Namespace; 2],
    pub(crate) centre: Namespace,
}

impl Network {
    /// That of a lab of this stem, which may be there or not.
    pub(crate) fn of(stem: &str) -> Self {
        let named = |part: &str| Namespace::named(format!("{stem}-{part}"));
        Self { regions: Site::ALL.map(|site| named(site.name())), centre: named("centre") }
    }

    pub(crate) fn region(&self, site: Site) -> &Namespace {
        match site {
            Site::UsEast1 => &self.regions[0],
            Site::EuWest1 => &self.regions[1],
        }
    }

    pub(crate) fn all(&self) -> [&Namespace; 3] {
        [&self.regions[0], &self.regions[1], &self.centre]
    }

    /// Makes them, with addresses and routes. The TUN devices of the WAN are there afterwards; the forwarder attaches. With
    /// tunnels the WAN carries the outside addresses alone: the way to the other region's network is made with the tunnels.
    pub(crate) fn make(&self, tunnels: bool) -> Result<()> {
        for namespace in self.all() {
            namespace.make()?;
            namespace.ip("link set lo up")?;
        }
        self.centre.ip(&format!("addr add {}/32 dev lo", AWS.ip()))?;
        for site in Site::ALL {
            let region = self.region(site);
            // Collectors ping without privileges; of a new namespace no group may.
            region.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
            region.ip(&format!(
                "link add {TO_CENTRE} type veth peer name {site} netns {}",
                self.centre.name()
            ))?;
            region.ip(&format!("addr add {}/30 dev {TO_CENTRE}", site.at_centre()))?;
            self.centre.ip(&format!("addr add {}/30 dev {site}", site.centre_at()))?;
            region.ip(&format!("link set {TO_CENTRE} up"))?;
            self.centre.ip(&format!("link set {site} up"))?;
            region.ip(&format!("route add {}/32 via {}", AWS.ip(), site.centre_at()))?;

            region.ip(&format!("tuntap add dev {DEVICE} mode tun"))?;
            let inside = if tunnels { "lo" } else { DEVICE };
            region.ip(&format!("addr add {}/32 dev {inside}", site.address()))?;
            if tunnels {
                for outside in site.outside() {
                    region.ip(&format!("addr replace {outside}/32 dev {DEVICE}"))?;
                }
            }
            region.ip(&format!("link set {DEVICE} up"))?;
            if tunnels {
                for outside in site.other().outside() {
                    region.ip(&format!("route replace {outside}/32 dev {DEVICE}"))?;
                }
            } else {
                let (to, source) = (site.other().network(), site.address());
                region.ip(&format!("route add {to} dev {DEVICE} src {source}"))?;
            }
        }
        Ok(())
    }

    /// Lets what a region and the centre send each other vanish where `cut` says so, and what arrives in a region from the
    /// other through the device `link` fare as `befalls` says; all else through again. Dropped where it arrives: dropped
    /// where it is sent, the sender would be told.
    pub(crate) fn cut(
        &self,
        cut: impl Fn(Site) -> bool,
        link: &str,
        befalls: impl Fn(Site) -> Vec<&'static str>,
    ) -> Result<()> {
        for site in Site::ALL {
            let centre = cut(site).then_some((TO_CENTRE, DROP)).into_iter();
            let other = befalls(site).into_iter().map(|rule| (link, rule));
            self.region(site).nft(&ruleset(centre.chain(other)))?;
        }
        let cut_off = Site::ALL.into_iter().filter(|site| cut(*site));
        self.centre.nft(&ruleset(cut_off.map(|site| (site.name(), DROP))))
    }

    /// Removes what is there of it.
    pub(crate) fn remove(&self) -> Result<()> {
        // All are tried, the first failure is told.
        self.all().map(Namespace::remove).into_iter().collect()
    }
}

/// A table of what befalls what comes from these devices, in place of the one before.
fn ruleset<'a>(rules: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rules: String = rules.map(|(device, rule)| format!("iifname \"{device}\" {rule}\n")).collect();
    format!(
        "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\nchain input {{\n\
         type filter hook input priority 0; policy accept;\n{rules}}}\n}}\n"
    )
}
