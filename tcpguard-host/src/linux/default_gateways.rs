//! The gateways of the default routes of this network namespace, in whichever routing table they are.
//!
//! A table may hold the routes of the whole Internet, and the kernel lists one table after the other. So each table is
//! listed by itself, and no more than its first routes. The kernel lists an IPv4 table from address 0 on, so that its
//! default routes come first. An IPv6 table ends with them. So for IPv6 the kernel is also asked for its route to `::`,
//! to which none but the default route leads, in each way in which a rule leads to a table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::interfaces::{IFINFOMSG_LEN, RTM_GETLINK};
use super::local_routes::RT_TABLE_LOCAL;
use super::netlink::{Message, Netlink, attributes, field};
use super::routes::{RTA_DST, RTA_OIF, RTA_SRC, put};
use super::rtnetlink::{
    RTA_MULTIPATH, RTM_GETROUTE, RTMSG_LEN, RTN_UNICAST, each_next_hop, gateway,
};

const RTM_GETRULE: u16 = 34;
/// Length of `struct fib_rule_hdr`, include/uapi/linux/fib_rules.h.
const RULE_LEN: usize = 12;
/// `FR_ACT_TO_TBL`: a rule that leads to a table.
const TO_TABLE: u8 = 1;
/// `FIB_RULE_INVERT`: a rule for packets that are not as it says.
const INVERTED: u32 = 2;
/// Attributes of a rule, include/uapi/linux/fib_rules.h.
mod fra {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const FWMARK: u16 = 10;
    pub(super) const TABLE: u16 = 15;
    pub(super) const L3MDEV: u16 = 19;
}

/// Attributes of a link that is a VRF, include/uapi/linux/if_link.h.
mod ifla {
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const VRF_TABLE: u16 = 1;
}

const RTA_TABLE: u16 = 15;
const RTA_MARK: u16 = 16;
/// `RTM_F_FIB_MATCH`: answer with the route of the table rather than with the way of a packet.
const FIB_MATCH: u32 = 0x2000;
/// `RT_TABLE_DEFAULT` and `RT_TABLE_MAIN`: the tables of a kernel without rules.
const WITHOUT_RULES: [u32; 2] = [253, 254];

/// Routes of a table that are read at least. Those of IPv4 come by address, so that only so many default routes could
/// hide one.
const LISTED: usize = 256;
/// Routes of all IPv6 tables together that are read, if that is more.
const OF_IPV6: usize = 16_384;
/// Tables that are listed, and questions about IPv6, of each family at most: at some 50 µs each, 1 % of a CPU's time.
const TABLES: usize = 1024;

/// The gateways of all default routes of both families.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn default_gateways() -> Result<Vec<IpAddr>, Error> {
    let mut gateways = BTreeSet::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let (tables, questions) = tables(family)?;
        let mut most = LISTED;
        if family == libc::AF_INET6 as u8 {
            most = most.max(OF_IPV6 / tables.len().max(1));
            gateways.extend(asked(questions)?);
        }
        for table in tables.into_iter().take(TABLES) {
            gateways.extend(listed(family, table, most)?);
        }
    }
    Ok(gateways.into_iter().collect())
}

/// The tables to which rules lead, and what to ask about a packet that each rule sends there.
fn tables(family: u8) -> Result<(BTreeSet<u32>, BTreeSet<Question>), Error> {
    let mut request = [0; RULE_LEN];
    request[0] = family;
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let rules = match netlink.dump("list routing rules", RTM_GETRULE, &request, rule) {
        Ok(rules) => rules,
        Err(error) => match error.os_error() {
            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
                return Ok((WITHOUT_RULES.into(), [Question::default()].into()));
            }
            _ => return Err(error),
        },
    };
    let (mut tables, mut questions) = (BTreeSet::new(), BTreeSet::new());
    if rules.iter().any(|rule| rule.table.is_none()) {
        let all = [0; IFINFOMSG_LEN];
        for (interface, table) in netlink.dump("list VRFs", RTM_GETLINK, &all, vrf)? {
            tables.insert(table);
            questions.insert(Question { interface, ..Question::default() });
        }
    }
    for Rule { table, question } in rules {
        if let Some(table) = table.filter(|table| *table != u32::from(RT_TABLE_LOCAL)) {
            tables.insert(table);
            questions.insert(question);
        }
    }
    Ok((tables, questions))
}

/// A rule that leads to a table.
#[derive(Debug, Eq, PartialEq)]
struct Rule {
    /// The table; `None`: that of the packet's VRF.
    table: Option<u32>,
    question: Question,
}

/// Properties of a packet for which the kernel is asked for its default route; zero where any will do.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Question {
    to: Vec<u8>,
    from: Vec<u8>,
    mark: u32,
    /// Index of a VRF.
    interface: u32,
}

fn rule(message: &Message) -> Result<Option<Rule>, DecodeError> {
    let payload = message.payload;
    let ([table], [action]) = (field(payload, 4)?, field(payload, 7)?);
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    if action != TO_TABLE {
        return Ok(None);
    }
    let (mut table, mut question) = (Some(u32::from(table)), Question::default());
    for attribute in attributes(payload, RULE_LEN) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            fra::TABLE => table = table.and(Some(u32::from_ne_bytes(field(value, 0)?))),
            fra::L3MDEV => table = None,
            fra::DST => question.to = value.to_vec(),
            fra::SRC => question.from = value.to_vec(),
            fra::FWMARK => question.mark = u32::from_ne_bytes(field(value, 0)?),
            _ => {}
        }
    }
    if flags & INVERTED != 0 {
        question = Question::default();
    }
    Ok(Some(Rule { table, question }))
}

/// Index and table of a VRF.
fn vrf(message: &Message) -> Result<Option<(u32, u32)>, DecodeError> {
    let index = u32::from_ne_bytes(field(message.payload, 4)?);
    let (mut is_vrf, mut table) = (false, None);
    for attribute in attributes(message.payload, IFINFOMSG_LEN) {
        let attribute = attribute?;
        if attribute.kind() != ifla::LINKINFO {
            continue;
        }
        for info in attributes(attribute.value(), 0) {
            let info = info?;
            match info.kind() {
                ifla::INFO_KIND => is_vrf = info.value().starts_with(b"vrf\0"),
                ifla::INFO_DATA if is_vrf => {
                    for data in attributes(info.value(), 0) {
                        let data = data?;
                        if data.kind() == ifla::VRF_TABLE {
                            table = Some(u32::from_ne_bytes(field(data.value(), 0)?));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(table.map(|table| (index, table)))
}

/// The gateways of the default routes among the first of a table, so many at most.
fn listed(family: u8, table: u32, most: usize) -> Result<Vec<IpAddr>, Error> {
    let mut request = vec![0; RTMSG_LEN];
    (request[0], request[7]) = (family, RTN_UNICAST);
    put(&mut request, RTA_TABLE, &table.to_ne_bytes());
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    netlink.strict()?;
    let what = "list default routes";
    match netlink.dump_first(what, RTM_GETROUTE, &request, most, default_route) {
        Ok(found) => Ok(found.into_iter().flatten().collect()),
        // A rule may lead to a table that has no route yet.
        Err(error) if error.os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The gateways of the IPv6 default routes that the kernel names.
fn asked(questions: BTreeSet<Question>) -> Result<Vec<IpAddr>, Error> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let mut gateways = Vec::new();
    for question in questions.into_iter().take(TABLES) {
        let what = "look up a default route";
        match netlink.query(what, RTM_GETROUTE, &question.request(), default_route) {
            Ok(found) => gateways.extend(found.into_iter().flatten()),
            // There is none, or no such packet.
            Err(error) if error.os_error().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gateways)
}

impl Question {
    fn request(&self) -> Vec<u8> {
        let mut request = vec![0; RTMSG_LEN];
        (request[0], request[1]) = (libc::AF_INET6 as u8, 128);
        request[8..12].copy_from_slice(&FIB_MATCH.to_ne_bytes());
        let any = Ipv6Addr::UNSPECIFIED.octets().to_vec();
        put(&mut request, RTA_DST, if self.to.is_empty() { &any } else { &self.to });
        if !self.from.is_empty() {
            request[2] = 128;
            put(&mut request, RTA_SRC, &self.from);
        }
        for (kind, value) in [(RTA_MARK, self.mark), (RTA_OIF, self.interface)] {
            if value != 0 {
                put(&mut request, kind, &value.to_ne_bytes());
            }
        }
        request
    }
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

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::{attribute, parsed_payload};
    use super::super::rtnetlink::tests::next_hop;
    use super::super::rtnetlink::{RTA_GATEWAY, RTA_VIA};
    use super::*;

    const INET: u8 = libc::AF_INET as u8;
    const INET6: u8 = libc::AF_INET6 as u8;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn route(family: u8, prefix_len: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![0; RTMSG_LEN];
        (payload[0], payload[1], payload[7]) = (family, prefix_len, kind);
        payload.extend(attributes.concat());
        payload
    }

    fn rule_message(table: u8, action: u8, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![INET6, 0, 0, 0, table, 0, 0, action];
        payload.extend(flags.to_ne_bytes());
        payload.extend(attributes.concat());
        payload
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
            let found = parsed_payload(&payload, default_route).expect("well formed");
            assert_eq!(found, expected.map(|texts| addresses(&texts)));
        }
    }

    #[test]
    fn a_truncated_route_is_an_error_or_holds_less() {
        let hop = next_hop(&[attribute(RTA_GATEWAY, &[192, 0, 2, 1])]);
        let multipath = attribute(RTA_MULTIPATH, &[hop.clone(), hop].concat());
        let whole = route(INET, 0, RTN_UNICAST, &[multipath]);
        for cut in 0..whole.len() {
            let found = parsed_payload(&whole[..cut], default_route);
            let gateways = found.ok().flatten().unwrap_or_default();
            assert_eq!(gateways, [] as [IpAddr; 0], "cut at {cut}");
        }
    }

    #[test]
    fn a_rule_leads_to_a_table_and_says_for_which_packets() {
        let table = attribute(fra::TABLE, &4000_u32.to_ne_bytes());
        let mark = attribute(fra::FWMARK, &7_u32.to_ne_bytes());
        let from = attribute(fra::SRC, &[0x20; 16]);
        let marked = Question { mark: 7, from: vec![0x20; 16], ..Question::default() };
        let of = |table, question| Some(Rule { table, question });
        let all = Question::default;
        for (payload, expected) in [
            (rule_message(254, TO_TABLE, 0, &[]), of(Some(254), all())),
            (
                rule_message(252, TO_TABLE, 0, &[table.clone(), mark.clone(), from]),
                of(Some(4000), marked),
            ),
            (rule_message(252, TO_TABLE, INVERTED, &[table.clone(), mark]), of(Some(4000), all())),
            (rule_message(0, TO_TABLE, 0, &[attribute(fra::L3MDEV, &[1]), table]), of(None, all())),
            (rule_message(0, 7, 0, &[]), None),
        ] {
            assert_eq!(parsed_payload(&payload, rule).expect("well formed"), expected);
        }
    }

    #[test]
    fn a_vrf_names_its_table_and_other_links_do_not() {
        let link = |kind: &[u8], table: u32| {
            let mut payload = vec![0; IFINFOMSG_LEN];
            payload[4..8].copy_from_slice(&9_u32.to_ne_bytes());
            let data = attribute(ifla::VRF_TABLE, &table.to_ne_bytes());
            let info =
                [attribute(ifla::INFO_KIND, kind), attribute(ifla::INFO_DATA, &data)].concat();
            payload.extend(attribute(ifla::LINKINFO, &info));
            parsed_payload(&payload, vrf).expect("well formed")
        };
        assert_eq!(link(b"vrf\0", 1001), Some((9, 1001)));
        assert_eq!(link(b"vlan\0", 1001), None);
    }

    #[test]
    fn the_running_kernel_is_understood() {
        for family in [INET, INET6] {
            let (tables, questions) = tables(family).expect("the routing rules");
            assert!(tables.contains(&254) && questions.contains(&Question::default()));
        }
        default_gateways().expect("the routing tables");
    }
}
