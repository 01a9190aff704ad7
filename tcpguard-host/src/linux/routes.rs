//! Way of the host's packets to an address: one question at a time to its routing and neighbour tables.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Error;
use super::netlink::{DATAGRAM_LEN, Message, Netlink, attributes, field};
use super::rtnetlink::{RTA_GATEWAY, RTA_VIA, RTM_GETROUTE, RTMSG_LEN, RTN_UNICAST};

const RTM_GETNEIGH: u16 = 30;

/// Length of `struct ndmsg`, include/uapi/linux/neighbour.h.
const NDMSG_LEN: usize = 12;
const NDA_DST: u16 = 1;
/// The states in which a neighbour's Ethernet address is known (`NUD_VALID`, include/net/neighbour.h):
/// reachable, stale, delay, probe, noarp, permanent.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
pub(super) const RTA_OIF: u16 = 4;
const RTA_IP_PROTO: u16 = 27;
const TCP: u8 = libc::IPPROTO_TCP as u8;

/// `RTN_LOCAL`: a route to this host itself.
pub(super) const RTN_LOCAL: u8 = 2;

/// The groups that report when a route may have changed (include/uapi/linux/rtnetlink.h): links, IPv4
/// addresses, routes and rules, IPv6 addresses, routes and rules.
const CHANGES: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
/// Most datagrams that are read at a time; those that are left say the same.
const DATAGRAMS: usize = 64;

/// Way of packets to an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// To a gateway, by the interface with this index.
    Gateway(u32),
    /// Straight to the address, by the interface with this index.
    OnLink(u32),
    /// To this host itself, or to a group of hosts.
    NoHost,
    /// No way: the address is unreachable.
    Unreachable,
}

/// A socket for queries, and one that reports when their results change.
#[derive(Debug)]
pub struct RouteTable {
    netlink: Netlink,
    changes: RouteChanges,
}

impl RouteTable {
    /// Opens both sockets in the network namespace of this thread.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { netlink: Netlink::open(NETLINK_ROUTE)?, changes: RouteChanges::open()? })
    }

    /// Returns whether links, addresses, routes or rules have changed since the last call.
    ///
    /// # Errors
    /// [`Error::Refused`] if the socket is no longer of use.
    pub fn has_changed(&mut self) -> Result<bool, Error> {
        self.changes.any()
    }

    /// Returns the way of TCP packets from the local address `from` to `to`.
    ///
    /// # Errors
    /// Netlink's error, such as `EINVAL` where `from` is no address of this host.
    pub fn way(&mut self, from: IpAddr, to: IpAddr) -> Result<Way, Error> {
        let mut request = route_request(to);
        put(&mut request, RTA_DST, &octets(to));
        put(&mut request, RTA_SRC, &octets(from));
        put(&mut request, RTA_IP_PROTO, &[TCP]);
        let found = self.netlink.query("look up a route", RTM_GETROUTE, &request, way);
        match found {
            Ok(found) => Ok(found.unwrap_or(Way::Unreachable)),
            Err(error) => match error.os_error() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES) => Ok(Way::Unreachable),
                _ => Err(error),
            },
        }
    }

    /// Returns whether the host takes IPv4 packets from `from` to the local address `to` that arrive by this
    /// interface. It drops them for their source alone where `rp_filter` demands that they arrive by
    /// another, and where the source is its own address.
    pub fn accepts(&mut self, from: Ipv4Addr, to: Ipv4Addr, interface: u32) -> Result<bool, Error> {
        let mut request = route_request(to.into());
        put(&mut request, RTA_DST, &to.octets());
        put(&mut request, RTA_SRC, &from.octets());
        put(&mut request, RTA_IIF, &interface.to_ne_bytes());
        put(&mut request, RTA_IP_PROTO, &[TCP]);
        let found = self.netlink.query("look up a route", RTM_GETROUTE, &request, kind);
        match found {
            Ok(kind) => Ok(kind == Some(RTN_LOCAL)),
            Err(error) => match error.os_error() {
                // A reverse path mismatch, and a source that is impossible there.
                Some(libc::EXDEV | libc::EINVAL) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Returns whether the host knows the Ethernet address of a neighbour at this interface.
    pub fn knows_neighbour(&mut self, address: IpAddr, interface: u32) -> Result<bool, Error> {
        let mut request = vec![0; NDMSG_LEN];
        request[0] = family(address);
        request[4..8].copy_from_slice(&interface.to_ne_bytes());
        put(&mut request, NDA_DST, &octets(address));
        match self.netlink.query("look up a neighbour", RTM_GETNEIGH, &request, is_valid) {
            Ok(found) => Ok(found == Some(true)),
            Err(error) if error.os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Reports that something has changed.
pub struct RouteChanges {
    socket: Socket,
    buffer: Vec<u8>,
}

impl RouteChanges {
    /// Opens the socket in the network namespace of this thread.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Open)?;
        socket.bind(&SocketAddr::new(0, CHANGES)).map_err(Error::Open)?;
        socket.set_non_blocking(true).map_err(Error::Open)?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_LEN] })
    }

    /// Returns whether there was any change that routes depend on since the last call. The kind of change does not
    /// matter, nor whether messages about it were lost.
    ///
    /// # Errors
    /// [`Error::Refused`] if the socket is no longer of use.
    pub fn any(&mut self) -> Result<bool, Error> {
        let mut any = false;
        for _ in 0..DATAGRAMS {
            match self.socket.recv_from(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                // Only the kernel has port 0; anyone else has no say.
                Ok((_, sender)) => any |= sender.port_number() == 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(source) => return Err(Error::Refused { what: "watch routes", source }),
            }
        }
        Ok(any)
    }
}

impl std::fmt::Debug for RouteChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteChanges").finish_non_exhaustive()
    }
}

/// A `struct rtmsg` that asks about an address.
fn route_request(to: IpAddr) -> Vec<u8> {
    let bits = if to.is_ipv4() { 32 } else { 128 };
    let mut request = vec![0; RTMSG_LEN];
    (request[0], request[1], request[2]) = (family(to), bits, bits);
    request
}

pub(super) fn put(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    request.extend(((4 + value.len()) as u16).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(value);
    request.resize(request.len().next_multiple_of(4), 0);
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The kind of a route, `RTN_…`.
fn kind(message: &Message) -> Result<Option<u8>, DecodeError> {
    let [kind] = field(message.payload, 7)?;
    Ok(Some(kind))
}

fn way(message: &Message) -> Result<Option<Way>, DecodeError> {
    let [kind] = field(message.payload, 7)?;
    if kind != RTN_UNICAST {
        return Ok(Some(Way::NoHost));
    }
    let (mut interface, mut gateway) = (None, false);
    for attribute in attributes(message.payload, RTMSG_LEN) {
        let attribute = attribute?;
        match attribute.kind() {
            RTA_OIF => interface = Some(u32::from_ne_bytes(field(attribute.value(), 0)?)),
            RTA_GATEWAY | RTA_VIA => gateway = true,
            _ => {}
        }
    }
    let by = if gateway { Way::Gateway } else { Way::OnLink };
    interface.map(|interface| Some(by(interface))).ok_or_else(|| "a route by no interface".into())
}

fn is_valid(message: &Message) -> Result<Option<bool>, DecodeError> {
    let state = u16::from_ne_bytes(field(message.payload, 8)?);
    Ok(Some(state & NUD_VALID != 0))
}

#[cfg(test)]
mod tests {
    use super::super::interfaces;
    use super::super::netlink::tests::{attribute, parsed_payload};
    use super::*;

    fn route(kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![0; RTMSG_LEN];
        payload[7] = kind;
        payload.extend(attributes.concat());
        payload
    }

    #[test]
    fn a_route_leads_to_a_gateway_to_the_link_or_to_no_host() {
        let out = attribute(RTA_OIF, &7u32.to_ne_bytes());
        let gateway = attribute(RTA_GATEWAY, &[192, 0, 2, 1]);
        let via = attribute(RTA_VIA, &[10, 0, 0xfe, 0x80]);
        for (payload, expected) in [
            (route(RTN_UNICAST, std::slice::from_ref(&out)), Way::OnLink(7)),
            (route(RTN_UNICAST, &[gateway, out.clone()]), Way::Gateway(7)),
            (route(RTN_UNICAST, &[out.clone(), via]), Way::Gateway(7)),
            (route(RTN_LOCAL, std::slice::from_ref(&out)), Way::NoHost),
        ] {
            assert_eq!(parsed_payload(&payload, way).expect("well formed"), Some(expected));
        }
        assert!(parsed_payload(&route(RTN_UNICAST, &[]), way).is_err());
    }

    #[test]
    fn a_truncated_answer_is_an_error_or_holds_less() {
        let out = attribute(RTA_OIF, &7u32.to_ne_bytes());
        let whole = route(RTN_UNICAST, &[out, attribute(RTA_GATEWAY, &[192, 0, 2, 1])]);
        for cut in 0..whole.len() {
            let found = parsed_payload(&whole[..cut], way);
            assert!(!matches!(found, Ok(Some(Way::Gateway(_)))), "cut at {cut}: {found:?}");
        }
        assert!((0..10).all(|length| parsed_payload(&vec![0; length], is_valid).is_err()));
    }

    #[test]
    fn a_neighbour_is_known_while_its_ethernet_address_may_be_used() {
        let state = |state: u16| {
            let mut payload = vec![0; NDMSG_LEN];
            payload[8..10].copy_from_slice(&state.to_ne_bytes());
            parsed_payload(&payload, is_valid).expect("well formed")
        };
        for valid in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
            assert_eq!(state(valid), Some(true), "{valid:#x}");
        }
        for invalid in [0, 0x01, 0x20] {
            assert_eq!(state(invalid), Some(false), "none, incomplete, failed: {invalid:#x}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let mut table = RouteTable::open().expect("netlink");
        let own = Ipv4Addr::LOCALHOST;
        assert_eq!(table.way(own.into(), own.into()).expect("a route"), Way::NoHost);
        let lo = interfaces::by_name("lo").expect("lo").index;
        assert!(!table.knows_neighbour(Ipv4Addr::new(127, 9, 9, 9).into(), lo).expect("an answer"));
        let taken = table.accepts(own, own, lo).expect("an answer");
        assert!(!taken, "nothing that came in from elsewhere");
        table.has_changed().expect("a live socket");
        assert!(!table.has_changed().expect("a live socket"), "not between two calls");
    }
}
