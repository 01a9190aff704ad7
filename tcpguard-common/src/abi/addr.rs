//! One address type for both families.

/// An IPv4 or IPv6 address in network byte order; IPv4 as `::ffff:a.b.c.d`.
///
/// One 16-byte form lets every table hold both families, so that IPv4 and IPv6
/// are treated alike by construction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// The IPv4 wildcard `0.0.0.0`, under which a socket bound to every IPv4 address listens.
    pub const ANY_V4: Self = Self::from_v4([0; 4]);
    /// The IPv6 wildcard `::`.
    pub const ANY_V6: Self = Self([0; 16]);

    /// From the four bytes of an IPv4 header field.
    #[inline(always)]
    pub const fn from_v4(v4: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]])
    }

    /// The IPv4 address, if it is one.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<[u8; 4]> {
        let a = &self.0;
        if a[0] | a[1] | a[2] | a[3] | a[4] | a[5] | a[6] | a[7] | a[8] | a[9] == 0
            && a[10] == 0xff
            && a[11] == 0xff
        {
            Some([a[12], a[13], a[14], a[15]])
        } else {
            None
        }
    }

    /// What one client is counted under: the IPv4 address, or the IPv6 /64,
    /// because one IPv6 host owns (at least) a /64 and can use any address of it.
    #[inline(always)]
    pub const fn client(&self) -> Self {
        if self.as_v4().is_some() {
            return *self;
        }
        let a = &self.0;
        Self([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], 0, 0, 0, 0, 0, 0, 0, 0])
    }
}
