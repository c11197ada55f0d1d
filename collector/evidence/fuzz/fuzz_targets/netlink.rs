//! The kernel's answers: any bytes are an error or an answer.
#![no_main]

use crosswatch_evidence::netlink;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = netlink::read(bytes, 7);
    // Once more as the body of an answer whose header is right: of a route, a neighbour, a link, an error.
    let Some((&kind, body)) = bytes.split_first() else { return };
    let kind: u16 = [24, 28, 16, 2][usize::from(kind % 4)];
    let mut message = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(7u32.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    let _ = netlink::read(&message, 7);
});
