//! The network interfaces of this namespace.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::netlink::{Message, Netlink, attributes, field};

/// `RTM_NEWLINK`, include/uapi/linux/rtnetlink.h.
pub(super) const RTM_NEWLINK: u16 = 16;
/// The kernel's `RTM_DELLINK`.
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;

/// Length of `struct ifinfomsg`.
pub(super) const IFINFOMSG_LEN: usize = 16;

/// Attributes of a link, include/uapi/linux/if_link.h.
mod ifla {
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const XDP: u16 = 43;
    pub(super) const XDP_ATTACHED: u16 = 2;
    pub(super) const XDP_PROG_ID: u16 = 4;
    pub(super) const XDP_DRV_PROG_ID: u16 = 5;
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its index; unique in the namespace, and not reused soon.
    pub index: u32,
    pub name: String,
    /// Type of the link-layer header of its packets: `ARPHRD_…`, include/uapi/linux/if_arp.h.
    pub link_type: u16,
    /// Largest packet in bytes, without the link-layer header.
    pub mtu: u32,
    /// True if it is the loopback interface.
    pub loopback: bool,
    pub state: OperState,
    /// Kind of a virtual interface: `veth`, `vlan`, `bond`, …; `None` for hardware.
    pub kind: Option<String>,
    /// Index of the interface that it is a part of: a bridge, a bond, a team, a failover.
    pub master: Option<u32>,
    /// The interface that it is built on, as a VLAN or a macvlan is.
    pub below: Below,
    /// Mode of the attached XDP program, if there is one.
    pub xdp: Xdp,
    /// Kernel id of that program; the driver's where the hardware runs another.
    pub xdp_program: Option<u32>,
}

/// Interface on which an interface is built.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Below {
    /// No interface that is named.
    #[default]
    Nothing,
    /// The interface with this index.
    Here(u32),
    /// An interface of another network namespace.
    Elsewhere,
}

/// Mode of an interface's XDP program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Xdp {
    /// No program is attached.
    #[default]
    None,
    /// The program runs in the driver, or further down in the hardware.
    Native,
    /// The program runs in the network stack.
    Generic,
}

impl Xdp {
    /// Reads `XDP_ATTACHED_…`, include/uapi/linux/if_link.h; of several programs the driver's counts.
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::None,
            2 => Self::Generic,
            _ => Self::Native,
        }
    }
}

/// Number of interfaces that may be built on one another (`MAX_NEST_DEV`, include/linux/netdevice.h).
const MAX_STACK: u8 = 8;
/// Kinds that show packets of their parts, or of the interface that they are built on.
const STACKED: [&str; 9] =
    ["vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "vrf", "macsec"];
/// `ARPHRD_ETHER`, include/uapi/linux/if_arp.h.
pub(super) const ARPHRD_ETHER: u16 = 1;
/// `ARPHRD_LOOPBACK`: its packets begin with an Ethernet header of zeros.
const ARPHRD_LOOPBACK: u16 = 772;

impl Interface {
    /// Returns whether its packets begin with an Ethernet header. Those of tunnels begin with the IP header.
    pub fn has_ethernet_header(&self) -> bool {
        matches!(self.link_type, ARPHRD_ETHER | ARPHRD_LOOPBACK)
    }

    /// Returns whether it is a network card: a virtual interface has a kind.
    pub fn is_hardware(&self) -> bool {
        !self.loopback && self.kind.is_none()
    }

    /// Returns whether it is certain that no packet that arrives by it has arrived, as a frame that can be read there,
    /// by an attached one of `all` the interfaces of this namespace. An interface of an unknown kind is built
    /// on unknown ones, so nothing is certain about it.
    pub fn is_unattached(&self, all: &[Self], is_attached: &impl Fn(u32) -> bool) -> bool {
        self.is_unattached_above(all, is_attached, MAX_STACK)
    }

    /// Returns whether [`Self::is_unattached`] holds for an interface that is built on at most `depth` others.
    fn is_unattached_above(
        &self,
        all: &[Self],
        is_attached: &impl Fn(u32) -> bool,
        depth: u8,
    ) -> bool {
        /// Kinds of tunnels: their packets come in by another interface, as something else than TCP.
        const TUNNELS: [&str; 9] =
            ["tun", "wireguard", "ipip", "sit", "gre", "gretap", "ip6tnl", "vxlan", "geneve"];
        if is_attached(self.index) || depth == 0 {
            return false;
        }
        let of_all = |mut lower: Box<dyn Iterator<Item = &Self> + '_>| {
            lower.all(|one| one.is_unattached_above(all, is_attached, depth - 1))
        };
        // A failover's master (`net_failover`, `netvsc`) has no kind, but parts.
        let parts = Box::new(all.iter().filter(|one| one.master == Some(self.index)));
        match self.kind.as_deref() {
            None | Some("veth" | "dummy") => of_all(parts),
            Some(kind) if TUNNELS.contains(&kind) => of_all(parts),
            Some(kind) if STACKED.contains(&kind) => match self.below {
                Below::Elsewhere => false,
                Below::Nothing => of_all(parts),
                Below::Here(below) => {
                    let below: Vec<&Self> = all.iter().filter(|one| one.index == below).collect();
                    !below.is_empty() && of_all(Box::new(below.into_iter().chain(parts)))
                }
            },
            Some(_) => false,
        }
    }

    /// Returns whether packets that leave by it leave, as a frame that can be read there, by an attached one of `all`
    /// the interfaces of this namespace. Either it is attached itself, or it is built on an attached one. Of
    /// several interfaces that it is built on, one is enough.
    pub fn leaves_attached(&self, all: &[Self], is_attached: &impl Fn(u32) -> bool) -> bool {
        self.leaves_attached_below(all, is_attached, MAX_STACK)
    }

    fn leaves_attached_below(
        &self,
        all: &[Self],
        is_attached: &impl Fn(u32) -> bool,
        depth: u8,
    ) -> bool {
        let is_stacked = self.kind.as_deref().is_none_or(|kind| STACKED.contains(&kind));
        let is_below =
            |one: &&Self| one.master == Some(self.index) || self.below == Below::Here(one.index);
        is_attached(self.index)
            || depth > 0
                && is_stacked
                && all
                    .iter()
                    .filter(is_below)
                    .any(|one| one.leaves_attached_below(all, is_attached, depth - 1))
    }

    /// The interfaces of `all` that are directly above this one: its master, and those that are built on it.
    pub fn uppers<'a>(&self, all: &'a [Self]) -> impl Iterator<Item = &'a Self> {
        let (index, master) = (self.index, self.master);
        all.iter().filter(move |one| {
            // Of a veth the interface below is the other end.
            let is_stacked = one.kind.as_deref().is_some_and(|kind| STACKED.contains(&kind));
            master == Some(one.index) || is_stacked && one.below == Below::Here(index)
        })
    }

    /// Returns whether packets that leave by one of two interfaces leave by the other as well.
    pub fn overlaps(&self, other: &Self, all: &[Self]) -> bool {
        self.leaves_attached(all, &|index| index == other.index)
            || other.leaves_attached(all, &|index| index == self.index)
    }

    /// Returns whether it is a port of a VRF, which is one of `all` the interfaces.
    pub fn is_in_vrf(&self, all: &[Self]) -> bool {
        let is_vrf =
            |one: &Self| Some(one.index) == self.master && one.kind.as_deref() == Some("vrf");
        all.iter().any(is_vrf)
    }

    /// The driver of the hardware, as `/sys` names it, or the kind of a virtual interface.
    pub fn driver(&self) -> Option<String> {
        self.hardware_driver(Path::new("/sys/class/net")).or_else(|| self.kind.clone())
    }

    fn hardware_driver(&self, class: &Path) -> Option<String> {
        let driver = fs::read_link(self.sysfs(class)?.join("device/driver")).ok()?;
        Some(driver.file_name()?.to_string_lossy().into_owned())
    }

    /// Its directory in sysfs, below the directory `class` of all interfaces.
    pub(super) fn sysfs(&self, class: &Path) -> Option<PathBuf> {
        let directory = class.join(&self.name);
        // /sys shows the namespace in which it was mounted: the same name there may be another
        // interface.
        let index = fs::read_to_string(directory.join("ifindex")).ok()?;
        (index.trim_end().parse() == Ok(self.index)).then_some(directory)
    }
}

/// Operational state of an interface (RFC 2863).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OperState {
    /// The driver does not say; loopback and tunnels work like this.
    Unknown,
    Up,
    /// No packets pass: switched off, or without carrier.
    Down,
    /// The interface waits for something: the one below it, authentication, a test.
    Waiting,
}

impl OperState {
    /// Reads `IF_OPER_…`, include/uapi/linux/if.h.
    fn from_code(code: u8) -> Self {
        match code {
            6 => Self::Up,
            1 | 2 => Self::Down,
            3..=5 => Self::Waiting,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Waiting => "waiting",
        })
    }
}

/// Every interface, by index.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn list() -> Result<Vec<Interface>, Error> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let all = [0; IFINFOMSG_LEN];
    let mut found = netlink.dump("list network interfaces", RTM_GETLINK, &all, parse)?;
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// The interface of that name.
///
/// # Errors
/// [`Error::NoInterface`] with the names that exist; otherwise as [`list`].
pub fn by_name(name: &str) -> Result<Interface, Error> {
    let interfaces = list()?;
    if let Some(found) = interfaces.iter().find(|interface| interface.name == name) {
        return Ok(found.clone());
    }
    let names: Vec<_> = interfaces.into_iter().map(|interface| interface.name).collect();
    Err(Error::NoInterface { name: name.to_owned(), existing: names.join(", ") })
}

/// The interface that a message is about. `None` if it is about an interface's role in a bridge
/// or in a protocol (its family is set), which comes and goes without the interface.
pub(super) fn parse(message: &Message) -> Result<Option<Interface>, DecodeError> {
    let payload = message.payload;
    let [family] = field(payload, 0)?;
    let link_type = u16::from_ne_bytes(field(payload, 2)?);
    let index = u32::from_ne_bytes(field(payload, 4)?);
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    if i32::from(family) != libc::AF_UNSPEC {
        return Ok(None);
    }
    let mut interface = Interface {
        index,
        name: String::new(),
        link_type,
        mtu: 0,
        loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
        state: OperState::Unknown,
        kind: None,
        master: None,
        below: Below::Nothing,
        xdp: Xdp::None,
        xdp_program: None,
    };
    let (mut link, mut elsewhere) = (None, false);
    for attribute in attributes(payload, IFINFOMSG_LEN) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            ifla::IFNAME => interface.name = text(value),
            ifla::MTU => interface.mtu = u32::from_ne_bytes(field(value, 0)?),
            ifla::LINK => link = Some(u32::from_ne_bytes(field(value, 0)?)),
            ifla::LINK_NETNSID => elsewhere = true,
            ifla::MASTER => interface.master = Some(u32::from_ne_bytes(field(value, 0)?)),
            ifla::OPERSTATE => {
                let [code] = field(value, 0)?;
                interface.state = OperState::from_code(code);
            }
            ifla::XDP => {
                for xdp in attributes(value, 0) {
                    let xdp = xdp?;
                    match xdp.kind() {
                        ifla::XDP_ATTACHED => {
                            let [code] = field(xdp.value(), 0)?;
                            interface.xdp = Xdp::from_code(code);
                        }
                        // The first is present where only one XDP mode has a program.
                        ifla::XDP_PROG_ID | ifla::XDP_DRV_PROG_ID => {
                            let id = u32::from_ne_bytes(field(xdp.value(), 0)?);
                            interface.xdp_program = Some(id).filter(|id| *id != 0);
                        }
                        _ => {}
                    }
                }
            }
            ifla::LINKINFO => {
                for info in attributes(value, 0) {
                    let info = info?;
                    if info.kind() == ifla::INFO_KIND {
                        interface.kind = Some(text(info.value()));
                    }
                }
            }
            _ => {}
        }
    }
    interface.below = match link {
        _ if elsewhere => Below::Elsewhere,
        // Zero is none, and of a veth it is the other end.
        Some(index) if index != 0 && index != interface.index => Below::Here(index),
        _ => Below::Nothing,
    };
    if interface.name.is_empty() {
        return Err(format!("interface {index} has no name").into());
    }
    Ok(Some(interface))
}

/// A string up to its terminating zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::netlink::messages;
    use super::super::netlink::tests::{attribute, message};
    use super::*;

    /// A message as the kernel sends it for a veth interface.
    pub(in crate::linux) fn link_message(kind: u16, family: u8, index: u32, name: &str) -> Vec<u8> {
        let mut payload = vec![family, 0];
        payload.extend_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        payload.extend_from_slice(&index.to_ne_bytes());
        payload.extend_from_slice(&[0; 8]);
        payload.extend(attribute(ifla::IFNAME, format!("{name}\0").as_bytes()));
        payload.extend(attribute(ifla::MTU, &1500u32.to_ne_bytes()));
        payload.extend(attribute(ifla::OPERSTATE, &[6]));
        payload.extend(attribute(ifla::LINKINFO, &attribute(ifla::INFO_KIND, b"veth\0")));
        message(kind, &payload)
    }

    fn parse_one(datagram: &[u8]) -> Result<Option<Interface>, DecodeError> {
        messages(datagram).next().expect("one message").and_then(|message| parse(&message))
    }

    #[test]
    fn a_link_message_names_the_interface_and_what_it_is() {
        let found = parse_one(&link_message(RTM_NEWLINK, 0, 7, "edge0")).expect("well formed");
        assert_eq!(
            found,
            Some(Interface {
                index: 7,
                name: "edge0".into(),
                link_type: ARPHRD_ETHER,
                mtu: 1500,
                loopback: false,
                state: OperState::Up,
                kind: Some("veth".into()),
                master: None,
                below: Below::Nothing,
                xdp: Xdp::None,
                xdp_program: None,
            })
        );
    }

    #[test]
    fn packets_of_a_tunnel_begin_without_an_ethernet_header() {
        const ARPHRD_NONE: u16 = 0xfffe;
        let mut datagram = link_message(RTM_NEWLINK, 0, 7, "wg0");
        datagram[18..20].copy_from_slice(&ARPHRD_NONE.to_ne_bytes());
        let found = parse_one(&datagram).expect("well formed").expect("an interface");
        assert_eq!(found.link_type, ARPHRD_NONE);
        assert!(!found.has_ethernet_header());
    }

    /// Interfaces by index from 1 on: kind, master, and the interface below.
    fn made(all: &[(Option<&str>, u32, Below)]) -> Vec<Interface> {
        let found = parse_one(&link_message(RTM_NEWLINK, 0, 7, "edge0")).expect("well formed");
        let found = found.expect("an interface");
        let numbered = all.iter().zip(1..);
        let made = numbered.map(|(&(kind, master, below), index)| Interface {
            index,
            kind: kind.map(str::to_owned),
            master: (master != 0).then_some(master),
            below,
            ..found.clone()
        });
        made.collect()
    }

    /// The interfaces that are certainly not above an attached one, while the one with index `attached` is
    /// attached.
    fn unattached(all: &[(Option<&str>, u32, Below)], attached: u32) -> Vec<u32> {
        let all = made(all);
        let is_attached = |index| index == attached;
        let others = all.iter().filter(|one| one.is_unattached(&all, &is_attached));
        others.map(|one| one.index).collect()
    }

    #[test]
    fn an_interface_on_top_of_an_attached_one_is_not_unattached() {
        use Below::{Elsewhere, Here, Nothing};
        let lone = |kind| unattached(&[(None, 0, Nothing), (kind, 0, Nothing)], 1);
        for kind in [None, Some("veth"), Some("wireguard"), Some("bridge")] {
            assert_eq!(lone(kind), [2], "{kind:?}");
        }
        assert!(lone(Some("of tomorrow")).is_empty());
        let vlan = |below| unattached(&[(None, 0, Nothing), (Some("vlan"), 0, below)], 1);
        assert!([Here(1), Elsewhere, Here(9)].into_iter().all(|below| vlan(below).is_empty()));
        let two = [(None, 0, Nothing), (None, 0, Nothing), (Some("macvlan"), 0, Here(2))];
        assert_eq!(unattached(&two, 1), [2, 3]);
        // A bond of two, and a failover.
        for kind in [Some("bond"), None] {
            let bond = [(None, 3, Nothing), (None, 3, Nothing), (kind, 0, Nothing)];
            assert_eq!(unattached(&bond, 1), [2], "the master is above the attached one");
            assert_eq!(unattached(&bond, 3), [1, 2]);
        }
        // Containers on a bridge; then a bridge with the attached interface in it, and a VLAN above it.
        let veth = (Some("veth"), 2, Elsewhere);
        let (uplink, bridge) = ((None, 0, Nothing), (Some("bridge"), 0, Nothing));
        assert_eq!(unattached(&[uplink, bridge, veth, veth], 1), [2, 3, 4]);
        let above = (Some("vlan"), 0, Here(2));
        assert_eq!(unattached(&[(None, 2, Nothing), bridge, veth, above], 1), [3]);
        assert_eq!(unattached(&[uplink, bridge, veth, above], 1), [2, 3, 4]);
        // In a circle, which the kernel does not allow.
        let circle = [uplink, (Some("vlan"), 0, Here(3)), (Some("vlan"), 0, Here(2))];
        assert!(unattached(&circle, 1).is_empty());
    }

    #[test]
    fn interfaces_of_one_stack_overlap_and_two_ports_of_a_bridge_do_not() {
        use Below::{Here, Nothing};
        let (bridge, vlan) = ((Some("bridge"), 0, Nothing), (Some("vlan"), 2, Here(1)));
        let all = made(&[(None, 0, Nothing), bridge, vlan, vlan]);
        let overlap = |one: usize, other: usize| all[one - 1].overlaps(&all[other - 1], &all);
        assert!(overlap(1, 3) && overlap(3, 1) && overlap(2, 4));
        assert!(overlap(1, 2), "the bridge has ports upon it");
        assert!(!overlap(3, 4));
    }

    #[test]
    fn a_port_of_a_vrf_is_distinguished_from_one_of_a_bridge() {
        let nothing = Below::Nothing;
        let (vrf, bridge) = ((Some("vrf"), 0, nothing), (Some("bridge"), 0, nothing));
        let port = |master| (None, master, nothing);
        let all = made(&[vrf, bridge, port(1), port(2), port(0)]);
        let in_vrf: Vec<u32> =
            all.iter().filter(|one| one.is_in_vrf(&all)).map(|one| one.index).collect();
        assert_eq!(in_vrf, [3]);
    }

    #[test]
    fn the_interfaces_directly_above_are_the_master_and_those_built_on_it() {
        use Below::{Here, Nothing};
        let bridge = (Some("bridge"), 0, Nothing);
        let (vlan, peer) = ((Some("vlan"), 0, Here(1)), (Some("veth"), 0, Here(1)));
        let all = made(&[(None, 2, Nothing), bridge, vlan, peer, (Some("vlan"), 0, Here(2))]);
        let above = |one: usize| all[one - 1].uppers(&all).map(|one| one.index).collect::<Vec<_>>();
        assert_eq!((above(1), above(2), above(3)), (vec![2, 3], vec![5], vec![]));
    }

    #[test]
    fn packets_that_leave_by_an_interface_on_top_of_an_attached_one_leave_by_that_one() {
        use Below::{Elsewhere, Here, Nothing};
        let (hardware, bridge) = ((None, 0, Nothing), (Some("bridge"), 0, Nothing));
        let veth = (Some("veth"), 2, Elsewhere);
        let vlan = |below| (Some("vlan"), 0, Here(below));
        for (all, attached, leaves) in [
            // Containers on a bridge; then a bridge with the attached interface in it.
            (vec![hardware, bridge, veth], 1, vec![1]),
            (vec![(None, 2, Nothing), bridge, veth, vlan(2)], 1, vec![1, 2, 4]),
            (vec![hardware, vlan(1), vlan(2)], 1, vec![1, 2, 3]),
            // The attached one is above: packets that leave by the lower one directly are not seen.
            (vec![hardware, vlan(1)], 2, vec![2]),
            (
                vec![hardware, (Some("wireguard"), 0, Here(1)), (Some("ppp"), 0, Here(1))],
                1,
                vec![1],
            ),
            // In a circle, which the kernel does not allow.
            (vec![hardware, vlan(3), vlan(2)], 1, vec![1]),
        ] {
            let all = made(&all);
            let is_attached = |index: u32| index == attached;
            let found = all.iter().filter(|one| one.leaves_attached(&all, &is_attached));
            assert_eq!(found.map(|one| one.index).collect::<Vec<_>>(), leaves, "{all:#?}");
        }
    }

    #[test]
    fn leaving_a_bridge_is_not_an_event_of_the_interface() {
        let bridge = libc::AF_BRIDGE as u8;
        let found = parse_one(&link_message(RTM_DELLINK, bridge, 7, "edge0"));
        assert_eq!(found.expect("well formed"), None);
    }

    #[test]
    fn a_truncated_link_message_is_an_error_or_holds_less() {
        let whole = link_message(RTM_NEWLINK, 0, 7, "edge0");
        let payload = &whole[16..];
        for cut in 0..payload.len() {
            match parse_one(&message(RTM_NEWLINK, &payload[..cut])) {
                Ok(Some(found)) => assert_eq!((found.index, &*found.name), (7, "edge0")),
                Ok(None) => panic!("cut at {cut}: the family is not set"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn loopback_is_always_there() {
        let lo = by_name("lo").expect("lo");
        assert!(lo.has_ethernet_header());
        assert!(lo.loopback && lo.index > 0 && lo.mtu > 0, "{lo:?}");
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = by_name("no-such-if").expect_err("no such interface").to_string();
        assert!(error.starts_with("no interface no-such-if (this host has: "), "{error}");
        assert!(error.contains("lo"), "{error}");
    }

    #[test]
    fn the_driver_is_that_of_the_same_interface_only() {
        let class = tempfile::tempdir().expect("temporary directory");
        let device = class.path().join("edge0/device");
        fs::create_dir_all(&device).expect("directory");
        fs::write(class.path().join("edge0/ifindex"), "7\n").expect("file");
        std::os::unix::fs::symlink("../../../bus/pci/drivers/ixgbe", device.join("driver"))
            .expect("link");
        let found = parse_one(&link_message(RTM_NEWLINK, 0, 7, "edge0")).expect("well formed");
        let here = found.expect("an interface");
        let elsewhere = Interface { index: 8, ..here.clone() };
        assert_eq!(here.hardware_driver(class.path()), Some("ixgbe".into()));
        assert_eq!(elsewhere.hardware_driver(class.path()), None);
    }
}
