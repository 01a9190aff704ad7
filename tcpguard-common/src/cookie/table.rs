//! The two tables that a cookie's four index bits point into.
//!
//! A client without timestamps leaves the cookie nothing but its sequence number, so MSS, window
//! scale and SACK share one index. With timestamps the other options are carried there exactly, and
//! all sixteen places are for the MSS. Decision 7 gives the reasons for each entry.
//!
//! Both name the path MTU rather than the MSS, so that one entry serves both families.
//!
//! A client is never recorded with more than it said: a larger MSS would be cut off on its path, a
//! larger window scale would overrun its buffer. The one exception is what the standards let a host
//! assume of any other, see [`floor`].

use super::offer::{NO_WSCALE, Offer};

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
const fn mss_at(mtu: u16, v6: bool) -> u16 {
    let mss = if v6 { mtu - HEADERS_V6 } else { mtu - HEADERS_V4 };
    if mss < floor(v6) { floor(v6) } else { mss }
}

/// An entry of [`JOINT`].
#[derive(Clone, Copy)]
struct Joint {
    mtu: u16,
    wscale: u8,
    sack: bool,
}

const fn joint(mtu: u16, wscale: u8, sack: bool) -> Joint {
    Joint { mtu, wscale, sack }
}

/// For clients without timestamps, the most valuable first.
const JOINT: [Joint; ENTRIES] = [
    joint(1500, 8, true),
    joint(1480, 8, true),
    joint(1440, 8, true),
    joint(1400, 8, true),
    joint(1340, 8, true),
    joint(576, 8, true),
    joint(1500, 7, true),
    joint(1440, 7, true),
    joint(1340, 7, true),
    joint(576, 7, true),
    joint(1480, 2, true),
    joint(1340, 2, true),
    joint(1480, NO_WSCALE, true),
    joint(576, NO_WSCALE, true),
    joint(1480, NO_WSCALE, false),
    joint(576, NO_WSCALE, false),
];

/// Path MTUs for clients with timestamps, the largest first.
const MTU: [u16; ENTRIES] =
    [9000, 1500, 1492, 1480, 1460, 1440, 1430, 1420, 1400, 1380, 1360, 1340, 1300, 1280, 1024, 576];

/// The first entry of [`JOINT`] that promises no more than `offer`; its index, and what the client is
/// recorded with.
#[inline(always)]
pub const fn to_joint(offer: &Offer, v6: bool) -> (u32, Offer) {
    let mss = if offer.mss < floor(v6) { floor(v6) } else { offer.mss };
    let mut index = 0;
    while index < ENTRIES - 1 {
        let entry = &JOINT[index];
        let scales =
            entry.wscale == NO_WSCALE || offer.wscale != NO_WSCALE && entry.wscale <= offer.wscale;
        if mss_at(entry.mtu, v6) <= mss && scales && (offer.sack || !entry.sack) {
            break;
        }
        index += 1;
    }
    (index as u32, from_joint(index as u32, v6))
}

/// What entry `index` (modulo [`ENTRIES`]) of [`JOINT`] stands for.
#[inline(always)]
pub const fn from_joint(index: u32, v6: bool) -> Offer {
    let entry = &JOINT[index as usize & (ENTRIES - 1)];
    Offer {
        mss: mss_at(entry.mtu, v6),
        wscale: entry.wscale,
        sack: entry.sack,
        ecn: false,
        timestamps: false,
    }
}

/// The first entry of [`MTU`] with an MSS of at most `mss`.
#[inline(always)]
pub const fn to_mss(mss: u16, v6: bool) -> u32 {
    let mss = if mss < floor(v6) { floor(v6) } else { mss };
    let mut index = 0;
    while index < ENTRIES - 1 {
        if mss_at(MTU[index], v6) <= mss {
            break;
        }
        index += 1;
    }
    index as u32
}

/// The MSS of entry `index` (modulo [`ENTRIES`]) of [`MTU`].
#[inline(always)]
pub const fn from_mss(index: u32, v6: bool) -> u16 {
    mss_at(MTU[index as usize & (ENTRIES - 1)], v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::MAX_WSCALE;

    const FAMILIES: [bool; 2] = [false, true];

    fn every_offer(mut each: impl FnMut(Offer)) {
        for mss in (0..=9200).chain([u16::MAX]) {
            for wscale in 0..=NO_WSCALE {
                for sack in [false, true] {
                    each(Offer { mss, wscale, sack, ..Offer::default() });
                }
            }
        }
    }

    #[test]
    fn no_client_is_recorded_with_more_than_it_said() {
        for v6 in FAMILIES {
            every_offer(|offer| {
                let (_, kept) = to_joint(&offer, v6);
                assert!(kept.mss <= offer.mss.max(floor(v6)), "{offer:?}: {kept:?}");
                let scales = kept.wscale == NO_WSCALE
                    || offer.wscale != NO_WSCALE && kept.wscale <= offer.wscale;
                assert!(scales && (offer.sack || !kept.sack), "{offer:?}: {kept:?}");
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
                let (_, kept) = to_joint(&offer, v6);
                let same = JOINT.iter().filter(|e| (e.wscale, e.sack) == (kept.wscale, kept.sack));
                let mss = offer.mss.max(floor(v6));
                let nearest = same.map(|entry| mss_at(entry.mtu, v6)).filter(|m| *m <= mss).max();
                assert_eq!(Some(kept.mss), nearest, "{offer:?}");
            });
        }
    }

    /// MSS, window scale and SACK of common stacks without timestamps, by p0f 3's signatures and
    /// what Windows 11 and Linux with `tcp_timestamps=0` send.
    #[test]
    fn common_clients_lose_nothing_or_what_the_decision_says() {
        let cases = [
            ("Windows 10 and 11", (1460, 8, true), (1460, 8, true)),
            ("Windows behind PPPoE", (1452, 8, true), (1440, 8, true)),
            ("Windows in a WireGuard tunnel", (1380, 8, true), (1360, 8, true)),
            ("Linux without timestamps", (1460, 7, true), (1460, 7, true)),
            ("Linux with large buffers", (1460, 10, true), (1460, 8, true)),
            ("Windows 7", (1460, 2, true), (1440, 2, true)),
            ("Windows XP", (1460, NO_WSCALE, true), (1440, NO_WSCALE, true)),
            ("lwIP", (1460, NO_WSCALE, false), (1440, NO_WSCALE, false)),
            ("no option at all", (536, NO_WSCALE, false), (536, NO_WSCALE, false)),
        ];
        for (who, (mss, wscale, sack), (kept_mss, kept_wscale, kept_sack)) in cases {
            let (_, kept) = to_joint(&Offer { mss, wscale, sack, ..Offer::default() }, false);
            let expected = (kept_mss, kept_wscale, kept_sack);
            assert_eq!((kept.mss, kept.wscale, kept.sack), expected, "{who}");
        }
        let (_, v6) =
            to_joint(&Offer { mss: 1440, wscale: 8, sack: true, ..Offer::default() }, true);
        assert_eq!((v6.mss, v6.wscale, v6.sack), (1440, 8, true));
    }

    /// The shift that belongs to a scale is never beyond the standard's.
    #[test]
    fn every_entry_is_one_that_the_kernel_takes() {
        for index in 0..ENTRIES as u32 {
            for v6 in FAMILIES {
                let entry = from_joint(index, v6);
                assert!(entry.wscale == NO_WSCALE || entry.wscale <= MAX_WSCALE);
                assert!(entry.mss >= floor(v6) && from_mss(index, v6) >= floor(v6));
            }
        }
    }
}
