//! The two tables that a cookie's four index bits point into.
//!
//! A client without timestamps leaves the cookie nothing but its sequence number, so MSS, window scale
//! and SACK share one index. With timestamps the other options are carried there exactly, and all
//! sixteen entries are for the MSS. Decision 7 gives the reasons for each entry.
//!
//! Both name the path MTU rather than the MSS, so that one entry serves both families.
//!
//! A client is never recorded with more than it said: a larger MSS would be cut off on its path, a
//! larger window scale would overrun its buffer. The one exception is the minimum that the
//! standards let a host assume of any other, see [`floor`].

use super::offer::Offer;
use crate::abi::option;

/// Entries of each table.
pub const ENTRIES: usize = 16;

/// IP and TCP header without options, in bytes.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

/// The MSS that every host takes whatever it says, in bytes: RFC 9293 §3.7.1 and RFC 8200 §5. The
/// kernel refuses request sockets below it (`bpf_sk_assign_tcp_reqsk`), and its own cookies know no
/// less.
#[inline(always)]
pub const fn floor(v6: bool) -> u16 {
    if v6 { 1220 } else { 536 }
}

#[inline(always)]
const fn headers(v6: bool) -> u16 {
    if v6 { HEADERS_V6 } else { HEADERS_V4 }
}

#[inline(always)]
const fn mss_at(mtu: u16, v6: bool) -> u16 {
    let mss = mtu - headers(v6);
    if mss < floor(v6) { floor(v6) } else { mss }
}

/// The largest MTU with an MSS of at most `mss`.
#[inline(always)]
const fn mtu_of(mss: u16, v6: bool) -> u16 {
    let mss = if mss < floor(v6) { floor(v6) } else { mss };
    mss.saturating_add(headers(v6))
}

/// An entry of [`JOINT`].
#[derive(Clone, Copy)]
struct Joint {
    mtu: u16,
    /// The scaling, as [`Offer::scaling`] has it.
    scaling: u8,
    sack: u8,
}

const fn joint(mtu: u16, wscale: Option<u8>, sack: bool) -> Joint {
    let scaling = match wscale {
        Some(wscale) => wscale + 1,
        None => 0,
    };
    Joint { mtu, scaling, sack: sack as u8 }
}

/// For clients without timestamps, the most valuable first.
static JOINT: [Joint; ENTRIES] = [
    joint(1500, Some(8), true),
    joint(1480, Some(8), true),
    joint(1440, Some(8), true),
    joint(1400, Some(8), true),
    joint(1340, Some(8), true),
    joint(576, Some(8), true),
    joint(1500, Some(7), true),
    joint(1440, Some(7), true),
    joint(1340, Some(7), true),
    joint(576, Some(7), true),
    joint(1480, Some(2), true),
    joint(1340, Some(2), true),
    joint(1480, None, true),
    joint(576, None, true),
    joint(1480, None, false),
    joint(576, None, false),
];

/// Path MTUs for clients with timestamps, the largest first.
static MTU: [u16; ENTRIES] =
    [9000, 1500, 1492, 1480, 1460, 1440, 1430, 1420, 1400, 1380, 1360, 1340, 1300, 1280, 1024, 576];

/// Index of the first entry of [`JOINT`] that promises no more than `offer`.
#[inline(always)]
pub fn to_joint(offer: &Offer, v6: bool) -> u32 {
    let mtu = mtu_of(offer.mss, v6);
    let (scaling, sack) = (offer.scaling(), u8::from(offer.has(option::SACK)));
    let mut index = 0;
    for entry in &JOINT {
        if fits(entry.mtu, mtu, v6) && entry.scaling <= scaling && entry.sack <= sack {
            break;
        }
        index += 1;
    }
    index
}

/// The offer that entry `index` (modulo [`ENTRIES`]) of [`JOINT`] stands for.
#[inline(always)]
pub fn from_joint(index: u32, v6: bool) -> Offer {
    let entry = &JOINT[index as usize & (ENTRIES - 1)];
    let mut options = if entry.sack != 0 { option::SACK } else { 0 };
    if entry.scaling != 0 {
        options |= option::WSCALE;
    }
    Offer { mss: mss_at(entry.mtu, v6), wscale: entry.scaling.saturating_sub(1), options }
}

/// Index of the first entry of [`MTU`] with an MSS of at most `mss`.
#[inline(always)]
pub fn to_mss(mss: u16, v6: bool) -> u32 {
    let mtu = mtu_of(mss, v6);
    let mut index = 0;
    for entry in &MTU {
        if fits(*entry, mtu, v6) {
            break;
        }
        index += 1;
    }
    index
}

/// The MSS of entry `index` (modulo [`ENTRIES`]) of [`MTU`].
#[inline(always)]
pub fn from_mss(index: u32, v6: bool) -> u16 {
    mss_at(MTU[index as usize & (ENTRIES - 1)], v6)
}

/// Returns whether an entry is not above a client's MTU. Entries below a family's floor mean the floor.
#[inline(always)]
const fn fits(entry: u16, mtu: u16, v6: bool) -> bool {
    entry <= mtu || v6 && entry <= HEADERS_V6 + floor(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::MAX_WSCALE;

    const FAMILIES: [bool; 2] = [false, true];

    fn offer(mss: u16, wscale: Option<u8>, sack: bool) -> Offer {
        let options = if wscale.is_some() { option::WSCALE } else { 0 };
        let options = options | if sack { option::SACK } else { 0 };
        Offer::new(mss, wscale.unwrap_or(0), options)
    }

    fn every_offer(mut each: impl FnMut(Offer)) {
        for mss in (0..=9200).chain([u16::MAX]) {
            for wscale in (0..=MAX_WSCALE).map(Some).chain([None]) {
                for sack in [false, true] {
                    each(offer(mss, wscale, sack));
                }
            }
        }
    }

    #[test]
    fn no_client_is_recorded_with_more_than_it_said() {
        for v6 in FAMILIES {
            every_offer(|offer| {
                let kept = from_joint(to_joint(&offer, v6), v6);
                assert!(kept.mss <= offer.mss.max(floor(v6)), "{offer:?}: {kept:?}");
                assert!(kept.scaling() <= offer.scaling(), "{offer:?}: {kept:?}");
                assert_eq!(kept.options & !offer.options, 0, "{offer:?}: {kept:?}");
                let fine = from_mss(to_mss(offer.mss, v6), v6);
                assert!(fine <= offer.mss.max(floor(v6)), "{offer:?}: {fine}");
                assert!(fine >= kept.mss, "timestamps never cost MSS: {offer:?}");
            });
        }
    }

    /// Nearest: no other entry of the same kind that is not above would have come closer.
    #[test]
    fn the_mss_is_the_nearest_that_is_not_above() {
        for v6 in FAMILIES {
            for mss in floor(v6)..=9200 {
                let nearest = MTU.iter().map(|mtu| mss_at(*mtu, v6)).filter(|m| *m <= mss).max();
                assert_eq!(from_mss(to_mss(mss, v6), v6), nearest.unwrap(), "{mss}");
            }
            every_offer(|offer| {
                let kept = &JOINT[to_joint(&offer, v6) as usize];
                let same =
                    JOINT.iter().filter(|e| (e.scaling, e.sack) == (kept.scaling, kept.sack));
                let mss = offer.mss.max(floor(v6));
                let nearest = same.map(|entry| mss_at(entry.mtu, v6)).filter(|m| *m <= mss).max();
                assert_eq!(Some(mss_at(kept.mtu, v6)), nearest, "{offer:?}");
            });
        }
    }

    /// MSS, window scale and SACK of common stacks without timestamps, by p0f 3's signatures and by
    /// the SYNs of Windows 11 and of Linux with `tcp_timestamps=0`.
    #[test]
    fn common_clients_lose_nothing_or_what_the_decision_says() {
        let cases = [
            ("Windows 10 and 11", offer(1460, Some(8), true), offer(1460, Some(8), true)),
            ("Windows behind PPPoE", offer(1452, Some(8), true), offer(1440, Some(8), true)),
            ("Windows in a tunnel", offer(1380, Some(8), true), offer(1360, Some(8), true)),
            ("Linux without timestamps", offer(1460, Some(7), true), offer(1460, Some(7), true)),
            ("Linux with large buffers", offer(1460, Some(10), true), offer(1460, Some(8), true)),
            ("Windows 7", offer(1460, Some(2), true), offer(1440, Some(2), true)),
            ("Windows XP", offer(1460, None, true), offer(1440, None, true)),
            ("lwIP", offer(1460, None, false), offer(1440, None, false)),
            ("no option at all", offer(0, None, false), offer(536, None, false)),
        ];
        for (who, said, expected) in cases {
            assert_eq!(from_joint(to_joint(&said, false), false), expected, "{who}");
        }
        let windows = offer(1440, Some(8), true);
        assert_eq!(from_joint(to_joint(&windows, true), true), windows);
    }

    #[test]
    fn every_entry_is_one_that_the_kernel_takes() {
        for index in 0..ENTRIES as u32 {
            for v6 in FAMILIES {
                let entry = from_joint(index, v6);
                assert!(entry.wscale <= MAX_WSCALE);
                assert!(entry.mss >= floor(v6) && from_mss(index, v6) >= floor(v6));
            }
        }
    }
}
