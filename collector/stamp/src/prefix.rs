//! The networks a reflector answers. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network: an address and how many of its leading bits count, as in `10.1.0.0/16` or `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// The text was no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPrefix {
    /// Neither an address nor an address with a length.
    #[error(
        "'{text}' is not a network: write an address and its length, such as 10.1.0.0/16, or one address"
    )]
    Form {
        /// The text.
        text: String,
    },
    /// Bits beyond the length are set, so one of the two is not what was meant.
    #[error(
        "'{text}' has bits set beyond its length: write {network} for the network, or the address alone for the one host"
    )]
    HostBits {
        /// The text.
        text: String,
        /// The network that holds it.
        network: Prefix,
    },
}

impl Prefix {
    /// Whether the address is in it. An IPv4 address is in no IPv6 network, nor the other way around.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && bits(address) & self.mask() == bits(self.address)
    }

    /// As a number, leading bits first; an IPv4 address fills the upper 32 bits.
    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let form = || NotAPrefix::Form { text: text.to_owned() };
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            // As a number is parsed, '+8' would be one.
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map_err(|_| form())?
            }
            Some(_) => return Err(form()),
            None => longest,
        };
        if length > longest {
            return Err(form());
        }
        let prefix = Self { address, length };
        let network = bits(address) & prefix.mask();
        if network == bits(address) {
            return Ok(prefix);
        }
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(network >> 96).map_err(|_| form())?.into()),
            IpAddr::V6(_) => IpAddr::V6(network.into()),
        };
        Err(NotAPrefix::HostBits { text: text.to_owned(), network: Self { address, length } })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        for (network, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
        ] {
            assert!(prefix(network).contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!prefix(network).contains(outside.parse().unwrap()), "{outside} in {network}");
        }
    }

    #[test]
    fn what_is_none_says_what_to_write() {
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "::/129", "here", "10.0.0.0/8/8"]
        {
            let error = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("10.1.0.0/16"), "{error}");
        }
        let error = "10.1.2.3/16".parse::<Prefix>().unwrap_err().to_string();
        assert!(error.contains("10.1.0.0/16"), "{error}");
        assert!("fd00::1/8".parse::<Prefix>().unwrap_err().to_string().contains("fd00::/8"));
    }

    proptest! {
        #[test]
        fn a_network_is_read_as_it_is_written(address in any::<IpAddr>(), length in 0_u8..=128) {
            let length = if address.is_ipv4() { length % 33 } else { length };
            let written = match format!("{address}/{length}").parse::<Prefix>() {
                Ok(prefix) => prefix,
                Err(NotAPrefix::HostBits { network, .. }) => network,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            prop_assert_eq!(written.to_string().parse::<Prefix>(), Ok(written));
            prop_assert!(written.contains(address));
        }
    }
}
