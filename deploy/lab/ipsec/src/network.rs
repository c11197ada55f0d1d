//! An IPv4 network by address and prefix length.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network of two addresses at least, so that it has halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

/// The text is not such a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a network with two addresses at least, such as 10.1.0.0/16")]
pub struct NotANetwork(String);

impl Network {
    /// Its lower and its upper half.
    #[must_use]
    pub fn halves(self) -> [Self; 2] {
        let prefix = self.prefix + 1;
        let upper = Ipv4Addr::from_bits(self.address.to_bits() | 1 << (32 - u32::from(prefix)));
        [Self { prefix, ..self }, Self { address: upper, prefix }]
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & !self.host_bits() == 0
    }

    /// The last address that a host may have.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        let last = self.address.to_bits() | self.host_bits();
        // The very last is for broadcasts where there are more than two.
        Ipv4Addr::from_bits(if self.prefix < 31 { last - 1 } else { last })
    }

    fn host_bits(self) -> u32 {
        u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let network = Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
            (network.prefix < 32 && network.address.to_bits() & network.host_bits() == 0).then_some(network)
        });
        parsed.ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_two_halves() {
        let halves = |text: &str| text.parse::<Network>().unwrap().halves().map(|half| half.to_string());
        assert_eq!(halves("10.1.0.0/16"), ["10.1.0.0/17", "10.1.128.0/17"]);
        assert_eq!(halves("0.0.0.0/0"), ["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(halves("192.0.2.2/31"), ["192.0.2.2/32", "192.0.2.3/32"]);
        let [lower, upper] = "10.1.0.0/16".parse::<Network>().unwrap().halves();
        let host = Ipv4Addr::new(10, 1, 127, 254);
        assert!(lower.contains(host) && !upper.contains(host));
        assert_eq!([lower.last(), upper.last()], [host, Ipv4Addr::new(10, 1, 255, 254)]);
        for wrong in ["10.1.0.0", "10.1.0.0/33", "10.1.0.0/32", "10.1.0.1/16", "::/0", "10.1.0.0/-1"] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork(wrong.to_owned())));
        }
    }
}
