//! What is asked of the kernel by rtnetlink(7), and its answers. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crosswatch_shared::evidence::{NeighbourState, RouteKind};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// What the kernel answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`route`].
    Route {
        /// What it does.
        kind: RouteKind,
        /// The address packets are sent from.
        source: Option<IpAddr>,
        /// The next hop.
        gateway: Option<IpAddr>,
        /// The interface's index.
        index: Option<u32>,
        /// The routing table.
        table: u32,
        /// The route's own MTU in bytes.
        mtu: Option<u32>,
    },
    /// To [`neighbour`].
    Neighbour {
        /// How far it is known.
        state: NeighbourState,
        /// Its link address.
        link_address: Option<Vec<u8>>,
    },
    /// To [`link`].
    Link {
        /// The interface's name.
        name: Option<String>,
        /// Its MTU in bytes.
        mtu: Option<u32>,
    },
    /// An error, as a positive number of errno(3).
    Refused(i32),
    /// Something else.
    Other,
}

/// Asks by which route packets to an address go (`RTM_GETROUTE`).
#[must_use]
pub fn route(target: IpAddr, sequence: u32) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(target);
    message.header.destination_prefix_length = if target.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(target)));
    request(RouteNetlinkMessage::GetRoute(message), sequence)
}

/// Asks for a neighbour on an interface (`RTM_GETNEIGH`).
#[must_use]
pub fn neighbour(address: IpAddr, index: u32, sequence: u32) -> Vec<u8> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    request(RouteNetlinkMessage::GetNeighbour(message), sequence)
}

/// Asks for an interface (`RTM_GETLINK`).
#[must_use]
pub fn link(index: u32, sequence: u32) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    request(RouteNetlinkMessage::GetLink(message), sequence)
}

/// Reads an answer to the request with this sequence number.
///
/// # Errors
/// What is wrong with the bytes; also where they answer another request.
pub fn read(bytes: &[u8], sequence: u32) -> Result<Answer, String> {
    let unreadable = |why: String| format!("the kernel's answer cannot be read: {why}");
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    if message.header.sequence_number != sequence {
        return Err(unreadable(format!("it answers {}, not {sequence}", message.header.sequence_number)));
    }
    Ok(match message.payload {
        NetlinkPayload::Error(error) => {
            Answer::Refused(error.code.map_or(0, |code| code.get().saturating_neg()))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => of_route(route),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => of_neighbour(neighbour),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => of_link(link),
        _ => Answer::Other,
    })
}

fn request(message: RouteNetlinkMessage, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn of_route(message: RouteMessage) -> Answer {
    let kind = match message.header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => RouteKind::Other,
    };
    let (mut source, mut gateway, mut index, mut mtu) = (None, None, None, None);
    let mut table = u32::from(message.header.table);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::PrefSource(address) => source = ip(&address),
            RouteAttribute::Gateway(address) => gateway = ip(&address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(address.into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(address.into()),
            RouteAttribute::Oif(interface) => index = Some(interface),
            // Tables beyond 255 are only here.
            RouteAttribute::Table(number) => table = number,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.into_iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if mtu > 0 => Some(mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Answer::Route { kind, source, gateway, index, table, mtu }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match *address {
        RouteAddress::Inet(address) if address != Ipv4Addr::UNSPECIFIED => Some(address.into()),
        RouteAddress::Inet6(address) if address != Ipv6Addr::UNSPECIFIED => Some(address.into()),
        _ => None,
    }
}

fn of_neighbour(message: NeighbourMessage) -> Answer {
    let state = match message.header.state {
        State::Incomplete => NeighbourState::Incomplete,
        State::Reachable => NeighbourState::Reachable,
        State::Stale => NeighbourState::Stale,
        State::Delay => NeighbourState::Delay,
        State::Probe => NeighbourState::Probe,
        State::Failed => NeighbourState::Failed,
        State::Noarp => NeighbourState::NoArp,
        State::Permanent => NeighbourState::Permanent,
        State::None => NeighbourState::None,
        _ => NeighbourState::Other,
    };
    let link_address = message.attributes.into_iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(address) => Some(address),
        _ => None,
    });
    Answer::Neighbour { state, link_address }
}

fn of_link(message: LinkMessage) -> Answer {
    let (mut name, mut mtu) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Mtu(bytes) => mtu = Some(bytes),
            _ => {}
        }
    }
    Answer::Link { name, mtu }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_an_answer(bytes: Vec<u8>, kind in 0u16..40, sequence: u32) {
            let _ = read(&bytes, sequence);
            // With a header that is right, so that what is in it is read.
            let length = u32::try_from(bytes.len() + 16).unwrap();
            let mut message = length.to_ne_bytes().to_vec();
            message.extend(kind.to_ne_bytes());
            message.extend([0; 2]);
            message.extend(sequence.to_ne_bytes());
            message.extend([0; 4]);
            message.extend(bytes);
            let _ = read(&message, sequence);
        }

        #[test]
        fn a_damaged_request_is_survived(target: IpAddr, place: prop::sample::Index, byte: u8, end: prop::sample::Index) {
            for mut message in [route(target, 7), neighbour(target, 3, 7), link(3, 7)] {
                // As what the kernel answers with: one less in each case.
                message[4] -= 2;
                let length = message.len();
                message[place.index(length)] = byte;
                let _ = read(&message, 7);
                let _ = read(&message[..end.index(length)], 7);
            }
        }
    }
}
