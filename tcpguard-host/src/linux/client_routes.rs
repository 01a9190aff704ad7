//! The routes of this network namespace as prefixes of clients: which addresses the host reaches by the same next
//! hops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::local_routes::RT_TABLE_LOCAL;
use super::netlink::{Message, Netlink, attributes, field};
use super::routes::{RTA_DST, RTA_OIF};
use super::rtnetlink::{
    RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA, RTM_GETROUTE, RTMSG_LEN, RTN_UNICAST, address,
    each_next_hop,
};

/// Routes of a family that are read at most.
const ROUTES: usize = 16_384;
const RTA_NH_ID: u16 = 30;
/// `RTN_BLACKHOLE`, `RTN_UNREACHABLE` and `RTN_PROHIBIT`: routes of packets that are not sent.
const UNSENT: std::ops::RangeInclusive<u8> = 6..=8;

/// The way of packets to a network.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reach {
    /// To no other host.
    Nowhere,
    /// To a gateway.
    Gateway,
    /// Straight to the address.
    OnLink,
}

/// The routes of a prefix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientRoute {
    /// The way of packets. Of several routes it is that of the one that assumes the least.
    pub reach: Reach,
    /// Gateways and interfaces, as the kernel says them.
    hops: BTreeSet<(u16, Vec<u8>)>,
}

/// All routes, by prefix: whichever table and rule they belong to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientRoutes(pub BTreeMap<IpNet, ClientRoute>);

/// Reads the routes, the first 16,384 that the kernel lists of each family, and the addresses that are delivered to
/// this host or to a group.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn client_routes() -> Result<ClientRoutes, Error> {
    let mut routes = ClientRoutes::default();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; RTMSG_LEN];
        request[0] = family as u8;
        let netlink = Netlink::open(NETLINK_ROUTE)?;
        let found = netlink.dump_first("list routes", RTM_GETROUTE, &request, ROUTES, route)?;
        found.into_iter().for_each(|(net, route)| routes.add(net, route));
        request[4] = RT_TABLE_LOCAL;
        let mut netlink = Netlink::open(NETLINK_ROUTE)?;
        netlink.strict()?;
        match netlink.dump("list local routes", RTM_GETROUTE, &request, local) {
            Ok(found) => found.into_iter().for_each(|net| routes.add_nowhere(net)),
            // There is no such table while the family has no address.
            Err(error) if error.os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    routes.add_network_addresses();
    Ok(routes)
}

impl ClientRoutes {
    fn add(&mut self, net: IpNet, route: ClientRoute) {
        let known = self.0.entry(net).or_insert_with(|| ClientRoute::of(route.reach));
        known.reach = known.reach.max(route.reach);
        known.hops.extend(route.hops);
    }

    fn add_nowhere(&mut self, net: IpNet) {
        self.0.insert(net, ClientRoute::of(Reach::Nowhere));
    }

    /// Adds the first address of each IPv4 network on a link, which is no neighbour's by custom. (The kernel itself
    /// lists the last one.)
    fn add_network_addresses(&mut self) {
        let on_link = self.0.iter().filter(|(_, route)| route.reach == Reach::OnLink);
        let networks = on_link.filter_map(|(net, _)| match net {
            IpNet::V4(net) if (1..=30).contains(&net.prefix_len()) => {
                Some(IpNet::from(IpAddr::from(net.network())))
            }
            _ => None,
        });
        let networks: Vec<IpNet> = networks.collect();
        for net in networks {
            self.0.entry(net).or_insert_with(|| ClientRoute::of(Reach::Nowhere));
        }
    }
}

impl ClientRoute {
    const fn of(reach: Reach) -> Self {
        Self { reach, hops: BTreeSet::new() }
    }
}

/// The prefix of a route.
fn prefix(message: &Message) -> Result<Option<IpNet>, DecodeError> {
    let [family, length] = field(message.payload, 0)?;
    for attribute in attributes(message.payload, RTMSG_LEN) {
        let attribute = attribute?;
        if attribute.kind() == RTA_DST {
            let found = address(family, attribute.value())?;
            return Ok(found.and_then(|found| IpNet::new(found, length).ok()));
        }
    }
    let any: IpAddr = match i32::from(family) {
        libc::AF_INET => [0; 4].into(),
        libc::AF_INET6 => [0; 16].into(),
        _ => return Ok(None),
    };
    Ok(IpNet::new(any, length).ok())
}

/// A route that is not of the local table; `None` of one that says nothing.
fn route(message: &Message) -> Result<Option<(IpNet, ClientRoute)>, DecodeError> {
    let payload = message.payload;
    let ([family], [table], [kind]) = (field(payload, 0)?, field(payload, 4)?, field(payload, 7)?);
    let is_sent = kind == RTN_UNICAST;
    if table == RT_TABLE_LOCAL || !is_sent && !UNSENT.contains(&kind) {
        return Ok(None);
    }
    let mut route = ClientRoute::of(if is_sent { Reach::OnLink } else { Reach::Nowhere });
    for attribute in attributes(payload, RTMSG_LEN) {
        let attribute = attribute?;
        let has_gateway = match attribute.kind() {
            RTA_GATEWAY | RTA_VIA => true,
            RTA_MULTIPATH => {
                let mut gateways = Vec::new();
                each_next_hop(family, attribute.value(), &mut gateways)?;
                !gateways.is_empty()
            }
            RTA_OIF | RTA_NH_ID => false,
            _ => continue,
        };
        if has_gateway && is_sent {
            route.reach = Reach::Gateway;
        }
        route.hops.insert((attribute.kind(), attribute.value().to_vec()));
    }
    Ok(prefix(message)?.map(|net| (net, route)))
}

/// The prefix of a route of the local table. A host that routes a large part of the Internet to itself is a
/// transparent proxy, and has clients there.
fn local(message: &Message) -> Result<Option<IpNet>, DecodeError> {
    let [table] = field(message.payload, 4)?;
    let found = if table == RT_TABLE_LOCAL { prefix(message)? } else { None };
    Ok(found.filter(|net| net.prefix_len() >= 8))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::messages;
    use super::super::netlink::tests::{attribute, message};
    use super::*;

    const INET: u8 = libc::AF_INET as u8;
    const MAIN: u8 = 254;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn parse(
        length: u8,
        table: u8,
        kind: u8,
        attributes: &[Vec<u8>],
    ) -> Result<Option<(IpNet, ClientRoute)>, DecodeError> {
        let mut payload = vec![0; RTMSG_LEN];
        (payload[0], payload[1], payload[4], payload[7]) = (INET, length, table, kind);
        payload.extend(attributes.concat());
        let datagram = message(0x18, &payload);
        let message = messages(&datagram).next().expect("one message")?;
        route(&message)
    }

    #[test]
    fn a_route_leads_to_a_gateway_to_the_link_or_nowhere() {
        let out = attribute(RTA_OIF, &7u32.to_ne_bytes());
        let to = attribute(RTA_DST, &[10, 9, 0, 0]);
        let gateway = attribute(RTA_GATEWAY, &[192, 0, 2, 1]);
        for (length, kind, attributes, expected) in [
            (24, RTN_UNICAST, vec![to.clone(), out.clone()], ("10.9.0.0/24", Reach::OnLink)),
            (0, RTN_UNICAST, vec![gateway, out], ("0.0.0.0/0", Reach::Gateway)),
            (24, 6, vec![to], ("10.9.0.0/24", Reach::Nowhere)),
        ] {
            let found = parse(length, MAIN, kind, &attributes).expect("well formed").expect("one");
            assert_eq!((found.0, found.1.reach), (net(expected.0), expected.1));
        }
        assert_eq!(parse(0, MAIN, 9, &[]).expect("well formed"), None, "throw: the next table");
        assert_eq!(parse(0, RT_TABLE_LOCAL, RTN_UNICAST, &[]).expect("well formed"), None);
        assert!(parse(24, MAIN, RTN_UNICAST, &[attribute(RTA_DST, &[10, 9])]).is_err());
    }

    #[test]
    fn of_several_routes_the_one_that_assumes_least_counts_and_each_change_shows() {
        let mut routes = ClientRoutes::default();
        let all = net("0.0.0.0/0");
        routes.add(all, ClientRoute::of(Reach::Nowhere));
        routes.add(all, ClientRoute::of(Reach::Gateway));
        assert_eq!(routes.0[&all].reach, Reach::Gateway);
        let before = routes.clone();
        let mut other = ClientRoute::of(Reach::Gateway);
        other.hops.insert((RTA_GATEWAY, vec![192, 0, 2, 2]));
        routes.add(all, other);
        assert_ne!(routes, before, "another gateway");
        routes.add(net("10.9.0.0/24"), ClientRoute::of(Reach::OnLink));
        routes.add(net("10.9.1.0/31"), ClientRoute::of(Reach::OnLink));
        routes.add_network_addresses();
        assert_eq!(routes.0[&net("10.9.0.0/32")].reach, Reach::Nowhere);
        assert!(!routes.0.contains_key(&net("10.9.1.0/32")), "RFC 3021");
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let routes = client_routes().expect("the routing tables");
        let loopback = routes.0.get(&net("127.0.0.0/8")).map(|route| route.reach);
        assert_eq!(loopback, Some(Reach::Nowhere));
    }
}
