//! Conditions of drivers for native XDP, of those that no interface reports.

use std::fmt::Display;

/// Space around a packet in its page: `XDP_PACKET_HEADROOM`, and `struct skb_shared_info` in whole cache lines.
const AROUND: u32 = 256 + 320;
const ETH_HLEN: u32 = 14;
const VLAN_HLEN: u32 = 4;
const ETH_FCS_LEN: u32 = 4;
/// `ENA_PAGE_SIZE` at most, drivers/net/ethernet/amazon/ena/ena_netdev.h.
const ENA_LARGEST_PAGE: u32 = 16 << 10;
/// The only receive buffer with which gve runs XDP, and what it leaves free of it: `GVE_RX_PAD`.
const GVE_BUFFER: u32 = 2048;
const GVE_RX_PAD: u32 = 2;

/// Condition for the number of queues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueRule {
    /// At most half of those that the card offers. The others transmit the packets of XDP.
    Half,
    /// A free queue for each CPU. With fewer, XDP transmits under a lock.
    SpareForEachCpu,
}

/// The conditions of a driver.
#[derive(Clone, Copy, Debug)]
pub struct XdpDriver {
    /// Its name in `/sys`.
    pub name: &'static str,
    mtu: Option<fn(u32) -> u32>,
    pub queues: Option<QueueRule>,
    /// True if its queues are set as receive and transmit queues, and not as combined ones.
    pairs: bool,
}

/// The drivers whose conditions are known, each by its source in Linux 6.18 below drivers/net.
const DRIVERS: [XdpDriver; 5] = [
    // `ENA_XDP_MAX_MTU` and `ena_xdp_legal_queue_count`, ethernet/amazon/ena/ena_xdp.h
    XdpDriver {
        name: "ena",
        mtu: Some(|page| one_page(page.min(ENA_LARGEST_PAGE)) - ETH_FCS_LEN),
        queues: Some(QueueRule::Half),
        pairs: false,
    },
    // `gve_verify_xdp_configuration`, ethernet/google/gve/gve_main.c
    XdpDriver {
        name: "gve",
        mtu: Some(|_| GVE_BUFFER - ETH_HLEN - GVE_RX_PAD),
        queues: Some(QueueRule::Half),
        pairs: true,
    },
    // `netvsc_xdp_set`, hyperv/netvsc_bpf.c
    XdpDriver {
        name: "hv_netvsc",
        mtu: Some(|page| page - AROUND - ETH_HLEN),
        queues: None,
        pairs: false,
    },
    // `MANA_XDP_MTU_MAX`, include/net/mana/mana.h
    XdpDriver {
        name: "mana",
        mtu: Some(|page| page - AROUND - ETH_HLEN),
        queues: None,
        pairs: false,
    },
    // `virtnet_xdp_set`, virtio_net.c. It reports whether it accepts packets larger than a page.
    XdpDriver {
        name: "virtio_net",
        mtu: None,
        queues: Some(QueueRule::SpareForEachCpu),
        pairs: false,
    },
];

impl XdpDriver {
    /// The driver of this name, if its conditions are known.
    pub fn find(name: &str) -> Option<&'static Self> {
        DRIVERS.iter().find(|driver| driver.name == name)
    }

    /// The largest MTU with which the driver accepts a native program, in bytes, with pages of `page` bytes. `None`
    /// where the source gives no number.
    pub fn largest_mtu(&self, page: u32) -> Option<u32> {
        self.mtu.map(|mtu| mtu(page))
    }
}

/// The reason for which `xdp_mode = "auto"` takes generic mode on an interface although its driver runs programs: the
/// only place with the rule by driver. `is_received` is the result of
/// [`device::is_received`](super::device::is_received).
///
/// A native program on a veth takes segmentation offload from the peer (`veth_fix_features`, drivers/net/veth.c), and the
/// frames that it sends arrive only if the peer has one as well. Only then do both ends work in frames, and native mode
/// is worth its price.
pub fn against_native(kind: Option<&str>, is_received: Option<bool>) -> Option<&'static str> {
    (kind == Some("veth") && is_received != Some(true)).then_some(
        "its peer has no native XDP program, so native mode would lose the frames that XDP sends, and most of the rate \
         of bulk TCP",
    )
}

/// Size of a memory page of this host, in bytes.
pub fn page_bytes() -> u32 {
    u32::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// The largest MTU at which every packet fits one page of `page` bytes together with the space that XDP needs, and an
/// Ethernet header with one VLAN tag (`veth_xdp_set`, drivers/net/veth.c, and `virtnet_xdp_set`,
/// drivers/net/virtio_net.c).
pub const fn one_page(page: u32) -> u32 {
    page - AROUND - ETH_HLEN - VLAN_HLEN
}

/// The most queues with which a driver accepts a native program, of `max` that the card offers; at least one.
pub fn most_queues(driver: Option<&str>, max: u32) -> u32 {
    match driver.and_then(XdpDriver::find).and_then(|driver| driver.queues) {
        Some(QueueRule::Half) => (max / 2).max(1),
        Some(QueueRule::SpareForEachCpu) | None => max,
    }
}

/// The command that gives an interface so many queues.
pub fn set_queues(driver: Option<&str>, interface: &str, count: impl Display) -> String {
    match driver.and_then(XdpDriver::find).is_some_and(|driver| driver.pairs) {
        true => format!("ethtool -L {interface} rx {count} tx {count}"),
        false => format!("ethtool -L {interface} combined {count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_mtu_is_that_of_the_drivers_source() {
        let mtu = |name, page| XdpDriver::find(name).unwrap().largest_mtu(page);
        assert_eq!(mtu("ena", 4096), Some(3498), "as cilium's guide says");
        assert_eq!(mtu("ena", 64 << 10), mtu("ena", 16 << 10));
        assert_eq!((mtu("gve", 4096), mtu("mana", 4096)), (Some(2032), Some(3506)));
        assert_eq!(mtu("virtio_net", 4096), None);
        assert_eq!((one_page(4096), one_page(16 << 10)), (3502, 15_790));
        assert!(XdpDriver::find("e1000e").is_none());
    }

    #[test]
    fn auto_is_generic_on_a_veth_unless_its_peer_takes_frames() {
        for (kind, is_received, native) in [
            (Some("veth"), Some(true), true),
            (Some("veth"), Some(false), false),
            (Some("veth"), None, false),
            (Some("tun"), None, true),
            (None, None, true),
        ] {
            assert_eq!(against_native(kind, is_received).is_none(), native, "{kind:?}");
        }
    }

    #[test]
    fn ena_and_gve_keep_half_of_their_queues_for_xdp() {
        for (driver, most) in [(Some("ena"), 4), (Some("gve"), 4), (Some("ice"), 8), (None, 8)] {
            assert_eq!(most_queues(driver, 8), most);
        }
        assert_eq!(most_queues(Some("ena"), 1), 1);
        assert_eq!(set_queues(Some("ena"), "eth0", 4), "ethtool -L eth0 combined 4");
        assert_eq!(set_queues(Some("gve"), "eth0", 4), "ethtool -L eth0 rx 4 tx 4");
    }
}
