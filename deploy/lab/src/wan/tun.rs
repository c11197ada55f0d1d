//! A TUN device: whatever the kernel routes to it is read here as packets, and packets written here come out of it.

use std::ffi::c_short;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;

/// `struct ifreq` of linux/if.h, as `TUNSETIFF` reads it: a name that ends with a zero, and flags.
#[repr(C)]
pub(crate) struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    rest: [u8; 22],
}

mod call {
    nix::ioctl_write_ptr_bad!(
        /// Attaches the open `/dev/net/tun` to a device.
        set_interface,
        nix::request_code_write!(b'T', 202, size_of::<core::ffi::c_int>()),
        super::Request
    );
}

/// Attaches to the TUN device of this name in the network namespace of the calling thread; reads and writes that would
/// have to wait fail with `WouldBlock`. The file stays with that namespace, whoever uses it.
///
/// # Errors
/// There is no such device and none may be made, or another process has it.
pub(crate) fn attach(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    // Whole packets, without the four bytes of protocol information before each.
    request.flags = c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).map_err(io::Error::other)?;
    // One byte is left for the zero at the end.
    let room = request.name.get_mut(..name.len()).filter(|_| name.len() < libc::IFNAMSIZ);
    room.ok_or_else(|| io::Error::other(format!("'{name}' is too long for a device's name")))?
        .copy_from_slice(name.as_bytes());
    set_interface(&file, &mut request)?;
    Ok(file)
}

#[expect(unsafe_code, reason = "attaching to a TUN device is an ioctl, for which nix has no safe call")]
fn set_interface(file: &File, request: &mut Request) -> nix::Result<()> {
    // SAFETY: the descriptor is open while `file` is borrowed, and TUNSETIFF reads and writes a `struct ifreq`'s 40 bytes,
    // which `Request` has, at a pointer that nobody else uses meanwhile.
    unsafe { call::set_interface(file.as_raw_fd(), request) }.map(drop)
}

// 64-bit Linux; the union after the name is 24 bytes there.
const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
