//! Networks with addresses that are all this host's own although they are on no interface, as those of
//! a content network are ("AnyIP"): `ip route add local 203.0.113.0/24 dev lo`.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::netlink::{Message, Netlink, attributes, field};
use super::routes::{RTA_DST, RTN_LOCAL};
use super::rtnetlink::{RTM_GETROUTE, RTMSG_LEN, address, own_addresses};

/// `RT_TABLE_LOCAL`: the routing table of the addresses that are delivered to this host.
pub(super) const RT_TABLE_LOCAL: u8 = 255;
/// Shorter prefixes are no networks of one host: a host that routes all of the Internet to itself is a
/// transparent proxy. IPv4, IPv6.
const SHORTEST: [u8; 2] = [8, 32];
/// The most addresses that are listed.
const MOST_ADDRESSES: usize = 64;

/// The networks of this network namespace.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn local_networks() -> Result<Vec<IpNet>, Error> {
    let mut networks = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; RTMSG_LEN];
        (request[0], request[4], request[7]) = (family as u8, RT_TABLE_LOCAL, RTN_LOCAL);
        let mut netlink = Netlink::open(NETLINK_ROUTE)?;
        netlink.strict()?;
        match netlink.dump("list local routes", RTM_GETROUTE, &request, local_network) {
            Ok(found) => networks.extend(found),
            // There is no such table while the family has no address.
            Err(error) if error.os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(networks)
}

/// Every address of this network namespace; none, which stands for any, where there are more than
/// `MOST_ADDRESSES`, or networks of them.
///
/// # Errors
/// As [`local_networks`].
pub fn all_addresses() -> Result<Vec<IpAddr>, Error> {
    let own = own_addresses()?;
    let listed = own.len() <= MOST_ADDRESSES && local_networks()?.is_empty();
    Ok(if listed { own } else { Vec::new() })
}

/// The network of a local route; `None` of another route, and of one to a single address.
fn local_network(message: &Message) -> Result<Option<IpNet>, DecodeError> {
    let payload = message.payload;
    let [family, length] = field(payload, 0)?;
    let [table] = field(payload, 4)?;
    let [kind] = field(payload, 7)?;
    if table != RT_TABLE_LOCAL || kind != RTN_LOCAL {
        return Ok(None);
    }
    for attribute in attributes(payload, RTMSG_LEN) {
        let attribute = attribute?;
        if attribute.kind() == RTA_DST {
            let network = address(family, attribute.value())?;
            let network = network.and_then(|network| IpNet::new(network, length).ok());
            return Ok(network.filter(is_network));
        }
    }
    Ok(None)
}

fn is_network(net: &IpNet) -> bool {
    let shortest = SHORTEST[usize::from(net.addr().is_ipv6())];
    (shortest..net.max_prefix_len()).contains(&net.prefix_len()) && !net.addr().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::messages;
    use super::super::netlink::tests::{attribute, message};
    use super::*;

    const INET: u8 = libc::AF_INET as u8;
    const INET6: u8 = libc::AF_INET6 as u8;

    fn parse(
        family: u8,
        length: u8,
        (table, kind): (u8, u8),
        to: &[u8],
    ) -> Result<Option<String>, DecodeError> {
        let mut payload = vec![0; RTMSG_LEN];
        (payload[0], payload[1], payload[4], payload[7]) = (family, length, table, kind);
        payload.extend(attribute(RTA_DST, to));
        let datagram = message(0x18, &payload);
        let message = messages(&datagram).next().expect("one message")?;
        local_network(&message).map(|found| found.map(|net| net.to_string()))
    }

    #[test]
    fn networks_that_are_delivered_here_are_own_and_single_addresses_are_known_otherwise() {
        let local = (RT_TABLE_LOCAL, RTN_LOCAL);
        let v6 = [0x20, 0x01, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (family, length, what, to, expected) in [
            (INET, 17, local, &[10, 9, 128, 0][..], Some("10.9.128.0/17")),
            (INET6, 48, local, &v6, Some("2001:db8:9::/48")),
            (INET, 32, local, &[10, 9, 0, 1], None),
            (INET, 8, local, &[127, 0, 0, 0], None),
            (INET, 0, local, &[0, 0, 0, 0], None),
            (INET, 17, (254, RTN_LOCAL), &[10, 9, 128, 0], None),
            (INET, 17, (RT_TABLE_LOCAL, 3), &[10, 9, 128, 0], None),
        ] {
            let found = parse(family, length, what, to).expect("well formed");
            assert_eq!(found.as_deref(), expected, "{to:?}/{length}");
        }
        assert!(parse(INET, 17, local, &[10, 9]).is_err(), "a cut address");
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let networks = local_networks().expect("the local routes");
        assert!(networks.iter().all(is_network), "{networks:?}");
    }
}
