//! The next hops of the host's SYN-ACKs, by route.

/// Next hops that are remembered of one route.
pub const HOPS: usize = 4;

/// The next hop of SYN-ACKs to a network, or of those to a neighbour. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NextHop {
    /// The Ethernet address, as [`NextHop::mac`] makes a number of it. 0 where each neighbour has its own.
    pub mac: u64,
    /// Index of the interface, or of the one that stands for its path ([`super::maps::PATHS`]).
    pub ifindex: u32,
    /// Outermost VLAN tag, as [`crate::wire::vlan`] returns it.
    pub vlan: u32,
    /// Time of the last SYN-ACK, as [`super::moment`].
    pub seen: u32,
    /// Always 0.
    pub reserved: u32,
}

impl NextHop {
    /// An Ethernet address as a number: one load and one store, so that no CPU reads half of it.
    #[inline(always)]
    pub const fn mac(bytes: [u8; 6]) -> u64 {
        let [a, b, c, d, e, f] = bytes;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// Element of `NEXT_HOPS`: a route of the host, by the number that `ROUTES_V4` and `ROUTES_V6` give to it.
/// The agent writes the kind, and starts with no hop whenever routes change. SYN-ACKs that leave add the rest.
/// All-zero is a route to nowhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NextHops {
    /// One of the constants below.
    pub kind: u32,
    /// Time at which a SYN was last left to the stack so that its SYN-ACK shows the present hop, as
    /// [`super::moment`].
    pub asked: u32,
    /// Time at which a neighbour's SYN was last seen to come from another Ethernet address than its own,
    /// as [`super::moment`]; 0: never.
    pub indirect_at: u32,
    /// Time of the last SYN-ACK with [`NextHops::mss`], as [`super::moment`].
    pub mss_at: u32,
    /// The largest MSS of the SYN-ACKs of the last ten minutes; 0: none was seen.
    pub mss: u16,
    /// Always 0.
    pub reserved: [u16; 3],
    /// The hops, in no order.
    pub hops: [NextHop; HOPS],
}

impl NextHops {
    /// The host sends nothing there: it has no route, or the address is its own, or that of a group.
    pub const NOWHERE: u32 = 0;
    /// Packets go to a gateway.
    pub const GATEWAY: u32 = 1;
    /// Packets go straight to the address, which is a neighbour.
    pub const ON_LINK: u32 = 2;

    /// A route of which nothing was seen yet.
    pub const fn of(kind: u32) -> Self {
        const NONE: NextHop = NextHop { mac: 0, ifindex: 0, vlan: 0, seen: 0, reserved: 0 };
        Self {
            kind,
            asked: 0,
            indirect_at: 0,
            mss_at: 0,
            mss: 0,
            reserved: [0; 3],
            hops: [NONE; HOPS],
        }
    }
}
