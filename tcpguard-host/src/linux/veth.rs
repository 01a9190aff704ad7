//! A cable between two network namespaces, with the hosts at its ends: for a host that tries out on
//! itself the behaviour that it will have on the network.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::interfaces::{IFINFOMSG_LEN, RTM_NEWLINK};
use super::netlink::Netlink;

// include/uapi/linux/rtnetlink.h
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNEIGH: u16 = 28;
// include/uapi/linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_NET_NS_FD: u16 = 28;
/// `VETH_INFO_PEER`, include/uapi/linux/veth.h.
const VETH_INFO_PEER: u16 = 1;
// include/uapi/linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Usable at once: no other host on the cable can have the address.
const IFA_F_NODAD: u8 = 0x02;
// include/uapi/linux/neighbour.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// One end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Name of its interface.
    pub name: &'a str,
    pub mac: [u8; 6],
}

impl End<'_> {
    /// `struct ifinfomsg` and the attributes that both ends have.
    fn link(&self) -> Vec<u8> {
        let mut payload = vec![0; IFINFOMSG_LEN];
        payload.extend(attribute(IFLA_IFNAME, format!("{}\0", self.name).as_bytes()));
        payload.extend(attribute(IFLA_ADDRESS, &self.mac));
        payload
    }
}

/// Connects this network namespace with `other`. Both ends are still to be brought up.
///
/// # Errors
/// [`Error::Refused`] without `CAP_NET_ADMIN` in both, or on a kernel without veth.
pub fn connect(here: &End<'_>, there: &End<'_>, other: BorrowedFd<'_>) -> Result<(), Error> {
    let mut peer = there.link();
    peer.extend(attribute(IFLA_NET_NS_FD, &other.as_raw_fd().to_ne_bytes()));
    let mut info = attribute(IFLA_INFO_KIND, b"veth\0");
    info.extend(attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer)));
    let mut link = here.link();
    link.extend(attribute(IFLA_LINKINFO, &info));
    create("connect two network namespaces (veth)", RTM_NEWLINK, &link)
}

/// Brings up the interface with this index.
pub fn bring_up(ifindex: u32) -> Result<(), Error> {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let mut payload = vec![0; 4];
    payload.extend(ifindex.to_ne_bytes());
    // The flags, and which of them change.
    payload.extend(up);
    payload.extend(up);
    Netlink::open(NETLINK_ROUTE)?.command("bring up an interface", RTM_NEWLINK, 0, &payload)
}

/// Gives the interface with this index an address.
///
/// # Errors
/// [`Error::Refused`], also where the kernel does without the family.
pub fn add_address(ifindex: u32, address: IpAddr, prefix_len: u8) -> Result<(), Error> {
    let mut payload = vec![family(address), prefix_len, IFA_F_NODAD, 0];
    payload.extend(ifindex.to_ne_bytes());
    let bytes = octets(address);
    payload.extend(attribute(IFA_LOCAL, &bytes));
    payload.extend(attribute(IFA_ADDRESS, &bytes));
    create("give an interface an address", RTM_NEWADDR, &payload)
}

/// Says for good where on the link of an interface an address is found.
pub fn add_neighbour(ifindex: u32, address: IpAddr, mac: [u8; 6]) -> Result<(), Error> {
    let mut payload = vec![family(address), 0, 0, 0];
    payload.extend(ifindex.to_ne_bytes());
    payload.extend(NUD_PERMANENT.to_ne_bytes());
    payload.extend([0, 0]);
    payload.extend(attribute(NDA_DST, &octets(address)));
    payload.extend(attribute(NDA_LLADDR, &mac));
    create("add a neighbour", RTM_NEWNEIGH, &payload)
}

fn create(what: &'static str, kind: u16, payload: &[u8]) -> Result<(), Error> {
    Netlink::open(NETLINK_ROUTE)?.command(what, kind, NLM_F_CREATE | NLM_F_EXCL, payload)
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
