//! The networks and ports that an address reaches.

use tcpguard_common::abi::Addr;

/// Number of networks (/16, IPv6 /32) that a host must reach to be taken for the host that the
/// capture is about. If it sends SYNs, it must reach as many ports too. Protected
/// networks are fewer, so that their clients do not count as such a host.
const FAR: u32 = 6;

/// Reach of the segments of an address: bits of networks and of ports, one of 64 for each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    networks: u64,
    ports: u64,
}

impl Reach {
    /// Adds a destination.
    pub fn add(&mut self, addr: &Addr, port: [u8; 2]) {
        let octets = addr.octets();
        let network = match addr.as_v4() {
            Some([a, b, ..]) => u32::from_be_bytes([0, 0, a, b]),
            None => u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]),
        };
        self.networks |= bit(network);
        self.ports |= bit(u16::from_be_bytes(port).into());
    }

    /// Returns whether it reaches many networks.
    pub const fn is_far(&self) -> bool {
        self.networks.count_ones() >= FAR
    }

    /// Returns whether it reaches many ports.
    pub const fn is_diverse(&self) -> bool {
        self.ports.count_ones() >= FAR
    }
}

/// Returns one of 64 bits, by the upper bits of a product (Knuth's multiplicative hashing).
const fn bit(value: u32) -> u64 {
    1 << (value.wrapping_mul(0x9e37_79b1) >> 26)
}
