//! VICI's packets: what goes over the connection, each after its length in four bytes, network order. Pure.

use crate::message::{Malformed, Section, TooLong};

/// The longest packet (section "Transport protocol" of the plugin's README): its length does not count itself.
pub const LONGEST: usize = 512 * 1024;

const CMD_REQUEST: u8 = 0;
const CMD_RESPONSE: u8 = 1;
const CMD_UNKNOWN: u8 = 2;
const EVENT_REGISTER: u8 = 3;
const EVENT_CONFIRM: u8 = 5;
const EVENT_UNKNOWN: u8 = 6;
const EVENT: u8 = 7;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A command and its arguments.
    Command(&'a str, &'a Section),
    /// Events of this name are wanted.
    Register(&'a str),
}

/// What charon sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The answer to the command, with which it is over.
    Response(Section),
    /// It knows no such command.
    UnknownCommand,
    /// It will send those events.
    Confirmed,
    /// It knows no such events.
    UnknownEvent,
    /// An event.
    Event {
        /// Its name.
        name: String,
        /// What it tells.
        message: Section,
    },
}

/// The bytes are no packet that charon sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Of a type that it does not send.
    #[error("a packet of the unknown type {0}")]
    Unknown(u8),
    /// It ends before its name does.
    #[error("a packet ends within its name")]
    Cut,
    /// Its message is none.
    #[error(transparent)]
    Message(#[from] Malformed),
}

impl Request<'_> {
    /// As bytes, with the length before them.
    ///
    /// # Errors
    /// A name or value is longer than it may be, or the whole is.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let (kind, name, message) = match self {
            Self::Command(name, arguments) => (CMD_REQUEST, name, arguments.encode()?),
            Self::Register(name) => (EVENT_REGISTER, name, Vec::new()),
        };
        let length = 2 + name.len() + message.len();
        if length > LONGEST {
            return Err(TooLong);
        }
        let mut bytes = Vec::with_capacity(4 + length);
        bytes.extend_from_slice(&u32::try_from(length).map_err(|_| TooLong)?.to_be_bytes());
        bytes.push(kind);
        bytes.push(u8::try_from(name.len()).map_err(|_| TooLong)?);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&message);
        Ok(bytes)
    }
}

impl Packet {
    /// From its bytes, without the length.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPacket> {
        let (kind, rest) = bytes.split_first().ok_or(BadPacket::Cut)?;
        match *kind {
            CMD_RESPONSE => Ok(Self::Response(Section::decode(rest)?)),
            CMD_UNKNOWN => Ok(Self::UnknownCommand),
            EVENT_CONFIRM => Ok(Self::Confirmed),
            EVENT_UNKNOWN => Ok(Self::UnknownEvent),
            EVENT => {
                let (length, rest) = rest.split_first().ok_or(BadPacket::Cut)?;
                let (name, message) = rest.split_at_checked((*length).into()).ok_or(BadPacket::Cut)?;
                let name = String::from_utf8_lossy(name).into_owned();
                Ok(Self::Event { name, message: Section::decode(message)? })
            }
            unknown => Err(BadPacket::Unknown(unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Value;

    #[test]
    fn requests_have_the_protocols_bytes() {
        let arguments = Section::default().with("child", Value::Text("net".to_owned()));
        let command = Request::Command("list-sas", &arguments).encode().unwrap();
        assert_eq!(command, b"\0\0\0\x16\0\x08list-sas\x03\x05child\0\x03net");
        assert_eq!(Request::Register("list-sa").encode().unwrap(), b"\0\0\0\x09\x03\x07list-sa");
        assert_eq!(Request::Register(&"x".repeat(256)).encode(), Err(TooLong));
    }

    #[test]
    fn answers_read_as_what_they_are() {
        let message = Section::default().with("k", Value::Text("v".to_owned()));
        assert_eq!(Packet::decode(b"\x01\x03\x01k\0\x01v"), Ok(Packet::Response(message.clone())));
        assert_eq!(Packet::decode(b"\x02"), Ok(Packet::UnknownCommand));
        assert_eq!(Packet::decode(b"\x05"), Ok(Packet::Confirmed));
        assert_eq!(Packet::decode(b"\x06"), Ok(Packet::UnknownEvent));
        let event = Packet::Event { name: "e".to_owned(), message };
        assert_eq!(Packet::decode(b"\x07\x01e\x03\x01k\0\x01v"), Ok(event));
        assert_eq!(Packet::decode(b""), Err(BadPacket::Cut));
        assert_eq!(Packet::decode(b"\x07\x05e"), Err(BadPacket::Cut));
        assert_eq!(Packet::decode(b"\0\x01e"), Err(BadPacket::Unknown(0)), "a request is not an answer");
        assert_eq!(Packet::decode(b"\x01\x09"), Err(BadPacket::Message(Malformed::Unknown(9))));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..200)) {
            let _ = Packet::decode(&bytes);
        }
    }
}
