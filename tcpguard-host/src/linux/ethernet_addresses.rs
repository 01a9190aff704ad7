//! The Ethernet addresses of the host's interfaces.

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::interfaces::{ARPHRD_ETHER, IFINFOMSG_LEN, RTM_GETLINK};
use super::netlink::{Message, Netlink, attributes, field};

/// Attribute with the Ethernet address of an interface, include/uapi/linux/if_link.h.
const IFLA_ADDRESS: u16 = 1;

/// The Ethernet addresses of all interfaces that have one, each with the interface's index.
///
/// # Errors
/// As [`super::interfaces::list`].
pub fn ethernet_addresses() -> Result<Vec<(u32, [u8; 6])>, Error> {
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    let all = [0; IFINFOMSG_LEN];
    netlink.dump("list Ethernet addresses", RTM_GETLINK, &all, ethernet_address)
}

fn ethernet_address(message: &Message) -> Result<Option<(u32, [u8; 6])>, DecodeError> {
    let payload = message.payload;
    let [family] = field(payload, 0)?;
    let link_type = u16::from_ne_bytes(field(payload, 2)?);
    let index = u32::from_ne_bytes(field(payload, 4)?);
    if i32::from(family) != libc::AF_UNSPEC || link_type != ARPHRD_ETHER {
        return Ok(None);
    }
    for attribute in attributes(payload, IFINFOMSG_LEN) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_ADDRESS {
            return Ok(Some((index, field(attribute.value(), 0)?)));
        }
    }
    Ok(None)
}
