//! Where a probe goes: an address or a host name, with a port for TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Host, Target};
use crate::config::values::short;

/// Reads the target of an ICMP probe: an address or a name.
pub(super) fn icmp(text: &str) -> Result<Target, String> {
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Err(format!("an icmp target has no brackets; write \"{}\"", short(inside)));
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && !name.contains(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!("icmp has no port; write \"{}\", or tcp instead of icmp", short(name)));
    }
    host(text).map(Target::Icmp)
}

/// Reads the target of a TCP probe: `10.0.0.10:443`, `[::1]:443`, `name.example:443`.
pub(super) fn tcp(text: &str) -> Result<Target, String> {
    let (host, port) = with_port(text, "tcp", 443)?;
    Ok(Target::Tcp(host, port))
}

/// Reads the target of a UDP probe, a STAMP reflector; RFC 8762 gives it port 862.
pub(super) fn udp(text: &str) -> Result<Target, String> {
    let (host, port) = with_port(text, "udp", 862)?;
    Ok(Target::Udp(host, port))
}

fn with_port(text: &str, protocol: &str, usual: u16) -> Result<(Host, u16), String> {
    let no_port =
        |text: &str| format!("a {protocol} target needs its port; write \"{}:{usual}\"", short(text));
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, rest) = rest
                .split_once(']')
                .ok_or_else(|| format!("'{}' lacks a ']'; write \"[::1]:{usual}\"", short(text)))?;
            if !inside.contains(':') {
                return Err(format!("brackets are for IPv6 addresses only, such as \"[::1]:{usual}\""));
            }
            (inside, rest.strip_prefix(':').ok_or_else(|| no_port(text))?)
        }
        None => {
            let ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
            let (name, port) = text.rsplit_once(':').ok_or_else(|| no_port(text))?;
            if ipv6(text) && !ipv6(name) {
                return Err(no_port(&format!("[{text}]")));
            }
            if name.contains(':') {
                return Err(format!(
                    "an IPv6 address before a port stands in brackets; write \"[{}]:{}\"",
                    short(name),
                    short(port)
                ));
            }
            (name, port)
        }
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok((host(name)?, port)),
        _ => Err(format!(
            "'{}' is not a port; write a number from 1 to 65535, such as \"{}\"",
            short(port),
            short(&text.replace(&format!(":{port}"), &format!(":{usual}")))
        )),
    }
}

fn host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return if address.is_unspecified()
            || address.is_multicast()
            || address == IpAddr::V4(Ipv4Addr::BROADCAST)
        {
            Err(format!("'{address}' is not the address of one machine; write the target's own address"))
        } else {
            Ok(Host::Address(address))
        };
    }
    let refused = |why: &str| {
        Err(format!(
            "'{}' is neither an address nor a host name: {why}; write one such as \"10.1.0.10\" or \"db.example.com\"",
            short(text)
        ))
    };
    // RFC 1123, section 2.1, with the underscore that names in use have.
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels = || name.split('.');
    if name.is_empty() {
        refused("it is empty")
    } else if name.len() > 253 {
        refused("a name has at most 253 characters")
    } else if text.contains("://") {
        refused("it is a URL")
    } else if text.contains(':') || text.contains('%') {
        refused("an IPv6 address is written in full, without a zone")
    } else if let Some(c) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        refused(&format!("'{}' may not stand in a name", c.escape_debug()))
    } else if labels().any(|label| label.is_empty() || label.len() > 63) {
        refused("each part between the dots has 1 to 63 characters")
    } else if labels().any(|label| label.starts_with('-') || label.ends_with('-')) {
        refused("no part begins or ends with '-'")
    } else if labels().next_back().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        refused("an IPv4 address has four numbers up to 255, and a name does not end with a number")
    } else {
        Ok(Host::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        assert_eq!(icmp("10.1.0.10"), Ok(Target::Icmp(address("10.1.0.10"))));
        assert_eq!(icmp("fd00::1"), Ok(Target::Icmp(address("fd00::1"))));
        assert_eq!(icmp("db.example.com"), Ok(Target::Icmp(Host::Name("db.example.com".into()))));
        assert_eq!(tcp("10.0.0.10:443"), Ok(Target::Tcp(address("10.0.0.10"), 443)));
        assert_eq!(tcp("[::1]:443"), Ok(Target::Tcp(address("::1"), 443)));
        assert_eq!(tcp("db_1.local.:5432"), Ok(Target::Tcp(Host::Name("db_1.local.".into()), 5432)));
    }

    #[test]
    fn refuses_what_is_no_target() {
        for text in [
            "",
            ".",
            "10.1.0.256",
            "10.1.0",
            "a..b",
            "-a",
            "a b",
            "a/b",
            "[::1]",
            "10.0.0.1:80",
            "fe80::1%eth0",
            "0.0.0.0",
            "224.0.0.1",
            "ü.example",
            "http://a",
        ] {
            assert!(icmp(text).is_err(), "{text}");
        }
        for text in [
            "",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "::1:443",
            "::1",
            "[::1]",
            "[::1]443",
            "[::1:443",
            "[a]:1",
            ":443",
            "http://a:80",
            "[]:1",
            "[::1]:0",
        ] {
            assert!(tcp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        assert_eq!(tcp("::1"), Err("a tcp target needs its port; write \"[::1]:443\"".into()));
        assert_eq!(
            tcp("fd00::g:443"),
            Err("an IPv6 address before a port stands in brackets; write \"[fd00::g]:443\"".into())
        );
        assert_eq!(icmp("a:80"), Err("icmp has no port; write \"a\", or tcp instead of icmp".into()));
    }
}
