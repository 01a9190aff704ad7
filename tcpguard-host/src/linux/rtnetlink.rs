//! The addresses of this network namespace, and where its default routes lead.

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

/// Routes looked at in search of default routes. The kernel lists a table from its shortest
/// prefix on, so that they come first even where a router carries the whole Internet table.
pub(super) const ROUTES: usize = 16_384;

/// Every address of this namespace's interfaces, loopback included.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn own_addresses() -> Result<Vec<IpAddr>, Error> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    netlink.dump("list own addresses", RTM_GETADDR, &[0; IFADDRMSG_LEN], own_address)
}

/// The gateways of all default routes of both families, of every routing table.
pub fn default_gateways() -> Result<Vec<IpAddr>, Error> {
    let mut gateways = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; RTMSG_LEN];
        request[0] = family as u8;
        let netlink = Netlink::open(NETLINK_ROUTE)?;
        let what = "list default routes";
        let found = netlink.dump_first(what, RTM_GETROUTE, &request, ROUTES, default_route)?;
        gateways.extend(found.into_iter().flatten());
    }
    gateways.sort_unstable();
    gateways.dedup();
    Ok(gateways)
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

/// The gateways of a default route; `None` if it is another route.
fn default_route(message: &Message) -> Result<Option<Vec<IpAddr>>, DecodeError> {
    let payload = message.payload;
    let [family, prefix_len] = field(payload, 0)?;
    let [kind] = field(payload, 7)?;
    if prefix_len != 0 || kind != RTN_UNICAST {
        return Ok(None);
    }
    let mut gateways = Vec::new();
    for attribute in attributes(payload, RTMSG_LEN) {
        let attribute = attribute?;
        match attribute.kind() {
            RTA_MULTIPATH => each_next_hop(family, attribute.value(), &mut gateways)?,
            kind => gateways.extend(gateway(family, kind, attribute.value())?),
        }
    }
    Ok(Some(gateways))
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
fn gateway(family: u8, kind: u16, value: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
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
mod tests {
    use super::super::netlink::messages;
    use super::super::netlink::tests::{attribute, message};
    use super::*;

    const INET: u8 = libc::AF_INET as u8;
    const INET6: u8 = libc::AF_INET6 as u8;

    fn parse_one<T>(
        payload: &[u8],
        parse: fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let datagram = message(0x18, payload);
        let message = messages(&datagram).next().expect("one message");
        message.and_then(|message| parse(&message))
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn route(family: u8, prefix_len: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![0; RTMSG_LEN];
        (payload[0], payload[1], payload[7]) = (family, prefix_len, kind);
        payload.extend(attributes.concat());
        payload
    }

    fn next_hop(attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let len = (RTNEXTHOP_LEN + attributes.len()) as u16;
        [&len.to_ne_bytes()[..], &[0; RTNEXTHOP_LEN - 2], &attributes].concat()
    }

    #[test]
    fn of_a_point_to_point_link_only_the_own_end_is_own() {
        let mut payload = vec![INET, 32, 0, 0, 7, 0, 0, 0];
        payload.extend(attribute(IFA_ADDRESS, &[10, 0, 0, 2]));
        payload.extend(attribute(IFA_LOCAL, &[10, 0, 0, 1]));
        let found = parse_one(&payload, own_address).expect("well formed");
        assert_eq!(found, Some(IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn default_routes_name_their_gateways_and_other_routes_do_not() {
        let gateway = attribute(RTA_GATEWAY, &[192, 0, 2, 1]);
        let link_local = "fe80::1".parse::<Ipv6Addr>().expect("an address").octets();
        let via =
            attribute(RTA_VIA, &[&(u16::from(INET6)).to_ne_bytes()[..], &link_local].concat());
        let hops = [next_hop(std::slice::from_ref(&gateway)), next_hop(std::slice::from_ref(&via))];
        let multipath = attribute(RTA_MULTIPATH, &hops.concat());
        for (payload, expected) in [
            (route(INET, 0, RTN_UNICAST, std::slice::from_ref(&gateway)), Some(vec!["192.0.2.1"])),
            (
                route(INET6, 0, RTN_UNICAST, &[attribute(RTA_GATEWAY, &link_local)]),
                Some(vec!["fe80::1"]),
            ),
            (route(INET, 0, RTN_UNICAST, &[via]), Some(vec!["fe80::1"])),
            (route(INET, 0, RTN_UNICAST, &[multipath]), Some(vec!["192.0.2.1", "fe80::1"])),
            (route(INET, 0, RTN_UNICAST, &[]), Some(vec![])),
            (route(INET, 8, RTN_UNICAST, std::slice::from_ref(&gateway)), None),
            (route(INET, 0, 7, &[gateway]), None),
        ] {
            let found = parse_one(&payload, default_route).expect("well formed");
            assert_eq!(found, expected.map(|texts| addresses(&texts)));
        }
    }

    #[test]
    fn a_truncated_route_is_an_error_or_holds_less() {
        let hop = next_hop(&[attribute(RTA_GATEWAY, &[192, 0, 2, 1])]);
        let multipath = attribute(RTA_MULTIPATH, &[hop.clone(), hop].concat());
        let whole = route(INET, 0, RTN_UNICAST, &[multipath]);
        for cut in 0..whole.len() {
            let found = parse_one(&whole[..cut], default_route);
            let gateways = found.ok().flatten().unwrap_or_default();
            assert_eq!(gateways, [] as [IpAddr; 0], "cut at {cut}");
        }
    }

    #[test]
    fn a_next_hop_of_any_length_ends() {
        for len in 0..=u16::from(u8::MAX) {
            let mut hop = next_hop(&[attribute(RTA_GATEWAY, &[192, 0, 2, 1])]);
            hop[..2].copy_from_slice(&len.to_ne_bytes());
            let payload = route(INET, 0, RTN_UNICAST, &[attribute(RTA_MULTIPATH, &hop)]);
            let found = parse_one(&payload, default_route);
            assert_eq!(found.is_ok(), len == 8 || len == 16, "length {len}: {found:?}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        assert!(own_addresses().is_ok_and(|own| own.contains(&IpAddr::from([127, 0, 0, 1]))));
        default_gateways().expect("the routing tables");
    }
}
