//! The programs that are attached to an interface, and the interfaces that it is itself attached to.

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::interfaces::{IFINFOMSG_LEN, RTM_NEWLINK};
use super::netlink::{Message, Netlink, attributes, field};

const RTM_GETLINK: u16 = 18;
/// `RTM_NEWTFILTER`, include/uapi/linux/rtnetlink.h.
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
/// Length of `struct tcmsg`, include/uapi/linux/rtnetlink.h.
const TCMSG_LEN: usize = 20;

/// Attributes of a link, include/uapi/linux/if_link.h.
mod ifla {
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const XDP: u16 = 43;
    pub(super) const TARGET_NETNSID: u16 = 46;
    pub(super) const XDP_ATTACHED: u16 = 2;
    pub(super) const XDP_PROG_ID: u16 = 4;
    pub(super) const XDP_DRV_PROG_ID: u16 = 5;
    pub(super) const XDP_SKB_PROG_ID: u16 = 6;
    pub(super) const XDP_HW_PROG_ID: u16 = 7;
    /// The kernel's `XDP_ATTACHED_SKB`.
    pub(super) const ATTACHED_SKB: u8 = 2;
}

/// Attributes of a filter, include/uapi/linux/rtnetlink.h and pkt_cls.h.
mod tca {
    pub(super) const KIND: u16 = 1;
    pub(super) const OPTIONS: u16 = 2;
    pub(super) const BPF_NAME: u16 = 7;
    pub(super) const BPF_ID: u16 = 11;
}

/// Position of an interface among others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Index of the bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// Index of the interface below it, such as that of a VLAN; of a veth its other end.
    pub below: Option<u32>,
    /// Number by which this namespace knows the one of `below`; `None`: it is this one.
    pub below_netns: Option<i32>,
    /// The XDP programs on it.
    pub xdp: XdpPrograms,
}

/// Kernel ids of the XDP programs of an interface.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct XdpPrograms {
    /// Id of the program in the driver.
    pub native: Option<u32>,
    /// Id of the program in the network stack.
    pub generic: Option<u32>,
    /// Id of the program in the hardware.
    pub hardware: Option<u32>,
}

/// Direction of packets at clsact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// `TC_H_CLSACT` with `TC_H_MIN_INGRESS` or `TC_H_MIN_EGRESS`, include/uapi/linux/pkt_sched.h.
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// A filter at clsact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Kind of the filter: `bpf`, `flower`, `u32`, …
    pub kind: String,
    /// Name of a BPF filter.
    pub name: Option<String>,
    /// Kernel id of its program.
    pub id: Option<u32>,
}

/// Returns the position of the interface with this index.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn place(index: u32) -> Result<Place, Error> {
    place_in(index, None)
}

/// Returns the position of the other end of the veth at `place`; `None` where it has none that can be seen.
///
/// # Errors
/// As [`place`]; also where this process has no rights over the namespace in which it is.
pub fn other_end(place: &Place) -> Result<Option<Place>, Error> {
    place.below.map(|index| place_in(index, place.below_netns)).transpose()
}

fn place_in(index: u32, netns: Option<i32>) -> Result<Place, Error> {
    let mut request = vec![0; IFINFOMSG_LEN];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(netns) = netns {
        request.extend(8u16.to_ne_bytes());
        request.extend(ifla::TARGET_NETNSID.to_ne_bytes());
        request.extend(netns.to_ne_bytes());
    }
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let found = netlink.query("look at an interface", RTM_GETLINK, &request, parse_place)?;
    Ok(found.unwrap_or_default())
}

/// The filters at an interface's clsact or ingress queueing discipline; none where it has neither.
pub fn filters(index: u32, direction: Direction) -> Result<Vec<Filter>, Error> {
    let mut request = [0; TCMSG_LEN];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    request[12..16].copy_from_slice(&direction.parent().to_ne_bytes());
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let what = "list an interface's filters";
    let found = netlink.dump(what, RTM_GETTFILTER, &request, parse_filter);
    match found {
        // Such a queueing discipline has no filters that could be listed.
        Err(error) if matches!(error.os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        found => found,
    }
}

fn parse_place(message: &Message) -> Result<Option<Place>, DecodeError> {
    if message.kind != RTM_NEWLINK {
        return Err(format!("message type {} in place of an interface", message.kind).into());
    }
    let mut place = Place::default();
    for attribute in attributes(message.payload, IFINFOMSG_LEN) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            ifla::MASTER => place.master = Some(u32::from_ne_bytes(field(value, 0)?)),
            ifla::LINK => place.below = Some(u32::from_ne_bytes(field(value, 0)?)),
            ifla::LINK_NETNSID => place.below_netns = Some(i32::from_ne_bytes(field(value, 0)?)),
            ifla::XDP => place.xdp = parse_xdp(value)?,
            _ => {}
        }
    }
    Ok(Some(place))
}

fn parse_xdp(value: &[u8]) -> Result<XdpPrograms, DecodeError> {
    let mut programs = XdpPrograms::default();
    let (mut mode, mut only) = (0, None);
    for attribute in attributes(value, 0) {
        let attribute = attribute?;
        let value = attribute.value();
        let id = || field(value, 0).map(u32::from_ne_bytes);
        match attribute.kind() {
            ifla::XDP_ATTACHED => [mode] = field(value, 0)?,
            ifla::XDP_PROG_ID => only = Some(id()?),
            ifla::XDP_DRV_PROG_ID => programs.native = Some(id()?),
            ifla::XDP_SKB_PROG_ID => programs.generic = Some(id()?),
            ifla::XDP_HW_PROG_ID => programs.hardware = Some(id()?),
            _ => {}
        }
    }
    // Before 4.19 there was one id, and where its program runs.
    if programs == XdpPrograms::default() {
        match mode {
            ifla::ATTACHED_SKB => programs.generic = only,
            _ => programs.native = only,
        }
    }
    Ok(programs)
}

fn parse_filter(message: &Message) -> Result<Option<Filter>, DecodeError> {
    if message.kind != RTM_NEWTFILTER {
        return Err(format!("message type {} in a list of filters", message.kind).into());
    }
    let mut filter = Filter { kind: String::new(), name: None, id: None };
    let mut options = Vec::new();
    for attribute in attributes(message.payload, TCMSG_LEN) {
        let attribute = attribute?;
        match attribute.kind() {
            tca::KIND => filter.kind = text(attribute.value()),
            tca::OPTIONS => options = attribute.value().to_vec(),
            _ => {}
        }
    }
    if filter.kind == "bpf" {
        for option in attributes(&options, 0) {
            let option = option?;
            match option.kind() {
                tca::BPF_NAME => filter.name = Some(text(option.value())),
                tca::BPF_ID => filter.id = Some(u32::from_ne_bytes(field(option.value(), 0)?)),
                _ => {}
            }
        }
    }
    // A chain's head is listed before its filters, without options.
    Ok((!options.is_empty()).then_some(filter))
}

/// A string up to its terminating zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::interfaces;
    use super::super::netlink::tests::{attribute, message, parsed};
    use super::*;

    fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
        message(RTM_NEWLINK, &[&[0; IFINFOMSG_LEN][..], &attributes.concat()].concat())
    }

    fn filter(attributes: &[Vec<u8>]) -> Vec<u8> {
        message(RTM_NEWTFILTER, &[&[0; TCMSG_LEN][..], &attributes.concat()].concat())
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        attribute(kind, &value.to_ne_bytes())
    }

    #[test]
    fn programs_are_distinguished_by_where_they_run() {
        let native = [attribute(ifla::XDP_ATTACHED, &[1]), number(ifla::XDP_DRV_PROG_ID, 41)];
        let both = [
            attribute(ifla::XDP_ATTACHED, &[4]),
            number(ifla::XDP_DRV_PROG_ID, 41),
            number(ifla::XDP_SKB_PROG_ID, 42),
        ];
        let old = [attribute(ifla::XDP_ATTACHED, &[2]), number(ifla::XDP_PROG_ID, 43)];
        let nothing = [attribute(ifla::XDP_ATTACHED, &[0])];
        let none = XdpPrograms::default();
        for (xdp, expected) in [
            (&native[..], XdpPrograms { native: Some(41), ..none }),
            (&both, XdpPrograms { native: Some(41), generic: Some(42), ..none }),
            (&old, XdpPrograms { generic: Some(43), ..none }),
            (&nothing, none),
        ] {
            let datagram = link(&[attribute(ifla::XDP, &xdp.concat()), number(ifla::MASTER, 3)]);
            let found = parsed(&datagram, parse_place).expect("well formed").expect("a place");
            assert_eq!(found, Place { master: Some(3), xdp: expected, ..Place::default() });
        }
    }

    #[test]
    fn a_filter_has_its_kind_and_a_program_its_name_and_id() {
        let options = [attribute(tca::BPF_NAME, b"guard.o\0"), number(tca::BPF_ID, 9)].concat();
        let kind = attribute(tca::KIND, b"bpf\0");
        let whole = filter(&[kind.clone(), attribute(tca::OPTIONS, &options)]);
        let found = parsed(&whole, parse_filter).expect("well formed");
        let expected = Filter { kind: "bpf".into(), name: Some("guard.o".into()), id: Some(9) };
        assert_eq!(found, Some(expected));
        assert_eq!(parsed(&filter(&[kind]), parse_filter).expect("well formed"), None);
        let flower = [attribute(tca::KIND, b"flower\0"), attribute(tca::OPTIONS, &[1; 4])];
        let found = parsed(&filter(&flower), parse_filter).expect("well formed");
        assert_eq!(found, Some(Filter { kind: "flower".into(), name: None, id: None }));
    }

    #[test]
    fn a_truncated_message_is_an_error_or_holds_less() {
        let xdp = [attribute(ifla::XDP_ATTACHED, &[1]), number(ifla::XDP_DRV_PROG_ID, 41)].concat();
        let link = link(&[attribute(ifla::XDP, &xdp), number(ifla::MASTER, 3)]);
        let options = [attribute(tca::BPF_NAME, b"guard.o\0"), number(tca::BPF_ID, 9)].concat();
        let filter = filter(&[attribute(tca::KIND, b"bpf\0"), attribute(tca::OPTIONS, &options)]);
        for cut in 16..link.len() {
            let found = parsed(&message(RTM_NEWLINK, &link[16..cut]), parse_place);
            let master = found.ok().flatten().and_then(|place| place.master);
            assert!(master.is_none_or(|master| master == 3), "cut at {cut}");
        }
        for cut in 16..filter.len() {
            let found = parsed(&message(RTM_NEWTFILTER, &filter[16..cut]), parse_filter);
            let id = found.ok().flatten().and_then(|filter| filter.id);
            assert!(id.is_none_or(|id| id == 9), "cut at {cut}");
        }
    }

    #[test]
    fn the_loopback_interface_stands_alone() {
        let lo = interfaces::by_name("lo").expect("lo");
        assert_eq!(place(lo.index).expect("an answer").master, None);
        for direction in [Direction::Ingress, Direction::Egress] {
            filters(lo.index, direction).expect("an answer");
        }
    }
}
