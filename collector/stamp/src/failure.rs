//! What the kernel's error numbers say of a path.

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;

/// What an error at sending, or one from the error queue, makes of a packet. What says nothing of the path is `local`.
pub(crate) fn lost(errno: Errno) -> Lost {
    match errno {
        Errno::ECONNREFUSED => Lost::Refused,
        // The last two: a firewall or routing policy here, or an administrator on the way.
        Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::ENETDOWN
        | Errno::EHOSTDOWN
        | Errno::EPERM
        | Errno::EACCES => Lost::Unreachable,
        _ => Lost::Local,
    }
}
