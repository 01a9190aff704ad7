//! Keyed hashing of addresses and flows.
//!
//! Sources are chosen by the attacker, so every table that is indexed or sampled by them uses a
//! secret key. Without it no attacker can aim at one slot or stay out of the sample.
//!
//! The sum is multilinear over 32-bit words with one secret 64-bit word for each: two inputs
//! collide for at most one key in 2^32, whatever they are (Lemire and Kaser, "Strongly universal
//! string hashing is fast", 2014). No hash leaves the host, so there is nothing to learn the key
//! from, and no need for a cryptographic function, which costs BPF (it has no rotation) several
//! times as much.

use crate::abi::{Addr, FlowKey, HashKey};

/// Adds the words of an address to a multilinear sum, from key word `at` on.
#[inline(always)]
const fn add(sum: u64, key: &HashKey, at: usize, addr: &Addr) -> u64 {
    let [a, b, c, d] = *addr.words();
    sum.wrapping_add(key.0[at].wrapping_mul(a as u64))
        .wrapping_add(key.0[at + 1].wrapping_mul(b as u64))
        .wrapping_add(key.0[at + 2].wrapping_mul(c as u64))
        .wrapping_add(key.0[at + 3].wrapping_mul(d as u64))
}

/// Hash of a source address.
#[inline(always)]
pub const fn source(key: &HashKey, source: &Addr) -> u64 {
    mix(add(key.0[0], key, 1, source))
}

/// Hash of a connection attempt; the same for both directions, because a [`FlowKey`] is always
/// named from the client's side. Its lowest bits choose the sample.
#[inline(always)]
pub const fn flow(key: &HashKey, flow: &FlowKey) -> u64 {
    let ports = u32::from_ne_bytes([
        flow.client_port[0],
        flow.client_port[1],
        flow.server_port[0],
        flow.server_port[1],
    ]);
    let sum = add(add(key.0[0], key, 1, &flow.client), key, 5, &flow.server);
    mix(sum.wrapping_add(key.0[9].wrapping_mul(ports as u64)))
}

/// The part of a client in the sum of [`flow`]. The sum is linear, so a caller that has a part of it need not
/// add that up again.
#[inline(always)]
pub(super) const fn client_sum(key: &HashKey, client: &Addr) -> u64 {
    add(key.0[0], key, 1, client)
}

/// Likewise the part of a server and its port.
#[inline(always)]
pub(super) const fn server_sum(key: &HashKey, server: &Addr, port: [u8; 2]) -> u64 {
    let ports = u32::from_ne_bytes([0, 0, port[0], port[1]]);
    add(key.0[9].wrapping_mul(ports as u64), key, 5, server)
}

/// Hash of a local address and port in one of many spans of time.
#[inline(always)]
pub(super) const fn place(key: &HashKey, server: &Addr, port: [u8; 2], span: u64) -> u64 {
    let place = server_sum(key, server, port).wrapping_add(key.0[0]);
    mix(place.wrapping_add(key.0[1].wrapping_mul(span)))
}

/// [`source`], of its sum.
#[inline(always)]
pub(super) const fn source_of_sum(sum: u64) -> u64 {
    mix(sum)
}

/// [`flow`], of its parts and the client's port.
#[inline(always)]
pub(super) const fn flow_of_sums(key: &HashKey, client: u64, port: [u8; 2], server: u64) -> u64 {
    let ports = u32::from_ne_bytes([port[0], port[1], 0, 0]);
    mix(client.wrapping_add(server).wrapping_add(key.0[9].wrapping_mul(ports as u64)))
}

/// The finaliser of MurmurHash3 (Appleby): a bijection that lets every bit depend on all.
#[inline(always)]
const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// Hash of a small number, such as a port.
#[inline(always)]
pub const fn word(key: &HashKey, word: u32) -> u64 {
    mix(key.0[0].wrapping_add(key.0[9].wrapping_mul(word as u64)))
}

/// Hash of one SYN of a connection attempt, for recognising its repetition. `flow_hash` is secret
/// already, so mixing suffices.
#[inline(always)]
pub const fn syn(flow_hash: u64, sequence: u32) -> u64 {
    mix(flow_hash ^ (sequence as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Returns whether a flow belongs to the sample of one in `2^shift`.
#[inline(always)]
pub const fn sampled(flow_hash: u64, shift: u8) -> bool {
    flow_hash & ((1 << (shift & 31)) - 1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_key;

    /// Sources that differ in few bits, as an attacker would choose them, fill the cells evenly
    /// whichever bits choose the cell.
    #[test]
    fn consecutive_sources_spread_evenly_over_any_eight_bits() {
        const SOURCES: u32 = 65_536;
        let key = hash_key(1);
        for shift in [0, 8, 16, 24, 32, 56] {
            let mut cells = [0u32; 256];
            for host in 0..SOURCES {
                let hash = source(&key, &Addr::from_v4(host.to_be_bytes()));
                cells[(hash >> shift) as usize & 255] += 1;
            }
            // Chi-squared with 255 degrees of freedom: mean 255, standard deviation 22.6.
            let expected = f64::from(SOURCES) / 256.0;
            let chi: f64 =
                cells.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
            assert!((140.0..=370.0).contains(&chi), "bits from {shift}: {chi:.0}");
        }
    }

    #[test]
    fn every_part_of_a_flow_and_of_the_key_counts() {
        let key = hash_key(1);
        let one = FlowKey {
            client: Addr::from_v6_words([1, 2, 3, 4]),
            server: Addr::from_v6_words([5, 6, 7, 8]),
            client_port: [1, 2],
            server_port: [3, 4],
        };
        let others = [
            FlowKey { client: Addr::from_v6_words([1, 2, 3, 5]), ..one },
            FlowKey { server: Addr::from_v6_words([4, 6, 7, 8]), ..one },
            FlowKey { client_port: [1, 3], ..one },
            FlowKey { server_port: [2, 4], ..one },
            one.reversed(),
        ];
        for other in others {
            assert_ne!(flow(&key, &one), flow(&key, &other));
        }
        assert_ne!(flow(&key, &one), flow(&hash_key(2), &one));
        let client = client_sum(&key, &one.client);
        let server = server_sum(&key, &one.server, one.server_port);
        assert_eq!(source(&key, &one.client), source_of_sum(client));
        assert_eq!(flow(&key, &one), flow_of_sums(&key, client, one.client_port, server));
    }
}
