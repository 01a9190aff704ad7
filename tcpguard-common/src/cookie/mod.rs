//! SYN cookies: a SYN-ACK whose sequence number holds all that must be known when the third packet
//! of the handshake arrives, so that nothing is stored for a SYN.
//!
//! ```text
//! sequence number   31..28  index into a table, see `table`
//!                   27..0   the low bits of a MAC
//! timestamp         a clock of 2^20 ns with the lowest six bits replaced:
//!                   5 ECN, 4 SACK, 3..0 window scale (15: none); plus a secret offset
//! ```
//!
//! The MAC is SipHash-2-4 over addresses, ports, the client's sequence number, the index, and the
//! timestamp, or the number of the time slot where there is none. A timestamp contains its slot, and
//! so every bit of it is authenticated. Keys belong to slots and last for two of them: a cookie is
//! good for [`SLOT_TICKS`] at least and twice that at most.
//!
//! Why it is so, what it protects against and what it costs: decision 7.

mod offer;
mod siphash;
mod table;

pub use offer::{MAX_WSCALE, NO_WSCALE, Offer};
pub use table::{ENTRIES, floor};

use crate::abi::{COOKIE_KEYS, CookieKey, CookieKeys, FlowKey};
use siphash::SipHash;

/// The clock's unit is `2^20` ns, 1.05 ms: taken by a shift from a time in ns.
const TICK_SHIFT: u32 = 20;
/// A time slot is `2^15` ticks.
const SLOT_SHIFT: u32 = 15;
/// Length of a time slot in ticks: 34.4 s.
pub const SLOT_TICKS: u64 = 1 << SLOT_SHIFT;

/// Bits of the sequence number that hold the MAC.
pub const MAC_BITS: u32 = 28;
const MAC: u32 = (1 << MAC_BITS) - 1;

const WSCALE: u64 = 0x0f;
const SACK: u64 = 0x10;
const ECN: u64 = 0x20;
/// The bits of a timestamp that hold options instead of time.
const OPTIONS: u64 = 0x3f;

/// Boot time in ns, in ticks.
#[inline(always)]
pub const fn ticks(now_ns: u64) -> u64 {
    now_ns >> TICK_SHIFT
}

/// Number of the time slot of a tick.
#[inline(always)]
pub const fn slot(tick: u64) -> u64 {
    tick >> SLOT_SHIFT
}

/// The timestamp that the host's clock shows at a tick.
#[inline(always)]
pub const fn timestamp(keys: &CookieKeys, tick: u64) -> u32 {
    (tick as u32).wrapping_add(keys.timestamp_offset)
}

impl CookieKeys {
    /// The key of a slot.
    #[inline(always)]
    const fn of(&self, slot: u64) -> &CookieKey {
        &self.keys[slot as usize & (COOKIE_KEYS - 1)]
    }

    /// The place of the key that no cookie is made or checked with for at least a slot from `tick`
    /// on: that of the slot after the next. Replaced once in each slot, no key outlives its use.
    pub const fn spare(tick: u64) -> usize {
        (slot(tick) + 2) as usize & (COOKIE_KEYS - 1)
    }
}

/// Whose cookie it is.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// Addresses and ports.
    pub flow: &'a FlowKey,
    /// The client's initial sequence number.
    pub client_isn: u32,
}

/// What is sent in the SYN-ACK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie {
    /// Sequence number.
    pub isn: u32,
    /// Timestamp, where [`Offer::timestamps`] is set in `agreed`.
    pub timestamp: u32,
    /// The client as it will be remembered: what the SYN-ACK may promise beside the listener's own
    /// sizes.
    pub agreed: Offer,
}

/// The message of the MAC, up to what differs between tries.
#[inline(always)]
fn hash(key: &CookieKey, handshake: &Handshake<'_>) -> (SipHash, u8) {
    let flow = handshake.flow;
    let ports = u32::from_ne_bytes([
        flow.client_port[0],
        flow.client_port[1],
        flow.server_port[0],
        flow.server_port[1],
    ]);
    let numbers = pair(ports, handshake.client_isn);
    let (client, server) = (flow.client.words(), flow.server.words());
    let hash = SipHash::new(key);
    // The length tells the families apart.
    if is_v6(flow) {
        let hash = hash.word(pair(client[0], client[1])).word(pair(client[2], client[3]));
        let hash = hash.word(pair(server[0], server[1])).word(pair(server[2], server[3]));
        (hash.word(numbers), 45)
    } else {
        (hash.word(pair(client[3], server[3])).word(numbers), 21)
    }
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[inline(always)]
const fn is_v6(flow: &FlowKey) -> bool {
    flow.client.as_v4().is_none()
}

/// The sequence number for an index. `time` is the timestamp or the slot number.
#[inline(always)]
fn isn(key: &CookieKey, handshake: &Handshake<'_>, index: u32, time: u32, stamped: bool) -> u32 {
    let (hash, length) = hash(key, handshake);
    let mode = index | (stamped as u32) << 4;
    let mac = hash.finish(pair(time, mode), length) as u32;
    index << MAC_BITS | mac & MAC
}

/// The cookie for a SYN that arrived at `tick`. `offer` is what the client offers of what the
/// listener can do too.
#[inline(always)]
pub fn make(keys: &CookieKeys, handshake: &Handshake<'_>, tick: u64, offer: &Offer) -> Cookie {
    let v6 = is_v6(handshake.flow);
    if !offer.timestamps {
        let (index, agreed) = table::to_joint(offer, v6);
        let slot = slot(tick);
        let isn = isn(keys.of(slot), handshake, index, slot as u32, false);
        return Cookie { isn, timestamp: 0, agreed };
    }
    let index = table::to_mss(offer.mss, v6);
    let options = u64::from(offer.wscale) & WSCALE
        | if offer.sack { SACK } else { 0 }
        | if offer.ecn { ECN } else { 0 };
    // Never ahead of the clock, or the next timestamp would be older and the client would refuse
    // the segment (RFC 7323 §5).
    let mut time = tick & !OPTIONS | options;
    if time > tick {
        time = time.wrapping_sub(OPTIONS + 1);
    }
    let timestamp = timestamp(keys, time);
    let isn = isn(keys.of(slot(time)), handshake, index, timestamp, true);
    let agreed = Offer { mss: table::from_mss(index, v6), ..*offer };
    Cookie { isn, timestamp, agreed }
}

/// Whether `isn` (one less than what the ACK acknowledges) is a cookie that this host made within
/// the last two slots before `tick`, and for whom. `echo` is the timestamp that the ACK echoes.
#[inline(always)]
pub fn check(
    keys: &CookieKeys,
    handshake: &Handshake<'_>,
    tick: u64,
    isn: u32,
    echo: Option<u32>,
) -> Option<Offer> {
    check_bits(keys, handshake, tick, isn, echo, u32::MAX)
}

/// [`check`] with only those bits of the sequence number compared that are set in `compared`: for
/// tests that could not wait for 28 bits to be guessed.
#[inline(always)]
fn check_bits(
    keys: &CookieKeys,
    handshake: &Handshake<'_>,
    tick: u64,
    cookie: u32,
    echo: Option<u32>,
    compared: u32,
) -> Option<Offer> {
    let v6 = is_v6(handshake.flow);
    let index = cookie >> MAC_BITS;
    let now = slot(tick);
    let is = |slot: u64, time: u32, stamped: bool| {
        (isn(keys.of(slot), handshake, index, time, stamped) ^ cookie) & compared == 0
    };
    let Some(echo) = echo else {
        if is(now, now as u32, false) {
            return Some(table::from_joint(index, v6));
        }
        let before = now.wrapping_sub(1);
        return is(before, before as u32, false).then(|| table::from_joint(index, v6));
    };
    let plain = u64::from(echo.wrapping_sub(keys.timestamp_offset));
    // How long ago it was made, as far as the bits that hold time say; they are never ahead.
    let age = u64::from((tick as u32).wrapping_sub((plain & !OPTIONS) as u32));
    let made = slot(tick.wrapping_sub(age));
    // This also rejects most segments of other connections at little cost.
    if age > 2 * SLOT_TICKS || now.wrapping_sub(made) > 1 || !is(made, echo, true) {
        return None;
    }
    Some(Offer {
        mss: table::from_mss(index, v6),
        wscale: (plain & WSCALE) as u8,
        sack: plain & SACK != 0,
        ecn: plain & ECN != 0,
        timestamps: true,
    })
}

#[cfg(test)]
mod tests;
