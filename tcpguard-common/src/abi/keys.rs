//! Map keys. All have alignment 1 or explicit padding, so that no key byte is undefined.

use super::Addr;

/// Key of `LISTENERS`: a local address (or wildcard) and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListenerKey {
    /// Local address; [`Addr::ANY_V4`] or [`Addr::ANY_V6`] for a wildcard.
    pub addr: Addr,
    /// Port, network byte order.
    pub port: [u8; 2],
    /// Always zero.
    pub pad: [u8; 2],
}

impl ListenerKey {
    /// Key for an address and a port in network byte order.
    #[inline(always)]
    pub const fn new(addr: Addr, port: [u8; 2]) -> Self {
        Self { addr, port, pad: [0; 2] }
    }

    /// Key for every address of the same family.
    #[inline(always)]
    pub const fn of_all(&self) -> Self {
        let any = if self.addr.as_v4().is_some() { Addr::ANY_V4 } else { Addr::ANY_V6 };
        Self::new(any, self.port)
    }
}

/// Key of `FLOWS`: one connection attempt, named from the client's side in both directions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowKey {
    /// The sender of the SYN.
    pub client: Addr,
    /// The receiver of the SYN.
    pub server: Addr,
    /// The client's port, network byte order.
    pub client_port: [u8; 2],
    /// The server's port, network byte order.
    pub server_port: [u8; 2],
}

impl FlowKey {
    /// The same connection seen from the other end.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            client: self.server,
            server: self.client,
            client_port: self.server_port,
            server_port: self.client_port,
        }
    }
}

/// Key of `SIGNATURES`: the common properties of the SYNs of one flood, at one listener or at every
/// one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SignatureKey {
    /// [`super::ListenerEntry::id`], or [`SignatureKey::EVERY_LISTENER`].
    pub listener: u32,
    /// The [`super::Mask`] code under which `fingerprint` was reduced.
    pub mask: u16,
    /// The rule set it belongs to: the low bits of [`super::Config::rule_set`].
    pub set: u16,
    /// [`super::Fingerprint::words`] of the fields that count; all others are zero.
    pub fingerprint: [u64; 3],
}

impl SignatureKey {
    /// The rule is for every listener. None has this number.
    pub const EVERY_LISTENER: u32 = u32::MAX;

    /// Returns whether it belongs to this rule set.
    pub const fn is_of(&self, set: u64) -> bool {
        self.set == set as u16
    }
}

/// The port of a source rule that is for every port. No SYN that a host answers goes to it.
pub const EVERY_PORT: [u8; 2] = [0; 2];

/// Key data of the IPv4 trie of source rules: first the rule set and the port, which a prefix always
/// holds as a whole, then the address. So the longest prefix wins among the rules of one set that are
/// for one port, none hides a wider one for other ports, and one number in [`super::Config::rule_set`]
/// replaces all of them at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceV4 {
    /// The low bits of [`super::Config::rule_set`].
    pub set: u16,
    /// The local port that the SYNs go to, network byte order, or [`EVERY_PORT`].
    pub port: [u8; 2],
    /// Network address, network byte order.
    pub addr: [u8; 4],
}

impl SourceV4 {
    /// Bits of the trie's data.
    pub const BITS: u32 = SCOPE_BITS + 32;

    /// An address, and a port in network byte order, of set `set`.
    #[inline(always)]
    pub const fn new(set: u64, port: [u8; 2], addr: [u8; 4]) -> Self {
        Self { set: set as u16, port, addr }
    }

    /// Returns whether it belongs to this set.
    pub const fn is_of(&self, set: u64) -> bool {
        self.set == set as u16
    }
}

/// The same for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceV6 {
    /// The low bits of [`super::Config::rule_set`].
    pub set: u16,
    /// The local port that the SYNs go to, network byte order, or [`EVERY_PORT`].
    pub port: [u8; 2],
    /// Network address.
    pub addr: Addr,
}

impl SourceV6 {
    /// Bits of the trie's data.
    pub const BITS: u32 = SCOPE_BITS + 128;

    /// An address, and a port in network byte order, of set `set`.
    #[inline(always)]
    pub const fn new(set: u64, port: [u8; 2], addr: Addr) -> Self {
        Self { set: set as u16, port, addr }
    }

    /// Returns whether it belongs to this set.
    pub const fn is_of(&self, set: u64) -> bool {
        self.set == set as u16
    }
}

/// Key of `SOURCE_HOSTS`: the same for the rules that cover one client as a whole. Three words, which
/// the kernel's hash takes in one step; with a whole [`Addr`] it would be five, and two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceHost {
    /// The 15 low bits of [`super::Config::rule_set`], and above them [`Self::V6`].
    pub set: u16,
    /// The local port that the SYNs go to, network byte order, or [`EVERY_PORT`].
    pub port: [u8; 2],
    /// In memory an IPv4 address before four zeros, or the first half of an IPv6 address: an
    /// [`Addr::client`] without the words that are the same for its whole family.
    pub client: [u32; 2],
}

impl SourceHost {
    /// Set for a client of IPv6.
    pub const V6: u16 = 1 << 15;

    /// An [`Addr::client`], and a port in network byte order, of set `set`.
    #[inline(always)]
    pub const fn new(set: u64, port: [u8; 2], client: &Addr) -> Self {
        let set = set as u16 & !Self::V6;
        match client.as_v4() {
            Some(v4) => Self { set, port, client: [u32::from_ne_bytes(v4), 0] },
            None => Self { set: set | Self::V6, port, client: client.first_half() },
        }
    }

    /// The client that the key was made for.
    pub const fn client(&self) -> Addr {
        let [first, second] = self.client;
        if self.set & Self::V6 == 0 {
            Addr::from_v4(first.to_ne_bytes())
        } else {
            Addr::from_v6_words([u32::from_be(first), u32::from_be(second), 0, 0])
        }
    }

    /// Returns whether [`Self::new`] makes it: an IPv4 address is before zeros.
    pub const fn is_canonical(&self) -> bool {
        self.set & Self::V6 != 0 || self.client[1] == 0
    }

    /// Returns whether it belongs to this set.
    pub const fn is_of(&self, set: u64) -> bool {
        (self.set ^ set as u16) & !Self::V6 == 0
    }
}

/// Bits of the rule set and of the port in front of the address in a key of a source rule.
pub const SCOPE_BITS: u32 = 2 * u16::BITS;

/// Key of a source-rule trie: [`SourceV4`] or [`SourceV6`] behind the number of bits that count, in
/// the layout that the kernel's LPM trie prescribes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceKey<T> {
    /// [`SCOPE_BITS`] and the prefix length.
    pub bits: u32,
    /// The set, the port and the network address.
    pub data: T,
}

/// Key of the IPv4 prefix tries, in the layout that the kernel's LPM trie prescribes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrefixV4 {
    /// Prefix length in bits, 0 to 32.
    pub bits: u32,
    /// Network address, network byte order.
    pub addr: [u8; 4],
}

/// Key of the IPv6 prefix tries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrefixV6 {
    /// Prefix length in bits, 0 to 128.
    pub bits: u32,
    /// Network address, network byte order.
    pub addr: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: [u8; 2] = 443_u16.to_be_bytes();

    #[test]
    fn a_host_is_one_client_of_one_set() {
        let v4 = Addr::from_v4([203, 0, 113, 9]);
        // Its first half in memory is that of the key for the address above.
        let alike = Addr::from_v6_words([0xcb00_7109, 0, 0, 0]);
        let v6 = Addr::from_v6_words([0x2001_0db8, 0x0005_0006, 0, 0]);
        for client in [v4, alike, v6, Addr::ANY_V4, Addr::ANY_V6] {
            let key = SourceHost::new(7, PORT, &client);
            assert_eq!((key.client(), key.port), (client, PORT));
            assert!(key.is_canonical() && key.is_of(7) && !key.is_of(8), "{key:?}");
            assert!(key.is_of(7 + 0x8000), "15 bits count");
        }
        assert_ne!(SourceHost::new(7, PORT, &v4), SourceHost::new(7, PORT, &alike));
    }

    #[test]
    fn no_syn_is_looked_up_by_an_ipv4_address_before_more() {
        let key = SourceHost::new(7, PORT, &Addr::from_v4([203, 0, 113, 9]));
        assert!(!SourceHost { client: [key.client[0], 1], ..key }.is_canonical());
    }
}
