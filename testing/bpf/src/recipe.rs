//! Recipe by which the generator makes its SYNs: shared by the program and by the test kit, which fills it in.

/// 64-bit words of the longest SYN: Ethernet 14, IPv6 40, TCP with all its options 60 bytes.
pub const FRAME_WORDS: usize = 15;

/// The TTL is one that a packet of a real host has left after a few routers.
pub const VARY_NATURAL_TTL: u32 = 1 << 0;
/// The TTL is anything from 33 to 160.
pub const VARY_TTL: u32 = 1 << 1;
/// The window is random, and so is the MSS (536 to 1,559).
pub const VARY_WINDOW_MSS: u32 = 1 << 2;
/// The IPv4 identification is random, as that of Linux.
pub const VARY_IP_ID: u32 = 1 << 3;
/// The sequence number is random.
pub const VARY_SEQUENCE: u32 = 1 << 4;
/// IPv4 sources are unicast and outside the labs' 10.0.0.0/8, whatever is drawn.
pub const UNICAST: u32 = 1 << 5;

/// One type of SYN. All that varies is drawn anew for each. The kernel reuses frames without undoing their
/// receiver's changes, so each is written as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The frame, zero where it varies and in its checksums. In memory order.
    pub frame: [u64; FRAME_WORDS],
    /// Seed of the random numbers.
    pub seed: u64,
    /// Mask of the number from which all that varies in a SYN is drawn. It bounds the number of different
    /// SYNs: others return.
    pub distinct: u64,
    /// The bits of the source address that all have in common, as 16-bit words in memory order; IPv4 in the
    /// first two words.
    pub source: [u16; 8],
    /// The bits of the source address that are drawn.
    pub source_drawn: [u16; 8],
    /// Length of the frame in bytes; even.
    pub length: u32,
    /// Other than 0 for IPv6.
    pub ipv6: u32,
    /// Sum of the 16-bit words of the IPv4 header as they lie in memory, not folded.
    pub ip_sum: u32,
    /// Sum like `ip_sum`, of the TCP header with its options and pseudo header.
    pub tcp_sum: u32,
    /// Fields that vary: bits of `VARY_…` and [`UNICAST`].
    pub vary: u32,
    /// Offset of the TCP timestamp (RFC 7323) in the frame, even; 0 if there is none.
    pub timestamp_at: u32,
    /// Offset of the MSS option's value in the frame, even; 0 if there is none.
    pub mss_at: u32,
    /// TTL or hop limit where it does not vary.
    pub ttl: u32,
}

impl Recipe {
    /// Recipe that makes no SYN.
    pub const NONE: Self = Self {
        frame: [0; FRAME_WORDS],
        seed: 0,
        distinct: u64::MAX,
        source: [0; 8],
        source_drawn: [0; 8],
        length: 0,
        ipv6: 0,
        ip_sum: 0,
        tcp_sum: 0,
        vary: 0,
        timestamp_at: 0,
        mss_at: 0,
        ttl: 0,
    };
}
