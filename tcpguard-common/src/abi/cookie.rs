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

/// Value of `SYN_ACKS`, by local address and port: the properties of the SYN-ACKs that left from there. Where
/// they went stands in [`super::NextHops`].
/// Only SYN-ACKs of the host's own stack are recorded, so an entry also proves that the address is the
/// host's. An entry for all addresses of a family holds the common properties of the SYN-ACKs of a listener
/// that is bound to all of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SynAckRecord {
    /// The interfaces by which they left: bits of [`SynAckRecord::interface`].
    pub interfaces: u32,
    /// The largest MSS option of the last ten minutes in bytes, 0 without one.
    pub mss: u16,
    /// Window of the last one, unscaled as in every SYN-ACK.
    pub window: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The last window scale that was sent, if there was one.
    pub wscale: u8,
    /// SYNs to this address since [`SynAckRecord::anew`] that were answered with a cookie and that show that a client is
    /// there, as [`ReturnedCookies::asked`]: at most 255.
    pub asked: u8,
    /// 1: a client has returned a cookie of this address since then.
    pub returned: u8,
    /// Options that have been sent to clients that offered them: bits of [`super::option`]. One that was
    /// never seen is never promised.
    pub options: u32,
    /// Time of the last SYN-ACK that was [`SynAckRecord::FOREIGN`], as [`moment`].
    pub foreign_at: u32,
    /// Time of the last SYN-ACK with this MSS, as [`moment`].
    pub mss_at: u32,
}

/// Boot time in units of 2^30 ns (1.07 s).
#[inline(always)]
pub const fn moment(now_ns: u64) -> u32 {
    (now_ns >> 30) as u32
}

/// Returns the time since `earlier`. The tick of a CPU may lag, and its moment with it.
#[inline(always)]
pub const fn moments_since(earlier: u32, moment: u32) -> u32 {
    moment.saturating_sub(earlier)
}

/// Ten minutes, in units of [`moment`]: what no SYN-ACK has shown for so long is forgotten.
pub const LAPSE: u32 = moment(600_000_000_000);

/// The largest MSS of the last ten minutes and its time, after a SYN-ACK with the MSS `seen`, at this moment. The
/// MSS of a SYN-ACK depends on the client's path as well: a single client with a small one must not set it for
/// all.
#[inline(always)]
pub(crate) const fn largest_mss((mss, at): (u16, u32), seen: u16, moment: u32) -> (u16, u32) {
    if mss > seen && moments_since(at, moment) <= LAPSE { (mss, at) } else { (seen, moment) }
}

impl SynAckRecord {
    /// Among the options: some SYN-ACKs from this address and port were not of the host's own stack. The
    /// host only forwarded them, or a socket has another address than the packet. A segment without a
    /// socket here may then belong to another host or namespace. A SYN-ACK of the host's own clears the
    /// bit if none of the others was seen for ten minutes. In an entry for all addresses the bit says
    /// that some SYN-ACKs did not leave like the others.
    pub const FOREIGN: u32 = 1 << 31;

    /// Among the options: SYNs to this address and port get no cookies, because none is returned. The agent sets it.
    pub const WITHHELD: u32 = 1 << 29;

    /// The bit of an interface and a VLAN tag. Others may share it: it excludes a way, and proves none.
    #[inline(always)]
    pub const fn interface(ifindex: u32, vlan: u32) -> u32 {
        1 << ((ifindex ^ vlan) & 31)
    }

    /// Returns whether SYN-ACKs left by this interface with this VLAN tag, as far as is known.
    #[inline(always)]
    pub const fn leaves_by(&self, ifindex: u32, vlan: u32) -> bool {
        self.interfaces & Self::interface(ifindex, vlan) != 0
    }

    /// The part of [`SynAckRecord::options`] that is still valid at this moment.
    #[inline(always)]
    pub const fn options_at(&self, moment: u32) -> u32 {
        match moments_since(self.foreign_at, moment) > LAPSE {
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
        let (mss, mss_at) = largest_mss((self.mss, self.mss_at), seen.mss, moment);
        let interfaces = self.interfaces | seen.interfaces;
        let (asked, returned) = (self.asked, self.returned);
        Self { interfaces, mss, mss_at, wscale, options, foreign_at, asked, returned, ..*seen }
    }

    /// Returns whether a SYN-ACK looks as those before, whatever address it is from: from as far away, and with a
    /// window of the same scale.
    #[inline(always)]
    pub(crate) const fn is_alike(&self, seen: &Self) -> bool {
        let scaled = self.is_scaled() && seen.is_scaled();
        self.ttl == seen.ttl && (!scaled || self.wscale == seen.wscale)
    }

    /// Returns the record of how SYN-ACKs look, without interfaces and times.
    pub const fn looks(&self) -> Self {
        Self { interfaces: 0, foreign_at: 0, mss_at: 0, ..self.anew() }
    }

    /// Returns the record as it is before the first cookie: none is withheld, and none was returned.
    pub const fn anew(&self) -> Self {
        self.withheld(false)
    }

    /// Returns the record from which cookies are withheld from now on, or are no longer.
    pub const fn withheld(&self, withheld: bool) -> Self {
        let bit = if withheld { Self::WITHHELD } else { 0 };
        Self { asked: 0, returned: 0, options: self.options & !Self::WITHHELD | bit, ..*self }
    }

    /// Returns whether SYNs to this address and port get no cookies, because none is returned.
    #[inline(always)]
    pub const fn is_withheld(&self) -> bool {
        self.options & Self::WITHHELD != 0
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
    /// Part of a keyed hash of the client's network, and the listener.
    pub client: u32,
    /// Time of the first count, in units of 2^20 ns (1.05 ms) of boot time, wrapping after 52 days.
    pub since: u32,
    /// The counted handshakes since then: part of a keyed hash of the connection, 0xffff once the kernel has completed
    /// it; 0 is an empty place.
    pub flows: [u16; 4],
}
