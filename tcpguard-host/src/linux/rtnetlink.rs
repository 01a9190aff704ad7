//! The addresses of this network namespace, and the next hops in its routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::netlink::{Message, Netlink, attributes, field};

const RTM_GETADDR: u16 = 22;
pub(super) const RTM_GETROUTE: u16 = 26;

/// Length of `struct ifaddrmsg`, include/uapi/linux/if_addr.h.
const IFADDRMSG_LEN: usize = 8;
/// Length of `struct rtmsg`, include/uapi/linux/rtnetlink.h.
pub(super) const RTMSG_LEN: usize = 12;
/// Length of `struct rtnexthop`, include/uapi/linux/rtnetlink.h.
const RTNEXTHOP_LEN: usize = 8;

/// `IFA_ADDRESS`: the address, or the other end of a point-to-point link.
const IFA_ADDRESS: u16 = 1;
/// `IFA_LOCAL`: the own address, where `IFA_ADDRESS` is not.
const IFA_LOCAL: u16 = 2;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_VIA: u16 = 18;
/// `RTN_UNICAST`: a route that leads somewhere.
pub(super) const RTN_UNICAST: u8 = 1;

/// Every address of this namespace's interfaces, loopback included.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn own_addresses() -> Result<Vec<IpAddr>, Error> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    netlink.dump("list own addresses", RTM_GETADDR, &[0; IFADDRMSG_LEN], own_address)
}

fn own_address(message: &Message) -> Result<Option<IpAddr>, DecodeError> {
    let [family] = field(message.payload, 0)?;
    let mut own = None;
    for attribute in attributes(message.payload, IFADDRMSG_LEN) {
        let attribute = attribute?;
        match attribute.kind() {
            IFA_LOCAL => own = address(family, attribute.value())?,
            IFA_ADDRESS if own.is_none() => own = address(family, attribute.value())?,
            _ => {}
        }
    }
    Ok(own)
}

/// The `struct rtnexthop` records of a multipath route, each followed by its own attributes.
pub(super) fn each_next_hop(
    family: u8,
    mut hops: &[u8],
    gateways: &mut Vec<IpAddr>,
) -> Result<(), DecodeError> {
    while !hops.is_empty() {
        let len = usize::from(u16::from_ne_bytes(field(hops, 0)?));
        let hop = hops.get(..len).filter(|hop| hop.len() >= RTNEXTHOP_LEN);
        let hop = hop.ok_or_else(|| DecodeError::from(format!("next hop of {len} bytes")))?;
        for attribute in attributes(hop, RTNEXTHOP_LEN) {
            let attribute = attribute?;
            gateways.extend(gateway(family, attribute.kind(), attribute.value())?);
        }
        hops = hops.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// The gateway that an attribute of a route names, if it does. `RTA_VIA` is a gateway of the
/// other family, preceded by that family.
pub(super) fn gateway(family: u8, kind: u16, value: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    match kind {
        RTA_GATEWAY => address(family, value),
        RTA_VIA => {
            let family = u16::from_ne_bytes(field(value, 0)?);
            let value = value.get(2..).unwrap_or_default();
            u8::try_from(family).map_or(Ok(None), |family| address(family, value))
        }
        _ => Ok(None),
    }
}

pub(super) fn address(family: u8, value: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    Ok(match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(field::<4>(value, 0)?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(field::<16>(value, 0)?).into()),
        _ => None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::netlink::tests::{attribute, parsed_payload};
    use super::*;

    const INET: u8 = libc::AF_INET as u8;

    pub(in crate::linux) fn next_hop(attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let len = (RTNEXTHOP_LEN + attributes.len()) as u16;
        [&len.to_ne_bytes()[..], &[0; RTNEXTHOP_LEN - 2], &attributes].concat()
    }

    #[test]
    fn of_a_point_to_point_link_only_the_own_end_is_own() {
        let mut payload = vec![INET, 32, 0, 0, 7, 0, 0, 0];
        payload.extend(attribute(IFA_ADDRESS, &[10, 0, 0, 2]));
        payload.extend(attribute(IFA_LOCAL, &[10, 0, 0, 1]));
        let found = parsed_payload(&payload, own_address).expect("well formed");
        assert_eq!(found, Some(IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn a_next_hop_of_any_length_ends() {
        for len in 0..=u16::from(u8::MAX) {
            let mut hop = next_hop(&[attribute(RTA_GATEWAY, &[192, 0, 2, 1])]);
            hop[..2].copy_from_slice(&len.to_ne_bytes());
            let found = each_next_hop(INET, &hop, &mut Vec::new());
            assert_eq!(found.is_ok(), len == 8 || len == 16, "length {len}: {found:?}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        assert!(own_addresses().is_ok_and(|own| own.contains(&IpAddr::from([127, 0, 0, 1]))));
    }
}
