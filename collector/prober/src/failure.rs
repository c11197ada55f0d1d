//! What the kernel's error numbers say of a link.

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;

/// What an error at sending, connecting or on the error queue makes of a probe. What says nothing of the way to the
/// target is `local`.
pub(crate) fn lost(errno: Errno) -> Lost {
    match errno {
        Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::ENETDOWN
        | Errno::EHOSTDOWN
        | Errno::ENONET
        // A firewall's or a routing policy's refusal to let it out, or an administrator's on the way.
        | Errno::EPERM
        | Errno::EACCES => Lost::Unreachable,
        // ICMP's word that the port or the protocol is not served there, or TCP's reset.
        Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ENOPROTOOPT => Lost::Refused,
        Errno::ETIMEDOUT => Lost::Timeout,
        _ => Lost::Local,
    }
}
