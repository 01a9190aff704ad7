//! SYN cookies: a SYN-ACK with a sequence number that holds all that must be known when the third packet
//! of the handshake arrives, so that no state is stored for a SYN.
//!
//! ```text
//! sequence number   31..28  index into a table, see `table`
//!                   27      without a timestamp: whether the number of the time slot is odd
//!                   27..0   the low bits of a MAC, or 26..0
//! timestamp         a clock of 2^20 ns with the lowest six bits replaced:
//!                   5 ECN, 4 SACK, 3..0 window scale (15: none); plus a secret offset
//! ```
//!
//! The MAC is SipHash-1-3 over addresses, ports, the client's sequence number, the index, and the
//! timestamp, or the number of the time slot where there is none. A timestamp contains its slot, and so
//! every bit of it is authenticated. A cookie is good in its slot and in the next: for [`SLOT_TICKS`] at
//! least and twice that at most. So one bit says which of the two it is of, and one MAC is to be
//! compared: a bit less of it, but trying both slots would give a forger two chances.
//!
//! Decision 7 gives the reasons for this design, the attacks that it withstands, and its costs.

mod offer;
mod siphash;
mod table;

use siphash::SipHash;

use crate::abi::{CookieKey, CookieSecret, FlowKey, option};
pub use offer::{MAX_WSCALE, Offer};
pub use table::{ENTRIES, floor};

/// Version of the cookie format. It is raised with every change of the fields of a cookie, of the
/// tables, of the input of the MAC, or of the meaning of [`crate::abi::option`]s. An agent takes over
/// the secret of an earlier version only if that version had the same format.
pub const FORMAT: u32 = 1;

/// The clock's unit is `2^20` ns, 1.05 ms: taken by a shift from a time in ns.
const TICK_SHIFT: u32 = 20;
/// A time slot is `2^15` ticks.
const SLOT_SHIFT: u32 = 15;
/// Length of a time slot in ticks: 34.4 s.
pub const SLOT_TICKS: u64 = 1 << SLOT_SHIFT;
/// Longest validity of a cookie, in ns: the rest of its slot, and the next slot.
pub const LIFE_NS: u64 = (2 * SLOT_TICKS) << TICK_SHIFT;

/// Bits of the sequence number below the index: the MAC, and without a timestamp in the highest one
/// whether the slot is odd.
const MAC_BITS: u32 = 28;
const MAC: u32 = (1 << MAC_BITS) - 1;
const ODD_SHIFT: u32 = MAC_BITS - 1;

/// In the last word of the MAC's message, beside the index: whether there is a timestamp, and how
/// often those have come round.
const STAMPED: u32 = 1 << 4;
const ROUND_SHIFT: u32 = 5;
/// The message's last word has room for seven bytes.
const ROUND: u32 = (1 << (24 - ROUND_SHIFT)) - 1;

/// The bits of a timestamp that hold options instead of time.
const OPTIONS: u64 = 0x3f;
const WSCALE: u64 = 0x0f;
/// Instead of a window scale: none.
const UNSCALED: u64 = 0x0f;
const SACK: u64 = 0x10;
const ECN: u64 = 0x20;

/// SipHash-1-3 of one word: without the key, the result cannot be distinguished from a random number.
pub const fn keyed_hash(key: CookieKey, word: u64) -> u64 {
    SipHash::new(&key).word(word).finish(0, 8)
}

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
pub const fn timestamp(secret: &CookieSecret, tick: u64) -> u32 {
    (tick as u32).wrapping_add(secret.timestamp_offset)
}

/// The handshake that a cookie belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// Addresses and ports.
    pub flow: &'a FlowKey,
    /// The client's initial sequence number.
    pub client_isn: u32,
}

/// The properties of a client that a cookie will hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Index into the table of its kind.
    index: u32,
    /// The low bits of the timestamp.
    options: u64,
    /// True if there is one.
    stamped: bool,
    /// The other family has other sizes.
    v6: bool,
}

impl Choice {
    /// For a client that offers `offer`, as far as the listener supports it, at an IPv6 address or
    /// not.
    #[inline(always)]
    pub fn new(offer: &Offer, v6: bool) -> Self {
        if !offer.has(option::TIMESTAMPS) {
            return Self { index: table::to_joint(offer, v6), options: 0, stamped: false, v6 };
        }
        let wscale =
            if offer.has(option::WSCALE) { u64::from(offer.wscale) & WSCALE } else { UNSCALED };
        let sack = if offer.has(option::SACK) { SACK } else { 0 };
        let ecn = if offer.has(option::ECN) { ECN } else { 0 };
        let index = table::to_mss(offer.mss, v6);
        Self { index, options: wscale | sack | ecn, stamped: true, v6 }
    }

    /// The same choice, with every number passed through `change`: see `Frame::forget`. Else the
    /// verifier would walk all that follows once for each entry of the tables.
    #[inline(always)]
    pub fn map(self, change: impl Fn(u64) -> u64) -> Self {
        let packed = change(u64::from(self.index) | self.options << 8);
        Self { index: packed as u32 & 0xff, options: packed >> 8, ..self }
    }

    /// The offer of the client as the cookie keeps it: the options that may be promised to it
    /// beside the listener's own sizes.
    #[inline(always)]
    pub fn agreed(&self) -> Offer {
        if !self.stamped {
            return table::from_joint(self.index, self.v6);
        }
        let mut options = option::TIMESTAMPS;
        let mut wscale = 0;
        if self.options & WSCALE != UNSCALED {
            options |= option::WSCALE;
            wscale = (self.options & WSCALE) as u8;
        }
        if self.options & SACK != 0 {
            options |= option::SACK;
        }
        if self.options & ECN != 0 {
            options |= option::ECN;
        }
        Offer { mss: table::from_mss(self.index, self.v6), wscale, options }
    }
}

/// The fields of the SYN-ACK that carry the cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie {
    /// Sequence number.
    pub isn: u32,
    /// Timestamp, 0 without.
    pub timestamp: u32,
}

/// The sequence number that a handshake is answered with in a slot, for an index. `stamp` is the
/// timestamp, if there is one.
#[inline(always)]
fn number(
    key: &CookieKey,
    handshake: &Handshake<'_>,
    index: u32,
    slot: u64,
    stamp: Option<u32>,
) -> u32 {
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
    // The length distinguishes the families.
    let (hash, length) = if is_v6(flow) {
        let hash = hash.word(pair(client[0], client[1])).word(pair(client[2], client[3]));
        (hash.word(pair(server[0], server[1])).word(pair(server[2], server[3])), 47)
    } else {
        (hash.word(pair(client[3], server[3])), 23)
    };
    // A timestamp says which of 2^17 slots it is of, and its number which 2^17 those are. So a
    // cookie is never good again, not when timestamps have come round after 52 days either.
    let (time, stamped, odd, mac) = match stamp {
        Some(stamp) => (stamp, STAMPED, 0, MAC),
        None => (slot as u32, 0, (slot as u32 & 1) << ODD_SHIFT, MAC >> 1),
    };
    let round = (slot >> (32 - SLOT_SHIFT)) as u32 & ROUND;
    let tail = pair(time, index | stamped | round << ROUND_SHIFT);
    let hash = hash.word(numbers).finish(tail, length) as u32;
    index << MAC_BITS | odd | hash & mac
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[inline(always)]
const fn is_v6(flow: &FlowKey) -> bool {
    flow.client.as_v4().is_none()
}

/// The cookie for a SYN that arrived at `tick`.
#[inline(always)]
pub fn make(
    secret: &CookieSecret,
    handshake: &Handshake<'_>,
    tick: u64,
    choice: &Choice,
) -> Cookie {
    let (mut time, mut stamp) = (tick, None);
    if choice.stamped {
        // Never ahead of the clock, or the next timestamp would be older and the client would
        // refuse the segment (RFC 7323 §5).
        time = tick & !OPTIONS | choice.options;
        if time > tick {
            time = time.wrapping_sub(OPTIONS + 1);
        }
        stamp = Some(timestamp(secret, time));
    }
    let isn = number(&secret.key, handshake, choice.index, slot(time), stamp);
    Cookie { isn, timestamp: stamp.unwrap_or(0) }
}

/// The offer of the client, if `isn` (the acknowledged number of the ACK less one) is a cookie that
/// this host made within the last two slots before `tick`. `echo` is the timestamp that the ACK
/// echoes.
#[inline(always)]
pub fn check(
    secret: &CookieSecret,
    handshake: &Handshake<'_>,
    tick: u64,
    isn: u32,
    echo: Option<u32>,
) -> Option<Offer> {
    check_bits(secret, handshake, tick, isn, echo, u32::MAX)
}

/// [`check`] with only those bits of the sequence number compared that are set in `compared`: for
/// tests that could not wait for all of them to be guessed.
#[inline(always)]
fn check_bits(
    secret: &CookieSecret,
    handshake: &Handshake<'_>,
    tick: u64,
    cookie: u32,
    echo: Option<u32>,
    compared: u32,
) -> Option<Offer> {
    let v6 = is_v6(handshake.flow);
    let index = cookie >> MAC_BITS;
    let now = slot(tick);
    let mut choice = Choice { index, options: 0, stamped: false, v6 };
    let Some(echo) = echo else {
        let last = u64::from(cookie >> ODD_SHIFT) & 1 ^ now & 1;
        let sent = number(&secret.key, handshake, index, now.wrapping_sub(last), None);
        return if (sent ^ cookie) & compared == 0 { Some(choice.agreed()) } else { None };
    };
    let plain = u64::from(echo.wrapping_sub(secret.timestamp_offset));
    // How long ago it was made, as far as the bits that hold time say; they are never ahead.
    let age = u64::from((tick as u32).wrapping_sub((plain & !OPTIONS) as u32));
    let made = slot(tick.wrapping_sub(age));
    // This also rejects most segments of other connections at little cost.
    if age > 2 * SLOT_TICKS || now.wrapping_sub(made) > 1 {
        return None;
    }
    let sent = number(&secret.key, handshake, index, made, Some(echo));
    if (sent ^ cookie) & compared != 0 {
        return None;
    }
    (choice.options, choice.stamped) = (plain & OPTIONS, true);
    Some(choice.agreed())
}

#[cfg(test)]
mod tests;
