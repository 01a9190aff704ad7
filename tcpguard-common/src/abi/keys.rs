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
    pub mask: u32,
    /// [`crate::fastpath::Fingerprint::words`] of the fields that count; all others are zero.
    pub fingerprint: [u64; 3],
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
