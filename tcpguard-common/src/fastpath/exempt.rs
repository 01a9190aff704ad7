//! Exempt sources: no rule drops their segments for their source.
//!
//! Any sender can write an exempt address into a SYN. So the exemption from signature rules and limits has a rate, that
//! of a validated client for each address, and that of the listener's retransmitted SYNs for all together
//! (`ladder.rs`). Beyond it, an exempt source is one like any other. Gateways, resolvers and the host's own
//! addresses open no connection to a listener, and are exempt from drops by source only.
//!
//! A trie holds them, and a filter in front of it saves most segments that look-up: a bit for each
//! prefix, by [`clients::mark`], IPv4 in the first half and IPv6 in the second. A set bit says that no
//! address of the prefix is exempt, so a filter of zeroes is always right. The agent clears bits before
//! it exempts a prefix and sets them when the prefix has gone from the trie.

use super::{Tables, clients};
use crate::abi::maps::{CLIENT_MARKS, EXEMPT_FILTER_BYTES};
use crate::abi::{Addr, RuleRef};

const _: () = assert!(8 * EXEMPT_FILTER_BYTES == 2 * CLIENT_MARKS);

/// Bits of the prefix that has a bit of the filter to itself, counted as for IPv6: an IPv4 /16, an IPv6 /48.
const V4_BITS: u32 = 96 + 16;
const V6_BITS: u32 = 48;

/// Returns whether `source` is protected or allowlisted at `now_ns` of boot time.
#[inline(always)]
pub(super) fn is_exempt<T: Tables>(tables: &T, source: &Addr, now_ns: u64) -> bool {
    !tables.is_exempt_filter_clear(place(source)) && tables.exemption(source).holds(now_ns)
}

/// Returns whether no source rule with these [`RuleRef`] flags drops the SYNs of `source`.
#[inline(always)]
pub(super) fn is_exempt_from<T: Tables>(
    tables: &T,
    source: &Addr,
    flags: u32,
    now_ns: u64,
) -> bool {
    if tables.is_exempt_filter_clear(place(source)) {
        return false;
    }
    let exemption = tables.exemption(source);
    let counts = flags & RuleRef::OVER_ALLOWLIST == 0 || exemption.is_protected();
    counts && exemption.holds(now_ns)
}

/// Returns whether `source` is protected or allowlisted, and may be a client of this host.
#[inline(always)]
pub(super) fn is_exempt_client<T: Tables>(tables: &T, source: &Addr, now_ns: u64) -> bool {
    if tables.is_exempt_filter_clear(place(source)) {
        return false;
    }
    let exemption = tables.exemption(source);
    exemption.is_client() && exemption.holds(now_ns)
}

/// The bit that an address belongs to: bit `place % 8` of byte `place / 8`.
#[inline(always)]
pub const fn place(addr: &Addr) -> usize {
    let half = if addr.as_v4().is_some() { 0 } else { CLIENT_MARKS };
    half + clients::mark(addr)
}

/// The bits that the addresses of a prefix belong to. `bits` are counted as for IPv6 (an IPv4 /24 is 120),
/// and all others of `network` are zero.
pub fn places(network: &Addr, bits: u32) -> impl Iterator<Item = usize> {
    let is_v4 = network.as_v4().is_some();
    let first = network.octets();
    let first =
        u64::from_be_bytes([0, 0, first[0], first[1], first[2], first[3], first[4], first[5]]);
    let shared = if is_v4 { V4_BITS } else { V6_BITS }.saturating_sub(bits);
    // Beyond this an IPv6 prefix is taken for all of IPv6: it covers all but a few bits of the filter.
    let all = !is_v4 && shared >= CLIENT_MARKS.ilog2();
    let count = if all { CLIENT_MARKS } else { 1 << shared };
    let start = if all { CLIENT_MARKS } else { place(network) };
    (0..count).map(move |number| {
        if is_v4 || all {
            return start + number;
        }
        let [.., a, b, c, d, e, f] = (first + number as u64).to_be_bytes();
        place(&Addr::from_v6([a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    })
}
