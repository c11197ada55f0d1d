//! The two regions: their names and addresses.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A region of the lab, with a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Site {
    /// Region A.
    #[serde(rename = "us-east-1")]
    UsEast1,
    /// Region B.
    #[serde(rename = "eu-west-1")]
    EuWest1,
}

impl Site {
    /// Both; whatever stands in pairs stands in this order.
    pub const ALL: [Self; 2] = [Self::UsEast1, Self::EuWest1];

    /// The name of the site and of its region.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UsEast1 => "us-east-1",
            Self::EuWest1 => "eu-west-1",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::UsEast1 => Self::EuWest1,
            Self::EuWest1 => Self::UsEast1,
        }
    }

    /// The address that the other region reaches over the WAN; it answers pings, and TCP at [`HOST_PORT`].
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.index(), 0, 10)
    }

    /// The outside addresses of its end of the tunnels, by tunnel: AWS's end has one for each, the appliance at the other end
    /// one for both.
    #[must_use]
    pub fn outside(self) -> [Ipv4Addr; 2] {
        match self {
            Self::UsEast1 => [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)],
            Self::EuWest1 => [Ipv4Addr::new(192, 0, 2, 1); 2],
        }
    }

    /// The addresses of the region, as a prefix.
    pub(crate) fn network(self) -> String {
        format!("10.{}.0.0/16", self.index())
    }

    /// Its end of its way to the centre.
    pub(crate) fn at_centre(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, self.index() + 1, 2)
    }

    /// The centre's end of that.
    pub(crate) fn centre_at(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, self.index() + 1, 1)
    }

    fn index(self) -> u8 {
        match self {
            Self::UsEast1 => 0,
            Self::EuWest1 => 1,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a host of each region takes TCP connections, and closes them.
pub const HOST_PORT: u16 = 443;

/// Where each region answers STAMP's test packets: the port of RFC 8762.
pub const REFLECTOR_PORT: u16 = 862;

/// Where the local AWS listens: in the centre, reached from everywhere.
pub const AWS: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(Ipv4Addr::new(172, 31, 0, 1), 4566);
