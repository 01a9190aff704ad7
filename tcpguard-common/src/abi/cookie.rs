//! What the cookies are made with, and how listeners answer.

/// Keys in a [`CookieKeys`]; a power of two.
pub const COOKIE_KEYS: usize = 4;

/// A secret of 128 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieKey(pub [u64; 2]);

/// The one value of `COOKIE_KEYS`. All-zero means "none": no cookie is made or taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CookieKeys {
    /// By number of the time slot modulo [`COOKIE_KEYS`]; see [`crate::cookie`]. Two are in use, the
    /// next one is ready, and one is out of use and may be replaced.
    pub keys: [CookieKey; COOKIE_KEYS],
    /// Random once: added to all timestamps, so that they do not tell since when the host is up.
    pub timestamp_offset: u32,
    /// 1: the keys are drawn.
    pub drawn: u32,
}

impl CookieKeys {
    /// No keys.
    pub const NONE: Self =
        Self { keys: [CookieKey([0; 2]); COOKIE_KEYS], timestamp_offset: 0, drawn: 0 };
}

/// Value of `SYN_ACKS`, by local address and port: what the last SYN-ACK that left from there looked
/// like. Only what the host's own stack has sent is recorded, so an entry also proves that the
/// address is the host's.
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
}
