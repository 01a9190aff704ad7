//! One address type for both families.

/// An IPv4 or IPv6 address; IPv4 as `::ffff:a.b.c.d`. In memory: 16 bytes in network byte order.
///
/// One form lets every table hold both families, so that IPv4 and IPv6 are treated alike by
/// construction. It is made of words, because BPF copies an array of bytes byte by byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Addr([u32; 4]);

/// The word that marks a mapped IPv4 address, `00 00 ff ff` in memory.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// The IPv4 wildcard `0.0.0.0`, under which a socket bound to every IPv4 address listens.
    pub const ANY_V4: Self = Self::from_v4([0; 4]);
    /// The IPv6 wildcard `::`.
    pub const ANY_V6: Self = Self([0; 4]);

    /// From the four bytes of an IPv4 header field.
    #[inline(always)]
    pub const fn from_v4(v4: [u8; 4]) -> Self {
        Self([0, 0, MAPPED, u32::from_ne_bytes(v4)])
    }

    /// From the sixteen bytes of an IPv6 header field.
    #[inline(always)]
    pub const fn from_v6(v6: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([v6[0], v6[1], v6[2], v6[3]]),
            u32::from_ne_bytes([v6[4], v6[5], v6[6], v6[7]]),
            u32::from_ne_bytes([v6[8], v6[9], v6[10], v6[11]]),
            u32::from_ne_bytes([v6[12], v6[13], v6[14], v6[15]]),
        ])
    }

    /// From the four words of an IPv6 header field, each in host byte order.
    #[inline(always)]
    pub const fn from_v6_words(words: [u32; 4]) -> Self {
        Self([words[0].to_be(), words[1].to_be(), words[2].to_be(), words[3].to_be()])
    }

    /// The bytes in network byte order.
    #[inline(always)]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1],
            d[2], d[3],
        ]
    }

    /// The IPv4 address, if it is one.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<[u8; 4]> {
        if self.0[0] | self.0[1] == 0 && self.0[2] == MAPPED {
            Some(self.0[3].to_ne_bytes())
        } else {
            None
        }
    }

    /// The address under which a client is counted: the IPv4 address, or the IPv6 /64, because one
    /// IPv6 host owns (at least) a /64 and can use any address of it.
    #[inline(always)]
    pub const fn client(&self) -> Self {
        if self.as_v4().is_some() { *self } else { Self([self.0[0], self.0[1], 0, 0]) }
    }

    /// Bits of the prefix that is one client, counted as for IPv6.
    #[inline(always)]
    pub const fn client_bits(&self) -> u32 {
        if self.as_v4().is_some() { 128 } else { 64 }
    }

    /// The network under which replies to an address are counted: IPv4 /24, IPv6 /48. Hardly any
    /// network announces a longer prefix.
    #[inline(always)]
    pub const fn network(&self) -> Self {
        let [a, b, c, d] = self.0;
        match self.as_v4() {
            Some(_) => Self([a, b, c, d & u32::from_ne_bytes([0xff, 0xff, 0xff, 0])]),
            None => Self([a, b & u32::from_ne_bytes([0xff, 0xff, 0, 0]), 0, 0]),
        }
    }

    /// Returns whether no other host can have this address. The stack drops packets from such a source (RFC 1122
    /// §3.2.1.3, RFC 4291 §2.5 and §2.7), so no reply may be sent to it on the stack's behalf. Linux treats the
    /// reserved IPv4 range (240/4) like all other addresses, except for the limited broadcast address.
    #[inline(always)]
    pub const fn is_no_source(&self) -> bool {
        let [a, b, c, d] = self.0;
        match self.as_v4() {
            Some([0 | 127 | 224..=239, ..] | [255, 255, 255, 255]) => true,
            Some(_) => false,
            None => {
                let unspecified_or_loopback = a | b | c == 0 && u32::from_be(d) <= 1;
                unspecified_or_loopback || a.to_ne_bytes()[0] == 0xff
            }
        }
    }

    /// Returns whether it is a loopback address: 127/8 or ::1. No list of own addresses names them all.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        let [a, b, c, d] = self.0;
        match self.as_v4() {
            Some([first, ..]) => first == 127,
            None => a | b | c == 0 && u32::from_be(d) == 1,
        }
    }

    /// Its first eight bytes, as words in memory order.
    #[inline(always)]
    pub(super) const fn first_half(&self) -> [u32; 2] {
        [self.0[0], self.0[1]]
    }

    /// The address as words for hashing.
    #[inline(always)]
    pub const fn words(&self) -> &[u32; 4] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_the_bytes_on_the_wire() {
        let bytes = [0x20, 1, 0xd, 0xb8, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(Addr::from_v6(bytes).octets(), bytes);
        let words = [0x2001_0db8, 0x0506_0708, 0x090a_0b0c, 0x0d0e_0f10];
        assert_eq!(Addr::from_v6_words(words).octets(), bytes);
        let v4 = Addr::from_v4([192, 0, 2, 1]);
        assert_eq!(v4.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(v4.as_v4(), Some([192, 0, 2, 1]));
        assert_eq!(Addr::ANY_V6.as_v4(), None);
    }

    #[test]
    fn what_no_host_has_is_no_source() {
        for v4 in [[0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [239; 4], [255; 4]] {
            assert!(Addr::from_v4(v4).is_no_source(), "{v4:?}");
        }
        for v4 in [[1, 0, 0, 0], [10, 0, 0, 1], [192, 0, 2, 1], [223, 255, 255, 255]] {
            assert!(!Addr::from_v4(v4).is_no_source(), "{v4:?}");
        }
        for v4 in [[240, 0, 0, 1], [255, 255, 255, 254]] {
            assert!(!Addr::from_v4(v4).is_no_source(), "Linux answers it: {v4:?}");
        }
        for v6 in [[0; 4], [0, 0, 0, 1], [0xff02_0000, 0, 0, 1]] {
            assert!(Addr::from_v6_words(v6).is_no_source(), "{v6:?}");
        }
        for v6 in [[0x2001_0db8, 0, 0, 1], [0, 0, 0, 2], [0xfe80_0000, 0, 0, 0xff]] {
            assert!(!Addr::from_v6_words(v6).is_no_source(), "{v6:?}");
        }
    }

    #[test]
    fn loopback_is_127_and_1() {
        let v6 = |last| Addr::from_v6_words([0, 0, 0, last]);
        for addr in [Addr::from_v4([127, 0, 0, 1]), Addr::from_v4([127, 255, 0, 9]), v6(1)] {
            assert!(addr.is_loopback(), "{addr:?}");
        }
        for addr in [Addr::from_v4([128, 0, 0, 1]), Addr::ANY_V4, v6(0), v6(2)] {
            assert!(!addr.is_loopback(), "{addr:?}");
        }
    }

    #[test]
    fn a_network_is_a_24_of_ipv4_and_a_48_of_ipv6() {
        assert_eq!(Addr::from_v4([192, 0, 2, 77]).network(), Addr::from_v4([192, 0, 2, 0]));
        let v6 = Addr::from_v6_words([0x2001_0db8, 0x0001_0002, 3, 4]);
        assert_eq!(v6.network(), Addr::from_v6_words([0x2001_0db8, 0x0001_0000, 0, 0]));
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_an_ipv4_client_itself() {
        let one = Addr::from_v6_words([0x2001_0db8, 1, 2, 3]);
        let other = Addr::from_v6_words([0x2001_0db8, 1, 4, 5]);
        assert_eq!(one.client(), other.client());
        let v4 = Addr::from_v4([192, 0, 2, 1]);
        assert_eq!(v4.client(), v4);
    }
}
