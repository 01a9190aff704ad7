//! Keyed hashing of addresses and flows.
//!
//! Sources are chosen by the attacker, so every table that is indexed or sampled by them uses a
//! secret key: without it nobody can aim at one slot or stay out of the sample.

use crate::abi::{Addr, FlowKey};

/// SipHash-1-3 over 64-bit words (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012,
/// with the reduced rounds that hash tables of several languages use). The length is fixed per
/// use, so it is not hashed.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    v: [u64; 4],
}

impl Hasher {
    /// A hasher with a secret key.
    #[inline(always)]
    pub const fn new(key: [u64; 2]) -> Self {
        Self {
            v: [
                key[0] ^ 0x736f_6d65_7073_6575,
                key[1] ^ 0x646f_7261_6e64_6f6d,
                key[0] ^ 0x6c79_6765_6e65_7261,
                key[1] ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    #[inline(always)]
    const fn round(mut self) -> Self {
        self.v[0] = self.v[0].wrapping_add(self.v[1]);
        self.v[1] = self.v[1].rotate_left(13) ^ self.v[0];
        self.v[0] = self.v[0].rotate_left(32);
        self.v[2] = self.v[2].wrapping_add(self.v[3]);
        self.v[3] = self.v[3].rotate_left(16) ^ self.v[2];
        self.v[0] = self.v[0].wrapping_add(self.v[3]);
        self.v[3] = self.v[3].rotate_left(21) ^ self.v[0];
        self.v[2] = self.v[2].wrapping_add(self.v[1]);
        self.v[1] = self.v[1].rotate_left(17) ^ self.v[2];
        self.v[2] = self.v[2].rotate_left(32);
        self
    }

    /// Absorbs a word.
    #[inline(always)]
    pub const fn word(mut self, word: u64) -> Self {
        self.v[3] ^= word;
        self = self.round();
        self.v[0] ^= word;
        self
    }

    /// Absorbs an address.
    #[inline(always)]
    pub const fn addr(self, addr: &Addr) -> Self {
        let words = addr.words();
        self.word(words[0]).word(words[1])
    }

    /// The hash.
    #[inline(always)]
    pub const fn finish(mut self) -> u64 {
        self.v[2] ^= 0xff;
        self = self.round().round().round();
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }
}

/// Hash of a source address.
#[inline(always)]
pub const fn source(key: [u64; 2], source: &Addr) -> u64 {
    Hasher::new(key).addr(source).finish()
}

/// Hash of a connection attempt; the same for both directions, because a [`FlowKey`] is always
/// named from the client's side. Its lowest bits choose the sample.
#[inline(always)]
pub const fn flow(key: [u64; 2], flow: &FlowKey) -> u64 {
    let ports = u32::from_ne_bytes([
        flow.client_port[0],
        flow.client_port[1],
        flow.server_port[0],
        flow.server_port[1],
    ]);
    Hasher::new(key).addr(&flow.client).addr(&flow.server).word(ports as u64).finish()
}

/// Hash of one SYN of a connection attempt, for recognising its repetition. `flow_hash` is secret
/// already, so mixing suffices: the finaliser of MurmurHash3 (Appleby), a bijection.
#[inline(always)]
pub const fn syn(flow_hash: u64, sequence: u32) -> u64 {
    let mut hash = flow_hash ^ (sequence as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// Whether a flow belongs to the sample of one in `2^shift`.
#[inline(always)]
pub const fn sampled(flow_hash: u64, shift: u8) -> bool {
    flow_hash & ((1 << (shift & 31)) - 1) == 0
}
