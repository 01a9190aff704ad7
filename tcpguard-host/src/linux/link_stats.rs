//! Packets that an interface received, and packets that it lost before any program saw them.

use netlink_packet_core::DecodeError;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Error;
use super::interfaces::{IFINFOMSG_LEN, RTM_NEWLINK};
use super::netlink::{Message, Netlink, attributes, field};

/// `RTM_GETLINK`, include/uapi/linux/rtnetlink.h.
const RTM_GETLINK: u16 = 18;
/// Offset of the flags in `struct ifinfomsg`.
const IFI_FLAGS: usize = 8;
/// `IFLA_IFNAME`, include/uapi/linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
/// The kernel's `IFLA_STATS64`.
const IFLA_STATS64: u16 = 23;

/// Counters of an interface since it exists (`struct rtnl_link_stats64`). Drivers differ in which
/// counter they use. A packet is in one of the last three at most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkStats {
    /// Packets that were handed on.
    pub rx_packets: u64,
    /// Packets dropped by the stack or the driver: no memory, no protocol that wants them, or an
    /// XDP program of a driver that counts so.
    pub rx_dropped: u64,
    /// Packets that the card lost because its ring or buffer was full.
    pub rx_missed: u64,
    /// Packets lost by an overrun of the card's FIFO.
    pub rx_fifo: u64,
    /// Packets without a handler: the interface is an inactive port of a bond, for one.
    pub rx_nohandler: u64,
    /// True if it is down or without a carrier.
    pub is_down: bool,
}

/// The counters of the interface of that name in this namespace; `None` if there is none.
///
/// The kernel takes its lock of all interfaces (`rtnl`) for that, which a process that reconfigures one
/// may hold for a while. So this is not for a loop that must not wait.
///
/// # Errors
/// [`Error::Open`] where netlink is not allowed, otherwise netlink's error.
pub fn link_stats(name: &str) -> Result<Option<LinkStats>, Error> {
    if name.len() >= libc::IFNAMSIZ {
        return Ok(None);
    }
    let mut request = vec![0; IFINFOMSG_LEN];
    let length = (4 + name.len() + 1) as u16;
    request.extend(length.to_ne_bytes());
    request.extend(IFLA_IFNAME.to_ne_bytes());
    request.extend(name.bytes().chain([0]));
    request.resize(request.len().next_multiple_of(4), 0);
    let mut netlink = Netlink::open(NETLINK_ROUTE)?;
    match netlink.query("read an interface's counters", RTM_GETLINK, &request, parse) {
        Err(error) if error.os_error() == Some(libc::ENODEV) => Ok(None),
        found => found,
    }
}

fn parse(message: &Message) -> Result<Option<LinkStats>, DecodeError> {
    if message.kind != RTM_NEWLINK {
        return Err(format!("message type {} in place of an interface", message.kind).into());
    }
    let flags = field(message.payload, IFI_FLAGS).map(u32::from_ne_bytes)?;
    for attribute in attributes(message.payload, IFINFOMSG_LEN) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_STATS64 {
            let is_down = flags & libc::IFF_LOWER_UP as u32 == 0;
            return Ok(Some(LinkStats { is_down, ..counters(attribute.value())? }));
        }
    }
    Ok(None)
}

/// By their positions in the struct.
fn counters(stats: &[u8]) -> Result<LinkStats, DecodeError> {
    let counter = |place: usize| field(stats, place * 8).map(u64::from_ne_bytes);
    Ok(LinkStats {
        rx_packets: counter(0)?,
        rx_dropped: counter(6)?,
        rx_missed: counter(15)?,
        rx_fifo: counter(14)?,
        rx_nohandler: counter(23)?,
        is_down: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::netlink::messages;
    use super::super::netlink::tests::{attribute, message};
    use super::*;

    fn parse_one(kind: u16, payload: &[u8]) -> Result<Option<LinkStats>, DecodeError> {
        let datagram = message(kind, payload);
        messages(&datagram).next().expect("one message").and_then(|message| parse(&message))
    }

    fn link() -> Vec<u8> {
        let stats: Vec<u8> = (100..125u64).flat_map(u64::to_ne_bytes).collect();
        let mut payload = vec![0; IFINFOMSG_LEN];
        payload.extend(attribute(IFLA_IFNAME, b"eth0\0"));
        payload.extend(attribute(IFLA_STATS64, &stats));
        payload
    }

    #[test]
    fn each_counter_stands_at_its_place() {
        let expected = LinkStats {
            rx_packets: 100,
            rx_dropped: 106,
            rx_missed: 115,
            rx_fifo: 114,
            rx_nohandler: 123,
            is_down: true,
        };
        assert_eq!(parse_one(RTM_NEWLINK, &link()).expect("well formed"), Some(expected));
        let mut up = link();
        up[IFI_FLAGS..IFI_FLAGS + 4].copy_from_slice(&(libc::IFF_LOWER_UP as u32).to_ne_bytes());
        let expected = LinkStats { is_down: false, ..expected };
        assert_eq!(parse_one(RTM_NEWLINK, &up).expect("well formed"), Some(expected));
        assert!(parse_one(RTM_NEWLINK + 1, &link()).is_err());
    }

    #[test]
    fn a_truncated_answer_is_an_error_or_holds_nothing() {
        let whole = link();
        for cut in 0..whole.len() {
            let found = parse_one(RTM_NEWLINK, &whole[..cut]);
            assert!(!matches!(found, Ok(Some(_))), "cut at {cut}: {found:?}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        assert!(link_stats("lo").expect("an answer").is_some());
        for name in ["no-such-if", "", "a name that is longer than any interface's"] {
            let found = link_stats(name);
            assert!(!matches!(found, Ok(Some(_))), "{name}: {found:?}");
        }
    }
}
