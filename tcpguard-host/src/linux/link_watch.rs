//! Notices when network interfaces appear, change and vanish.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Error;
use super::interfaces::{self, Interface, RTM_DELLINK, RTM_NEWLINK};
use super::netlink::{DATAGRAM_LEN, messages};

/// Bit of `RTNLGRP_LINK` (include/uapi/linux/rtnetlink.h) among the groups to join.
const LINK_GROUP: u32 = 1;

/// Datagrams read in one call at most; the rest keeps the descriptor readable.
const DATAGRAMS: usize = 1024;

/// Something happened to an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// The interface is new, or something about it has changed.
    Changed(Interface),
    /// The interface has gone, also when it went to another namespace.
    Removed(Interface),
    /// Events were lost: list the interfaces again.
    Lost,
}

/// A subscription to the interfaces of one network namespace, for an event loop.
pub struct LinkWatch {
    socket: Socket,
    buffer: Vec<u8>,
}

impl LinkWatch {
    /// Subscribes in the network namespace of this thread. List the interfaces after this, not
    /// before, and none is missed.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Open)?;
        socket.bind(&SocketAddr::new(0, LINK_GROUP)).map_err(Error::Open)?;
        socket.set_non_blocking(true).map_err(Error::Open)?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_LEN] })
    }

    /// The events since the last call; does not wait.
    ///
    /// # Errors
    /// [`Error::Refused`] if the socket can no longer be used. A message that makes no sense becomes
    /// [`LinkEvent::Lost`].
    pub fn drain(&mut self) -> Result<Vec<LinkEvent>, Error> {
        let mut events = Vec::new();
        for _ in 0..DATAGRAMS {
            match self.socket.recv_from(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                // Only the kernel has port 0; anyone else has no say.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((len, _)) => {
                    let datagram = self.buffer.get(..len).ok_or_else(|| "too long".into());
                    if datagram.and_then(|datagram| read(datagram, &mut events)).is_err() {
                        events.push(LinkEvent::Lost);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    events.push(LinkEvent::Lost);
                }
                Err(source) => {
                    return Err(Error::Refused { what: "watch network interfaces", source });
                }
            }
        }
        Ok(events)
    }
}

impl AsFd for LinkWatch {
    /// Readable when [`LinkWatch::drain`] has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for LinkWatch {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

impl std::fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkWatch").field("fd", &self.socket.as_fd()).finish_non_exhaustive()
    }
}

fn read(datagram: &[u8], events: &mut Vec<LinkEvent>) -> Result<(), DecodeError> {
    for message in messages(datagram) {
        let message = message?;
        let event: fn(Interface) -> LinkEvent = match message.kind {
            RTM_NEWLINK => LinkEvent::Changed,
            RTM_DELLINK => LinkEvent::Removed,
            _ => continue,
        };
        events.extend(interfaces::parse(&message)?.map(event));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::tests::link_message;
    use super::*;

    fn names(events: &[LinkEvent]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                LinkEvent::Changed(interface) => format!("+{}", interface.name),
                LinkEvent::Removed(interface) => format!("-{}", interface.name),
                LinkEvent::Lost => "lost".into(),
            })
            .collect()
    }

    #[test]
    fn changes_and_removals_are_distinguished_and_kept_in_order() {
        let bridge = libc::AF_BRIDGE as u8;
        let datagram = [
            link_message(RTM_NEWLINK, 0, 7, "edge0"),
            link_message(RTM_DELLINK, bridge, 7, "edge0"),
            link_message(RTM_DELLINK, 0, 7, "edge0"),
            link_message(RTM_NEWLINK, 0, 8, "edge0"),
        ]
        .concat();
        let mut events = Vec::new();
        read(&datagram, &mut events).expect("well formed");
        assert_eq!(names(&events), ["+edge0", "-edge0", "+edge0"]);
    }

    #[test]
    fn a_cut_datagram_is_an_error_after_what_was_whole() {
        let first = link_message(RTM_NEWLINK, 0, 7, "edge0");
        let datagram = [first.clone(), link_message(RTM_DELLINK, 0, 7, "edge0")].concat();
        for cut in first.len() + 1..datagram.len() {
            let mut events = Vec::new();
            assert!(read(&datagram[..cut], &mut events).is_err(), "cut at {cut}");
            assert_eq!(names(&events), ["+edge0"], "cut at {cut}");
        }
    }

    #[test]
    fn nothing_has_happened_right_after_the_start() {
        let mut watch = LinkWatch::open().expect("netlink");
        assert_eq!(watch.drain().expect("a live socket"), []);
    }
}
