//! Whole Ethernet frames in and out of one interface (`AF_PACKET`).
#![expect(unsafe_code, reason = "packet sockets have no safe form in rustix")]

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Most frames handed to the kernel in one call.
pub const MAX_BATCH: usize = 64;

const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;

/// A packet socket bound to one interface of the calling thread's network namespace. It does not see packets
/// that the host itself sends.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// Sets an option of a socket that is a number.
pub fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which lives through the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    })
    .map(drop)
}

impl PacketSocket {
    /// A socket that sends and receives.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such interface.
    pub fn open(interface: &str) -> io::Result<Self> {
        let socket = Self::bound(interface, ETH_P_ALL)?;
        socket.set_option(libc::PACKET_IGNORE_OUTGOING, 1)?;
        Ok(socket)
    }

    /// A socket that only sends, without a stay in the interface's queue, so that a frame counted
    /// as sent has reached the driver.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such interface.
    pub fn send_only(interface: &str) -> io::Result<Self> {
        let socket = Self::bound(interface, 0)?;
        socket.set_option(libc::PACKET_QDISC_BYPASS, 1)?;
        Ok(socket)
    }

    fn bound(interface: &str, protocol: u16) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: `name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and has no other owner.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: pointer and length describe `address`, which lives through the call.
        check(unsafe {
            libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        })?;
        Ok(socket)
    }

    /// Lets frames wait to be received that take `bytes` of the kernel's memory.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN.
    pub fn hold(&self, bytes: i32) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
    }

    fn set_option(&self, option: i32, value: i32) -> io::Result<()> {
        self.set(libc::SOL_PACKET, option, value)
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        set_option(&self.0, level, option, value)
    }

    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `frame`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        check_long(sent).map(drop)
    }

    /// Sends up to [`MAX_BATCH`] frames and returns how many the kernel took.
    pub fn send_batch(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let count = frames.len().min(MAX_BATCH);
        // SAFETY: all-zero is valid for both: null pointers with zero lengths.
        let (mut vectors, mut messages): ([libc::iovec; MAX_BATCH], [libc::mmsghdr; MAX_BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for (vector, frame) in vectors.iter_mut().zip(frames) {
            vector.iov_base = frame.as_ptr().cast_mut().cast();
            vector.iov_len = frame.len();
        }
        for (message, vector) in messages.iter_mut().zip(&mut vectors) {
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` messages point to vectors and frames that live through the
        // call; sending does not write to them.
        let sent = check(unsafe {
            libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0)
        })?;
        Ok(sent as usize)
    }

    /// Takes the next frame that is waiting into `buffer` and returns its length, or `None` when
    /// none is waiting.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: pointer and length describe `buffer`.
        let received = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        match check_long(received) {
            Ok(length) => Ok(Some(length as usize)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: isize) -> io::Result<isize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
