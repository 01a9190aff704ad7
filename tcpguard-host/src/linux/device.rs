//! The treatment of packets by an interface's driver, where an XDP program sees them.
#![expect(unsafe_code, reason = "SIOCETHTOOL takes a pointer in a request")]

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::net::{AddressFamily, SocketType};

use super::attachments::{self, XdpPrograms};
use super::netlink::{Message, Netlink, attributes, field};
use super::{Error, Interface};

/// Length of `struct genlmsghdr`, include/uapi/linux/genetlink.h.
const GENLMSGHDR_LEN: usize = 4;
/// `GENL_ID_CTRL`, the family that knows the others.
const CONTROL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `NETDEV_FAMILY_NAME`, include/uapi/linux/netdev.h (Linux 6.3).
const NETDEV: &[u8] = b"netdev\0";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_BASIC`: `XDP_ABORTED`, `XDP_DROP`, `XDP_PASS` and `XDP_TX`.
const NETDEV_XDP_ACT_BASIC: u64 = 1;
/// The kernel's `NETDEV_XDP_ACT_NDO_XMIT`.
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 1 << 2;
/// The kernel's `NETDEV_XDP_ACT_RX_SG`.
const NETDEV_XDP_ACT_RX_SG: u64 = 1 << 5;

/// `ETHTOOL_STXCSUM`, include/uapi/linux/ethtool.h.
const ETHTOOL_STXCSUM: u32 = 0x17;
/// `ETHTOOL_GFLAGS`, likewise.
const ETHTOOL_GFLAGS: u32 = 0x25;
/// The kernel's `ETH_FLAG_RXVLAN`.
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
/// The kernel's `ETH_FLAG_LRO`.
const ETH_FLAG_LRO: u32 = 1 << 15;

/// An interface driver's support for native XDP programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct XdpFeatures {
    /// The driver runs programs, and transmits the frames that they send back (`XDP_TX`).
    pub basic: bool,
    /// The driver accepts frames that programs on other interfaces send to it. A veth does where its other end
    /// has an XDP program or GRO.
    pub takes: bool,
    /// Also where a packet fills more than one buffer, so that the MTU may exceed a page.
    pub large_packets: bool,
}

/// Returns whether the driver of an interface reports that a native XDP program can send packets back (`XDP_TX`);
/// `None` where the kernel does not report it (before 6.3). A virtual interface reports so even when nothing at
/// its other end receives them.
pub fn transmits_natively(ifindex: u32) -> Result<Option<bool>, Error> {
    Ok(xdp_features(ifindex)?.map(|features| features.basic))
}

/// Returns whether frames that a native XDP program on a virtual interface sends back are received at its other end;
/// `None` where that is unknown. No program and no stack sees the loss of such a frame.
pub fn is_received(interface: &Interface) -> Option<bool> {
    if interface.kind.as_deref() != Some("veth") {
        return None;
    }
    let place = attachments::place(interface.index).ok()?;
    let other = attachments::other_end(&place).ok().flatten();
    received(other.map(|other| other.xdp), xdp_features(interface.index).ok().flatten())
}

/// The same, by the programs at a veth's other end and by the veth's own report. The kernel takes such
/// a frame only where there is a program in the driver there, or GRO. With GRO alone the frame lies
/// there until another one comes.
fn received(other: Option<XdpPrograms>, own: Option<XdpFeatures>) -> Option<bool> {
    match (other, own) {
        (Some(other), _) => Some(other.native.is_some()),
        (None, Some(own)) if !own.takes => Some(false),
        (None, _) => None,
    }
}

/// An interface driver's support for native XDP programs; `None` where the kernel does not report it (before
/// 6.3).
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn xdp_features(ifindex: u32) -> Result<Option<XdpFeatures>, Error> {
    let mut netlink = Netlink::open(NETLINK_GENERIC)?;
    let family = request(CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, NETDEV);
    let family = netlink.query("ask for the netdev family", CONTROL, &family, family_id);
    let family = match family {
        Ok(Some(family)) => family,
        Ok(None) => return Ok(None),
        Err(error) if error.os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let device = request(NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    netlink.query("ask what an interface's XDP can do", family, &device, features)
}

/// A request with one attribute.
fn request(command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    // Version 1; two bytes are reserved.
    let mut bytes = vec![command, 1, 0, 0];
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn family_id(message: &Message) -> Result<Option<u16>, DecodeError> {
    for attribute in attributes(message.payload, GENLMSGHDR_LEN) {
        let attribute = attribute?;
        if attribute.kind() == CTRL_ATTR_FAMILY_ID {
            return Ok(Some(u16::from_ne_bytes(field(attribute.value(), 0)?)));
        }
    }
    Ok(None)
}

fn features(message: &Message) -> Result<Option<XdpFeatures>, DecodeError> {
    for attribute in attributes(message.payload, GENLMSGHDR_LEN) {
        let attribute = attribute?;
        if attribute.kind() == NETDEV_A_DEV_XDP_FEATURES {
            let features = u64::from_ne_bytes(field(attribute.value(), 0)?);
            return Ok(Some(XdpFeatures {
                basic: features & NETDEV_XDP_ACT_BASIC != 0,
                takes: features & NETDEV_XDP_ACT_NDO_XMIT != 0,
                large_packets: features & NETDEV_XDP_ACT_RX_SG != 0,
            }));
        }
    }
    Ok(None)
}

/// Returns whether an interface strips VLAN tags before any program sees the packet; `None` where its driver does not
/// report it.
pub fn strips_vlan_tags(name: &str) -> Result<Option<bool>, Error> {
    let what = "ask whether an interface takes VLAN tags off";
    Ok(flags(name, what)?.map(|flags| flags & ETH_FLAG_RXVLAN != 0))
}

/// Returns whether an interface merges packets into larger ones before any program sees them (LRO), with which most
/// drivers refuse native XDP; `None` where its driver does not report it.
pub fn merges_packets(name: &str) -> Result<Option<bool>, Error> {
    let what = "ask whether an interface merges packets";
    Ok(flags(name, what)?.map(|flags| flags & ETH_FLAG_LRO != 0))
}

/// `ETH_FLAG_…`; `None` where the driver does not report them.
fn flags(name: &str, what: &'static str) -> Result<Option<u32>, Error> {
    match ethtool(name, [ETHTOOL_GFLAGS, 0]) {
        Ok([_, flags]) => Ok(Some(flags)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(source) => Err(Error::Refused { what, source }),
    }
}

/// Has the host compute all checksums of the packets that leave by an interface, as if they were read
/// on a wire, where a virtual interface would do without.
pub fn complete_checksums(name: &str) -> Result<(), Error> {
    let what = "have the host compute an interface's checksums";
    let set = ethtool(name, [ETHTOOL_STXCSUM, 0]);
    set.map(drop).map_err(|source| Error::Refused { what, source })
}

/// A command to an interface's driver, with its arguments and its answer in 32-bit words: the
/// command, then the fields of its struct in include/uapi/linux/ethtool.h, which are `N` in all.
pub(super) fn ethtool<const N: usize>(name: &str, mut words: [u32; N]) -> io::Result<[u32; N]> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    // SAFETY: integers, arrays and a pointer; all-zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: `request` and the words that it points to outlive the call, and the kernel writes
    // within them: callers give as many words as the command's struct has.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result == 0 { Ok(words) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::super::interfaces;
    use super::super::netlink::tests::{attribute, parsed_payload};
    use super::*;

    fn parse_one<T>(
        attributes: &[Vec<u8>],
        parse: fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let payload = [&[0; GENLMSGHDR_LEN][..], &attributes.concat()].concat();
        parsed_payload(&payload, parse)
    }

    #[test]
    fn drivers_with_xdp_transmit_and_those_without_do_not() {
        let other = attribute(NETDEV_A_DEV_IFINDEX, &[7, 0, 0, 0]);
        for (bits, basic, takes, large_packets) in [
            (0u64, false, false, false),
            (1, true, false, false),
            (0x7f, true, true, true),
            (0x22, false, false, true),
            // A veth by itself.
            (0x23, true, false, true),
        ] {
            let bits = attribute(NETDEV_A_DEV_XDP_FEATURES, &bits.to_ne_bytes());
            let found = parse_one(&[other.clone(), bits], features).expect("well formed");
            assert_eq!(found, Some(XdpFeatures { basic, takes, large_packets }));
        }
        assert_eq!(parse_one(&[other], features).expect("well formed"), None);
        let cut = attribute(NETDEV_A_DEV_XDP_FEATURES, &[1]);
        assert!(parse_one(&[cut], features).is_err());
    }

    #[test]
    fn what_a_veth_sends_back_is_received_where_there_is_a_program_at_its_other_end() {
        let of = |takes| Some(XdpFeatures { basic: true, takes, large_packets: true });
        let with = |native, generic| Some(XdpPrograms { native, generic, hardware: None });
        for (other, own, expected) in [
            (with(Some(7), None), of(true), Some(true)),
            (with(Some(7), None), None, Some(true)),
            // GRO makes the veth report that it takes frames, but nothing fetches them.
            (with(None, None), of(true), Some(false)),
            (with(None, Some(8)), of(true), Some(false)),
            (with(None, None), of(false), Some(false)),
            // Where the other end may not be looked at.
            (None, of(false), Some(false)),
            (None, of(true), None),
            (None, None, None),
        ] {
            assert_eq!(received(other, own), expected, "{other:?}, {own:?}");
        }
        let lo = interfaces::by_name("lo").expect("lo");
        assert_eq!(is_received(&lo), None, "only of a veth is anything known");
    }

    #[test]
    fn the_number_of_a_family_is_found_by_its_name() {
        let id = attribute(CTRL_ATTR_FAMILY_ID, &29u16.to_ne_bytes());
        let name = attribute(CTRL_ATTR_FAMILY_NAME, NETDEV);
        assert_eq!(parse_one(&[name.clone(), id], family_id).expect("well formed"), Some(29));
        assert_eq!(parse_one(&[name], family_id).expect("well formed"), None);
    }

    #[test]
    fn the_loopback_interface_has_no_driver_that_could_do_either() {
        let lo = interfaces::by_name("lo").expect("lo");
        let transmits = transmits_natively(lo.index).expect("an answer");
        assert!(transmits != Some(true), "{transmits:?}");
        let strips = strips_vlan_tags("lo").expect("an answer");
        assert!(strips != Some(true), "{strips:?}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(strips_vlan_tags("no-such-if").is_err());
        assert!(strips_vlan_tags("a-name-that-is-far-too-long").is_err());
        assert!(transmits_natively(u32::MAX >> 1).map_or(true, |known| known.is_none()));
    }
}
