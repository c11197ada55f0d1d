//! What an ICMP error means: RFC 792 and RFC 1812 for IPv4, RFC 4443 for IPv6. Pure.

use crosswatch_prober::Family;
use crosswatch_shared::evidence::Said;

/// What a kind and code of ICMP error say of the packet; `None` where they say nothing of its fate, such as a redirect.
#[must_use]
pub const fn of(family: Family, kind: u8, code: u8) -> Option<Said> {
    Some(match (family, kind, code) {
        (Family::V4, 11, _) | (Family::V6, 3, _) => Said::TimeExceeded,
        (Family::V4, 3, 0 | 6 | 11) | (Family::V6, 1, 0) => Said::NetUnreachable,
        // Of IPv6 also 'beyond the scope of the source address' and 'address unreachable'.
        (Family::V4, 3, 1 | 7 | 8 | 12) | (Family::V6, 1, 2 | 3) => Said::HostUnreachable,
        (Family::V4, 3, 2) | (Family::V6, 4, 1) => Said::ProtocolUnreachable,
        (Family::V4, 3, 3) | (Family::V6, 1, 4) => Said::PortUnreachable,
        // Of IPv6 also 'source address failed policy' and 'reject route'.
        (Family::V4, 3, 9 | 10 | 13) | (Family::V6, 1, 1 | 5 | 6) => Said::AdminProhibited,
        (Family::V4, 3, 4) | (Family::V6, 2, _) => Said::FragNeeded,
        (Family::V4, 3 | 12, _) | (Family::V6, 1 | 4, _) => Said::Other,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_both_families() {
        for (kind, code, said) in [
            (11, 0, Some(Said::TimeExceeded)),
            (3, 0, Some(Said::NetUnreachable)),
            (3, 1, Some(Said::HostUnreachable)),
            (3, 2, Some(Said::ProtocolUnreachable)),
            (3, 3, Some(Said::PortUnreachable)),
            (3, 4, Some(Said::FragNeeded)),
            (3, 13, Some(Said::AdminProhibited)),
            (3, 5, Some(Said::Other)),
            (5, 1, None),
            (4, 0, None),
        ] {
            assert_eq!(of(Family::V4, kind, code), said, "{kind}/{code}");
        }
        for (kind, code, said) in [
            (3, 0, Some(Said::TimeExceeded)),
            (1, 0, Some(Said::NetUnreachable)),
            (1, 1, Some(Said::AdminProhibited)),
            (1, 3, Some(Said::HostUnreachable)),
            (1, 4, Some(Said::PortUnreachable)),
            (2, 0, Some(Said::FragNeeded)),
            (4, 1, Some(Said::ProtocolUnreachable)),
            (4, 0, Some(Said::Other)),
            (137, 0, None),
        ] {
            assert_eq!(of(Family::V6, kind, code), said, "{kind}/{code}");
        }
    }
}
