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
}

/// Key of `FLOWS`: one connection attempt, named from the client's side in both directions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowKey {
    /// Who sent the SYN.
    pub client: Addr,
    /// To whom.
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

/// Key of `SIGNATURES`: what the SYNs of one flood at one listener have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SignatureKey {
    /// [`super::ListenerEntry::id`].
    pub listener: u32,
    /// The [`crate::fastpath::Mask`] code under which `fingerprint` was reduced.
    pub mask: u16,
    /// The rule set it belongs to: the low bits of [`super::Config::rule_set`].
    pub set: u16,
    /// [`crate::fastpath::Fingerprint::words`] of the fields that count; all others are zero.
    pub fingerprint: [u64; 3],
}

impl SignatureKey {
    /// Whether it belongs to this rule set.
    pub const fn is_of(&self, set: u64) -> bool {
        self.set == set as u16
    }
}

/// The port of a source rule that is for every port. No SYN that a host answers goes to it.
pub const EVERY_PORT: [u8; 2] = [0; 2];

/// What the IPv4 trie of source rules compares: first the rule set and the port, which a prefix always
/// holds as a whole, then the address. So the longest prefix wins among the rules of one set that are
/// for one port, none hides a wider one for other ports, and one number in
/// [`super::Config::rule_set`] replaces all of them at once.
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

    /// Whether it belongs to this set.
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

    /// Whether it belongs to this set.
    pub const fn is_of(&self, set: u64) -> bool {
        self.set == set as u16
    }
}

/// Key of `SOURCE_HOSTS`: the same for the rules that cover one client as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceHost {
    /// The low bits of [`super::Config::rule_set`].
    pub set: u16,
    /// The local port that the SYNs go to, network byte order, or [`EVERY_PORT`].
    pub port: [u8; 2],
    /// An [`Addr::client`]: an IPv4 address, or the network of an IPv6 /64.
    pub client: Addr,
}

impl SourceHost {
    /// A client, and a port in network byte order, of set `set`.
    #[inline(always)]
    pub const fn new(set: u64, port: [u8; 2], client: Addr) -> Self {
        Self { set: set as u16, port, client }
    }

    /// Whether it belongs to this set.
    pub const fn is_of(&self, set: u64) -> bool {
        self.set == set as u16
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
