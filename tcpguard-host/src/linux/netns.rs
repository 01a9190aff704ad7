//! The identity of this network namespace.
#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe form in rustix")]

use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType};

use super::Error;

/// The cookie of the network namespace of this thread: never reused while the kernel runs, and equal to
/// `net_cookie` in the kernel's `struct net`. On kernels before Linux 5.14 it is the number of the namespace instead
/// (`ns.inum`), which another may get when this one has ended.
pub fn cookie() -> Result<u64, Error> {
    match own_cookie()? {
        Some(cookie) => Ok(cookie),
        None => number(),
    }
}

/// Returns whether this kernel reports cookies of network namespaces (`SO_NETNS_COOKIE`).
pub fn has_cookies() -> Result<bool, Error> {
    Ok(own_cookie()?.is_some())
}

fn own_cookie() -> Result<Option<u64>, Error> {
    let what = "read the cookie of the network namespace";
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| Error::Refused { what, source: error.into() })?;
    match socket_netns_cookie(rustix::fd::AsFd::as_fd(&socket)) {
        Ok(cookie) => Ok(Some(cookie)),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(source) => Err(Error::Refused { what, source }),
    }
}

fn number() -> Result<u64, Error> {
    let path = Path::new("/proc/thread-self/ns/net");
    let stat = fs::metadata(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(stat.ino())
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
    fn a_namespace_has_one_cookie_and_one_number_and_neither_is_zero() {
        for of in [cookie, number] {
            let first = of().expect("a namespace");
            assert_ne!(first, 0);
            assert_eq!(of().expect("a namespace"), first);
        }
    }
}
