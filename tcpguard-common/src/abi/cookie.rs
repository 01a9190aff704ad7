//! The secret of SYN cookies, the counts of returned cookies, and the records of listeners'
//! SYN-ACKs.

use super::{Bucket, option};

/// A secret of 128 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieKey(pub [u64; 2]);

/// The one value of `COOKIE_SECRET`, drawn once and kept as long as the maps are: cookies have the
/// time in them and end by that. All-zero means "none": no cookie is made or taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieSecret {
    /// The key of the MAC; see [`crate::cookie`].
    pub key: CookieKey,
    /// Offset added to all timestamps, so that they do not reveal how long the host has been up.
    pub timestamp_offset: u32,
    /// 1: the secret is drawn.
    pub drawn: u32,
}

impl CookieSecret {
    /// No secret: no cookie is made or taken.
    pub const NONE: Self = Self { key: CookieKey([0; 2]), timestamp_offset: 0, drawn: 0 };
}

/// Value of `SYN_ACKS`, by local address and port: the properties of the last SYN-ACK that left from there.
/// Only SYN-ACKs of the host's own stack are recorded, so an entry also proves that the address is the
/// host's. An entry for all addresses of a family holds the common properties of the SYN-ACKs of a listener
/// that is bound to all of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SynAckRecord {
    /// Index of the interface by which it left, or of the one that stands for its path ([`super::maps::PATHS`]).
    pub ifindex: u32,
    /// MSS option in bytes, 0 without one.
    pub mss: u16,
    /// Window, unscaled as in every SYN-ACK.
    pub window: u16,
    /// Ethernet source address of the SYN-ACK.
    pub mac: [u8; 6],
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The last window scale that was sent, if there was one.
    pub wscale: u8,
    /// Options that have been sent to clients that offered them: bits of [`super::option`]. One that was
    /// never seen is never promised.
    pub options: u32,
    /// Outermost VLAN tag of the SYN-ACK, as [`crate::wire::vlan`] returns it.
    pub vlan: u32,
    /// Time of the last SYN-ACK that was [`SynAckRecord::FOREIGN`], as [`SynAckRecord::moment`].
    pub foreign_at: u32,
}

impl SynAckRecord {
    /// Among the options: some SYN-ACKs from this address and port were not of the host's own stack. The
    /// host only forwarded them, or a socket has another address than the packet. A segment without a
    /// socket here may then belong to another host or namespace. A SYN-ACK of the host's own clears the
    /// bit if none of the others was seen for ten minutes. In an entry for all addresses the bit says
    /// that some SYN-ACKs did not leave like the others.
    pub const FOREIGN: u32 = 1 << 31;

    /// Ten minutes, in units of [`SynAckRecord::moment`].
    const LAPSE: u32 = (600_000_000_000_u64 >> Self::MOMENT) as u32;
    const MOMENT: u32 = 30;

    /// Boot time in units of 2^30 ns (1.07 s).
    #[inline(always)]
    pub const fn moment(now_ns: u64) -> u32 {
        (now_ns >> Self::MOMENT) as u32
    }

    /// The part of [`SynAckRecord::options`] that is still valid at this moment.
    #[inline(always)]
    pub const fn options_at(&self, moment: u32) -> u32 {
        // The tick of a CPU may lag, and its moment with it.
        match moment.saturating_sub(self.foreign_at) > Self::LAPSE {
            true => self.options & !Self::FOREIGN,
            false => self.options,
        }
    }

    /// The record after the SYN-ACK `seen`, at this moment. The options of a SYN-ACK depend on the client
    /// as well, so an option that was seen once is kept.
    #[inline(always)]
    pub(crate) const fn followed_by(&self, seen: &Self, moment: u32) -> Self {
        let wscale = if seen.is_scaled() { seen.wscale } else { self.wscale };
        let options = seen.options | self.options_at(moment);
        let foreign_at = if seen.is_own() { self.foreign_at } else { moment };
        Self { wscale, options, foreign_at, ..*seen }
    }

    /// Returns whether a SYN-ACK leaves as those before, whatever address it is from: by the same way, from as far
    /// away, and with a window of the same scale.
    #[inline(always)]
    pub(crate) const fn is_alike(&self, seen: &Self) -> bool {
        let [a, b, c, d, e, f] = self.mac;
        let [k, l, m, n, o, p] = seen.mac;
        let same_mac = a == k && b == l && c == m && d == n && e == o && f == p;
        let scaled = self.is_scaled() && seen.is_scaled();
        same_mac
            && self.ifindex == seen.ifindex
            && self.vlan == seen.vlan
            && self.ttl == seen.ttl
            && (!scaled || self.wscale == seen.wscale)
    }

    /// Returns the record, with the mark that one SYN-ACK is not like the others, at this moment.
    #[inline(always)]
    pub(crate) const fn differing_at(self, moment: u32) -> Self {
        Self { options: self.options | Self::FOREIGN, foreign_at: moment, ..self }
    }

    #[inline(always)]
    const fn is_scaled(&self) -> bool {
        self.options & option::WSCALE != 0
    }

    /// Returns whether every SYN-ACK seen was the host's own.
    #[inline(always)]
    pub const fn is_own(&self) -> bool {
        self.options & Self::FOREIGN == 0
    }
}

/// Element of `RETURNED_COOKIES`, by listener id: a cache line, which all CPUs share. Concurrent
/// writes of two CPUs may count once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReturnedCookies {
    /// Bucket of the wrong cookies that may still be checked; see [`super::Config::failed_cookie_ns`].
    pub bucket: Bucket,
    /// ACKs that found only the listening socket and brought a wrong cookie. Those beyond the limit
    /// are not checked, and not counted here.
    pub invalid: u64,
    /// Valid cookies that clients returned, IPv4 and IPv6: of one network up to four a second count; see
    /// `fastpath::cookie_networks`.
    pub valid: [u64; 2],
    /// Cookies of these with a handshake that the kernel completed.
    pub completed: [u64; 2],
    /// Networks of clients that returned one, as far as they are remembered.
    pub networks: [u32; 2],
    /// SYNs that were answered with a cookie and that show that a client is there: those of validated clients, and those
    /// that were retransmitted with a client's timing.
    pub asked: [u32; 2],
}

/// Element of `COOKIE_NETWORKS`: a network of clients that returned valid cookies. All-zero is an empty slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieNetwork {
    /// Keyed hash of the client's network, and the listener.
    pub client: u64,
    /// Time of the first count, in units of 2^20 ns (1.05 ms) of boot time, wrapping after 52 days.
    pub since: u32,
    /// Number of counted handshakes since then.
    pub counted: u16,
    /// Number of these that the kernel has not completed.
    pub open: u16,
}
