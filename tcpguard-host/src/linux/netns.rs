//! The cookie of this network namespace.
#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe form in rustix")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketType};

use super::Error;

/// The cookie of the network namespace of this thread: never reused while the kernel runs, and equal to
/// `net_cookie` in the kernel's `struct net`.
///
/// # Errors
/// [`Error::NoNetnsCookie`] before Linux 5.14.
pub fn cookie() -> Result<u64, Error> {
    let what = "read the cookie of the network namespace";
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| Error::Refused { what, source: error.into() })?;
    socket_netns_cookie(rustix::fd::AsFd::as_fd(&socket)).map_err(|source| {
        match source.raw_os_error() {
            Some(libc::ENOPROTOOPT) => Error::NoNetnsCookie,
            _ => Error::Refused { what, source },
        }
    })
}

fn socket_netns_cookie(socket: BorrowedFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `len` outlive the call, and the kernel writes at most `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_cookie_and_it_is_not_zero() {
        let first = cookie().expect("Linux 5.14 or newer");
        assert_ne!(first, 0);
        assert_eq!(cookie().expect("Linux 5.14 or newer"), first);
    }
}
