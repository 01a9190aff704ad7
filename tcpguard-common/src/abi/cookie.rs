//! What the cookies are made with, what comes back, and how listeners answer.

use crate::fastpath::Bucket;
use crate::wire::option;

/// A secret of 128 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieKey(pub [u64; 2]);

/// The one value of `COOKIE_SECRET`, drawn once and kept as long as the maps are: cookies have the
/// time in them and end by that. All-zero means "none": no cookie is made or taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieSecret {
    /// What the MAC is made with; see [`crate::cookie`].
    pub key: CookieKey,
    /// Added to all timestamps, so that they do not tell since when the host is up.
    pub timestamp_offset: u32,
    /// 1: it is drawn.
    pub drawn: u32,
}

impl CookieSecret {
    /// None.
    pub const NONE: Self = Self { key: CookieKey([0; 2]), timestamp_offset: 0, drawn: 0 };
}

/// Value of `SYN_ACKS`, by local address and port: what the last SYN-ACK that left from there looked
/// like. Only what the host's own stack has sent is recorded, so an entry also proves that the
/// address is the host's. An entry for all addresses of a family holds what the SYN-ACKs of a listener that
/// is bound to all of them have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SynAckRecord {
    /// Index of the interface by which it left.
    pub ifindex: u32,
    /// MSS option in bytes, 0 without one.
    pub mss: u16,
    /// Window, unscaled as in every SYN-ACK.
    pub window: u16,
    /// Its Ethernet source.
    pub mac: [u8; 6],
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The last window scale that was sent, if there was one.
    pub wscale: u8,
    /// Which options have been sent to clients that offered them: bits of
    /// [`crate::wire::option`]. One that was never seen is never promised.
    pub options: u32,
    /// Its outermost VLAN tag, as [`crate::wire::vlan`] says it.
    pub vlan: u32,
    /// When one was last seen that was [`SynAckRecord::FOREIGN`], see [`SynAckRecord::moment`].
    pub foreign_at: u32,
}

impl SynAckRecord {
    /// Among the options: SYN-ACKs from this address and port also left that were none of the host's
    /// own stack (it only forwarded them, or a socket has another address than the packet). What it
    /// does not find in its sockets may then be somebody else's. An own SYN-ACK takes it back when none
    /// of the others was seen for ten minutes. In an entry for all addresses likewise: some did not leave
    /// like the others.
    pub const FOREIGN: u32 = 1 << 31;

    /// Ten minutes, in units of [`SynAckRecord::moment`].
    const LAPSE: u32 = (600_000_000_000_u64 >> Self::MOMENT) as u32;
    const MOMENT: u32 = 30;

    /// Boot time in units of 2^30 ns (1.07 s).
    #[inline(always)]
    pub const fn moment(now_ns: u64) -> u32 {
        (now_ns >> Self::MOMENT) as u32
    }

    /// What is still true of [`SynAckRecord::options`] at this moment.
    #[inline(always)]
    pub const fn options_at(&self, moment: u32) -> u32 {
        // A CPU whose tick is behind may be a moment behind as well.
        match moment.saturating_sub(self.foreign_at) > Self::LAPSE {
            true => self.options & !Self::FOREIGN,
            false => self.options,
        }
    }

    /// What is known when `seen` is the next SYN-ACK, at this moment. Which options it holds depends on the
    /// client as well: what was there once is kept.
    #[inline(always)]
    pub(crate) const fn followed_by(&self, seen: &Self, moment: u32) -> Self {
        let wscale = if seen.is_scaled() { seen.wscale } else { self.wscale };
        let options = seen.options | self.options_at(moment);
        let foreign_at = if seen.is_own() { self.foreign_at } else { moment };
        Self { wscale, options, foreign_at, ..*seen }
    }

    /// Whether a SYN-ACK leaves as those before, whatever address it is from: by the same way, from as far
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

    /// The same, as one that is not like the others.
    #[inline(always)]
    pub(crate) const fn differing_at(self, moment: u32) -> Self {
        Self { options: self.options | Self::FOREIGN, foreign_at: moment, ..self }
    }

    #[inline(always)]
    const fn is_scaled(&self) -> bool {
        self.options & option::WSCALE != 0
    }

    /// Whether every SYN-ACK seen was the host's own.
    #[inline(always)]
    pub const fn is_own(&self) -> bool {
        self.options & Self::FOREIGN == 0
    }
}

/// Element of `RETURNED_COOKIES`, by listener id: a cache line, which all CPUs share. What two of them
/// write at once may count once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReturnedCookies {
    /// How many more wrong ones may be checked; see [`super::Config::failed_cookie_ns`].
    pub bucket: Bucket,
    /// ACKs that found only the listening socket, and whose cookie was wrong. Those beyond the
    /// limit are not checked, and not counted here.
    pub invalid: u64,
    /// Valid cookies that clients returned, IPv4 and IPv6: of one network up to four a second count; see
    /// `fastpath::handovers`.
    pub valid: [u64; 2],
    /// Of these, those whose handshake the kernel completed.
    pub completed: [u64; 2],
    /// Networks of clients that returned one, as far as they are remembered.
    pub networks: [u64; 2],
}

/// Element of `HANDOVERS`: a network of clients that returned valid cookies. All-zero is an empty place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Handover {
    /// Keyed hash of the client's network, and the listener.
    pub client: u64,
    /// When it was counted first, in units of 2^20 ns (1.05 ms) of boot time, wrapping after 52 days.
    pub since: u32,
    /// How often it was counted since then.
    pub counted: u16,
    /// Of these, handshakes that the kernel has not completed.
    pub open: u16,
}
